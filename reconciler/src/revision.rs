//! The label of a state of the repository: which commit, or which directory's content.
//!
//! In: text, or what a source found. Out: [`Revision`], printed `main@sha1:<40>` or
//! `directory@sha256:<64>`, and matched by its short forms. Not here: which one counts (`source`),
//! what it asks for (`manifest`). A revision is only a label: the generation is the digest of `Desired`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// The name of a git commit: SHA-1, 40 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitHash(pub [u8; 20]);

impl fmt::Display for CommitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CommitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CommitHash {
    type Err = NotARevision;

    fn from_str(text: &str) -> Result<Self, NotARevision> {
        if text.len() != 40 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(NotARevision);
        }
        let mut bytes = [0; 20];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotARevision)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotARevision)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for CommitHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CommitHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Which state of the repository.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// A commit, seen on a branch.
    Git {
        /// The branch it was seen on.
        branch: Arc<str>,
        /// The commit.
        commit: CommitHash,
    },
    /// What a directory holds: the digest of what it asks for, or of its bytes where they ask for nothing valid.
    Directory(Digest),
}

impl Revision {
    /// The commit `commit` of `branch`.
    pub fn git(branch: &str, commit: CommitHash) -> Self {
        Self::Git { branch: branch.into(), commit }
    }

    /// The commit, where it is one.
    pub const fn commit(&self) -> Option<CommitHash> {
        match self {
            Self::Git { commit, .. } => Some(*commit),
            Self::Directory(_) => None,
        }
    }

    /// All hexadecimal digits of the hash.
    pub fn hex(&self) -> String {
        match self {
            Self::Git { commit, .. } => commit.to_string(),
            Self::Directory(digest) => digest.hex(),
        }
    }

    /// The label with the first twelve digits of the hash: for people.
    pub fn short(&self) -> String {
        match self {
            Self::Git { branch, commit } => format!("{branch}@sha1:{}", &commit.to_string()[..12]),
            Self::Directory(digest) => format!("directory@sha256:{}", digest.short()),
        }
    }

    /// Does somebody who wrote `text` mean this one? Taken are the label, the hash with or without
    /// `sha1:`/`sha256:` before it, and the first four or more digits of any of these (git's own least).
    pub fn matches(&self, text: &str) -> bool {
        self.prefix(text).is_some_and(|digits| self.hex().starts_with(&digits))
    }

    /// The first digits of a hash that `text` writes, where it is a revision of this branch or directory.
    pub fn prefix(&self, text: &str) -> Option<String> {
        let (label, algorithm, longest) = match self {
            Self::Git { branch, .. } => (branch.as_ref(), "sha1:", 40),
            Self::Directory(_) => ("directory", "sha256:", 64),
        };
        let hash = match text.rsplit_once('@') {
            Some((before, after)) if before == label => after,
            Some(_) => return None,
            None => text,
        };
        let hash = hash.strip_prefix(algorithm).unwrap_or(hash);
        let fits = (4..=longest).contains(&hash.len()) && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| hash.to_ascii_lowercase())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Git { branch, commit } => write!(f, "{branch}@sha1:{commit}"),
            Self::Directory(digest) => write!(f, "directory@{digest}"),
        }
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// The text is not a revision's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotARevision;

impl fmt::Display for NotARevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a revision is `BRANCH@sha1:` and 40 hexadecimal digits, or `directory@sha256:` and 64")
    }
}

impl std::error::Error for NotARevision {}

impl FromStr for Revision {
    type Err = NotARevision;

    fn from_str(text: &str) -> Result<Self, NotARevision> {
        let (label, hash) = text.rsplit_once('@').ok_or(NotARevision)?;
        let sane = !label.is_empty() && label.len() <= 255 && !label.chars().any(|c| c.is_control() || c == ' ');
        match hash.strip_prefix("sha1:") {
            Some(hex) if sane => Ok(Self::git(label, hex.parse()?)),
            None if label == "directory" => hash.parse().map(Self::Directory).map_err(|_| NotARevision),
            _ => Err(NotARevision),
        }
    }
}

impl Serialize for Revision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Revision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn what_is_written_is_read_back() {
        let git = Revision::git("feature/a@b", HEX.parse().unwrap());
        assert_eq!(git.to_string(), format!("feature/a@b@sha1:{HEX}"));
        assert_eq!(git.to_string().parse(), Ok(git));
        let directory = Revision::Directory(Digest::of(b"x"));
        assert_eq!(directory.to_string().parse(), Ok(directory));
        for bad in ["", "main", "main@sha1:12", "@sha1:0123456789abcdef0123456789abcdef01234567", "x@sha256:é"] {
            assert_eq!(bad.parse::<Revision>(), Err(NotARevision), "{bad}");
        }
    }

    #[test]
    fn a_revision_is_known_by_its_short_forms() {
        let main = Revision::git("main", HEX.parse().unwrap());
        for text in [HEX, &HEX[..7], "0123", "sha1:012345", "main@sha1:0123456", "main@01234567", "0123456789ABCDEF"] {
            assert!(main.matches(text), "{text}");
        }
        for text in ["", "012", "1123456", "other@sha1:0123456", "sha256:0123456", &format!("{HEX}0")] {
            assert!(!main.matches(text), "{text}");
        }
    }
}
