//! `rendezvip run`: the daemon.
//!
//! In: the node's own file. Out: logs on stderr, and an exit code. Not here: all that it does (`agent`).

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::ask;
use super::exit::Exit;
use crate::agent::run::CannotRun;
use crate::agent::{http, run, webhook};
use crate::manifest::agent_file::{DEFAULT_PATH, Source};
use crate::wire::version::{NEWEST, Versions};

/// Run the daemon on this node
///
/// Follows the repository, agrees with its peers who owns which VIP, and announces those that are this node's. It
/// stops on SIGTERM or SIGINT: what it holds is given away first.
#[derive(Debug, Args)]
pub struct Run {
    /// The node's own file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Write down everything that the engine is told, for `rendezvip simulate --replay`
    ///
    /// The file can be attached to a report: it has names, addresses and pools, and no key. A recording that is there
    /// already is renamed to FILE.old. It ends at 1 GiB; the daemon goes on without it.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Speak as a build whose newest version of the protocol is this one, to try an upgrade before there is one
    #[arg(long, value_name = "VERSION", hide = true, default_value_t = NEWEST, value_parser = clap::value_parser!(u8).range(1..))]
    protocol: u8,
}

/// Runs until it is told to stop.
pub fn run(args: &Run) -> Exit {
    let filter = EnvFilter::try_from_env("RENDEZVIP_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    match start(args) {
        Ok(()) => Exit::Fine,
        Err(error) => {
            eprintln!("{error}");
            Exit::Bad
        }
    }
}

fn start(args: &Run) -> Result<(), CannotRun> {
    let file = ask::node_file(&args.config)?;
    let (address, control) = (file.http, file.control.clone());
    let hook = match &file.source {
        Source::Git(git) => git.webhook.as_ref().map(webhook::open).transpose()?,
        Source::Directory(_) => None,
    };
    run::run(&file, Versions::up_to(args.protocol), args.record.as_deref(), move |desk| {
        http::start(desk, address, &control, hook)
    })
}
