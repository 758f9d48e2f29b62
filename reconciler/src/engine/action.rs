//! What a node wants done. The order in which actions are returned is part of the contract.
//!
//! In: nothing. Out: [`Action`]. Not here: how it is done (`agent`), what it means (`engine`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::desired::Attach;
use crate::membership::protocol::Outgoing;
use crate::membership::view::Sets;
use crate::name::{InterfaceName, NodeName, PoolName};
use crate::time::Instant;
use crate::vip::Vip;

/// One thing to do. An executor does them in order and chooses nothing.
#[derive(Debug, Clone, Serialize)]
pub enum Action {
    /// Stop answering for these, in the kernel, before anything that follows; then take the addresses away.
    Stop(Vec<Stopped>),
    /// Write the sets to disk, durably, before anything that follows.
    Persist(Sets),
    /// The kernel may let answers pass until then; `None` closes the gate.
    Lease(Option<Instant>),
    /// Send a datagram.
    Send(Box<Outgoing>),
    /// Let answers pass for these and attach them; report `Attached` or `Refused`.
    Start(Vec<Started>),
    /// The gate is to cover these VIPs, and no others.
    Guard(Arc<BTreeSet<Vip>>),
    /// These VIPs sit on `lo` of this node, whoever answers for them, and no others: pools of `attach: loopback`.
    OnLoopback(Arc<BTreeSet<Vip>>),
    /// Send frames, each on its interface.
    Transmit(Vec<(InterfaceName, Vec<u8>)>),
    /// The linger of these is over: take the local routes away.
    EndLinger(Vec<Vip>),
    /// A peer has a generation that this node lacks: fetch now.
    Fetch(Digest),
    /// The identity grew: keep the epoch, unhurried.
    Epoch(u64),
    /// The node has said goodbye and holds nothing.
    Left,
    /// Somebody should know: an owner changed, a lease lapsed.
    Note(Note),
    /// Until when pools are not to be given back to this node again: keep it, unhurried, for the next life of the daemon.
    Damped(BTreeMap<PoolName, Instant>),
    /// The kernel may let answers for VIPs that may be served alone, and for no others, pass until then, whatever the
    /// lease; `None` ends that.
    Alone(Option<Instant>),
    /// Of these, and of no others, the gate may let answers pass without a lease: pools of `partition: available`.
    MayBeAlone(Arc<BTreeSet<Vip>>),
}

/// A VIP to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The VIP.
    pub vip: Vip,
    /// The interface that carries it.
    pub interface: InterfaceName,
    /// Where it sits.
    pub attach: Attach,
}

/// A VIP to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// The VIP.
    pub vip: Vip,
    /// The interface that carried it.
    pub interface: InterfaceName,
    /// Where it sat.
    pub attach: Attach,
    /// For how long traffic is still accepted; nothing where it moved for no plan of ours.
    pub linger: Option<Duration>,
}

/// Something for the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Note {
    /// A view was accepted.
    View(String),
    /// The lease passed unrenewed: this node holds nothing and has a new identity.
    Lapsed {
        /// The new epoch.
        epoch: u64,
    },
    /// This node took a VIP, from whom.
    Took {
        /// The VIP.
        vip: Vip,
        /// Its owner in the view before.
        from: Option<NodeName>,
    },
    /// This node has no view and serves VIPs alone, so many, together with these.
    ServesAlone {
        /// How many it has now.
        vips: usize,
        /// Others who are alone and heard.
        with: Vec<NodeName>,
    },
    /// It does so no longer.
    NoLongerAlone,
}
