//! `rendezvip diff`: is what is declared what is served?
//!
//! In: a node's snapshot, or a clone's status branch. Out: what differs; exit 0 where nothing does, 1 otherwise.
//! Not here: what a commit would change (`plan`).

use clap::Args;
use serde::Serialize;

use super::columns::columns;
use super::exit::Exit;
use super::order::{Format, refuse};
use super::paint::Paint;
use super::status::{age, name, remark};
use super::terminal;
use super::told::Teller;
use crate::manifest::diagnostic::printable;
use crate::revision::Revision;
use crate::status::condition::{Condition, ConditionType, Truth};
use crate::status::snapshot::{Snapshot, VipState, VipStatus};
use crate::status::wall::Wall;

/// Show where the cluster is not as it is declared: revisions and VIPs
///
/// Exits 1 where anything differs.
#[derive(Debug, Args)]
pub struct Diff {
    #[command(flatten)]
    teller: Teller,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What differs.
#[derive(Debug, Serialize)]
pub struct Difference<'a> {
    /// What is declared, where something else runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Pair<'a>>,
    /// The VIPs that are not where they should be, or not undisturbed.
    vips: Vec<&'a VipStatus>,
}

#[derive(Debug, Serialize)]
struct Pair<'a> {
    desired: &'a Revision,
    actual: Option<&'a Revision>,
}

impl<'a> Difference<'a> {
    /// What differs in a snapshot.
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let actual = snapshot.revision.as_ref();
        let revision = snapshot.attempted.as_ref().filter(|it| Some(*it) != actual);
        let differs = |vip: &&VipStatus| vip.state != VipState::Held || vip.desired != vip.actual;
        Self {
            revision: revision.map(|desired| Pair { desired, actual }),
            vips: snapshot.vips.iter().filter(differs).collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.revision.is_none() && self.vips.is_empty()
    }
}

/// Runs the command.
pub fn run(args: &Diff) -> Exit {
    let told = match args.teller.find() {
        Ok(told) => told,
        Err(error) => return refuse(&error),
    };
    match told.status() {
        Ok((snapshot, _)) => {
            let difference = Difference::new(&snapshot);
            terminal::print(&match args.format {
                Format::Human => {
                    let page = human(&snapshot, &difference, told.now(&snapshot), Paint(terminal::colour()));
                    page + &told.age(&snapshot).unwrap_or_default()
                }
                Format::Json => serde_json::to_string(&difference).unwrap_or_default() + "\n",
            });
            if difference.is_empty() { Exit::Fine } else { Exit::Bad }
        }
        Err(failure) => refuse(&failure),
    }
}

/// A page for a person.
pub fn human(snapshot: &Snapshot, difference: &Difference<'_>, now: Wall, paint: Paint) -> String {
    let short = |revision: &Revision| printable(&revision.short()).into_owned();
    if difference.is_empty() {
        let runs = snapshot.revision.as_ref().map_or_else(String::new, |it| format!("; {} runs", short(it)));
        let vips = match snapshot.vips.len() {
            1 => "the one VIP is where it should be".to_owned(),
            count => format!("all {count} VIPs are where they should be"),
        };
        return format!("no difference: {vips}{runs}\n");
    }
    let mut text = String::new();
    if let Some(pair) = &difference.revision {
        let actual = pair.actual.map_or_else(|| "nothing".to_owned(), short);
        text += &format!("{} is declared, {actual} runs\n", short(pair.desired));
        let conditions = snapshot.conditions.iter().filter(|it| explains(it));
        for condition in conditions {
            let kind = paint.condition(condition);
            let message = printable(condition.message.trim_end()).into_owned();
            text += &format!("{kind}={} {}: {message}\n", condition.status, condition.reason);
        }
    }
    let rows: Vec<[String; 7]> = difference
        .vips
        .iter()
        .map(|vip| {
            [
                vip.vip.to_string(),
                vip.pool.to_string(),
                name(vip.desired.as_ref()).to_owned(),
                name(vip.actual.as_ref()).to_owned(),
                paint.vip(vip.state),
                age(now, vip.since),
                remark(vip),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let gap = if text.is_empty() { "" } else { "\n" };
        text += gap;
        text += &columns("", ["VIP", "POOL", "DESIRED", "ACTUAL", "STATE", "SINCE", "NOTE"], &rows);
    }
    text
}

/// Does a condition tell why a revision does not run?
fn explains(condition: &Condition) -> bool {
    condition.kind != ConditionType::Ready && condition.status != Truth::False
}
