//! End to end, on real kernels: in namespaces of our own, with real frames and real kills.
//!
//! `frames`, `gate`, `host` and `keeper` try what we tell the kernel, in one fresh network namespace each
//! (`namespace`). `lab` and what is built on it run themselves again inside a whole segment (`rendezvip lab-enter`).
//! All work as root and without; where none is to be had a test says `skipped: …` and why.
#![expect(clippy::disallowed_methods, reason = "the tests run beside a real kernel, on its clocks")]

use std::process::Command;
use std::sync::{Condvar, Mutex, PoisonError};

mod alone;
mod announce;
mod battery;
mod desk;
mod errors;
mod field;
mod flows;
mod frames;
mod gate;
mod host;
mod keeper;
mod lab;
mod namespace;
mod replay;
mod resolve;
mod roles;
#[path = "../sections.rs"]
mod sections;
mod sources;
mod stages;
mod story;
mod strangers;

/// Runs `test` inside a lab of its own, while nothing else runs: what is measured in it is time.
///
/// The outer run starts the inner one by the test's own name; the inner one does the work.
fn in_a_lab(test: fn()) {
    run_in_a_lab(test, Turn::MOST);
}

/// The same for a test whose promises are seconds long: a few such run beside each other. (A lab that is laid or torn
/// down keeps a processor in the kernel for up to 150 ms, which no real-time priority helps against.)
fn in_a_patient_lab(test: fn()) {
    run_in_a_lab(test, 1);
}

fn run_in_a_lab(test: fn(), share: usize) {
    if rendezvip::lab::namespace::inside() {
        test();
        return;
    }
    let _turn = Turn::take(share);
    let thread = std::thread::current();
    let name = thread.name().expect("the test harness names its threads").to_owned();
    let output = Command::new(env!("CARGO_BIN_EXE_rendezvip"))
        .args(["lab-enter", "--"])
        .arg(std::env::current_exe().expect("a test has a path"))
        .args(["--exact", &name, "--nocapture"])
        .output()
        .expect("the binary starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.contains("error[RV0380]") {
        println!("skipped: {said}");
        return;
    }
    assert!(output.status.success(), "{name}, inside its lab:\n{said}");
    assert!(said.contains("1 passed"), "the lab ran another number of tests:\n{said}");
}

/// A share of this machine's time, given back when it is dropped.
struct Turn(usize);

impl Turn {
    /// All there is.
    const MOST: usize = 3;

    fn take(share: usize) -> Self {
        let taken = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |taken: &mut usize| *taken + share > Self::MOST;
        *FREED.wait_while(taken, full).unwrap_or_else(PoisonError::into_inner) += share;
        Self(share)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        FREED.notify_all();
    }
}

static TURNS: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();
