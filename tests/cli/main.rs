//! The command line as scripts and people meet it: stdout, stderr and exit code in one snapshot.

mod ask;
mod doctor;
mod errors;
mod examples;
mod import;
mod keygen;
mod pipelines;
mod plan;
mod replay;
mod schema;
#[path = "../sections.rs"]
mod sections;
mod validate;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The top of the repository.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace").to_path_buf()
}

/// The binary, to be run at the top of the repository, without colours.
pub fn rendezvip() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rendezvip"));
    command.current_dir(top()).env_remove("NO_COLOR");
    command
}

/// What a run of the binary with these arguments shows.
pub fn run(arguments: &[&str]) -> String {
    let output = rendezvip().args(arguments).output().expect("the binary runs");
    let stdout = String::from_utf8(output.stdout).expect("stdout is UTF-8");
    let stderr = String::from_utf8(output.stderr).expect("stderr is UTF-8");
    let code = output.status.code().expect("it ends by itself");
    format!("exit: {code}\n----- stdout -----\n{stdout}----- stderr -----\n{stderr}")
}
