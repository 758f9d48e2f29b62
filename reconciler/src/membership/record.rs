//! A node's slow-moving record: what its peers need to know of it for the status, not for safety.
//!
//! In: facts of one node. Out: [`NodeRecord`], spread with heartbeats. Not here: rendering it (`status`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::vip::Vip;

use super::view::ViewId;

/// What a node tells of itself, unhurried. The larger `version` is the newer one within an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Grows with each change.
    pub version: u64,
    /// The build, as `rendezvip --version` prints it.
    pub build: String,
    /// The label of the revision whose desired state is the newest it loaded.
    pub revision: String,
    /// The generation of that revision.
    pub generation: Digest,
    /// The label of the revision last seen, loaded or not.
    pub attempted: String,
    /// Why the attempted revision was not loaded: `file:line:col: message`, empty where it was.
    pub problem: String,
    /// The hardware addresses of its interfaces, by which its frames are told from a stranger's.
    pub macs: Vec<[u8; 6]>,
    /// Can it push the status branch?
    pub can_push: bool,
    /// The commit whose rewritten history a person accepted here, for peers who are asked for the same; mostly empty.
    pub accepted_history: String,
    /// The view in which all that it owns is started, but for `exceptions`.
    pub started: Option<ViewId>,
    /// VIPs that it owns in that view and does not serve, each with the reason.
    pub exceptions: BTreeMap<Vip, String>,
    /// What it resolved on the wire about VIPs of others and found wrong: who answered instead, if anybody.
    pub contradicted: BTreeMap<Vip, String>,
}
