//! The simulated world: machines on one LAN, one heap of what comes next, and the order of faults and healing.
//!
//! In: options. Out: a [`Report`]. Not here: what is drawn (`faults`, `desires`), what is judged (`checker`).

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::attacks::{Attack, Strike};
use super::checker::{Checker, Kernel};
use super::desires::{Wish, name, vip};
use super::faults::{Fault, Weather};
use super::network::Network;
use super::node::{Clock, Machine};
use super::random::Random;
use super::report::{Report, Violation};
use super::{Faults, Options};
use crate::digest::Digest;
use crate::engine::action::Action;
use crate::engine::event::{Event, LocalInterface};
use crate::engine::generation::Generation;
use crate::engine::recording::{Birthday, Ending, Tape, Writer};
use crate::membership::heartbeat::Heartbeat;
use crate::membership::protocol::{Birth, Forming, outlives};
use crate::membership::rule::Rule;
use crate::membership::timing::Timing;
use crate::membership::view::Sets;
use crate::name::{InterfaceName, NodeName};
use crate::time::Instant;
use crate::vip::Vip;

/// How long a healed cluster has to answer for every VIP.
const HEALING: Duration = Duration::from_secs(15);
/// After so long of calm nobody serves alone any more.
const TOGETHER: Duration = Duration::from_secs(5);
/// While all other nodes are dead, whoever lives answers for what may be served alone after so long.
const LONELY: Duration = Duration::from_secs(1);
/// One datagram in so many is written to bytes and read back on its way.
const CODED: u64 = 61;

/// What comes next.
#[derive(Debug)]
enum What {
    Happens {
        node: usize,
        event: Event,
    },
    /// A revision was fetched; revisions are only ever followed forwards.
    Load {
        node: usize,
        edition: u64,
        generation: Arc<Generation>,
    },
    Tick {
        node: usize,
        tick: u64,
    },
    Boot {
        node: usize,
    },
    WakeUp {
        node: usize,
    },
    /// The keeper of a daemon that died closes the gate and says its last words.
    Keeper {
        node: usize,
        epoch: u64,
        words: Arc<Heartbeat>,
    },
    NextFault {
        episode: u64,
    },
    /// A machine died while all was well: what may be served alone is served, unless something else befell since.
    JudgeLonely {
        node: usize,
        since: Instant,
    },
    Strike {
        episode: u64,
        strike: Strike,
    },
    /// A daemon that said that it left is gone at last, if it is still the same.
    Exit {
        node: usize,
        since: Instant,
    },
    Heal,
    Judge,
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    order: u64,
    what: What,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// All there is.
pub(super) struct World {
    options: Options,
    random: Random,
    weather: Weather,
    network: Network,
    machines: Vec<Machine>,
    indices: BTreeMap<NodeName, usize>,
    kernels: Vec<Kernel>,
    checker: Checker,
    heap: BinaryHeap<Reverse<Entry>>,
    order: u64,
    now: Instant,
    wish: Wish,
    generation: Arc<Generation>,
    healing: bool,
    /// The last instant at which anything but the drawn loss befell anybody.
    disturbed_at: Instant,
    report: Report,
    trace: Sha256,
    coded: u64,
    /// What befalls when a node next writes sets of an odd or an even phase to disk.
    armed: Vec<(usize, bool, Vec<Strike>)>,
    /// Who was declared by each revision so far.
    declared: BTreeMap<u64, BTreeSet<usize>>,
    /// The first revision that declared each set: there are few sets and, in a long run, ten thousands of revisions.
    first_declared: BTreeMap<BTreeSet<usize>, u64>,
    /// The present life of the node that is recorded.
    recording: Option<(Tape, Writer<Vec<u8>>)>,
}

impl World {
    pub fn new(options: &Options) -> Self {
        let mut random = Random::new(options.seed, 1);
        // A stream of its own: what is drawn else is the same with and without such pools.
        let drawn = [0, 0, 2, 1][Random::new(options.seed, 3).pick(4)];
        let wish = Wish::first(options.nodes, options.vips, options.profile, options.available.unwrap_or(drawn));
        let generation = wish.generation();
        let machines: Vec<Machine> = (0..options.nodes)
            .map(|_| Machine {
                clock: Clock { offset: random.below(1 << 40), gain: random.below(10_000) as i64 - 5_000 },
                engine: None,
                disk: None,
                disk_epoch: 0,
                damped: BTreeMap::new(),
                last_good: Some(generation.clone()),
                git_away: false,
                edition: 0,
                paused_until: None,
                waiting: VecDeque::new(),
                undone: Vec::new(),
                pause_in_step: None,
                tick: 0,
                excused_until: Instant::ZERO,
                lapses_seen: 0,
                up_since: Instant::ZERO,
            })
            .collect();
        let mut world = Self {
            weather: Weather::draw(&mut random, options.loss),
            random,
            network: Network::new(options.seed),
            indices: (0..options.nodes).map(|index| (name(index), index)).collect(),
            kernels: vec![Kernel::default(); machines.len()],
            machines,
            checker: Checker::default(),
            heap: BinaryHeap::new(),
            order: 0,
            now: Instant::ZERO,
            declared: BTreeMap::from([(wish.edition, wish.declared.clone())]),
            first_declared: BTreeMap::from([(wish.declared.clone(), wish.edition)]),
            wish,
            generation,
            healing: true,
            disturbed_at: Instant::ZERO,
            report: Report { span: options.span, ..Report::default() },
            trace: Sha256::new(),
            coded: 0,
            armed: Vec::new(),
            recording: None,
            options: options.clone(),
        };
        for node in 0..options.nodes {
            let at = Duration::from_micros(world.random.below(500_000));
            world.after(at, What::Boot { node });
        }
        world.network.loss = options.loss.unwrap_or(0);
        world.after(HEALING, What::Judge);
        world
    }

