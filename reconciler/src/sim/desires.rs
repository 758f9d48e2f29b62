//! Desired states for a simulated cluster, and changes of them.
//!
//! In: numbers of nodes and VIPs, draws. Out: [`Generation`]s. Not here: when they reach a node (`world`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::random::Random;
use crate::digest::Digest;
use crate::engine::generation::Generation;
use crate::manifest::desired::{
    Attach, Cluster, Desired, Failback, Failover, Node, Partition, PlacementMode, Pool, Profile,
};
use crate::name::{ClusterName, NodeName, PoolName};
use crate::vip::Vip;

/// The name of the node at an index: a, b, c, …
pub(super) fn name(index: usize) -> NodeName {
    let letter = char::from(b'a' + (index % 26) as u8);
    NodeName::new(&letter.to_string()).expect("a letter is a name")
}

/// The VIP at an index.
pub(super) fn vip(index: usize) -> Vip {
    let [high, low] = ((index + 1) as u16).to_be_bytes();
    Vip::new(IpAddr::V4(Ipv4Addr::new(10, 1, high, low))).expect("a unicast address")
}

/// What a simulated repository may say.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub declared: BTreeSet<usize>,
    pub vips: usize,
    pub failback: Duration,
    pub profile: Profile,
    pub cordoned: BTreeSet<usize>,
    pub weights: BTreeMap<usize, u8>,
    /// Each so-manyth VIP is of a pool that is `available`; 0 is none.
    pub available: usize,
    /// Only so that two wishes that are else the same have two digests.
    pub edition: u64,
}

impl Wish {
    /// All nodes declared, all VIPs.
    pub fn first(nodes: usize, vips: usize, profile: Profile, available: usize) -> Self {
        Self {
            declared: (0..nodes).collect(),
            vips,
            failback: Duration::from_secs(2),
            profile,
            cordoned: BTreeSet::new(),
            weights: BTreeMap::new(),
            available,
            edition: 0,
        }
    }

    /// Is the VIP of a pool that is `available`?
    pub fn is_available(&self, index: usize) -> bool {
        self.available > 0 && (index + 1).is_multiple_of(self.available)
    }

    /// Another wish: mostly small changes, now and then another set of nodes.
    pub fn changed(&self, random: &mut Random, nodes: usize, vips: usize) -> Self {
        let mut next = self.clone();
        next.edition += 1;
        match random.below(6) {
            0 => next.vips = random.between(1, vips as u64) as usize,
            1 => {
                next.cordoned.clear();
                if random.below(2) == 0 && next.declared.len() > 1 {
                    next.cordoned.insert(random.pick(nodes));
                }
            }
            2 => {
                next.weights.insert(random.pick(nodes), random.below(4) as u8);
            }
            3 => next.failback = Duration::from_millis(random.below(5000)),
            _ => next.change_set(random, nodes),
        }
        next
    }

    /// One node more or one less; now and then several at once.
    pub fn change_set(&mut self, random: &mut Random, nodes: usize) {
        let times = if random.below(4) == 0 { 2 } else { 1 };
        for _ in 0..times {
            let index = random.pick(nodes);
            if self.declared.contains(&index) {
                if self.declared.len() > 1 {
                    self.declared.remove(&index);
                }
            } else {
                self.declared.insert(index);
            }
        }
    }

    /// The generation that a node loads.
    pub fn generation(&self) -> Arc<Generation> {
        let nodes: BTreeMap<NodeName, Node> = self
            .declared
            .iter()
            .map(|index| {
                let node = Node {
                    labels: BTreeMap::new(),
                    address: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, *index as u8 + 1)), 7847),
                    weight: self.weights.get(index).copied().unwrap_or(1),
                    cordon: self.cordoned.contains(index),
                };
                (name(*index), node)
            })
            .collect();
        let pool = |partition: Partition| Pool {
            addresses: (0..self.vips)
                .filter(|index| self.is_available(*index) == (partition == Partition::Available))
                .map(vip)
                .collect(),
            interfaces: Vec::new(),
            selector: BTreeMap::new(),
            prefer: Vec::new(),
            attach: Attach::Interface,
            together: false,
            failback: Failback::After(self.failback),
            linger: Duration::from_secs(1),
            partition,
            health: Vec::new(),
            suspend: false,
        };
        let pools = [("web", Partition::Strict), ("relay", Partition::Available)];
        let pools = pools.map(|(name, partition)| (PoolName::new(name).expect("a name"), pool(partition)));
        let desired = Desired {
            cluster: Cluster {
                name: ClusterName::new("sim").expect("a name"),
                placement: PlacementMode::Balanced,
                failover: Failover { heartbeat: Duration::from_millis(100), profile: self.profile },
            },
            nodes,
            pools: pools.into_iter().filter(|(_, pool)| !pool.addresses.is_empty()).collect(),
            digest: Digest::of(format!("{self:?}").as_bytes()),
        };
        Arc::new(Generation::new(Arc::new(desired), format!("main@{}", self.edition)))
    }
}
