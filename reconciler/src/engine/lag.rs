//! Is this node behind: does a majority run on what it could not load?
//!
//! In: what this node loaded, what others say that they loaded last, time. Out: whether to leave the view, and when to
//! come back. Not here: how a node leaves (`membership`), why it could not load (`source`).
//!
//! A view goes over to a generation when all its members have it. So a node that cannot fetch holds up all others; after
//! a minute it drains, says goodbye, and they go on without it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::digest::Digest;
use crate::time::Instant;

/// A member that a majority is ahead of for so long leaves (design: Generations).
const PATIENCE: Duration = Duration::from_secs(60);
/// Generations remembered, so that an old one of a peer is not taken for a new one.
const REMEMBERED: usize = 256;

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lagging {
    /// Nothing.
    No,
    /// Leave: the others wait for this node.
    Leave,
    /// Come back: it has what they have.
    Return,
}

/// How far behind this node is.
#[derive(Debug, Default)]
pub(super) struct Lag {
    loaded: VecDeque<Digest>,
    since: Option<Instant>,
    left: bool,
}

impl Lag {
    /// This node loaded a generation.
    pub fn loaded(&mut self, generation: Digest) {
        self.loaded.retain(|known| *known != generation);
        if self.loaded.len() == REMEMBERED {
            self.loaded.pop_front();
        }
        self.loaded.push_back(generation);
    }

    /// Would a node that says so be ahead of this one?
    pub fn is_ahead(&self, newest: &Digest) -> bool {
        !self.loaded.contains(newest)
    }

    /// `ahead`: is a majority ahead? `member`: does this node hold up a view?
    pub fn look(&mut self, now: Instant, ahead: bool, member: bool) -> Lagging {
        if !ahead {
            self.since = None;
            return if std::mem::take(&mut self.left) { Lagging::Return } else { Lagging::No };
        }
        let since = *self.since.get_or_insert(now);
        if self.left || !member || now < since + PATIENCE {
            return Lagging::No;
        }
        self.left = true;
        Lagging::Leave
    }

    /// Is this node out of the view because it is behind?
    pub const fn has_left(&self) -> bool {
        self.left
    }

    /// When to look again, at the latest; never where only an event can change anything.
    pub fn due(&self, now: Instant) -> Instant {
        let at = self.since.filter(|_| !self.left).map(|since| since + PATIENCE);
        at.filter(|at| now < *at).unwrap_or(Instant::NEVER)
    }

    /// What others are told of it.
    pub fn tells(&self) -> Option<&'static str> {
        self.left.then_some("behind: a majority loaded a generation that this node could not; it left until it has it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_behind_leaves_after_a_minute_and_returns_as_soon_as_it_has_what_the_others_have() {
        let mut lag = Lag::default();
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        assert_eq!(lag.look(at(0), true, true), Lagging::No);
        assert_eq!(lag.look(at(30), false, true), Lagging::No);
        assert_eq!(lag.look(at(40), true, true), Lagging::No);
        assert_eq!((lag.due(at(99)), lag.look(at(99), true, true)), (at(100), Lagging::No));
        assert_eq!(lag.look(at(100), true, true), Lagging::Leave);
        assert_eq!(lag.look(at(101), true, false), Lagging::No);
        assert!(lag.tells().is_some());
        assert_eq!(lag.look(at(500), false, false), Lagging::Return);
        assert_eq!(lag.look(at(501), false, false), Lagging::No);
    }

    #[test]
    fn a_node_that_is_no_member_waits_for_an_event_and_not_for_a_minute_that_has_passed() {
        let mut lag = Lag::default();
        let at = |seconds: u64| Instant::from_micros(seconds * 1_000_000);
        lag.look(at(0), true, false);
        assert_eq!((lag.look(at(60), true, false), lag.due(at(60))), (Lagging::No, Instant::NEVER));
    }

    #[test]
    fn what_this_node_had_before_does_not_make_another_one_ahead() {
        let mut lag = Lag::default();
        let (old, new) = (Digest::of(b"1"), Digest::of(b"2"));
        lag.loaded(old);
        lag.loaded(new);
        assert!(!lag.is_ahead(&old) && lag.is_ahead(&Digest::of(b"3")));
    }
}