    /// All nodes declared, all VIPs, as in the beginning.
    fn first_wish(&self) -> Wish {
        Wish::first(self.options.nodes, self.options.vips, self.options.profile, self.wish.available)
    }

    fn after(&mut self, delay: Duration, what: What) {
        self.at(self.now + delay, what);
    }

    fn at(&mut self, at: Instant, what: What) {
        self.order += 1;
        self.heap.push(Reverse(Entry { at, order: self.order, what }));
    }

    pub fn run(mut self) -> Report {
        let end = Instant::ZERO + self.options.span;
        while let Some(Reverse(entry)) = self.heap.pop() {
            if entry.at > end || (self.options.stop_at_violation && !self.is_clean()) {
                break;
            }
            self.now = entry.at;
            match entry.what {
                What::Happens { node, event } => self.step(node, event),
                What::Load { node, edition, generation } => {
                    if edition >= self.machines[node].edition && !self.machines[node].git_away {
                        self.machines[node].edition = edition;
                        let may_form = self.may_form(edition, &generation);
                        self.step(node, may_form);
                        self.step(node, Event::Loaded(generation));
                    }
                }
                What::Tick { node, tick } if self.machines[node].tick == tick => self.step(node, Event::Tick),
                What::Tick { .. } => {}
                What::Boot { node } => self.boot(node),
                What::WakeUp { node } => self.wake_up(node),
                What::Keeper { node, epoch, words } => self.keep(node, epoch, &words),
                What::NextFault { episode } => self.next_fault(episode),
                What::JudgeLonely { node, since } => self.judge_lonely(node, since),
                What::Strike { episode, strike } => {
                    if !self.healing && episode == self.report.episodes {
                        self.strike(strike);
                    }
                }
                What::Exit { node, since } => {
                    if self.machines[node].up_since == since {
                        self.stop(node, true);
                    }
                }
                What::Heal => self.heal(),
                What::Judge => self.judge(),
            }
        }
        for machine in &self.machines {
            if machine.engine.is_some() {
                self.report.lived += self.now.as_micros() - machine.up_since.as_micros();
            }
        }
        self.end_recording();
        self.report.violations = self.checker.violations;
        self.report.trace = Digest(self.trace.finalize().into());
        self.report
    }

    fn is_clean(&self) -> bool {
        self.checker.violations.is_empty() && self.report.unanswered.is_empty()
    }

    // ---- machines ----

