//! One node: `step(now, Event) -> Vec<Action>`, and one heap of deadlines.
//!
//! In: events and the time at which they were seen. Out: actions, in an order that is part of the contract:
//! stop answering, write to disk, set the lease, speak, start. Not here: any IO (`agent`), the simulated
//! world (`sim`), agreeing on views (`membership`), who owns what in one (`placement`).

pub mod action;
pub mod alone;
pub mod event;
pub mod generation;
mod lag;
mod offer;
pub mod recording;
pub mod replay;
pub mod report;
mod voice;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use action::{Action, Note, Started, Stopped};
use alone::Alone;
use event::{Event, Limits, Told};
use generation::Generation;
use lag::{Lag, Lagging};
use offer::{Others, Own};
use voice::Voice;

use crate::announce::resolve::{Contradiction, Expected};
use crate::digest::Digest;
use crate::manifest::desired::Attach;
use crate::membership::list::MemberList;
use crate::membership::protocol::{Birth, Protocol, Start, Unheard};
use crate::membership::record::NodeRecord;
use crate::membership::timing::Timing;
use crate::membership::view::{View, ViewId};
use crate::name::{InterfaceName, NodeName, PoolName};
use crate::placement::offer::Offer;
use crate::placement::{Placement, interface_for, is_able, place};
use crate::time::Instant;
use crate::vip::Vip;
use crate::wire::ethernet::MacAddr;

/// A first view, or one in which nobody holds anything, waits so long for its members' offers.
const OPENING: Duration = Duration::from_secs(1);
/// A VIP that the kernel refused is offered again after so long.
const REFUSED_RETRY: Duration = Duration::from_secs(10);
/// That somebody took a VIP off this host is told for so long.
const REMOVED_TOLD: Duration = Duration::from_secs(60);

/// So long after a change it is looked at which VIPs of others this node is to ask for.
const LOOK: Duration = Duration::from_secs(1);

/// What is due already when a step is over is looked at again after so long.
const IDLE: Duration = Duration::from_millis(1);

/// A VIP that this node answers for.
#[derive(Debug, Clone)]
struct Held {
    interface: InterfaceName,
    attach: Attach,
    linger: Duration,
}

/// One node.
#[derive(Debug)]
pub struct Engine {
    protocol: Protocol,
    generations: BTreeMap<Digest, Arc<Generation>>,
    newest: Option<Arc<Generation>>,
    placements: BTreeMap<ViewId, Arc<Placement>>,
    own: Own,
    limits: Limits,
    held: BTreeMap<Vip, Held>,
    /// Owned in the accepted view and not held.
    unstarted: BTreeSet<Vip>,
    lingering: BTreeMap<Vip, Instant>,
    /// Held, and the kernel has them.
    attached: Arc<BTreeSet<Vip>>,
    list: MemberList,
    voice: Voice,
    guarded: Arc<BTreeSet<Vip>>,
    on_loopback: Arc<BTreeSet<Vip>>,
    alone: Alone,
    told: Told,
    /// Nobody holds anything since then: wait for offers.
    opening_since: Option<Instant>,
    owning: BTreeSet<PoolName>,
    mine: BTreeSet<PoolName>,
    /// Pools of which this node was an owner in this life.
    owned: BTreeSet<PoolName>,
    /// VIPs that somebody took off this host, and until when that is told.
    removed: BTreeMap<Vip, Instant>,
    offer_due: Instant,
    /// The last offer was made while it counted.
    offer_counted: bool,
    told_lease: Option<Instant>,
    /// Asked to stop for good, not only to leave a set that does not name it.
    stopping: bool,
    told_left: bool,
    /// The newest generation does not declare this node.
    undeclared: bool,
    lag: Lag,
    /// A person asked it to give away what it has.
    drained: bool,
    said_goodbye_at: Option<Instant>,
    fetching: BTreeSet<Digest>,
    due: Instant,
    /// When to look again which VIPs of others are this node's to ask for.
    look_due: Instant,
    unheard: BTreeMap<Unheard, u64>,
}

impl Engine {
    /// A node that has just booted and holds nothing.
    pub fn new(birth: Birth, timing: Timing) -> Self {
        let at = birth.at;
        let list = MemberList::new(&birth.me, birth.epoch, timing.heartbeat);
        Self {
            list,
            protocol: Protocol::new(birth, timing),
            generations: BTreeMap::new(),
            newest: None,
            placements: BTreeMap::new(),
            own: Own::default(),
            limits: Limits::default(),
            held: BTreeMap::new(),
            unstarted: BTreeSet::new(),
            lingering: BTreeMap::new(),
            attached: Arc::new(BTreeSet::new()),
            voice: Voice::new(),
            guarded: Arc::new(BTreeSet::new()),
            on_loopback: Arc::new(BTreeSet::new()),
            alone: Alone::default(),
            told: Told::default(),
            opening_since: None,
            owning: BTreeSet::new(),
            mine: BTreeSet::new(),
            owned: BTreeSet::new(),
            removed: BTreeMap::new(),
            offer_due: Instant::NEVER,
            offer_counted: false,
            told_lease: None,
            stopping: false,
            told_left: false,
            undeclared: false,
            lag: Lag::default(),
            drained: false,
            said_goodbye_at: None,
            fetching: BTreeSet::new(),
            due: at,
            look_due: Instant::NEVER,
            unheard: BTreeMap::new(),
        }
    }

