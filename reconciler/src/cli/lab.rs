//! `rendezvip lab-enter` and `lab-init`: the hidden halves of the lab's way into namespaces of its own.
//!
//! In: a command to run inside. Out: its exit code. Not here: how namespaces are made (`lab::namespace`).

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;

use super::exit::Exit;
use crate::lab::{LabError, namespace};

/// Run a command in namespaces that vanish with it
#[derive(Debug, Args)]
pub struct Enter {
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Be the first process of such namespaces
#[derive(Debug, Args)]
pub struct Init {
    /// Those of one host of the lab, rather than of the lab.
    #[arg(long)]
    place: bool,
    /// The command and its arguments.
    #[arg(last = true, required_unless_present = "place")]
    command: Vec<OsString>,
}

/// Runs the command inside.
pub fn enter(args: &Enter) -> ExitCode {
    end(namespace::enter(&args.command))
}

/// Is the first process.
pub fn init(args: &Init) -> ExitCode {
    end(if args.place { namespace::init_of_a_place() } else { namespace::init(&args.command) })
}

fn end(result: Result<i32, LabError>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("{error}");
            Exit::Bad.into()
        }
    }
}
