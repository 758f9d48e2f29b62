//! The view protocol: how nodes agree who is a member, and when a node may start on what another had.
//!
//! In: heartbeats heard, generations loaded, the node's offer, time. Out: heartbeats to send, the lease,
//! the accepted view, whether it is established and settled, and how a VIP may be started in it.
//! Not here: VIPs (`engine`), foca (`list`), bytes and seals (`wire`).
//!
//! Call order in one step: [`Protocol::begin`] first (it finds stalls and lapses before anything else
//! can revive them), then what happened, then [`Protocol::advance`] until it reports no change, then
//! [`Protocol::flush`]. `docs/protocol.md` has the rules and the argument for their safety.

mod accept;
mod alone;
mod evidence;
mod pace;
mod propose;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::heartbeat::{Flags, Heartbeat, Says};
use super::peer::Peer;
use super::record::NodeRecord;
use super::rule::Rule;
use super::timing::Timing;
use super::view::{Sets, View, ViewId};
use crate::digest::Digest;
use crate::name::NodeName;
use crate::placement::offer::Offer;
use crate::time::Instant;

pub use evidence::Start;

/// Generations that a node keeps loaded, so that a view may name the one before the newest.
const GENERATIONS_KEPT: usize = 4;

/// What a node starts with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Birth {
    /// Its name.
    pub me: NodeName,
    /// max(wall clock in ms, stored epoch + 1).
    pub epoch: u64,
    /// The sets of the highest phase it ever accepted.
    pub disk: Option<Sets>,
    /// When it booted.
    pub at: Instant,
    /// The rules that a mutant lacks; a running node lacks none.
    pub without: Vec<Rule>,
}

/// Who must be heard before a cluster forms. It rests on who may have formed one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forming {
    /// All of the declared names; a majority of them once that took too long: never were others declared.
    Majority,
    /// All of them.
    All,
    /// Not by themselves: others were declared before, which need none of these for a majority and may be at work.
    ByHand,
}

/// Has a set of before its majority without any of those who are declared now? Then it may be at work beside them.
pub fn outlives<T: Ord>(before: &BTreeSet<T>, now: &BTreeSet<T>) -> bool {
    before.difference(now).count() * 2 > before.len()
}

/// A datagram to send: to whom, under which epoch and counter, saying what.
#[derive(Debug, Clone, Serialize)]
pub struct Outgoing {
    /// The peer.
    pub to: NodeName,
    /// The sender's epoch.
    pub epoch: u64,
    /// Grows with each datagram of this boot.
    pub counter: u64,
    /// What it says.
    pub heartbeat: Heartbeat,
}

/// Why a datagram changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unheard {
    /// Not a peer: neither declared nor in a set.
    Stranger,
    /// Not newer than the last one of this sender.
    Stale,
}

/// The protocol of one node. A copy goes its own way, and what it serializes as is its whole state: a model checker tries
/// everything that may come next, and tells states apart.
#[derive(Debug, Clone, Serialize)]
pub struct Protocol {
    me: NodeName,
    epoch: u64,
    boot: Instant,
    timing: Timing,
    without: Vec<Rule>,

    peers: BTreeMap<NodeName, Peer>,
    disk: Option<Sets>,
    /// Their phase and short name, as heartbeats tell them.
    disk_tag: Option<(u64, [u8; 8])>,
    /// The sets of a higher phase than that on disk, as told by others.
    led_by: Option<Sets>,
    loaded: Vec<Digest>,
    declared: BTreeMap<Digest, Arc<BTreeSet<NodeName>>>,
    forming: Option<(BTreeSet<NodeName>, Forming)>,

    accepted: Option<Arc<View>>,
    accepted_at: Instant,
    before: Option<Arc<View>>,
    member_since: BTreeMap<NodeName, (u64, Instant)>,
    clean: Option<ViewId>,
    known_clean: BTreeSet<NodeName>,
    settled: BTreeSet<ViewId>,
    highest: u64,
    views: BTreeMap<ViewId, Arc<View>>,
    offers: BTreeMap<Digest, Arc<Offer>>,
    empty_offer: Digest,

    lease: Option<Instant>,
    own_epoch_heard: u64,
    offer: Arc<Offer>,
    offer_digest: Digest,
    offer_changed_at: Instant,
    draining: bool,
    leaving: bool,
    goodbye: bool,

