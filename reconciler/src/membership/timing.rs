//! How long things take: every time of the protocol, derived from the heartbeat and the profile.
//!
//! In: `spec.failover` of the Cluster. Out: [`Timing`]. Not here: what happens when a time is over (`protocol`).
//!
//! The one relation that safety rests on: D > 1.0101 L. L runs from the holder's *send*, D from the
//! peer's *receipt*; no receipt precedes its send, and 1 % is what two clocks' rates may differ by.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::manifest::desired::{Failover, Profile};

/// The times of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Between two beats of a pair.
    pub heartbeat: Duration,
    /// L: how long an ack is good, from when its question was sent.
    pub lease: Duration,
    /// D: without news for so long a node is silent.
    pub silence: Duration,
    /// Not heard for so long: ask.
    pub late: Duration,
    /// The majority's acks so old: ask.
    pub risk: Duration,
    /// Between two questions.
    pub retry: Duration,
    /// A timer so late means that this node stood still.
    pub stall: Duration,
    /// Heard steadily for so long before it is named.
    pub join: Duration,
    /// What is not urgent waits at most so long for the view to settle.
    pub settle: Duration,
    /// Then so much more for each rank, so that one proposes and the others see it.
    pub rank_step: Duration,
    /// A higher view that cannot be accepted for so long is overbid.
    pub blocked: Duration,
    /// And so much more for each rank.
    pub blocked_rank: Duration,
    /// A cluster that was never formed waits so long for all declared nodes.
    pub form: Duration,
}

impl Timing {
    /// The times for a heartbeat and profile (protocol.md, Pace); all scale with the heartbeat.
    pub fn new(failover: Failover) -> Self {
        let beat = failover.heartbeat;
        let percent = |n: u32| beat * n / 100;
        let (lease, silence, retry) = match failover.profile {
            Profile::Default => (percent(165), percent(168), percent(6)),
            Profile::Fast => (percent(130), percent(133), percent(4)),
        };
        Self {
            heartbeat: beat,
            lease,
            silence,
            late: percent(105),
            risk: percent(105),
            retry: retry.max(Duration::from_millis(1)),
            stall: percent(20),
            join: percent(2000),
            settle: percent(300),
            rank_step: percent(20),
            blocked: percent(60),
            blocked_rank: percent(40),
            form: Duration::from_secs(10),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::new(Failover { heartbeat: Duration::from_millis(100), profile: Profile::Default })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_outlasts_the_lease_by_more_than_two_clocks_can_differ() {
        for profile in [Profile::Default, Profile::Fast] {
            for millis in [20, 50, 100, 1000, 10_000] {
                let timing = Timing::new(Failover { heartbeat: Duration::from_millis(millis), profile });
                assert!(timing.silence.as_micros() * 10_000 > timing.lease.as_micros() * 10_101, "{timing:?}");
                assert!(timing.late < timing.lease && timing.risk < timing.lease, "{timing:?}");
            }
        }
    }

    #[test]
    fn the_default_timing_is_that_of_the_protocol() {
        let timing = Timing::default();
        let millis = |d: Duration| d.as_millis();
        let (lease, silence) = (millis(timing.lease), millis(timing.silence));
        assert_eq!((lease, silence, millis(timing.late), millis(timing.retry)), (165, 168, 105, 6));
        assert_eq!(millis(timing.join), 2000);
    }
}
