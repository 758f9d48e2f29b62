//! Findings as Markdown, for a comment on a pull request.
//!
//! In: a report. Out: a list and a line that sums up. Not here: other formats.

use std::fmt::Write as _;

use super::Report;

/// An item each: place and code, message, hint.
pub(super) fn render(report: &Report<'_>) -> String {
    let mut text = format!("**rendezvip validate**: {}\n", report.summary());
    if !report.diagnostics.is_empty() {
        text.push('\n');
    }
    for d in report.diagnostics {
        // Messages quote what a stranger wrote, in backticks; nothing in them may become a tag.
        let plain = |text: &str| text.replace('<', "&lt;");
        let _ = write!(text, "- `{}` {} **{}**: {}", d.place, d.severity.as_str(), d.code, plain(&d.full_message()));
        if let Some(help) = &d.help {
            let _ = write!(text, "; {}", plain(help));
        }
        text.push('\n');
    }
    text
}
