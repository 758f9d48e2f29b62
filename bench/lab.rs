//! Into the lab: a benchmark runs itself again inside namespaces of its own.
//!
//! In: a benchmark's options. Out: its exit code. Not here: what it measures.

use std::io;
use std::process::{Command, ExitCode};

use rendezvip::lab::{LabError, namespace};

/// Reads the options, enters the lab and runs `bench` there.
pub fn main<O>(
    usage: &str,
    options: impl Fn(&[String]) -> Result<O, String>,
    bench: impl Fn(O) -> Result<(), LabError>,
) -> ExitCode {
    // cargo hands `--bench` to every benchmark.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let options = match options(&words) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{usage}");
            return ExitCode::from(64);
        }
    };
    if !namespace::inside() {
        return outside();
    }
    match bench(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn outside() -> ExitCode {
    let inner = std::env::current_exe().and_then(|program| {
        Command::new(env!("CARGO_BIN_EXE_rendezvip"))
            .args(["lab-enter", "--"])
            .arg(program)
            .args(std::env::args_os().skip(1))
            .status()
    });
    match inner {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the lab did not start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Names the step that failed.
pub fn step<T>(what: &str, result: io::Result<T>) -> Result<T, LabError> {
    result.map_err(|source| LabError::Step { what: what.to_owned(), source })
}
