//! What this node knows of one peer: when it was last heard, and what it said then.
//!
//! In: heartbeats of one peer. Out: silent or not, steady or not, its acks and reports.
//! Not here: what follows from it for the view (`protocol`).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::heartbeat::{Flags, Heartbeat, PeerReport, Says};
use super::record::NodeRecord;
use super::view::{Sets, ViewId};
use crate::digest::Digest;
use crate::name::NodeName;
use crate::time::Instant;

/// One peer, as heard.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Peer {
    /// The highest epoch heard; 0 before anything was.
    pub epoch: u64,
    /// The last counter heard under that epoch.
    pub counter: u64,
    /// When the last new datagram came.
    pub heard_at: Option<Instant>,
    /// Since when it has been heard without a gap of D, under this epoch.
    pub steady_since: Option<Instant>,
    /// When it was found silent; nothing while it is heard.
    pub silent_since: Option<Instant>,
    /// It said goodbye under this epoch.
    pub goodbye: bool,
    /// Its ack of ours is good until then.
    pub ack_until: Option<Instant>,
    /// When we sent the newest datagram that it echoed.
    pub echo_sent: Option<Instant>,
    /// Generations it has loaded, newest first.
    pub loaded: Vec<Digest>,
    /// The highest phase on its disk and the tag of its sets.
    pub disk: Option<(u64, [u8; 8])>,
    /// The sets on its disk, where it told them.
    pub sets: Option<Sets>,
    /// The view it accepted, and the one straight before.
    pub accepted: Option<ViewId>,
    /// The view accepted straight before.
    pub before: Option<ViewId>,
    /// The view it is clean in.
    pub clean: Option<ViewId>,
    /// Digest of its present offer to a view.
    pub offer: Digest,
    /// It says that it has a lease.
    pub leased: bool,
    /// It says that it is alone, and offers this to others who are.
    pub alone: Option<Digest>,
    /// What it says of its peers, ascending by name.
    pub reports: Vec<PeerReport>,
    /// The version of its record.
    pub record_version: u64,
    /// Its record.
    pub record: Option<Arc<NodeRecord>>,
    /// When we last asked it something out of turn.
    pub asked_at: Option<Instant>,
    /// It is owed: an answer, a telling, a beat.
    pub owed: Owed,
}

/// Why a peer gets a datagram at the end of this step.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Owed {
    /// It asked.
    pub answer: bool,
    /// Something happened that all must know at once.
    pub tell: bool,
    /// The regular beat.
    pub beat: bool,
    /// It is asked out of turn.
    pub ask: bool,
    /// Views it asked for.
    pub views: BTreeSet<ViewId>,
    /// Offers it asked for.
    pub offers: BTreeSet<Digest>,
    /// It wants our record.
    pub record: bool,
}

impl Owed {
    pub fn anything(&self) -> bool {
        self.answer || self.tell || self.beat || self.ask
    }
}

impl Peer {
    /// Takes in what a new datagram says. Whether it is new has been checked. `nothing` is the empty offer.
    pub fn hear(&mut self, now: Instant, epoch: u64, counter: u64, heartbeat: &Heartbeat, nothing: Digest) {
        if epoch > self.epoch {
            *self = Self {
                epoch,
                steady_since: Some(now),
                record: self.record.take(),
                owed: std::mem::take(&mut self.owed),
                asked_at: self.asked_at,
                ..Self::default()
            };
        }
        if self.silent_since.take().is_some() {
            self.steady_since = Some(now);
        }
        self.counter = counter;
        self.heard_at = Some(now);
        self.loaded.clone_from(&heartbeat.loaded);
        self.disk = heartbeat.disk;
        self.accepted = heartbeat.accepted;
        self.before = heartbeat.before;
        self.clean = heartbeat.clean;
        // Who has no lease offers nothing to a view.
        self.alone = heartbeat.flags.has(Flags::ALONE).then_some(heartbeat.offer);
        self.offer = if self.alone.is_some() { nothing } else { heartbeat.offer };
        self.leased = heartbeat.flags.has(Flags::LEASED) && !heartbeat.flags.has(Flags::GOODBYE);
        self.reports.clone_from(&heartbeat.peers);
        if !self.reports.is_sorted_by(|a, b| a.name < b.name) {
            self.reports.sort_by(|a, b| a.name.cmp(&b.name));
        }
        if let Some(sets) = &heartbeat.sets {
            self.sets = Some(sets.clone());
        }
        self.record_version = heartbeat.record_version;
        if let Some(record) = &heartbeat.record {
            self.record = Some(record.clone());
        }
    }

    /// Is the record that it has now still to be asked for?
    pub fn lacks_record(&self) -> bool {
        self.heard_at.is_some() && self.record.as_ref().is_none_or(|record| record.version != self.record_version)
    }

    /// What it says of a node.
    pub fn report_of(&self, name: &NodeName) -> Option<&PeerReport> {
        self.reports.binary_search_by(|report| report.name.cmp(name)).ok().map(|at| &self.reports[at])
    }

    /// Does it say that this identity is gone: silent, left, or outlived?
    pub fn says_gone(&self, name: &NodeName, epoch: u64) -> bool {
        self.report_of(name)
            .is_some_and(|report| report.epoch > epoch || (report.epoch == epoch && report.says.has(Says::GONE)))
    }

    /// Does it say `what` of this identity?
    pub fn says(&self, name: &NodeName, epoch: u64, what: Says) -> bool {
        self.report_of(name).is_some_and(|report| report.epoch == epoch && report.says.has(what))
    }
}