    fn boot(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.engine.is_some() {
            return;
        }
        // What the kernel still answers is stopped before anything is sent.
        self.kernels[node] = Kernel::default();
        let local = machine.clock.local(self.now);
        let wall = 1_700_000_000_000 + self.now.as_micros() / 1000;
        let epoch = wall.max(machine.disk_epoch + 1);
        machine.disk_epoch = epoch;
        let mut disk = machine.disk.clone();
        if self.options.without.contains(&Rule::PhaseOnDisk) && disk.is_some() {
            disk = Some(Sets::first((0..self.options.nodes).map(name).collect()));
        }
        let birth = Birth { me: name(node), epoch, disk, at: local, without: self.options.without.clone() };
        let profile =
            crate::manifest::desired::Failover { heartbeat: Duration::from_millis(100), profile: self.options.profile };
        let birthday = Birthday {
            build: env!("CARGO_PKG_VERSION").to_owned(),
            wall_ms: wall,
            birth,
            timing: Timing::new(profile),
            rates: (10_000, 15),
        };
        machine.engine = Some(birthday.engine());
        if self.options.record == Some(node) {
            let writer = Writer::begin(Vec::new(), &birthday).expect("memory takes it");
            self.recording = Some((Tape::new(&birthday), writer));
        }
        machine.paused_until = None;
        machine.waiting.clear();
        machine.undone.clear();
        machine.pause_in_step = None;
        machine.lapses_seen = 0;
        machine.up_since = self.now;
        self.excuse(node, Duration::from_secs(3));
        self.step(node, Event::Damped(self.machines[node].damped.clone()));
        self.step(node, Event::Interfaces(interfaces(true)));
        if let Some(generation) = self.machines[node].last_good.clone() {
            self.step(node, Event::Loaded(generation));
        }
        let delay = Duration::from_millis(self.random.between(1, 800));
        self.load_after(delay, node);
    }

    fn stop(&mut self, node: usize, kernel_too: bool) {
        let machine = &mut self.machines[node];
        if machine.engine.take().is_some() {
            self.report.lived += self.now.as_micros() - machine.up_since.as_micros();
        }
        machine.paused_until = None;
        machine.waiting.clear();
        machine.undone.clear();
        machine.tick += 1;
        if kernel_too {
            self.kernels[node] = Kernel::default();
        }
        if self.options.record == Some(node) {
            self.end_recording();
        }
    }

    /// A life of the node that is recorded is over.
    fn end_recording(&mut self) {
        if let Some((_, writer)) = self.recording.take() {
            self.report.recordings.push(writer.end(Ending::Stopped).expect("memory takes it"));
        }
    }

    fn excuse(&mut self, node: usize, span: Duration) {
        let machine = &mut self.machines[node];
        machine.excused_until = machine.excused_until.max(self.now + span);
    }

    fn wake_up(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if machine.paused_until != Some(self.now) {
            return;
        }
        machine.paused_until = None;
        let undone = std::mem::take(&mut machine.undone);
        self.perform(node, undone);
        while self.machines[node].paused_until.is_none() {
            let Some(event) = self.machines[node].waiting.pop_front() else { break };
            self.step(node, event);
        }
        if self.machines[node].paused_until.is_none() {
            self.step(node, Event::Tick);
        }
    }

    fn keep(&mut self, node: usize, epoch: u64, words: &Arc<Heartbeat>) {
        // A daemon that is up again has cleaned up itself, and its keeper is another.
        if self.machines[node].engine.is_some() {
            return;
        }
        self.kernels[node] = Kernel::default();
        for to in (0..self.machines.len()).filter(|to| *to != node) {
            if let (Some(delay), _) = self.network.carry(node, to) {
                let heartbeat = words.clone();
                let event = Event::Heartbeat { from: name(node), epoch, counter: u64::MAX, heartbeat };
                self.after(delay, What::Happens { node: to, event });
            }
        }
    }

