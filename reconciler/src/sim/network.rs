//! The simulated LAN: who hears whom, how late, how often not.
//!
//! In: draws, cuts. Out: when a datagram arrives, if at all. Not here: nodes (`node`), when cuts are made (`faults`).

use std::collections::BTreeSet;
use std::time::Duration;

use super::random::Random;

/// The LAN between the nodes, by index.
#[derive(Debug)]
pub(super) struct Network {
    random: Random,
    /// Pairs (from, to) that do not pass.
    cuts: BTreeSet<(usize, usize)>,
    /// Loss, in per mille.
    pub loss: u32,
    /// Datagrams that come twice, in per mille.
    pub twice: u32,
    /// Datagrams that come late, in per mille, and by how much at most.
    pub late: u32,
    pub late_by: Duration,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed, 2),
            cuts: BTreeSet::new(),
            loss: 0,
            twice: 0,
            late: 0,
            late_by: Duration::ZERO,
        }
    }

    /// Nothing from one reaches the other.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// Is everything that is sent heard?
    pub fn is_whole(&self) -> bool {
        self.cuts.is_empty() && self.loss == 0
    }

    /// What one sends reaches the other again.
    pub fn mend_one(&mut self, from: usize, to: usize) {
        self.cuts.remove(&(from, to));
    }

    /// Every cut is mended.
    pub fn mend(&mut self) {
        self.cuts.clear();
    }

    /// How long each copy of a datagram takes that arrives.
    pub fn carry(&mut self, from: usize, to: usize) -> (Option<Duration>, Option<Duration>) {
        if self.is_cut(from, to) || self.random.per_mille(self.loss) {
            return (None, None);
        }
        let first = self.delay();
        let second = self.random.per_mille(self.twice).then(|| self.delay());
        (Some(first), second)
    }

    fn delay(&mut self) -> Duration {
        if self.random.per_mille(self.late) {
            return Duration::from_micros(self.random.between(1000, self.late_by.as_micros().max(1001) as u64));
        }
        Duration::from_micros(self.random.between(60, 240))
    }
}
