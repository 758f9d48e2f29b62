//! End to end, on real kernels: in namespaces of our own, with real frames and real kills.
//!
//! `frames`, `gate`, `host` and `keeper` try what we tell the kernel, in one fresh network namespace each
//! (`namespace`). `lab` and what is built on it run themselves again inside a whole segment (`rendezvip lab-enter`).
//! All work as root and without; where none is to be had a test says `skipped: …` and why.
#![expect(clippy::disallowed_methods, reason = "the tests run beside a real kernel, on its clocks")]

use std::process::Command;

mod announce;
mod desk;
mod field;
mod frames;
mod gate;
mod host;
mod keeper;
mod lab;
mod namespace;
mod roles;

/// Runs `test` inside a lab of its own.
///
/// The outer run starts the inner one by the test's own name; the inner one does the work.
fn in_a_lab(test: fn()) {
    if rendezvip::lab::namespace::inside() {
        test();
        return;
    }
    // One lab at a time: what is measured in it is time.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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
