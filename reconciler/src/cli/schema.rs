//! `rendezvip schema`: JSON Schemas of the files that users write.
//!
//! In: a kind. Out: its schema on stdout, or all of them in a folder. Not here: what they say (`manifest::schema`).

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::exit::Exit;
use super::failure::Failure;
use super::terminal;
use crate::manifest::schema::{self, Kind};

/// Print the JSON Schema of a kind, or one that switches on `kind`
#[derive(Debug, Args)]
pub struct SchemaCommand {
    /// The kind; left out: one schema for every kind
    #[arg(value_enum, ignore_case = true)]
    kind: Option<KindName>,
    /// Write every schema into this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "kind")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindName {
    #[value(name = "Cluster")]
    Cluster,
    #[value(name = "Node")]
    Node,
    #[value(name = "VipPool")]
    VipPool,
    #[value(name = "Agent")]
    Agent,
}

/// Runs the command.
pub fn run(args: &SchemaCommand) -> Exit {
    if let Some(folder) = &args.out {
        for (name, schema) in schema::files() {
            let path = folder.join(name);
            if let Err(error) = std::fs::write(&path, format!("{schema:#}\n")) {
                let message = format!("{} cannot be written: {error}", path.display());
                eprintln!("{}", Failure::new("RV0660", message, "name a folder that exists and may be written to"));
                return Exit::Bad;
            }
        }
        return Exit::Fine;
    }
    let schema = match args.kind {
        Some(KindName::Cluster) => schema::of(Kind::Cluster),
        Some(KindName::Node) => schema::of(Kind::Node),
        Some(KindName::VipPool) => schema::of(Kind::VipPool),
        Some(KindName::Agent) => schema::of(Kind::Agent),
        None => schema::of_any_kind(),
    };
    terminal::print(&format!("{schema:#}\n"));
    Exit::Fine
}
