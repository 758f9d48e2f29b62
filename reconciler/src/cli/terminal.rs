//! What a terminal wants: colour or none, and no complaint when the reader of a pipe goes away.
//!
//! In: text. Out: bytes on stdout. Not here: what is said.

use std::io::{IsTerminal as _, Write as _};

use super::failure::Failure;

/// Is stdout a terminal that may be coloured? `NO_COLOR` set to anything but nothing says no (no-color.org).
pub fn colour() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    std::io::stdout().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Writes a result that somebody keeps: a full disk is told, `| head` is no error of ours.
pub fn hand_over(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            let message = format!("the result cannot be written: {error}");
            Err(Failure::new("RV0661", message, "make room, or write it elsewhere"))
        }
        _ => Ok(()),
    }
}

/// Writes to stdout; `| head` is no error of ours. What cannot be written otherwise ends the command.
pub fn print(text: &str) {
    if let Err(failure) = hand_over(text) {
        eprintln!("{failure}");
        std::process::exit(1);
    }
}
