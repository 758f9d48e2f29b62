//! Accepting a view, and the lease that follows from whom it counts.
//!
//! In: views that peers accepted, acks. Out: the accepted view, the sets to write to disk, the lease.
//! Not here: proposing (`propose`), what is known of the accepted view (`evidence`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Protocol;
use crate::membership::rule::Rule;
use crate::membership::view::{Sets, View, ViewId};
use crate::name::NodeName;
use crate::time::Instant;

/// Why a view cannot be accepted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not higher than the accepted one.
    NotHigher,
    /// Below the phase on disk, or other sets for it.
    Phase,
    /// Its generation is not loaded.
    Generation,
    /// An offer that it names was not heard.
    Offer,
    /// Booted less than D ago.
    JustBooted,
    /// It leaves out somebody who is not gone.
    LeavesOut,
    /// It names no majority, or its sets do not name this node.
    NotOurs,
}

impl Protocol {
    /// May this view be accepted now?
    pub(super) fn check(&self, now: Instant, view: &View) -> Result<(), Refusal> {
        if self.accepted.as_ref().is_some_and(|accepted| view.id() <= accepted.id()) {
            return Err(Refusal::NotHigher);
        }
        let names_majority = self.majority(view.sets(), |name| view.members().contains_key(name));
        if !view.sets().contains(&self.me) || !names_majority {
            return Err(Refusal::NotOurs);
        }
        if let Some(disk) = &self.disk {
            let sets = view.sets();
            let same = || {
                sets == disk || self.yields_to(sets) || self.is_outvoted_by(sets) || !self.keeps(Rule::OneSetsPerPhase)
            };
            if sets.phase < disk.phase || (sets.phase == disk.phase && !same()) {
                return Err(Refusal::Phase);
            }
        }
        if !self.up_for_silence(now) {
            return Err(Refusal::JustBooted);
        }
        if !self.loaded.contains(&view.body().generation) {
            return Err(Refusal::Generation);
        }
        if let Some(accepted) = &self.accepted {
            let leaves_out = accepted
                .members()
                .iter()
                .any(|(name, member)| !view.has(name, member.epoch) && !self.is_gone(now, name, member.epoch));
            if leaves_out && self.keeps(Rule::LeftOutAreGone) {
                return Err(Refusal::LeavesOut);
            }
        }
        if view.members().values().any(|member| !self.offers.contains_key(&member.offer)) {
            return Err(Refusal::Offer);
        }
        Ok(())
    }

    /// The highest view that a peer accepted and that this node can accept too.
    pub(super) fn acceptable_offer(&self, now: Instant) -> Option<Arc<View>> {
        let floor = self.accepted.as_ref().map(|view| view.id());
        let mut offered: Vec<_> =
            self.peers.values().filter_map(|p| p.accepted).filter(|id| Some(*id) > floor).collect();
        offered.sort_unstable();
        offered.dedup();
        // Who forgot such a view does not take it back from another who is about to forget it.
        let forgotten = |view: &Arc<View>| self.started_over && self.is_left_behind(now, view);
        let views = offered.iter().rev().filter_map(|id| self.views.get(id)).filter(|view| !forgotten(view));
        views.into_iter().find(|view| self.check(now, view).is_ok()).cloned()
    }

    /// Accepts, for good. What was checked must still hold.
    pub(super) fn accept(&mut self, now: Instant, view: Arc<View>) {
        // At the first view after boot there is nothing that this node said before it and would have to outlive: its
        // members are acknowledged at once, and go on being so in the views that follow.
        let new = if self.accepted.is_none() { Instant::ZERO } else { now };
        let since = view
            .members()
            .iter()
            .map(|(name, member)| {
                let kept = self.member_since.get(name).filter(|(epoch, _)| *epoch == member.epoch).map(|(_, at)| *at);
                (name.clone(), (member.epoch, kept.unwrap_or(new)))
            })
            .collect();
        self.member_since = since;
        if self.disk.as_ref() != Some(view.sets()) {
            self.write(view.sets().clone());
            self.led_by = self.led_by.take().filter(|sets| sets.phase > view.sets().phase);
        }
        self.highest = self.highest.max(view.id().number);
        self.before = self.accepted.replace(view.clone());
        self.accepted_at = now;
        self.started_over = false;
        self.clean = None;
        self.known_clean.clear();
        self.calm_since = None;
        self.blocked_since = None;
        self.views.insert(view.id(), view);
        self.track_peers();
        self.forget();
        self.renew_lease(now);
        self.tell_all();
        self.hear_of_clean_again();
    }

