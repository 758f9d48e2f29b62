//! What this node offers: its own knowledge of itself, and how long it holds back.
//!
//! In: interfaces, checks, refusals, who else offers what. Out: an [`Offer`].
//! Not here: that it is empty without a lease or while draining (`membership`), what follows (`placement`).
//!
//! An interface that loses its link is offered for a moment longer, as it was: one that only blinks (a switch that
//! renegotiates, somebody's `ip link set down` and `up`) is back before its VIPs could be elsewhere, and they stay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{Limits, LocalInterface};
use super::generation::Generation;
use crate::manifest::desired::{Failback, Pool};
use crate::name::{CheckName, InterfaceName, NodeName, PoolName};
use crate::placement::interface_for;
use crate::placement::offer::Offer;
use crate::time::Instant;
use crate::vip::Vip;

/// A pool is given back to a node at most once in this time. A death before, one after: three moves a VIP, and no more
/// (design.md, Damping), however often the node comes and goes.
pub(super) const DAMPING: Duration = Duration::from_secs(180);

/// Who takes back a pool that all let go of waits so long for each who comes before it.
const TURN: Duration = Duration::from_millis(300);

/// What the node knows of itself.
#[derive(Debug, Default)]
pub(super) struct Own {
    interfaces: BTreeMap<InterfaceName, LocalInterface>,
    /// Interfaces that lost their link: until when, and how, they are offered all the same.
    blinking: BTreeMap<InterfaceName, (Instant, LocalInterface)>,
    pub failing: BTreeSet<CheckName>,
    /// VIPs that stand on this host and are not ours.
    pub foreign: BTreeSet<Vip>,
    /// VIPs that the kernel refused, why, and when to try again.
    pub refused: BTreeMap<Vip, (String, Instant)>,
    /// VIPs of the newest generation that may not stand here, and why.
    pub forbidden: BTreeMap<Vip, String>,
    /// Interfaces that are not offered, as too many VIPs would be refused there, and how many.
    pub withheld: BTreeMap<InterfaceName, usize>,
    /// Since when it could carry each pool; gone as soon as it cannot.
    able_since: BTreeMap<PoolName, Instant>,
    /// Pools that were given back to this node lately, and until when each is not to be again; it outlives the daemon.
    damped: BTreeMap<PoolName, Instant>,
    damped_changed: bool,
    /// Pools offered in full: no history makes them spare again while the node stays able.
    given_in_full: BTreeSet<PoolName>,
    /// Pools whose checks fail here and that are offered all the same, as nobody else could have them.
    kept: BTreeSet<PoolName>,
    /// Pools that nobody owns, and since when.
    ownerless: BTreeMap<PoolName, Instant>,
}

/// What a record says first where a pool stays at its last owner: the reason is read from it.
pub(super) const KEPT: &str = "all checks fail everywhere";

/// What the accepted view says of others.
pub(super) struct Others<'a> {
    /// Pools of which others own something.
    pub owning: &'a BTreeSet<PoolName>,
    /// Pools of which this node owns something.
    pub mine: &'a BTreeSet<PoolName>,
    /// Pools of which it was an owner in this life.
    pub owned: &'a BTreeSet<PoolName>,
    /// Pools that a check of this node's fails for, and that somebody else could have.
    pub able: &'a BTreeSet<PoolName>,
    /// So many members come before this one, by their names.
    pub rank: u32,
    /// Nobody holds anything yet: nobody is spare then.
    pub opening: bool,
    /// What is offered counts: there is a lease, and this node does not drain. Without one, what others hold may not even
    /// be known, and nothing is given back; so nothing is decided for good.
    pub counts: bool,
}

impl Own {
    /// The interfaces as they are now. One that was usable and is not is believed in for `patience`.
    pub fn set_interfaces(
        &mut self,
        now: Instant,
        interfaces: BTreeMap<InterfaceName, LocalInterface>,
        patience: Duration,
    ) {
        // Gone, or back: no reason to wait.
        self.blinking.retain(|name, _| interfaces.get(name).is_some_and(|interface| !interface.usable));
        for (name, was) in std::mem::take(&mut self.interfaces) {
            if was.usable && interfaces.get(&name).is_some_and(|interface| !interface.usable) {
                self.blinking.insert(name, (now + patience, was));
            }
        }
        self.interfaces = interfaces;
    }

