//! `rendezvip resume`: a drained node takes its share again.
//!
//! In: the node's own file. Out: a line. Not here: the way to the node (`ask`, `order`).

use clap::Args;

use super::ask::Ask;
use super::exit::Exit;
use super::order::{Format, give};
use crate::agent::desk::Order;

/// Let this node take its share of VIPs again after `drain`
#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    ask: Ask,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Resume) -> Exit {
    give(&args.ask, &Order::Resume, args.format)
}
