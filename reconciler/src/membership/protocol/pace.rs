//! When to speak: beats of the pairs, answers, questions out of turn; and what a datagram says.
//!
//! In: who is owed what, time. Out: [`Outgoing`] datagrams and the next deadline.
//! Not here: what is agreed (`accept`, `propose`, `evidence`).
//!
//! Of each two nodes one starts: it beats each `heartbeat`, the other answers at once and says nothing of
//! its own accord unless something is late. All beats of a cluster fall together, so that every node
//! has fresh acks right after each of them.

use std::time::Duration;

use super::{Outgoing, Protocol};
use crate::digest::Digest;
use crate::membership::heartbeat::{Flags, Heartbeat, PeerReport, Says};
use crate::membership::peer::{Owed, Peer};
use crate::membership::view::Sets;
use crate::name::NodeName;
use crate::time::Instant;

/// The phase of sets and a short name for them, by which two disks are compared.
pub(super) fn named(sets: &Sets) -> (u64, [u8; 8]) {
    let digest = Digest::of(&postcard::to_allocvec(sets).expect("sets serialize"));
    let mut tag = [0; 8];
    tag.copy_from_slice(&digest.0[..8]);
    (sets.phase, tag)
}

impl Protocol {
    /// Does this node start the pair with `peer`? The lower by name where their distance is odd.
    fn starts(&self, peer: &NodeName) -> bool {
        let place = |name: &NodeName| self.peers.range(..name.clone()).count() + usize::from(self.me < *name);
        let (mine, theirs) = (place(&self.me), place(peer));
        (mine < theirs) == (mine.abs_diff(theirs) % 2 == 1)
    }

    /// Moves the own beat towards that of the lowest live lower node that starts with this one.
    pub(super) fn follow_beat(&mut self, now: Instant, from: &NodeName) {
        let leader = self
            .peers
            .keys()
            .take_while(|name| **name < self.me)
            .find(|name| !self.starts(name) && self.hears(now, name));
        if leader != Some(from) {
            return;
        }
        let beat = self.timing.heartbeat;
        let step = beat / 10;
        // How far the own next beat lies behind the leader's, as if both beat now.
        let ahead = Duration::from_micros((self.beat_at.since(now).as_micros() % beat.as_micros()) as u64);
        if ahead > beat / 2 {
            self.beat_at = self.beat_at + (beat - ahead).min(step);
        } else {
            self.beat_at = self.beat_at.before(ahead.min(step)).max(now);
        }
    }

    /// Steady as this node hears it: without a gap for `join`, or at least for 2 D.
    pub(super) fn steadiness(&self, now: Instant, peer: &Peer) -> Says {
        let since = peer.steady_since.filter(|_| self.is_heard(now, peer) && !peer.goodbye);
        let lasted = since.map_or(Duration::ZERO, |since| now.since(since));
        Says::default()
            .and(Says::STEADY, since.is_some() && lasted >= self.timing.join)
            .and(Says::THERE, since.is_some() && lasted >= self.timing.silence * 2)
    }

    /// Last in each step: everything that is to be sent now; afterwards [`Protocol::due`] is right.
    pub fn flush(&mut self, now: Instant) -> Vec<Outgoing> {
        if now >= self.beat_at {
            let beat = self.timing.heartbeat;
            self.beat_at = if now.since(self.beat_at) < beat { self.beat_at + beat } else { now + beat };
            // Nodes that know of different peers may differ on who starts; to the silent both speak.
            let started = self.peers.iter().filter(|(name, peer)| self.starts(name) || self.is_silent(now, peer));
            let started: Vec<NodeName> = started.map(|(name, _)| name.clone()).collect();
            for name in started {
                self.peers.get_mut(&name).expect("a peer").owed.beat = true;
            }
        }
        self.wake(self.beat_at);
        self.ask_out_of_turn(now);

        let owed: Vec<(NodeName, Owed)> = self
            .peers
            .iter_mut()
            .filter(|(_, peer)| peer.owed.anything())
            .map(|(name, peer)| (name.clone(), std::mem::take(&mut peer.owed)))
            .collect();
        if owed.is_empty() {
            return Vec::new();
        }
        let common = self.common(now);
        owed.into_iter().map(|(name, owed)| self.compose(now, &common, name, owed)).collect()
    }

