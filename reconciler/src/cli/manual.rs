//! `rendezvip manual`: what a package carries beside the binary: man pages, completions for shells.
//!
//! In: the command line's own definition. Out: files in a folder. Not here: where a package puts them (packaging/). Not
//! shown by `--help`: it is for whoever makes a package.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

use super::exit::Exit;
use super::failure::Failure;

/// Write the man pages and the completions for bash, fish and zsh
#[derive(Debug, Args)]
pub struct Manual {
    /// The folder that they are written into, made if need be
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: &Manual, command: Command) -> Exit {
    match write(&args.out, command) {
        Ok(()) => Exit::Fine,
        Err(error) => {
            let message = format!("the manual cannot be written into {}: {error}", args.out.display());
            eprintln!("{}", Failure::new("RV0660", message, "name a folder that may be written to"));
            Exit::Bad
        }
    }
}

fn write(folder: &Path, mut command: Command) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut visible(&command), "rendezvip", &completions)?;
    }
    command = visible(&command).disable_help_subcommand(true);
    clap_mangen::generate_to(command, man)
}

/// The command without what `--help` does not show either.
fn visible(command: &Command) -> Command {
    let shown = command.get_subcommands().filter(|it| !it.is_hide_set()).cloned().collect::<Vec<_>>();
    let mut visible = Command::new("rendezvip").version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true);
    if let Some(about) = command.get_about() {
        visible = visible.about(about.clone());
    }
    visible.subcommands(shown)
}
