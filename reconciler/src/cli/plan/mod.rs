//! `rendezvip plan`: owners, and what moves against a base.
//!
//! In: a directory, a base. Out: a report on stdout. Not here: deciding (`placement`), reading (`repository`).

mod forecast;
mod human;
mod json;
mod lock;
mod markdown;

use std::collections::{BTreeMap, BTreeSet};

pub use forecast::{Forecast, Interruption, Plan};
pub use human::human;
pub use json::json;
pub use lock::{Difference, differences, lock};
pub use markdown::markdown;

use crate::name::NodeName;

/// The name, or `-` for nobody.
fn name_or_nobody(node: Option<&NodeName>) -> &str {
    node.map_or("-", NodeName::as_str)
}

fn joined<'a>(nodes: impl Iterator<Item = &'a NodeName>) -> String {
    let nodes: Vec<&str> = nodes.map(NodeName::as_str).collect();
    if nodes.is_empty() { "-".to_owned() } else { nodes.join(", ") }
}

/// Node, weight, VIPs before and after; `-` where the node is not declared.
fn spread_rows(plan: &Plan) -> Vec<[String; 4]> {
    let after = plan.after.spread();
    let before = plan.base.as_ref().map_or_else(BTreeMap::new, |(base, _)| base.spread());
    let nodes: BTreeSet<&NodeName> = before.keys().chain(after.keys()).copied().collect();
    let count = |count: Option<&usize>| count.map_or("-".to_owned(), usize::to_string);
    let row = |node: &NodeName| {
        let declared = plan.after.desired.nodes.get(node);
        let weight = match declared {
            Some(declared) if declared.cordon => format!("{}, cordoned", declared.weight),
            Some(declared) => declared.weight.to_string(),
            None => "-".to_owned(),
        };
        [node.to_string(), weight, count(before.get(node)), count(after.get(node))]
    };
    nodes.into_iter().map(row).collect()
}
