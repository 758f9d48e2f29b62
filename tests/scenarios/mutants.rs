//! A rule taken out must be noticed: under the attack that is its counter-example two nodes answer for one VIP.
//!
//! The same attacks under all rules: nobody ever does (`weather`). Two rules stand in for each other: no wait after
//! boot is harmless as long as nobody is named who was not heard steadily, and the other way round, so they are
//! taken out together. That old evidence does not count has no attack: who is cut off long enough for evidence to be
//! old has lost its lease before it could use it (docs/protocol.md).

use std::time::Duration;

use rendezvip::membership::rule::Rule;
use rendezvip::sim::{Attack, Faults, Options, run};

/// What the rules are taken out for: an attack again and again, or weather.
fn options(without: &[Rule], nodes: usize, faults: Faults, seed: u64) -> Options {
    Options {
        nodes,
        vips: 12,
        seed,
        span: Duration::from_secs(600),
        faults,
        without: without.to_vec(),
        stop_at_violation: true,
        ..Options::default()
    }
}

/// Noticed within some seeds of ten minutes each?
fn is_noticed(without: &[Rule], nodes: usize, faults: Faults) {
    let found = (1..=20).find(|seed| !run(&options(without, nodes, faults, *seed)).violations.is_empty());
    assert!(found.is_some(), "without {without:?} nobody noticed anything under {faults:?}");
}

fn attack_shows(attack: Attack, without: &[Rule], nodes: usize) {
    is_noticed(without, nodes, Faults::Attacks(Some(attack)));
}

#[test]
fn a_silence_shorter_than_the_lease_is_noticed() {
    is_noticed(&[Rule::SilenceOutlastsLease], 3, Faults::All);
}

#[test]
fn a_start_that_assumes_what_it_was_not_handed_is_noticed() {
    is_noticed(&[Rule::HandedNeverAssumed], 3, Faults::All);
}

#[test]
fn a_node_that_forgets_its_sets_in_a_crash_is_noticed() {
    attack_shows(Attack::LeftBehind, &[Rule::PhaseOnDisk], 3);
}

#[test]
fn a_lease_that_is_revived_by_a_late_ack_is_noticed() {
    attack_shows(Attack::DeafReturn, &[Rule::LapseIsFinal], 3);
}

#[test]
fn a_fast_start_by_nodes_that_came_another_way_is_noticed() {
    attack_shows(Attack::SkippedView, &[Rule::StraightAfter], 3);
}

#[test]
fn a_goodbye_of_a_node_that_still_answers_is_noticed() {
    attack_shows(Attack::PlannedStop, &[Rule::GoodbyeHoldsNothing], 3);
}

#[test]
fn a_view_that_leaves_out_somebody_who_is_heard_is_noticed() {
    attack_shows(Attack::HeardAgain, &[Rule::LeftOutAreGone], 3);
}

#[test]
fn an_ack_for_somebody_whom_the_view_left_out_is_noticed() {
    attack_shows(Attack::AckedFromOutside, &[Rule::AckMembersOnly], 3);
}

#[test]
fn an_ack_sooner_than_a_silence_after_the_view_is_noticed() {
    attack_shows(Attack::TakenBackAtOnce, &[Rule::AckAfterSilence], 5);
}

#[test]
fn other_sets_for_a_phase_on_disk_are_noticed() {
    attack_shows(Attack::TwoChanges, &[Rule::OneSetsPerPhase], 3);
}

#[test]
fn a_majority_of_the_old_set_alone_is_noticed_while_the_set_changes() {
    attack_shows(Attack::Outgrown, &[Rule::BothMajorities], 7);
}

#[test]
fn a_lease_that_goes_on_by_the_old_set_is_noticed() {
    attack_shows(Attack::LeaseOfTheOldSet, &[Rule::LeaseFollowsSets], 7);
}

#[test]
fn no_quarantine_after_boot_is_noticed() {
    attack_shows(Attack::QuickRestart, &[Rule::WaitAfterBoot, Rule::NamedWhenSteady], 3);
}

#[test]
fn no_attack_succeeds_while_all_rules_are_kept() {
    for attack in Attack::ALL {
        let nodes = attack.nodes();
        let report = run(&options(&[], nodes, Faults::Attacks(Some(attack)), 1));
        assert!(report.violations.is_empty(), "{attack:?}: {:?}", report.violations);
        assert!(report.unanswered.is_empty(), "{attack:?}: {:?}", report.unanswered);
    }
}
