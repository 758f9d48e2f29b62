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
use super::told::{self, STATUS_BRANCH};
use super::{revision, terminal};
use crate::agent::directory::{self, Listing};
use crate::digest::Digest;
use crate::manifest::desired::Desired;
use crate::manifest::{Loaded, load};
use crate::name::NodeName;
use crate::status::snapshot::MemberState;

/// Show who would own each VIP, and what a change moves
///
/// Nothing is asked: every declared node counts as alive and able, unless --live names those that are. With --live
/// alone, the moves are those that the absence of the others makes.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The directory with the manifests, as it lies on disk
    dir: PathBuf,
    /// Compare with this directory, or this revision of the repository that holds DIR (such as origin/main). A range,
    /// A..B or A...B as git has it, compares two revisions and not what lies on disk
    #[arg(long, value_name = "DIR|REV|RANGE")]
    base: Option<String>,
    /// Compare with what runs, as the status branch in the repository that holds DIR tells: who has each VIP, and who
    /// is alive
    #[arg(long, conflicts_with = "base")]
    running: bool,
    /// That status branch; what was fetched from origin goes before a local one
    #[arg(long, value_name = "BRANCH", default_value = STATUS_BRANCH, requires = "running")]
    status_branch: String,
    /// Plan what this revision has in DIR, and not what lies on disk
    #[arg(long, value_name = "REV")]
    revision: Option<String>,
    /// Begin the paths of findings with this: where DIR lies in the repository, for the annotations of a forge
    #[arg(long, value_name = "PATH")]
    prefix: Option<String>,
    /// Only these nodes are alive, before and after
    #[arg(long, value_name = "NODE,…", value_delimiter = ',')]
    live: Option<Vec<NodeName>>,
    /// Fetch that branch first, by `git fetch origin`
    #[arg(long, requires = "running")]
    fetch: bool,
    /// Leave out the owners of all VIPs, which are many: what moves and the spread alone
    #[arg(long)]
    moves_only: bool,
    /// How the plan is written
    #[arg(long, value_enum, default_value_t)]
    format: findings::Format,
    /// Exit 0 without a move, 2 with moves, 1 on an error
    #[arg(long)]
    detailed_exitcode: bool,
}

/// Runs the command.
pub fn run(args: &PlanArgs) -> Exit {
    let read = || -> Result<_, Failure> {
        let range = match &args.base {
            Some(base) if !Path::new(base).is_dir() => revision::range(&args.dir, base)?,
            _ => None,
        };
        let (from, to) = range.unzip();
        let to = args.revision.clone().or(to);
        Ok((from, revision::listing(&args.dir, to.as_deref(), args.prefix.as_deref())?))
    };
    let (from, listing) = match read() {
        Ok(read) => read,
        Err(failure) => {
            eprintln!("{failure}");
            return Exit::Bad;
        }
    };
    let loaded = listing.load();
    let Some(desired) = loaded.desired.clone() else {
        print_findings(&listing, &loaded, args.format, "");
        return Exit::Bad;
    };
    match plan(args, from.as_deref(), desired) {
        Ok(plan) => {
            match args.format {
                findings::Format::Human => terminal::print(&human(&plan, !args.moves_only)),
                findings::Format::Json => terminal::print(&json(&plan)),
                findings::Format::Markdown => terminal::print(&markdown(&plan, !args.moves_only)),
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

fn plan(args: &PlanArgs, from: Option<&str>, desired: Desired) -> Result<Plan, Failure> {
    if args.running {
        return against_running(args, desired);
    }
    let live = live(args);
    let base = args
        .base
        .as_ref()
        .map(|name| Ok((base(&args.dir, from.unwrap_or(name), &desired)?, short(name))))
        .transpose()?;
    check_live(live.as_ref(), &desired, base.as_ref().map(|(base, _)| base))?;
    let before = match base {
        Some((base, name)) => Some((base, live.clone(), name)),
        None if live.is_some() => Some((desired.clone(), None, "every node alive".to_owned())),
        None => None,
    };
    let (after, before) = forecasts(desired, live.as_ref(), before);
    Ok(Plan::new(after, before))
}

/// What would move from where it is now.
fn against_running(args: &PlanArgs, desired: Desired) -> Result<Plan, Failure> {
    let clone = told::Clone::open(&args.dir, &args.status_branch)?;
    if args.fetch {
        clone.fetch()?;
    }
    let (runs, snapshot) = clone.running()?;
    let alive = snapshot.members.iter().filter(|member| member.state == MemberState::Alive);
    let alive: BTreeSet<NodeName> = alive.map(|member| member.node.clone()).collect();
    // Who is newly declared comes with the change.
    let new = desired.nodes.keys().filter(|node| !runs.nodes.contains_key(*node));
    let live = live(args).unwrap_or_else(|| alive.iter().chain(new).cloned().collect());
    check_live(Some(&live), &desired, Some(&runs))?;
    let revision =
        snapshot.revision.as_ref().map_or_else(|| "what runs".to_owned(), |it| format!("{}, which runs", it.short()));
    let (after, before) = forecasts(desired, Some(&live), Some((runs, Some(alive), revision)));
    let before = before.map(|(mut before, name)| {
        before.as_it_is(snapshot.vips.iter().map(|vip| (vip.vip, vip.actual.as_ref())));
        (before, name)
    });
    Ok(Plan::new(after, before))
}

/// What the user called a base, with the first digits alone of whole hashes in it.
fn short(name: &str) -> String {
    let hash = |word: &str| word.len() == 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let shortened = name.split("..").map(|word| if hash(word) { &word[..12] } else { word });
    shortened.collect::<Vec<_>>().join("..")
}

fn live(args: &PlanArgs) -> Option<BTreeSet<NodeName>> {
    args.live.as_ref().map(|live| live.iter().cloned().collect())
}

fn check_live(live: Option<&BTreeSet<NodeName>>, desired: &Desired, base: Option<&Desired>) -> Result<(), Failure> {
    let declared =
        |node: &&NodeName| desired.nodes.contains_key(*node) || base.is_some_and(|base| base.nodes.contains_key(*node));
    let Some(stranger) = live.and_then(|live| live.iter().find(|node| !declared(node))) else { return Ok(()) };
    let known: Vec<&str> = desired.nodes.keys().map(NodeName::as_str).take(20).collect();
    let message = format!("--live names {stranger}, which is no declared node");
    Err(Failure::new("RV0640", message, format!("declared: {}", known.join(", "))))
}

/// The forecast of each side, and the name of what is compared with.
fn forecasts(
    desired: Desired,
    live: Option<&BTreeSet<NodeName>>,
    before: Option<(Desired, Option<BTreeSet<NodeName>>, String)>,
) -> (Forecast, Option<(Forecast, String)>) {
    let before = before.map(|(desired, live, name)| (Forecast::new(desired, live.as_ref()), name));
    let after = Forecast::after(desired, live, before.as_ref().map(|(before, _)| before));
    (after, before)
}

/// What the base declares; a base without any manifest declares nothing.
fn base(dir: &Path, base: &str, after: &Desired) -> Result<Desired, Failure> {
    let path = Path::new(base);
    let (files, loaded) = if path.is_dir() {
        let listing = directory::read(path);
        (listing.files.len() + listing.diagnostics.len(), listing.load())
    } else {
        let files = revision::read(dir, base)?.files;
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
