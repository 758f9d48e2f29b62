//! One node cannot fetch: the others wait a minute for it, and no longer.

use std::time::Duration;

use rendezvip::engine::event::Event;

use crate::lan::{Lan, VIPS, generation};

#[test]
fn one_nodes_git_trouble_holds_up_the_others_for_a_minute_and_leaves_no_vip_ownerless() {
    let second = generation(2);
    let mut lan = Lan::serving(&generation(1));
    (0..2).for_each(|node| lan.step(node, Event::Loaded(second.clone())));
    lan.run(Duration::from_secs(55));
    assert_eq!([0, 1, 2].map(|node| lan.runs(node)), ["edition 1"; 3], "they wait");
    lan.run(Duration::from_secs(10));
    assert_eq!([0, 1].map(|node| lan.runs(node)), ["edition 2"; 2], "65 s are over");
    assert!(lan.held[2].is_empty(), "{:?}", lan.held);
    assert!(lan.gap < Duration::from_millis(250), "somebody had none for {:?}", lan.gap);
    assert_eq!(lan.served(), VIPS);

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
    let mut lan = Lan::serving(&generation(1));
    lan.step(2, Event::Drain);
    (0..2).for_each(|node| lan.step(node, Event::Loaded(generation(2))));
    lan.run(Duration::from_secs(70));
    lan.step(2, Event::Loaded(generation(2)));
    lan.run(Duration::from_secs(30));
    assert_eq!((lan.runs(2), lan.held[2].len()), ("edition 2", 0));
}
