//! Proposing the next view: who leaves, who joins, whose offer changed, which generation and set.
//!
//! In: the accepted view, peers' reports. Out: a view that this node accepts itself and tells.
//! Not here: whether others accept it (`accept`). Nothing of safety rests on this file: any view may be proposed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::pace::named;
use super::{Forming, Protocol};
use crate::digest::Digest;
use crate::membership::heartbeat::Says;
use crate::membership::rule::Rule;
use crate::membership::view::{Member, Sets, View, ViewBody};
use crate::name::NodeName;
use crate::placement::offer::Offer;
use crate::time::Instant;

impl Protocol {
    /// The view that this node would go to now, if any.
    pub(super) fn proposal(&mut self, now: Instant) -> Option<View> {
        if !self.up_for_silence(now) {
            self.wake(self.boot + self.timing.silence);
            return None;
        }
        if self.goodbye || self.is_outvoted() {
            return None;
        }
        let next = match self.accepted.clone() {
            None => self.first_proposal(now),
            Some(view) => self
                .leaving_proposal(now, &view)
                .or_else(|| self.calm_proposal(now, &view))
                .or_else(|| self.overbid(now, &view)),
        }?;
        let view = View::new(next);
        self.check(now, &view).is_ok().then_some(view)
    }

    fn body(&self, sets: Sets, generation: Digest, members: BTreeMap<NodeName, Member>) -> ViewBody {
        ViewBody { number: self.highest + 1, sets, generation, members }
    }

    /// The members without those who are gone, as a majority says too.
    fn remaining(&self, now: Instant, view: &View) -> BTreeMap<NodeName, Member> {
        let mut members = view.members().clone();
        members.retain(|name, member| {
            !(self.is_gone(now, name, member.epoch)
                && self.majority(view.sets(), |voter| self.calls_gone(now, voter, name, member.epoch)))
        });
        members
    }

    /// Does the voter say that this identity is gone? A node that lives on says so of its own earlier lives.
    fn calls_gone(&self, now: Instant, voter: &NodeName, name: &NodeName, epoch: u64) -> bool {
        if *voter == self.me {
            return true;
        }
        let Some(peer) = self.peers.get(voter).filter(|peer| !self.is_silent(now, peer)) else { return false };
        if voter == name { peer.epoch > epoch || peer.goodbye } else { peer.says_gone(name, epoch) }
    }

    /// The offer that a member makes now, where its body is known and it is still the same identity.
    fn offer_now(&self, now: Instant, name: &NodeName, member: Member) -> Digest {
        let offered = if *name == self.me {
            (self.epoch == member.epoch).then(|| self.effective_offer())
        } else {
            self.peers
                .get(name)
                .filter(|peer| peer.epoch == member.epoch && self.is_heard(now, peer))
                .map(|peer| peer.offer)
        };
        offered.filter(|digest| self.offers.contains_key(digest)).unwrap_or(member.offer)
    }

    /// Leaving and taking away: at once, by everybody.
    fn leaving_proposal(&self, now: Instant, view: &View) -> Option<ViewBody> {
        let mut members = self.remaining(now, view);
        let mut changed = members.len() != view.members().len();
        for (name, member) in &mut members {
            let offered = self.offer_now(now, name, *member);
            if offered != member.offer && self.takes_away(&member.offer, &offered) {
                member.offer = offered;
                changed = true;
            }
        }
        if !changed {
            return None;
        }
        let body = self.body(view.sets().clone(), view.body().generation, members);
        self.majority(&body.sets, |name| body.members.contains_key(name)).then_some(body)
    }

    fn takes_away(&self, from: &Digest, to: &Digest) -> bool {
        let (Some(from), Some(to)) = (self.offers.get(from), self.offers.get(to)) else { return false };
        to.is_within(from)
    }

