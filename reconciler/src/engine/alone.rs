//! Pools of `partition: available`: what this node serves while it has no view, and how it gives that back.
//!
//! In: whether this node is alone, and with whom (`membership`). Out: VIPs started and stopped, and the end of a lease that
//! the node gives itself for them. Not here: VIPs of strict pools, which nothing in this file can start.
//!
//! What is served alone is held like anything else, so that going over to a view moves nothing: the kernel asks for the
//! lease of a view, or, of these VIPs only, for the one that the node gave itself. That one ends within L as well, so that a
//! daemon that hangs falls silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::action::{Action, Note, Started};
use super::generation::Generation;
use super::{Engine, Held};
use crate::digest::Digest;
use crate::manifest::desired::{Partition, Pool};
use crate::membership::view::View;
use crate::name::{NodeName, PoolName};
use crate::placement::{Placement, interface_for, place};
use crate::time::Instant;
use crate::vip::Vip;

/// What this node serves alone.
#[derive(Debug, Default)]
pub(super) struct Alone {
    /// VIPs that may be: of the newest generation's `available` pools, but for those that the one in force has strict.
    allowed: Arc<BTreeSet<Vip>>,
    /// Held, and by no view.
    held: Arc<BTreeSet<Vip>>,
    /// The end of the lease that the kernel was told.
    until: Option<Instant>,
    /// By whom and what owners were worked out last, and who they are.
    by: Option<By>,
    /// Since when it is alone no more and still holds something, until a view names owners.
    ending_since: Option<Instant>,
}

/// Owners among those who are alone and hear one another.
#[derive(Debug)]
pub(super) struct By {
    offers: BTreeMap<NodeName, Digest>,
    allowed: Arc<BTreeSet<Vip>>,
    generation: Arc<Generation>,
    placement: Arc<Placement>,
    wanted: BTreeMap<Vip, Held>,
}

/// Among whom VIPs are served alone, for a report.
#[derive(Debug, Clone)]
pub struct ServedAlone {
    /// The desired state by which it is served.
    pub generation: Arc<Generation>,
    /// Owners among those who are alone and hear one another.
    pub placement: Arc<Placement>,
    /// Who these are, this node among them.
    pub nodes: BTreeSet<NodeName>,
    /// VIPs that may be served so.
    pub allowed: Arc<BTreeSet<Vip>>,
}

impl ServedAlone {
    /// Who has the VIP among those who are alone.
    pub fn owner(&self, vip: Vip) -> Option<&NodeName> {
        self.placement.owner(self.generation.ranking.index_of(vip)?)
    }
}

impl Alone {
    /// Is this VIP held by no view?
    pub fn serves(&self, vip: Vip) -> bool {
        self.held.contains(&vip)
    }

    /// It was stopped.
    pub fn forget(&mut self, vip: Vip) {
        if self.held.contains(&vip) {
            Arc::make_mut(&mut self.held).remove(&vip);
        }
    }

    /// What is held by no view.
    pub const fn held(&self) -> &Arc<BTreeSet<Vip>> {
        &self.held
    }

    /// By whom and by what it is served, while this node is alone.
    pub fn report(&self) -> Option<ServedAlone> {
        let by = self.by.as_ref()?;
        Some(ServedAlone {
            generation: by.generation.clone(),
            placement: by.placement.clone(),
            nodes: by.offers.keys().cloned().collect(),
            allowed: by.allowed.clone(),
        })
    }
}

