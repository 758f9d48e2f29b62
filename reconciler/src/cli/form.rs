//! `rendezvip form`: begin a cluster anew with the nodes named, once a person has thought about it.
//!
//! In: the node's own file, names, a yes. Out: a line. Not here: the way to the node (`ask`, `order`).

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use super::ask::Ask;
use super::exit::Exit;
use super::failure::Failure;
use super::order::{Format, give, refuse};
use crate::agent::desk::Order;
use crate::name::NodeName;

/// Begin the cluster anew with these nodes
///
/// For a first start at which declared nodes are missing, or after a majority was lost for good. Nobody counts who is
/// not named: if such a node still runs, an address can have two owners. Make sure that it is off.
#[derive(Debug, Args)]
pub struct Form {
    #[command(flatten)]
    ask: Ask,
    /// The nodes to begin with, as in `--nodes edge-a,edge-b,edge-c`
    #[arg(long, value_delimiter = ',', required = true, value_name = "NAMES", value_parser = NodeName::new)]
    nodes: Vec<NodeName>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Form) -> Exit {
    // One name twice is one node.
    let nodes: BTreeSet<NodeName> = args.nodes.iter().cloned().collect();
    if !args.yes {
        match confirmed(&nodes) {
            Ok(true) => {}
            Ok(false) => {
                eprintln!("nothing was done");
                return Exit::Bad;
            }
            Err(failure) => return refuse(&failure),
        }
    }
    give(&args.ask, &Order::Form { nodes: nodes.into_iter().collect() }, args.format)
}

fn confirmed(nodes: &BTreeSet<NodeName>) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let help = "run it on a terminal, or say --yes";
        return Err(Failure::new("RV0611", "nobody can be asked whether to form the cluster anew", help));
    }
    eprint!("{}", question(nodes));
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    Ok(answer.trim() == "yes")
}

fn question(nodes: &BTreeSet<NodeName>) -> String {
    let names: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
    format!(
        "The cluster begins anew with {}.\n\
         Every other node has to be off: one that still runs can answer for the same addresses.\n\
         Type `yes` to go on: ",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_what_can_go_wrong_before_it_does() {
        let nodes = ["edge-b", "edge-a"].iter().map(|name| NodeName::new(name).unwrap()).collect();
        insta::assert_snapshot!(question(&nodes), @r"
        The cluster begins anew with edge-a, edge-b.
        Every other node has to be off: one that still runs can answer for the same addresses.
        Type `yes` to go on: 
        ");
    }
}
