//! Findings in files, for people and for the tools that show them: a file per format.
//!
//! In: diagnostics and the files that they are about. Out: text for stdout.
//! Not here: finding anything (`manifest`).

mod github;
mod gitlab;
mod human;
mod json;
mod markdown;
mod sarif;

use clap::ValueEnum;

use crate::manifest::diagnostic::{Diagnostic, Severity};

/// A format for findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people: the line shown, and a hint
    #[default]
    Human,
    /// One object with the key `diagnostics`
    Json,
    /// Workflow commands of GitHub Actions
    Github,
    /// A code quality report of GitLab
    Gitlab,
    /// SARIF 2.1.0
    Sarif,
    /// A list for a comment on a pull request
    Markdown,
}

/// What findings are about.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// In order of path, line and column.
    pub diagnostics: &'a [Diagnostic],
    /// Path and bytes of the files, sorted by path.
    pub files: &'a [(&'a str, &'a [u8])],
    /// What to say when all is well, or well but for warnings.
    pub success: &'a str,
}

impl Report<'_> {
    /// The report in a format; `colour` matters to people only.
    pub fn render(&self, format: Format, colour: bool) -> String {
        match format {
            Format::Human => human::render(self, colour),
            Format::Json => json::render(self),
            Format::Github => github::render(self),
            Format::Gitlab => gitlab::render(self),
            Format::Sarif => sarif::render(self),
            Format::Markdown => markdown::render(self),
        }
    }

    /// Is there an error among them?
    pub fn is_bad(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// One line that sums up.
    fn summary(&self) -> String {
        let count = |severity: Severity| {
            let number = self.diagnostics.iter().filter(|d| d.severity == severity).count();
            let plural = if number == 1 { "" } else { "s" };
            (number > 0).then(|| format!("{number} {}{plural}", severity.as_str()))
        };
        match (count(Severity::Error), count(Severity::Warning)) {
            (None, None) => self.success.to_owned(),
            (None, Some(warnings)) => format!("{}, with {warnings}", self.success),
            (Some(errors), None) => errors,
            (Some(errors), Some(warnings)) => format!("{errors}, {warnings}"),
        }
    }
}