impl Engine {
    /// Which VIPs may be served alone, by what is loaded and what is in force.
    pub(super) fn allow_alone(&mut self, actions: &mut Vec<Action>) {
        let partition = |generation: &Generation, pool: &PoolName| {
            generation.desired.pools.get(pool).map_or(Partition::Strict, |pool| pool.partition)
        };
        let mut allowed = BTreeSet::new();
        if let Some(newest) = &self.newest
            && newest.desired.pools.values().any(|pool| pool.partition == Partition::Available)
        {
            let in_force = self.in_force();
            let strict_in_force = |vip: Vip| {
                let ranked = in_force.and_then(|it| Some((it, &it.ranking.vips()[it.ranking.index_of(vip)?])));
                ranked.is_some_and(|(it, ranked)| partition(it, &ranked.pool) == Partition::Strict)
            };
            let vips = newest.ranking.vips().iter().filter(|it| partition(newest, &it.pool) == Partition::Available);
            allowed.extend(vips.map(|it| it.vip).filter(|vip| self.guarded.contains(vip) && !strict_in_force(*vip)));
        }
        if allowed != *self.alone.allowed {
            self.alone.allowed = Arc::new(allowed);
            self.protocol.allow_alone(!self.alone.allowed.is_empty());
            actions.push(Action::MayBeAlone(self.alone.allowed.clone()));
        }
    }

    /// Starts and stops what this node serves alone. All else in this step was decided before it.
    pub(super) fn serve_alone(&mut self, now: Instant, actions: &mut Vec<Action>, starts: &mut Vec<Action>) {
        if !self.protocol.is_alone() {
            self.end_alone(now, actions);
            return;
        }
        self.alone.ending_since = None;
        self.place_alone(now, actions);
        let Some(by) = &self.alone.by else { return };
        let same = |vip: &Vip| {
            let (wanted, held) = (by.wanted.get(vip), self.held.get(vip));
            wanted
                .zip(held)
                .is_some_and(|(wanted, held)| wanted.interface == held.interface && wanted.attach == held.attach)
        };
        let gone: Vec<Vip> = self.alone.held.iter().copied().filter(|vip| !same(vip)).collect();
        let new: Vec<(Vip, Held)> = by
            .wanted
            .iter()
            .filter(|(vip, _)| !self.held.contains_key(vip) || gone.contains(vip))
            .map(|(vip, held)| (*vip, held.clone()))
            .collect();
        self.stop_now(gone, actions);
        let mut started = Vec::new();
        for (vip, held) in new {
            // As in a view: what nobody held is asked for on the wire before it is first claimed.
            let held_before = self.protocol.accepted().is_some_and(|view| self.owner_in(view, vip).is_some());
            if !held_before && !self.voice.is_free(now, &held.interface, vip) {
                continue;
            }
            self.lingering.remove(&vip);
            Arc::make_mut(&mut self.alone.held).insert(vip);
            started.push(Started { vip, interface: held.interface.clone(), attach: held.attach });
            self.held.insert(vip, held);
        }
        if !started.is_empty() {
            let with = self.alone.by.iter().flat_map(|by| by.offers.keys());
            let with = with.filter(|name| *name != self.protocol.me()).cloned().collect();
            starts.insert(0, Action::Start(started));
            starts.push(Action::Note(Note::ServesAlone { vips: self.alone.held.len(), with }));
        }
    }

    /// Works out who owns what among those who are alone, where anything of it changed.
    fn place_alone(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let offers = self.protocol.alone_offers(now);
        let generation = self.protocol.alone_generation(now).and_then(|digest| self.generations.get(&digest).cloned());
        let Some(generation) = generation else {
            self.alone.by = None;
            self.stop_alone(actions);
            return;
        };
        let last = self.alone.by.as_ref();
        if last.is_some_and(|last| {
            last.offers == offers
                && Arc::ptr_eq(&last.allowed, &self.alone.allowed)
                && last.generation.digest() == generation.digest()
        }) {
            return;
        }
        let met = last.is_some_and(|last| offers.keys().any(|name| !last.offers.contains_key(name)));
        let bodies = offers.iter().filter_map(|(name, offer)| {
            let body = self.protocol.offer_body(offer)?;
            Some((name.clone(), body.clone()))
        });
        let placement = Arc::new(place(&generation.desired, &generation.ranking, &bodies.collect()));
        let me = self.protocol.me();
        let own = offers.get(me).and_then(|offer| self.protocol.offer_body(offer));
        let mine =
            generation.ranking.vips().iter().enumerate().filter(|(index, ranked)| {
                self.alone.allowed.contains(&ranked.vip) && placement.owner(*index) == Some(me)
            });
        let stands = |pool: &Pool, vip| {
            let interface = interface_for(pool, own?, vip)?;
            Some(Held { interface: interface.clone(), attach: pool.attach, linger: pool.linger })
        };
        let wanted: BTreeMap<Vip, Held> = mine
            .filter_map(|(_, ranked)| {
                let pool = generation.desired.pools.get(&ranked.pool)?;
                Some((ranked.vip, stands(pool, ranked.vip)?))
            })
            .collect();
        if met {
            // Both had them: neighbours are to forget the other.
            let kept: Vec<Vip> = self.alone.held.iter().filter(|vip| wanted.contains_key(vip)).copied().collect();
            self.voice.again(now, &kept);
        }
        let allowed = self.alone.allowed.clone();
        self.alone.by = Some(By { offers, allowed, generation, placement, wanted });
    }

