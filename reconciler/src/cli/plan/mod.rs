//! `rendezvip plan`: owners, and what moves against a base.
//!
//! In: a directory, a base. Out: a report on stdout. Not here: deciding (`placement`), reading (`repository`).

mod forecast;
mod github;
mod human;
mod json;
mod lock;
mod markdown;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;

pub use forecast::{Forecast, Interruption, Plan, vips};
pub use github::github;
pub use human::human;
pub use json::json;
pub use lock::{Difference, differences, lock};
pub use markdown::markdown;

use super::exit::Exit;
use super::failure::Failure;
use super::findings::{self, Report};
use super::{revision, terminal};
use crate::agent::directory::{self, Listing};
use crate::digest::Digest;
use crate::manifest::desired::Desired;
use crate::manifest::{Loaded, load};
use crate::name::NodeName;

/// Show who would own each VIP, and what a change moves
///
/// Nothing is asked: every declared node counts as alive and able, unless --live names those that are. With --live
/// alone, the moves are those that the absence of the others makes.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The directory with the manifests, as it lies on disk
    dir: PathBuf,
    /// Compare with this directory, or this revision of the repository that holds DIR (such as origin/main)
    #[arg(long, value_name = "DIR|REV")]
    base: Option<String>,
    /// Only these nodes are alive, before and after
    #[arg(long, value_name = "NODE,…", value_delimiter = ',')]
    live: Option<Vec<NodeName>>,
    /// How the plan is written
    #[arg(long, value_enum, default_value_t)]
    format: findings::Format,
    /// Exit 0 without a move, 2 with moves, 1 on an error
    #[arg(long)]
    detailed_exitcode: bool,
}

/// Runs the command.
pub fn run(args: &PlanArgs) -> Exit {
    let listing = directory::read(&args.dir);
    let loaded = listing.load();
    let Some(desired) = loaded.desired.clone() else {
        print_findings(&listing, &loaded, args.format, "");
        return Exit::Bad;
    };
    match plan(args, desired) {
        Ok(plan) => {
            match args.format {
                findings::Format::Human => terminal::print(&human(&plan)),
                findings::Format::Json => terminal::print(&json(&plan)),
                findings::Format::Markdown => terminal::print(&markdown(&plan)),
                findings::Format::Github => terminal::print(&github(&plan)),
                // These two formats hold findings in files, and a move is none.
                format @ (findings::Format::Gitlab | findings::Format::Sarif) => {
                    print_findings(&listing, &loaded, format, &plan.headline());
                }
            }
            if args.detailed_exitcode && !plan.moves.is_empty() { Exit::Changes } else { Exit::Fine }
        }
        Err(failure) => {
            eprintln!("{failure}");
            Exit::Bad
        }
    }
}

/// What `validate` would say.
pub fn print_findings(listing: &Listing, loaded: &Loaded, format: findings::Format, success: &str) {
    let files: Vec<(&str, &[u8])> = listing.files.iter().map(|file| (file.path.as_str(), &file.text[..])).collect();
    let report = Report { diagnostics: &loaded.diagnostics, files: &files, success };
    terminal::print(&report.render(format, terminal::colour()));
}

fn plan(args: &PlanArgs, desired: Desired) -> Result<Plan, Failure> {
    let live: Option<BTreeSet<NodeName>> = args.live.as_ref().map(|live| live.iter().cloned().collect());
    let base = args.base.as_ref().map(|name| Ok((base(&args.dir, name, &desired)?, name.clone()))).transpose()?;
    if let Some(live) = &live {
        let declared = |node: &&NodeName| {
            desired.nodes.contains_key(*node) || base.as_ref().is_some_and(|(base, _)| base.nodes.contains_key(*node))
        };
        if let Some(stranger) = live.iter().find(|node| !declared(node)) {
            let known: Vec<&str> = desired.nodes.keys().map(NodeName::as_str).take(20).collect();
            let message = format!("--live names {stranger}, which is no declared node");
            return Err(Failure::new("RV0640", message, format!("declared: {}", known.join(", "))));
        }
    }
    // Ranking is most of the work; two repositories are ranked side by side.
    let (after, base) = std::thread::scope(|scope| {
        let before = match (base, &live) {
            (Some((base, name)), live) => Some((base, live.as_ref(), name)),
            (None, Some(_)) => Some((desired.clone(), None, "every node alive".to_owned())),
            (None, None) => None,
        };
        let before = before.map(|(desired, live, name)| (scope.spawn(move || Forecast::new(desired, live)), name));
        let after = Forecast::new(desired, live.as_ref());
        let joined = before.map(|(forecast, name)| match forecast.join() {
            Ok(forecast) => (forecast, name),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        (after, joined)
    });
    Ok(Plan::new(after, base))
}

/// What the base declares; a base without any manifest declares nothing.
fn base(dir: &Path, base: &str, after: &Desired) -> Result<Desired, Failure> {
    let path = Path::new(base);
    let (files, loaded) = if path.is_dir() {
        let listing = directory::read(path);
        (listing.files.len() + listing.diagnostics.len(), listing.load())
    } else {
        let files = revision::read(dir, base)?;
        (files.len(), load(&files))
    };
    if files == 0 {
        let cluster = after.cluster.clone();
        return Ok(Desired { cluster, nodes: BTreeMap::new(), pools: BTreeMap::new(), digest: Digest::default() });
    }
    loaded.desired.ok_or_else(|| {
        let mut errors = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
        let first = errors.next().map_or_else(String::new, |first| format!(": {first}"));
        let more = match errors.count() {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let message = format!("the base `{base}` is not valid{first}{more}");
        Failure::new(
            "RV0643",
            message,
            "compare with a revision that is, such as the one that runs: `rendezvip status`",
        )
    })
}

/// The name, or `-` for nobody.
fn name_or_nobody(node: Option<&NodeName>) -> &str {
    node.map_or("-", NodeName::as_str)
}

fn joined<'a>(nodes: impl Iterator<Item = &'a NodeName>) -> String {
    let nodes: Vec<&str> = nodes.map(NodeName::as_str).collect();
    if nodes.is_empty() { "-".to_owned() } else { nodes.join(", ") }
}

/// Node, weight, VIPs before and after; `-` where the node is not declared.
fn spread_rows(plan: &Plan) -> Vec<[String; 4]> {
    let after = plan.after.spread();
    let before = plan.base.as_ref().map_or_else(BTreeMap::new, |(base, _)| base.spread());
    let nodes: BTreeSet<&NodeName> = before.keys().chain(after.keys()).copied().collect();
    let count = |count: Option<&usize>| count.map_or("-".to_owned(), usize::to_string);
    let row = |node: &NodeName| {
        let declared = plan.after.desired.nodes.get(node);
        let weight = match declared {
            Some(declared) if declared.cordon => format!("{}, cordoned", declared.weight),
            Some(declared) => declared.weight.to_string(),
            None => "-".to_owned(),
        };
        [node.to_string(), weight, count(before.get(node)), count(after.get(node))]
    };
    nodes.into_iter().map(row).collect()
}
