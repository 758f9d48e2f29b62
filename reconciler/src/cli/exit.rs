//! Exit codes, which scripts rely on.
//!
//! In: how a command ended. Out: its code. Not here: what was printed.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: fine.
    Fine,
    /// 1: the answer is bad (invalid, differs, timed out), or the command could not do its work.
    Bad,
    /// 2: `plan --detailed-exitcode` alone: there are changes.
    Changes,
    /// 64: the command line itself is wrong (`EX_USAGE`, sysexits.h).
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Bad => 1,
            Exit::Changes => 2,
            Exit::Usage => 64,
        })
    }
}
