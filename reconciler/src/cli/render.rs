//! `rendezvip render`: writes `placement.lock.yaml`, or says that it is stale.
//!
//! In: a directory. Out: the file beside the manifests, a report on stdout. Not here: its text (`plan::lock`).

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::plan::{Difference, Forecast, differences, lock, print_findings, vips};
use super::{findings, terminal};
use crate::agent::directory;
use crate::manifest::listing::LOCK_FILE;

/// Write placement.lock.yaml, so that the diff of a pull request shows what it moves
///
/// The file holds owner and first backup of each VIP while every node is alive.
#[derive(Debug, Args)]
pub struct Render {
    /// The directory with the manifests
    dir: PathBuf,
    /// Write nothing, and fail if the file is not up to date
    #[arg(long)]
    check: bool,
    /// How the report is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For a person
    #[default]
    Human,
    /// For a program
    Json,
}

#[derive(Serialize)]
struct Json<'a> {
    file: &'a str,
    fresh: bool,
    written: bool,
    differs: &'a [Difference],
}

/// Runs the command.
pub fn run(args: &Render) -> Exit {
    let listing = directory::read(&args.dir);
    let loaded = listing.load();
    let Some(desired) = loaded.desired.clone() else {
        let format = match args.format {
            Format::Human => findings::Format::Human,
            Format::Json => findings::Format::Json,
        };
        print_findings(&listing, &loaded, format, "");
        return Exit::Bad;
    };
    match render(args, &Forecast::new(desired, None)) {
        Ok(exit) => exit,
        Err(failure) => {
            eprintln!("{failure}");
            Exit::Bad
        }
    }
}

fn render(args: &Render, forecast: &Forecast) -> Result<Exit, Failure> {
    let wanted = lock(forecast);
    let path = args.dir.join(LOCK_FILE);
    let failed = |verb: &str, error: std::io::Error| {
        let message = format!("cannot {verb} {}: {error}", path.display());
        Failure::new("RV0645", message, "see who may read and write the directory")
    };
    let found = match fs::read(&path) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed("read", error)),
    };
    let stale = differences(found.as_deref().unwrap_or_default(), &wanted);
    let written = stale.is_some() && !args.check;
    if written {
        fs::write(&path, &wanted).map_err(|error| failed("write", error))?;
    }
    terminal::print(&match args.format {
        Format::Human => human(args, found.is_some(), stale.as_deref(), forecast.placement.len()),
        Format::Json => {
            let differs = stale.as_deref().unwrap_or_default();
            let report = Json { file: LOCK_FILE, fresh: stale.is_none() || written, written, differs };
            serde_json::to_string(&report).unwrap_or_default() + "\n"
        }
    });
    Ok(if args.check && stale.is_some() { Exit::Bad } else { Exit::Fine })
}

fn human(args: &Render, existed: bool, stale: Option<&[Difference]>, count: usize) -> String {
    let mut text = match (stale, args.check) {
        (None, _) => return format!("{LOCK_FILE} is up to date: {}\n", vips(count)),
        (Some(_), true) if !existed => format!("{LOCK_FILE} is missing\n"),
        (Some([]), true) => format!("{LOCK_FILE} is stale: no VIP differs, but the text around them\n"),
        (Some(differs), true) => format!("{LOCK_FILE} is stale: {}\n", differ(differs.len())),
        (Some(_), false) if !existed => return format!("{LOCK_FILE} written: {}\n", vips(count)),
        (Some(differs), false) => {
            format!("{LOCK_FILE} written: {}, {} from before\n", vips(count), differ(differs.len()))
        }
    };
    if existed {
        for one in stale.unwrap_or_default() {
            let entry = |entry: &Option<String>| entry.as_deref().unwrap_or("nothing").to_owned();
            text += &format!("  {}: {} is now {}\n", one.vip, entry(&one.found), entry(&one.wanted));
        }
    }
    if args.check {
        text += &format!("run `rendezvip render {}` and commit the file\n", args.dir.display());
    }
    text
}

fn differ(count: usize) -> String {
    if count == 1 { "1 VIP differs".to_owned() } else { format!("{count} VIPs differ") }
}