    /// Joining, offering more, another generation, another set: once the view is settled, in order of rank.
    fn calm_proposal(&mut self, now: Instant, view: &Arc<View>) -> Option<ViewBody> {
        let members = self.remaining(now, view);
        // Where those of the next sets cannot be named yet (they have not loaded the generation in force, say), the view
        // goes on with the sets that it has: that other step may be what they wait for.
        let sets = self.next_sets(now, view, &members).into_iter().chain([view.sets().clone()]);
        let bodies = sets.map(|sets| self.calm_body(now, view, sets, members.clone()));
        let able = |body: &ViewBody| self.majority(&body.sets, |name| body.members.contains_key(name));
        let same = |body: &ViewBody| {
            body.sets == *view.sets() && body.generation == view.body().generation && body.members == *view.members()
        };
        let Some(body) = bodies.into_iter().find(able).filter(|body| !same(body)) else {
            self.calm_since = None;
            return None;
        };
        if !self.is_settled() && now < self.accepted_at + self.timing.settle {
            self.wake(self.accepted_at + self.timing.settle);
            return None;
        }
        let since = *self.calm_since.get_or_insert(now);
        let at = since + self.timing.rank_step * self.rank(now, view.sets());
        if now < at {
            self.wake(at);
            return None;
        }
        Some(body)
    }

    fn calm_body(&self, now: Instant, view: &View, sets: Sets, mut members: BTreeMap<NodeName, Member>) -> ViewBody {
        let lost = !self.majority(view.sets(), |name| members.contains_key(name));
        self.let_join(now, view, &sets, &mut members, lost);
        for (name, member) in &mut members {
            member.offer =
                if view.has(name, member.epoch) { self.offer_now(now, name, *member) } else { self.empty_offer };
        }
        let generation = self.next_generation(view, &members);
        self.body(sets, generation, members)
    }

    /// Names identities of the next `sets` that a majority of the view has heard steadily; `lost` where the view
    /// has no majority any more. A new set is named together with those who make its majority.
    fn let_join(&self, now: Instant, view: &View, sets: &Sets, members: &mut BTreeMap<NodeName, Member>, lost: bool) {
        let own = if self.disk.as_ref() == Some(sets) { self.disk_tag } else { Some(named(sets)) };
        let enough = if lost { Says::THERE } else { Says::STEADY };
        for name in sets.names() {
            let epoch = self.present_epoch(&name);
            let named = members.get(&name).is_some_and(|member| member.epoch >= epoch);
            let in_force = self.has_loaded(&name, &view.body().generation);
            let newest = self.loaded.first().is_some_and(|newest| self.has_loaded(&name, newest));
            // Who has other sets cannot accept, unless it takes these because a majority has them.
            let apart =
                self.peers.get(&name).and_then(|peer| peer.disk).zip(own).is_some_and(|(disk, own)| {
                    differs(disk, own) && !(self.disk_tag == Some(own) && self.rules_out(disk))
                });
            if named || apart || !self.is_there(now, &name) || !(in_force || (lost && newest)) {
                continue;
            }
            let heard = self.majority(view.sets(), |voter| self.finds(now, voter, &name, epoch, enough));
            if self.finds(now, &self.me, &name, epoch, enough) && heard {
                members.insert(name, Member { epoch, offer: self.empty_offer });
            }
        }
    }

    /// Does the voter find this identity steady? Everybody finds itself so.
    fn finds(&self, now: Instant, voter: &NodeName, name: &NodeName, epoch: u64, what: Says) -> bool {
        if voter == name {
            return self.is_there(now, voter);
        }
        if !self.keeps(Rule::NamedWhenSteady) {
            return self.is_there(now, name);
        }
        if *voter == self.me {
            return self.peers.get(name).is_some_and(|peer| self.steadiness(now, peer).has(what));
        }
        self.peers.get(voter).is_some_and(|peer| !self.is_silent(now, peer) && peer.says(name, epoch, what))
    }

    fn has_loaded(&self, name: &NodeName, generation: &Digest) -> bool {
        let loaded = if *name == self.me { Some(&self.loaded) } else { self.peers.get(name).map(|peer| &peer.loaded) };
        loaded.is_some_and(|loaded| loaded.contains(generation))
    }