    /// The sets to write to disk before the next datagram leaves, where they changed.
    pub fn take_sets_to_persist(&mut self) -> Option<Sets> {
        self.to_persist.take()
    }

    /// Does anybody refer to this view: this node, or a peer by what it accepted?
    pub(super) fn is_in_use(&self, id: &ViewId) -> bool {
        self.accepted.as_ref().is_some_and(|view| view.id() == *id)
            || self.before.as_ref().is_some_and(|view| view.id() == *id)
            || self.peers.values().any(|peer| peer.accepted == Some(*id))
    }

    /// Drops bodies and facts that nothing refers to any more.
    fn forget(&mut self) {
        let gone: Vec<_> = self.views.keys().copied().filter(|id| !self.is_in_use(id)).collect();
        for id in gone {
            self.views.remove(&id);
        }
        let told: BTreeSet<ViewId> = self.settled.iter().copied().filter(|id| self.is_in_use(id)).collect();
        self.settled = told;
        let mut named: BTreeSet<_> =
            self.views.values().flat_map(|view| view.members().values().map(|member| member.offer)).collect();
        named.extend(self.peers.values().flat_map(|peer| peer.alone.into_iter().chain([peer.offer])));
        named.extend([self.offer_digest, self.empty_offer]);
        self.offers.retain(|digest, _| named.contains(digest));
    }

    /// Reckons the lease from the acks that count for the accepted view.
    pub(super) fn renew_lease(&mut self, now: Instant) {
        let Some(view) = self.accepted.as_ref().filter(|view| view.has(&self.me, self.epoch)) else {
            self.lease = None;
            return;
        };
        // A set of this node alone needs nobody's ack; its lease is renewed by its own beat.
        let until = self.majority_ack(view.sets()).min(now + self.timing.lease);
        let until = if self.keeps(Rule::LeaseFollowsSets) { until } else { until.max(self.lease.unwrap_or(until)) };
        match self.lease {
            // Cut or passed: the lapse itself is found by `begin`, first in a step.
            Some(_) => {
                self.lease = Some(until);
                self.wake(until);
            }
            None if until > now => {
                self.lease = Some(until);
                self.offer_changed_at = now;
                self.wake(until);
                self.tell_all();
            }
            None => {}
        }
    }

    /// Until when a majority of each set acks this node.
    pub(super) fn majority_ack(&self, sets: &Sets) -> Instant {
        let of = |set: &BTreeSet<NodeName>| {
            let mut until: Vec<Instant> = set
                .iter()
                .map(|name| {
                    if *name == self.me {
                        return Instant::NEVER;
                    }
                    self.peers.get(name).and_then(|peer| peer.ack_until).unwrap_or(Instant::ZERO)
                })
                .collect();
            until.sort_unstable_by(|a, b| b.cmp(a));
            until[set.len() / 2]
        };
        let current = of(&sets.current);
        match &sets.next {
            Some(next) if self.keeps(Rule::BothMajorities) => current.min(of(next)),
            _ => current,
        }
    }

    /// Does a majority, as the sets count it, satisfy `holds`?
    pub(super) fn majority(&self, sets: &Sets, mut holds: impl FnMut(&NodeName) -> bool) -> bool {
        if self.keeps(Rule::BothMajorities) {
            return sets.majority(holds);
        }
        sets.current.iter().filter(|name| holds(name)).count() * 2 > sets.current.len()
    }
}