    counter: u64,
    sent: VecDeque<(u64, Instant)>,
    stall_end: Instant,
    beat_at: Instant,
    calm_since: Option<Instant>,
    blocked_since: Option<Instant>,
    outlived_since: Option<Instant>,
    /// It forgot a view of a phase that others have left behind, and accepted none since.
    started_over: bool,
    due: Instant,

    record: Arc<NodeRecord>,
    gossip: BTreeMap<NodeName, Vec<Vec<u8>>>,
    to_persist: Option<Sets>,
    lapses: u64,

    /// There are VIPs that may be served alone.
    may_be_alone: bool,
    /// When this node last had a lease, or heard somebody who has one.
    company_at: Instant,
    /// Was there such a time since boot?
    had_company: bool,
    alone: bool,
}

impl Protocol {
    /// A node that has just booted and has heard nobody.
    pub fn new(birth: Birth, timing: Timing) -> Self {
        let empty = Arc::new(Offer::default());
        let empty_offer = empty.digest();
        Self {
            me: birth.me,
            epoch: birth.epoch,
            boot: birth.at,
            timing,
            without: birth.without,
            peers: BTreeMap::new(),
            disk_tag: birth.disk.as_ref().map(pace::named),
            disk: birth.disk,
            led_by: None,
            loaded: Vec::new(),
            declared: BTreeMap::new(),
            forming: None,
            accepted: None,
            accepted_at: birth.at,
            before: None,
            member_since: BTreeMap::new(),
            clean: None,
            known_clean: BTreeSet::new(),
            settled: BTreeSet::new(),
            highest: 0,
            views: BTreeMap::new(),
            offers: BTreeMap::from([(empty_offer, empty.clone())]),
            empty_offer,
            lease: None,
            own_epoch_heard: 0,
            offer: empty,
            offer_digest: empty_offer,
            offer_changed_at: birth.at,
            draining: false,
            leaving: false,
            goodbye: false,
            counter: 0,
            sent: VecDeque::new(),
            stall_end: birth.at,
            beat_at: birth.at,
            calm_since: None,
            blocked_since: None,
            outlived_since: None,
            started_over: false,
            due: birth.at,
            record: Arc::new(NodeRecord::default()),
            gossip: BTreeMap::new(),
            to_persist: None,
            lapses: 0,
            may_be_alone: false,
            company_at: birth.at,
            had_company: false,
            alone: false,
        }
    }

    /// This node's name.
    pub const fn me(&self) -> &NodeName {
        &self.me
    }

    /// Its present epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The times in force.
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The end of the lease; nothing where there is none.
    pub const fn lease(&self) -> Option<Instant> {
        self.lease
    }

    /// The view accepted.
    pub const fn accepted(&self) -> Option<&Arc<View>> {
        self.accepted.as_ref()
    }

    /// The view accepted straight before it.
    pub const fn before(&self) -> Option<&Arc<View>> {
        self.before.as_ref()
    }

    /// Generations loaded, newest first.
    pub fn loaded(&self) -> &[Digest] {
        &self.loaded
    }

    /// When it was accepted.
    pub const fn accepted_at(&self) -> Instant {
        self.accepted_at
    }

    /// Is this node, under its present identity, a member of the accepted view?
    pub fn is_member(&self) -> bool {
        self.accepted.as_ref().is_some_and(|view| view.has(&self.me, self.epoch))
    }

    /// The body of an offer that a view names.
    pub fn offer_body(&self, digest: &Digest) -> Option<&Arc<Offer>> {
        self.offers.get(digest)
    }

    /// How many lives this node has lost its lease in.
    pub const fn lapses(&self) -> u64 {
        self.lapses
    }

    /// The sets on disk.
    pub const fn disk(&self) -> Option<&Sets> {
        self.disk.as_ref()
    }

    /// Does a live peer know of a later phase than the accepted view's?
    pub fn is_outlived(&self, now: Instant) -> bool {
        self.accepted.as_ref().is_some_and(|view| self.is_left_behind(now, view))
    }

    fn is_left_behind(&self, now: Instant, view: &View) -> bool {
        let ahead = |peer: &Peer| peer.disk.is_some_and(|(phase, _)| phase > view.sets().phase);
        self.peers.values().any(|peer| self.is_heard(now, peer) && ahead(peer))
    }

    /// Has this node said goodbye under its present identity?
    pub const fn said_goodbye(&self) -> bool {
        self.goodbye
    }

