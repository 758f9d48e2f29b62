//! Pools of `partition: available`: who has no view serves them by whom it hears; strict pools never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rendezvip::engine::Engine;
use rendezvip::engine::action::Action;
use rendezvip::engine::event::{Event, LocalInterface};
use rendezvip::engine::generation::Generation;
use rendezvip::manifest::{SourceFile, load};
use rendezvip::membership::protocol::{Birth, Forming};
use rendezvip::membership::timing::Timing;
use rendezvip::membership::view::Sets;
use rendezvip::name::{InterfaceName, NodeName};
use rendezvip::status::wall::Wall;
use rendezvip::time::Instant;
use rendezvip::vip::Vip;

/// Two pools of four, `web` strict and `relay` available, on nodes of these weights: a, b, c, …
fn generation(weights: &[u8]) -> Arc<Generation> {
    let mut text = "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\n".to_owned();
    for (at, weight) in weights.iter().enumerate() {
        text += &format!(
            "---\napiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: {}}}\nspec: {{address: \"10.99.0.{}:7847\", weight: {weight}}}\n",
            name(at),
            at + 10
        );
    }
    for (pool, net, partition) in [("web", 1, "strict"), ("relay", 2, "available")] {
        text += &format!(
            "---\napiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: {pool}}}\n\
             spec: {{addresses: [10.99.{net}.1-10.99.{net}.4], partition: {partition}}}\n"
        );
    }
    let loaded = load(&[SourceFile { path: "all.yaml".to_owned(), text: text.into_bytes() }]);
    let desired = loaded.desired.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    Arc::new(Generation::new(Arc::new(desired), "main@sha1:0".to_owned()))
}

fn name(node: usize) -> NodeName {
    NodeName::new(["a", "b", "c", "d"][node]).unwrap()
}

fn is_strict(vip: &Vip) -> bool {
    vip.to_string().starts_with("10.99.1.")
}

/// What a node's kernel would let pass.
#[derive(Default, Clone)]
struct Kernel {
    held: BTreeSet<Vip>,
    loose: Arc<BTreeSet<Vip>>,
    lease: Option<Instant>,
    alone: Option<Instant>,
}

impl Kernel {
    fn answers(&self, now: Instant) -> BTreeSet<Vip> {
        let lasts = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let held = self.held.iter().copied();
        held.filter(|vip| lasts(self.lease) || lasts(self.alone) && self.loose.contains(vip)).collect()
    }
}

/// Engines on one clock and a LAN that loses what is cut.
struct Lan {
    now: Instant,
    generation: Arc<Generation>,
    engines: Vec<Option<Engine>>,
    disks: Vec<Option<Sets>>,
    kernels: Vec<Kernel>,
    cuts: BTreeSet<(usize, usize)>,
    coming: BTreeMap<(Instant, u64), (usize, Event)>,
    order: u64,
    epoch: u64,
    /// The longest that one of the VIPs of the available pool was answered for by nobody, since it was asked last.
    gap: Duration,
    answered_at: BTreeMap<Vip, Instant>,
}

impl Lan {
    fn new(weights: &[u8]) -> Self {
        let nodes = weights.len();
        Self {
            now: Instant::from_micros(1_000_000),
            generation: generation(weights),
            engines: (0..nodes).map(|_| None).collect(),
            disks: vec![None; nodes],
            kernels: vec![Kernel::default(); nodes],
            cuts: BTreeSet::new(),
            coming: BTreeMap::new(),
            order: 0,
            epoch: 1_700_000_000_000,
            gap: Duration::ZERO,
            answered_at: BTreeMap::new(),
        }
    }

    /// A cluster that has formed and settled.
    fn settled(weights: &[u8]) -> Self {
        let mut lan = Self::new(weights);
        (0..weights.len()).for_each(|node| lan.boot(node, Some(Forming::All)));
        lan.run(Duration::from_secs(20));
        assert_eq!(lan.owned(), (4, 4), "settled");
        lan
    }

    fn boot(&mut self, node: usize, forming: Option<Forming>) {
        self.epoch += 1;
        let (me, disk) = (name(node), self.disks[node].clone());
        let birth = Birth { me, epoch: self.epoch, disk, at: self.now, without: Vec::new() };
        self.engines[node] = Some(Engine::new(birth, Timing::default()));
        let eth0 = LocalInterface {
            usable: true,
            mac: [2, 0, 0, 0, 0, node as u8],
            subnets: ["10.99.0.0/16".parse().unwrap()].into(),
            ..LocalInterface::default()
        };
        self.step(node, Event::Interfaces([(InterfaceName::new("eth0").unwrap(), eth0)].into()));
        if let Some(forming) = forming {
            self.step(node, Event::MayForm(self.generation.names(), forming));
        }
        self.step(node, Event::Loaded(self.generation.clone()));
    }