    /// No longer alone: what is held goes to whoever has a view, at once, or goes over with this node into one.
    fn end_alone(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.alone.by.take().is_some() {
            actions.push(Action::Note(Note::NoLongerAlone));
        }
        if self.alone.held.is_empty() {
            self.alone.ending_since = None;
            return;
        }
        if self.protocol.waits_alone(now) && !self.protocol.is_draining() {
            return;
        }
        let since = *self.alone.ending_since.get_or_insert(now);
        let over = now >= since + self.protocol.timing().join;
        if over || self.protocol.is_draining() || self.protocol.said_goodbye() || self.protocol.must_yield(now) {
            self.stop_alone(actions);
            return;
        }
        let Some(view) = self.protocol.accepted().cloned() else { return };
        if self.protocol.is_established(now) {
            let given =
                |vip: &Vip| self.owner_in(&view, *vip) != Some(self.protocol.me()) && !self.goes_on_alone(&view, *vip);
            let given: Vec<Vip> = self.alone.held.iter().copied().filter(given).collect();
            self.stop_now(given, actions);
        }
    }

    /// The lease has just passed: what this node goes on with is served alone from now on. It takes no more yet.
    pub(super) fn go_on_alone(&mut self, now: Instant) {
        if self.protocol.goes_on(now) {
            let kept = self.held.keys().filter(|vip| self.alone.allowed.contains(vip)).copied().collect();
            self.alone.held = Arc::new(kept);
        }
    }

    /// Stops all that is served alone.
    pub(super) fn stop_alone(&mut self, actions: &mut Vec<Action>) {
        self.stop_now(self.alone.held.iter().copied().collect(), actions);
    }

    /// May this VIP be held on in this view although it is nobody's there? So it is until the view has this node's offer.
    pub(super) fn goes_on_alone(&self, view: &View, vip: Vip) -> bool {
        let member = view.members().get(self.protocol.me());
        let offered = member.and_then(|member| self.protocol.offer_body(&member.offer));
        self.alone.serves(vip)
            && self.owner_in(view, vip).is_none()
            && offered.is_some_and(|offer| offer.is_empty())
            && !self.protocol.is_draining()
    }

    /// The view makes this node the owner of what it served alone: it goes on with it, without a gap, by the view's lease.
    pub(super) fn goes_over(&mut self, now: Instant, vip: Vip, wanted: &Held, actions: &mut Vec<Action>) -> bool {
        if !self.alone.serves(vip) {
            return false;
        }
        let stands =
            self.held.get(&vip).is_some_and(|held| held.interface == wanted.interface && held.attach == wanted.attach);
        if !stands {
            self.stop_now(vec![vip], actions);
            return false;
        }
        self.alone.forget(vip);
        self.unstarted.remove(&vip);
        self.voice.again(now, &[vip]);
        true
    }

    /// The lease that the node gives itself: never longer than L, and only while it holds something alone.
    pub(super) fn tell_alone(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let timing = self.protocol.timing();
        let fresh = |until: &Instant| until.since(now) + timing.heartbeat / 10 > timing.lease;
        let until = match self.alone.until {
            _ if self.alone.held.is_empty() => None,
            Some(until) if fresh(&until) => Some(until),
            _ => Some(now + timing.lease),
        };
        if until != self.alone.until {
            self.alone.until = until;
            actions.push(Action::Alone(until));
        }
    }
}
