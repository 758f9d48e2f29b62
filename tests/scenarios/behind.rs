//! One node cannot fetch: the others wait a minute for it, and no longer.

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
use rendezvip::name::{InterfaceName, NodeName};
use rendezvip::time::Instant;
use rendezvip::vip::Vip;

const NAMES: [&str; 3] = ["edge-a", "edge-b", "edge-c"];
const VIPS: usize = 9;

fn generation(edition: u32) -> Arc<Generation> {
    let mut text = "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\n".to_owned();
    for (at, name) in NAMES.iter().enumerate() {
        text += &format!(
            "---\napiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: {name}, labels: {{edition: e{edition}}}}}\n\
             spec: {{address: \"10.99.0.{}:7847\"}}\n",
            at + 10
        );
    }
    text += "---\napiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec: {addresses: [10.99.1.1-10.99.1.9]}\n";
    let loaded = load(&[SourceFile { path: "all.yaml".to_owned(), text: text.into_bytes() }]);
    let desired = loaded.desired.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
    Arc::new(Generation::new(Arc::new(desired), format!("edition {edition}")))
}

/// Engines on a LAN that loses nothing, on one clock.
struct Lan {
    now: Instant,
    engines: Vec<Engine>,
    coming: BTreeMap<(Instant, u64), (usize, Event)>,
    order: u64,
    held: Vec<BTreeSet<Vip>>,
    /// The longest that any VIP was held by nobody since all were.
    gap: Duration,
    whole_at: Option<Instant>,
}

impl Lan {
    fn new() -> Self {
        let now = Instant::from_micros(1_000_000);
        let birth = |name: &&str| Birth {
            me: NodeName::new(name).unwrap(),
            epoch: 1_700_000_000_000,
            disk: None,
            at: now,
            without: Vec::new(),
        };
        let engines = NAMES.iter().map(|name| Engine::new(birth(name), Timing::default())).collect();
        let held = vec![BTreeSet::new(); NAMES.len()];
        let mut lan =
            Self { now, engines, coming: BTreeMap::new(), order: 0, held, gap: Duration::ZERO, whole_at: None };
        let eth0 = LocalInterface {
            usable: true,
            mac: [2, 0, 0, 0, 0, 1],
            subnets: ["10.99.0.0/16".parse().unwrap()].into(),
            ..LocalInterface::default()
        };
        for node in 0..NAMES.len() {
            lan.step(node, Event::Interfaces([(InterfaceName::new("eth0").unwrap(), eth0.clone())].into()));
        }
        lan
    }

    fn step(&mut self, node: usize, event: Event) {
        for action in self.engines[node].step(self.now, event) {
            match action {
                Action::Send(datagram) => {
                    let to = NAMES.iter().position(|name| *name == datagram.to.as_str()).unwrap();
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
                _ => {}
            }
        }
        let held: usize = self.held.iter().map(BTreeSet::len).sum();
        if held == VIPS {
            self.gap = self.gap.max(self.whole_at.map_or(Duration::ZERO, |at| self.now.since(at)));
            self.whole_at = Some(self.now);
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let tick = self.engines.iter().enumerate().map(|(node, it)| (it.next_deadline(), node)).min().unwrap();
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

    fn runs(&self, node: usize) -> &str {
        self.engines[node].in_force().map_or("nothing", |generation| &generation.revision)
    }
}

#[test]
fn one_nodes_git_trouble_holds_up_the_others_for_a_minute_and_leaves_no_vip_ownerless() {
    let mut lan = Lan::new();
    let (first, second) = (generation(1), generation(2));
    (0..3).for_each(|node| lan.step(node, Event::MayForm(first.names(), Forming::All)));
    (0..3).for_each(|node| lan.step(node, Event::Loaded(first.clone())));
    lan.run(Duration::from_secs(20));
    assert!(lan.held.iter().all(|held| !held.is_empty()), "{:?}", lan.held);

    lan.gap = Duration::ZERO;
    (0..2).for_each(|node| lan.step(node, Event::Loaded(second.clone())));
    lan.run(Duration::from_secs(55));
    assert_eq!([0, 1, 2].map(|node| lan.runs(node)), ["edition 1"; 3], "they wait");
    lan.run(Duration::from_secs(10));
    assert_eq!([0, 1].map(|node| lan.runs(node)), ["edition 2"; 2], "65 s are over");
    assert!(lan.held[2].is_empty(), "{:?}", lan.held);
    assert!(lan.gap < Duration::from_millis(250), "somebody had none for {:?}", lan.gap);
    assert_eq!(lan.held.iter().map(BTreeSet::len).sum::<usize>(), VIPS);

    // Two minutes later its git is well again.
    lan.run(Duration::from_secs(120));
    assert!(lan.held[2].is_empty());
    lan.step(2, Event::Loaded(second));
    lan.run(Duration::from_secs(30));
    assert_eq!(lan.runs(2), "edition 2");
    assert!(lan.held.iter().all(|held| !held.is_empty()), "{:?}", lan.held);
}

#[test]
fn a_node_that_is_behind_and_drained_by_hand_stays_drained_when_it_returns() {
    let mut lan = Lan::new();
    (0..3).for_each(|node| lan.step(node, Event::MayForm(generation(1).names(), Forming::All)));
    (0..3).for_each(|node| lan.step(node, Event::Loaded(generation(1))));
    lan.run(Duration::from_secs(20));
    lan.step(2, Event::Drain);
    (0..2).for_each(|node| lan.step(node, Event::Loaded(generation(2))));
    lan.run(Duration::from_secs(70));
    lan.step(2, Event::Loaded(generation(2)));
    lan.run(Duration::from_secs(30));
    assert_eq!((lan.runs(2), lan.held[2].len()), ("edition 2", 0));
}
