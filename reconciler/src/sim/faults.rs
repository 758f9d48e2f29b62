//! What befalls the simulated machines, drawn for each episode: how often, which kinds, how bad.
//!
//! In: draws. Out: [`Weather`] of an episode and [`Fault`]s. Not here: doing it to them (`world`).

use std::time::Duration;

use super::random::Random;

/// One thing that befalls a machine or the LAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The processes die; the kernel goes on until the lease ends.
    KillProcess { down: Duration },
    /// The machine dies.
    KillHost { down: Duration },
    /// Everything dies at once.
    KillAll { down: Duration },
    /// It stands still; half of the times in the middle of doing what it decided.
    Pause { span: Duration, in_step: bool },
    /// One direction of one pair.
    CutOneWay,
    /// Everything to it, from it, or both.
    Isolate { inbound: bool, outbound: bool },
    /// Two groups that do not hear each other; one way only, now and then.
    Split { one_way: bool },
    /// All cuts are mended.
    Mend,
    /// Another desired state.
    Wish,
    /// Another set of nodes.
    SetChange,
    /// A planned leave.
    Leave { down: Duration },
    /// Drained, or no longer.
    Drain,
    /// Its interface goes or comes.
    Interface,
}

/// How an episode is.
#[derive(Debug, Clone)]
pub(super) struct Weather {
    pub loss: u32,
    pub twice: u32,
    pub late: u32,
    pub late_by: Duration,
    /// Between two faults, on average.
    pub every: Duration,
    /// Chance, per mille, that a view change draws a fault to itself.
    pub aimed: u32,
    /// How the kinds are weighed.
    weights: [u64; 13],
    pub span: Duration,
}

impl Weather {
    pub fn draw(random: &mut Random, loss: Option<u32>) -> Self {
        let drawn = match random.below(5) {
            0 | 1 => 0,
            2 | 3 => random.between(1, 60) as u32,
            _ => random.between(50, 250) as u32,
        };
        let mut weights = [0; 13];
        for weight in &mut weights {
            // Some kinds are absent from an episode, some are its main theme.
            *weight = [0, 1, 1, 3, 8][random.pick(5)];
        }
        if weights.iter().sum::<u64>() == 0 {
            weights[0] = 1;
        }
        Self {
            loss: loss.unwrap_or(drawn),
            twice: [0, 0, 20, 200][random.pick(4)],
            late: [0, 0, 10, 100][random.pick(4)],
            late_by: Duration::from_millis(random.between(2, 400)),
            every: Duration::from_millis([80, 300, 1000, 3000, 8000][random.pick(5)]),
            aimed: [0, 50, 200, 500][random.pick(4)],
            weights,
            span: Duration::from_secs(random.between(10, 90)),
        }
    }

    /// When the next fault comes, from now.
    pub fn next_in(&self, random: &mut Random) -> Duration {
        Duration::from_micros(random.between(1, self.every.as_micros() as u64 * 2))
    }

    pub fn fault(&self, random: &mut Random) -> Fault {
        let mut at = random.below(self.weights.iter().sum());
        let kind = self.weights.iter().position(|weight| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        });
        let down = Duration::from_millis([60, 180, 400, 2000, 9000][random.pick(5)] + random.below(300));
        match kind.unwrap_or(0) {
            0 => Fault::KillProcess { down },
            1 => Fault::KillHost { down },
            2 => Fault::KillAll { down },
            3 | 4 => Fault::Pause {
                span: Duration::from_millis([5, 40, 120, 170, 400, 3000][random.pick(6)] + random.below(60)),
                in_step: random.below(2) == 0,
            },
            5 => Fault::CutOneWay,
            6 => [(true, false), (false, true), (true, true)]
                .map(|(inbound, outbound)| Fault::Isolate { inbound, outbound })[random.pick(3)],
            7 => Fault::Split { one_way: random.below(3) == 0 },
            8 => Fault::Mend,
            9 => Fault::Wish,
            10 => Fault::SetChange,
            11 => Fault::Leave { down },
            _ => [Fault::Drain, Fault::Interface][random.pick(2)],
        }
    }
}