    fn step(&mut self, node: usize, event: Event) {
        let machine = &mut self.machines[node];
        let Some(engine) = machine.engine.as_mut() else {
            if let Event::Loaded(generation) = event {
                machine.last_good = Some(generation);
            }
            return;
        };
        if machine.paused_until.is_some() {
            // Ticks are made up for at the end; a socket's buffer is not endless.
            if !matches!(event, Event::Tick) && machine.waiting.len() < 400 {
                machine.waiting.push_back(event);
            }
            return;
        }
        if let Event::Loaded(generation) = &event {
            machine.last_good = Some(generation.clone());
        }
        let local = machine.clock.local(self.now);
        let told = self.options.explain.then(|| format!("{event:?}"));
        let actions = match self.recording.as_mut().filter(|_| self.options.record == Some(node)) {
            Some((tape, writer)) => {
                tape.step(engine, local, event, |entry| writer.entry(&entry).expect("memory takes it"))
            }
            None => engine.step(local, event),
        };
        let due = machine.clock.world(engine.next_deadline());
        let lapses = engine.protocol().lapses();
        let view = engine.protocol().accepted().map(|view| view.id());
        if lapses > machine.lapses_seen {
            machine.lapses_seen = lapses;
            if self.now > machine.excused_until {
                self.report.false_takeovers += 1;
            }
        }
        machine.tick += 1;
        let tick = machine.tick;
        if let Some(event) = told {
            self.explain(node, &event, &actions);
        }
        self.trace.update(self.now.as_micros().to_le_bytes());
        self.trace.update([node as u8]);
        if let Some(view) = view {
            self.trace.update(view.number.to_le_bytes());
        }
        let changed = actions.iter().any(|action| matches!(action, Action::Persist(_) | Action::Note(_)));
        self.at(due.max(self.now + Duration::from_micros(1)), What::Tick { node, tick });
        let written = actions.iter().find_map(|action| match action {
            Action::Persist(sets) => Some(sets.phase % 2 == 1),
            _ => None,
        });
        if let Some(odd) = written
            && let Some(at) = self.armed.iter().position(|(at, when, _)| *at == node && *when == odd)
        {
            let (_, _, then) = self.armed.swap_remove(at);
            then.into_iter().for_each(|strike| self.strike(strike));
        }
        self.perform(node, actions);
        if changed && !self.healing && self.random.per_mille(self.weather.aimed) {
            self.aim(node);
        }
    }

    fn explain(&self, node: usize, event: &str, actions: &[Action]) {
        let shown: Vec<String> = actions
            .iter()
            .filter(|action| !matches!(action, Action::Send(_) | Action::Lease(_)))
            .map(|action| format!("{action:?}"))
            .collect();
        if shown.is_empty() {
            return;
        }
        let event: String = event.chars().take(60).collect();
        println!("{:?} {} [{event}] {}", self.now, name(node), shown.join(" | "));
    }

    /// Where everybody stands, for a person who looks for a cause.
    fn show_all(&self) {
        println!("{:?} wish {:?} as {:?}", self.now, self.wish, self.generation.digest());
        for (node, machine) in self.machines.iter().enumerate() {
            let Some(engine) = &machine.engine else {
                println!("  {} is down, disk {:?}", name(node), machine.disk);
                continue;
            };
            let protocol = engine.protocol();
            let local = machine.clock.local(self.now);
            let heard: Vec<_> = protocol.peers().filter(|peer| protocol.hears(local, peer)).collect();
            println!(
                "  {}@{} lease {} goodbye {} hears {heard:?} of {:?}, loaded {:?}, disk {:?}",
                name(node),
                protocol.epoch(),
                protocol.lease().is_some(),
                protocol.said_goodbye(),
                protocol.peers().collect::<Vec<_>>(),
                protocol.loaded(),
                protocol.disk(),
            );
            println!(
                "    accepted {:?} established {} settled {} held {:?}",
                protocol.accepted(),
                protocol.is_established(local),
                protocol.is_settled(),
                engine.held().collect::<Vec<_>>()
            );
        }
    }

    /// Does what a node decided, in order; a pause may strike half-way.
    fn perform(&mut self, node: usize, actions: Vec<Action>) {
        let strike = self.machines[node].pause_in_step.filter(|_| !actions.is_empty());
        let strike_at = strike.map(|until| (self.random.pick(actions.len()), until));
        if strike.is_some() {
            self.machines[node].pause_in_step = None;
        }
        let mut actions = actions.into_iter().enumerate();
        while let Some((index, action)) = actions.next() {
            if let Some((at, until)) = strike_at
                && index == at
                && until > self.now
            {
                let machine = &mut self.machines[node];
                machine.undone = std::iter::once(action).chain(actions.map(|(_, action)| action)).collect();
                machine.paused_until = Some(until);
                self.at(until, What::WakeUp { node });
                return;
            }
            self.do_one(node, action);
        }
    }

