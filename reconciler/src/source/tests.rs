//! What a source promises, by scripted observations.

use std::collections::BTreeMap;

use super::*;
use crate::manifest::desired::{Cluster, Failover, PlacementMode, Profile};
use crate::name::ClusterName;

const POLL: Duration = Duration::from_secs(15);

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

fn commit(n: u8) -> Revision {
    Revision::git("main", CommitHash([n; 20]))
}

fn desired(content: &str) -> Arc<Desired> {
    let failover = Failover { heartbeat: Duration::from_millis(100), profile: Profile::Default };
    let name = ClusterName::new("lab").unwrap();
    let cluster = Cluster { name, placement: PlacementMode::Balanced, failover };
    let digest = Digest::of(content.as_bytes());
    Arc::new(Desired { cluster, nodes: BTreeMap::new(), pools: BTreeMap::new(), digest })
}

fn good(n: u8, content: &str) -> Seen {
    Seen::Revision { revision: commit(n), lineage: Lineage::NONE, parsed: Ok(desired(content)) }
}

fn rewritten(n: u8, accepted: bool) -> Seen {
    let lineage = Lineage { activated: false, accepted };
    Seen::Revision { revision: commit(n), lineage, parsed: Ok(desired("rewritten")) }
}

fn failed() -> Seen {
    Seen::Failed(Problem::new(Code::FetchFailed, "connection refused"))
}

/// A source that runs commit 1.
fn running() -> Source {
    let mut source = Source::new(Config::git(POLL), 7, None, at(0));
    let attempt = source.poll(at(0)).unwrap();
    assert!(source.observe(at(0), attempt.id, good(1, "one")).is_some());
    assert_eq!(source.activated(Digest::of(b"one")), Some(commit(1)));
    source
}

/// Looks once more and hands in what was seen.
fn look(source: &mut Source, seen: Seen) -> Option<Load> {
    let now = source.next_deadline();
    let attempt = source.poll(now).expect("due");
    source.observe(now, attempt.id, seen)
}

fn told(source: &Source) -> Vec<String> {
    let line = |c: &Condition| format!("{:?}={} {}: {}", c.kind, c.status, c.reason, c.message);
    source.conditions(Wall::default()).iter().map(line).collect()
}