    fn kill(&mut self, node: usize) {
        self.engines[node] = None;
        self.kernels[node] = Kernel::default();
    }

    /// Stops the daemon; the kernel goes on by itself.
    fn hang(&mut self, node: usize) {
        self.engines[node] = None;
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    fn split(&mut self, one: &[usize], other: &[usize]) {
        for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
            self.cut(a, b);
            self.cut(b, a);
        }
    }

    fn step(&mut self, node: usize, event: Event) {
        let Some(engine) = &mut self.engines[node] else { return };
        for action in engine.step(self.now, event) {
            let kernel = &mut self.kernels[node];
            match action {
                Action::Send(datagram) => {
                    let to = (0..self.engines.len()).find(|at| name(*at) == datagram.to).unwrap();
                    let (epoch, counter) = (datagram.epoch, datagram.counter);
                    let event =
                        Event::Heartbeat { from: name(node), epoch, counter, heartbeat: Arc::new(datagram.heartbeat) };
                    if !self.cuts.contains(&(node, to)) {
                        self.order += 1;
                        self.coming.insert((self.now + Duration::from_micros(100), self.order), (to, event));
                    }
                }
                Action::Start(started) => {
                    let vips: Vec<Vip> = started.iter().map(|one| one.vip).collect();
                    kernel.held.extend(vips.iter().copied());
                    self.order += 1;
                    self.coming.insert((self.now, self.order), (node, Event::Attached(vips)));
                }
                Action::Stop(stopped) => stopped.iter().for_each(|one| {
                    kernel.held.remove(&one.vip);
                }),
                Action::Lease(until) => kernel.lease = until,
                Action::Alone(until) => kernel.alone = until,
                Action::MayBeAlone(vips) => kernel.loose = vips,
                Action::Persist(sets) => self.disks[node] = Some(sets),
                _ => {}
            }
        }
        self.look();
    }