    /// The same node, with other rates of first announcements and of all later ones, a second and an interface.
    #[must_use]
    pub fn announcing(mut self, rate: u32, refresh: u32) -> Self {
        self.voice.set_rates(rate, refresh);
        self
    }

    /// What is agreed.
    pub const fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// When `step` must be called next, at the latest.
    pub const fn next_deadline(&self) -> Instant {
        self.due
    }

    /// Was it asked to stop for good?
    pub const fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// The VIPs that this node answers for.
    pub fn held(&self) -> impl Iterator<Item = Vip> + '_ {
        self.held.keys().copied()
    }

    /// Does it accept traffic still for what it gave away?
    pub fn lingers(&self) -> bool {
        !self.lingering.is_empty()
    }

    /// The newest generation loaded.
    pub const fn newest(&self) -> Option<&Arc<Generation>> {
        self.newest.as_ref()
    }

    /// The generation of the accepted view.
    pub fn in_force(&self) -> Option<&Arc<Generation>> {
        self.generations.get(&self.protocol.accepted()?.body().generation)
    }

    /// The owner of a VIP in the accepted view.
    pub fn owner(&self, vip: Vip) -> Option<&NodeName> {
        let view = self.protocol.accepted()?;
        self.owner_in(view, vip)
    }

    /// Datagrams that changed nothing, by reason.
    pub const fn unheard(&self) -> &BTreeMap<Unheard, u64> {
        &self.unheard
    }

    /// Takes in one event and returns what is to be done, in order.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.protocol.begin(now) {
            self.go_on_alone(now);
            self.lose_everything(&mut actions);
            actions.push(Action::Note(Note::Lapsed { epoch: self.protocol.epoch() }));
        }
        let epoch = self.protocol.epoch();
        if !matches!(event, Event::Tick | Event::Heartbeat { .. } | Event::Frame { .. }) {
            self.offer_due = Instant::ZERO;
        }
        self.take_in(now, event, &mut actions);
        loop {
            // An identity that grew holds nothing, whatever made it grow.
            if self.protocol.epoch() != epoch && !self.held.is_empty() {
                self.lose_everything(&mut actions);
            }
            self.make_offer(now);
            self.leave_if_done(now, &mut actions);
            let changed = self.protocol.advance(now);
            if changed {
                self.view_changed(now, &mut actions);
            }
            self.stop_what_moved(now, &mut actions);
            if !changed {
                break;
            }
        }
        if self.protocol.epoch() != epoch {
            self.lose_everything(&mut actions);
            actions.push(Action::Epoch(self.protocol.epoch()));
        }
        if let Some(sets) = self.protocol.take_sets_to_persist() {
            actions.push(Action::Persist(sets));
        }
        if let Some(damped) = self.own.take_damped(now) {
            actions.push(Action::Damped(damped));
        }
        self.end_linger(now, &mut actions);
        let mut starts = Vec::new();
        self.start(now, &mut starts);
        self.serve_alone(now, &mut actions, &mut starts);
        self.tell_lease(&mut actions);
        self.tell_alone(now, &mut actions);
        self.look_after_others(now);
        self.tell_record(now);
        self.list.renew(now, self.protocol.epoch());
        self.list.tick(now);
        for (to, message) in self.list.take_messages() {
            self.protocol.carry_gossip(&to, message);
        }
        actions.extend(self.protocol.flush(now).into_iter().map(|datagram| Action::Send(Box::new(datagram))));
        actions.append(&mut starts);
        let frames = self.voice.poll(now);
        if !frames.is_empty() {
            actions.push(Action::Transmit(frames.into_iter().map(|(name, frame)| (name, frame.to_bytes())).collect()));
        }
        self.due = self.due_after(now);
        actions
    }

    fn take_in(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Tick => {}
            Event::Heartbeat { from, epoch, counter, heartbeat } => {
                match self.protocol.hear(now, &from, epoch, counter, &heartbeat) {
                    Ok(()) => {
                        self.list.meet(now, &from, epoch);
                        for message in &heartbeat.gossip {
                            self.list.hear(now, message);
                        }
                        self.hear_of_generation(heartbeat.loaded.first(), actions);
                        if heartbeat.record.is_some() {
                            self.know_peers(now);
                            self.look_soon(now);
                        }
                    }
                    Err(reason) => *self.unheard.entry(reason).or_default() += 1,
                }
            }
            Event::Loaded(generation) => {
                self.load(now, generation);
                self.guard(actions);
            }
            Event::MayForm(names, forming) => self.protocol.allow_forming(names, forming),
            Event::Interfaces(interfaces) => {
                self.voice.set_interfaces(now, &interfaces);
                self.own.set_interfaces(now, interfaces, self.protocol.timing().heartbeat);
                self.look_soon(now);
            }
            Event::Foreign(vips) => {
                self.own.foreign = vips;
                self.guard(actions);
            }
            Event::Limits(limits) => {
                if let Some(newest) = &self.newest {
                    self.own.forbid(&limits, newest);
                }
                self.limits = limits;
            }
            Event::Frame { interface, bytes } => self.hear_frame(now, &interface, &bytes),
            Event::Told(told) => self.told = *told,
            Event::Attached(vips) => self.attached(now, vips),
            Event::Refused(refused) => {
                for (vip, reason) in refused {
                    Arc::make_mut(&mut self.attached).remove(&vip);
                    self.voice.gave_up(vip);
                    self.own.refused.insert(vip, (reason, now + REFUSED_RETRY));
                }
            }
            Event::Removed(vips) => {
                // Put back at once, and announced again when it stands; the gate never closed for it.
                let attached = Arc::make_mut(&mut self.attached);
                vips.iter().for_each(|vip| {
                    attached.remove(vip);
                });
                // The kernel itself takes addresses off an interface that goes down: nobody is to be blamed for that.
                let interfaces = self.own.interfaces();
                let usable = |name: &InterfaceName| interfaces.get(name).is_some_and(|it| it.usable);
                let blamed = vips.iter().filter(|vip| self.held.get(vip).is_some_and(|held| usable(&held.interface)));
                self.removed.extend(blamed.map(|vip| (*vip, now + REMOVED_TOLD)));
                let starts: Vec<Started> = vips
                    .iter()
                    .filter_map(|vip| self.held.get(vip).map(|held| (vip, held)))
                    .map(|(vip, held)| Started { vip: *vip, interface: held.interface.clone(), attach: held.attach })
                    .collect();
                if !starts.is_empty() {
                    actions.push(Action::Start(starts));
                }
            }
            Event::Check { check, passes: true } => {
                self.own.failing.remove(&check);
            }
            Event::Check { check, passes: false } => {
                self.own.failing.insert(check);
            }
            Event::Damped(damped) => self.own.set_damped(now, damped),
            Event::Drain => {
                self.drained = true;
                self.protocol.set_draining(now, true);
            }
            Event::Resume => {
                self.drained = false;
                self.own.forgive();
                // One that left because it is behind comes back when it is not.
                if !self.lag.has_left() {
                    self.protocol.rejoin(now);
                }
            }
            Event::Leave => {
                self.stopping = true;
                self.protocol.leave(now);
            }
            Event::Abandon => {
                self.stopping = true;
                self.protocol.leave(now);
                self.lose_everything(actions);
                self.stop_alone(actions);
            }
            Event::Form(names) => {
                self.lose_everything(actions);
                self.stop_alone(actions);
                self.protocol.form_anew(now, names);
            }
        }
    }

    fn load(&mut self, now: Instant, generation: Arc<Generation>) {
        let digest = generation.digest();
        self.fetching.remove(&digest);
        self.lag.loaded(digest);
        self.protocol.load(digest, generation.names());
        self.protocol.set_timing(Timing::new(generation.desired.cluster.failover));
        // A node that is no longer declared gives away what it has; declared again, it comes back.
        let declared = generation.desired.nodes.contains_key(self.protocol.me());
        if !declared {
            self.protocol.set_draining(now, true);
        } else if self.undeclared && !self.stopping {
            self.protocol.rejoin(now);
        }
        self.undeclared = !declared;
        self.generations.insert(digest, generation.clone());
        self.own.forbid(&self.limits, &generation);
        self.newest = Some(generation);
    }

    /// The gate covers every VIP that is declared, but for those that somebody else put on this host.
    fn guard(&mut self, actions: &mut Vec<Action>) {
        let generations = self.newest.iter().chain(self.in_force());
        let declared = generations.flat_map(|generation| generation.ranking.vips()).map(|ranked| ranked.vip);
        let guarded: BTreeSet<Vip> = declared.filter(|vip| !self.own.foreign.contains(vip)).collect();
        if guarded != *self.guarded {
            for vip in self.guarded.difference(&guarded) {
                self.voice.withdrawn(*vip);
            }
            self.guarded = Arc::new(guarded);
            actions.push(Action::Guard(self.guarded.clone()));
        }
        self.allow_alone(actions);
        self.place_on_loopback(actions);
    }

    /// VIPs of `attach: loopback` sit on every node that may own them, so that a take-over changes no address; one that
    /// is answered for stays while it is.
    fn place_on_loopback(&mut self, actions: &mut Vec<Action>) {
        let mut wanted: BTreeSet<Vip> =
            self.held.iter().filter(|(_, held)| held.attach == Attach::Loopback).map(|(vip, _)| *vip).collect();
        if let Some(generation) = self.in_force()
            && let Some(me) = generation.desired.nodes.get(self.protocol.me()).filter(|me| me.weight > 0)
        {
            let mine = |pool: &PoolName| {
                let pool = generation.desired.pools.get(pool);
                pool.is_some_and(|pool| pool.attach == Attach::Loopback && pool.selects(me))
            };
            let pools: BTreeSet<&PoolName> = generation.desired.pools.keys().filter(|name| mine(name)).collect();
            if !pools.is_empty() {
                let vips = generation.ranking.vips().iter().filter(|ranked| pools.contains(&ranked.pool));
                wanted.extend(vips.map(|ranked| ranked.vip).filter(|vip| !self.own.foreign.contains(vip)));
            }
        }
        if wanted != *self.on_loopback {
            self.on_loopback = Arc::new(wanted);
            actions.push(Action::OnLoopback(self.on_loopback.clone()));
        }
    }

    fn attached(&mut self, now: Instant, vips: Vec<Vip>) {
        let mut by_interface: BTreeMap<InterfaceName, Vec<Vip>> = BTreeMap::new();
        let attached = Arc::make_mut(&mut self.attached);
        for vip in vips {
            // It may have been stopped meanwhile.
            if let Some(held) = self.held.get(&vip) {
                attached.insert(vip);
                by_interface.entry(held.interface.clone()).or_default().push(vip);
            }
        }
        for (interface, vips) in by_interface {
            self.voice.taken(now, &interface, &vips);
        }
    }

    fn hear_frame(&mut self, now: Instant, interface: &InterfaceName, bytes: &[u8]) {
        let (held, guarded, attached) = (&self.held, &self.guarded, &self.attached);
        let on = |vip: &Vip| held.get(vip).filter(|held| held.interface == *interface);
        self.voice.heard(
            now,
            interface,
            bytes,
            |vip| guarded.contains(&vip),
            |vip| on(&vip).is_some(),
            |vip| on(&vip).is_some_and(|held| held.attach != Attach::Interface) && attached.contains(&vip),
        );
    }

    /// The hardware addresses of the peers, so that a frame of theirs is never taken for a stranger's.
    fn know_peers(&mut self, now: Instant) {
        let records = self.protocol.peers().filter_map(|name| self.protocol.record_of(name));
        let macs = records.flat_map(|record| record.macs.iter().map(|mac| MacAddr(*mac))).collect();
        self.voice.set_peers(now, macs);
    }

    /// Which VIPs of others this node asks for is looked at again, once for all that changes within a second.
    fn look_soon(&mut self, now: Instant) {
        self.look_due = self.look_due.min(now + LOOK);
    }

    /// The first backup of a VIP asks on the wire whether its owner answers for it: who would take it wants to know.
    fn look_after_others(&mut self, now: Instant) {
        if now < self.look_due {
            return;
        }
        self.look_due = Instant::NEVER;
        let wanted = self.wanted_of_others().unwrap_or_default();
        self.voice.look_after(now, wanted);
    }

    /// Nothing without a lease: a node that is cut off would find everybody silent.
    fn wanted_of_others(&self) -> Option<BTreeMap<Vip, Expected>> {
        self.protocol.lease()?;
        let view = self.protocol.accepted()?;
        let placement = self.placements.get(&view.id())?;
        let generation = self.generations.get(&view.body().generation)?;
        let own = self.own.macs();
        let mut wanted = BTreeMap::new();
        for (index, ranked) in generation.ranking.vips().iter().enumerate() {
            let Some(owner) = placement.owner(index).filter(|owner| *owner != self.protocol.me()) else { continue };
            if placement.backups(index).next() != Some(self.protocol.me()) {
                continue;
            }
            let Some(record) = self.protocol.record_of(owner) else { continue };
            // Hosts that share a MAC address cannot be told apart on the wire.
            if record.macs.iter().any(|mac| own.contains(mac)) {
                continue;
            }
            let Some(standing) = self.standing(view, ranked.vip) else { continue };
            let expected = Expected { iface: standing.interface, macs: record.macs.clone() };
            // While a view is new its record may be on its way: who was right a moment ago is asked for as before.
            let serves = record.started == Some(view.id()) && !record.exceptions.contains_key(&ranked.vip);
            if serves || self.voice.looks_after(ranked.vip) == Some(&expected) {
                wanted.insert(ranked.vip, expected);
            }
        }
        Some(wanted)
    }

    fn in_words(&self, contradiction: Contradiction) -> String {
        let Contradiction::Other(mac) = contradiction else { return "nobody answered".to_owned() };
        let has = |name: &&NodeName| self.protocol.record_of(name).is_some_and(|record| record.macs.contains(&mac.0));
        match self.protocol.peers().find(has) {
            Some(name) => format!("{name} answered ({mac})"),
            None => format!("{mac} answered"),
        }
    }

    /// Tells the peers what changed of what they know of this node.
    fn tell_record(&mut self, now: Instant) {
        self.removed.retain(|_, until| now < *until);
        let view = self.protocol.accepted().filter(|_| self.protocol.is_clean() && self.protocol.is_member());
        let waiting = self.unstarted.iter().filter_map(|vip| {
            let foreign = self.voice.foreign(*vip)?;
            Some((*vip, format!("{} claims it on {}", foreign.mac, foreign.iface)))
        });
        let refused = self.own.refused.iter().map(|(vip, (reason, _))| (*vip, reason.clone()));
        let forbidden = self.own.forbidden.iter().map(|(vip, reason)| (*vip, reason.clone()));
        let exceptions: BTreeMap<Vip, String> = waiting.chain(refused).chain(forbidden).take(32).collect();
        // What stands is held, so equal counts say that all stands.
        let stands = self.attached.len() == self.held.len()
            || self.held.keys().all(|vip| self.attached.contains(vip) || exceptions.contains_key(vip));
        let all = stands && self.unstarted.iter().all(|vip| exceptions.contains_key(vip));
        let last = self.protocol.record();
        let record = NodeRecord {
            version: last.version,
            build: self.told.build.clone(),
            revision: self.told.revision.clone(),
            generation: self.newest.as_ref().map(|newest| newest.digest()).unwrap_or_default(),
            attempted: self.told.attempted.clone(),
            problem: self.tells_problem(),
            macs: self.own.macs(),
            can_push: self.told.can_push,
            accepted_history: self.told.accepted_history.clone(),
            // While a change is under way the last word stands: `actual` follows the view that it names.
            started: view.filter(|_| all).map(|view| view.id()),
            exceptions,
            contradicted: self.voice.contradictions().map(|(vip, what)| (vip, self.in_words(what))).take(32).collect(),
        };
        if record != **last {
            self.protocol.set_record(NodeRecord { version: last.version + 1, ..record });
        }
    }

    /// What is the matter with this node, the consequence before its cause; empty where nothing is.
    fn tells_problem(&self) -> String {
        let problem = Some(&self.told.problem).filter(|problem| !problem.is_empty());
        match (self.lag.tells(), problem) {
            (Some(behind), Some(problem)) => format!("{behind} ({problem})"),
            (Some(behind), None) => behind.to_owned(),
            (None, Some(problem)) => problem.clone(),
            (None, None) if !self.removed.is_empty() => {
                let first: Vec<String> = self.removed.keys().take(3).map(Vip::to_string).collect();
                let more = self.removed.len() - first.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("removed from outside, and put back: {}{more}", first.join(", "))
            }
            (None, None) => self.own.tells_kept().or_else(|| self.own.tells_withheld()).unwrap_or_default(),
        }
    }

    /// A peer has a generation that this node lacks: one fetch at once.
    fn hear_of_generation(&mut self, newest: Option<&Digest>, actions: &mut Vec<Action>) {
        let Some(digest) = newest else { return };
        if !self.generations.contains_key(digest) && self.fetching.len() < 64 && self.fetching.insert(*digest) {
            actions.push(Action::Fetch(*digest));
        }
    }

    fn placement_of(&mut self, view: &View) -> Option<Arc<Placement>> {
        if let Some(placement) = self.placements.get(&view.id()) {
            return Some(placement.clone());
        }
        let generation = self.generations.get(&view.body().generation)?;
        let offers = view
            .members()
            .iter()
            .filter_map(|(name, member)| Some((name.clone(), self.protocol.offer_body(&member.offer)?.clone())))
            .collect();
        let placement = Arc::new(place(&generation.desired, &generation.ranking, &offers));
        self.placements.insert(view.id(), placement.clone());
        Some(placement)
    }

    fn owner_in(&self, view: &View, vip: Vip) -> Option<&NodeName> {
        let generation = self.generations.get(&view.body().generation)?;
        self.placements.get(&view.id())?.owner(generation.ranking.index_of(vip)?)
    }

    /// A view was accepted: who owns what in it, and what is still to be started here.
    fn view_changed(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(view) = self.protocol.accepted().cloned() else { return };
        self.look_soon(now);
        self.offer_due = Instant::ZERO;
        actions.push(Action::Note(Note::View(format!("{view:?}"))));
        let before = self.protocol.before().cloned();
        // The verdict of the view is the list's too.
        for (name, member) in before.iter().flat_map(|before| before.members()) {
            if !view.has(name, member.epoch) && name != self.protocol.me() {
                self.list.exclude(now, name, member.epoch);
            }
        }
        let had_owners = before.is_some_and(|before| self.has_owners(&before));
        let kept: BTreeSet<ViewId> =
            [Some(view.id()), self.protocol.before().map(|view| view.id())].into_iter().flatten().collect();
        self.placements.retain(|id, _| kept.contains(id));
        let Some(placement) = self.placement_of(&view) else { return };
        let Some(generation) = self.generations.get(&view.body().generation).cloned() else { return };

        self.owning.clear();
        self.mine.clear();
        self.unstarted.clear();
        let member = self.protocol.is_member();
        for (index, ranked) in generation.ranking.vips().iter().enumerate() {
            match placement.owner(index) {
                Some(owner) if owner == self.protocol.me() => {
                    self.mine.insert(ranked.pool.clone());
                    if member && (!self.held.contains_key(&ranked.vip) || self.alone.serves(ranked.vip)) {
                        self.unstarted.insert(ranked.vip);
                    }
                }
                Some(_) => {
                    self.owning.insert(ranked.pool.clone());
                }
                None => {}
            }
        }
        self.owned.retain(|pool| generation.desired.pools.contains_key(pool));
        self.owned.extend(self.mine.iter().cloned());
        let complete = view
            .members()
            .values()
            .all(|member| self.protocol.offer_body(&member.offer).is_some_and(|offer| !offer.is_empty()));
        if had_owners || complete {
            self.opening_since = None;
        } else if self.opening_since.is_none() {
            self.opening_since = Some(now);
        }
        let in_use: BTreeSet<Digest> = std::iter::once(view.body().generation)
            .chain(self.protocol.before().map(|view| view.body().generation))
            .chain(self.newest.iter().map(|generation| generation.digest()))
            .collect();
        let loaded = self.protocol.loaded().to_vec();
        self.generations.retain(|digest, _| in_use.contains(digest) || loaded.contains(digest));
        self.guard(actions);
    }

    fn has_owners(&self, view: &View) -> bool {
        self.placements
            .get(&view.id())
            .is_some_and(|placement| (0..placement.len()).any(|vip| placement.owner(vip).is_some()))
    }

    fn make_offer(&mut self, now: Instant) {
        let counts = self.protocol.lease().is_some() && !self.protocol.is_draining();
        if now < self.offer_due && counts == self.offer_counted {
            return;
        }
        self.offer_counted = counts;
        let Some(generation) = self.newest.clone() else {
            // Loading one is an event, which makes an offer due.
            self.offer_due = Instant::NEVER;
            return;
        };
        let able = self.others_able(now, &generation);
        let members = self.protocol.accepted().into_iter().flat_map(|view| view.members().keys());
        let others = Others {
            owning: &self.owning,
            mine: &self.mine,
            owned: &self.owned,
            able: &able,
            rank: u32::try_from(members.filter(|name| *name < self.protocol.me()).count()).unwrap_or(u32::MAX),
            opening: self.opening_since.is_some(),
            counts,
        };
        let (offer, due) = self.own.offer(now, &generation, self.protocol.me(), &others);
        // Whether somebody else could have what fails here changes with each word of theirs.
        let fails = self.own.failing_pools(&generation).next().is_some();
        self.offer_due = if fails { due.min(now + self.protocol.timing().heartbeat) } else { due };
        self.protocol.set_offer(now, offer);
    }

    /// Of the pools whose checks fail here, those that another member could have, as it says now.
    fn others_able(&self, now: Instant, generation: &Generation) -> BTreeSet<PoolName> {
        let Some(view) = self.protocol.accepted() else { return BTreeSet::new() };
        let others = view.members().iter().filter(|(name, _)| self.protocol.hears(now, name));
        let offers: Vec<(&NodeName, &Offer)> = others
            .filter_map(|(name, member)| {
                let (epoch, says) = self.protocol.peer_now(name)?;
                let says = says.filter(|_| epoch == member.epoch);
                Some((name, &**says.or_else(|| self.protocol.offer_body(&member.offer))?))
            })
            .collect();
        let able = |pool: &PoolName| offers.iter().any(|(name, offer)| is_able(&generation.desired, offer, name, pool));
        self.own.failing_pools(generation).filter(|pool| able(pool)).cloned().collect()
    }

    /// Once the view is established, stops what this node does not own in it, and is clean.
    fn stop_what_moved(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.protocol.is_clean() || !self.protocol.is_established(now) {
            return;
        }
        let Some(view) = self.protocol.accepted().cloned() else { return };
        let me = self.protocol.me().clone();
        // Also what this node owns still, but elsewhere or otherwise: it is stopped and started anew.
        let moved: Vec<Vip> = self
            .held
            .iter()
            .filter(|(vip, held)| {
                let mine = self.owner_in(&view, **vip) == Some(&me) && self.stands_as_wanted(&view, **vip, held);
                !mine && !self.goes_on_alone(&view, **vip)
            })
            .map(|(vip, _)| *vip)
            .collect();
        let again: Vec<Vip> = moved.iter().copied().filter(|vip| self.owner_in(&view, *vip) == Some(&me)).collect();
        self.unstarted.extend(again);
        let generation = self.generations.get(&view.body().generation).cloned();
        let stopped: Vec<Stopped> = moved
            .into_iter()
            .filter_map(|vip| {
                let held = self.held.remove(&vip)?;
                self.alone.forget(vip);
                Arc::make_mut(&mut self.attached).remove(&vip);
                self.voice.gave_up(vip);
                let declared = generation.as_ref().is_some_and(|generation| generation.declares(vip));
                let linger =
                    (declared && held.attach == Attach::Interface && !held.linger.is_zero()).then_some(held.linger);
                if let Some(linger) = linger {
                    self.lingering.insert(vip, now + linger);
                }
                Some(Stopped { vip, interface: held.interface, attach: held.attach, linger })
            })
            .collect();
        if !stopped.is_empty() {
            actions.push(Action::Stop(stopped));
            self.place_on_loopback(actions);
        }
        self.protocol.mark_clean();
    }

    /// How a VIP would stand on this node in a view: the interface, and where.
    fn standing(&self, view: &View, vip: Vip) -> Option<Held> {
        let generation = self.generations.get(&view.body().generation)?;
        let ranked = &generation.ranking.vips()[generation.ranking.index_of(vip)?];
        let pool = generation.desired.pools.get(&ranked.pool)?;
        let member = view.members().get(self.protocol.me())?;
        let interface = interface_for(pool, self.protocol.offer_body(&member.offer)?, vip)?;
        Some(Held { interface: interface.clone(), attach: pool.attach, linger: pool.linger })
    }

    fn stands_as_wanted(&self, view: &View, vip: Vip, held: &Held) -> bool {
        self.standing(view, vip)
            .is_some_and(|wanted| wanted.interface == held.interface && wanted.attach == held.attach)
    }

    /// Holds nothing any more: without a lease nothing may be answered, nor accepted, but for what is served alone.
    fn lose_everything(&mut self, actions: &mut Vec<Action>) {
        let lost = self.held.keys().copied().filter(|vip| !self.alone.serves(*vip)).collect();
        self.stop_now(lost, actions);
        let lingering: Vec<Vip> = std::mem::take(&mut self.lingering).into_keys().collect();
        if !lingering.is_empty() {
            actions.push(Action::EndLinger(lingering));
        }
        self.unstarted.clear();
        self.own.begin_anew();
        self.voice.forget_answers();
        self.look_due = Instant::ZERO;
        self.offer_due = Instant::ZERO;
    }

    /// Stops these at once, without linger: nobody was asked to take them.
    fn stop_now(&mut self, vips: Vec<Vip>, actions: &mut Vec<Action>) {
        let mut stopped = Vec::with_capacity(vips.len());
        for vip in vips {
            let Some(held) = self.held.remove(&vip) else { continue };
            self.voice.gave_up(vip);
            stopped.push(Stopped { vip, interface: held.interface, attach: held.attach, linger: None });
        }
        if !stopped.is_empty() {
            let attached = Arc::make_mut(&mut self.attached);
            for one in &stopped {
                attached.remove(&one.vip);
                self.alone.forget(one.vip);
            }
            actions.push(Action::Stop(stopped));
        }
    }

    fn start(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.unstarted.is_empty() {
            return;
        }
        if let Some(since) = self.opening_since {
            if now < since + OPENING {
                return;
            }
            self.opening_since = None;
        }
        let Some(view) = self.protocol.accepted().cloned() else { return };
        let ready: Vec<Vip> = match self.protocol.may_start(now) {
            Start::Nothing => return,
            Start::All => self.unstarted.iter().copied().collect(),
            Start::After(before) => {
                let free = |vip: &Vip| match self.owner_in(&before, *vip) {
                    None => true,
                    Some(owner) => {
                        let same = before.members().get(owner).is_some_and(|member| view.has(owner, member.epoch));
                        !same || self.protocol.is_known_clean(owner)
                    }
                };
                self.unstarted.iter().copied().filter(free).collect()
            }
        };
        let (mut first, mut started) = (Vec::new(), Vec::new());
        for vip in ready {
            let Some(held) = self.standing(&view, vip) else { continue };
            if self.goes_over(now, vip, &held, &mut first) {
                continue;
            }
            // What nobody held is asked for on the wire before it is first claimed.
            let held_before = self.protocol.before().is_some_and(|before| self.owner_in(before, vip).is_some());
            if !held_before && !self.voice.is_free(now, &held.interface, vip) {
                continue;
            }
            self.unstarted.remove(&vip);
            self.lingering.remove(&vip);
            started.push(Started { vip, interface: held.interface.clone(), attach: held.attach });
            self.held.insert(vip, held);
            let from = self.protocol.before().and_then(|before| self.owner_in(before, vip)).cloned();
            actions.push(Action::Note(Note::Took { vip, from }));
        }
        if !started.is_empty() {
            first.push(Action::Start(started));
        }
        actions.splice(0..0, first);
    }

    fn end_linger(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let over: Vec<Vip> = self.lingering.iter().filter(|(_, end)| now >= **end).map(|(vip, _)| *vip).collect();
        if !over.is_empty() {
            self.lingering.retain(|_, end| now < *end);
            actions.push(Action::EndLinger(over));
        }
    }

    fn leave_if_done(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.leave_set(now);
        self.leave_if_behind(now);
        if !self.protocol.is_leaving() {
            self.said_goodbye_at = None;
            return;
        }
        let clean = !self.protocol.is_member() || self.protocol.lease().is_none() || self.protocol.is_established(now);
        self.protocol.say_goodbye_if_leaving(self.held.is_empty() && self.unstarted.is_empty() && clean);
        if self.protocol.said_goodbye() && self.said_goodbye_at.is_none() {
            self.said_goodbye_at = Some(now);
        }
        if self.protocol.said_goodbye() && self.stopping && !self.told_left {
            self.told_left = true;
            actions.push(Action::Left);
        }
    }

    /// A member that a majority is ahead of for a minute holds up nobody for longer.
    fn leave_if_behind(&mut self, now: Instant) {
        let Some(view) = self.protocol.accepted().cloned() else { return };
        if self.stopping || self.undeclared {
            return;
        }
        let ahead = view.sets().majority(|name| {
            let newest = self.protocol.loaded_by(name).filter(|_| self.protocol.hears(now, name));
            newest.is_some_and(|newest| self.lag.is_ahead(newest))
        });
        match self.lag.look(now, ahead, self.protocol.is_member()) {
            Lagging::No => {}
            Lagging::Leave => self.protocol.leave(now),
            Lagging::Return => {
                self.protocol.rejoin(now);
                self.protocol.set_draining(now, self.drained);
            }
        }
    }

    /// Once a view that leads to sets without this node is settled, it leaves; where the change is not
    /// completed for `join` after that, it comes back under a new identity, so that the sets have their majority.
    fn leave_set(&mut self, now: Instant) {
        let Some(view) = self.protocol.accepted() else { return };
        let left_out = view.sets().next.as_ref().is_some_and(|next| !next.contains(self.protocol.me()));
        // Completed without this node: it may be named again, under a new identity.
        if self.protocol.is_outlived(now) {
            if self.protocol.is_leaving() && !self.stopping && !self.undeclared && !self.lag.has_left() {
                self.protocol.rejoin(now);
            }
            return;
        }
        if left_out && self.protocol.is_settled() && self.protocol.is_member() && !self.protocol.is_leaving() {
            self.protocol.leave(now);
        }
        let waited = self.said_goodbye_at.is_some_and(|at| now >= at + self.protocol.timing().join);
        if left_out && waited && !self.stopping {
            self.said_goodbye_at = None;
            self.protocol.rejoin(now);
            self.protocol.set_draining(now, true);
        }
    }

    fn tell_lease(&mut self, actions: &mut Vec<Action>) {
        let lease = self.protocol.lease();
        if lease != self.told_lease {
            self.told_lease = lease;
            actions.push(Action::Lease(lease));
        }
    }

    fn due_after(&self, now: Instant) -> Instant {
        let mut due = self
            .protocol
            .due()
            .min(self.lag.due(now))
            .min(self.offer_due)
            .min(self.look_due)
            .min(self.voice.next_deadline())
            .min(self.list.due());
        if let Some(since) = self.opening_since
            && !self.unstarted.is_empty()
        {
            due = due.min(since + OPENING);
        }
        if let Some(end) = self.lingering.values().min() {
            due = due.min(*end);
        }
        // A deadline that has passed without effect must not keep a thread of real-time priority busy.
        if due > now { due } else { now + IDLE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::LocalInterface;

    #[test]
    fn a_node_that_has_loaded_nothing_yet_waits_and_does_not_spin() {
        let me = NodeName::new("edge-a").unwrap();
        let birth = Birth { me, epoch: 1, disk: None, at: Instant::ZERO, without: Default::default() };
        let mut engine = Engine::new(birth, Timing::default());
        let interface = LocalInterface { usable: true, mac: [2, 0, 0, 0, 0, 1], ..LocalInterface::default() };
        let interfaces = BTreeMap::from([(InterfaceName::new("eth0").unwrap(), interface)]);
        let mut now = Instant::from_micros(10_000_000);
        engine.step(now, Event::Interfaces(interfaces));
        let mut steps = 0;
        while now < Instant::from_micros(11_000_000) {
            now = engine.next_deadline().max(now);
            engine.step(now, Event::Tick);
            steps += 1;
        }
        assert!(steps < 40, "{steps} steps in a second in which nothing happens");
    }
}