    /// The interfaces as they are now.
    pub const fn interfaces(&self) -> &BTreeMap<InterfaceName, LocalInterface> {
        &self.interfaces
    }

    /// Their hardware addresses, ascending.
    pub fn macs(&self) -> Vec<[u8; 6]> {
        let macs: BTreeSet<[u8; 6]> = self.interfaces.values().map(|interface| interface.mac).collect();
        macs.into_iter().collect()
    }

    /// The offer as of `now`, and when it changes by itself.
    pub fn offer(
        &mut self,
        now: Instant,
        generation: &Generation,
        me: &NodeName,
        others: &Others<'_>,
    ) -> (Offer, Instant) {
        let mut next = Instant::NEVER;
        self.blinking.retain(|_, (until, _)| now < *until);
        let believed = self.blinking.iter().map(|(name, (until, interface))| {
            next = next.min(*until);
            (name, interface)
        });
        let usable = self.interfaces.iter().filter(|(_, interface)| interface.usable).chain(believed);
        let usable = usable.filter(|(_, interface)| !interface.subnets.is_empty());
        let interfaces: BTreeMap<_, _> =
            usable.map(|(name, interface)| (name.clone(), interface.subnets.clone())).collect();
        for (_, retry) in self.refused.values() {
            next = next.min(*retry);
        }
        self.refused.retain(|_, (_, retry)| *retry > now);
        let refused = self.refused.keys().chain(&self.foreign).chain(self.forbidden.keys()).copied();
        let mut offer = Offer {
            interfaces,
            refused: refused.filter(|vip| generation.declares(*vip)).collect(),
            ..Offer::default()
        };
        self.withheld = withhold(&mut offer, generation);
        let selected =
            |pool: &Pool| generation.desired.nodes.get(me).is_some_and(|node| pool.selects(node) && !node.cordon);
        self.kept.clear();
        for (name, pool) in &generation.desired.pools {
            let failing: Vec<_> = pool.health.iter().filter(|check| self.failing.contains(*check)).collect();
            let keeps = !failing.is_empty() && self.keeps(now, name, others, &mut next);
            if keeps {
                self.kept.insert(name.clone());
            } else {
                offer.failing.extend(failing.iter().map(|check| (*check).clone()));
            }
            let able = !offer.interfaces.is_empty() && selected(pool) && (failing.is_empty() || keeps);
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
            let back = !others.opening && others.owning.contains(name);
            // Only giving back is damped: what nobody else has is taken at once.
            let until = self.damped.get(name).map_or(until, |calm| until.max(*calm));
            if back && now < until {
                offer.spare.insert(name.clone());
                next = next.min(until);
            } else if others.counts {
                self.given_in_full.insert(name.clone());
                if back {
                    self.damped.insert(name.clone(), now + DAMPING);
                    self.damped_changed = true;
                }
            }
        }
        self.able_since.retain(|name, _| generation.desired.pools.contains_key(name));
        self.given_in_full.retain(|name| generation.desired.pools.contains_key(name));
        (offer, next)
    }

    /// Where all checks fail everywhere, the last owner keeps the pool. Where owners found at the same moment that theirs
    /// fail, each let go of it, as the others seemed well: of all who had it, the first by name takes it back.
    fn keeps(&mut self, now: Instant, pool: &PoolName, others: &Others<'_>, next: &mut Instant) -> bool {
        if others.mine.contains(pool) || others.owning.contains(pool) {
            self.ownerless.remove(pool);
        }
        if others.able.contains(pool) {
            return false;
        }
        if others.mine.contains(pool) {
            return true;
        }
        if others.owning.contains(pool) || !others.owned.contains(pool) {
            return false;
        }
        let turn = *self.ownerless.entry(pool.clone()).or_insert(now) + TURN * others.rank;
        *next = (*next).min(if now < turn { turn } else { Instant::NEVER });
        now >= turn
    }

