//! Findings as workflow commands of GitHub Actions, which shows them beside the lines of a pull request.
//!
//! In: a report. Out: a `::error …::` or `::warning …::` each. Not here: other formats.
//! Source: docs.github.com, "Workflow commands for GitHub Actions"; escapes as in actions/toolkit, `command.ts`.

use std::fmt::Write as _;

use super::Report;

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// A command each, and a line that sums up, which GitHub shows as plain log.
pub(super) fn render(report: &Report<'_>) -> String {
    let mut text = String::new();
    for d in report.diagnostics {
        let span = d.place.span;
        let _ = write!(
            text,
            "::{} file={},line={},col={},endLine={},endColumn={},title={}::{}",
            d.severity.as_str(),
            property(&d.place.file),
            span.start.line,
            span.start.column,
            span.end.line,
            span.end.column,
            d.code,
            data(&d.full_message()),
        );
        if let Some(help) = &d.help {
            let _ = write!(text, "%0Ahelp: {}", data(help));
        }
        text.push('\n');
    }
    let _ = writeln!(text, "{}", report.summary());
    text
}
