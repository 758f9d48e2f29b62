//! The beat: the one thread that steps the engine and does what it says, never behind anything else.
//!
//! In: datagrams, frames, the kernel's notices, events of other threads, time. Out: what the engine wants done, in its
//! order. Not here: any choice (`engine`), addresses (`hands`), git, files and people (`office`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

use super::clock::{self, WallClock};
use super::desk::{Counters, Desk};
use super::error::HostError;
use super::gossip::Gossip;
use super::hands::{Hands, Task};
use super::keeper::Keeper;
use super::netlink::{Change, Monitor, Snapshot, prepare_interface};
use super::nft::{Gate, GateWatch, GuardedInterface, Keeping};
use super::office::Message;
use super::packet::PacketSocket;
use super::recorder::Recorder;
use super::state::State;
use crate::digest::Digest;
use crate::engine::Engine;
use crate::engine::action::{Action, Note};
use crate::engine::event::{Event, Limits, LocalInterface};
use crate::manifest::agent_file::Allow;
use crate::manifest::desired::Attach;
use crate::membership::heartbeat::Flags;
use crate::membership::protocol::Outgoing;
use crate::name::{InterfaceName, NodeName};
use crate::time::Instant;
use crate::vip::Vip;
use crate::wire::ethernet::MacAddr;
use crate::wire::key::KeyRing;
use crate::wire::ndp::{multicast_mac, solicited_node};

/// A report is made at most so often.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// And at least so often, for what changes by time alone.
const REPORT_ANYWAY: Duration = Duration::from_secs(1);
/// What keeps the beat longer than this is told: a lease survives a stall of 60 ms, `fast` one of 25 ms.
const HELD_UP: Duration = Duration::from_millis(20);
/// The gateways are looked for so often.
const LIMITS_EVERY: Duration = Duration::from_secs(5);
/// So long after a change of a link a peer's hardware address may be asked for in vain: the kernel repeats the question
/// after a second by itself.
const LINK_SETTLES: Duration = Duration::from_secs(1);
/// An answer takes less than this on a segment.
const ANSWER_PATIENCE: Duration = Duration::from_millis(10);
/// Datagrams and frames taken in one round, so that a flood on one port does not starve the others.
const ROUND: usize = 128;

/// What other threads hand to the beat.
#[derive(Debug)]
pub enum Handed {
    /// For the engine.
    Event(Event),
    /// For the gossip port: these keys from now on.
    Keys(KeyRing),
}

/// The way into the beat from other threads.
#[derive(Debug, Clone)]
pub struct Inlet {
    events: Sender<Handed>,
    wake: Arc<EventFd>,
}

impl Inlet {
    /// Hands an event over.
    pub fn put(&self, event: Event) {
        self.hand(Handed::Event(event));
    }

    /// Has the node seal with the first of these keys, and accept all of them and no others.
    pub fn change_keys(&self, ring: KeyRing) {
        self.hand(Handed::Keys(ring));
    }

