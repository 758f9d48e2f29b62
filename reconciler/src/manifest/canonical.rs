//! The digest of what is desired: the same for every spelling, layout and order of files and keys.
//!
//! In: checked values. Out: a [`Digest`] over a text with a line for each thing that differs from its default,
//! so that a later version that knows more keys gives old repositories the digest that they had.
//! Not here: checking. The text is not a format that anybody reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::addresses::step;
use super::desired::{Attach, Cluster, Failback, Node, Partition, PlacementMode, Pool, Profile};
use crate::digest::Digest;
use crate::name::{NodeName, PoolName};
use crate::vip::Vip;

/// The digest of a cluster, its nodes and its pools.
pub(super) fn digest(cluster: &Cluster, nodes: &BTreeMap<NodeName, Node>, pools: &BTreeMap<PoolName, Pool>) -> Digest {
    Digest::of(text(cluster, nodes, pools).as_bytes())
}

/// No value holds a tab or a line break: names, labels and interfaces cannot.
fn text(cluster: &Cluster, nodes: &BTreeMap<NodeName, Node>, pools: &BTreeMap<PoolName, Pool>) -> String {
    let mut text = String::from("rendezvip/v1\n");
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{key}\t{value}");
    };
    line("cluster", &cluster.name);
    if cluster.placement == PlacementMode::Rendezvous {
        line("placement", &"rendezvous");
    }
    if cluster.failover.heartbeat != Duration::from_millis(100) {
        line("heartbeat", &cluster.failover.heartbeat.as_millis());
    }
    if cluster.failover.profile == Profile::Fast {
        line("profile", &"fast");
    }
    for (name, node) in nodes {
        line("node", name);
        line("address", &node.address);
        for (key, value) in &node.labels {
            line("label", &format_args!("{key}\t{value}"));
        }
        if node.weight != 1 {
            line("weight", &node.weight);
        }
        if node.cordon {
            line("cordon", &true);
        }
    }
    for (name, pool) in pools {
        line("pool", name);
        for (first, last) in runs(&pool.addresses) {
            line("vips", &format_args!("{first}\t{last}"));
        }
        for interface in &pool.interfaces {
            line("interface", interface);
        }
        for (key, value) in &pool.selector {
            line("select", &format_args!("{key}\t{value}"));
        }
        for node in &pool.prefer {
            line("prefer", node);
        }
        match pool.attach {
            Attach::Interface => {}
            Attach::Loopback => line("attach", &"loopback"),
            Attach::None => line("attach", &"none"),
        }
        if pool.together {
            line("together", &true);
        }
        match pool.failback {
            Failback::After(after) if after == Duration::from_secs(10) => {}
            Failback::After(after) => line("failback", &after.as_millis()),
            Failback::Manual => line("failback", &"manual"),
        }
        if pool.linger != Duration::from_secs(30) {
            line("linger", &pool.linger.as_millis());
        }
        if pool.partition == Partition::Available {
            line("partition", &"available");
        }
        for check in &pool.health {
            line("health", check);
        }
        if pool.suspend {
            line("suspend", &true);
        }
    }
    text
}

/// Ascending addresses as runs without a gap.
fn runs(addresses: &[Vip]) -> Vec<(Vip, Vip)> {
    let mut runs: Vec<(Vip, Vip)> = Vec::new();
    for vip in addresses {
        match runs.last_mut() {
            Some((_, last)) if step(last.address(), 1) == Some(vip.address()) => *last = *vip,
            _ => runs.push((*vip, *vip)),
        }
    }
    runs
}
