//! `rendezvip reload`: have the daemon read its key file again.
//!
//! In: the node's own file. Out: a line that names the keys, or what is wrong with the file. Not here: the way to the node
//! (`ask`, `order`), the file itself (`wire::key`).

use clap::Args;

use super::ask::Ask;
use super::exit::Exit;
use super::order::{Format, give};
use crate::agent::desk::Order;

/// Have the running node read its gossip keys again
///
/// Seals with the first key of the file from now on, and accepts all of them. A file that is wrong changes nothing. So
/// a key is rotated without a restart: append the new one on every node, then move it to the top on every node, then
/// remove the old one.
#[derive(Debug, Args)]
pub struct Reload {
    #[command(flatten)]
    ask: Ask,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Reload) -> Exit {
    give(&args.ask, &Order::Reload, args.format)
}
