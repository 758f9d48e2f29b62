//! One simulated machine: its engine, clock, disk, and what befalls it.
//!
//! In: events. Out: actions. Not here: the network and the other nodes (`world`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::action::Action;
use crate::engine::event::Event;
use crate::engine::generation::Generation;
use crate::membership::view::Sets;
use crate::name::PoolName;
use crate::time::Instant;

/// A clock that runs at its own rate from its own start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub offset: u64,
    /// Parts per million that it gains.
    pub gain: i64,
}

impl Clock {
    /// What it shows at an instant of the world.
    pub fn local(&self, world: Instant) -> Instant {
        let world = world.as_micros() as i64;
        Instant::from_micros(self.offset + (world + world / 1000 * self.gain / 1000) as u64)
    }

    /// The first instant of the world at which it shows `local` or later.
    pub fn world(&self, local: Instant) -> Instant {
        if local == Instant::NEVER {
            return Instant::NEVER;
        }
        let elapsed = local.as_micros().saturating_sub(self.offset) as i64;
        let mut world = (elapsed * 1_000_000 / (1_000_000 + self.gain)).max(0) as u64;
        while self.local(Instant::from_micros(world)) < local {
            world += 1;
        }
        while world > 0 && self.local(Instant::from_micros(world - 1)) >= local {
            world -= 1;
        }
        Instant::from_micros(world)
    }
}

/// One machine.
#[derive(Debug)]
pub(super) struct Machine {
    pub clock: Clock,
    /// Nothing while it is down.
    pub engine: Option<Engine>,
    /// What its disk holds: the sets, the epoch, what is damped, the last good state.
    pub disk: Option<Sets>,
    pub disk_epoch: u64,
    pub damped: BTreeMap<PoolName, Instant>,
    pub last_good: Option<Arc<Generation>>,
    /// It cannot reach its git server.
    pub git_away: bool,
    /// The number of the revision it was loaded from.
    pub edition: u64,
    /// It stands still until then; what comes meanwhile waits here.
    pub paused_until: Option<Instant>,
    pub waiting: VecDeque<Event>,
    /// Actions that the pause struck between deciding and doing.
    pub undone: Vec<Action>,
    /// The pause that the next step is struck by, half-way through its actions.
    pub pause_in_step: Option<Instant>,
    /// Which tick is the last one asked for.
    pub tick: u64,
    /// Its lapses are its own fault up to then.
    pub excused_until: Instant,
    pub lapses_seen: u64,
    /// When it was started, to count node-seconds.
    pub up_since: Instant,
}
