//! The clocks: when is it now for the engine, and what is that for the kernel's lease?
//!
//! In: CLOCK_BOOTTIME, CLOCK_REALTIME. Out: [`Instant`], ends of leases, and a file descriptor that says when the wall
//! clock was set. Not here: deadlines (`engine`).
//!
//! Leases run on CLOCK_BOOTTIME, which counts suspend. The kernel compares with CLOCK_REALTIME, so each end is converted
//! by reading both clocks together. A clock set forward ends answers at once and one set back lengthens the absolute end,
//! so [`WallClock`] asks for a renewal after a step.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_getres, clock_gettime};

use super::error::HostError;
use super::nft::LeaseEnd;
use crate::time::Instant;

fn read(clock: ClockId) -> Duration {
    // Both clocks exist on every kernel that passes `nft::Gate::open`; a failure would be a bug.
    clock_gettime(clock).map(Duration::from).expect("CLOCK_BOOTTIME and CLOCK_REALTIME can be read")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Now, on the clock that counts suspend.
pub fn now() -> Instant {
    Instant::from_micros(crate::time::micros(read(ClockId::CLOCK_BOOTTIME)))
}

/// An instant as CLOCK_REALTIME in nanoseconds, by what both clocks say now; never later than it is.
pub fn realtime_ns(instant: Instant) -> u64 {
    // Realtime first: a pause between the readings makes the answer early, never late.
    let wall = nanos(read(ClockId::CLOCK_REALTIME));
    let here = nanos(read(ClockId::CLOCK_BOOTTIME));
    let instant = instant.as_micros().saturating_mul(1_000);
    if instant >= here { wall.saturating_add(instant - here) } else { wall.saturating_sub(here - instant) }
}

/// The end of a lease for the kernel, or `None` where it lies behind.
pub fn lease_end(until: Instant) -> Option<LeaseEnd> {
    let realtime_ns = realtime_ns(until);
    let remaining = until.since(now());
    (!remaining.is_zero()).then_some(LeaseEnd { realtime_ns, remaining })
}

/// One jiffy, in which nftables counts its timeouts.
pub(crate) fn tick() -> Duration {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::from_millis(10), Duration::from)
}

/// Becomes readable when somebody set the wall clock.
#[derive(Debug)]
pub struct WallClock {
    timer: TimerFd,
}

impl WallClock {
    /// Starts to watch.
    pub fn watch() -> Result<Self, HostError> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        TimerFd::new(TimerClock::CLOCK_REALTIME, flags)
            .and_then(|timer| {
                arm(&timer)?;
                Ok(Self { timer })
            })
            .map_err(|error| HostError::admin("watch", "the wall clock", error as i32))
    }

    /// Was the clock set since the last call? Then what was derived from it is void: renew the lease.
    pub fn stepped(&self) -> bool {
        let mut count = [0; 8];
        let stepped = matches!(nix::unistd::read(&self.timer, &mut count), Err(Errno::ECANCELED));
        if stepped {
            // Armed before, this cannot fail.
            let _ = arm(&self.timer);
        }
        stepped
    }
}

/// Arms the timer for a time that does not come; only a step of the clock (TFD_TIMER_CANCEL_ON_SET) ends it.
fn arm(timer: &TimerFd) -> Result<(), Errno> {
    let never = Expiration::OneShot(TimeSpec::from_duration(Duration::from_secs(u64::from(u32::MAX) * 4)));
    timer.set(never, TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET)
}

impl AsFd for WallClock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_the_same_moment_on_both_clocks() {
        let until = now() + Duration::from_secs(60);
        let before = nanos(read(ClockId::CLOCK_REALTIME));
        let end = lease_end(until).unwrap();
        assert!(end.remaining <= Duration::from_secs(60));
        let ahead = end.realtime_ns - before;
        assert!((59_000_000_000..=60_000_001_000).contains(&ahead), "{ahead}");
    }

    #[test]
    fn an_end_that_lies_behind_is_no_lease() {
        let past = now();
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(lease_end(past), None);
    }

    #[test]
    fn a_clock_that_nobody_set_has_not_stepped() {
        assert!(!WallClock::watch().unwrap().stepped());
    }
}
