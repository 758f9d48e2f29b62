//! The command line: a file per command, a renderer per output format.
//!
//! In: arguments. Out: text and an exit code. Not here: anything that another program would call.

pub mod ask;
pub mod columns;
pub mod diff;
pub mod doctor;
pub mod drain;
pub mod exit;
pub mod failure;
pub mod findings;
pub mod form;
pub mod import;
pub mod keygen;
pub mod lab;
pub mod manual;
pub mod order;
pub mod paint;
pub mod plan;
pub mod reconcile;
pub mod reload;
pub mod render;
pub mod replay;
pub mod resume;
pub mod revision;
pub mod run;
pub mod schema;
pub mod simulate;
pub mod status;
pub mod terminal;
pub mod told;
pub mod validate;
pub mod wait;
pub mod why;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::agent::keeper;
use exit::Exit;

/// Virtual IP addresses on a layer-2 segment, declared in git.
#[derive(Debug, Parser)]
#[command(name = "rendezvip", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// One variant a command; each holds the arguments that its own file defines.
#[derive(Debug, Subcommand)]
enum Command {
    Validate(validate::Validate),
    Plan(plan::PlanArgs),
    Render(render::Render),
    Import(import::Import),
    Schema(schema::SchemaCommand),
    Keygen(keygen::Keygen),
    Lab(lab::Lab),
    Run(run::Run),
    Status(status::Status),
    Why(why::WhyArgs),
    Diff(diff::Diff),
    Wait(wait::Wait),
    Drain(drain::Drain),
    Resume(resume::Resume),
    Reconcile(reconcile::Reconcile),
    Reload(reload::Reload),
    Form(form::Form),
    Doctor(doctor::Doctor),
    Simulate(simulate::Simulate),
    #[command(hide = true)]
    Manual(manual::Manual),
    #[command(hide = true)]
    LabEnter(lab::Enter),
    #[command(hide = true)]
    LabInit(lab::Init),
    /// The daemon's child that speaks git.
    #[command(name = "__git", hide = true)]
    Git,
    /// The trial of the gate that `doctor` makes in a namespace of its own.
    #[command(name = "__trial", hide = true)]
    Trial,
}

/// Parses the process's arguments, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    // Not a command for people: the daemon's own child.
    if keeper::is_wanted(std::env::args_os()) {
        keeper::main();
        return Exit::Fine.into();
    }
    let exit = match Cli::try_parse() {
        // These end with the code of what they ran.
        Ok(Cli { command: Command::Lab(args) }) => return lab::run(&args),
        Ok(Cli { command: Command::LabEnter(args) }) => return lab::enter(&args),
        Ok(Cli { command: Command::LabInit(args) }) => return lab::init(&args),
        Ok(Cli { command: Command::Git }) => return crate::agent::git::child::main(),
        Ok(Cli { command: Command::Trial }) => {
            crate::agent::doctor::trial::main();
            Exit::Fine
        }
        Ok(cli) => run(cli.command),
        Err(error) => {
            let _ = error.print();
            if error.use_stderr() { Exit::Usage } else { Exit::Fine }
        }
    };
    exit.into()
}

fn run(command: Command) -> Exit {
    match command {
        Command::Validate(args) => validate::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Render(args) => render::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Manual(args) => manual::run(&args, Cli::command()),
        Command::Keygen(args) => keygen::run(&args),
        Command::Lab(_) | Command::LabEnter(_) | Command::LabInit(_) | Command::Git | Command::Trial => Exit::Usage,
        Command::Run(args) => run::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Wait(args) => wait::run(&args),
        Command::Drain(args) => drain::run(&args),
        Command::Resume(args) => resume::run(&args),
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Form(args) => form::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Simulate(args) => simulate::run(&args),
    }
}
