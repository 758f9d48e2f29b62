//! Why a command could not do its work: a code, a sentence and a remedy, on stderr.
//!
//! In: what went wrong. Out: three lines for a person. Not here: problems in manifests (`manifest::diagnostic`).

use std::fmt;

/// A command that failed. `docs/errors.md` has a section for each code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `RVnnnn`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl Failure {
    /// A failure with its remedy.
    pub fn new(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error[{}]: {}", self.code, self.message)?;
        write!(f, "  = help: {}", self.help)
    }
}

impl std::error::Error for Failure {}
