//! What moves between two states, and the one change that made it.
//!
//! In: two [`State`]s. Out: a [`Move`] for each VIP whose owner differs, with its [`Cause`].
//! Not here: how long a move interrupts (`cli`), carrying it out (`engine`).
//!
//! The cause is looked for where the owner changed: why may the old one no longer have it, else why
//! may the new one have it now, else what changed the order between two who both could all along.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::manifest::desired::{Desired, PlacementMode, Pool};
use crate::name::{NodeName, PoolName};
use crate::placement::eligibility::{Eligibility, Reason, eligibility};
use crate::placement::offer::Offer;
use crate::placement::place::Placement;
use crate::placement::ranking::Ranking;
use crate::vip::Vip;

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    /// What is desired.
    pub desired: &'a Desired,
    /// Its ranking.
    pub ranking: &'a Ranking,
    /// The members' offers.
    pub offers: &'a BTreeMap<NodeName, Arc<Offer>>,
    /// What `place` made of these.
    pub placement: &'a Placement,
}

/// A VIP that goes from one owner to another, or from or to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The address.
    pub vip: Vip,
    /// Its pool: the new one, or the old one where the VIP is gone.
    pub pool: PoolName,
    /// Who has it before.
    pub from: Option<NodeName>,
    /// Who has it after.
    pub to: Option<NodeName>,
    /// Why.
    pub cause: Cause,
}

impl Move {
    /// Is it taken from a living owner that can hand it over? Else its clients wait for a take-over,
    /// or it begins or ends altogether.
    pub fn is_planned(&self) -> bool {
        self.from.is_some() && self.to.is_some() && !matches!(self.cause, Cause::NodeGone(_))
    }
}

/// What made a VIP move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The pool is new.
    PoolAdded(PoolName),
    /// The pool is gone.
    PoolRemoved(PoolName),
    /// The address is new in this pool.
    AddressAdded(PoolName),
    /// The pool no longer has the address.
    AddressRemoved(PoolName),
    /// The address went from one pool to another.
    PoolChanged(PoolName, PoolName),
    /// The owner is no longer declared.
    NodeRemoved(NodeName),
    /// The owner left or died.
    NodeGone(NodeName),
    /// The owner may no longer have it.
    Lost(NodeName, Reason),
    /// The owner offers the pool as spare only, and another in full.
    Spare(NodeName),
    /// The new owner is newly declared.
    NodeAdded(NodeName),
    /// The new owner came (back) into the view.
    NodeCame(NodeName),
    /// The new owner may have it now; this kept it from it before.
    Gained(NodeName, Reason),
    /// The new owner offers the pool in full again.
    NoLongerSpare(NodeName),
    /// `prefer` of the pool.
    PreferChanged(PoolName),
    /// `together` of the pool.
    TogetherChanged(PoolName, bool),
    /// `spec.placement` of the Cluster.
    PlacementChanged(PlacementMode),
    /// The weight of a node: from, to.
    WeightChanged(NodeName, u8, u8),
    /// The pool spreads over other nodes, which changed everybody's share.
    ShareChanged(PoolName),
    /// The pool's addresses changed, and with them how many each node has at most.
    CapChanged(PoolName),
    /// The new owner comes first for it already, and will have it in any case.
    Due(NodeName),
    /// Both could have it and nothing declared differs: an owner of a partition, a rename.
    OrderChanged(PoolName),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PoolAdded(pool) => write!(f, "pool {pool} added"),
            Self::PoolRemoved(pool) => write!(f, "pool {pool} removed"),
            Self::AddressAdded(pool) => write!(f, "address added to pool {pool}"),
            Self::AddressRemoved(pool) => write!(f, "address removed from pool {pool}"),
            Self::PoolChanged(from, to) => write!(f, "address went from pool {from} to pool {to}"),
            Self::NodeRemoved(node) => write!(f, "node {node} removed"),
            Self::NodeGone(node) => write!(f, "node {node} is not there"),
            Self::Lost(node, Reason::Cordoned) => write!(f, "node {node} cordoned"),
            Self::Lost(node, Reason::Witness) => write!(f, "weight of {node} is now 0"),
            Self::Lost(node, reason) => write!(f, "node {node}: {reason}"),
            Self::Spare(node) => write!(f, "node {node} is spare for the pool"),
            Self::NodeAdded(node) => write!(f, "node {node} added"),
            Self::NodeCame(node) => write!(f, "node {node} is there"),
            Self::Gained(node, Reason::Cordoned) => write!(f, "node {node} no longer cordoned"),
            Self::Gained(node, Reason::Witness) => write!(f, "weight of {node} is no longer 0"),
            Self::Gained(node, Reason::NotSelected { .. }) => write!(f, "node {node} is now selected"),
            Self::Gained(node, Reason::CheckFails(check)) => write!(f, "check {check} of {node} passes again"),
            Self::Gained(node, reason) => write!(f, "no longer on node {node}: {reason}"),
            Self::NoLongerSpare(node) => write!(f, "node {node} takes the pool back"),
            Self::PreferChanged(pool) => write!(f, "prefer of pool {pool} changed"),
            Self::TogetherChanged(pool, true) => write!(f, "pool {pool} is now placed together"),
            Self::TogetherChanged(pool, false) => write!(f, "pool {pool} is no longer placed together"),
            Self::PlacementChanged(PlacementMode::Balanced) => f.write_str("placement is now balanced"),
            Self::PlacementChanged(PlacementMode::Rendezvous) => f.write_str("placement is now rendezvous"),
            Self::WeightChanged(node, from, to) => write!(f, "weight of {node} changed from {from} to {to}"),
            Self::ShareChanged(pool) => write!(f, "pool {pool} spreads over other nodes, so each has another share"),
            Self::CapChanged(pool) => write!(f, "pool {pool} has other addresses, so each node has another cap"),
            Self::Due(node) => write!(f, "it is due to {node} already"),
            Self::OrderChanged(pool) => write!(f, "order of nodes changed in pool {pool}"),
        }
    }
}

