//! Three nodes, one VIP, and whatever may befall them, tick by tick.
//!
//! In: what befalls whom. Out: the next [`Cluster`], and whether two nodes ever answered at once. Not here: the search
//! (`main`), telling states apart (`fingerprint`).
//!
//! The nodes run the protocol that the daemon runs ([`Protocol`]), each with a holder of one VIP that follows rules 5 and 6 in
//! the order of `engine`. Time goes in ticks. A datagram comes in the tick in which it was sent, in which case its answer does
//! too, and the answer to that: no real network is as fast, so nobody is silent for longer than it must be before others
//! act. Or it comes later, or never.

use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use rendezvip::digest::Digest;
use rendezvip::membership::protocol::{Birth, Forming, Outgoing, Protocol, Start};
use rendezvip::membership::rule::Rule;
use rendezvip::membership::timing::Timing;
use rendezvip::membership::view::{Sets, View};
use rendezvip::name::{InterfaceName, NodeName};
use rendezvip::placement::offer::Offer;
use rendezvip::time::Instant;

use super::fingerprint::{Ages, fingerprint};

/// How many nodes there are.
pub const NODES: usize = 3;

/// The name of a node.
pub fn name(node: usize) -> NodeName {
    NodeName::new(["a", "b", "c"][node]).expect("a name")
}

/// Which node a name means.
pub fn index(name: &str) -> usize {
    name.bytes().next().map_or(0, |first| usize::from(first.wrapping_sub(b'a')) % NODES)
}

const TICK: Duration = Duration::from_millis(1);

/// So many datagrams in one tick are a bug: nodes that answer each other for ever.
const MOST_IN_A_TICK: usize = 500;

/// A socket's buffer is not endless.
const MOST_WAITING: usize = 6;

/// The times of the protocol, in ticks.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    pub heartbeat: u32,
    pub lease: u32,
    pub silence: u32,
    pub late: u32,
    pub stall: u32,
    pub join: u32,
    pub settle: u32,
}

impl Pace {
    fn timing(&self) -> Timing {
        Timing {
            heartbeat: TICK * self.heartbeat,
            lease: TICK * self.lease,
            silence: TICK * self.silence,
            late: TICK * self.late,
            risk: TICK * self.late,
            retry: TICK,
            stall: TICK * self.stall,
            join: TICK * self.join,
            settle: TICK * self.settle,
            rank_step: TICK,
            blocked: TICK,
            blocked_rank: TICK,
            form: TICK * self.join,
        }
    }

    fn ages(&self) -> Ages {
        let micros = |ticks: u32| u64::from(ticks) * 1000;
        let ranks = NODES as u32;
        Ages {
            lease: micros(self.lease),
            silence: micros(self.silence),
            heartbeat: micros(self.heartbeat),
            stall: micros(self.stall.max(self.lease)),
            spreading: micros(self.settle.max(3 * self.heartbeat)),
            steady: micros(self.join.max(2 * self.silence)),
            ranks: micros(1 + ranks),
            longest: micros(self.join.max(self.silence) + ranks),
        }
    }
}

/// A datagram on its way.
#[derive(Clone)]
pub struct Datagram {
    pub from: usize,
    pub to: usize,
    pub outgoing: Arc<Outgoing>,
}

/// What becomes of what one node sends another.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Link {
    Up,
    /// All is lost.
    Cut,
    /// The first datagram waits until the link is mended, all others are lost.
    Slow,
}

/// What may befall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// From the one nothing reaches the other.
    Cut(usize, usize),
    /// The next datagram of the one to the other comes when the link is mended, others are lost.
    Slow(usize, usize),
    /// Nothing that it sends reaches anybody.
    Mute(usize),
    /// Nothing reaches it.
    Deafen(usize),
    /// Both.
    Isolate(usize),
    /// It forgets all but its disk; its kernel goes on to the end of the lease.
    Crash(usize),
    /// It stands still, but for its kernel.
    Pause(usize),
    /// A person asks it to give away what it has.
    Drain(usize),
    /// A planned stop.
    Leave(usize),
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something befalls, before the next tick.
    Befalls(Fault),
    /// A link works again.
    Mend(usize, usize),
    /// Whatever a node sends is heard by all again.
    IsHeard(usize),
    /// A node hears all again.
    Hears(usize),
    /// A node starts.
    Boot(usize),
    /// A node goes on.
    Resume(usize),
    /// It takes again what falls to it; one that said goodbye comes back.
    Rejoin(usize),
    /// A tick passes.
    Tick,
}

