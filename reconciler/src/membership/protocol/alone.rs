//! Alone: this node has no view and hears nobody who has one. What may it serve, of what its repository would rather
//! see answered by two than by none?
//!
//! In: the lease, who else says that it has one, what others offer who are alone. Out: whether this node is alone, and with
//! whom. Not here: which VIPs these are, and serving them (`engine`). Nothing here touches views, acks or the lease:
//! for all else a node that is alone is one without a lease, which offers nothing.

use std::collections::BTreeMap;

use super::{Forming, Protocol};
use crate::digest::Digest;
use crate::membership::heartbeat::Flags;
use crate::membership::peer::Peer;
use crate::name::NodeName;
use crate::time::Instant;

impl Protocol {
    /// Are there VIPs that may be served alone?
    pub const fn allow_alone(&mut self, allowed: bool) {
        self.may_be_alone = allowed;
    }

    /// Has this node been without a lease for D and a heartbeat, and heard of none?
    pub const fn is_alone(&self) -> bool {
        self.alone
    }

    /// Looks whether this node is alone, and tells all when that changes.
    pub(super) fn notice_company(&mut self, now: Instant) {
        if self.lease.is_some() {
            self.company_at = now;
            self.had_company = true;
        }
        let may = self.may_be_alone && self.lease.is_none() && !self.goodbye && self.may_do_without();
        let at = self.alone_at();
        let alone = may && now >= at;
        if alone != self.alone {
            self.alone = alone;
            self.offer_changed_at = now;
            self.tell_all();
        }
        if may && !alone {
            self.wake(at);
        }
    }

    /// Who booted and found nobody yet who has a lease waits first for as long as a majority takes for its first view.
    fn alone_at(&self) -> Instant {
        let first = if self.disk.is_some() { self.timing.join } else { self.timing.form };
        let since = if self.had_company { self.company_at } else { self.company_at.max(self.boot + first) };
        since + self.timing.silence + self.timing.heartbeat
    }

    /// A node that was never in a view does not know whether its cluster is at work under other names: it asks the history.
    fn may_do_without(&self) -> bool {
        if self.disk.is_some() {
            return true;
        }
        let names = self.loaded.first().and_then(|newest| self.declared.get(newest));
        let known = self.forming.as_ref().filter(|(known, _)| names.is_some_and(|names| *known == **names));
        known.is_some_and(|(_, forming)| *forming != Forming::ByHand)
    }

    /// Everybody who is alone and hears one another: this node, and whose offers it knows.
    pub fn alone_offers(&self, now: Instant) -> BTreeMap<NodeName, Digest> {
        let others = self.others_alone(now).filter_map(|(name, peer)| Some((name.clone(), peer.alone?)));
        others
            .filter(|(_, offer)| self.offers.contains_key(offer))
            .chain([(self.me.clone(), self.told_offer())])
            .collect()
    }

    /// The generation by which those who are alone place: the newest that all of them have loaded.
    pub fn alone_generation(&self, now: Instant) -> Option<Digest> {
        let others: Vec<&Vec<Digest>> = self.others_alone(now).map(|(_, peer)| &peer.loaded).collect();
        // Who disagree on what is newest take the one that is new to most, so that all take the same.
        let age = |generation: &Digest| {
            let place = |loaded: &Vec<Digest>| loaded.iter().position(|known| known == generation);
            others.iter().copied().chain([&self.loaded]).map(place).sum::<Option<usize>>()
        };
        let common = self.loaded.iter().filter_map(|generation| Some((age(generation)?, *generation))).min();
        common.map(|(_, generation)| generation).or_else(|| self.loaded.first().copied())
    }

    fn others_alone(&self, now: Instant) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.peers.iter().filter(move |(_, peer)| peer.alone.is_some() && !peer.goodbye && self.is_heard(now, peer))
    }

    /// Is there no majority without this node, as with two?
    fn is_needed_by_all(&self) -> bool {
        self.may_be_alone && self.disk.as_ref().is_some_and(|sets| !sets.majority(|name| *name != self.me))
    }

    /// The lease has just passed. Does this node go on with what it had? One of two does, unless it stood still: nobody can
    /// have a lease without it, and the death of the other would interrupt what it has, too.
    pub fn goes_on(&self, now: Instant) -> bool {
        self.is_needed_by_all() && !self.draining && self.company_at != now
    }

    /// Is it between its lapse and the time when it counts as alone? Whoever has a lease by the view that this node had,
    /// too, leaves to it what it owned there until the next view, which cannot be established without it.
    pub fn waits_alone(&self, now: Instant) -> bool {
        let last = self.accepted.as_ref().map(|view| view.id());
        let mut leased = self.peers.values().filter(|peer| peer.leased && self.is_heard(now, peer));
        self.is_needed_by_all()
            && self.lease.is_none()
            && now < self.alone_at()
            && leased.all(|peer| peer.accepted == last)
    }

    /// Must what is served alone be given up at once? So it is where somebody is heard who has a lease by a view without
    /// this node. One that is being taken back goes on until the view names an owner.
    pub fn must_yield(&self, now: Instant) -> bool {
        let mut leased = self.peers.values().filter(|peer| peer.leased && self.is_heard(now, peer)).peekable();
        let outside = leased.peek().is_none() && !self.is_member();
        outside || leased.any(|peer| !self.names_me(peer))
    }

    fn names_me(&self, peer: &Peer) -> bool {
        let view = peer.accepted.and_then(|id| self.views.get(&id));
        view.is_some_and(|view| view.has(&self.me, self.epoch))
    }

    /// The offer that heartbeats tell: what the node really offers, to a view or to others who are alone.
    pub(super) fn told_offer(&self) -> Digest {
        if self.alone && !self.draining { self.offer_digest } else { self.effective_offer() }
    }

    /// What every datagram of this node says of its standing.
    pub(super) fn standing_flags(&self) -> Flags {
        let flags = if self.goodbye { Flags::GOODBYE } else { Flags::default() };
        let flags = if self.lease.is_some() { flags.with(Flags::LEASED) } else { flags };
        if self.alone { flags.with(Flags::ALONE) } else { flags }
    }
}
