//! The gossip keys on disk, read at start and again when a person says so.
//!
//! In: the path that the node's own file names. Out: the keys, or an error with its code. Not here: what stands in a line
//! and which key seals (`wire::key`), what a change of keys does (`gossip`).

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::run::CannotRun;
use crate::wire::key::KeyRing;

/// The key file, which nobody but its owner may read.
#[derive(Debug, Clone)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The file at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The keys in it, as it is now.
    pub fn read(&self) -> Result<KeyRing, CannotRun> {
        let shown = self.0.display();
        let unreadable = |error: std::io::Error| {
            CannotRun::Told(format!(
                "error[RV0708]: {shown} cannot be read: {error}\n  = help: `rendezvip keygen` makes a key; put the same one on every node, mode 0600"
            ))
        };
        let mode = std::fs::metadata(&self.0).map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(CannotRun::Told(format!(
                "error[RV0709]: {shown} can be read by others (mode {:04o}): whoever has the key can move every VIP\n  = help: chmod 600 {shown}; make a new key if it may have been seen",
                mode & 0o7777
            )));
        }
        let text = std::fs::read_to_string(&self.0).map_err(unreadable)?;
        KeyRing::parse(&text).map_err(|error| CannotRun::Told(error.report(&shown.to_string())))
    }
}