    fn do_one(&mut self, node: usize, action: Action) {
        let clock = self.machines[node].clock;
        match action {
            Action::Stop(stopped) => {
                for stopped in &stopped {
                    self.kernels[node].held.remove(&stopped.vip);
                    self.note(1, stopped.vip);
                }
            }
            Action::Persist(sets) => self.machines[node].disk = Some(sets),
            Action::Epoch(epoch) => self.machines[node].disk_epoch = epoch,
            Action::Damped(damped) => self.machines[node].damped = damped,
            Action::Lease(until) => {
                // The kernel's end is absolute: the rounding is to the earlier.
                self.kernels[node].until = until.map_or(Instant::ZERO, |until| clock.world(until));
                self.judge_kernel(node);
            }
            Action::Alone(until) => {
                self.kernels[node].alone_until = until.map_or(Instant::ZERO, |until| clock.world(until));
                self.judge_kernel(node);
            }
            Action::MayBeAlone(vips) => {
                self.kernels[node].may_be_alone = vips;
                self.judge_kernel(node);
            }
            Action::Start(started) => {
                for started in &started {
                    self.kernels[node].held.insert(started.vip);
                    self.note(2, started.vip);
                    if let Some(outage) = self.checker.found(self.now, started.vip) {
                        self.report.takeovers += 1;
                        self.report.outages.push(outage);
                    }
                }
                self.judge_kernel(node);
                let vips = started.into_iter().map(|started| started.vip).collect();
                self.after(Duration::from_micros(50), What::Happens { node, event: Event::Attached(vips) });
            }
            Action::Send(datagram) => {
                self.report.datagrams += 1;
                let Some(&to) = self.indices.get(&datagram.to) else { return };
                let (first, second) = self.network.carry(node, to);
                let Some(first) = first else { return };
                let heartbeat = Arc::new(self.coded(datagram.heartbeat));
                let event =
                    Event::Heartbeat { from: name(node), epoch: datagram.epoch, counter: datagram.counter, heartbeat };
                if let Some(second) = second {
                    self.after(second, What::Happens { node: to, event: event.clone() });
                }
                self.after(first, What::Happens { node: to, event });
            }
            Action::Fetch(digest) => {
                if digest == self.generation.digest() {
                    self.load_after(Duration::from_millis(20), node);
                }
            }
            Action::Left => {
                let since = self.machines[node].up_since;
                let teardown = Duration::from_micros(self.random.between(100, 20_000));
                self.after(teardown, What::Exit { node, since });
            }
            Action::EndLinger(_) | Action::Note(_) | Action::Guard(_) | Action::OnLoopback(_) | Action::Transmit(_) => {
            }
        }
    }

    /// Two may answer for a VIP of an `available` pool, but not once all have been well for a while.
    fn judge_kernel(&mut self, node: usize) {
        let well = self.now >= self.disturbed_at + TOGETHER && self.network.is_whole() && self.all_run();
        let loose = |vip: Vip| {
            (0..self.options.vips).any(|index| super::desires::vip(index) == vip && self.wish.is_available(index))
        };
        self.checker.judge(self.now, node, &self.kernels, |vip| !well && loose(vip));
    }

    fn all_run(&self) -> bool {
        self.machines.iter().all(|machine| machine.engine.is_some() && machine.paused_until.is_none())
    }

    /// Now and then a datagram goes through its bytes, so that what is simulated is what is sent.
    fn coded(&mut self, heartbeat: Heartbeat) -> Heartbeat {
        self.coded += 1;
        if !self.coded.is_multiple_of(CODED) {
            return heartbeat;
        }
        let read = Heartbeat::from_bytes(&heartbeat.to_bytes());
        assert_eq!(read.as_ref(), Ok(&heartbeat), "a heartbeat survives its bytes");
        heartbeat
    }

    fn note(&mut self, kind: u8, vip: Vip) {
        self.trace.update([kind]);
        if let std::net::IpAddr::V4(address) = vip.address() {
            self.trace.update(address.octets());
        }
    }

    // ---- faults ----

    fn next_fault(&mut self, episode: u64) {
        if self.healing || episode != self.report.episodes {
            return;
        }
        let fault = self.weather.fault(&mut self.random);
        let node = self.random.pick(self.machines.len());
        self.befall(node, fault);
        let next = self.weather.next_in(&mut self.random);
        self.after(next, What::NextFault { episode });
    }

    /// A view or the sets have just changed on `node`: a fault where it hurts, there or beside it.
    fn aim(&mut self, node: usize) {
        if self.options.faults != Faults::All {
            return;
        }
        let node = if self.random.below(2) == 0 { node } else { self.random.pick(self.machines.len()) };
        let fault = self.weather.fault(&mut self.random);
        self.befall(node, fault);
    }