    fn hand(&self, handed: Handed) {
        if self.events.send(handed).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

/// A pair: where events come out, and the way in.
pub fn inlet() -> Result<(Inlet, Receiver<Handed>), HostError> {
    let (events, outlet) = channel();
    let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
        .map_err(|error| HostError::admin("make", "an eventfd", error as i32))?;
    Ok((Inlet { events, wake: Arc::new(wake) }, outlet))
}

/// All that the beat works with.
pub struct Beat {
    pub(super) engine: Engine,
    pub(super) gossip: Gossip,
    pub(super) gate: Gate,
    pub(super) monitor: Monitor,
    pub(super) hands: Hands,
    pub(super) keeper: Keeper,
    pub(super) state: Arc<State>,
    pub(super) allow: Allow,
    pub(super) desk: Desk,
    pub(super) inlet: Inlet,
    pub(super) outlet: Receiver<Handed>,
    pub(super) clock: WallClock,
    pub(super) recorder: Option<Recorder>,
}

/// What the beat remembers of the host between rounds.
#[derive(Default)]
struct Host {
    packets: BTreeMap<InterfaceName, (u32, PacketSocket)>,
    interfaces: BTreeMap<InterfaceName, LocalInterface>,
    guarded: Vec<GuardedInterface>,
    foreign: BTreeSet<Vip>,
    /// VIPs that were started with `attach: interface` or on `lo`, as the hands were told.
    wanted: BTreeMap<Vip, (InterfaceName, Attach)>,
    /// VIPs that sit on `lo` on this node, whoever answers for them.
    on_loopback: Arc<BTreeSet<Vip>>,
    watch: Option<GateWatch>,
    limits: Limits,
    /// A new gateway comes without a notice that is followed: looked for again then.
    limits_at: Instant,
    lease: Option<Instant>,
    /// The one that the node gave itself for what it serves alone.
    alone: Option<Instant>,
    words: (u64, usize),
    /// A link changed a moment ago: until when peers may have to be resolved anew, and when each was last.
    links_settle: Instant,
    resolved_at: BTreeMap<NodeName, Instant>,
    report_at: Instant,
    reported_at: Instant,
    /// The generation in force that was reported last: what the disk has, or is about to have.
    reported: Option<Digest>,
    dirty: bool,
    left: bool,
}

impl Beat {
    /// Beats until the engine has left. Afterwards nothing is held.
    pub fn run(mut self) -> Self {
        let mut host = Host::default();
        if self.gate.keeping() == Keeping::Ordinary {
            host.watch = self.gate.watch().ok();
        }
        self.look_at_host(&mut host);
        while !host.left {
            self.wait(&host);
            self.round(&mut host);
        }
        self
    }

    fn wait(&self, host: &Host) {
        let now = clock::now();
        let mut until = self.engine.next_deadline();
        if host.dirty {
            until = until.min(host.report_at);
        }
        let patience = until.since(now).min(REPORT_ANYWAY);
        let mut fds = vec![
            PollFd::new(self.gossip.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.inlet.wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.clock.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.keeper.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(host.watch.iter().map(|watch| PollFd::new(watch.as_fd(), PollFlags::POLLIN)));
        fds.extend(host.packets.values().map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(patience)), None);
        let late = clock::now().since(until);
        if until > now && late > Duration::from_millis(5) {
            Counters::count(&self.desk.counters.late);
            self.desk.counters.latest.fetch_max(crate::time::micros(late), Ordering::Relaxed);
        }
    }

    fn round(&mut self, host: &mut Host) {
        Counters::count(&self.desk.counters.rounds);
        if self.clock.stepped() {
            // The kernel reckons both leases' ends by the wall clock.
            let (lease, alone) = (host.lease, host.alone);
            self.set_lease(host, lease);
            self.set_alone(host, alone);
        }
        for _ in 0..ROUND {
            let Some(event) = self.gossip.receive() else { break };
            self.step(host, event);
        }
        if clock::now() >= self.engine.next_deadline() {
            self.step(host, Event::Tick);
        }
        let _ = self.inlet.wake.read();
        while let Ok(handed) = self.outlet.try_recv() {
            let event = match handed {
                Handed::Event(event) => event,
                Handed::Keys(ring) => {
                    self.gossip.change_keys(ring);
                    // What the keeper says for this node is to be sealed with the new key, too.
                    host.words = (0, 0);
                    continue;
                }
            };
            if let Event::Loaded(generation) = &event {
                self.gossip.learn(&generation.desired);
            }
            self.step(host, event);
        }
        let mut changes = Vec::new();
        if let Err(error) = self.monitor.read(&mut changes) {
            tracing::error!(%error, "the kernel's notices cannot be followed");
        }
        if !changes.is_empty() {
            self.host_changed(host, &changes);
        }
        self.hear_frames(host);
        if host.watch.as_mut().is_some_and(GateWatch::touched)
            && let Err(error) = self.gate.rebuild()
        {
            tracing::error!(%error, "the gate was changed by somebody else and cannot be put back");
        }
        if self.keeper.is_gone() {
            match Keeper::spawn() {
                Ok(keeper) => {
                    tracing::warn!("the keeper died; another was started");
                    self.keeper = keeper;
                    host.words = (0, 0);
                }
                Err(error) => tracing::error!(%error, "the keeper died and cannot be started again"),
            }
        }
        if clock::now() >= host.limits_at {
            self.set_limits(host);
        }
        if let Some(skewed) = self.gossip.skewed_anew() {
            self.desk.say(Message::Skewed(skewed));
            host.dirty = true;
        }
        self.hand_words(host);
        self.report(host);
    }

    fn hear_frames(&mut self, host: &mut Host) {
        let mut heard = Vec::new();
        for (name, (_, socket)) in &mut host.packets {
            for _ in 0..ROUND {
                match socket.receive() {
                    Ok(Some(bytes)) => heard.push(Event::Frame { interface: name.clone(), bytes: bytes.to_vec() }),
                    Ok(None) | Err(_) => break,
                }
            }
        }
        for event in heard {
            self.step(host, event);
        }
    }

    fn step(&mut self, host: &mut Host, event: Event) {
        let heartbeat = matches!(event, Event::Heartbeat { .. } | Event::Tick | Event::Frame { .. });
        // Read before anything is sent: what is acknowledged counts from here.
        let now = clock::now();
        let actions = match &mut self.recorder {
            Some(recorder) => recorder.step(&mut self.engine, now, event),
            None => self.engine.step(now, event),
        };
        host.dirty |= !heartbeat;
        for action in actions {
            // Sets that are not on disk must not be told of: nothing that follows leaves this node.
            if host.left {
                break;
            }
            let (began, what) = (clock::now(), kind(&action));
            self.perform(host, action);
            let took = clock::now().since(began);
            if took > HELD_UP {
                tracing::warn!(what, millis = took.as_millis(), "the beat was held up");
            }
        }
    }

    fn perform(&mut self, host: &mut Host, action: Action) {
        match action {
            Action::Send(datagram) => {
                self.resolve(host, &datagram);
                self.gossip.send(&datagram);
            }
            Action::Lease(until) => self.set_lease(host, until),
            Action::Alone(until) => self.set_alone(host, until),
            Action::Stop(stopped) => {
                let vips: Vec<Vip> = stopped.iter().map(|one| one.vip).collect();
                let result = self.gate.hold(&[], &vips);
                self.said(result, "these may still be answered for until the lease ends");
                for vip in &vips {
                    if let Some((interface, attach)) = host.wanted.remove(vip)
                        && let Some((_, socket)) = host.packets.get(&interface)
                        && let Some(group) = group(*vip, attach)
                        && let Err(error) = socket.leave(group)
                    {
                        tracing::debug!(%vip, %error, "a group could not be left");
                    }
                }
                // What somebody put there in place of ours is never removed.
                let spared = vips.into_iter().filter(|vip| host.foreign.contains(vip)).collect();
                self.hands.give(Task::Detach { stopped, spared });
                host.dirty = true;
            }
            Action::Start(started) => {
                let vips: Vec<Vip> = started.iter().map(|one| one.vip).collect();
                if let Err(error) = self.gate.hold(&vips, &[]) {
                    tracing::error!(%error, "the gate does not let these pass");
                }
                for one in &started {
                    let known = host.wanted.insert(one.vip, (one.interface.clone(), one.attach));
                    if known.is_none()
                        && let Some((_, socket)) = host.packets.get(&one.interface)
                    {
                        join(socket, one.vip, one.attach);
                    }
                }
                self.hands.give(Task::Attach(started));
                host.dirty = true;
            }
            Action::EndLinger(vips) => self.hands.give(Task::EndLinger(vips)),
            Action::Guard(vips) => self.guard(&vips),
            Action::MayBeAlone(vips) => {
                let (add, remove) = differences(self.gate.loose(), &vips);
                let result = self.gate.may_be_alone(&add, &remove);
                self.said(result, "the gate does not know what may be served alone");
            }
            Action::OnLoopback(vips) => {
                // Before the first is there: the kernel answers for what is on `lo` else.
                if host.on_loopback.is_empty() {
                    host.packets.keys().for_each(|name| self.prepare(name, true));
                }
                host.on_loopback = vips.clone();
                self.hands.give(Task::OnLoopback { wanted: vips, gone: Vec::new() });
            }
            Action::Transmit(frames) => self.transmit(host, frames),
            Action::Persist(sets) => match postcard::to_allocvec(&sets) {
                Ok(bytes) => {
                    if let Err(problem) = self.state.keep_phase(&bytes) {
                        // Told nobody yet: without a disk this node must not say that it accepted.
                        tracing::error!(%problem, "the sets cannot be kept; this node stops");
                        host.left = true;
                    }
                }
                Err(error) => tracing::error!(%error, "the sets cannot be written"),
            },
            Action::Epoch(epoch) => self.desk.say(Message::Epoch(epoch)),
            Action::Damped(damped) => {
                let wall = |until: Instant| clock::realtime_ns(until) / 1_000_000;
                self.desk.say(Message::Damped(damped.into_iter().map(|(pool, until)| (pool, wall(until))).collect()));
            }
            Action::Fetch(digest) => self.desk.say(Message::PeerHas(digest)),
            Action::Left => host.left = true,
            Action::Note(note) => {
                host.dirty = true;
                log(&note);
            }
        }
    }

    /// Whom this node asks, just after a link came up, must not wait for a question of the kernel that got lost.
    fn resolve(&mut self, host: &mut Host, datagram: &Outgoing) {
        let now = clock::now();
        let asked = host.resolved_at.get(&datagram.to).is_some_and(|at| now < *at + ANSWER_PATIENCE);
        if now >= host.links_settle || asked || !datagram.heartbeat.flags.has(Flags::ANSWER_ME) {
            return;
        }
        if let Some(place) = self.gossip.place_of(&datagram.to)
            && self.monitor.resolve_anew(place.ip())
        {
            host.resolved_at.insert(datagram.to.clone(), now);
            tracing::debug!(peer = %datagram.to, "its hardware address is asked for anew");
        }
    }

    fn prepare(&self, interface: &InterfaceName, vips_on_loopback: bool) {
        match prepare_interface(interface, vips_on_loopback) {
            Ok(changed) if changed.is_empty() => {}
            // To be put back by an orderly stop.
            Ok(changed) => self.desk.say(Message::Settings(changed)),
            Err(error) => tracing::warn!(%error, "a setting of the kernel could not be made"),
        }
    }

    fn said(&self, result: Result<(), HostError>, consequence: &str) {
        if let Err(error) = result {
            tracing::error!(%error, "{consequence}");
        }
    }

    fn set_lease(&mut self, host: &mut Host, until: Option<Instant>) {
        host.lease = until;
        let end = until.and_then(clock::lease_end);
        let result = self.gate.lease(end);
        self.said(result, "the lease cannot be set in the kernel");
    }

    fn set_alone(&mut self, host: &mut Host, until: Option<Instant>) {
        host.alone = until;
        let result = self.gate.alone(until.and_then(clock::lease_end));
        self.said(result, "the lease for what is served alone cannot be set in the kernel");
    }

    fn guard(&mut self, wanted: &BTreeSet<Vip>) {
        let (add, remove) = differences(self.gate.guarded(), wanted);
        let result = self.gate.guard(&add, &remove);
        self.said(result, "the gate does not cover what is declared");
    }

    fn transmit(&self, host: &Host, frames: Vec<(InterfaceName, Vec<u8>)>) {
        let mut by_interface: BTreeMap<InterfaceName, Vec<Vec<u8>>> = BTreeMap::new();
        for (interface, frame) in frames {
            by_interface.entry(interface).or_default().push(frame);
        }
        for (interface, frames) in by_interface {
            if let Some((_, socket)) = host.packets.get(&interface) {
                let _ = socket.send(&frames);
                self.desk.counters.frames.fetch_add(frames.len() as u64, Ordering::Relaxed);
            }
        }
    }

    // ---- the host ----

    fn allowed(&self, name: &InterfaceName) -> bool {
        self.allow.interfaces.as_ref().is_none_or(|allowed| allowed.contains(name))
    }

    /// Everything anew: interfaces, sockets, the gate's places, strangers' addresses.
    fn look_at_host(&mut self, host: &mut Host) {
        let snapshot = self.monitor.snapshot().clone();
        let interfaces = self.local(&snapshot);
        let indices: BTreeMap<InterfaceName, u32> = snapshot
            .interfaces
            .values()
            .filter(|interface| !interface.loopback)
            .map(|interface| (interface.name.clone(), interface.index))
            .collect();
        let guarded: Vec<GuardedInterface> = interfaces
            .keys()
            .filter_map(|name| snapshot.named(name.as_str()))
            .map(|interface| GuardedInterface { name: interface.name.clone(), own6: interface.own6() })
            .collect();
        if guarded != host.guarded {
            let result = self.gate.interfaces(&guarded);
            self.said(result, "the gate does not stand on every interface");
            host.guarded = guarded;
        }
        host.packets.retain(|name, (index, _)| indices.get(name) == Some(index) && interfaces.contains_key(name));
        for name in interfaces.keys() {
            let Some(index) = indices.get(name) else { continue };
            if !host.packets.contains_key(name) {
                self.prepare(name, !host.on_loopback.is_empty());
                match PacketSocket::open(name, *index) {
                    Ok(socket) => {
                        let here = host.wanted.iter().filter(|(_, (interface, _))| interface == name);
                        here.for_each(|(vip, (_, attach))| join(&socket, *vip, *attach));
                        host.packets.insert(name.clone(), (*index, socket));
                    }
                    Err(error) => tracing::error!(%error, "nothing can be announced there"),
                }
            }
        }
        self.hands.give(Task::Interfaces(indices));
        if interfaces != host.interfaces {
            host.interfaces = interfaces.clone();
            self.step(host, Event::Interfaces(interfaces));
        }
        self.set_limits(host);
        let strangers = snapshot.interfaces.values().flat_map(|interface| interface.addresses.values());
        let foreign: BTreeSet<Vip> = strangers
            .filter(|address| !address.is_ours())
            .filter_map(|address| Vip::new(address.address).ok())
            .collect();
        if foreign != host.foreign {
            host.foreign = foreign.clone();
            self.step(host, Event::Foreign(foreign));
        }
    }

    /// What the segment needs for itself may not be a VIP, nor what the node's own file does not allow.
    fn set_limits(&mut self, host: &mut Host) {
        host.limits_at = clock::now() + LIMITS_EVERY;
        let mut reserved = BTreeMap::new();
        for (name, interface) in &host.interfaces {
            for subnet in &interface.subnets {
                // RFC 3021: two addresses on a point-to-point link are hosts' both; RFC 6164 says so of IPv6.
                if subnet.prefix_len() + 1 >= subnet.max_prefix_len() {
                    continue;
                }
                reserved.insert(subnet.network(), format!("the network address of {subnet} on {name}"));
                if subnet.addr().is_ipv4() {
                    reserved.insert(subnet.broadcast(), format!("the broadcast address of {subnet} on {name}"));
                }
            }
        }
        for gateway in self.monitor.gateways() {
            reserved.insert(gateway, "the default gateway of this node".to_owned());
        }
        let limits = Limits { prefixes: self.allow.prefixes.clone(), reserved };
        if limits != host.limits {
            host.limits = limits.clone();
            self.step(host, Event::Limits(limits));
        }
    }

    fn local(&self, snapshot: &Snapshot) -> BTreeMap<InterfaceName, LocalInterface> {
        let carries = |name: &InterfaceName| self.allowed(name);
        snapshot
            .interfaces
            .values()
            .filter(|interface| !interface.loopback && carries(&interface.name))
            .map(|interface| {
                let own: Vec<_> = interface.addresses.values().filter(|address| !address.is_ours()).collect();
                let subnets = own
                    .iter()
                    .filter(|address| !is_link_local(address.address))
                    .filter_map(|address| ipnet::IpNet::new(address.address, address.prefix).ok())
                    .map(|net| net.trunc())
                    .collect();
                let local = LocalInterface {
                    usable: interface.up && interface.running,
                    mac: interface.mac.map(|mac| mac.0).unwrap_or_default(),
                    subnets,
                    own: own.iter().map(|address| address.address).collect(),
                    router: forwards(&interface.name),
                };
                (interface.name.clone(), local)
            })
            .collect()
    }

    fn host_changed(&mut self, host: &mut Host, changes: &[Change]) {
        // One of ours that went without us, or came back without its place in the kernel.
        let mut removed = Vec::new();
        let mut gone = Vec::new();
        for change in changes {
            match change {
                Change::AddressGone(index, address) if address.is_ours() => {
                    let Ok(vip) = Vip::new(address.address) else { continue };
                    let interface = self.monitor.snapshot().interfaces.get(index);
                    let wanted = host.wanted.get(&vip);
                    let on_loopback = interface.is_some_and(|it| it.loopback) && host.on_loopback.contains(&vip);
                    let on_interface = interface
                        .zip(wanted)
                        .is_some_and(|(it, (name, attach))| *attach == Attach::Interface && it.name == *name);
                    let there = on_loopback || on_interface;
                    let stands = self.monitor.snapshot().ours().any(|(_, ours)| ours.address == address.address);
                    if there && !stands {
                        tracing::warn!(%vip, "somebody removed a VIP; it is put back");
                        removed.push(vip);
                        if on_loopback {
                            gone.push(vip);
                        }
                    }
                }
                Change::LinkGone(interface) => {
                    removed.extend(
                        host.wanted.iter().filter(|(_, (name, _))| *name == interface.name).map(|(vip, _)| *vip),
                    );
                }
                _ => {}
            }
        }
        let began = clock::now();
        if changes.iter().any(|change| matches!(change, Change::Link(_))) {
            host.links_settle = began + LINK_SETTLES;
            host.resolved_at.clear();
        }
        self.look_at_host(host);
        let took = clock::now().since(began);
        if took > HELD_UP {
            tracing::warn!(what = "host", millis = took.as_millis(), "the beat was held up");
        }
        if !gone.is_empty() {
            self.hands.give(Task::OnLoopback { wanted: host.on_loopback.clone(), gone });
        }
        if !removed.is_empty() {
            self.step(host, Event::Removed(removed));
        }
    }

    // ---- others ----

    /// What the keeper is to say changes with the identity and with the peers.
    fn hand_words(&mut self, host: &mut Host) {
        let protocol = self.engine.protocol();
        let now = (protocol.epoch(), protocol.peers().count());
        if now == host.words {
            return;
        }
        let words = protocol.last_words();
        if let Some(state) = self.gossip.last_words(now.0, &words, protocol.peers()) {
            match self.keeper.update(&state) {
                Ok(()) => host.words = now,
                Err(error) => tracing::warn!(%error, "the keeper does not take its words"),
            }
        }
    }

    fn report(&mut self, host: &mut Host) {
        let now = clock::now();
        let in_force = self.engine.in_force().map(|generation| generation.digest());
        // What begins to be served is kept on disk: a node that ends right after it comes back to it.
        let due = in_force != host.reported
            || (host.dirty && now >= host.report_at)
            || now.since(host.reported_at) >= REPORT_ANYWAY;
        if due {
            host.reported = in_force;
            host.dirty = false;
            host.report_at = now + REPORT_EVERY;
            host.reported_at = now;
            self.desk.say(Message::Report(Box::new(self.engine.report(now))));
        }
    }
}

/// What is wanted and not there, and what is there and not wanted.
fn differences(old: &BTreeSet<Vip>, wanted: &BTreeSet<Vip>) -> (Vec<Vip>, Vec<Vip>) {
    (wanted.difference(old).copied().collect(), old.difference(wanted).copied().collect())
}

/// The group that questions for an IPv6 VIP go to, where the kernel does not join it: it has no address there.
fn group(vip: Vip, attach: Attach) -> Option<MacAddr> {
    match vip.address() {
        IpAddr::V6(v6) if attach != Attach::Interface => Some(multicast_mac(solicited_node(v6))),
        _ => None,
    }
}

fn join(socket: &PacketSocket, vip: Vip, attach: Attach) {
    if let Some(group) = group(vip, attach)
        && let Err(error) = socket.join(group)
    {
        tracing::warn!(%vip, %error, "questions for it may not be heard");
    }
}

/// What an action is, for the log.
const fn kind(action: &Action) -> &'static str {
    match action {
        Action::Stop(_) => "stop",
        Action::Persist(_) => "persist",
        Action::Lease(_) => "lease",
        Action::Alone(_) => "alone",
        Action::MayBeAlone(_) => "may be alone",
        Action::Send(_) => "send",
        Action::Start(_) => "start",
        Action::Guard(_) => "guard",
        Action::OnLoopback(_) => "on loopback",
        Action::Transmit(_) => "transmit",
        Action::EndLinger(_) => "end linger",
        Action::Fetch(_) => "fetch",
        Action::Epoch(_) => "epoch",
        Action::Damped(_) => "damped",
        Action::Left => "left",
        Action::Note(_) => "note",
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn forwards(interface: &InterfaceName) -> bool {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/forwarding");
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() != "0")
}

fn log(note: &Note) {
    match note {
        Note::View(view) => tracing::info!(%view, "accepted"),
        Note::Lapsed { epoch } => tracing::warn!(epoch, "the lease passed unrenewed; this node holds nothing"),
        Note::Took { vip, from: Some(from) } => tracing::info!(%vip, %from, "took"),
        Note::ServesAlone { vips, with } => {
            let with: Vec<&str> = with.iter().map(NodeName::as_str).collect();
            tracing::warn!(vips, ?with, "no view: this node serves `available` pools alone; two owners are possible");
        }
        Note::NoLongerAlone => tracing::info!("no longer alone"),
        Note::Took { vip, from: None } => tracing::info!(%vip, "took, nobody had it"),
    }
}