    /// When the protocol must be stepped next.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// The peers that this node exchanges heartbeats with.
    pub fn peers(&self) -> impl Iterator<Item = &NodeName> {
        self.peers.keys()
    }

    /// This node's own record.
    pub const fn record(&self) -> &Arc<NodeRecord> {
        &self.record
    }

    /// What this node could carry, whether it may now or not.
    pub const fn own_offer(&self) -> &Arc<Offer> {
        &self.offer
    }

    /// Does this node give away what it has?
    pub const fn is_draining(&self) -> bool {
        self.draining
    }

    /// Has a peer said goodbye, and not come back?
    pub fn has_left(&self, name: &NodeName) -> bool {
        self.peers.get(name).is_some_and(|peer| peer.goodbye)
    }

    /// The record of a peer, as last heard.
    pub fn record_of(&self, name: &NodeName) -> Option<&Arc<NodeRecord>> {
        self.peers.get(name).and_then(|peer| peer.record.as_ref())
    }

    /// When a peer was last heard.
    pub fn heard_at(&self, name: &NodeName) -> Option<Instant> {
        self.peers.get(name).and_then(|peer| peer.heard_at)
    }

    /// The epoch under which a peer was last heard; its offer of the moment, to a view or to others who are alone.
    pub fn peer_now(&self, name: &NodeName) -> Option<(u64, Option<&Arc<Offer>>)> {
        let peer = self.peers.get(name).filter(|peer| peer.heard_at.is_some())?;
        Some((peer.epoch, self.offers.get(&peer.alone.unwrap_or(peer.offer))))
    }

    /// The newest generation that a peer says it loaded.
    pub fn loaded_by(&self, name: &NodeName) -> Option<&Digest> {
        self.peers.get(name).and_then(|peer| peer.loaded.first())
    }

    /// Is a peer heard at present?
    pub fn hears(&self, now: Instant, name: &NodeName) -> bool {
        self.peers.get(name).is_some_and(|peer| self.is_heard(now, peer))
    }

    /// The offer that this node really makes: empty without a lease and while it drains.
    fn effective_offer(&self) -> Digest {
        if self.lease.is_some() && !self.draining { self.offer_digest } else { self.empty_offer }
    }

    fn keeps(&self, rule: Rule) -> bool {
        !self.without.contains(&rule)
    }

    /// Something is to be looked at again at `at`, at the latest.
    fn wake(&mut self, at: Instant) {
        self.due = self.due.min(at);
    }

    // ---- what happens ----

    /// First in each step: was this node standing still, and is its lease over? True where it lapsed.
    pub fn begin(&mut self, now: Instant) -> bool {
        if now.since(self.due) > self.timing.stall {
            self.stall_end = now;
        }
        // What it gave itself is over, too: whoever came meanwhile is to be heard first.
        if now.since(self.due) > self.timing.lease {
            self.company_at = now;
        }
        self.due = Instant::NEVER;
        let over = self.lease.is_some_and(|until| now >= until);
        if over && self.keeps(Rule::LapseIsFinal) {
            self.new_life();
            self.lapses += 1;
            return true;
        }
        if over {
            self.lease = None;
        }
        false
    }

    /// A generation was loaded and is the newest now.
    pub fn load(&mut self, generation: Digest, names: BTreeSet<NodeName>) {
        self.loaded.retain(|known| *known != generation);
        self.loaded.insert(0, generation);
        let in_force = self.accepted.as_ref().map(|view| view.body().generation);
        while self.loaded.len() > GENERATIONS_KEPT {
            let oldest = self.loaded.iter().rposition(|known| Some(*known) != in_force);
            let Some(oldest) = oldest else { break };
            let forgotten = self.loaded.remove(oldest);
            self.declared.remove(&forgotten);
        }
        self.declared.insert(generation, Arc::new(names));
        self.track_peers();
        self.tell_all();
    }

    /// The declared times changed.
    pub fn set_timing(&mut self, mut timing: Timing) {
        if !self.keeps(Rule::SilenceOutlastsLease) {
            timing.silence = timing.lease * 4 / 5;
        }
        self.timing = timing;
    }

    /// Who must be heard before these names form a cluster that never was.
    pub fn allow_forming(&mut self, names: BTreeSet<NodeName>, forming: Forming) {
        self.forming = Some((names, forming));
    }

