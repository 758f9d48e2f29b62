//! A rule taken out must be noticed: within some seeds two nodes answer for one VIP.

use std::time::Duration;

use rendezvip::membership::rule::Rule;
use rendezvip::sim::{Options, run};

/// The first of these seeds under which a cluster without the rule has two owners within so many seconds.
fn caught(rule: Rule, seconds: u64, seeds: std::ops::RangeInclusive<u64>) -> Option<u64> {
    seeds.into_iter().find(|seed| {
        let options = Options {
            seed: *seed,
            span: Duration::from_secs(seconds),
            without: Some(rule),
            stop_at_violation: true,
            ..Options::default()
        };
        !run(&options).violations.is_empty()
    })
}

#[test]
fn a_silence_shorter_than_the_lease_is_noticed() {
    assert!(caught(Rule::SilenceOutlastsLease, 600, 1..=20).is_some());
}

#[test]
fn a_start_that_assumes_what_it_was_not_handed_is_noticed() {
    assert!(caught(Rule::HandedNeverAssumed, 600, 1..=20).is_some());
}

#[test]
fn a_node_that_forgets_its_sets_in_a_crash_is_noticed() {
    assert!(caught(Rule::PhaseOnDisk, 600, 1..=20).is_some());
}