/// One node with its kernel and its disk.
#[derive(Clone)]
struct Node {
    /// Nothing while it is down.
    protocol: Option<Protocol>,
    held: bool,
    unstarted: bool,
    /// Until when its kernel answers for what it holds.
    until: Instant,
    disk: Option<Sets>,
    epoch: u64,
    paused: bool,
    waiting: VecDeque<Datagram>,
    drained: bool,
    boots: u32,
}

/// The cluster at one instant.
#[derive(Clone)]
pub struct Cluster {
    now: Instant,
    pace: Pace,
    nodes: [Arc<Node>; NODES],
    links: [Link; NODES * NODES],
    /// Waiting in slow links.
    slow: Vec<Datagram>,
    /// How many faults have been.
    pub faults: u32,
    /// What befell last in this tick; what befalls in one tick does so in one order.
    last: u32,
    /// Two nodes answered at once.
    pub broken: bool,
    /// Nodes answered each other without an end in one tick.
    pub endless: bool,
    seen: u64,
}

impl PartialEq for Cluster {
    fn eq(&self, other: &Self) -> bool {
        self.seen == other.seen
    }
}

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.seen.hash(state);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.now)?;
        for (node, it) in self.nodes.iter().enumerate() {
            let answers = if self.answers(node) { "answers" } else { "-" };
            write!(f, " | {} {answers}", name(node))?;
            match &it.protocol {
                None => write!(f, " down")?,
                Some(protocol) => {
                    let paused = if it.paused { " paused" } else { "" };
                    write!(f, "@{}{paused} lease {:?}", protocol.epoch(), protocol.lease())?;
                    if let Some(view) = protocol.accepted() {
                        let clean = if protocol.is_clean() { " clean" } else { "" };
                        let settled = if protocol.is_settled() { " settled" } else { "" };
                        write!(f, " {view:?}{clean}{settled}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What the nodes can carry: all the same.
fn offer() -> Offer {
    let eth0 = InterfaceName::new("eth0").expect("a name");
    Offer { interfaces: [(eth0, ["10.1.0.0/16".parse().expect("a subnet")].into())].into(), ..Offer::default() }
}

/// The VIP goes to the first by name who offers anything.
fn owner(view: &View) -> Option<usize> {
    let full = offer().digest();
    view.members().iter().find(|(_, member)| member.offer == full).map(|(name, _)| index(name.as_str()))
}

impl Node {
    fn boot(&mut self, me: usize, now: Instant, pace: &Pace, without: &[Rule]) {
        self.epoch += 1;
        self.boots += 1;
        self.held = false;
        self.unstarted = false;
        self.until = Instant::ZERO;
        self.paused = false;
        self.drained = false;
        let names = || (0..NODES).map(name).collect();
        let disk = self.disk.clone();
        let birth = Birth { me: name(me), epoch: self.epoch, disk, at: now, without: without.to_vec() };
        let mut protocol = Protocol::new(birth, pace.timing());
        protocol.load(Digest::of(b"one"), names());
        protocol.allow_forming(names(), Forming::Majority);
        self.protocol = Some(protocol);
    }

    fn lose(&mut self) {
        self.held = false;
        self.unstarted = false;
    }

    /// One step of the daemon, in the order of `Engine::step`.
    fn step(&mut self, me: usize, now: Instant, what: impl FnOnce(&mut Protocol)) -> Vec<Outgoing> {
        let Some(mut protocol) = self.protocol.take() else { return Vec::new() };
        if protocol.begin(now) {
            self.lose();
        }
        let epoch = protocol.epoch();
        what(&mut protocol);
        loop {
            if protocol.epoch() != epoch {
                self.lose();
            }
            protocol.set_offer(now, offer());
            if protocol.is_leaving() {
                let clean = !protocol.is_member() || protocol.lease().is_none() || protocol.is_established(now);
                protocol.say_goodbye_if_leaving(!self.held && !self.unstarted && clean);
            }
            let changed = protocol.advance(now);
            if changed && let Some(view) = protocol.accepted() {
                self.unstarted = protocol.is_member() && owner(view) == Some(me) && !self.held;
            }
            if !protocol.is_clean()
                && protocol.is_established(now)
                && let Some(view) = protocol.accepted()
            {
                if owner(view) != Some(me) {
                    self.held = false;
                }
                protocol.mark_clean();
            }
            if !changed {
                break;
            }
        }
        if protocol.epoch() != epoch {
            self.lose();
        }
        self.epoch = protocol.epoch();
        if let Some(sets) = protocol.take_sets_to_persist() {
            self.disk = Some(sets);
        }
        if self.unstarted {
            let start = match protocol.may_start(now) {
                Start::Nothing => false,
                Start::All => true,
                Start::After(before) => owner(&before).is_none_or(|owner| {
                    let owner = name(owner);
                    let view = protocol.accepted().expect("something is owned in it");
                    let same = before.members().get(&owner).is_some_and(|member| view.has(&owner, member.epoch));
                    !same || protocol.is_known_clean(&owner)
                }),
            };
            if start {
                self.held = true;
                self.unstarted = false;
            }
        }
        self.until = protocol.lease().unwrap_or(Instant::ZERO);
        let sent = protocol.flush(now);
        self.protocol = Some(protocol);
        sent
    }
}

impl Cluster {
    /// A cluster at rest: it has formed, and one node answers for the VIP.
    pub fn at_rest(pace: Pace, without: &[Rule]) -> Self {
        let now = Instant::from_micros(1_000_000);
        let node = |me: usize| {
            let mut node = Node {
                protocol: None,
                held: false,
                unstarted: false,
                until: Instant::ZERO,
                disk: None,
                epoch: 0,
                paused: false,
                waiting: VecDeque::new(),
                drained: false,
                boots: 0,
            };
            node.boot(me, now, &pace, without);
            node.boots = 0;
            Arc::new(node)
        };
        let mut cluster = Self {
            now,
            pace,
            nodes: [node(0), node(1), node(2)],
            links: [const { Link::Up }; NODES * NODES],
            slow: Vec::new(),
            faults: 0,
            last: 0,
            broken: false,
            endless: false,
            seen: 0,
        };
        for _ in 0..20 * (pace.join + pace.silence) {
            cluster.tick();
        }
        cluster.look();
        cluster
    }

    /// Does the kernel of the node answer for the VIP?
    pub fn answers(&self, node: usize) -> bool {
        self.nodes[node].held && self.now < self.nodes[node].until
    }

    /// Is the node up, and running?
    pub fn runs(&self, node: usize) -> bool {
        self.nodes[node].protocol.is_some() && !self.nodes[node].paused
    }

    /// Did the node restart, and is it a member with a lease again?
    pub fn came_back(&self, node: usize) -> bool {
        let it = &self.nodes[node];
        it.boots > 0 && it.protocol.as_ref().is_some_and(|it| it.is_member() && it.lease().is_some())
    }

    /// Did the node lose its lease in this life?
    pub fn lapsed(&self, node: usize) -> bool {
        self.nodes[node].protocol.as_ref().is_some_and(|it| it.lapses() > 0)
    }

    /// Has the node a settled view without the other?
    pub fn goes_on_without(&self, node: usize, other: usize) -> bool {
        self.nodes[node].protocol.as_ref().is_some_and(|it| {
            it.is_settled() && it.accepted().is_some_and(|view| !view.members().contains_key(&name(other)))
        })
    }

    fn judge(&mut self) {
        self.broken |= (0..NODES).filter(|node| self.answers(*node)).count() > 1;
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * NODES + to]
    }

    /// What may come next, when at most so many faults may be, and of these.
    pub fn steps(&self, most: u32, menu: &[Fault], steps: &mut Vec<Step>) {
        let all = |step: &Step| self.order(menu, step) > self.last && self.changes(step);
        if self.faults < most {
            steps.extend(menu.iter().map(|fault| Step::Befalls(*fault)).filter(all));
        }
        let may = |fault: Fault| menu.contains(&fault);
        for node in 0..NODES {
            for to in (0..NODES).filter(|to| may(Fault::Cut(node, *to)) || may(Fault::Slow(node, *to))) {
                steps.extend([Step::Mend(node, to)].into_iter().filter(all));
            }
            if may(Fault::Isolate(node)) || may(Fault::Mute(node)) {
                steps.extend([Step::IsHeard(node)].into_iter().filter(all));
            }
            if may(Fault::Isolate(node)) || may(Fault::Deafen(node)) {
                steps.extend([Step::Hears(node)].into_iter().filter(all));
            }
            let one = [Step::Boot(node), Step::Resume(node), Step::Rejoin(node)];
            steps.extend(one.into_iter().filter(all));
        }
        steps.push(Step::Tick);
    }

    /// The place of a step among those of one tick, from 1.
    fn order(&self, menu: &[Fault], step: &Step) -> u32 {
        let place = match step {
            Step::Tick => return 0,
            Step::Mend(from, to) => from * NODES + to,
            Step::IsHeard(node) => 10 + node,
            Step::Hears(node) => 14 + node,
            Step::Boot(node) => 17 + node,
            Step::Resume(node) => 20 + node,
            Step::Rejoin(node) => 30 + node,
            Step::Befalls(fault) => 40 + menu.iter().position(|one| one == fault).unwrap_or(0),
        };
        place as u32 + 1
    }

    /// Would it change anything?
    fn changes(&self, step: &Step) -> bool {
        let link = |from: usize, to: usize| &self.links[from * NODES + to];
        let any = |of: &[usize], to: &[usize]| {
            let links = of.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
            links.into_iter().any(|(from, to)| from != to && *link(from, to) == Link::Up)
        };
        const ALL: [usize; NODES] = [0, 1, 2];
        match *step {
            Step::Tick => true,
            Step::Mend(from, to) => *link(from, to) != Link::Up,
            Step::IsHeard(node) => !any(&[node], &ALL),
            Step::Hears(node) => !any(&ALL, &[node]),
            Step::Boot(node) => self.nodes[node].protocol.is_none(),
            Step::Resume(node) => self.nodes[node].paused,
            Step::Rejoin(node) => self.runs(node) && self.nodes[node].drained,
            Step::Befalls(fault) => match fault {
                Fault::Cut(from, to) | Fault::Slow(from, to) => *link(from, to) == Link::Up,
                Fault::Mute(node) => any(&[node], &ALL),
                Fault::Deafen(node) => any(&ALL, &[node]),
                Fault::Isolate(node) => any(&[node], &ALL) || any(&ALL, &[node]),
                Fault::Crash(node) => self.nodes[node].protocol.is_some(),
                Fault::Pause(node) => self.runs(node),
                Fault::Drain(node) | Fault::Leave(node) => self.runs(node) && !self.nodes[node].drained,
            },
        }
    }

    /// The cluster after a step.
    pub fn after(&self, menu: &[Fault], without: &[Rule], step: Step) -> Self {
        let mut next = self.clone();
        next.last = self.order(menu, &step);
        let now = next.now;
        match step {
            Step::Tick => next.tick(),
            Step::Mend(from, to) => *next.link(from, to) = Link::Up,
            Step::IsHeard(node) => (0..NODES).for_each(|to| *next.link(node, to) = Link::Up),
            Step::Hears(node) => (0..NODES).for_each(|from| *next.link(from, node) = Link::Up),
            Step::Boot(node) => {
                let pace = next.pace;
                Arc::make_mut(&mut next.nodes[node]).boot(node, now, &pace, without);
            }
            Step::Resume(node) => Arc::make_mut(&mut next.nodes[node]).paused = false,
            Step::Rejoin(node) => {
                let it = Arc::make_mut(&mut next.nodes[node]);
                it.drained = false;
                let sent = it.step(node, now, |protocol| protocol.rejoin(now));
                next.deliver(node, sent);
            }
            Step::Befalls(fault) => {
                next.faults += 1;
                next.befall(fault);
            }
        }
        next.look();
        next
    }

    fn befall(&mut self, fault: Fault) {
        let now = self.now;
        let others = |node: usize| (0..NODES).filter(move |other| *other != node);
        match fault {
            Fault::Cut(from, to) => *self.link(from, to) = Link::Cut,
            Fault::Slow(from, to) => *self.link(from, to) = Link::Slow,
            Fault::Mute(node) => others(node).for_each(|other| *self.link(node, other) = Link::Cut),
            Fault::Deafen(node) => others(node).for_each(|other| *self.link(other, node) = Link::Cut),
            Fault::Isolate(node) => {
                self.befall(Fault::Mute(node));
                self.befall(Fault::Deafen(node));
            }
            Fault::Crash(node) => {
                let it = Arc::make_mut(&mut self.nodes[node]);
                it.protocol = None;
                it.paused = false;
                it.drained = false;
                it.unstarted = false;
                it.waiting.clear();
            }
            Fault::Pause(node) => Arc::make_mut(&mut self.nodes[node]).paused = true,
            Fault::Drain(node) | Fault::Leave(node) => {
                let it = Arc::make_mut(&mut self.nodes[node]);
                it.drained = true;
                let sent = it.step(node, now, |protocol| match fault {
                    Fault::Drain(_) => protocol.set_draining(now, true),
                    _ => protocol.leave(now),
                });
                self.deliver(node, sent);
            }
        }
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        // What waited comes first: the oldest news that there can be.
        let mut queue = VecDeque::new();
        let mut slow = std::mem::take(&mut self.slow);
        slow.retain(|datagram| match self.link(datagram.from, datagram.to) {
            Link::Up => {
                queue.push_back(datagram.clone());
                false
            }
            Link::Cut => false,
            Link::Slow => true,
        });
        self.slow = slow;
        for node in 0..NODES {
            if self.runs(node) && !self.nodes[node].waiting.is_empty() {
                queue.extend(Arc::make_mut(&mut self.nodes[node]).waiting.drain(..));
            }
        }
        self.judge();
        let through = queue.len();
        self.carry(queue, through);
        for node in 0..NODES {
            let now = self.now;
            if self.runs(node) && self.nodes[node].protocol.as_ref().is_some_and(|it| it.due() <= now) {
                let sent = Arc::make_mut(&mut self.nodes[node]).step(node, now, |_| ());
                self.deliver(node, sent);
            }
        }
    }

    /// What a node just sent, and all that follows from it at once.
    fn deliver(&mut self, from: usize, sent: Vec<Outgoing>) {
        let mut queue = VecDeque::new();
        queue.extend(on_its_way(from, sent));
        self.judge();
        self.carry(queue, 0);
    }

    /// Carries the first `through` of these, which have passed their links already, then the others, and whatever is sent
    /// because of them.
    fn carry(&mut self, mut queue: VecDeque<Datagram>, through: usize) {
        let now = self.now;
        let mut carried = 0;
        while let Some(datagram) = queue.pop_front() {
            carried += 1;
            if carried > MOST_IN_A_TICK {
                self.endless = true;
                break;
            }
            let (from, to) = (datagram.from, datagram.to);
            match self.link(from, to) {
                _ if carried <= through => {}
                Link::Up => {}
                Link::Cut => continue,
                Link::Slow => {
                    if !self.slow.iter().any(|waiting| (waiting.from, waiting.to) == (from, to)) {
                        self.slow.push(datagram);
                    }
                    continue;
                }
            }
            if self.nodes[to].protocol.is_none() {
                continue;
            }
            let it = Arc::make_mut(&mut self.nodes[to]);
            if it.paused {
                if it.waiting.len() < MOST_WAITING {
                    it.waiting.push_back(datagram);
                }
                continue;
            }
            let heard = datagram.outgoing;
            let sent = it.step(to, now, |protocol| {
                // Whoever is not heard is not heard for a reason that the protocol counts.
                let _ = protocol.hear(now, &name(from), heard.epoch, heard.counter, &heard.heartbeat);
            });
            queue.extend(on_its_way(to, sent));
            self.judge();
        }
    }

    fn look(&mut self) {
        let protocols = [0, 1, 2].map(|node: usize| self.nodes[node].protocol.as_ref());
        let waiting = self.nodes.iter().flat_map(|node| &node.waiting);
        let on_their_way: Vec<&Datagram> = self.slow.iter().chain(waiting).collect();
        let ages = self.pace.ages();
        self.seen = fingerprint(self.now, &ages, &protocols, &on_their_way, |hasher: &mut DefaultHasher, age| {
            for node in &self.nodes {
                (node.held, node.unstarted, node.epoch, node.paused, node.drained).hash(hasher);
                age(node.until).min(0).hash(hasher);
                node.disk.as_ref().map(|disk| disk.phase).hash(hasher);
            }
            self.links.hash(hasher);
            (self.faults, self.last, self.broken).hash(hasher);
        });
    }
}

fn on_its_way(from: usize, sent: Vec<Outgoing>) -> impl Iterator<Item = Datagram> {
    sent.into_iter().map(move |outgoing| {
        let to = index(outgoing.to.as_str());
        Datagram { from, to, outgoing: Arc::new(outgoing) }
    })
}