    fn befall(&mut self, node: usize, fault: Fault) {
        if self.options.explain {
            println!("{:?} {} FAULT {fault:?}", self.now, name(node));
        }
        let nodes = self.machines.len();
        let all = 0..nodes;
        let quiet = |since: Instant| self.now.since(since) > Duration::from_secs(4);
        // Who has just booted waits, and so do the others for it.
        let calm = quiet(self.disturbed_at) && self.machines.iter().all(|m| m.engine.is_some() && quiet(m.up_since));
        self.disturbed_at = self.now;
        if !matches!(fault, Fault::KillHost { .. }) || !calm {
            self.checker.forget();
        }
        for other in all.clone() {
            self.excuse(other, Duration::from_secs(2));
        }
        match fault {
            Fault::KillHost { down } => {
                if calm {
                    for vip in self.kernels[node].held.clone() {
                        self.checker.lost(self.now, vip);
                    }
                }
                self.stop(node, true);
                self.after(down, What::Boot { node });
                if calm && down > LONELY {
                    self.after(LONELY, What::JudgeLonely { node, since: self.now });
                }
            }
            Fault::KillProcess { down } => {
                if let Some(engine) = self.machines[node].engine.as_ref().filter(|_| self.order.is_multiple_of(2)) {
                    let (epoch, words) = (engine.protocol().epoch(), engine.protocol().last_words());
                    let after = Duration::from_micros(self.random.between(200, 30_000));
                    self.after(after, What::Keeper { node, epoch, words: Arc::new(words) });
                }
                self.stop(node, false);
                self.after(down, What::Boot { node });
            }
            Fault::KillAll { down } => {
                for node in all {
                    self.stop(node, self.order.is_multiple_of(2));
                    let down = down + Duration::from_millis(self.random.below(400));
                    self.after(down, What::Boot { node });
                }
            }
            Fault::Pause { span, in_step } => self.pause(node, span, in_step),
            Fault::CutOneWay => {
                let other = self.random.pick(nodes);
                self.network.cut(node, other);
            }
            Fault::Isolate { inbound, outbound } => {
                for other in all.filter(|other| *other != node) {
                    if inbound {
                        self.network.cut(other, node);
                    }
                    if outbound {
                        self.network.cut(node, other);
                    }
                }
            }
            Fault::Split { one_way } => {
                let side: Vec<bool> = all.clone().map(|_| self.random.below(2) == 0).collect();
                for from in all.clone() {
                    for to in all.clone() {
                        if side[from] != side[to] && (!one_way || side[from]) {
                            self.network.cut(from, to);
                        }
                    }
                }
            }
            Fault::Mend => self.network.mend(),
            Fault::Wish => {
                let wish = self.wish.changed(&mut self.random, nodes, self.options.vips);
                self.wish_for(wish);
            }
            Fault::SetChange => {
                let mut wish = self.wish.clone();
                wish.edition += 1;
                wish.change_set(&mut self.random, nodes);
                self.wish_for(wish);
            }
            Fault::Leave { down } => {
                self.step(node, Event::Leave);
                // Its service manager kills it after some time.
                self.after(down + Duration::from_millis(300), What::Boot { node });
            }
            Fault::Drain => {
                let event = if self.random.below(2) == 0 { Event::Drain } else { Event::Resume };
                self.step(node, event);
            }
            Fault::Interface => {
                let usable = self.random.below(2) == 0;
                self.step(node, Event::Interfaces(interfaces(usable)));
            }
        }
    }

    fn strike(&mut self, strike: Strike) {
        if self.options.explain {
            println!("{:?} STRIKE {strike:?}", self.now);
        }
        self.disturbed_at = self.now;
        self.checker.forget();
        for node in 0..self.machines.len() {
            self.excuse(node, Duration::from_secs(2));
        }
        match strike {
            Strike::Cut(from, to) => self.network.cut(from, to),
            Strike::Mend(from, to) => self.network.mend_one(from, to),
            Strike::KillHost { node, down } => {
                self.stop(node, true);
                self.after(down, What::Boot { node });
            }
            Strike::Reinstall { node, down } => {
                self.stop(node, true);
                let machine = &mut self.machines[node];
                (machine.disk, machine.disk_epoch, machine.last_good) = (None, 0, None);
                machine.damped.clear();
                self.after(down, What::Boot { node });
            }
            Strike::Leave(node) => {
                self.step(node, Event::Leave);
                self.after(Duration::from_millis(700), What::Boot { node });
            }
            Strike::Drain { node, on } => self.step(node, if on { Event::Drain } else { Event::Resume }),
            Strike::Refuse(node) => {
                if let Some(vip) = self.kernels[node].held.pop_first() {
                    self.step(node, Event::Refused(vec![(vip, "refused".to_owned())]));
                }
            }
            Strike::Declare { names, by, within } => {
                let first = self.first_wish();
                self.commit(Wish { declared: names, edition: self.wish.edition + 1, ..first });
                for node in by {
                    let delay = Duration::from_micros(self.random.below(within * 1000));
                    self.load_after(delay, node);
                }
            }
            Strike::Speak(node) => {
                if let Some(generation) = self.machines[node].last_good.clone() {
                    self.step(node, Event::Loaded(generation));
                }
            }
            Strike::GitAway { node, on } => {
                self.machines[node].git_away = on;
                if !on {
                    self.load_after(Duration::ZERO, node);
                }
            }
            Strike::WhenItWrites { node, odd, then } => self.armed.push((node, odd, then)),
        }
    }

