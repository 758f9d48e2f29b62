//! A snapshot for the tests of this room: three nodes, a pool of two VIPs and one of one.

use super::snapshot::*;
use super::{Condition, ConditionType, Truth, Wall};
use crate::digest::Digest;
use crate::name::{ClusterName, NodeName, PoolName};
use crate::revision::{CommitHash, Revision};

pub const START: u64 = 1_777_896_000_000;

pub fn node(name: &str) -> Option<NodeName> {
    Some(NodeName::new(name).unwrap())
}

pub fn revision(n: u8) -> Revision {
    Revision::git("main", CommitHash([n; 20]))
}

pub fn vip(address: &str, pool: &str, owner: &str) -> VipStatus {
    VipStatus {
        vip: address.parse().unwrap(),
        pool: PoolName::new(pool).unwrap(),
        desired: node(owner),
        actual: node(owner),
        state: VipState::Held,
        since: Wall::from_millis(START + 250),
        note: None,
    }
}

pub fn snapshot() -> Snapshot {
    let at = Wall::from_millis(START + 2_500);
    let member = |name: &str| MemberStatus {
        node: NodeName::new(name).unwrap(),
        state: MemberState::Alive,
        since: at,
        version: Some("0.1.0".to_owned()),
        revision: Some(revision(1)),
        attempted: Some(revision(1)),
        digest: Some(Digest::of(b"one")),
        note: None,
    };
    let runs = format!("{} runs", revision(1));
    Snapshot {
        node: NodeName::new("edge-b").unwrap(),
        cluster: Some(ClusterName::new("lab").unwrap()),
        revision: Some(revision(1)),
        attempted: Some(revision(1)),
        digest: Some(Digest::of(b"one")),
        at,
        view: None,
        members: vec![member("edge-a"), member("edge-b"), member("edge-c")],
        vips: vec![
            vip("10.99.0.100", "web", "edge-a"),
            vip("10.99.0.101", "web", "edge-b"),
            vip("10.99.0.102", "web", "edge-a"),
            vip("fd99::1", "db", "edge-c"),
        ],
        conditions: vec![
            Condition::new(ConditionType::Ready, Truth::True, "Running", runs.clone(), at),
            Condition::new(ConditionType::Reconciling, Truth::False, "UpToDate", runs, at),
            Condition::new(ConditionType::Stalled, Truth::False, "NotStalled", "nothing is refused", at),
        ],
    }
}

/// edge-a has died: its VIPs went to edge-c.
pub fn after_a_death() -> Snapshot {
    let mut snapshot = snapshot();
    snapshot.at = Wall::from_millis(START + 60_000);
    snapshot.members[0].state = MemberState::Dead;
    for vip in &mut snapshot.vips {
        if vip.actual == node("edge-a") {
            (vip.desired, vip.actual, vip.since) = (node("edge-c"), node("edge-c"), snapshot.at);
        }
    }
    snapshot
}
