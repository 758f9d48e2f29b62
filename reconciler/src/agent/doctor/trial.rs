//! Does this kernel hold a lease? The gate itself is tried, in a network namespace that nobody else is in.
//!
//! In: nothing. Out: [`Trial`]. Not here: the gate (`nft`).
//!
//! The binary starts itself once more, as the process that enters a namespace must have one thread; what it made there
//! ends with it.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use super::super::clock;
use super::super::error::HostError;
use super::super::nft::{Gate, GuardedInterface, Keeping};
use super::Seen;
use crate::name::InterfaceName;

/// The hidden command that is the trial.
pub const COMMAND: &str = "__trial";
/// A kernel that takes longer does not answer at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trial {
    /// The kernel takes the gate; does it keep it whatever others do?
    Stands {
        /// The table survives `nft flush ruleset` and its owner's death.
        owned: bool,
    },
    /// The kernel refuses it.
    Refused {
        /// The code.
        code: String,
        /// What was refused.
        message: String,
        /// What to do.
        help: String,
    },
    /// No namespace could be made to try it in.
    NoRoom(String),
}

/// Tries it.
pub fn run() -> Seen<Trial> {
    let child = Command::new("/proc/self/exe").arg(COMMAND).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Seen::Not(format!("the trial could not be started: {error}")),
    };
    let began = clock::now();
    while matches!(child.try_wait(), Ok(None)) && clock::now().since(began) < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    let mut told = String::new();
    let _ = child.stdout.take().map(|mut out| out.read_to_string(&mut told));
    match serde_json::from_str(&told) {
        Ok(Trial::NoRoom(why)) => Seen::Not(why),
        Ok(trial) => Seen::So(trial),
        Err(_) => Seen::Not("the trial gave no answer".to_owned()),
    }
}

/// The child's part: enters a namespace, tries, says what became of it.
pub fn main() {
    println!("{}", serde_json::to_string(&attempt()).unwrap_or_default());
}

fn attempt() -> Trial {
    let alone = unshare(CloneFlags::CLONE_NEWNET);
    if alone.or_else(|_| unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)).is_err() {
        return Trial::NoRoom("this user may make no network namespace to try it in; ask as root".to_owned());
    }
    match lease() {
        Ok(keeping) => Trial::Stands { owned: keeping == Keeping::Owned },
        Err(error) => Trial::Refused {
            code: error.code.code().to_owned(),
            message: error.message(),
            help: error.help().to_owned(),
        },
    }
}

fn lease() -> Result<Keeping, HostError> {
    let mut gate = Gate::open()?;
    if let Ok(name) = InterfaceName::new("lo") {
        gate.interfaces(&[GuardedInterface { name, own6: None }])?;
    }
    if let Ok(vip) = "192.0.2.1".parse() {
        gate.guard(&[vip], &[])?;
        gate.hold(&[vip], &[])?;
    }
    gate.lease(clock::lease_end(clock::now() + Duration::from_secs(1)))?;
    let keeping = gate.keeping();
    gate.remove()?;
    Ok(keeping)
}
