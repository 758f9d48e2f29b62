//! All that can befall three nodes, within bounds: does one node answer, whatever the order?
//!
//! The simulator (`scenarios`) draws; this tries everything. Each [`World`] says what may befall and how often. Any of it may
//! come before any tick, and links are mended and nodes come back at any time or never. There is no bound on time: a cluster
//! to which nothing more happens comes to rest, and at rest it is a state that was seen before, so the search ends by itself
//! when there is nothing new. Broken rules must be found, or the search would prove nothing.
//!
//! `RENDEZVIP_MODEL=deep cargo test --test model -- --nocapture` allows more faults, and takes its time.
//! Not here: many nodes, drift of clocks, changes of the declared nodes (`scenarios`).

mod cluster;
mod fingerprint;

use cluster::{Cluster, Fault, NODES, Pace, Step};
use rendezvip::membership::rule::Rule;
use stateright::{Checker, HasDiscoveries, Model, Property};

const ONE_ANSWERS: &str = "one node answers";
const NO_END: &str = "what they say to each other comes to an end";
const TAKEN_OVER: &str = "another node takes over";
const LEFT_OUT: &str = "the others go on without one";
const CAME_BACK: &str = "a node that restarted comes back";
const LAPSED: &str = "a lease lapses";
const HANDED_BACK: &str = "it comes back to the first";

/// What may befall a cluster at rest.
#[derive(Clone)]
struct World {
    pace: Pace,
    menu: Vec<Fault>,
    /// So many of it, together.
    most: u32,
    without: Vec<Rule>,
}

impl Model for World {
    type State = Cluster;
    type Action = Step;

    fn init_states(&self) -> Vec<Cluster> {
        vec![Cluster::at_rest(self.pace, &self.without)]
    }

    fn actions(&self, state: &Cluster, actions: &mut Vec<Step>) {
        if !state.broken {
            state.steps(self.most, &self.menu, actions);
        }
    }

    fn next_state(&self, state: &Cluster, step: Step) -> Option<Cluster> {
        Some(state.after(&self.menu, &self.without, step))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_ANSWERS, |_, state: &Cluster| !state.broken),
            Property::always(NO_END, |_, state: &Cluster| !state.endless),
            Property::sometimes(TAKEN_OVER, |_, state: &Cluster| (1..NODES).any(|node| state.answers(node))),
            Property::sometimes(LEFT_OUT, |_, state: &Cluster| state.goes_on_without(1, 0)),
            Property::sometimes(CAME_BACK, |_, state: &Cluster| (0..NODES).any(|node| state.came_back(node))),
            Property::sometimes(LAPSED, |_, state: &Cluster| (0..NODES).any(|node| state.lapsed(node))),
            Property::sometimes(HANDED_BACK, |_, state: &Cluster| state.lapsed(0) && state.answers(0)),
        ]
    }
}

/// L is 2 ticks, D is 3.
const QUICK: Pace = Pace { heartbeat: 1, lease: 2, silence: 3, late: 1, stall: 1, join: 3, settle: 2 };

/// A state that waits to be looked at takes some 8 KiB: with so many the search stays below 4 GiB.
const MOST_STATES: usize = 450_000;

fn is_deep() -> bool {
    std::env::var("RENDEZVIP_MODEL").is_ok_and(|it| it == "deep")
}

/// What may befall each node.
fn of_each(kinds: &[fn(usize) -> Fault]) -> Vec<Fault> {
    kinds.iter().flat_map(|kind| (0..NODES).map(kind)).collect()
}

/// What may befall each link, from one node to another.
fn of_each_link(kinds: &[fn(usize, usize) -> Fault]) -> Vec<Fault> {
    let links = || (0..NODES * NODES).map(|link| (link / NODES, link % NODES)).filter(|(from, to)| from != to);
    kinds.iter().flat_map(|kind| links().map(|(from, to)| kind(from, to))).collect()
}