    /// A well cluster of all nodes first, then the attack, then healing.
    fn begin_attack(&mut self, attack: Option<Attack>) {
        let fit: Vec<Attack> = Attack::ALL.into_iter().filter(|attack| attack.nodes() <= self.machines.len()).collect();
        if fit.is_empty() {
            return self.after(Duration::from_secs(1), What::Heal);
        }
        let attack = attack.unwrap_or_else(|| fit[self.random.pick(fit.len())]);
        let episode = self.report.episodes;
        let nodes = self.machines.len();
        let all: BTreeSet<usize> = (0..nodes).collect();
        let calm = Strike::Declare { names: all.clone(), by: all, within: 50 };
        self.after(Duration::ZERO, What::Strike { episode, strike: calm });
        let begin = Duration::from_secs(8);
        let mut end = begin;
        for (at, strike) in attack.strikes(&mut self.random, nodes) {
            end = end.max(begin + at);
            self.after(begin + at, What::Strike { episode, strike });
        }
        self.after(end + Duration::from_millis(1500), What::Heal);
    }

    fn pause(&mut self, node: usize, span: Duration, in_step: bool) {
        let machine = &mut self.machines[node];
        if machine.engine.is_none() || machine.paused_until.is_some() {
            return;
        }
        let until = self.now + span;
        if in_step {
            machine.pause_in_step = Some(until);
        } else {
            machine.paused_until = Some(until);
            self.at(until, What::WakeUp { node });
        }
        self.excuse(node, span + Duration::from_secs(2));
    }

    /// The next revision; nobody has loaded it yet.
    fn commit(&mut self, wish: Wish) {
        self.wish = wish;
        self.generation = self.wish.generation();
        self.declared.insert(self.wish.edition, self.wish.declared.clone());
        self.first_declared.entry(self.wish.declared.clone()).or_insert(self.wish.edition);
    }

    fn wish_for(&mut self, wish: Wish) {
        self.commit(wish);
        for node in 0..self.machines.len() {
            let delay = Duration::from_millis([0, 5, 300, 3000][self.random.pick(4)] + self.random.below(50));
            self.load_after(delay, node);
        }
    }

    /// What the history of a revision says of who may form a cluster.
    fn may_form(&self, edition: u64, generation: &Generation) -> Event {
        let now = &self.declared[&edition];
        let mut forming = Forming::Majority;
        for (before, _) in self.first_declared.iter().filter(|(before, first)| *before != now && **first < edition) {
            forming = if outlives(before, now) || forming == Forming::ByHand { Forming::ByHand } else { Forming::All };
        }
        Event::MayForm(generation.names(), forming)
    }

    fn load_after(&mut self, delay: Duration, node: usize) {
        let generation = self.generation.clone();
        self.after(delay, What::Load { node, edition: self.wish.edition, generation });
    }

    // ---- episodes ----

    fn begin_episode(&mut self) {
        self.healing = false;
        self.report.episodes += 1;
        let episode = self.report.episodes;
        match self.options.faults {
            Faults::All if self.random.below(4) == 0 => self.begin_attack(None),
            Faults::All => {
                self.weather = Weather::draw(&mut self.random, self.options.loss);
                self.network.loss = self.weather.loss;
                self.network.twice = self.weather.twice;
                self.network.late = self.weather.late;
                self.network.late_by = self.weather.late_by;
                self.after(self.weather.span, What::Heal);
                let next = self.weather.next_in(&mut self.random);
                self.after(next, What::NextFault { episode });
            }
            Faults::Attacks(one) => self.begin_attack(one),
            Faults::Crashes | Faults::Leaves => {
                let node = self.random.pick(self.machines.len());
                let down = Duration::from_secs(3);
                let crash = self.options.faults == Faults::Crashes;
                self.befall(node, if crash { Fault::KillHost { down } } else { Fault::Leave { down } });
                self.after(Duration::from_secs(4), What::Heal);
            }
            Faults::None => self.after(Duration::from_secs(30), What::Heal),
        }
    }

