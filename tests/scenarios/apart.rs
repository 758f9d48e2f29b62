//! Two nodes that do not hear each other, and a third that hears both.

use std::time::Duration;

use crate::lan::{Lan, VIPS, generation};

/// What a node offered when it was last heard is no news: one that hears it no more took its offer away again and again,
/// as fast as another gave it back (found by the model checker).
#[test]
fn an_offer_that_only_others_hear_is_not_taken_back_by_who_does_not() {
    let mut lan = Lan::serving(&generation(1));
    for other in [1, 2] {
        lan.cut(other, 0);
    }
    lan.run(Duration::from_millis(500));
    lan.cut(0, 2);
    for other in [0, 2] {
        lan.mend(1, other);
    }
    lan.run(Duration::from_secs(10));
    let before = lan.view(1);
    lan.run(Duration::from_secs(10));
    assert!(lan.view(1) <= before + 2, "view {before} became {}", lan.view(1));
    assert_eq!(lan.served(), VIPS, "{:?}", lan.held);
}
