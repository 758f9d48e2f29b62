//! The heartbeat: all that one node tells another, in one datagram.
//!
//! In: values. Out: [`Heartbeat`] and its bytes. Not here: the seal around it (`wire`), when it is sent (`protocol`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::NodeRecord;
use super::view::{Sets, View, ViewId};
use crate::digest::Digest;
use crate::name::NodeName;
use crate::placement::offer::Offer;

/// What a node tells. Sender, epoch and counter are in the envelope, where the seal covers them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Flags of this datagram.
    pub flags: Flags,
    /// Generations loaded, newest first.
    pub loaded: Vec<Digest>,
    /// The highest phase on disk and the tag of its sets; nothing for a node that was never named.
    pub disk: Option<(u64, [u8; 8])>,
    /// The view accepted.
    pub accepted: Option<ViewId>,
    /// The one accepted straight before it.
    pub before: Option<ViewId>,
    /// The view this node is clean in.
    pub clean: Option<ViewId>,
    /// Members known to be clean in the accepted view.
    pub known_clean: Vec<NodeName>,
    /// The last views known to be settled.
    pub settled: Vec<ViewId>,
    /// Digest of the offer that the sender makes now, to a view or, where it is alone, to others who are.
    pub offer: Digest,
    /// What the sender knows of each peer.
    pub peers: Vec<PeerReport>,
    /// Bodies of offers, where they changed or were asked for.
    pub offers: Vec<Arc<Offer>>,
    /// Bodies of views, likewise.
    pub views: Vec<Arc<View>>,
    /// The sets on the sender's disk, where the receiver has others.
    pub sets: Option<Sets>,
    /// Views whose bodies the sender lacks.
    pub want_views: Vec<ViewId>,
    /// Offers whose bodies the sender lacks.
    pub want_offers: Vec<Digest>,
    /// foca's own messages to the receiver.
    pub gossip: Vec<Vec<u8>>,
    /// The version of the sender's record.
    pub record_version: u64,
    /// The sender's slow-moving record, where it changed or was asked for.
    pub record: Option<Arc<NodeRecord>>,
}

/// Flags of a heartbeat. Those that a build does not know it ignores, so another one asks for no new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flags(u8);

impl Flags {
    /// To be answered at once.
    pub const ANSWER_ME: Self = Self(1);
    /// The sender holds nothing and never will under this identity.
    pub const GOODBYE: Self = Self(2);
    /// The regular beat of a pair, by which the receiver may set its own phase.
    pub const BEAT: Self = Self(4);
    /// The sender lacks the receiver's record.
    pub const WANT_RECORD: Self = Self(8);
    /// The sender has a lease: by a view it may answer.
    pub const LEASED: Self = Self(16);
    /// The sender is alone: `offer` is what it serves by whom it hears, and no offer to a view.
    pub const ALONE: Self = Self(32);

    /// Are all flags of `other` set?
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of flags.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What the sender knows of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerReport {
    /// The peer.
    pub name: NodeName,
    /// The highest epoch known of it, heard or named in the accepted view.
    pub epoch: u64,
    /// The last counter heard under that epoch; 0 where none was.
    pub counter: u64,
    /// What the sender makes of it.
    pub says: Says,
}

/// What a sender makes of a peer's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Says(u8);

impl Says {
    /// The counter is acknowledged: good for L from when it was sent.
    pub const ACK: Self = Self(1);
    /// Silent, or it said goodbye.
    pub const GONE: Self = Self(2);
    /// Heard without a gap for `join`.
    pub const STEADY: Self = Self(4);
    /// Heard without a gap for 2 D, which is enough where the view has lost its majority.
    pub const THERE: Self = Self(8);

    /// Are all of `other` said?
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With `other` said too, if so.
    pub const fn and(self, other: Self, so: bool) -> Self {
        if so { Self(self.0 | other.0) } else { self }
    }
}

/// Why bytes are not a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAHeartbeat;

impl Heartbeat {
    /// The bytes to be sealed.
    ///
    /// # Panics
    /// Never: a heartbeat always serializes.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a heartbeat serializes")
    }

    /// The heartbeat in the bytes of an opened datagram; bytes left over are refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAHeartbeat> {
        match postcard::take_from_bytes(bytes) {
            Ok((heartbeat, [])) => Ok(heartbeat),
            _ => Err(NotAHeartbeat),
        }
    }
}
