//! Placement agrees with an independent implementation on recorded vectors.
//!
//! `tests/vectors/placement.py` wrote them with hashlib and mpmath, and says how.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::fixture::{cluster, everybody, pool};
use super::{Ranking, place};
use crate::manifest::desired::PlacementMode;
use crate::name::NodeName;
use crate::vip::Vip;

#[derive(Deserialize)]
struct Case {
    title: String,
    placement: PlacementMode,
    nodes: BTreeMap<NodeName, u8>,
    pool: CasePool,
    live: BTreeSet<NodeName>,
    expected: Vec<Row>,
}

#[derive(Deserialize)]
struct CasePool {
    name: String,
    addresses: BTreeSet<Vip>,
    prefer: Vec<NodeName>,
    together: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Row {
    vip: Vip,
    order: Vec<NodeName>,
    base: Option<NodeName>,
    owner: Option<NodeName>,
    backups: Vec<NodeName>,
}

#[test]
fn placement_agrees_with_an_independent_implementation() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/vectors/placement.json")).unwrap();
    assert!(cases.len() >= 13);
    for case in cases {
        let nodes: Vec<String> = case.nodes.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
        let mut desired = cluster(&nodes.iter().map(String::as_str).collect::<Vec<_>>());
        desired.cluster.placement = case.placement;
        let mut web = pool("10.0.0.1", 0);
        web.addresses = case.pool.addresses.into_iter().collect();
        web.prefer = case.pool.prefer;
        web.together = case.pool.together;
        desired.pools.insert(case.pool.name.parse().unwrap(), web);

        let mut offers = everybody(&desired);
        offers.retain(|node, _| case.live.contains(node));
        let ranking = Ranking::new(&desired);
        let placement = place(&desired, &ranking, &offers);
        for row in case.expected {
            let vip = ranking.index_of(row.vip).unwrap();
            let found = Row {
                vip: row.vip,
                order: ranking.order(vip).iter().map(|node| ranking.nodes()[usize::from(*node)].clone()).collect(),
                base: ranking.base(vip).cloned(),
                owner: placement.owner(vip).cloned(),
                backups: placement.backups(vip).cloned().collect(),
            };
            assert_eq!(found, row, "{}", case.title);
        }
    }
}