/// Every VIP whose owner differs, and every VIP that begins or ends, in order of pool and address.
pub fn moves(before: State<'_>, after: State<'_>) -> Vec<Move> {
    let mut moves: Vec<Move> = Vec::new();
    for (index, ranked) in after.ranking.vips().iter().enumerate() {
        let (vip, pool) = (ranked.vip, &ranked.pool);
        let to = after.placement.owner(index);
        let old = before.ranking.index_of(vip);
        let from = old.and_then(|old| before.placement.owner(old));
        if from == to {
            continue;
        }
        let cause = match old {
            None if before.desired.pools.contains_key(pool) => Cause::AddressAdded(pool.clone()),
            None => Cause::PoolAdded(pool.clone()),
            Some(old) => changed_hands(before, after, &before.ranking.vips()[old].pool, pool, vip, from, to),
        };
        moves.push(Move { vip, pool: pool.clone(), from: from.cloned(), to: to.cloned(), cause });
    }
    for (index, ranked) in before.ranking.vips().iter().enumerate() {
        let Some(from) = before.placement.owner(index) else { continue };
        if after.ranking.index_of(ranked.vip).is_none() {
            let pool = ranked.pool.clone();
            let still = after.desired.pools.contains_key(&pool);
            let cause = if still { Cause::AddressRemoved(pool.clone()) } else { Cause::PoolRemoved(pool.clone()) };
            moves.push(Move { vip: ranked.vip, pool, from: Some(from.clone()), to: None, cause });
        }
    }
    moves.sort_by(|a, b| (&a.pool, a.vip).cmp(&(&b.pool, b.vip)));
    moves
}

fn changed_hands(
    before: State<'_>,
    after: State<'_>,
    old_pool: &PoolName,
    pool: &PoolName,
    vip: Vip,
    from: Option<&NodeName>,
    to: Option<&NodeName>,
) -> Cause {
    let may = |state: State<'_>, pool: &PoolName, node: &NodeName| {
        eligibility(state.desired, state.offers.get(node).map(Arc::as_ref), node, pool, vip)
    };
    let mut left = None;
    if let Some(node) = from {
        match may(after, pool, node) {
            Eligibility::No(_) if !after.desired.nodes.contains_key(node) => {
                return Cause::NodeRemoved(node.clone());
            }
            Eligibility::No(Reason::NotMember) => return Cause::NodeGone(node.clone()),
            Eligibility::No(reason) => return Cause::Lost(node.clone(), reason),
            Eligibility::Spare => left = Some(Cause::Spare(node.clone())),
            Eligibility::Eligible => {}
        }
    }
    if let Some(node) = to {
        match may(before, old_pool, node) {
            Eligibility::No(_) if !before.desired.nodes.contains_key(node) => return Cause::NodeAdded(node.clone()),
            Eligibility::No(Reason::NotMember | Reason::OffersNothing) => return Cause::NodeCame(node.clone()),
            Eligibility::No(reason) => return Cause::Gained(node.clone(), reason),
            Eligibility::Spare if left.is_none() => left = Some(Cause::NoLongerSpare(node.clone())),
            Eligibility::Spare | Eligibility::Eligible => {}
        }
    }
    if let Some(cause) = left {
        return cause;
    }
    if old_pool != pool {
        return Cause::PoolChanged(old_pool.clone(), pool.clone());
    }
    match (before.desired.pools.get(pool), after.desired.pools.get(pool)) {
        (Some(was), Some(is)) => order_changed(before.desired, after.desired, pool, was, is, [from, to]),
        _ => Cause::OrderChanged(pool.clone()),
    }
}

