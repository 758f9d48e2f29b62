//! Namespaces, a client and faults: behind `rendezvip lab`, the end-to-end tests and the benchmarks.
//!
//! In: a story to play. Out: real packets on a segment of our own, and what was measured of them.
//! Not here: anything that runs in production.

pub mod bystander;
pub mod client;
pub mod cluster;
pub mod faults;
pub mod frame;
pub mod link;
pub mod namespace;
pub mod repository;
pub mod screen;
pub mod segment;
pub mod stage;
pub mod story;

use std::fmt;
use std::io;

use nix::time::{ClockId, clock_gettime};

use crate::time::Instant;

/// What a lab cannot go on without.
#[derive(Debug)]
pub enum LabError {
    /// RV0380: this host does not let this user make namespaces.
    Denied(namespace::Denied),
    /// RV0381: a step of the set-up failed, which the host's kernel did not allow or does not know.
    Step {
        /// The step, as in "add the bridge `lan0`".
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl LabError {
    /// The stable code, as in docs/errors.md.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Denied(_) => "RV0380",
            Self::Step { .. } => "RV0381",
        }
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: ", self.code())?;
        match self {
            Self::Denied(denied) => denied.fmt(f),
            Self::Step { what, source } => write!(f, "the lab could not {what}: {source}"),
        }
    }
}

impl std::error::Error for LabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Denied(_) => None,
            Self::Step { source, .. } => Some(source),
        }
    }
}

/// Names the step at which the kernel said no.
pub(crate) trait Step<T> {
    /// The same result, with the step named in its error.
    fn step(self, what: impl FnOnce() -> String) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, LabError> {
        self.map_err(|source| LabError::Step { what: what(), source: source.into() })
    }
}

/// The wall clock, which the kernel's packet stamps are read from too; all of a lab is one machine.
pub fn now() -> Instant {
    match clock_gettime(ClockId::CLOCK_REALTIME) {
        Ok(time) => stamp(time.tv_sec(), time.tv_nsec()),
        Err(error) => unreachable!("every Linux has CLOCK_REALTIME: {error}"),
    }
}

/// A kernel time stamp as an instant.
pub(crate) fn stamp(seconds: i64, nanos: i64) -> Instant {
    Instant::from_micros(seconds.unsigned_abs() * 1_000_000 + nanos.unsigned_abs() / 1_000)
}
