//! Draws, all from one seed.
//!
//! In: the seed. Out: numbers, chances, choices. Not here: what is drawn for (`faults`, `network`).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of draws. Streams of different names are independent, so that a change in one room's
/// draws does not shift another's.
#[derive(Debug)]
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// A number in `0..below`; 0 where there is no such.
    pub fn below(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.0.next_u64() % below }
    }

    /// A number in `from..=to`.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True in so many of a thousand draws.
    pub fn per_mille(&mut self, chance: u32) -> bool {
        chance > 0 && self.below(1000) < u64::from(chance)
    }

    /// One of them.
    pub fn pick(&mut self, count: usize) -> usize {
        self.below(count as u64) as usize
    }
}