    /// Pools whose checks this node's own fail for.
    pub fn failing_pools<'a>(&self, generation: &'a Generation) -> impl Iterator<Item = &'a PoolName> {
        let pools = generation.desired.pools.iter();
        pools.filter(|(_, pool)| pool.health.iter().any(|check| self.failing.contains(check))).map(|(name, _)| name)
    }

    /// Pools that stay here though their checks fail, in words.
    pub fn tells_kept(&self) -> Option<String> {
        let names: Vec<&str> = self.kept.iter().map(PoolName::as_str).collect();
        (!names.is_empty()).then(|| format!("{KEPT}: {} stays at its last owner", names.join(", ")))
    }

    /// What may not stand here of a generation.
    pub fn forbid(&mut self, limits: &Limits, generation: &Generation) {
        let vips = generation.ranking.vips().iter().map(|ranked| ranked.vip);
        self.forbidden = vips.filter_map(|vip| Some((vip, limits.forbids(vip)?))).collect();
    }

    /// Interfaces that are not offered because of that, in words.
    pub fn tells_withheld(&self) -> Option<String> {
        let tell = |(name, count): (&InterfaceName, &usize)| format!("{name} ({count} VIPs)");
        let all: Vec<String> = self.withheld.iter().map(tell).collect();
        let why = self.forbidden.values().next().map_or("somebody else has them", String::as_str);
        (!all.is_empty()).then(|| {
            format!(
                "not offered, as too many VIPs there may not stand on this node: {}; of the first: {why}",
                all.join(", ")
            )
        })
    }

    /// Until when each pool is not to be given back again, if that changed.
    pub fn take_damped(&mut self, now: Instant) -> Option<BTreeMap<PoolName, Instant>> {
        if !std::mem::take(&mut self.damped_changed) {
            return None;
        }
        self.damped.retain(|_, until| now < *until);
        Some(self.damped.clone())
    }

    /// What an earlier life of this daemon kept. A clock that was set meanwhile does not make it longer than it ever is.
    pub fn set_damped(&mut self, now: Instant, damped: BTreeMap<PoolName, Instant>) {
        let most = now + DAMPING;
        self.damped = damped.into_iter().map(|(pool, until)| (pool, until.min(most))).collect();
    }

    /// A person does not want to wait.
    pub fn forgive(&mut self) {
        self.damped_changed |= !self.damped.is_empty();
        self.damped.clear();
    }

    /// A life ended: what was offered in full is to be earned again.
    pub fn begin_anew(&mut self) {
        self.able_since.clear();
        self.given_in_full.clear();
    }
}

/// Keeps an offer small enough for a heartbeat: where it refuses too many VIPs one by one, it leaves the interface out
/// that most of them are on, and says so.
fn withhold(offer: &mut Offer, generation: &Generation) -> BTreeMap<InterfaceName, usize> {
    let mut withheld = BTreeMap::new();
    while is_too_long(&offer.refused) {
        let mut counts: BTreeMap<InterfaceName, usize> = BTreeMap::new();
        let mut pointless = Vec::new();
        for vip in &offer.refused {
            let ranked = generation.ranking.index_of(*vip).map(|index| &generation.ranking.vips()[index]);
            let pool = ranked.and_then(|ranked| generation.desired.pools.get(&ranked.pool));
            match pool.and_then(|pool| interface_for(pool, offer, *vip)) {
                Some(interface) => *counts.entry(interface.clone()).or_default() += 1,
                // It could not stand here anyway.
                None => pointless.push(*vip),
            }
        }
        pointless.iter().for_each(|vip| {
            offer.refused.remove(vip);
        });
        if !is_too_long(&offer.refused) {
            break;
        }
        let Some((interface, count)) = counts.into_iter().max_by_key(|(_, count)| *count) else { break };
        offer.interfaces.remove(&interface);
        withheld.insert(interface, count);
    }
    withheld
}

