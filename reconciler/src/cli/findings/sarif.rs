//! Findings as SARIF 2.1.0, which code scanning tools take.
//!
//! In: a report. Out: one log with one run. Not here: other formats.
//! Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::json;

use super::Report;
use crate::manifest::diagnostic::Code;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// A path as a relative URI (RFC 3986, 2.3 and 3.3).
fn uri(path: &str) -> String {
    path.bytes().fold(String::new(), |mut uri, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
        uri
    })
}

/// Where a code's section begins, by the rule that forges make anchors of headings by.
fn anchor(code: Code) -> String {
    let heading = format!("{code}: {}", code.title()).to_lowercase();
    heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// Rules are those that occur; columns count characters (3.14.17).
pub(super) fn render(report: &Report<'_>) -> String {
    let codes: BTreeSet<Code> = report.diagnostics.iter().map(|d| d.code).collect();
    let rules: Vec<_> = codes
        .iter()
        .map(|code| {
            json!({
                "id": code.as_str(),
                "shortDescription": { "text": code.title() },
                "helpUri": format!("{}/blob/main/docs/errors.md#{}", env!("CARGO_PKG_REPOSITORY"), anchor(*code)),
                "defaultConfiguration": { "level": code.severity().as_str() },
            })
        })
        .collect();
    let results: Vec<_> = report
        .diagnostics
        .iter()
        .map(|d| {
            let help = d.help.as_deref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
            let span = d.place.span;
            json!({
                "ruleId": d.code.as_str(),
                "ruleIndex": codes.iter().position(|code| *code == d.code),
                "level": d.severity.as_str(),
                "message": { "text": format!("{}{help}", d.full_message()) },
                "locations": [{ "physicalLocation": {
                    "artifactLocation": { "uri": uri(&d.place.file) },
                    "region": {
                        "startLine": span.start.line,
                        "startColumn": span.start.column,
                        "endLine": span.end.line,
                        "endColumn": span.end.column,
                    },
                }}],
            })
        })
        .collect();
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "rendezvip",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}
