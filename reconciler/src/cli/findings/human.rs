//! Findings for people: place, code, the line shown with what is at fault underlined, a hint.
//!
//! In: a report. Out: text, coloured for a terminal. Not here: other formats.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Report;
use crate::manifest::diagnostic::{Diagnostic, Severity, Span, printable};
use crate::manifest::tree::lines;

/// Longest piece of a line that is shown.
const WIDEST: usize = 120;
/// So many findings are shown with their line; a file that is all wrong is not printed whole.
const SHOWN: usize = 200;

struct Paint {
    on: bool,
}

impl Paint {
    fn with(&self, style: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn severity(&self, severity: Severity, text: &str) -> String {
        self.with(if severity == Severity::Error { "1;31" } else { "1;33" }, text)
    }

    fn quiet(&self, text: &str) -> String {
        self.with("34", text)
    }
}

/// A finding each, a blank line between, a line that sums up at the end.
pub(super) fn render(report: &Report<'_>, colour: bool) -> String {
    let paint = Paint { on: colour };
    let mut text = String::new();
    let mut split: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (index, diagnostic) in report.diagnostics.iter().enumerate() {
        let path = diagnostic.place.file.as_ref();
        let known = report.files.binary_search_by(|(file, _)| (*file).cmp(path)).ok();
        let source = known.filter(|_| index < SHOWN).map(|index| {
            let (path, bytes) = report.files[index];
            split.entry(path).or_insert_with(|| {
                let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
                std::str::from_utf8(bytes).map(lines).unwrap_or_default()
            })
        });
        let span = diagnostic.place.span;
        let line = source.and_then(|lines| lines.get(span.start.line as usize - 1).copied());
        one(&mut text, &paint, diagnostic, line.filter(|line| !line.trim().is_empty() && span.start != span.end));
        text.push('\n');
    }
    if report.diagnostics.len() > SHOWN {
        let _ = writeln!(text, "(lines are shown for the first {SHOWN} alone)\n");
    }
    let _ = writeln!(text, "{}", report.summary());
    text
}

fn one(text: &mut String, paint: &Paint, diagnostic: &Diagnostic, line: Option<&str>) {
    let severity = format!("{}[{}]", diagnostic.severity.as_str(), diagnostic.code);
    let message = if line.is_some() { diagnostic.message.as_str().into() } else { diagnostic.full_message() };
    let _ = writeln!(
        text,
        "{}: {}: {}",
        paint.with("1", &diagnostic.place.to_string()),
        paint.severity(diagnostic.severity, &severity),
        paint.with("1", &message)
    );
    let number = diagnostic.place.span.start.line.to_string();
    let gutter = " ".repeat(number.len());
    if let Some(line) = line {
        let (shown, before, width) = window(line, diagnostic.place.span);
        let _ = writeln!(text, "{} {}", paint.quiet(&format!(" {number} |")), printable(&shown.replace('\t', " ")));
        let carets = paint.severity(diagnostic.severity, &"^".repeat(width));
        let label = diagnostic.label.as_deref().map(|label| paint.severity(diagnostic.severity, &format!(" {label}")));
        let pad = " ".repeat(before);
        let _ = writeln!(text, "{} {pad}{carets}{}", paint.quiet(&format!(" {gutter} |")), label.unwrap_or_default());
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(
            text,
            "{} {}",
            paint.quiet(&format!(" {gutter} =")),
            paint.with("1", "help:").clone() + " " + help
        );
    }
}

/// The piece of a line that is shown, the characters before what is at fault in it, and the width of that.
fn window(line: &str, span: Span) -> (String, usize, usize) {
    let total = line.chars().count();
    let start = (span.start.column as usize - 1).min(total);
    let end = if span.end.line == span.start.line { span.end.column as usize - 1 } else { total };
    let end = end.clamp(start, total);
    if total <= WIDEST {
        return (line.to_owned(), start, (end - start).max(1));
    }
    let from = start.saturating_sub(WIDEST / 3);
    let piece: String = line.chars().skip(from).take(WIDEST).collect();
    let (head, tail) = (if from > 0 { "…" } else { "" }, if from + WIDEST < total { "…" } else { "" });
    let width = end.min(from + WIDEST) - start;
    (format!("{head}{piece}{tail}"), start - from + usize::from(from > 0), width.max(1))
}