#[test]
fn a_revision_is_loaded_once_and_named_as_what_runs_only_when_it_was_activated() {
    let mut source = running();
    let load = look(&mut source, good(2, "two")).unwrap();
    assert_eq!((load.revision, load.by_hand), (commit(2), false));
    assert_eq!(source.running(), Some(&commit(1)));
    assert_eq!(told(&source)[1].split(':').next(), Some("Reconciling=True Activating"));
    let attempt = source.poll(source.next_deadline()).unwrap();
    assert_eq!(attempt.known, commit(2).commit());
    assert_eq!(attempt.activated, commit(1).commit());
    assert_eq!(source.activated(Digest::of(b"two")), Some(commit(2)));
    assert_eq!(source.activated(Digest::of(b"two")), None, "said once");
    insta::assert_snapshot!(told(&source).join("\n"), @"
    Ready=True Running: main@sha1:0202020202020202020202020202020202020202 runs
    Reconciling=False UpToDate: main@sha1:0202020202020202020202020202020202020202 runs
    Stalled=False NotStalled: nothing is refused
    ");
}

#[test]
fn another_commit_that_asks_for_the_same_is_only_a_newer_label() {
    let mut source = running();
    assert!(look(&mut source, good(2, "one")).is_some());
    assert_eq!(source.running(), Some(&commit(2)));
    assert_eq!(told(&source)[1].split(':').next(), Some("Reconciling=False UpToDate"));
}

#[test]
fn a_bad_commit_stalls_and_what_runs_goes_on() {
    let mut source = running();
    let problem = Problem::new(Code::InvalidManifests, "pools/db.yaml:7:15: error[RV0214]: claimed twice");
    let bad = Seen::Revision { revision: commit(2), lineage: Lineage::NONE, parsed: Err(problem) };
    assert!(look(&mut source, bad).is_none());
    assert_eq!((source.running(), source.attempted()), (Some(&commit(1)), Some(&commit(2))));
    insta::assert_snapshot!(told(&source).join("\n"), @"
    Ready=False InvalidManifests: main@sha1:0101010101010101010101010101010101010101 runs; main@sha1:0202020202020202020202020202020202020202 is refused: RV0410: pools/db.yaml:7:15: error[RV0214]: claimed twice
    Reconciling=False UpToDate: main@sha1:0101010101010101010101010101010101010101 runs
    Stalled=True InvalidManifests: main@sha1:0202020202020202020202020202020202020202 is refused: RV0410: pools/db.yaml:7:15: error[RV0214]: claimed twice
    ");
    assert!(look(&mut source, Seen::Unchanged).is_none());
    assert!(told(&source)[2].starts_with("Stalled=True"), "an unchanged branch does not make it good");
    assert!(look(&mut source, good(3, "three")).is_some());
    assert!(told(&source)[2].starts_with("Stalled=False"));
}

#[test]
fn what_is_not_signed_is_looked_at_again_since_who_may_sign_can_change() {
    let mut source = running();
    let unsigned = || {
        let problem = Problem::new(Code::NotVerified, "commit 020202020202 is not trusted: it is not signed");
        Seen::Revision { revision: commit(2), lineage: Lineage::NONE, parsed: Err(problem) }
    };
    assert!(look(&mut source, unsigned()).is_none());
    let now = source.next_deadline();
    let attempt = source.poll(now).unwrap();
    assert_eq!(attempt.known, None, "what is known is not read again");
    assert!(source.observe(now, attempt.id, unsigned()).is_none());
    assert!(look(&mut source, good(2, "two")).is_some(), "the signer was added to the file");
    let now = source.next_deadline();
    assert_eq!(source.poll(now).unwrap().known, Some(CommitHash([2; 20])));
}

#[test]
fn rewritten_history_is_refused_until_a_person_accepts_it() {
    let mut source = running();
    assert!(look(&mut source, rewritten(9, false)).is_none());
    assert!(told(&source)[2].contains("RV0402"), "{:?}", told(&source));
    assert!(told(&source)[2].contains("reconcile --accept-history 090909090909"));
    assert!(source.accept_history(at(20), "0909").is_err(), "too short to be sure");
    source.accept_history(at(20), "main@sha1:0909090909").unwrap();
    let attempt = source.poll(at(20)).expect("at once");
    assert_eq!((attempt.known, attempt.accepted.as_deref()), (None, Some("0909090909")));
    let load = source.observe(at(20), attempt.id, rewritten(9, true)).unwrap();
    assert!(load.by_hand);
    assert_eq!(source.accepted(), Some("0909090909"), "peers need it until it runs");
    source.activated(Digest::of(b"rewritten"));
    assert_eq!(source.accepted(), None);
    assert!(told(&source)[0].contains("accepted by hand"), "{:?}", told(&source));
}

#[test]
fn what_was_fetched_and_never_activated_binds_nobody() {
    let mut source = running();
    assert!(look(&mut source, good(2, "two")).is_some());
    let attempt = source.poll(source.next_deadline()).unwrap();
    assert_eq!(attempt.activated, commit(1).commit());
    assert!(source.observe(at(40), attempt.id, good(3, "other")).is_some());
}

#[test]
fn one_revision_with_two_digests_is_refused_loudly() {
    let mut source = running();
    assert!(look(&mut source, good(1, "not the same")).is_none());
    assert!(told(&source)[2].starts_with("Stalled=True DigestMismatch"), "{:?}", told(&source));
    let mut source = running();
    peer_names(&mut source, at(1), 1, "not the same");
    assert!(told(&source)[2].starts_with("Stalled=False"), "its record may be half new: {:?}", told(&source));
    peer_names(&mut source, at(2), 1, "not the same");
    assert!(told(&source)[2].starts_with("Stalled=True DigestMismatch"), "{:?}", told(&source));
    peer_names(&mut source, at(3), 1, "one");
    assert!(told(&source)[2].starts_with("Stalled=False"), "the peer was set right: {:?}", told(&source));
}

fn peer_names(source: &mut Source, now: Instant, number: u8, digest: &str) {
    source.peers_name(now, [(&commit(number), Digest::of(digest.as_bytes()))].into_iter());
}

#[test]
fn a_peer_that_names_an_unknown_revision_makes_one_fetch_at_once() {
    let mut source = running();
    let hint = |source: &mut Source, now| peer_names(source, now, 2, "two");
    hint(&mut source, at(1));
    assert_eq!(source.next_deadline(), at(1));
    let attempt = source.poll(at(1)).unwrap();
    source.observe(at(1), attempt.id, Seen::Unchanged);
    hint(&mut source, at(2));
    assert!(source.next_deadline() > at(10), "one each");
    peer_names(&mut source, at(3), 1, "one");
    assert!(source.next_deadline() > at(10), "a known one makes none");
}

#[test]
fn a_hint_during_an_attempt_is_followed_right_after_it() {
    let mut source = running();
    let now = source.next_deadline();
    let attempt = source.poll(now).unwrap();
    peer_names(&mut source, now, 2, "two");
    source.observe(now, attempt.id, Seen::Unchanged);
    assert_eq!(source.next_deadline(), now);
}

#[test]
fn an_attempt_is_dropped_after_30_s_and_its_late_answer_counts_for_nothing() {
    let mut source = running();
    let start = source.next_deadline();
    let attempt = source.poll(start).unwrap();
    let end = start + Duration::from_secs(30);
    assert_eq!(source.next_deadline(), end);
    assert!(source.poll(end).is_none());
    assert_eq!(
        told(&source)[1],
        "Reconciling=True TimedOut: RV0404: the source did not answer within 30 s; it is tried again"
    );
    assert!(source.observe(end, attempt.id, good(2, "two")).is_none());
    assert_eq!(source.attempted(), Some(&commit(1)));
}

#[test]
fn failures_back_off_with_jitter_and_never_beyond_15_s() {
    let waits = |seed| {
        let mut source = Source::new(Config::git(POLL), seed, None, at(0));
        (0..8)
            .map(|_| {
                let now = source.next_deadline();
                let attempt = source.poll(now).unwrap();
                source.observe(now, attempt.id, failed());
                source.next_deadline() - now
            })
            .collect::<Vec<_>>()
    };
    let some = waits(1);
    for (n, wait) in some.iter().enumerate() {
        let most = Duration::from_secs((1 << n).min(15));
        assert!(*wait <= most && *wait >= most / 2, "{n}: {wait:?}");
    }
    assert_ne!(some, waits(2), "two nodes do not come back together");
}

#[test]
fn a_server_that_comes_back_ends_the_trouble() {
    let mut source = running();
    look(&mut source, failed());
    assert!(told(&source)[1].starts_with("Reconciling=True FetchFailed: RV0401: connection refused"));
    assert!(told(&source)[0].starts_with("Ready=True"), "what runs goes on");
    look(&mut source, Seen::Unchanged);
    assert!(told(&source)[1].starts_with("Reconciling=False"));
}

#[test]
fn a_directory_is_loaded_when_it_comes_and_never_polled() {
    let mut source = Source::new(Config::directory(), 1, None, at(0));
    assert_eq!((source.next_deadline(), source.poll(at(100)).is_none()), (Instant::NEVER, true));
    let revision = Revision::Directory(Digest::of(b"one"));
    let seen = Seen::Revision { revision, lineage: Lineage::NONE, parsed: Ok(desired("one")) };
    assert!(source.observe(at(1), UNASKED, seen).is_some());
    assert!(source.observe(at(2), UNASKED, failed()).is_none());
    assert_eq!(source.next_deadline(), Instant::NEVER);
    source.reconcile(at(3));
    assert_eq!(source.next_deadline(), Instant::NEVER);
}
