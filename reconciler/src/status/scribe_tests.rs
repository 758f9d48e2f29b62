//! What a scribe promises.

use super::super::samples::{after_a_death, snapshot};
use super::*;

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

#[test]
fn a_settled_change_is_written_once_after_a_second_of_quiet() {
    let mut scribe = Scribe::new(1);
    scribe.observe(at(0), &snapshot(), true);
    assert!(!scribe.poll(at(999)));
    assert!(scribe.poll(at(1000)));
    assert_eq!(scribe.next_deadline(), Instant::NEVER, "one write at a time");
    scribe.done(at(1100), Written::Committed);
    let mut later = snapshot();
    later.at = Wall::from_millis(1);
    scribe.observe(at(2000), &later, true);
    assert_eq!(scribe.next_deadline(), at(31_100), "time alone changes nothing");
}

#[test]
fn what_does_not_settle_is_written_after_five_seconds() {
    let mut scribe = Scribe::new(1);
    let mut writes = Vec::new();
    for step in 0..60 {
        let now = at(step * 100);
        scribe.observe(now, &if step % 2 == 0 { snapshot() } else { after_a_death() }, true);
        if scribe.poll(now) {
            writes.push(now);
        }
    }
    assert_eq!(writes, [at(5000)]);
}

#[test]
fn a_change_during_a_write_is_written_next() {
    let mut scribe = Scribe::new(1);
    scribe.observe(at(0), &snapshot(), true);
    assert!(scribe.poll(at(1000)));
    scribe.observe(at(1500), &after_a_death(), true);
    scribe.done(at(1600), Written::Committed);
    assert_eq!(scribe.next_deadline(), at(2500));
}

#[test]
fn only_the_elected_write_and_whoever_becomes_it_looks_at_the_branch() {
    let mut scribe = Scribe::new(1);
    scribe.observe(at(0), &snapshot(), false);
    assert_eq!((scribe.next_deadline(), scribe.poll(at(9000))), (Instant::NEVER, false));
    scribe.observe(at(10_000), &snapshot(), true);
    assert!(scribe.poll(at(11_000)));
}

#[test]
fn a_lost_race_is_tried_again_after_a_random_while() {
    let wait = |seed| {
        let mut scribe = Scribe::new(seed);
        scribe.observe(at(0), &snapshot(), true);
        assert!(scribe.poll(at(1000)));
        scribe.done(at(1000), Written::Failed);
        scribe.next_deadline() - at(1000)
    };
    assert_ne!(wait(1), wait(2));
    assert!(wait(1) >= Duration::from_millis(500) && wait(1) <= Duration::from_secs(3), "{:?}", wait(1));
    let mut scribe = Scribe::new(3);
    scribe.observe(at(0), &snapshot(), true);
    assert!(scribe.poll(at(1000)));
    scribe.done(at(1000), Written::Paced(Duration::from_secs(9)));
    assert!(!scribe.poll(at(9_999)));
    assert!(scribe.poll(at(20_000)));
}

#[test]
fn the_bucket_lets_four_go_at_once_and_one_each_15_s() {
    let wall = |seconds: u64| Wall::from_millis(1_777_896_000_000 + seconds * 1000);
    let mut commits = Vec::new();
    for second in 0..240 {
        if bucket(commits.iter().copied(), wall(second)).is_ok() {
            commits.push(wall(second));
        }
    }
    let times: Vec<u64> = commits.iter().map(|c| (c.as_millis() - wall(0).as_millis()) / 1000).collect();
    assert_eq!(times[..7], [0, 1, 2, 3, 15, 30, 45]);
    for start in 0..180 {
        assert!(times.iter().filter(|t| (start..=start + 60).contains(*t)).count() <= 8);
    }
    assert_eq!(bucket([wall(0); 4], wall(5)), Err(Duration::from_secs(10)));
    assert_eq!(bucket([wall(900); 4], wall(5)), Err(Duration::from_secs(15)), "a clock ahead blocks for 15 s at most");
    assert_eq!(bucket([wall(5); 900], wall(5)), Err(Duration::from_secs(15)));
}

#[test]
fn one_live_node_writes_and_only_in_an_established_view() {
    let nodes: Vec<NodeName> = ["edge-a", "edge-b", "edge-c"].iter().map(|n| NodeName::new(n).unwrap()).collect();
    let cluster = ClusterName::new("lab").unwrap();
    let first = elect(&cluster, true, &nodes).unwrap().clone();
    assert_eq!(elect(&cluster, false, &nodes), None);
    let rest: Vec<NodeName> = nodes.iter().filter(|n| **n != first).cloned().collect();
    let second = elect(&cluster, true, &rest).unwrap();
    assert!(rest.contains(second));
    assert_eq!(elect(&cluster, true, nodes.iter().rev()), Some(&first), "whatever the order");
}