    fn newest_of(&self, name: &NodeName) -> Option<Digest> {
        let loaded = if *name == self.me { Some(&self.loaded) } else { self.peers.get(name).map(|peer| &peer.loaded) };
        loaded.and_then(|loaded| loaded.first()).copied()
    }

    /// The newest generation, once all members report it as the newest that they loaded. Otherwise the one in force;
    /// where a member lost it in a restart, the newest that all have.
    fn next_generation(&self, view: &View, members: &BTreeMap<NodeName, Member>) -> Digest {
        let in_force = view.body().generation;
        let all_have = |generation: &Digest| members.keys().all(|name| self.has_loaded(name, generation));
        match self.loaded.first().copied() {
            Some(newest) if members.keys().all(|name| self.newest_of(name) == Some(newest)) => newest,
            _ if all_have(&in_force) => in_force,
            _ => self.loaded.iter().copied().find(all_have).unwrap_or(in_force),
        }
    }

    /// The next phase, where it is time for one.
    fn next_sets(&self, now: Instant, view: &View, members: &BTreeMap<NodeName, Member>) -> Option<Sets> {
        let sets = view.sets();
        let live = || self.peers.iter().filter(|(_, peer)| peer.heard_at.is_some() && !self.is_silent(now, peer));
        // Straight to the highest phase that a live node has on disk.
        let ahead = live()
            .filter_map(|(_, peer)| peer.sets.as_ref())
            .chain(self.disk.as_ref())
            .max_by_key(|ahead| (ahead.phase, self.have_on_disk(sets, named(ahead))));
        if let Some(ahead) = ahead
            && ahead.phase > sets.phase
        {
            return Some(ahead.clone());
        }
        if !self.is_settled() {
            return None;
        }
        if let Some(completed) = sets.completed() {
            // Who is not in the new set cannot accept it: it goes on in the odd phase with those who come back.
            let done = completed.contains(&self.me) && members.keys().all(|name| completed.current.contains(name));
            return done.then_some(completed);
        }
        let newest = *self.loaded.first()?;
        let names = self.declared.get(&newest)?;
        if **names == *sets.current {
            return None;
        }
        let agreed = members.keys().all(|name| self.newest_of(name) == Some(newest));
        let there = names.iter().filter(|name| {
            let heard = || self.peers.get(*name).is_some_and(|peer| self.steadiness(now, peer).has(Says::STEADY));
            let loaded = self.newest_of(name) == Some(newest);
            loaded && (**name == self.me || (self.is_there(now, name) && heard()))
        });
        let enough = there.count() * 2 > names.len();
        let next = sets.towards((**names).clone());
        let own = named(&next);
        let other = live().filter_map(|(_, peer)| peer.disk).any(|disk| differs(disk, own));
        (agreed && enough && !other).then_some(next)
    }

    /// Does a majority of the set of before have other sets on disk for the phase that this node has on its own? Then
    /// no view of its sets can ever be established: it waits for one of theirs.
    pub(super) fn is_outvoted(&self) -> bool {
        let (Some(mine), Some(own)) = (&self.disk, self.disk_tag) else { return false };
        let mut others = self.peers.values().filter_map(|peer| peer.disk).filter(|disk| differs(*disk, own));
        others.any(|other| self.have_on_disk(mine, other))
    }

    /// Is this other sets for the phase on disk, of which a majority has the same as this node?
    fn rules_out(&self, disk: (u64, [u8; 8])) -> bool {
        let (Some(mine), Some(own)) = (&self.disk, self.disk_tag) else { return false };
        differs(disk, own) && self.have_on_disk(mine, own)
    }

