//! What can happen to a node.
//!
//! In: nothing. Out: [`Event`]. Not here: where events come from (`agent`, `sim`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::generation::Generation;
use crate::membership::heartbeat::Heartbeat;
use crate::membership::protocol::Forming;
use crate::name::{CheckName, InterfaceName, NodeName, PoolName};
use crate::time::Instant;
use crate::vip::Vip;

/// One thing that happened. The time at which it was seen is handed to `step` beside it. Recordings know them by their place
/// here, so a new one goes to the end (`recording::FORMAT`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Event {
    /// A deadline has come.
    Tick,
    /// A datagram whose seal was good.
    Heartbeat {
        /// The sender that the seal names.
        from: NodeName,
        /// Its epoch.
        epoch: u64,
        /// Its counter.
        counter: u64,
        /// What it says.
        heartbeat: Arc<Heartbeat>,
    },
    /// A checked desired state was loaded; it is the newest.
    Loaded(Arc<Generation>),
    /// Who must be heard before a cluster of these names forms, by what was declared before.
    MayForm(BTreeSet<NodeName>, Forming),
    /// All of the host's interfaces as they are now, those that may carry VIPs.
    Interfaces(BTreeMap<InterfaceName, LocalInterface>),
    /// VIPs that stand on this host and are not ours.
    Foreign(BTreeSet<Vip>),
    /// What may not be a VIP on this node, whatever the repository says.
    Limits(Limits),
    /// A frame came that speaks of addresses: ARP or neighbour discovery.
    Frame {
        /// On which interface.
        interface: InterfaceName,
        /// All of it.
        bytes: Vec<u8>,
    },
    /// What the rest of the program knows of this node, for its record.
    Told(Box<Told>),
    /// A VIP that was started is on the host; the kernel took it.
    Attached(Vec<Vip>),
    /// The kernel refused VIPs that were started, with its reason.
    Refused(Vec<(Vip, String)>),
    /// Somebody removed these VIPs from the host.
    Removed(Vec<Vip>),
    /// A check changed.
    Check {
        /// Which.
        check: CheckName,
        /// Whether it passes now.
        passes: bool,
    },
    /// Give away what is held, take nothing new.
    Drain,
    /// The opposite.
    Resume,
    /// Drain, say goodbye, and be done.
    Leave,
    /// Be done at once: what is held is stopped, whether somebody takes it or not.
    Abandon,
    /// Begin anew with these nodes, whatever was agreed before.
    Form(BTreeSet<NodeName>),
    /// Until when pools are not to be given back to this node again, as an earlier life of the daemon kept it.
    Damped(BTreeMap<PoolName, Instant>),
}

/// What is to be told of this node beside what the engine knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Told {
    /// The build.
    pub build: String,
    /// The label of the newest revision loaded.
    pub revision: String,
    /// The label of the revision last seen.
    pub attempted: String,
    /// Why it was not loaded; empty where it was.
    pub problem: String,
    /// Can this node push the status branch?
    pub can_push: bool,
    /// The commit whose rewritten history was accepted and does not run yet.
    pub accepted_history: String,
}

/// What may not be a VIP on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// VIPs have to lie in one of these, where there are any: `allow.prefixes` of the node's own file.
    pub prefixes: Option<Vec<IpNet>>,
    /// Addresses that the segment needs for something else, and for what: its gateway, its network and broadcast
    /// addresses.
    pub reserved: BTreeMap<IpAddr, String>,
}

impl Limits {
    /// Why the VIP may not stand here, if so.
    pub fn forbids(&self, vip: Vip) -> Option<String> {
        let address = vip.address();
        if let Some(why) = self.reserved.get(&address) {
            return Some(format!("it is {why}"));
        }
        let outside = |prefixes: &Vec<IpNet>| !prefixes.iter().any(|net| net.contains(&address));
        self.prefixes
            .as_ref()
            .is_some_and(outside)
            .then(|| "it is outside allow.prefixes of the node's file".to_owned())
    }
}

/// An interface as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LocalInterface {
    /// Up, with carrier.
    pub usable: bool,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// The subnets of its own addresses (not of VIPs).
    pub subnets: BTreeSet<IpNet>,
    /// Its own addresses, the first of a family first.
    pub own: Vec<IpAddr>,
    /// Does the host forward IPv6 there?
    pub router: bool,
}