/// Tries everything. Under all rules nothing breaks, and what is expected happens at all.
fn holds(what: &str, menu: Vec<Fault>, most: u32, happens: &[&'static str]) {
    let world = World { pace: QUICK, menu, most, without: Vec::new() };
    let checker =
        world.checker().finish_when(HasDiscoveries::AnyFailures).target_state_count(MOST_STATES).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let is_all = checker.state_count() < MOST_STATES;
    assert!(is_all || is_deep(), "{what}: more states than are searched");
    let all = if is_all { "all of them" } else { "not all, but all nearer to rest" };
    println!("{what}, {most} of them: {states} states, up to {depth} steps from rest; {all}");
    let found = checker.discoveries();
    for broken in [ONE_ANSWERS, NO_END] {
        if let Some(path) = found.get(broken) {
            let told: Vec<String> =
                path.clone().into_vec().into_iter().map(|(state, step)| format!("{state:?}\n  {step:?}")).collect();
            panic!("{what}: not so that {broken}:\n{}", told.join("\n"));
        }
    }
    for one in happens {
        assert!(found.contains_key(one), "{what}: it never happens that {one}");
    }
}

/// Without these rules two nodes answer at once, and the search finds it.
fn is_found(without: &[Rule], pace: Pace, menu: Vec<Fault>, most: u32) {
    let world = World { pace, menu, most, without: without.to_vec() };
    let checker = world.checker().finish_when(HasDiscoveries::AnyOf([ONE_ANSWERS].into())).spawn_bfs().join();
    let found = checker.discoveries();
    let path = found.get(ONE_ANSWERS).unwrap_or_else(|| panic!("without {without:?} nothing was found"));
    println!("without {without:?}: {:?}", path.clone().into_actions());
}

#[test]
fn one_node_answers_whoever_pauses_or_crashes_and_restarts() {
    let menu = of_each(&[Fault::Pause, Fault::Crash]);
    holds("pauses and crashes", menu, if is_deep() { 3 } else { 2 }, &[TAKEN_OVER, LEFT_OUT, CAME_BACK, LAPSED]);
}

#[test]
fn one_node_answers_whatever_is_lost_or_late_on_single_links() {
    let menu = of_each_link(&[Fault::Cut, Fault::Slow]);
    holds("losses and delays, each one way", menu, if is_deep() { 3 } else { 2 }, &[LEFT_OUT, LAPSED]);
}

#[test]
fn one_node_answers_whoever_is_cut_off_and_hears_or_is_heard_first() {
    let menu = of_each(&[Fault::Isolate, Fault::Mute, Fault::Deafen]);
    holds("cuts around a node", menu, if is_deep() { 2 } else { 1 }, &[TAKEN_OVER, LEFT_OUT, LAPSED, HANDED_BACK]);
}

#[test]
fn one_node_answers_whoever_drains_or_leaves() {
    let menu = of_each(&[Fault::Drain, Fault::Leave]);
    holds("drains and planned stops", menu, if is_deep() { 3 } else { 2 }, &[TAKEN_OVER, LEFT_OUT]);
}

#[test]
fn one_node_answers_whatever_two_different_things_befall() {
    let kinds: [fn(usize) -> Fault; 4] = [Fault::Isolate, Fault::Pause, Fault::Crash, Fault::Leave];
    holds(
        "all kinds",
        of_each(&kinds),
        if is_deep() { 2 } else { 1 },
        &[TAKEN_OVER, LEFT_OUT, CAME_BACK, LAPSED, HANDED_BACK],
    );
}

#[test]
fn a_silence_shorter_than_the_lease_is_found() {
    is_found(&[], Pace { lease: 3, silence: 2, ..QUICK }, of_each(&[Fault::Isolate]), 1);
}

#[test]
fn a_lease_that_is_revived_by_a_late_ack_is_found() {
    is_found(&[Rule::LapseIsFinal], QUICK, of_each(&[Fault::Isolate]), 1);
}

#[test]
fn a_start_that_assumes_what_it_was_not_handed_is_found() {
    is_found(&[Rule::HandedNeverAssumed], QUICK, of_each(&[Fault::Drain]), 1);
}

#[test]
fn a_goodbye_of_a_node_that_still_answers_is_found() {
    is_found(&[Rule::GoodbyeHoldsNothing], QUICK, of_each(&[Fault::Leave]), 1);
}

#[test]
fn no_quarantine_after_boot_is_found() {
    // A view and the offers in it take more than L of two ticks.
    let pace = Pace { lease: 3, silence: 4, ..QUICK };
    let menu = vec![Fault::Isolate(0), Fault::Crash(1), Fault::Crash(2)];
    is_found(&[Rule::WaitAfterBoot, Rule::NamedWhenSteady], pace, menu, 3);
}
