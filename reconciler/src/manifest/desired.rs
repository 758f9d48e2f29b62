//! What a repository asks for, once it is checked: plain values, no spans, nothing that can be wrong.
//!
//! In: nothing; `manifest` builds these. Out: [`Desired`], the input of every decision.
//! Not here: reading YAML, diagnostics (`manifest`), who owns what (`placement`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::{CheckName, ClusterName, InterfaceName, NodeName, PoolName};
use crate::vip::Vip;

/// Everything that a revision of the repository declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The one Cluster document.
    pub cluster: Cluster,
    /// Every declared node, by name.
    pub nodes: BTreeMap<NodeName, Node>,
    /// Every pool, by name.
    pub pools: BTreeMap<PoolName, Pool>,
    /// Digest of all of the above: the *generation*. Two revisions of one digest ask for the same.
    pub digest: Digest,
}

/// `kind: Cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// `metadata.name`.
    pub name: ClusterName,
    /// How VIPs are spread.
    pub placement: PlacementMode,
    /// How fast a death is noticed.
    pub failover: Failover,
}

/// `spec.placement` of a Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlacementMode {
    /// Rendezvous order, with a cap of 1.25 times a node's share in each pool.
    #[default]
    Balanced,
    /// Rendezvous order alone: MetalLB's order at equal weights.
    Rendezvous,
}

/// `spec.failover` of a Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// Between two heartbeats of a pair of nodes.
    pub heartbeat: Duration,
    /// How many stalls a detection forgives.
    pub profile: Profile,
}

/// `spec.failover.profile` of a Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Survives a stall of 0.6 heartbeats.
    #[default]
    Default,
    /// Survives a stall of 0.25 heartbeats, and is a third faster.
    Fast,
}

/// `kind: Node`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Where its peers send datagrams.
    pub address: SocketAddr,
    /// Share of VIPs, 0 to 100; 0 votes and owns nothing.
    pub weight: u8,
    /// Drained: gives away what it has, takes nothing new.
    pub cordon: bool,
}

/// `kind: VipPool`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// All addresses, expanded, ascending, each once.
    pub addresses: Vec<Vip>,
    /// Interfaces that may carry them; empty: the one whose subnet holds the address.
    pub interfaces: Vec<InterfaceName>,
    /// `nodeSelector.matchLabels`; empty selects every node.
    pub selector: BTreeMap<String, String>,
    /// A ranked wish: these go before the hash and the cap.
    pub prefer: Vec<NodeName>,
    /// Where the address sits.
    pub attach: Attach,
    /// All addresses of the pool move as one.
    pub together: bool,
    /// When a node that came back gets its VIPs back.
    pub failback: Failback,
    /// `handover.linger`: how long the old owner goes on accepting after a planned move.
    pub linger: Duration,
    /// What happens without a quorum.
    pub partition: Partition,
    /// Names of checks that must pass on the owner.
    pub health: Vec<CheckName>,
    /// Owners stay as they are.
    pub suspend: bool,
}

impl Pool {
    /// Does the pool select this node by its labels?
    pub fn selects(&self, node: &Node) -> bool {
        self.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
    }
}

/// `spec.attach` of a VipPool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// On the interface of the owner; the kernel answers.
    #[default]
    Interface,
    /// On `lo` of every node; our responder answers on the owner.
    Loopback,
    /// Nowhere; our responder answers on the owner.
    None,
}

/// `spec.failback` of a VipPool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failback {
    /// After the node has been eligible for so long.
    After(Duration),
    /// Never while somebody else serves them.
    Manual,
}

/// `spec.partition` of a VipPool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Partition {
    /// No quorum, no take-over: never two owners.
    #[default]
    Strict,
    /// As VRRP does: both sides of a cut may serve.
    Available,
}