    /// Everything is well again from now on.
    fn heal(&mut self) {
        if self.options.explain {
            println!("{:?} HEAL", self.now);
        }
        self.healing = true;
        self.disturbed_at = self.now;
        self.network.mend();
        self.armed.clear();
        if self.options.faults == Faults::All {
            self.network.loss = self.options.loss.unwrap_or(0);
            self.network.twice = 0;
            self.network.late = 0;
        }
        // Now and then a person ends the wait of those who came back; else only drains end.
        let impatient = self.random.below(2) == 0;
        for node in 0..self.machines.len() {
            self.excuse(node, Duration::from_secs(2));
            self.machines[node].pause_in_step = None;
            self.machines[node].git_away = false;
            if self.machines[node].paused_until.is_some() {
                self.machines[node].paused_until = Some(self.now);
                self.wake_up(node);
            }
            if self.machines[node].engine.is_none() {
                let delay = Duration::from_millis(self.random.below(300));
                self.after(delay, What::Boot { node });
                continue;
            }
            // A leaving node is ended by its service manager and started again.
            if self.machines[node].engine.as_ref().is_some_and(|engine| engine.is_stopping()) {
                self.stop(node, true);
                self.after(Duration::from_millis(100), What::Boot { node });
                continue;
            }
            let drained = |machine: &Machine| machine.engine.as_ref().is_some_and(|it| it.protocol().is_draining());
            if impatient || drained(&self.machines[node]) {
                self.step(node, Event::Resume);
            }
            self.step(node, Event::Interfaces(interfaces(true)));
            let delay = Duration::from_millis(self.random.below(500));
            self.load_after(delay, node);
        }
        self.after(HEALING, What::Judge);
    }

    /// One machine is dead and nothing else befell anybody: is all answered for that may be served alone?
    fn judge_lonely(&mut self, dead: usize, since: Instant) {
        let disturbed = self.disturbed_at != since || !self.network.is_whole();
        if disturbed || self.machines[dead].engine.is_some() {
            return;
        }
        let able = (0..self.machines.len()).any(|node| {
            let engine = self.machines[node].engine.as_ref().filter(|engine| {
                !engine.protocol().is_draining() && !engine.protocol().own_offer().is_empty() && !engine.is_stopping()
            });
            let weight = self.wish.weights.get(&node).copied().unwrap_or(1);
            let declared = self.wish.declared.contains(&node) && !self.wish.cordoned.contains(&node);
            engine.is_some() && declared && weight > 0 && self.machines[node].edition == self.wish.edition
        });
        if able {
            let wanted: Vec<Vip> =
                (0..self.wish.vips).filter(|index| self.wish.is_available(*index)).map(vip).collect();
            let unanswered = self.checker.unanswered(self.now, &wanted, &self.kernels);
            if self.options.explain && !unanswered.is_empty() {
                self.show_all();
            }
            for vip in unanswered {
                self.report.unanswered.push(Violation { at: self.now, vip, nodes: [dead, dead] });
            }
        }
    }

    /// The healed cluster must answer for every VIP that somebody may own.
    fn judge(&mut self) {
        if self.options.explain {
            self.show_all();
        }
        let able =
            self.wish.declared.iter().any(|node| {
                !self.wish.cordoned.contains(node) && self.wish.weights.get(node).copied().unwrap_or(1) > 0
            });
        if able {
            let wanted: Vec<Vip> = (0..self.wish.vips).map(vip).collect();
            for vip in self.checker.unanswered(self.now, &wanted, &self.kernels) {
                self.report.unanswered.push(Violation { at: self.now, vip, nodes: [0, 0] });
            }
        }
        (0..self.machines.len()).for_each(|node| self.judge_kernel(node));
        self.begin_episode();
    }
}

fn interfaces(usable: bool) -> BTreeMap<InterfaceName, LocalInterface> {
    let eth0 = InterfaceName::new("eth0").expect("a name");
    let subnet = "10.1.0.0/16".parse().expect("a subnet");
    BTreeMap::from([(
        eth0,
        LocalInterface { usable, mac: [2, 0, 0, 0, 0, 1], subnets: [subnet].into(), ..LocalInterface::default() },
    )])
}