    /// May this node take these sets in place of its own of the same odd phase? Where every node of the set of before is
    /// known to have written sets of this phase, and none of them has a majority, nobody can ever go on. Then those with
    /// the highest short name stay, and the others yield. Its own have no majority and get none: whoever changes goes to
    /// the highest, and there is nobody left who could still write its own. So nothing was, or will be, built on them.
    pub(super) fn yields_to(&self, sets: &Sets) -> bool {
        let (Some(mine), Some(own)) = (&self.disk, self.disk_tag) else { return false };
        let theirs = named(sets);
        if !differs(own, theirs) || mine.next.is_none() || sets.current != mine.current {
            return false;
        }
        let written = |name: &NodeName| {
            if *name == self.me { Some(own) } else { self.peers.get(name).and_then(|peer| peer.disk) }
        };
        let all: Option<Vec<_>> = mine.current.iter().map(written).collect();
        all.is_some_and(|all| {
            let in_phase = all.iter().all(|(phase, _)| *phase == own.0);
            let decided = |tag: &(u64, [u8; 8])| all.iter().filter(|one| *one == tag).count() * 2 > all.len();
            in_phase && !all.iter().any(decided) && all.iter().max() == Some(&theirs)
        })
    }

    /// May this node take these sets in place of its own of the same odd phase, because a majority of the set of before has
    /// them on disk? Its own never had a majority then and get none, so nothing was, or will be, built on them.
    pub(super) fn is_outvoted_by(&self, sets: &Sets) -> bool {
        let (Some(mine), Some(own)) = (&self.disk, self.disk_tag) else { return false };
        let theirs = named(sets);
        mine.next.is_some() && sets.current == mine.current && differs(own, theirs) && self.have_on_disk(mine, theirs)
    }

    fn have_on_disk(&self, mine: &Sets, disk: (u64, [u8; 8])) -> bool {
        let own = self.disk_tag == Some(disk);
        let has = |name: &&NodeName| {
            if **name == self.me { own } else { self.peers.get(*name).is_some_and(|peer| peer.disk == Some(disk)) }
        };
        mine.current.iter().filter(has).count() * 2 > mine.current.len()
    }

    /// A higher view that a peer has and that cannot be accepted for some time: propose above it.
    fn overbid(&mut self, now: Instant, view: &Arc<View>) -> Option<ViewBody> {
        use super::accept::Refusal;

        let live = self.peers.values().filter(|peer| !self.is_silent(now, peer));
        let higher = live
            .filter(|peer| !peer.disk.is_some_and(|disk| self.rules_out(disk)))
            .filter_map(|peer| peer.accepted)
            .filter(|id| *id > view.id())
            .max();
        let Some(other) = higher.and_then(|id| self.views.get(&id)).cloned() else {
            self.blocked_since = None;
            return None;
        };
        if matches!(self.check(now, &other), Ok(()) | Err(Refusal::Generation | Refusal::Offer | Refusal::NotOurs)) {
            self.blocked_since = None;
            return None;
        }
        let since = *self.blocked_since.get_or_insert(now);
        let at = since + self.timing.blocked + self.timing.blocked_rank * self.rank(now, view.sets());
        if now < at {
            self.wake(at);
            return None;
        }
        let mut members = self.remaining(now, &other);
        for (name, member) in self.remaining(now, view) {
            if !self.is_gone(now, &name, member.epoch) {
                members.insert(name, member);
            }
        }
        let sets = if other.sets().phase >= view.sets().phase { other.sets() } else { view.sets() };
        let sets = self.disk.as_ref().filter(|disk| disk.phase >= sets.phase).unwrap_or(sets).clone();
        // A member that the sets do not name could not accept, and the view would never settle.
        members.retain(|name, member| sets.contains(name) || view.has(name, member.epoch));
        self.blocked_since = None;
        Some(self.body(sets, other.body().generation, members))
    }

