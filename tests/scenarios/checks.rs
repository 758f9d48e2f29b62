//! Checks fail: who gives away, who keeps.

use std::sync::Arc;
use std::time::Duration;

use rendezvip::engine::event::Event;
use rendezvip::engine::generation::Generation;
use rendezvip::membership::protocol::Forming;
use rendezvip::status::condition::{Condition, ConditionType, Truth};
use rendezvip::status::wall::Wall;

use crate::lan::{Lan, NAMES, generation_with};

/// Pools that ask for one check, by their addresses.
fn checked(addresses: &str) -> Arc<Generation> {
    let pool = format!(
        "kind: VipPool\nmetadata: {{name: web}}\nspec: {{addresses: [{addresses}], health: [app], failback: {{after: 1s}}}}\n"
    );
    generation_with(1, &NAMES, &pool)
}

fn serving(generation: &Arc<Generation>) -> Lan {
    let mut lan = Lan::new();
    (0..3).for_each(|node| lan.step(node, Event::MayForm(generation.names(), Forming::All)));
    (0..3).for_each(|node| lan.step(node, Event::Loaded(generation.clone())));
    lan.run(Duration::from_secs(20));
    lan
}

fn check(lan: &mut Lan, node: usize, passes: bool) {
    lan.step(node, Event::Check { check: "app".parse().unwrap(), passes });
}

fn owners(lan: &Lan) -> Vec<usize> {
    (0..3).filter(|node| !lan.held[*node].is_empty()).collect()
}

/// What a node's Ready says.
fn ready(lan: &Lan, node: usize) -> String {
    let mut conditions = vec![Condition {
        kind: ConditionType::Ready,
        status: Truth::True,
        reason: "Running".to_owned(),
        message: String::new(),
        since: Wall::default(),
    }];
    lan.report(node).tell_failing(&mut conditions);
    format!("{} {}", conditions[0].reason, conditions[0].message)
}

#[test]
fn the_one_vip_of_a_pool_moves_when_its_owners_check_fails_and_stays_when_all_fail() {
    let mut lan = serving(&checked("10.99.1.1"));
    let first = owners(&lan)[0];
    check(&mut lan, first, false);
    lan.run(Duration::from_secs(1));
    let second = owners(&lan)[0];
    assert_ne!(first, second);
    let third = 3 - first - second;
    check(&mut lan, third, false);
    lan.run(Duration::from_secs(5));
    assert_eq!(owners(&lan), [second], "it is well");
    assert_eq!(ready(&lan, first), "Running ");

    check(&mut lan, second, false);
    lan.run(Duration::from_secs(5));
    assert_eq!(owners(&lan), [second], "the last owner keeps it");
    for node in 0..3 {
        let told =
            format!("AllChecksFailing {}: all checks fail everywhere: web stays at its last owner", NAMES[second]);
        assert_eq!(ready(&lan, node), told);
    }

    check(&mut lan, third, true);
    lan.run(Duration::from_secs(1));
    assert_eq!(owners(&lan), [third], "somebody is well again");
    assert_eq!(ready(&lan, third), "Running ");
}

#[test]
fn all_checks_that_fail_one_after_the_other_or_at_once_leave_every_vip_with_one_of_the_owners() {
    for at_once in [false, true] {
        let mut lan = serving(&checked("10.99.1.1-10.99.1.9"));
        assert_eq!(owners(&lan), [0, 1, 2]);
        for node in [1, 0, 2] {
            check(&mut lan, node, false);
            lan.run(Duration::from_millis(if at_once { 0 } else { 1_000 }));
        }
        lan.run(Duration::from_secs(10));
        assert_eq!(lan.served(), 9, "{:?}", lan.held);
        (0..3).for_each(|node| check(&mut lan, node, true));
        lan.run(Duration::from_secs(10));
        assert_eq!(lan.served(), 9, "{:?}", lan.held);
        assert_eq!(owners(&lan), [0, 1, 2]);
    }
}
