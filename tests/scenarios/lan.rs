//! Three engines on a LAN that loses nothing, on one clock: for what a person can tell as a story.
//!
//! In: what befalls a node, and how long things then run. Out: who holds what, and the longest that any VIP had nobody.
//! Not here: faults that are drawn, and their judges (`sim`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rendezvip::engine::Engine;
use rendezvip::engine::action::Action;
use rendezvip::engine::event::{Event, LocalInterface};
use rendezvip::engine::generation::Generation;
use rendezvip::engine::report::Report;
use rendezvip::manifest::{SourceFile, load};
use rendezvip::membership::protocol::{Birth, Forming};
use rendezvip::membership::timing::Timing;
use rendezvip::membership::view::Sets;
use rendezvip::name::{InterfaceName, NodeName, PoolName};
use rendezvip::time::Instant;
use rendezvip::vip::Vip;

/// Its nodes.
pub const NAMES: [&str; 3] = ["edge-a", "edge-b", "edge-c"];
/// How many VIPs there are.
pub const VIPS: usize = 9;

/// A desired state; editions differ in a label.
pub fn generation(edition: u32) -> Arc<Generation> {
    generation_of(edition, &NAMES)
}

/// One that declares these nodes.
pub fn generation_of(edition: u32, names: &[&str]) -> Arc<Generation> {
    generation_with(edition, names, "kind: VipPool\nmetadata: {name: web}\nspec: {addresses: [10.99.1.1-10.99.1.9]}\n")
}

/// The same with another pool.
pub fn generation_with(edition: u32, names: &[&str], pool: &str) -> Arc<Generation> {
    let mut text = "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\n".to_owned();
    for (at, name) in NAMES.iter().enumerate().filter(|(_, name)| names.contains(name)) {
        text += &format!(
            "---\napiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: {name}, labels: {{edition: e{edition}}}}}\n\
             spec: {{address: \"10.99.0.{}:7847\"}}\n",
            at + 10
        );
    }
    text += &format!("---\napiVersion: rendezvip/v1\n{pool}");
    let loaded = load(&[SourceFile { path: "all.yaml".to_owned(), text: text.into_bytes() }]);
    let desired = loaded.desired.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    Arc::new(Generation::new(Arc::new(desired), format!("edition {edition}")))
}

/// What the disk of a node keeps.
#[derive(Debug, Clone, Default)]
struct Disk {
    sets: Option<Sets>,
    damped: BTreeMap<PoolName, Instant>,
}

/// Engines on a LAN that loses nothing, on one clock.
pub struct Lan {
    now: Instant,
    engines: Vec<Engine>,
    /// Killed, and not started again.
    down: BTreeSet<usize>,
    /// What the first says does not reach the second.
    cuts: BTreeSet<(usize, usize)>,
    disks: Vec<Disk>,
    coming: BTreeMap<(Instant, u64), (usize, Event)>,
    order: u64,
    /// Who holds what.
    pub held: Vec<BTreeSet<Vip>>,
    /// The longest that any VIP was held by nobody since all were.
    pub gap: Duration,
    whole_at: Option<Instant>,
}

/// Its one interface.
fn eth0(usable: bool) -> Event {
    let eth0 = LocalInterface {
        usable,
        mac: [2, 0, 0, 0, 0, 1],
        subnets: ["10.99.0.0/16".parse().unwrap()].into(),
        ..LocalInterface::default()
    };
    Event::Interfaces([(InterfaceName::new("eth0").unwrap(), eth0)].into())
}

/// A life that begins now, on what the disk keeps.
fn born(node: usize, disk: &Disk, at: Instant) -> Engine {
    let me = NodeName::new(NAMES[node]).unwrap();
    let epoch = 1_700_000_000_000 + at.as_micros() / 1_000;
    let birth = Birth { me, epoch, disk: disk.sets.clone(), at, without: Vec::new() };
    Engine::new(birth, Timing::default())
}

impl Lan {
    /// Nodes that know their interface and nothing else.
    pub fn new() -> Self {
        let now = Instant::from_micros(1_000_000);
        let disks = vec![Disk::default(); NAMES.len()];
        let engines = disks.iter().enumerate().map(|(node, disk)| born(node, disk, now)).collect();
        let mut lan = Self {
            now,
            engines,
            down: BTreeSet::new(),
            cuts: BTreeSet::new(),
            disks,
            coming: BTreeMap::new(),
            order: 0,
            held: vec![BTreeSet::new(); NAMES.len()],
            gap: Duration::ZERO,
            whole_at: None,
        };
        (0..NAMES.len()).for_each(|node| lan.interface(node, true));
        lan
    }