    /// Without an accepted view: after a restart, or when the cluster forms.
    fn first_proposal(&mut self, now: Instant) -> Option<ViewBody> {
        let live = |protocol: &Self| {
            let heard =
                protocol.peers.iter().filter(|(_, peer)| peer.heard_at.is_some() && !protocol.is_silent(now, peer));
            heard.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        let live = live(self);
        let peers = || live.iter().filter_map(|name| self.peers.get(name));
        let floor = self.disk.as_ref().map_or(0, |disk| disk.phase);
        let fits = |disk: (u64, [u8; 8])| disk.0 >= floor && !self.rules_out(disk);
        let offered = peers().any(|peer| peer.accepted.is_some() && peer.disk.is_some_and(fits));
        if offered {
            return None;
        }
        let ahead = peers().filter_map(|peer| peer.disk).map(|(phase, _)| phase).max();
        if ahead > Some(floor) {
            return None;
        }
        match self.disk.clone() {
            Some(sets) => self.restart(now, sets),
            None => self.form(now),
        }
    }

    /// After a restart: who is there, when all are or after `join`.
    fn restart(&mut self, now: Instant, sets: Sets) -> Option<ViewBody> {
        let names = sets.names();
        let join = if self.keeps(Rule::NamedWhenSteady) { self.timing.join } else { Duration::ZERO };
        let patience = self.boot + join + self.timing.rank_step * self.rank(now, &sets);
        if !names.iter().all(|name| self.is_there(now, name)) && now < patience {
            self.wake(patience);
            return None;
        }
        let generation = self.loaded.iter().copied().max_by_key(|generation| {
            names.iter().filter(|name| self.is_there(now, name) && self.has_loaded(name, generation)).count()
        })?;
        let members = self.present_members(now, &names, |name| self.has_loaded(name, &generation));
        Some(self.body(sets, generation, members))
    }

    fn present_members(
        &self,
        now: Instant,
        names: &BTreeSet<NodeName>,
        fits: impl Fn(&NodeName) -> bool,
    ) -> BTreeMap<NodeName, Member> {
        let present = names.iter().filter(|name| self.is_there(now, name) && fits(name));
        present
            .map(|name| (name.clone(), Member { epoch: self.present_epoch(name), offer: self.empty_offer }))
            .collect()
    }

    /// The cluster forms: all declared nodes are heard, or later a majority where nothing speaks against it.
    fn form(&mut self, now: Instant) -> Option<ViewBody> {
        let generation = *self.loaded.first()?;
        let names = self.declared.get(&generation)?.clone();
        if !names.contains(&self.me) {
            return None;
        }
        let forming = self.forming.as_ref().filter(|(known, _)| *known == *names).map(|(_, forming)| *forming);
        // Who has sets on disk names the others, once those sets have their majority.
        let begun = self.peers.values().any(|peer| peer.disk.is_some());
        if begun || !matches!(forming, Some(Forming::All | Forming::Majority)) {
            return None;
        }
        let alike = |name: &NodeName| self.is_there(now, name) && self.newest_of(name) == Some(generation);
        let all = names.iter().all(alike);
        let sets = Sets::first((*names).clone());
        if !all {
            let at = self.boot + self.timing.form + self.timing.rank_step * self.rank(now, &sets);
            if forming != Some(Forming::Majority) {
                return None;
            }
            if now < at {
                self.wake(at);
                return None;
            }
        }
        let members = self.present_members(now, &names, alike);
        Some(self.body(sets, generation, members))
    }
}

/// Are these sets of the same phase, and not the same?
fn differs(one: (u64, [u8; 8]), other: (u64, [u8; 8])) -> bool {
    one.0 == other.0 && one.1 != other.1
}

impl Offer {
    /// Does this offer hold nothing that `other` does not: taking it in the other's place only takes away?
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let interfaces = self
            .interfaces
            .iter()
            .all(|(name, prefixes)| other.interfaces.get(name).is_some_and(|theirs| prefixes.is_subset(theirs)));
        interfaces
            && other.failing.is_subset(&self.failing)
            && other.refused.is_subset(&self.refused)
            && other.spare.is_subset(&self.spare)
            || self.is_empty()
    }
}