    /// Strict pools have one owner at the most, whatever happens.
    fn look(&mut self) {
        let mut strict = BTreeSet::new();
        let mut available = BTreeSet::new();
        for kernel in &self.kernels {
            for vip in kernel.answers(self.now) {
                if is_strict(&vip) {
                    assert!(strict.insert(vip), "two answer for {vip} at {:?}", self.now);
                } else {
                    available.insert(vip);
                }
            }
        }
        for vip in available {
            if let Some(last) = self.answered_at.insert(vip, self.now) {
                self.gap = self.gap.max(self.now.since(last));
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let living = self.engines.iter().enumerate();
            let tick = living.filter_map(|(node, it)| Some((it.as_ref()?.next_deadline(), node))).min();
            let tick = tick.unwrap_or((Instant::NEVER, 0));
            let came = self.coming.keys().next().copied().filter(|(at, _)| *at <= tick.0);
            let at = came.map_or(tick.0, |(at, _)| at);
            if at > end {
                self.now = end;
                self.look();
                return;
            }
            self.now = self.now.max(at);
            let (node, event) = came.and_then(|key| self.coming.remove(&key)).unwrap_or_else(|| (tick.1, Event::Tick));
            self.step(node, event);
        }
    }

    fn millis(&mut self, millis: u64) {
        self.run(Duration::from_millis(millis));
    }

    /// How many answers there are for VIPs of the strict pool, and of the available one, over all nodes.
    fn owned(&self) -> (usize, usize) {
        let all: Vec<Vip> = (0..self.kernels.len()).flat_map(|node| self.answers(node)).collect();
        (all.iter().filter(|vip| is_strict(vip)).count(), all.iter().filter(|vip| !is_strict(vip)).count())
    }

    fn answers(&self, node: usize) -> BTreeSet<Vip> {
        self.kernels[node].answers(self.now)
    }
}

#[test]
fn of_two_nodes_the_one_that_lives_serves_what_is_available_and_nothing_strict() {
    let mut lan = Lan::settled(&[1, 1]);
    let own: BTreeSet<Vip> = lan.answers(0).into_iter().filter(|vip| !is_strict(vip)).collect();
    assert!(!own.is_empty() && own.len() < 4, "{own:?}");
    lan.kill(1);
    // What it had of these it goes on with.
    for _ in 0..400 {
        lan.millis(1);
        assert!(lan.answers(0).is_superset(&own), "{:?} at {:?}", lan.answers(0), lan.now);
    }
    lan.millis(200);
    assert_eq!(lan.owned(), (0, 4));

    // The other one comes back: nothing is interrupted, and each is one's again.
    lan.millis(60_000);
    lan.gap = Duration::ZERO;
    lan.boot(1, None);
    lan.millis(5_000);
    assert_eq!(lan.owned(), (4, 4));
    lan.millis(20_000);
    assert_eq!(lan.owned(), (4, 4));
    assert!(!lan.answers(1).is_empty(), "it has its share again");
    assert!(lan.gap < Duration::from_millis(110), "{:?}", lan.gap);
}

#[test]
fn of_two_nodes_one_that_is_stopped_as_planned_interrupts_nothing_that_is_available() {
    let mut lan = Lan::settled(&[1, 1]);
    lan.gap = Duration::ZERO;
    lan.step(1, Event::Leave);
    lan.millis(50);
    assert_eq!(lan.answers(1).len(), 0, "it gave all away");
    lan.kill(1);
    lan.millis(5_000);
    assert_eq!((lan.owned(), lan.gap < Duration::from_millis(110)), ((0, 4), true), "{:?}", lan.gap);
}

#[test]
fn two_halves_serve_both_and_when_they_meet_each_vip_is_one_nodes_at_once() {
    let mut lan = Lan::settled(&[1, 1]);
    lan.split(&[0], &[1]);
    lan.millis(1_000);
    assert_eq!(lan.owned(), (0, 8), "both serve all of the available pool");
    lan.gap = Duration::ZERO;
    lan.cuts.clear();
    lan.millis(250);
    assert_eq!(lan.owned().1, 4, "who hear one another share by placement, view or not");
    lan.millis(3_000);
    assert_eq!(lan.owned(), (4, 4));
    assert!(lan.gap < Duration::from_millis(150), "{:?}", lan.gap);
}

#[test]
fn a_short_cut_makes_nobody_take_anything() {
    let mut lan = Lan::settled(&[1, 1]);
    lan.split(&[0], &[1]);
    for _ in 0..300 {
        lan.millis(1);
        assert!(lan.owned().1 <= 4, "{:?}", lan.owned());
    }
    lan.cuts.clear();
    lan.millis(5_000);
    assert_eq!(lan.owned(), (4, 4));
}

#[test]
fn halves_of_four_share_what_is_available_within_each() {
    let mut lan = Lan::settled(&[1, 1, 1, 1]);
    lan.split(&[0, 1], &[2, 3]);
    lan.millis(1_500);
    assert_eq!(lan.owned(), (0, 8));
    assert!((0..4).all(|node| lan.answers(node).len() < 4), "nobody has all");
    lan.cuts.clear();
    lan.millis(5_000);
    assert_eq!(lan.owned(), (4, 4));
}

#[test]
fn a_deaf_node_yields_at_once_when_it_hears_somebody_who_has_a_view() {
    let mut lan = Lan::settled(&[1, 1, 1]);
    lan.cut(1, 0);
    lan.cut(2, 0);
    lan.millis(300);
    assert_eq!(lan.owned(), (4, 4), "for D and a heartbeat it serves nothing");
    lan.millis(600);
    assert_eq!(lan.owned(), (4, 8), "two owners, as in VRRP");
    lan.cuts.clear();
    lan.millis(101);
    assert_eq!(lan.owned(), (4, 4), "one heartbeat is enough");
    lan.millis(30_000);
    assert_eq!(lan.owned(), (4, 4));
    assert!(!lan.answers(0).is_empty(), "it has its share again");
}

#[test]
fn one_that_booted_just_now_and_found_a_view_waits_no_longer_than_any() {
    let mut lan = Lan::settled(&[1, 1]);
    lan.kill(0);
    lan.millis(5_000);
    lan.boot(0, None);
    lan.millis(1_000);
    lan.kill(1);
    lan.millis(600);
    assert_eq!(lan.owned(), (0, 4));
}

#[test]
fn one_by_one_they_die_and_the_last_serves() {
    let mut lan = Lan::settled(&[1, 1, 1]);
    lan.kill(0);
    lan.millis(5_000);
    assert_eq!(lan.owned(), (4, 4));
    lan.kill(2);
    lan.millis(700);
    assert_eq!(lan.owned(), (0, 4));
}

#[test]
fn after_a_restart_with_a_majority_dead_the_living_wait_first_and_serve_then() {
    let mut lan = Lan::settled(&[1, 1, 1]);
    (0..3).for_each(|node| lan.kill(node));
    lan.boot(2, None);
    lan.millis(2_200);
    assert_eq!(lan.owned(), (0, 0), "as long as a majority would take for its first view");
    lan.millis(200);
    assert_eq!(lan.owned(), (0, 4));
    // Once another one is there they are a majority.
    lan.boot(0, None);
    lan.millis(5_000);
    assert_eq!(lan.owned(), (4, 4));
}

#[test]
fn a_cluster_that_never_was_waits_ten_seconds_and_never_where_others_may_be_at_work() {
    let mut lan = Lan::new(&[1, 1]);
    lan.boot(0, Some(Forming::All));
    lan.millis(10_000);
    assert_eq!(lan.owned(), (0, 0));
    lan.millis(1_000);
    assert_eq!(lan.owned(), (0, 4));
    for forming in [None, Some(Forming::ByHand)] {
        let mut lan = Lan::new(&[1, 1]);
        lan.boot(0, forming);
        lan.millis(60_000);
        assert_eq!(lan.owned(), (0, 0), "{forming:?}");
    }
}

#[test]
fn a_witness_and_a_drained_node_serve_nothing_alone() {
    let mut lan = Lan::settled(&[1, 1, 0]);
    lan.split(&[0], &[1, 2]);
    lan.split(&[1], &[2]);
    lan.millis(2_000);
    assert_eq!((lan.answers(2).len(), lan.owned()), (0, (0, 8)));
    lan.step(0, Event::Drain);
    lan.millis(1);
    assert_eq!(lan.owned(), (0, 4), "a drained one stops at once");
    lan.step(0, Event::Resume);
    lan.millis(100);
    assert_eq!(lan.owned(), (0, 8));
}

#[test]
fn a_failing_check_or_a_dead_link_ends_what_is_served_alone() {
    let mut lan = Lan::settled(&[1, 1]);
    lan.kill(1);
    lan.millis(1_000);
    assert_eq!(lan.owned(), (0, 4));
    let down = LocalInterface { mac: [2, 0, 0, 0, 0, 0], ..LocalInterface::default() };
    lan.step(0, Event::Interfaces([(InterfaceName::new("eth0").unwrap(), down)].into()));
    lan.millis(150);
    assert_eq!(lan.owned(), (0, 0));
}

#[test]
fn a_daemon_that_hangs_while_it_serves_alone_is_silenced_by_its_kernel() {
    let mut lan = Lan::settled(&[1, 1]);
    lan.kill(1);
    lan.millis(5_000);
    assert_eq!(lan.owned(), (0, 4));
    lan.hang(0);
    lan.millis(166);
    assert_eq!(lan.owned(), (0, 0));
}

#[test]
fn what_is_served_alone_says_so() {
    let mut lan = Lan::settled(&[1, 1]);
    lan.kill(1);
    lan.millis(5_000);
    let report = lan.engines[0].as_ref().unwrap().report(lan.now);
    let snapshot = report.snapshot(Wall::default(), Vec::new());
    let told: Vec<String> = snapshot
        .vips
        .iter()
        .map(|it| {
            let actual = it.actual.as_ref().map_or("nobody", NodeName::as_str);
            let note = it.note.as_ref().map_or("", |note| &note.reason);
            format!("{} {} {actual} {note}", it.vip, it.state).trim_end().to_owned()
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @"
    10.99.2.1 held a ServedAlone
    10.99.2.2 held a ServedAlone
    10.99.2.3 held a ServedAlone
    10.99.2.4 held a ServedAlone
    10.99.1.1 moving nobody
    10.99.1.2 held b
    10.99.1.3 moving nobody
    10.99.1.4 held b
    ");
    let ranking = report.ranking("10.99.2.1".parse().unwrap());
    let ranking: Vec<String> = ranking.iter().map(|it| format!("{} {} {}", it.node, it.eligible, it.reason)).collect();
    insta::assert_snapshot!(ranking.join("\n"), @"
    a true first by rank; spare: only while nobody else offers the pool
    b false not a member of the view
    ");
}
