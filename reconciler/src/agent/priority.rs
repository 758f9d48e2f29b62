//! The beat's priority: real time where it is allowed, and memory that is never swapped out.
//!
//! In: nothing. Out: what was possible, logged once. Not here: what runs at that priority (`beat`).

use nix::sys::mman::{MlockAllFlags, mlockall};

/// Below the kernel's own threads, above everything ordinary.
const PRIORITY: i32 = 10;

/// Raises the calling thread; true where it has real-time priority now.
pub fn raise() -> bool {
    if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        tracing::debug!(%error, "memory is not locked");
    }
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the structure lives through the call, which only reads it; 0 is the calling thread.
    #[expect(unsafe_code, reason = "neither std nor nix set a thread's scheduling policy")]
    let refused =
        unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const parameters) };
    if refused != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!(%error, "the beat has no real-time priority");
    }
    refused == 0
}
