//! What this node offers: its own knowledge of itself, and how long it holds back.
//!
//! In: interfaces, checks, refusals, who else offers what. Out: an [`Offer`].
//! Not here: that it is empty without a lease or while draining (`membership`), what follows (`placement`).

use std::collections::{BTreeMap, BTreeSet};

use super::event::LocalInterface;
use super::generation::Generation;
use crate::manifest::desired::{Failback, Pool};
use crate::name::{CheckName, InterfaceName, NodeName, PoolName};
use crate::placement::offer::Offer;
use crate::time::Instant;
use crate::vip::Vip;

/// What the node knows of itself.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub interfaces: BTreeMap<InterfaceName, LocalInterface>,
    pub failing: BTreeSet<CheckName>,
    /// VIPs that stand on this host and are not ours.
    pub foreign: BTreeSet<Vip>,
    /// VIPs that the kernel refused, why, and when to try again.
    pub refused: BTreeMap<Vip, (String, Instant)>,
    /// Since when it could carry each pool; gone as soon as it cannot.
    able_since: BTreeMap<PoolName, Instant>,
    /// Pools offered in full: no history makes them spare again while the node stays able.
    given_in_full: BTreeSet<PoolName>,
}

/// What the accepted view says of others.
pub(super) struct Others<'a> {
    /// Pools of which others own something, with all their checks passing.
    pub owning: &'a BTreeSet<PoolName>,
    /// Pools of which this node owns something.
    pub mine: &'a BTreeSet<PoolName>,
    /// Nobody holds anything yet: nobody is spare then.
    pub opening: bool,
}

impl Own {
    /// The offer as of `now`, and when it changes by itself.
    pub fn offer(
        &mut self,
        now: Instant,
        generation: &Generation,
        me: &NodeName,
        others: &Others<'_>,
    ) -> (Offer, Instant) {
        let mut next = Instant::NEVER;
        let usable = self.interfaces.iter().filter(|(_, interface)| interface.usable && !interface.subnets.is_empty());
        let interfaces: BTreeMap<_, _> =
            usable.map(|(name, interface)| (name.clone(), interface.subnets.clone())).collect();
        for (_, retry) in self.refused.values() {
            next = next.min(*retry);
        }
        self.refused.retain(|_, (_, retry)| *retry > now);
        let refused = self.refused.keys().copied().chain(self.foreign.iter().copied());
        let mut offer = Offer {
            interfaces,
            refused: refused.filter(|vip| generation.declares(*vip)).collect(),
            ..Offer::default()
        };
        let selected =
            |pool: &Pool| generation.desired.nodes.get(me).is_some_and(|node| pool.selects(node) && !node.cordon);
        for (name, pool) in &generation.desired.pools {
            let failing: Vec<_> = pool.health.iter().filter(|check| self.failing.contains(*check)).collect();
            // Where all fail everywhere, the last owner keeps the VIP.
            let alone = others.mine.contains(name) && !others.owning.contains(name);
            if !alone {
                offer.failing.extend(failing.iter().map(|check| (*check).clone()));
            }
            let able = !offer.interfaces.is_empty() && selected(pool) && (failing.is_empty() || alone);
            if !able {
                self.able_since.remove(name);
                self.given_in_full.remove(name);
                continue;
            }
            let since = *self.able_since.entry(name.clone()).or_insert(now);
            if self.given_in_full.contains(name) {
                continue;
            }
            let until = match pool.failback {
                _ if pool.suspend => Instant::NEVER,
                Failback::After(after) => since + after,
                Failback::Manual => Instant::NEVER,
            };
            if others.opening || !others.owning.contains(name) || now >= until {
                self.given_in_full.insert(name.clone());
            } else {
                offer.spare.insert(name.clone());
                next = next.min(until);
            }
        }
        self.able_since.retain(|name, _| generation.desired.pools.contains_key(name));
        self.given_in_full.retain(|name| generation.desired.pools.contains_key(name));
        (offer, next)
    }

    /// A life ended: what was offered in full is to be earned again.
    pub fn begin_anew(&mut self) {
        self.able_since.clear();
        self.given_in_full.clear();
    }
}
