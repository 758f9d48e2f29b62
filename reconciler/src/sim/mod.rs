//! Many engines on a simulated LAN and clock, with faults, and checkers outside the nodes.
//!
//! In: a seed and options. Out: violations, figures and a digest of the trace.
//! Not here: the real network (`agent`, `lab`).
//!
//! Everything is drawn from the seed, the rates of the faults too. A run is a row of episodes: faults
//! for a while, under which safety is checked; then all is healed, and every VIP must be answered.

mod attacks;
mod checker;
mod desires;
mod faults;
mod network;
mod node;
mod random;
mod report;
mod world;

pub use attacks::Attack;
pub use report::{Outage, Report, Violation};

use std::time::Duration;

use crate::manifest::desired::Profile;
use crate::membership::rule::Rule;
use world::World;

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes, 1 to 16.
    pub nodes: usize,
    /// How many VIPs.
    pub vips: usize,
    /// For how long, in simulated time.
    pub span: Duration,
    /// Everything is drawn from it.
    pub seed: u64,
    /// A fixed loss in per mille; drawn for each episode where it is not given.
    pub loss: Option<u32>,
    /// Each so-manyth VIP is of a pool of `partition: available`, 0 is none; drawn where it is not given.
    pub available: Option<usize>,
    /// Which faults there are.
    pub faults: Faults,
    /// The profile of the simulated cluster.
    pub profile: Profile,
    /// The rules that all nodes lack.
    pub without: Vec<Rule>,
    /// Stop at the first violation.
    pub stop_at_violation: bool,
    /// Print each step after this instant, for a person who looks for a cause.
    pub explain: bool,
    /// Record the lives of this node.
    pub record: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 3,
            vips: 6,
            span: Duration::from_secs(3600),
            seed: 1,
            loss: None,
            available: None,
            faults: Faults::All,
            profile: Profile::Default,
            without: Vec::new(),
            stop_at_violation: false,
            explain: false,
            record: None,
        }
    }
}

/// Which faults a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Faults {
    /// Every kind, uniform and aimed at view changes and changes of the declared set, and attacks.
    All,
    /// The counter-examples to the protocol's rules, one after the other; or one of them again and again.
    Attacks(Option<Attack>),
    /// One node at a time crashes while all else is well, and comes back: for the outage's distribution.
    Crashes,
    /// One node at a time leaves as planned, and comes back.
    Leaves,
    /// None but the loss.
    None,
}

/// Runs the simulation to its end.
pub fn run(options: &Options) -> Report {
    World::new(options).run()
}
