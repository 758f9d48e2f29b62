//! Findings as JSON, in the shape that the manual pins.
//!
//! In: a report. Out: one object. Not here: SARIF and other people's formats.

use std::borrow::Cow;

use serde::Serialize;

use super::Report;

#[derive(Serialize)]
struct Findings<'a> {
    diagnostics: Vec<Finding<'a>>,
}

#[derive(Serialize)]
struct Finding<'a> {
    code: &'a str,
    severity: &'a str,
    file: &'a str,
    line: u32,
    column: u32,
    message: Cow<'a, str>,
    help: Option<&'a str>,
}

/// `{"diagnostics":[{"code","severity","file","line","column","message","help"}]}`.
pub(super) fn render(report: &Report<'_>) -> String {
    let diagnostics = report
        .diagnostics
        .iter()
        .map(|d| Finding {
            code: d.code.as_str(),
            severity: d.severity.as_str(),
            file: &d.place.file,
            line: d.place.span.start.line,
            column: d.place.span.start.column,
            message: d.full_message(),
            help: d.help.as_deref(),
        })
        .collect();
    let text = serde_json::to_string_pretty(&Findings { diagnostics }).unwrap_or_default();
    text + "\n"
}