    /// Asks those from whom something is late, each `retry`.
    fn ask_out_of_turn(&mut self, now: Instant) {
        let timing = self.timing;
        let asked_recently = |at: Instant, span: Duration| now < at + span;
        let majority_ack =
            self.accepted.as_ref().filter(|_| self.lease.is_some()).map(|view| self.majority_ack(view.sets()));
        // `until` is L after the send; at risk when that is older than `risk`.
        let slack = timing.lease - timing.risk;
        let risk_at = majority_ack.filter(|until| *until != Instant::NEVER).map(|until| until.before(slack));
        let accepted = self.accepted.as_ref().map(|view| view.id());
        let spreading = accepted.is_some() && asked_recently(self.accepted_at, timing.heartbeat * 3);
        let newly_silent: Vec<(NodeName, u64)> = self
            .accepted
            .iter()
            .flat_map(|view| view.members())
            .filter_map(|(name, member)| {
                let since = self.peers.get(name)?.silent_since?;
                asked_recently(since, timing.heartbeat).then(|| (name.clone(), member.epoch))
            })
            .collect();
        let lacking: Vec<_> = self.lacking_bodies();

        let mut wake = risk_at.filter(|at| *at > now).unwrap_or(Instant::NEVER);
        let since = self.boot.max(self.stall_end);
        for (name, peer) in &mut self.peers {
            let last = peer.heard_at.map_or(since, |at| at.max(since));
            if now >= last + timing.silence || peer.goodbye {
                continue;
            }
            let late_at = last + timing.late;
            let late = now >= late_at;
            if !late {
                wake = wake.min(late_at);
            }
            let at_risk =
                risk_at.is_some_and(|at| now >= at) && peer.ack_until.is_none_or(|until| until.before(slack) <= now);
            let lacks_view = spreading && peer.accepted < accepted;
            let lacks_verdict = newly_silent.iter().any(|(gone, epoch)| gone != name && !peer.says_gone(gone, *epoch));
            let has_body = lacking.iter().any(|(holder, _)| holder == name);
            if !(late || at_risk || lacks_view || lacks_verdict || has_body) {
                continue;
            }
            let next = peer.asked_at.map_or(now, |at| at + timing.retry);
            if now >= next {
                peer.owed.ask = true;
                peer.asked_at = Some(now);
                wake = wake.min(now + timing.retry);
            } else {
                wake = wake.min(next);
            }
        }
        self.wake(wake);
    }

    /// Peers that have accepted a higher view whose body, or an offer named in it, this node lacks.
    fn lacking_bodies(&self) -> Vec<(NodeName, crate::membership::view::ViewId)> {
        let floor = self.accepted.as_ref().map(|view| view.id());
        let higher = self
            .peers
            .iter()
            .filter_map(|(name, peer)| peer.accepted.filter(|id| Some(*id) > floor).map(|id| (name.clone(), id)));
        higher
            .filter(|(_, id)| {
                self.views
                    .get(id)
                    .is_none_or(|view| view.members().values().any(|member| !self.offers.contains_key(&member.offer)))
            })
            .collect()
    }

