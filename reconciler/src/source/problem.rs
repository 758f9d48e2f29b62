//! What can be wrong with a source of desired state or with reporting to it, each with its code.
//!
//! In: what the shell met. Out: [`Problem`], for logs, conditions and `docs/errors.md`.
//! Not here: what is wrong inside a file of the repository (`manifest`).

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// What is wrong, as a stable code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code there is, for the manual.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// `RVnnnn`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// One CamelCase word: the reason of a condition.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}

codes! {
    /// The server could not be reached or ended the conversation.
    FetchFailed = "RV0401";
    /// The branch was rewritten: what it holds does not descend from what runs.
    HistoryRewritten = "RV0402";
    /// One revision, two digests: the files differ between nodes, or their programs do.
    DigestMismatch = "RV0403";
    /// No answer in time.
    TimedOut = "RV0404";
    /// The server refused our credentials, or we have none.
    NotAuthorized = "RV0405";
    /// The server is not the one that `knownHostsFile` or the certificate authority vouches for.
    ServerNotTrusted = "RV0406";
    /// There is no such branch, or no such path in it.
    BranchMissing = "RV0407";
    /// The tree is too large, or holds something that is no file.
    TreeUnusable = "RV0408";
    /// The commit is not signed by somebody who may.
    NotVerified = "RV0409";
    /// The files of the revision are not valid.
    InvalidManifests = "RV0410";
    /// Somebody else runs with this state directory.
    StateLocked = "RV0411";
    /// The state directory cannot be read or written.
    StateUnusable = "RV0412";
    /// A file of the state directory is damaged.
    StateDamaged = "RV0413";
    /// The revision does not declare this node.
    NotDeclared = "RV0414";
    /// The status could not be pushed.
    PushFailed = "RV0421";
    /// The directory is missing or cannot be read.
    DirectoryMissing = "RV0431";
    /// The directory changes faster than it can be read.
    DirectoryUnsettled = "RV0432";
    /// The settings of the source or of the status do not fit together.
    Unsupported = "RV0440";
    /// The helper process that speaks git could not be started, or died.
    HelperFailed = "RV0441";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something is wrong: a code, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The code.
    pub code: Code,
    /// The sentence; no code in it, no full stop, and nothing that differs from one try to the next.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// As the answer to a command: with what to do about it, where the sentence does not say so.
    pub fn report(&self) -> String {
        let help = match self.code {
            Code::StateLocked => "stop the other one, or give this one a `stateDir` of its own",
            Code::StateUnusable => {
                "`stateDir` in the node's own file names a folder that the daemon's user may write to"
            }
            Code::StateDamaged => "move that folder away and start again: the node then joins as a new identity",
            _ => return format!("error[{}]: {}", self.code, self.message),
        };
        format!("error[{}]: {}\n  = help: {help}", self.code, self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_section_in_the_manual() {
        let manual = include_str!("../../../docs/errors.md");
        for code in Code::ALL {
            assert!(manual.contains(&format!("\n## {code}: ")), "{code}");
        }
    }
}