/// Both nodes could have it before and can after: which declaration put them in another order?
fn order_changed(
    before: &Desired,
    after: &Desired,
    pool: &PoolName,
    was: &Pool,
    is: &Pool,
    concerned: [Option<&NodeName>; 2],
) -> Cause {
    if was.prefer != is.prefer {
        return Cause::PreferChanged(pool.clone());
    }
    if was.together != is.together {
        return Cause::TogetherChanged(pool.clone(), is.together);
    }
    if before.cluster.placement != after.cluster.placement {
        return Cause::PlacementChanged(after.cluster.placement);
    }
    // A weight of the two concerned comes first: of both, the one that gives or takes more.
    let weight = |node: &NodeName| {
        let (was, is) = (before.nodes.get(node)?.weight, after.nodes.get(node)?.weight);
        (was != is).then(|| Cause::WeightChanged(node.clone(), was, is))
    };
    let candidates = |desired: &Desired, pool: &Pool| -> Vec<NodeName> {
        let able = desired.nodes.iter().filter(|(_, node)| node.weight > 0 && pool.selects(node));
        able.map(|(name, _)| name.clone()).collect()
    };
    let (could, can) = (candidates(before, was), candidates(after, is));
    if let Some(cause) = concerned.into_iter().flatten().find_map(weight) {
        return cause;
    }
    if could != can {
        return Cause::ShareChanged(pool.clone());
    }
    if let Some(cause) = can.iter().find_map(weight) {
        return cause;
    }
    if was.addresses != is.addresses { Cause::CapChanged(pool.clone()) } else { Cause::OrderChanged(pool.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::fixture::{Offers, cluster, everybody, pool};
    use crate::placement::place;

    fn lab() -> Desired {
        let mut desired = cluster(&["a", "b", "c", "w=0"]);
        desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", 24));
        desired.pools.insert("db".parse().unwrap(), pool("10.0.1.1", 6));
        desired
    }

    fn between(before: (&Desired, &Offers), after: (&Desired, &Offers)) -> Vec<Move> {
        let rankings = (Ranking::new(before.0), Ranking::new(after.0));
        let placements = (place(before.0, &rankings.0, before.1), place(after.0, &rankings.1, after.1));
        let before = State { desired: before.0, ranking: &rankings.0, offers: before.1, placement: &placements.0 };
        moves(before, State { desired: after.0, ranking: &rankings.1, offers: after.1, placement: &placements.1 })
    }

    /// The causes of what a change of the lab moves, each once, in order.
    fn causes(change: impl FnOnce(&mut Desired, &mut Offers)) -> Vec<String> {
        let before = lab();
        let mut after = lab();
        let mut offers = everybody(&before);
        change(&mut after, &mut offers);
        for (node, offer) in everybody(&after) {
            if !before.nodes.contains_key(&node) {
                offers.insert(node, offer);
            }
        }
        causes_of(&between((&before, &everybody(&before)), (&after, &offers)))
    }

    fn causes_of(moves: &[Move]) -> Vec<String> {
        let mut causes: Vec<String> = moves.iter().map(|m| m.cause.to_string()).collect();
        causes.sort();
        causes.dedup();
        causes
    }

    fn name(text: &str) -> NodeName {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_changed_moves_nothing() {
        assert_eq!(causes(|_, _| {}), [""; 0]);
    }

    #[test]
    fn every_move_names_the_change_that_made_it() {
        assert_eq!(causes(|_, offers| drop(offers.remove("b"))), ["node b is not there"]);
        assert_eq!(causes(|after, _| after.nodes.get_mut("b").unwrap().cordon = true), ["node b cordoned"]);
        assert_eq!(causes(|after, _| drop(after.pools.remove("db"))), ["pool db removed"]);
        assert_eq!(
            causes(|after, _| drop(after.pools.insert("mail".parse().unwrap(), pool("10.0.2.1", 3)))),
            ["pool mail added"]
        );
        assert_eq!(
            causes(|after, _| after.pools.get_mut("web").unwrap().prefer = vec![name("c")]),
            ["prefer of pool web changed"]
        );
        assert_eq!(
            causes(|after, _| after.pools.get_mut("web").unwrap().together = true),
            ["pool web is now placed together"]
        );
        assert_eq!(
            causes(|after, _| after.pools.get_mut("db").unwrap().addresses.truncate(5)),
            ["address removed from pool db"]
        );
        assert_eq!(
            causes(|after, offers| {
                let offer = Arc::make_mut(offers.get_mut("b").unwrap());
                offer.failing.insert("https".parse().unwrap());
                after.pools.get_mut("web").unwrap().health = vec!["https".parse().unwrap()];
            }),
            ["node b: check https fails"]
        );
        assert_eq!(
            causes(|_, offers| {
                Arc::make_mut(offers.get_mut("b").unwrap()).spare.insert("web".parse().unwrap());
            }),
            ["node b is spare for the pool"]
        );
        assert_eq!(
            causes(|after, _| {
                after.pools.get_mut("db").unwrap().selector.insert("rack".into(), "r1".into());
                after.nodes.get_mut("a").unwrap().labels.insert("rack".into(), "r1".into());
            }),
            ["node b: not selected: label rack=r1 wanted", "node c: not selected: label rack=r1 wanted"]
        );
    }

    #[test]
    fn what_comes_with_a_node_or_its_weight_names_the_node() {
        let removed = causes(|after, offers| {
            after.nodes.remove("b");
            offers.remove("b");
        });
        assert!(removed.contains(&"node b removed".to_owned()), "{removed:?}");
        let added = causes(|after, _| {
            let node = after.nodes["a"].clone();
            after.nodes.insert(name("d"), node);
        });
        assert!(added.contains(&"node d added".to_owned()), "{added:?}");
        let heavier = causes(|after, _| after.nodes.get_mut("a").unwrap().weight = 3);
        assert!(heavier.contains(&"weight of a changed from 1 to 3".to_owned()), "{heavier:?}");
        let witness = causes(|after, _| after.nodes.get_mut("a").unwrap().weight = 0);
        assert!(witness.contains(&"weight of a is now 0".to_owned()), "{witness:?}");
        let no_witness = causes(|after, _| after.nodes.get_mut("w").unwrap().weight = 1);
        assert!(no_witness.contains(&"weight of w is no longer 0".to_owned()), "{no_witness:?}");
    }

    #[test]
    fn what_comes_back_says_what_had_kept_it_away() {
        let desired = lab();
        let mut without = everybody(&desired);
        without.remove("b");
        let back = between((&desired, &without), (&desired, &everybody(&desired)));
        assert_eq!(causes_of(&back), ["node b is there"]);
        assert!(back.iter().all(Move::is_planned));
        let gone = between((&desired, &everybody(&desired)), (&desired, &without));
        assert!(!gone.is_empty() && !gone.iter().any(Move::is_planned));

        let mut cordoned = lab();
        cordoned.nodes.get_mut("b").unwrap().cordon = true;
        let moves = between((&cordoned, &everybody(&cordoned)), (&desired, &everybody(&desired)));
        assert_eq!(causes_of(&moves), ["node b no longer cordoned"]);
    }

    #[test]
    fn a_renamed_pool_moves_nothing() {
        let before = lab();
        let mut after = lab();
        let web = after.pools.remove("web").unwrap();
        after.pools.insert("www".parse().unwrap(), web);
        assert_eq!(between((&before, &everybody(&before)), (&after, &everybody(&after))), []);
    }

    #[test]
    fn moves_are_in_order_of_pool_and_address() {
        let desired = lab();
        let nobody = Offers::new();
        let moves = between((&desired, &everybody(&desired)), (&desired, &nobody));
        let listed: Vec<(PoolName, Vip)> = moves.iter().map(|m| (m.pool.clone(), m.vip)).collect();
        let mut sorted = listed.clone();
        sorted.sort();
        assert_eq!(listed, sorted);
        assert_eq!(listed.len(), 30);
        assert!(moves.iter().all(|m| m.to.is_none()));
    }
}
