//! `rendezvip reconcile`: look at the source now; take a rewritten history if a person says so.
//!
//! In: the node's own file, perhaps a revision. Out: a line. Not here: the way to the node (`ask`, `order`).

use clap::Args;

use super::ask::Ask;
use super::exit::Exit;
use super::order::{Format, give};
use crate::agent::desk::Order;

/// Look at the source now, rather than at the next poll
///
/// What a node runs only ever moves forward: a branch that was rewritten (force-pushed) is refused until somebody
/// accepts its new history on one node with --accept-history, which tells the others.
#[derive(Debug, Args)]
pub struct Reconcile {
    #[command(flatten)]
    ask: Ask,
    /// Accept a rewritten history that holds this commit (full or short hash)
    #[arg(long, value_name = "REV")]
    accept_history: Option<String>,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Reconcile) -> Exit {
    give(&args.ask, &Order::Reconcile { accept_history: args.accept_history.clone() }, args.format)
}
