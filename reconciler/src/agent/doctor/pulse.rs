//! How late does a thread come that wants to wake each 2 ms, at the priority that the beat would have here?
//!
//! In: some seconds. Out: [`Pulse`], and what the wall clock did meanwhile. Not here: what is too late (`cli::doctor`).

use std::time::Duration;

use nix::poll::ppoll;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

use super::{Clock, Seen, text};
use crate::agent::{clock, priority};
use crate::time::{Instant, micros};

/// Between two times that the thread wants to wake.
const TICK: Duration = Duration::from_millis(2);

/// How late a thread came, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// With the real-time priority that the beat has where it is allowed?
    pub real_time: bool,
    /// For so long, in milliseconds.
    pub span_ms: u64,
    /// Half of the times no later.
    pub p50: u64,
    /// 99 of 100 times no later.
    pub p99: u64,
    /// The latest.
    pub max: u64,
}

fn realtime() -> i64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| micros(time.into()).cast_signed())
}

/// Feels the pulse for so long, on a thread of its own, and watches the clocks meanwhile.
pub fn feel(span: Duration) -> (Pulse, Clock) {
    let before = (realtime(), clock::now());
    let pulse = std::thread::spawn(move || {
        let real_time = priority::raise();
        let mut late: Vec<u64> = Vec::with_capacity((span.as_millis() / TICK.as_millis()) as usize + 1);
        let end = clock::now() + span;
        let mut due = clock::now() + TICK;
        while due < end {
            sleep_until(due);
            let now = clock::now();
            late.push(micros(now.since(due)));
            due = (due + TICK).max(now);
        }
        late.sort_unstable();
        let at = |per_mille: usize| late.get(late.len() * per_mille / 1000).copied().unwrap_or(0);
        let max = late.last().copied().unwrap_or(0);
        Pulse { real_time, span_ms: micros(span) / 1000, p50: at(500), p99: at(990), max }
    })
    .join();
    let pulse = pulse.unwrap_or(Pulse { real_time: false, span_ms: 0, p50: 0, p99: 0, max: 0 });
    let elapsed = micros(clock::now().since(before.1)).cast_signed();
    let stepped = realtime() - before.0 - elapsed;
    let clock = Clock {
        realtime: (realtime() / 1_000_000).cast_unsigned(),
        // Less is the discipline of a clock that runs well.
        stepped_ms: if stepped.abs() > 5_000 { stepped / 1000 } else { 0 },
        synchronised: synchronised(),
        source: text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
            .map_or_else(|| Seen::Not("the kernel does not say what it counts time by".to_owned()), Seen::So),
    };
    (pulse, clock)
}

fn sleep_until(due: Instant) {
    let left = due.since(clock::now());
    let _ = ppoll(&mut [], Some(TimeSpec::from_duration(left)), None);
}

/// STA_UNSYNC of adjtimex(2), which everybody may read.
fn synchronised() -> Seen<bool> {
    // SAFETY: all zero is a valid `timex`, and with `modes` 0 the call only writes into it.
    #[expect(unsafe_code, reason = "neither std nor nix read the state of the clock's discipline")]
    let (answer, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    if answer < 0 {
        return Seen::Not(format!("the kernel does not say: {}", std::io::Error::last_os_error()));
    }
    Seen::So(status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_is_as_many_ticks_as_fit_and_its_figures_are_in_order() {
        let (pulse, clock) = feel(Duration::from_millis(60));
        assert!(pulse.p50 <= pulse.p99 && pulse.p99 <= pulse.max, "{pulse:?}");
        assert!(clock.realtime > 1_600_000_000);
    }
}