    /// What every datagram of this step says, whoever gets it.
    pub(super) fn common(&self, now: Instant) -> Heartbeat {
        let accepted = self.accepted.as_ref();
        let peers = self
            .peers
            .iter()
            .map(|(name, peer)| {
                let named = accepted.and_then(|view| view.members().get(name)).map_or(0, |member| member.epoch);
                let epoch = peer.epoch.max(named);
                let heard = peer.epoch == epoch && peer.heard_at.is_some();
                let gone = self.is_silent(now, peer) || (heard && peer.goodbye);
                let says = if heard { self.steadiness(now, peer) } else { Says::default() };
                let says = says.and(Says::GONE, gone).and(Says::ACK, heard && self.acks(now, name, epoch));
                PeerReport { name: name.clone(), epoch, counter: if heard { peer.counter } else { 0 }, says }
            })
            .collect();
        Heartbeat {
            flags: self.standing_flags(),
            loaded: self.loaded.clone(),
            disk: self.disk_tag,
            accepted: accepted.map(|view| view.id()),
            before: self.before.as_ref().map(|view| view.id()),
            clean: self.clean,
            known_clean: self.known_clean.iter().cloned().collect(),
            settled: self.settled.iter().copied().collect(),
            offer: self.told_offer(),
            peers,
            offers: Vec::new(),
            views: Vec::new(),
            sets: None,
            want_views: Vec::new(),
            want_offers: Vec::new(),
            gossip: Vec::new(),
            record_version: self.record.version,
            record: None,
        }
    }

    /// What the keeper says for a daemon that died: goodbye, and nothing else. What it would say of views and
    /// peers is old by then, and must not be taken for fresh. The same words for a whole life: they are sealed once.
    pub fn last_words(&self) -> Heartbeat {
        Heartbeat {
            flags: Flags::GOODBYE,
            loaded: Vec::new(),
            disk: None,
            accepted: None,
            before: None,
            clean: None,
            known_clean: Vec::new(),
            settled: Vec::new(),
            offer: self.empty_offer,
            peers: Vec::new(),
            offers: Vec::new(),
            views: Vec::new(),
            sets: None,
            want_views: Vec::new(),
            want_offers: Vec::new(),
            gossip: Vec::new(),
            record_version: 0,
            record: None,
        }
    }

    /// Does this node acknowledge the identity?
    fn acks(&self, now: Instant, name: &NodeName, epoch: u64) -> bool {
        use crate::membership::rule::Rule;

        let Some(view) = &self.accepted else { return false };
        if !view.has(name, epoch) {
            return !self.keeps(Rule::AckMembersOnly);
        }
        let since = self.member_since.get(name).map_or(now, |(_, since)| *since);
        now.since(since) > self.timing.silence || !self.keeps(Rule::AckAfterSilence)
    }

