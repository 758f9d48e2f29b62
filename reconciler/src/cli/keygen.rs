//! `rendezvip keygen`: a new key for the gossip, on stdout.
//!
//! In: the system's random bytes. Out: one line for the key file. Not here: its format (`wire::key`).

use std::io::Write as _;

use clap::Args;

use super::exit::Exit;
use crate::wire::key::Key;

/// Print a new gossip key: one line for the key file of every node
///
/// The key file (gossip.keyFile, by default /etc/rendezvip/gossip.key) is the same on all nodes of a cluster. The
/// first line seals what a node sends, all lines are accepted. To rotate without a gap: append the new line on all
/// nodes, then move it to the top on all nodes, then remove the old one.
#[derive(Debug, Args)]
pub struct Keygen {}

/// Prints the key.
pub fn run(_: &Keygen) -> Exit {
    let mut secret = [0; 32];
    if let Err(error) = getrandom::fill(&mut secret) {
        eprintln!("error[RV0706]: the system gives no random bytes: {error}");
        return Exit::Bad;
    }
    match writeln!(std::io::stdout(), "{}", Key::new(secret).line()) {
        Ok(()) => Exit::Fine,
        Err(error) => {
            eprintln!("error[RV0707]: the key cannot be written to stdout: {error}");
            Exit::Bad
        }
    }
}
