//! What a node knows of its cluster at one moment: the one value that every report is read from.
//!
//! In: the engine's records. Out: [`Snapshot`], whose JSON is that of `rendezvip status --format json`
//! and of the node's HTTP port. Not here: files in git ([`super::files`]), tables for a terminal (`cli`).

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::wall::Wall;
use crate::digest::Digest;
use crate::name::{ClusterName, NodeName, PoolName};
use crate::revision::Revision;
use crate::vip::Vip;

/// What a node knows of its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Who says so.
    pub node: NodeName,
    /// The cluster's name, once a revision was loaded.
    pub cluster: Option<ClusterName>,
    /// What runs: the label of the generation that the view has gone over to.
    pub revision: Option<Revision>,
    /// What was last seen at the source, good or bad.
    #[serde(rename = "attemptedRevision")]
    pub attempted: Option<Revision>,
    /// The generation that runs.
    pub digest: Option<Digest>,
    /// When the snapshot was taken.
    #[serde(rename = "time")]
    pub at: Wall,
    /// The view, once there is one.
    pub view: Option<ViewStatus>,
    /// Every declared node and whoever else is still in the view, by name.
    pub members: Vec<MemberStatus>,
    /// Every VIP, in order of pool and address.
    pub vips: Vec<VipStatus>,
    /// Ready, Reconciling, Stalled.
    pub conditions: Vec<Condition>,
}

/// The view that a node has accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewStatus {
    /// Its number.
    pub number: u64,
    /// Its phase: even, or odd while the set of nodes changes.
    pub phase: u64,
    /// Is it established at this moment, as far as this node can tell?
    pub established: bool,
    /// The identities in it, `name@epoch`.
    pub members: Vec<String>,
    /// Declared nodes that a first view waits for, or that are not in this one.
    pub missing: Vec<NodeName>,
}

/// How a node is, as this one sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// In the view and heard.
    Alive,
    /// In the view and silent to us or to somebody.
    Suspect,
    /// Left out of the view, or never heard.
    Dead,
    /// Said goodbye.
    Left,
}

impl std::fmt::Display for MemberState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
        })
    }
}

/// One node, as this one sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub node: NodeName,
    /// How it is.
    pub state: MemberState,
    /// Since when.
    pub since: Wall,
    /// The program's version there.
    pub version: Option<String>,
    /// The newest revision that it has loaded.
    pub revision: Option<Revision>,
    /// What it last saw at the source, good or bad.
    #[serde(rename = "attemptedRevision")]
    pub attempted: Option<Revision>,
    /// The generation of the newest revision it has loaded.
    pub digest: Option<Digest>,
    /// What is the matter with it, where something is (behind, draining, cannot push, old kernel).
    pub note: Option<Note>,
}

/// What is the matter: one word for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// One CamelCase word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl Note {
    /// A note.
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// How a VIP is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VipState {
    /// Who should have it has it.
    Held,
    /// On its way.
    Moving,
    /// Nobody has it, and nobody may at present.
    Unowned,
    /// Somebody foreign claims it, too.
    Conflict,
    /// Not served: its node or the wire speaks against it.
    Refused,
}

impl std::fmt::Display for VipState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Held => "held",
            Self::Moving => "moving",
            Self::Unowned => "unowned",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
        })
    }
}

/// One VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipStatus {
    /// The address.
    pub vip: Vip,
    /// Its pool.
    pub pool: PoolName,
    /// Who should have it.
    pub desired: Option<NodeName>,
    /// Who has it, as measured.
    pub actual: Option<NodeName>,
    /// How it is.
    pub state: VipState,
    /// Since when `actual` is what it is.
    pub since: Wall,
    /// What is the matter, where something is.
    pub note: Option<Note>,
}

impl Snapshot {
    /// What `rendezvip status --format json` prints.
    ///
    /// # Panics
    /// Never: all keys are strings.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a snapshot serializes")
    }

    /// Puts every list into the order that readers rely on.
    pub fn sort(&mut self) {
        self.members.sort_by(|a, b| a.node.cmp(&b.node));
        self.vips.sort_by(|a, b| (&a.pool, a.vip).cmp(&(&b.pool, b.vip)));
        self.conditions.sort_by_key(|condition| condition.kind);
    }
}