/// Does a list of refused VIPs take more than its share of an offer's 1 KiB (protocol.md, Offer)?
fn is_too_long(refused: &BTreeSet<Vip>) -> bool {
    const MOST: usize = 64;
    const BYTES: usize = 800;
    // A tag, and the address.
    let bytes: usize = refused.iter().map(|vip| if vip.is_ipv4() { 6 } else { 18 }).sum();
    refused.len() > MOST || bytes > BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::manifest::{SourceFile, load};

    fn generation(addresses: &str) -> Generation {
        let text = format!(
            "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {{name: lab}}\n---\napiVersion: rendezvip/v1\n\
             kind: Node\nmetadata: {{name: edge-a}}\nspec: {{address: \"10.99.0.10:7847\"}}\n---\n\
             apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: web}}\nspec: {{addresses: [{addresses}]}}\n"
        );
        let loaded = load(&[SourceFile { path: "all.yaml".to_owned(), text: text.into_bytes() }]);
        Generation::new(Arc::new(loaded.desired.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))), String::new())
    }

    fn eth(up: bool) -> BTreeMap<InterfaceName, LocalInterface> {
        let interface = |subnet: &str, usable: bool| LocalInterface {
            usable,
            subnets: [subnet.parse().unwrap()].into(),
            ..LocalInterface::default()
        };
        let name = |name: &str| InterfaceName::new(name).unwrap();
        [(name("eth0"), interface("10.99.0.0/16", up)), (name("eth1"), interface("10.98.0.0/16", true))].into()
    }

    fn offer_at(own: &mut Own, now: Instant, generation: &Generation) -> (Offer, Instant) {
        let others = Others { opening: true, ..others(&NONE) };
        own.offer(now, generation, &NodeName::new("edge-a").unwrap(), &others)
    }

    static NONE: BTreeSet<PoolName> = BTreeSet::new();

    fn others(owning: &BTreeSet<PoolName>) -> Others<'_> {
        Others { owning, mine: &NONE, owned: &NONE, able: &NONE, rank: 0, opening: false, counts: true }
    }

    fn offer(addresses: &str, limits: &Limits) -> (Offer, BTreeMap<InterfaceName, usize>) {
        let generation = generation(addresses);
        let mut own = Own { interfaces: eth(true), ..Own::default() };
        own.forbid(limits, &generation);
        let offer = offer_at(&mut own, Instant::ZERO, &generation).0;
        (offer, own.withheld)
    }

    #[test]
    fn an_interface_that_blinks_is_offered_all_the_time_and_one_that_stays_down_is_not() {
        let generation = generation("10.99.0.1");
        let at = |millis: u64| Instant::from_micros(millis * 1_000);
        let patience = Duration::from_millis(100);
        let mut own = Own::default();
        let offered = |own: &mut Own, now| {
            let (offer, next) = offer_at(own, now, &generation);
            (offer.interfaces.len(), next)
        };
        own.set_interfaces(at(0), eth(false), patience);
        assert_eq!(offered(&mut own, at(0)), (1, Instant::NEVER), "never seen up, never believed in");
        own.set_interfaces(at(1_000), eth(true), patience);
        own.set_interfaces(at(2_000), eth(false), patience);
        assert_eq!(offered(&mut own, at(2_000)), (2, at(2_100)));
        // Something else about it changed: that is no reason to wait for longer.
        own.set_interfaces(at(2_050), eth(false), patience);
        assert_eq!(offered(&mut own, at(2_050)), (2, at(2_100)));
        own.set_interfaces(at(2_060), eth(true), patience);
        assert_eq!(offered(&mut own, at(2_100)), (2, Instant::NEVER));
        own.set_interfaces(at(3_000), eth(false), patience);
        assert_eq!(offered(&mut own, at(3_100)), (1, Instant::NEVER));
        own.set_interfaces(at(4_000), eth(true), patience);
        own.set_interfaces(at(5_000), BTreeMap::new(), patience);
        assert_eq!(offered(&mut own, at(5_000)), (0, Instant::NEVER), "one that is gone does not blink");
    }

    #[test]
    fn a_pool_is_given_back_once_in_three_minutes_and_taken_over_at_any_time() {
        let (generation, me) = (generation("10.99.0.1"), NodeName::new("edge-a").unwrap());
        let web = PoolName::new("web").unwrap();
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let mut own = Own { interfaces: eth(true), ..Own::default() };
        let spare = |own: &mut Own, now: Instant, owned: bool| {
            let owning = owned.then(|| web.clone()).into_iter().collect();
            let (offer, next) = own.offer(now, &generation, &me, &others(&owning));
            offer.spare.contains(&web).then_some(next)
        };
        // The default failback of 10 s, then it is given back.
        assert_eq!(spare(&mut own, at(1_000), true), Some(at(1_010)));
        assert_eq!(own.take_damped(at(1_000)), None);
        assert_eq!(spare(&mut own, at(1_010), true), None);
        let kept = own.take_damped(at(1_010)).unwrap();
        assert_eq!(kept, [(web.clone(), at(1_190))].into());
        // It dies and comes back: another daemon, the same disk.
        let mut own = Own { interfaces: eth(true), ..Own::default() };
        own.set_damped(at(1_015), kept);
        assert_eq!(spare(&mut own, at(1_020), true), Some(at(1_190)));
        assert_eq!(spare(&mut own, at(1_100), true), Some(at(1_190)));
        assert_eq!(spare(&mut own, at(1_190), true), None);
        // Whoever else had it is gone: no history delays that.
        own.begin_anew();
        assert_eq!(spare(&mut own, at(1_200), true), Some(at(1_370)));
        assert_eq!(spare(&mut own, at(1_201), false), None);
        // A person does not want to wait.
        own.begin_anew();
        own.forgive();
        assert_eq!(spare(&mut own, at(1_202), true), Some(at(1_212)));
        assert_eq!(spare(&mut own, at(1_212), true), None);
    }

    #[test]
    fn a_node_whose_offer_does_not_count_decides_nothing_for_good() {
        let (generation, me) = (generation("10.99.0.1"), NodeName::new("edge-a").unwrap());
        let web = PoolName::new("web").unwrap();
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        let mut own = Own { interfaces: eth(true), ..Own::default() };
        let (nobody, somebody) = (&NONE, BTreeSet::from([web.clone()]));
        let spare = |own: &mut Own, now: Instant, owning: &BTreeSet<PoolName>, counts: bool| {
            let others = Others { counts, ..others(owning) };
            own.offer(now, &generation, &me, &others).0.spare.contains(&web)
        };
        // It has just booted, and knows of no view.
        assert!(!spare(&mut own, at(0), nobody, false));
        assert!(spare(&mut own, at(1), &somebody, true), "others hold it: it waits for `failback`");
        // It drains, or is behind: what it could have is not given to it.
        assert!(!spare(&mut own, at(100), &somebody, false));
        assert_eq!(own.take_damped(at(100)), None);
        assert!(!spare(&mut own, at(101), &somebody, true));
        assert_eq!(own.take_damped(at(101)), Some([(web.clone(), at(281))].into()));
    }

    #[test]
    fn a_gateway_and_what_is_outside_the_allowed_prefixes_are_refused_and_nothing_else() {
        let limits = Limits {
            prefixes: Some(vec!["10.99.0.0/24".parse().unwrap()]),
            reserved: [("10.99.0.1".parse().unwrap(), "the gateway".to_owned())].into(),
        };
        let (offer, withheld) = offer("10.99.0.1-10.99.0.3, 10.99.1.7", &limits);
        let refused: Vec<String> = offer.refused.iter().map(ToString::to_string).collect();
        assert_eq!((refused.join(" ").as_str(), offer.interfaces.len(), withheld.len()), ("10.99.0.1 10.99.1.7", 2, 0));
    }

    #[test]
    fn an_interface_on_which_too_many_would_be_refused_is_not_offered_and_the_offer_stays_small() {
        let limits = Limits { prefixes: Some(vec!["10.98.0.0/16".parse().unwrap()]), ..Limits::default() };
        let (offer, withheld) = offer("10.99.1.0-10.99.1.199, 10.98.0.7", &limits);
        let withheld: Vec<(&str, usize)> = withheld.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(withheld, [("eth0", 200)]);
        assert_eq!(offer.interfaces.keys().map(InterfaceName::as_str).collect::<Vec<_>>(), ["eth1"]);
        assert!(postcard::to_allocvec(&offer).unwrap().len() < 1024);
    }
}