    fn compose(&mut self, now: Instant, common: &Heartbeat, to: NodeName, owed: Owed) -> Outgoing {
        let mut heartbeat = common.clone();
        let asks = owed.beat || owed.ask;
        heartbeat.flags = heartbeat
            .flags
            .with(if asks { Flags::ANSWER_ME } else { Flags::default() })
            .with(if owed.beat { Flags::BEAT } else { Flags::default() });
        let gossip = self.gossip.remove(&to);
        heartbeat.gossip = gossip.unwrap_or_default();
        let peer = &self.peers[&to];
        if peer.lacks_record() {
            heartbeat.flags = heartbeat.flags.with(Flags::WANT_RECORD);
        }
        if owed.record {
            heartbeat.record = Some(self.record.clone());
        }
        let mut views = owed.views;
        let mut offers = owed.offers;
        if let Some(view) = &self.accepted
            && peer.accepted != Some(view.id())
            && now < self.accepted_at + self.timing.heartbeat * 3
        {
            views.insert(view.id());
        }
        if now < self.offer_changed_at + self.timing.heartbeat * 3 {
            offers.insert(self.told_offer());
        }
        // Who is not heard may have lost its disk since, and knows of nobody but those who are declared.
        if let Some(disk) = &self.disk
            && (peer.disk != heartbeat.disk || !self.is_heard(now, peer))
        {
            heartbeat.sets = Some(disk.clone());
        }
        heartbeat
            .want_views
            .extend(peer.accepted.filter(|id| {
                self.accepted.as_ref().is_none_or(|view| *id > view.id()) && !self.views.contains_key(id)
            }));
        let named = peer.accepted.and_then(|id| self.views.get(&id));
        let offered = named.into_iter().flat_map(|view| view.members().values().map(|member| member.offer));
        let unknown = offered
            .chain([peer.offer])
            .chain(peer.alone)
            .filter(|digest| !self.offers.contains_key(digest) && peer.heard_at.is_some());
        heartbeat.want_offers.extend(unknown);
        heartbeat.want_offers.sort_unstable();
        heartbeat.want_offers.dedup();
        // An offer of a view that is sent along is sent too, but for those that everybody can make up.
        heartbeat.views.extend(views.iter().filter_map(|id| self.views.get(id).cloned()));
        heartbeat.offers.extend(offers.iter().filter_map(|digest| self.offers.get(digest).cloned()));

        self.counter += 1;
        self.sent.push_back((self.counter, now));
        while self.sent.front().is_some_and(|(_, at)| now > *at + self.timing.lease) {
            self.sent.pop_front();
        }
        Outgoing { to, epoch: self.epoch, counter: self.counter, heartbeat }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::membership::protocol::Birth;
    use crate::membership::timing::Timing;

    #[test]
    fn a_dead_node_does_not_look_alive_because_this_one_stood_still() {
        let [a, b] = ["a", "b"].map(|name| NodeName::new(name).unwrap());
        let node = |me: &NodeName| {
            let birth = Birth { me: me.clone(), epoch: 7, disk: None, at: Instant::ZERO, without: Vec::new() };
            let mut protocol = Protocol::new(birth, Timing::default());
            protocol.load(Digest::of(b"one"), BTreeSet::from([a.clone(), b.clone()]));
            protocol
        };
        let (mut here, there) = (node(&a), node(&b));
        let at = |millis: u64| Instant::from_micros(millis * 1_000);
        let step = |here: &mut Protocol, millis: u64, hears: bool| {
            here.begin(at(millis));
            if hears {
                here.hear(at(millis), &b, 7, millis, &there.common(at(millis))).unwrap();
            }
            here.advance(at(millis));
            here.flush(at(millis));
            here.steadiness(at(millis), &here.peers[&b])
        };
        for millis in (1..3_000).step_by(10) {
            step(&mut here, millis, true);
        }
        assert!(step(&mut here, 3_001, true).has(Says::STEADY));
        for millis in (3_011..3_201).step_by(10) {
            step(&mut here, millis, false);
        }
        assert!(!here.hears(at(3_200), &b), "it is silent");
        // A stall: whatever was not heard during it counts for nothing, so that D begins anew for it.
        let says = step(&mut here, 3_400, false);
        assert!(!says.has(Says::THERE) && !says.has(Says::STEADY));
        assert!(!here.hears(at(3_400), &b), "but nobody was heard");
        step(&mut here, 3_410, true);
        assert!(here.hears(at(3_410), &b));
    }

    #[test]
    fn a_peer_that_is_not_heard_is_told_the_sets_as_it_may_have_lost_its_disk() {
        let [a, b] = ["a", "b"].map(|name| NodeName::new(name).unwrap());
        let sets = Sets::first(BTreeSet::from([a.clone(), b.clone()]));
        let node = |me: &NodeName| {
            let disk = Some(sets.clone());
            let birth = Birth { me: me.clone(), epoch: 7, disk, at: Instant::ZERO, without: Vec::new() };
            let mut protocol = Protocol::new(birth, Timing::default());
            protocol.load(Digest::of(b"one"), BTreeSet::from([a.clone(), b.clone()]));
            protocol
        };
        let (mut here, there) = (node(&a), node(&b));
        let mut tells_sets = |millis: u64, hears: bool| {
            let now = Instant::from_micros(millis * 1_000);
            here.begin(now);
            if hears {
                here.hear(now, &b, 7, millis, &there.common(now)).unwrap();
            }
            here.advance(now);
            here.tell_all();
            let told = here.flush(now);
            assert_eq!(told.len(), 1);
            told[0].heartbeat.sets.is_some()
        };
        assert!(!tells_sets(10, true), "it says that it has the same");
        assert!((20..400).step_by(10).any(|millis| tells_sets(millis, false)), "it fell silent");
    }
}