    /// A person begins the cluster anew with these names: an even phase above every one heard of, as a new identity.
    /// What was agreed before is void; that no node of before goes on is what the person vouches for.
    pub fn form_anew(&mut self, now: Instant, names: BTreeSet<NodeName>) {
        let told = self.peers.values().filter_map(|peer| peer.disk).map(|(phase, _)| phase);
        let highest = told.chain(self.disk.as_ref().map(|disk| disk.phase)).max();
        let phase = highest.map_or(0, |phase| (phase / 2 + 1) * 2);
        let sets = Sets { phase, current: Arc::new(names), next: None };
        self.write(sets);
        self.led_by = None;
        self.accepted = None;
        self.before = None;
        self.known_clean.clear();
        self.member_since.clear();
        self.boot = now;
        self.track_peers();
        self.new_life();
    }

    /// These sets are on disk from now on.
    fn write(&mut self, sets: Sets) {
        self.disk_tag = Some(pace::named(&sets));
        self.to_persist = Some(sets.clone());
        self.disk = Some(sets);
    }

    /// What this node can carry, as it knows itself.
    pub fn set_offer(&mut self, now: Instant, offer: Offer) {
        let digest = offer.digest();
        if digest == self.offer_digest {
            return;
        }
        self.offer = Arc::new(offer);
        self.offer_digest = digest;
        self.offers.insert(digest, self.offer.clone());
        self.offer_changed_at = now;
        self.tell_all();
    }

    /// Gives away what it has and takes nothing new, or stops doing so.
    pub fn set_draining(&mut self, now: Instant, draining: bool) {
        if self.draining != draining {
            self.draining = draining;
            self.offer_changed_at = now;
            self.tell_all();
        }
    }

    /// Will say goodbye as soon as it holds nothing (and drains until then).
    pub fn leave(&mut self, now: Instant) {
        self.leaving = true;
        self.set_draining(now, true);
    }

    /// Is on the way out?
    pub const fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Comes back after a goodbye, as a new identity.
    pub fn rejoin(&mut self, now: Instant) {
        self.leaving = false;
        self.set_draining(now, false);
        if self.goodbye {
            self.new_life();
        }
    }

    /// The engine holds nothing: a leaving node may say so.
    pub fn say_goodbye_if_leaving(&mut self, holds_nothing: bool) {
        let may = holds_nothing || !self.keeps(Rule::GoodbyeHoldsNothing);
        if self.leaving && may && !self.goodbye {
            self.goodbye = true;
            self.tell_all();
        }
    }

    /// What is told of this node, unhurried.
    pub fn set_record(&mut self, record: NodeRecord) {
        self.record = Arc::new(record);
        for peer in self.peers.values_mut() {
            peer.owed.record = true;
        }
    }

    /// foca's message to a peer; it rides on the next heartbeat.
    pub fn carry_gossip(&mut self, to: &NodeName, message: Vec<u8>) {
        // A peer that is never sent anything must not pile messages up.
        const MOST: usize = 8;
        let waiting = self.gossip.entry(to.clone()).or_default();
        if waiting.len() == MOST {
            waiting.remove(0);
        }
        waiting.push(message);
    }

    /// A heartbeat came whose seal was good.
    pub fn hear(
        &mut self,
        now: Instant,
        from: &NodeName,
        epoch: u64,
        counter: u64,
        heartbeat: &Heartbeat,
    ) -> Result<(), Unheard> {
        self.meet(from, heartbeat);
        let Some(peer) = self.peers.get_mut(from) else { return Err(Unheard::Stranger) };
        if (epoch, counter) <= (peer.epoch, peer.counter) {
            return Err(Unheard::Stale);
        }
        peer.hear(now, epoch, counter, heartbeat, self.empty_offer);
        if peer.leased {
            self.company_at = now;
            self.had_company = true;
        }
        if heartbeat.flags.has(Flags::GOODBYE) {
            peer.goodbye = true;
        }
        if heartbeat.flags.has(Flags::ANSWER_ME) {
            peer.owed.answer = true;
        }
        if heartbeat.flags.has(Flags::WANT_RECORD) {
            peer.owed.record = true;
        }
        peer.owed.views.extend(heartbeat.want_views.iter().copied().filter(|id| self.views.contains_key(id)));
        peer.owed.offers.extend(heartbeat.want_offers.iter().copied().filter(|id| self.offers.contains_key(id)));

        self.hear_of_me(from, now);
        for offer in &heartbeat.offers {
            self.offers.entry(offer.digest()).or_insert_with(|| offer.clone());
        }
        for view in &heartbeat.views {
            self.highest = self.highest.max(view.id().number);
            self.views.entry(view.id()).or_insert_with(|| view.clone());
        }
        for id in heartbeat.accepted.iter().chain(&heartbeat.settled) {
            self.highest = self.highest.max(id.number);
        }
        // Numbers begin anew after a restart of all, so what is kept is what is in use, not what is highest.
        let settled = heartbeat.settled.iter().copied().filter(|id| self.is_in_use(id));
        self.settled.extend(settled.collect::<Vec<_>>());
        self.hear_of_clean(from, epoch, heartbeat);
        self.renew_lease(now);
        if heartbeat.flags.has(Flags::BEAT) {
            self.follow_beat(now, from);
        }
        Ok(())
    }

