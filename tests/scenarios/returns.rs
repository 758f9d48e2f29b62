//! A node that comes back waits until its VIPs are given back to it; what nobody else has it takes at once.

use std::time::Duration;

use rendezvip::engine::event::Event;

use crate::lan::{Lan, VIPS, generation};

const SECOND: Duration = Duration::from_secs(1);
/// D, a beat and some.
const TAKEOVER: Duration = Duration::from_millis(300);

#[test]
fn a_host_that_comes_back_gets_its_vips_after_the_failback_and_the_next_time_after_three_minutes() {
    let web = generation(1);
    let mut lan = Lan::serving(&web);
    let share = lan.held[2].len();
    // The second time the three minutes count from the first giving back, some seconds before.
    for (early, late) in [(8, 12), (165, 180)] {
        lan.kill(2);
        lan.run(SECOND);
        assert_eq!(lan.served(), VIPS, "taken over");
        lan.boot(2, &web);
        lan.run(SECOND * early);
        assert_eq!(lan.held[2].len(), 0, "given back within {early} s");
        lan.run(SECOND * (late - early));
        assert_eq!((lan.held[2].len(), lan.served()), (share, VIPS), "not given back within {late} s");
    }
    assert!(lan.gap < TAKEOVER, "a VIP had nobody for {:?}", lan.gap);
}

#[test]
fn a_node_that_waits_takes_at_once_what_nobody_else_can_have() {
    let web = generation(1);
    let mut lan = Lan::serving(&web);
    // Twice, so that it waits for three minutes.
    for _ in 0..2 {
        lan.kill(2);
        lan.run(SECOND);
        lan.boot(2, &web);
        lan.run(SECOND * 20);
    }
    assert_eq!((lan.held[2].len(), lan.served()), (0, VIPS));
    lan.gap = Duration::ZERO;
    // One dies: the other has them all, and this one goes on waiting.
    lan.kill(0);
    lan.run(SECOND);
    assert_eq!((lan.held[1].len(), lan.held[2].len()), (VIPS, 0));
    // The other cannot have them any more, though it is alive.
    lan.interface(1, false);
    lan.run(SECOND);
    assert_eq!((lan.held[1].len(), lan.held[2].len()), (0, VIPS));
    assert!(lan.gap < TAKEOVER, "a VIP had nobody for {:?}", lan.gap);
}

#[test]
fn nodes_that_all_wait_serve_what_there_is_when_they_are_the_last_ones() {
    let web = generation(1);
    let mut lan = Lan::serving(&web);
    // One after the other comes back twice within three minutes.
    for _ in 0..2 {
        for node in [0, 1, 2] {
            lan.kill(node);
            lan.run(SECOND);
            lan.boot(node, &web);
            lan.run(SECOND * 20);
            assert_eq!(lan.served(), VIPS, "{:?}", lan.held);
        }
    }
    assert!(lan.gap < TAKEOVER, "a VIP had nobody for {:?}", lan.gap);
    // Power fails for all of them, and history keeps nobody from serving.
    (0..3).for_each(|node| lan.kill(node));
    lan.run(SECOND);
    (0..3).for_each(|node| lan.boot(node, &web));
    lan.run(SECOND * 8);
    assert_eq!(lan.served(), VIPS, "{:?}", lan.held);
}

#[test]
fn a_person_ends_the_wait() {
    let web = generation(1);
    let mut lan = Lan::serving(&web);
    for _ in 0..2 {
        lan.kill(2);
        lan.run(SECOND);
        lan.boot(2, &web);
        lan.run(SECOND * 20);
    }
    assert_eq!(lan.held[2].len(), 0);
    lan.step(2, Event::Resume);
    lan.run(SECOND);
    assert_ne!(lan.held[2].len(), 0);
    assert_eq!(lan.served(), VIPS);
}
