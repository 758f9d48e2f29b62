//! Findings as a code quality report of GitLab, which shows them in a merge request.
//!
//! In: a report. Out: a JSON array. Not here: other formats.
//! Source: docs.gitlab.com, "Code Quality", "Code Quality report format".

use std::collections::BTreeMap;

use serde_json::json;

use super::Report;
use crate::digest::Digest;
use crate::manifest::diagnostic::Severity;

/// An object each. The fingerprint leaves the line out, so that a finding that moves stays the same one.
pub(super) fn render(report: &Report<'_>) -> String {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let findings: Vec<_> = report
        .diagnostics
        .iter()
        .map(|d| {
            let same = format!("{}\n{}\n{}", d.code, d.place.file, d.full_message());
            let count = seen.entry(same.clone()).or_default();
            *count += 1;
            json!({
                "description": d.full_message(),
                "check_name": d.code.as_str(),
                "fingerprint": Digest::of(format!("{same}\n{count}").as_bytes()).hex(),
                "severity": if d.severity == Severity::Error { "major" } else { "minor" },
                "location": { "path": d.place.file.as_ref(), "lines": { "begin": d.place.span.start.line } },
            })
        })
        .collect();
    format!("{:#}\n", json!(findings))
}
