//! `rendezvip drain`: give away what this node holds, and take nothing new.
//!
//! In: the node's own file. Out: a line; with `--wait` only once nothing is held. Not here: the way to the node
//! (`ask`, `order`), how VIPs are handed over (`engine`).

use std::time::Duration;

use clap::Args;

use super::ask::{Ask, Node};
use super::exit::Exit;
use super::failure::Failure;
use super::order::{Format, PAUSE, give, patience, refuse, say};
use crate::agent::clock;
use crate::agent::desk::Order;
use crate::manifest::fields::written;
use crate::status::snapshot::Snapshot;

/// Give this node's VIPs to others, and take nothing new until `resume`
///
/// Clients notice nothing: the others take over before this node lets go. A VIP that nobody else can have is nobody's
/// then: `rendezvip plan` and `why` tell before. A restart ends a drain; `cordon: true` in the repository outlives it.
#[derive(Debug, Args)]
pub struct Drain {
    #[command(flatten)]
    ask: Ask,
    /// Return once this node holds nothing
    #[arg(long)]
    wait: bool,
    /// Give up waiting after so long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = patience, requires = "wait")]
    timeout: Duration,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Drain) -> Exit {
    if !args.wait {
        return give(&args.ask, &Order::Drain, args.format);
    }
    let node = match args.ask.node() {
        Ok(node) => node,
        Err(error) => return refuse(&error),
    };
    match node.order(&Order::Drain) {
        Ok(Ok(_)) => {}
        Ok(Err(text)) => return refuse(&text),
        Err(failure) => return refuse(&failure),
    }
    match wait(&node, args.timeout) {
        Ok(()) => {
            say(args.format, true, "drained: this node holds nothing");
            Exit::Fine
        }
        Err(failure) => refuse(&failure),
    }
}

fn wait(node: &Node, limit: Duration) -> Result<(), Failure> {
    let start = clock::now();
    // What was published when the order came is not yet its outcome.
    std::thread::sleep(PAUSE);
    loop {
        let (snapshot, _) = node.status()?;
        let held = held(&snapshot);
        if held == 0 {
            return Ok(());
        }
        if clock::now().since(start) >= limit {
            let message = format!("{} still holds {held} VIPs after {}", snapshot.node, written(limit));
            let help =
                "the drain goes on: `rendezvip status` shows what is held; `rendezvip resume` takes the order back";
            return Err(Failure::new("RV0612", message, help));
        }
        std::thread::sleep(PAUSE);
    }
}

fn held(snapshot: &Snapshot) -> usize {
    snapshot.vips.iter().filter(|vip| vip.actual.as_ref() == Some(&snapshot.node)).count()
}
