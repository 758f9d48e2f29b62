//! Owner and backups of each VIP in a view.
//!
//! In: `Desired`, [`Ranking`], the members' offers. Out: [`Placement`].
//! Not here: the order and the base (`ranking`), who may have what (`eligibility`).
//!
//! The owner is the first of a VIP's succession (base owner, then by rank, no cap) that offers it in
//! full, else the first that offers it as spare. So whoever goes takes only its own VIPs along, and
//! gets the same ones back.
//!
//! A pool with `together: true` has one owner: the first that offers all its addresses. Where nobody
//! can carry them all (a stranger holds one of them, say), it is who can carry the most: spare only
//! if that makes more, of equals the first of the succession. What that owner cannot carry has no
//! owner: served in part is better than not at all, and in two places is what the user ruled out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::manifest::desired::{Desired, Pool};
use crate::name::NodeName;
use crate::placement::eligibility::{carries, standing};
use crate::placement::offer::Offer;
use crate::placement::ranking::{NOBODY, RankedPool, Ranking};

/// The owner and so many backups are worked out.
const SLOTS: usize = 3;

/// Who has each VIP of a ranking, and who is next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    nodes: Arc<[NodeName]>,
    slots: Vec<[u16; SLOTS]>,
}

impl Placement {
    /// The owner of a VIP by its index in the ranking; nobody, if no member can have it.
    pub fn owner(&self, vip: usize) -> Option<&NodeName> {
        self.nodes.get(usize::from(self.slots.get(vip)?[0]))
    }

    /// The owner as an index of `Ranking::nodes`.
    pub fn owner_index(&self, vip: usize) -> Option<u16> {
        self.slots.get(vip).map(|slots| slots[0]).filter(|owner| *owner != NOBODY)
    }

    /// The next two, in this order, as far as there are any.
    pub fn backups(&self, vip: usize) -> impl Iterator<Item = &NodeName> {
        let slots = self.slots.get(vip).map_or(&[][..], |slots| &slots[1..]);
        slots.iter().filter_map(|node| self.nodes.get(usize::from(*node)))
    }

    /// The same with `node` as the owner of a VIP, who goes before all others: what `suspend` makes of
    /// a placement. A plan applies it; in a cluster the nodes' offers do.
    pub fn keep(&mut self, vip: usize, node: &NodeName) {
        let found = self.nodes.binary_search(node).ok().map(|node| node as u16);
        if let (Some(node), Some(slots)) = (found, self.slots.get_mut(vip)) {
            let at = slots.iter().position(|slot| *slot == node).unwrap_or(SLOTS - 1);
            slots[..=at].rotate_right(1);
            slots[0] = node;
        }
    }

    /// The same with nobody as the owner of a VIP: what a plan makes of one that is served by no node.
    pub fn vacate(&mut self, vip: usize) {
        if let Some(slots) = self.slots.get_mut(vip) {
            slots.rotate_right(1);
            slots[0] = NOBODY;
        }
    }

    /// How many VIPs there are, owned or not.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Is there no VIP at all?
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// What a node offers of a pool: the offer, and whether as spare.
type Standing<'a> = Option<(&'a Offer, bool)>;

/// Places every VIP of `ranking`, which was made from `desired`, on the members that `offers` names.
pub fn place(desired: &Desired, ranking: &Ranking, offers: &BTreeMap<NodeName, Arc<Offer>>) -> Placement {
    let mut slots = vec![[NOBODY; SLOTS]; ranking.vips().len()];
    let offers: Vec<Option<&Offer>> = ranking.nodes().iter().map(|node| offers.get(node).map(Arc::as_ref)).collect();
    for ranked in ranking.pools() {
        let Some(pool) = desired.pools.get(&ranked.name) else { continue };
        let standings: Vec<Standing> = desired
            .nodes
            .values()
            .zip(&offers)
            .map(|(node, offer)| standing(node, pool, &ranked.name, *offer).ok())
            .collect();
        if ranked.together {
            place_together(pool, ranked, ranking, &standings, &mut slots);
        } else {
            for vip in ranked.vips.clone() {
                slots[vip] = place_one(pool, ranking, vip, &standings);
            }
        }
    }
    Placement { nodes: ranking.shared_nodes(), slots }
}

fn place_one(pool: &Pool, ranking: &Ranking, vip: usize, standings: &[Standing]) -> [u16; SLOTS] {
    let (mut full, mut spare) = (Slots::default(), Slots::default());
    let address = ranking.vips()[vip].vip;
    for node in ranking.succession(vip) {
        let Some((offer, is_spare)) = standings.get(usize::from(node)).copied().flatten() else { continue };
        let slots = if is_spare { &mut spare } else { &mut full };
        if slots.free() && carries(pool, offer, address).is_ok() {
            slots.push(node);
        }
        if !full.free() {
            break;
        }
    }
    spare.nodes.into_iter().for_each(|node| full.push(node));
    full.nodes
}

fn place_together(
    pool: &Pool,
    ranked: &RankedPool,
    ranking: &Ranking,
    standings: &[Standing],
    slots: &mut [[u16; SLOTS]],
) {
    // (addresses that it lacks, spare, place in the succession, node): ascending is the order wanted.
    let mut able: Vec<(usize, bool, usize, u16)> = Vec::new();
    let mut complete = 0;
    for (at, node) in ranking.succession(ranked.vips.start).enumerate() {
        let Some((offer, spare)) = standings.get(usize::from(node)).copied().flatten() else { continue };
        let lacks = pool.addresses.iter().filter(|vip| carries(pool, offer, **vip).is_err()).count();
        if lacks < pool.addresses.len() {
            able.push((lacks, spare, at, node));
        }
        complete += usize::from(lacks == 0 && !spare);
        if complete == SLOTS {
            break;
        }
    }
    able.sort_unstable();
    let carries = |node: u16, vip: usize| {
        let offer = standings.get(usize::from(node)).copied().flatten();
        offer.is_some_and(|(offer, _)| carries(pool, offer, ranking.vips()[vip].vip).is_ok())
    };
    for vip in ranked.vips.clone() {
        let mut line = able.iter().take(SLOTS).map(|(lacks, _, _, node)| (*lacks == 0 || carries(*node, vip), *node));
        if let Some((can, owner)) = line.next() {
            slots[vip][0] = if can { owner } else { NOBODY };
        }
        let backups = line.filter(|(can, _)| *can).map(|(_, node)| node);
        slots[vip][1..].iter_mut().zip(backups).for_each(|(slot, node)| *slot = node);
    }
}

/// The first few nodes found.
struct Slots {
    nodes: [u16; SLOTS],
    used: usize,
}

impl Default for Slots {
    fn default() -> Self {
        Self { nodes: [NOBODY; SLOTS], used: 0 }
    }
}

impl Slots {
    fn free(&self) -> bool {
        self.used < SLOTS
    }

    fn push(&mut self, node: u16) {
        if node != NOBODY && self.free() {
            self.nodes[self.used] = node;
            self.used += 1;
        }
    }
}