    /// Nodes that serve this, each its share.
    pub fn serving(generation: &Arc<Generation>) -> Self {
        let mut lan = Self::new();
        (0..NAMES.len()).for_each(|node| lan.step(node, Event::MayForm(generation.names(), Forming::All)));
        (0..NAMES.len()).for_each(|node| lan.step(node, Event::Loaded(generation.clone())));
        lan.run(Duration::from_secs(20));
        assert!(lan.held.iter().all(|held| !held.is_empty()), "{:?}", lan.held);
        assert_eq!(lan.served(), VIPS);
        lan.gap = Duration::ZERO;
        lan
    }

    /// How many VIPs somebody holds.
    pub fn served(&self) -> usize {
        self.held.iter().map(BTreeSet::len).sum()
    }

    /// The node's interface comes or goes.
    pub fn interface(&mut self, node: usize, usable: bool) {
        self.step(node, eth0(usable));
    }

    /// The host loses power.
    pub fn kill(&mut self, node: usize) {
        self.down.insert(node);
        self.held[node].clear();
    }

    /// The host comes back, and runs this again.
    pub fn boot(&mut self, node: usize, generation: &Arc<Generation>) {
        self.down.remove(&node);
        self.engines[node] = born(node, &self.disks[node], self.now);
        self.step(node, Event::Damped(self.disks[node].damped.clone()));
        self.interface(node, true);
        self.step(node, Event::Loaded(generation.clone()));
    }

    /// What the first says does not reach the second any more.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    /// It does again.
    pub fn mend(&mut self, from: usize, to: usize) {
        self.cuts.remove(&(from, to));
    }

    /// What a node knows.
    pub fn report(&self, node: usize) -> Report {
        self.engines[node].report(self.now)
    }

    /// The number of the view that a node accepted.
    pub fn view(&self, node: usize) -> u64 {
        self.engines[node].protocol().accepted().map_or(0, |view| view.id().number)
    }

    /// The disk of a node that is down says this.
    pub fn remembers(&mut self, node: usize, sets: Sets) {
        self.disks[node].sets = Some(sets);
    }

    /// Something befalls a node.
    pub fn step(&mut self, node: usize, event: Event) {
        if self.down.contains(&node) {
            return;
        }
        for action in self.engines[node].step(self.now, event) {
            match action {
                Action::Send(datagram) => {
                    let to = NAMES.iter().position(|name| *name == datagram.to.as_str()).unwrap();
                    if self.cuts.contains(&(node, to)) {
                        continue;
                    }
                    let from = NodeName::new(NAMES[node]).unwrap();
                    let (epoch, counter) = (datagram.epoch, datagram.counter);
                    let heartbeat = Arc::new(datagram.heartbeat);
                    let event = Event::Heartbeat { from, epoch, counter, heartbeat };
                    self.order += 1;
                    self.coming.insert((self.now + Duration::from_micros(100), self.order), (to, event));
                }
                Action::Start(started) => {
                    let vips: Vec<Vip> = started.iter().map(|one| one.vip).collect();
                    for vip in &vips {
                        assert!(self.held.iter().all(|held| !held.contains(vip)), "two hold {vip} at {:?}", self.now);
                    }
                    self.held[node].extend(vips.iter().copied());
                    self.order += 1;
                    self.coming.insert((self.now, self.order), (node, Event::Attached(vips)));
                }
                Action::Stop(stopped) => stopped.iter().for_each(|one| {
                    self.held[node].remove(&one.vip);
                }),
                Action::Persist(sets) => self.disks[node].sets = Some(sets),
                Action::Damped(damped) => self.disks[node].damped = damped,
                _ => {}
            }
        }
        if self.served() == VIPS {
            self.gap = self.gap.max(self.whole_at.map_or(Duration::ZERO, |at| self.now.since(at)));
            self.whole_at = Some(self.now);
        }
    }

    /// Time passes.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let up = self.engines.iter().enumerate().filter(|(node, _)| !self.down.contains(node));
            let tick = up.map(|(node, it)| (it.next_deadline(), node)).min().unwrap_or((Instant::NEVER, 0));
            let came = self.coming.keys().next().copied().filter(|(at, _)| *at <= tick.0);
            let at = came.map_or(tick.0, |(at, _)| at);
            if at > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(at);
            let (node, event) = came.and_then(|key| self.coming.remove(&key)).unwrap_or_else(|| (tick.1, Event::Tick));
            self.step(node, event);
        }
    }

    /// The revision that a node runs.
    pub fn runs(&self, node: usize) -> &str {
        self.engines[node].in_force().map_or("nothing", |generation| &generation.revision)
    }
}
