//! Desired states and offers for the tests of this room, short to write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::manifest::desired::{
    Attach, Cluster, Desired, Failback, Failover, Node, Partition, PlacementMode, Pool, Profile,
};
use crate::name::NodeName;
use crate::placement::offer::Offer;
use crate::vip::Vip;

pub(super) type Offers = BTreeMap<NodeName, Arc<Offer>>;

/// A cluster of these nodes (`name` or `name=weight`), without pools.
pub(super) fn cluster(nodes: &[&str]) -> Desired {
    let node = |(at, text): (usize, &&str)| {
        let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
        let address = format!("10.255.{}.{}:7847", at / 250, at % 250 + 1).parse().unwrap();
        let node = Node { labels: BTreeMap::new(), address, weight: weight.parse().unwrap(), cordon: false };
        (name.parse().unwrap(), node)
    };
    Desired {
        cluster: Cluster {
            name: "lab".parse().unwrap(),
            placement: PlacementMode::Balanced,
            failover: Failover { heartbeat: Duration::from_millis(100), profile: Profile::Default },
        },
        nodes: nodes.iter().enumerate().map(node).collect(),
        pools: BTreeMap::new(),
        digest: Digest::default(),
    }
}

/// A pool of so many IPv4 addresses from `first` on.
pub(super) fn pool(first: &str, count: u32) -> Pool {
    let first = u32::from(first.parse::<std::net::Ipv4Addr>().unwrap());
    let vip = |at: u32| Vip::new(std::net::Ipv4Addr::from(first + at).into()).unwrap();
    Pool {
        addresses: (0..count).map(vip).collect(),
        interfaces: Vec::new(),
        selector: BTreeMap::new(),
        prefer: Vec::new(),
        attach: Attach::Interface,
        together: false,
        failback: Failback::After(Duration::from_secs(10)),
        linger: Duration::from_secs(30),
        partition: Partition::Strict,
        health: Vec::new(),
        suspend: false,
    }
}

/// An offer of `eth0` with these subnets.
pub(super) fn offer(nets: &[&str]) -> Offer {
    let nets = nets.iter().map(|net| net.parse().unwrap()).collect();
    Offer { interfaces: BTreeMap::from([("eth0".parse().unwrap(), nets)]), ..Offer::default() }
}

/// Every declared node offers everything.
pub(super) fn everybody(desired: &Desired) -> Offers {
    let offer = Arc::new(Offer::ideal(desired));
    desired.nodes.keys().map(|node| (node.clone(), Arc::clone(&offer))).collect()
}
