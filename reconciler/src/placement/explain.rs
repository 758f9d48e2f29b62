//! Why this node and not that one: every declared node's place in line for a VIP.
//!
//! In: `Desired`, [`Ranking`], the members' offers. Out: a [`Candidate`] for each declared node.
//! Not here: what the VIP's owner really does (`status`), how it is shown (`cli`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::manifest::desired::Desired;
use crate::name::NodeName;
use crate::placement::eligibility::{Eligibility, eligibility};
use crate::placement::offer::Offer;
use crate::placement::ranking::Ranking;

/// A declared node in the line for one VIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeName,
    /// May it have the VIP?
    pub eligibility: Eligibility,
    /// How it came to its place; nothing for a node that never stands in line.
    pub standing: Option<Standing>,
}

/// How a node came to its place in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// From 1, by `prefer` and rank.
    pub rank: usize,
    /// It is in the pool's `prefer`.
    pub preferred: bool,
    /// It is the base owner.
    pub base: bool,
    /// It goes before the base owner by rank, but holds its cap of the pool already.
    pub full: bool,
}

impl Candidate {
    /// May it have the VIP, if only as spare?
    pub fn is_eligible(&self) -> bool {
        !matches!(self.eligibility, Eligibility::No(_))
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.eligibility, self.standing) {
            (Eligibility::No(reason), _) => reason.fmt(f),
            (other, None) => other.fmt(f),
            (other, Some(standing)) => {
                match standing.rank {
                    1 => f.write_str("first")?,
                    2 => f.write_str("second")?,
                    3 => f.write_str("third")?,
                    rank => write!(f, "number {rank}")?,
                }
                f.write_str(if standing.preferred { " by prefer" } else { " by rank" })?;
                if standing.base && standing.rank > 1 {
                    f.write_str(", those before it have their cap of the pool")?;
                }
                if standing.full {
                    f.write_str(", but has its cap of the pool already")?;
                }
                if *other == Eligibility::Spare {
                    write!(f, "; {other}")?;
                }
                Ok(())
            }
        }
    }
}

/// Every declared node, in the order in which they would get the VIP, those who never would at the end.
/// Empty for an index that `ranking` does not have.
pub fn explain(
    desired: &Desired,
    ranking: &Ranking,
    offers: &BTreeMap<NodeName, Arc<Offer>>,
    vip: usize,
) -> Vec<Candidate> {
    let Some(ranked) = ranking.vips().get(vip) else { return Vec::new() };
    let prefer = desired.pools.get(&ranked.pool).map_or(&[][..], |pool| &pool.prefer);
    let order = ranking.order(vip);
    let base = ranking.base(vip);
    let at = |node: &NodeName| order.iter().position(|other| ranking.nodes().get(usize::from(*other)) == Some(node));
    let base_at = base.and_then(at);
    let mut candidates: Vec<Candidate> = desired
        .nodes
        .keys()
        .map(|node| Candidate {
            eligibility: eligibility(desired, offers.get(node).map(Arc::as_ref), node, &ranked.pool, ranked.vip),
            standing: at(node).map(|at| Standing {
                rank: at + 1,
                preferred: prefer.contains(node),
                base: base == Some(node),
                full: base_at.is_some_and(|base| at < base),
            }),
            node: node.clone(),
        })
        .collect();
    // The sort keeps the names' order among those who never stand in line.
    candidates.sort_by_key(|candidate| match candidate.standing {
        Some(standing) => (false, !standing.base, standing.rank),
        None => (true, true, 0),
    });
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::fixture::{cluster, everybody, pool};
    use crate::placement::place;

    #[test]
    fn the_first_eligible_in_line_is_the_owner_and_each_place_is_told() {
        let mut desired = cluster(&["a", "b", "c", "w=0"]);
        let mut web = pool("10.0.0.1", 12);
        web.prefer = vec!["b".parse().unwrap()];
        desired.pools.insert("web".parse().unwrap(), web);
        desired.pools.insert("db".parse().unwrap(), pool("10.0.3.1", 4));
        desired.nodes.get_mut("a").unwrap().cordon = true;
        let (ranking, offers) = (Ranking::new(&desired), everybody(&desired));
        let placement = place(&desired, &ranking, &offers);
        for vip in 0..ranking.vips().len() {
            let line = explain(&desired, &ranking, &offers, vip);
            let first = line.iter().find(|candidate| candidate.is_eligible()).map(|candidate| &candidate.node);
            assert_eq!(first, placement.owner(vip));
            assert_eq!(line.len(), 4);
        }
        let line = explain(&desired, &ranking, &offers, ranking.index_of("10.0.0.1".parse().unwrap()).unwrap());
        let told: Vec<String> = line.iter().map(|candidate| format!("{}: {candidate}", candidate.node)).collect();
        assert_eq!(
            told,
            ["b: first by prefer", "a: cordoned", "c: third by rank", "w: weight 0: a witness owns nothing"]
        );
        // hashlib orders a, b, c for this address, and a has two of the four already.
        desired.nodes.get_mut("a").unwrap().cordon = false;
        let line = explain(&desired, &ranking, &offers, ranking.index_of("10.0.3.1".parse().unwrap()).unwrap());
        let told: Vec<String> = line.iter().map(|candidate| format!("{}: {candidate}", candidate.node)).collect();
        assert_eq!(
            told,
            [
                "b: second by rank, those before it have their cap of the pool",
                "a: first by rank, but has its cap of the pool already",
                "c: third by rank",
                "w: weight 0: a witness owns nothing"
            ]
        );
    }
}
