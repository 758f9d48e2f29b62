//! What the daemon and its git child say to each other: one line of JSON each way.
//!
//! In: a [`Request`] on the child's standard input. Out: [`Line`]s on its standard output, the last of
//! them the answer. Not here: either end (`super`, [`super::child`]). Secrets never travel: the child is
//! given the paths of the files that hold them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::NodeName;
use crate::revision::CommitHash;
use crate::source::Lineage;
use crate::source::problem::Problem;
use crate::status::Snapshot;

/// A repository somewhere, and the files that open it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// ssh, https, http, file or a path.
    pub url: String,
    /// Private key for ssh, without a passphrase.
    pub ssh_key_file: Option<PathBuf>,
    /// Hosts that ssh may speak to; nobody else is trusted.
    pub known_hosts_file: Option<PathBuf>,
    /// For https: `user:password` or a token, on the first line.
    pub credentials_file: Option<PathBuf>,
    /// Certificate authorities for https, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Proxy for https; `None` is what the environment says.
    pub proxy: Option<String>,
}

/// One job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The bare mirror of the source.
    pub mirror: PathBuf,
    /// Where.
    pub remote: Remote,
    /// What.
    pub job: Job,
}

/// What the child is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Job {
    /// Fetch the branch, compare, and read the tree.
    Pull(Pull),
    /// Does `descendant` descend from (or is it) the commit that `ancestor` begins?
    Descends {
        /// A hash or its first digits.
        ancestor: String,
        /// A commit.
        descendant: CommitHash,
    },
    /// Did the history of `commit` ever declare other nodes than these?
    History {
        /// Where the walk begins.
        commit: CommitHash,
        /// Folder of the manifests.
        path: String,
        /// What it declares now.
        nodes: BTreeSet<NodeName>,
    },
    /// Commit the status and push it.
    Commit(Box<Commit>),
    /// Write the status into a directory.
    Write {
        /// Where; files go below `status/` in it.
        directory: PathBuf,
        /// What is told.
        snapshot: Box<Snapshot>,
    },
}

/// See [`Job::Pull`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pull {
    /// What is followed: `refs/heads/…` or `refs/tags/…`.
    pub reference: String,
    /// The commit of it to stay at.
    pub pin: Option<CommitHash>,
    /// Whose signatures count, where any has to be there.
    pub signers: Option<Signers>,
    /// Folder of the manifests, without a leading or trailing `/`; empty is all of it.
    pub path: String,
    /// Nothing needs to be read where the branch still stands here.
    pub known: Option<CommitHash>,
    /// What was last activated.
    pub activated: Option<CommitHash>,
    /// What a person accepted by hand: a hash or its first digits.
    pub accepted: Option<String>,
}

/// See [`Job::Commit`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Commit {
    /// The status branch.
    pub branch: String,
    /// Folder of the manifests; `status/` lies in it.
    pub path: String,
    /// What is told; its revision is what runs.
    pub snapshot: Snapshot,
    /// Whose name the commit bears.
    pub author: Author,
    /// The key that signs it.
    pub signing_key_file: Option<PathBuf>,
}

/// Which commits have to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// The one that is to run.
    Head,
    /// Every one since the one that runs.
    Strict,
}

/// Whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signers {
    /// Which commits.
    pub rule: Rule,
    /// Those who sign by ssh.
    pub allowed_signers_file: Option<PathBuf>,
    /// Those who sign by OpenPGP.
    pub keyring_file: Option<PathBuf>,
}

/// Whose name a status commit bears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// A name.
    pub name: String,
    /// An address.
    pub email: String,
}

/// A file as it travels: text wherever it is text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFile {
    /// Relative to the folder of the manifests.
    pub path: String,
    /// What it holds, where that is UTF-8.
    pub text: Option<String>,
    /// What it holds, where it is not.
    pub bytes: Option<Vec<u8>>,
}

/// What a history says about who was declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum History {
    /// Every revision that declares nodes declares these.
    Same,
    /// This one declares others, but all that declare others need some of these for a majority.
    Other(CommitHash),
    /// This one declares others that are a majority without these.
    Replaced(CommitHash),
    /// It cannot be told: why.
    Doubt(String),
}

/// How a job ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Answer {
    /// The branch stands at the known commit.
    Unchanged,
    /// The branch stands at another one.
    Pulled {
        /// Which.
        commit: CommitHash,
        /// Whether it descends from those that the job named.
        lineage: (bool, bool),
        /// Its manifests, or why they cannot be had.
        files: Result<Vec<TreeFile>, Problem>,
    },
    /// To [`Job::Descends`].
    Descends(bool),
    /// To [`Job::History`].
    History(History),
    /// The status was pushed as this commit.
    Committed(CommitHash),
    /// The status was written into the directory.
    Wrote,
    /// The branch or directory says so already.
    Same,
    /// The bucket is empty for so long.
    Paced(Duration),
    /// Somebody else pushed first, again and again.
    Lost,
    /// It did not work.
    Failed(Problem),
}

/// A line from the child.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Line {
    /// Something arrived: the server is alive.
    Progress,
    /// The answer; nothing follows.
    Done(Answer),
}

impl From<(bool, bool)> for Lineage {
    fn from((activated, accepted): (bool, bool)) -> Self {
        Self { activated, accepted }
    }
}
