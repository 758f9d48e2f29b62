//! What a commit's message promises.

use super::super::samples::*;
use super::*;
use crate::status::snapshot::Note;

fn first() -> Files {
    files::render(&snapshot(), &Files::new())
}

#[test]
fn a_death_is_told_with_its_cause() {
    insta::assert_snapshot!(message(&first(), &after_a_death()), @"
    edge-c took 10.99.0.100 and 1 more from edge-a: edge-a is dead [skip ci]

    Rendezvip-Scribe: edge-b
    Rendezvip-Revision: main@sha1:0101010101010101010101010101010101010101
    ");
}

#[test]
fn the_first_report_says_what_is_held() {
    insta::assert_snapshot!(message(&Files::new(), &snapshot()).lines().next().unwrap(), @"First report: 4 of 4 VIPs held by 3 nodes; main@sha1:010101010101 runs [skip ci]");
}

#[test]
fn a_revision_and_several_moves_are_listed() {
    let mut next = after_a_death();
    next.revision = Some(revision(2));
    next.vips[1].actual = None;
    next.vips[3].actual = node("edge-b");
    insta::assert_snapshot!(message(&first(), &next), @"
    main@sha1:020202020202 runs [skip ci]

    - main@sha1:020202020202 runs
    - edge-c took 10.99.0.100 and 1 more from edge-a: edge-a is dead
    - edge-b lost 10.99.0.101
    - edge-b took fd99::1 from edge-c

    Rendezvip-Scribe: edge-b
    Rendezvip-Revision: main@sha1:0202020202020202020202020202020202020202
    ");
}

#[test]
fn what_is_not_a_move_has_a_subject_too() {
    let subject = |snapshot: &Snapshot| message(&first(), snapshot).lines().next().unwrap().to_owned();
    let mut next = snapshot();
    next.vips[0].note = Some(Note::new("ForeignClaim", "claimed by 02:00:00:00:00:66"));
    assert_eq!(subject(&next), "10.99.0.100: claimed by 02:00:00:00:00:66 [skip ci]");
    let mut next = snapshot();
    next.vips.truncate(3);
    assert_eq!(subject(&next), "fd99::1 left git [skip ci]");
    let mut next = snapshot();
    next.members[2].state = MemberState::Suspect;
    assert_eq!(subject(&next), "edge-c is silent [skip ci]");
    assert_eq!(subject(&snapshot()), "Conditions changed [skip ci]");
}

#[test]
fn the_cluster_knows_its_own_commits() {
    let text = message(&first(), &after_a_death());
    assert_eq!((scribe_of(&text), revision_of(&text)), (node("edge-b"), Some(revision(1))));
    assert_eq!((scribe_of("Fix a typo"), revision_of("Rendezvip-Revision: rubbish")), (None, None));
}
