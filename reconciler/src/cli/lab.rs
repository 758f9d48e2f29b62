//! `rendezvip lab`: see it work, without root and without set-up; and the hidden halves of its way into namespaces.
//!
//! In: keys, or `--script`. Out: a live page, or the story and an exit code that says whether every promise was kept.
//! Not here: the story itself (`lab::story`), how namespaces are made (`lab::namespace`).

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Args;

use super::exit::Exit;
use crate::lab::{LabError, namespace, screen, story};

/// Show live what happens to a client when nodes die, hang, are cut off or drained
///
/// Makes a bridge, three nodes, a client and a git repository in namespaces of their own: needs no root and no
/// set-up, touches nothing outside, leaves nothing behind. Keys kill, hang, cut off, drain and revive a node and
/// commit a pool.
#[derive(Debug, Args)]
pub struct Lab {
    /// Play the whole story once, as text; exit 1 if a promise was broken
    #[arg(long)]
    script: bool,
}

/// Enters the lab, and inside shows it.
pub fn run(args: &Lab) -> ExitCode {
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if !args.script && !terminal {
        eprintln!(
            "error[RV0382]: the live lab needs a terminal\n  = help: `rendezvip lab --script` tells the same story as text"
        );
        return Exit::Bad.into();
    }
    if !namespace::inside() {
        return outside(args.script);
    }
    let result = if args.script {
        let mut stdout = io::stdout();
        let colour = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        story::play(&mut stdout, colour).map(|kept| i32::from(!kept))
    } else {
        screen::show().map(|()| 0)
    };
    end(result)
}

/// Runs this same command inside, and puts the terminal right however that ended.
fn outside(script: bool) -> ExitCode {
    let stdin = io::stdin();
    let before = if script { None } else { nix::sys::termios::tcgetattr(&stdin).ok() };
    let mut command = vec![OsString::from(namespace::BINARY), OsString::from("lab")];
    if script {
        command.push(OsString::from("--script"));
    }
    let result = namespace::enter(&command);
    if let Some(before) = before {
        // The screen does so itself; this is for when it was killed.
        let _ = nix::sys::termios::tcsetattr(&stdin, nix::sys::termios::SetArg::TCSANOW, &before);
        if !matches!(result, Ok(0 | 1)) {
            print!("{}", screen::LEAVE);
            let _ = io::stdout().flush();
        }
    }
    end(result)
}

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
