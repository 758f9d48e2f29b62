//! What a simulation found, as the command prints it.
//!
//! In: counts and durations. Out: [`Report`]. Not here: how it is formatted (`cli`).

use std::time::Duration;

use crate::digest::Digest;
use crate::time::Instant;
use crate::vip::Vip;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// When, on the world's clock.
    pub at: Instant,
    /// Which VIP.
    pub vip: Vip,
    /// The two that answered; twice the same number where nobody did after healing.
    pub nodes: [usize; 2],
}

/// How long clients waited, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outage {
    /// Half waited no longer.
    pub p50: u64,
    /// 99 of 100 waited no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
}

/// What a run found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Two answered for one VIP.
    pub violations: Vec<Violation>,
    /// After healing, nobody answered for these in time.
    pub unanswered: Vec<Violation>,
    /// VIPs taken over from an owner that crashed.
    pub takeovers: u64,
    /// Lapses of nodes that nothing had befallen.
    pub false_takeovers: u64,
    /// From a crash to the successor's first answer.
    pub outages: Vec<Duration>,
    /// Datagrams sent, and node-seconds lived.
    pub datagrams: u64,
    /// Microseconds that nodes lived, summed.
    pub lived: u64,
    /// Simulated time.
    pub span: Duration,
    /// Episodes of faults and healing.
    pub episodes: u64,
    /// Digest of every step and action.
    pub trace: Digest,
    /// What was asked to be recorded, a life each.
    pub recordings: Vec<Vec<u8>>,
}

impl Report {
    /// Was no promise broken?
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.unanswered.is_empty()
    }

    /// The distribution of outages.
    pub fn outage(&self) -> Outage {
        let mut millis: Vec<u64> = self.outages.iter().map(|outage| outage.as_millis() as u64).collect();
        millis.sort_unstable();
        let at = |per_mille: usize| {
            millis.get((millis.len() * per_mille / 1000).min(millis.len().saturating_sub(1))).copied()
        };
        Outage { p50: at(500).unwrap_or(0), p99: at(990).unwrap_or(0), max: millis.last().copied().unwrap_or(0) }
    }

    /// Datagrams a node sent in a second, in hundredths.
    pub fn packets_per_node_centi(&self) -> u64 {
        (self.datagrams * 100).checked_div(self.lived / 1_000_000).unwrap_or(0)
    }
}