    /// A node that is not declared is heard where it tells of sets with itself in a higher phase than any known
    /// here: the cluster that this node was away from, or is to replace, went on under other names.
    fn meet(&mut self, from: &NodeName, heartbeat: &Heartbeat) {
        let Some(sets) = &heartbeat.sets else { return };
        let known = self.disk.iter().chain(&self.led_by).map(|sets| sets.phase).max();
        if Some(sets.phase) > known && sets.is_sound() && (sets.contains(from) || self.peers.contains_key(from)) {
            self.led_by = Some(sets.clone());
            self.track_peers();
        }
    }

    /// What the peer's last datagram says of this very node: acks, echoes, later lives.
    fn hear_of_me(&mut self, from: &NodeName, now: Instant) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        let Some(report) = peer.report_of(&self.me) else { return };
        let (epoch, counter, acked) = (report.epoch, report.counter, report.says.has(Says::ACK));
        if epoch > self.epoch {
            self.own_epoch_heard = self.own_epoch_heard.max(epoch);
            self.new_life();
            return;
        }
        if epoch != self.epoch {
            return;
        }
        let Ok(at) = self.sent.binary_search_by_key(&counter, |(counter, _)| *counter) else { return };
        let sent = self.sent[at].1;
        peer.echo_sent = peer.echo_sent.max(Some(sent));
        if acked && sent + self.timing.lease > now {
            peer.ack_until = peer.ack_until.max(Some(sent + self.timing.lease));
        }
    }

    /// Everything that can follow from what is known now: accept, propose. True where the view changed.
    pub fn advance(&mut self, now: Instant) -> bool {
        self.notice_silence(now);
        self.outlive_exclusion();
        self.start_over_if_outlived(now);
        let mut changed = false;
        // Each round raises the accepted number, and a proposal needs news to follow another: bounded.
        for _ in 0..4 {
            let next = match self.acceptable_offer(now) {
                Some(view) => Some(view),
                None => self.proposal(now).map(Arc::new),
            };
            let Some(view) = next else { break };
            self.accept(now, view);
            changed = true;
        }
        self.renew_lease(now);
        self.notice_company(now);
        changed
    }

    /// A life ends: the identity grows, and no ack of the old one counts.
    fn new_life(&mut self) {
        self.epoch = self.epoch.max(self.own_epoch_heard) + 1;
        self.lease = None;
        self.clean = None;
        self.goodbye = false;
        for peer in self.peers.values_mut() {
            peer.ack_until = None;
            peer.echo_sent = None;
        }
        self.tell_all();
    }

    /// A member without a lease that sees a higher view without itself lets its epoch grow too; and so does one that
    /// is named in a view which it can never accept, as that view would never settle.
    fn outlive_exclusion(&mut self) {
        // Sets that do not name this node: somebody went over to a later phase and could not leave this identity out.
        let stranded = |view: &Arc<View>| !view.sets().contains(&self.me) && view.has(&self.me, self.epoch);
        if !self.goodbye && self.peers.values().filter_map(|peer| self.views.get(&peer.accepted?)).any(stranded) {
            return self.new_life();
        }
        let Some(accepted) = &self.accepted else { return };
        if self.lease.is_some() || !accepted.has(&self.me, self.epoch) {
            return;
        }
        let left_out =
            self.peers.values().filter_map(|peer| peer.accepted).any(|id| {
                id > accepted.id() && self.views.get(&id).is_some_and(|view| !view.has(&self.me, self.epoch))
            });
        if left_out {
            self.new_life();
        }
    }

    /// A node that serves nothing and whose accepted view is of a phase that others have left behind may never come to
    /// another one: that view can name members who live and whom the views of now leave out, and each of its proposals
    /// makes those of now be proposed anew. It forgets what it accepted, as if its host had restarted; that is always
    /// allowed, at the price of the wait after a boot.
    fn start_over_if_outlived(&mut self, now: Instant) {
        if self.lease.is_some() || self.alone || !self.is_outlived(now) {
            self.outlived_since = None;
            return;
        }
        let at = *self.outlived_since.get_or_insert(now) + self.timing.join;
        if now < at {
            self.wake(at);
            return;
        }
        let epoch = self.epoch.max(self.own_epoch_heard) + 1;
        let birth =
            Birth { me: self.me.clone(), epoch, disk: self.disk.clone(), at: now, without: self.without.clone() };
        let old = std::mem::replace(self, Self::new(birth, self.timing));
        // What a node knows without having heard or said it.
        self.loaded = old.loaded;
        self.declared = old.declared;
        self.forming = old.forming;
        self.offer = old.offer;
        self.offer_digest = old.offer_digest;
        self.offers.insert(self.offer_digest, self.offer.clone());
        self.draining = old.draining;
        self.leaving = old.leaving;
        self.counter = old.counter;
        self.started_over = true;
        self.record = old.record;
        self.to_persist = old.to_persist;
        self.lapses = old.lapses;
        self.may_be_alone = old.may_be_alone;
        self.company_at = old.company_at;
        self.had_company = old.had_company;
        self.track_peers();
        self.tell_all();
    }

    /// Peers are all who are declared, in a set, or in the accepted view.
    fn track_peers(&mut self) {
        let mut names: BTreeSet<NodeName> = self
            .loaded
            .first()
            .and_then(|newest| self.declared.get(newest))
            .map_or_else(BTreeSet::new, |names| (**names).clone());
        for sets in self.disk.iter().chain(&self.led_by) {
            names.extend(sets.names());
        }
        if let Some(view) = &self.accepted {
            names.extend(view.sets().names());
            names.extend(view.members().keys().cloned());
        }
        names.remove(&self.me);
        self.peers.retain(|name, _| names.contains(name));
        self.gossip.retain(|name, _| names.contains(name));
        for name in names {
            self.peers.entry(name).or_default();
        }
    }

    fn tell_all(&mut self) {
        for peer in self.peers.values_mut() {
            peer.owed.tell = true;
        }
    }

    fn notice_silence(&mut self, now: Instant) {
        let mut news = false;
        let mut wake = Instant::NEVER;
        let since = self.boot.max(self.stall_end);
        for (name, peer) in &mut self.peers {
            let last = peer.heard_at.map_or(since, |at| at.max(since));
            let at = last + self.timing.silence;
            if now < at {
                wake = wake.min(at);
                // Heard again after silence is noted in `Peer::hear`.
                continue;
            }
            if peer.silent_since.is_none() {
                peer.silent_since = Some(now);
                news |= self.accepted.as_ref().is_some_and(|view| view.members().contains_key(name));
            }
        }
        self.wake(wake);
        if news {
            self.tell_all();
        }
    }

    fn is_silent(&self, now: Instant, peer: &Peer) -> bool {
        let since = self.boot.max(self.stall_end);
        let last = peer.heard_at.map_or(since, |at| at.max(since));
        now >= last + self.timing.silence
    }

    /// Heard, and not silent. A stall of this node makes nobody gone, but it does not bring anybody back either: who was
    /// silent before it has to be heard.
    fn is_heard(&self, now: Instant, peer: &Peer) -> bool {
        peer.heard_at.is_some() && peer.silent_since.is_none() && !self.is_silent(now, peer)
    }

    /// Is this identity gone: silent, left, or outlived? One's own present identity never is.
    fn is_gone(&self, now: Instant, name: &NodeName, epoch: u64) -> bool {
        if *name == self.me {
            return epoch < self.epoch;
        }
        // A name that is not even tracked was in no set and no view for longer than D.
        let Some(peer) = self.peers.get(name) else { return true };
        peer.epoch > epoch || (peer.epoch == epoch && peer.goodbye) || self.is_silent(now, peer)
    }

    /// Heard, not silent, not on the way out: counts as present.
    fn is_there(&self, now: Instant, name: &NodeName) -> bool {
        *name == self.me || self.peers.get(name).is_some_and(|peer| self.is_heard(now, peer) && !peer.goodbye)
    }

    /// The present identity of a name: one's own, or as heard.
    fn present_epoch(&self, name: &NodeName) -> u64 {
        if *name == self.me { self.epoch } else { self.peers.get(name).map_or(0, |peer| peer.epoch) }
    }

    fn up_for_silence(&self, now: Instant) -> bool {
        !self.keeps(Rule::WaitAfterBoot) || now >= self.boot + self.timing.silence
    }

    /// The rank of this node among the present names of the sets: who is first proposes first.
    fn rank(&self, now: Instant, sets: &Sets) -> u32 {
        let before = sets.names().range(..self.me.clone()).filter(|name| self.is_there(now, name)).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::view::{Member, ViewBody};

    #[test]
    fn a_node_that_a_view_names_and_its_sets_do_not_ends_its_life() {
        let [a, b, c] = ["a", "b", "c"].map(|name| NodeName::new(name).unwrap());
        let old = Sets::first(BTreeSet::from([a.clone(), b.clone(), c.clone()]));
        let both = old.towards(BTreeSet::from([a.clone(), c.clone()]));
        let epoch_after = |sets: &Sets| {
            let at = |millis: u64| Instant::from_micros(millis * 1_000);
            let birth =
                Birth { me: b.clone(), epoch: 7, disk: Some(both.clone()), at: Instant::ZERO, without: Vec::new() };
            let mut here = Protocol::new(birth, Timing::default());
            here.load(Digest::of(b"one"), (*old.current).clone());
            let member = Member { epoch: 7, offer: Offer::default().digest() };
            let members = [&a, &b, &c].map(|name| (name.clone(), member)).into();
            let view = View::new(ViewBody { number: 48, sets: sets.clone(), generation: Digest::of(b"one"), members });
            let mut heartbeat = here.common(at(500));
            heartbeat.accepted = Some(view.id());
            heartbeat.views = vec![Arc::new(view)];
            here.begin(at(500));
            here.hear(at(500), &a, 7, 1, &heartbeat).unwrap();
            here.advance(at(500));
            here.epoch()
        };
        assert_eq!(epoch_after(&both), 7, "it is named, and can accept that");
        // Nobody could leave it out, as it is not gone; it can never accept, and so the view would never settle.
        assert_eq!(epoch_after(&both.completed().unwrap()), 8);
    }

    #[test]
    fn a_view_that_others_have_left_behind_is_forgotten_and_not_taken_back() {
        let [a, b, c] = ["a", "b", "c"].map(|name| NodeName::new(name).unwrap());
        let at = |millis: u64| Instant::from_micros(millis * 1_000);
        let odd = Sets::first(BTreeSet::from([a.clone(), b.clone(), c.clone()])).towards(BTreeSet::from([b.clone()]));
        let node = |me: &NodeName, epoch: u64, disk: Option<Sets>| {
            let birth = Birth { me: me.clone(), epoch, disk, at: Instant::ZERO, without: Vec::new() };
            let mut node = Protocol::new(birth, Timing::default());
            node.load(Digest::of(b"one"), (*odd.current).clone());
            node
        };
        let (mut here, ahead) = (node(&c, 7, Some(odd.clone())), node(&b, 8, odd.completed()));
        let member = Member { epoch: 7, offer: Offer::default().digest() };
        let members = [&a, &b, &c].map(|name| (name.clone(), member)).into();
        let view = View::new(ViewBody { number: 48, sets: odd.clone(), generation: Digest::of(b"one"), members });
        let view = Arc::new(view);
        let mut behind = node(&a, 7, Some(odd.clone())).common(at(0));
        behind.accepted = Some(view.id());
        behind.views = vec![view.clone()];
        let mut run = |span: std::ops::Range<u64>, b_speaks: bool| {
            for millis in span.step_by(10) {
                here.begin(at(millis));
                here.hear(at(millis), &a, 7, millis, &behind).unwrap();
                if b_speaks {
                    here.hear(at(millis), &b, 8, millis, &ahead.common(at(millis))).unwrap();
                }
                here.advance(at(millis));
                here.flush(at(millis));
            }
            (here.epoch(), here.accepted().is_some())
        };
        assert_eq!(run(500..510, false), (7, true));
        assert_eq!(run(510..2_400, true), (7, true), "those of now may come to it yet");
        assert_eq!(run(2_400..9_000, true), (8, false), "b cannot take it back, and a still offers it");
    }
}
