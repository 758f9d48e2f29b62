//! Every rule kept, under every kind of fault, uniform and aimed at view changes.

use std::time::Duration;

use rendezvip::sim::{Faults, Options, run};

fn minutes(nodes: usize, seed: u64, minutes: u64) -> Options {
    Options { nodes, seed, span: Duration::from_secs(minutes * 60), ..Options::default() }
}

fn is_clean(options: &Options) {
    let report = run(options);
    assert!(
        report.is_clean(),
        "{} violations, {} unanswered; replay: rendezvip simulate --nodes {} --hours 1 --seed {:#x}",
        report.violations.len(),
        report.unanswered.len(),
        options.nodes,
        options.seed
    );
}

#[test]
fn three_nodes_never_answer_for_one_vip_at_once_and_answer_for_each_after_healing() {
    for seed in 1..=3 {
        is_clean(&minutes(3, seed, 3));
    }
}

#[test]
fn five_nodes_never_answer_for_one_vip_at_once_and_answer_for_each_after_healing() {
    is_clean(&minutes(5, 11, 3));
}

#[test]
fn a_planned_leave_loses_nothing_and_a_crash_is_taken_over_within_two_heartbeats() {
    let leaves = run(&Options { faults: Faults::Leaves, loss: Some(0), ..minutes(3, 7, 3) });
    assert!(leaves.is_clean() && leaves.false_takeovers == 0);
    let crashes = run(&Options { faults: Faults::Crashes, loss: Some(0), ..minutes(3, 7, 5) });
    assert!(crashes.is_clean() && crashes.takeovers > 0 && crashes.false_takeovers == 0);
    let outage = crashes.outage();
    assert!(outage.max <= 200, "{outage:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let options = minutes(3, 0x9f3c21, 1);
    assert_eq!(run(&options).trace, run(&options).trace);
}
