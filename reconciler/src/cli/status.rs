//! `rendezvip status`: who is there, who has which VIP, and is all well?
//!
//! In: a node's snapshot, or a clone's status branch. Out: tables for people, the snapshot's JSON for programs.
//! Not here: what is known (`agent`, `status`).

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;

use super::columns::columns;
use super::exit::Exit;
use super::order::{Format, refuse};
use super::paint::Paint;
use super::terminal;
use super::told::Teller;
use crate::manifest::diagnostic::printable;
use crate::name::NodeName;
use crate::status::condition::{ConditionType, Truth};
use crate::status::snapshot::{Snapshot, VipState, VipStatus};
use crate::status::wall::Wall;

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_millis(500);

/// Show members, VIPs and conditions, as a running node knows them
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    teller: Teller,
    /// Show it again whenever it changes, until interrupted
    #[arg(long)]
    watch: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Status) -> Exit {
    let told = match args.teller.find() {
        Ok(told) => told,
        Err(error) => return refuse(&error),
    };
    let mut last = None;
    loop {
        match told.status() {
            Ok((snapshot, json)) => {
                let text = match args.format {
                    Format::Human => {
                        let page = human(&snapshot, told.now(&snapshot), Paint(terminal::colour()));
                        page + &told.age(&snapshot).map_or_else(String::new, |age| format!("\n{age}"))
                    }
                    Format::Json => json.trim_end().to_owned() + "\n",
                };
                show(args, &snapshot, text, &mut last);
            }
            // Somebody who watches waits for a node that restarts.
            Err(failure) if args.watch && last.is_some() => {
                eprintln!("{failure}");
            }
            Err(failure) => return refuse(&failure),
        }
        if !args.watch {
            return Exit::Fine;
        }
        std::thread::sleep(LOOK);
    }
}

/// Shows `text`, unless it tells nothing new.
fn show(args: &Status, snapshot: &Snapshot, text: String, last: &mut Option<Snapshot>) {
    // Time alone is no news to a pipe.
    let same = last.as_ref().is_some_and(|last| Snapshot { at: last.at, ..snapshot.clone() } == *last);
    let page = args.watch && args.format == Format::Human && std::io::stdout().is_terminal();
    if page {
        terminal::print(&format!("\u{1b}[H\u{1b}[2J{text}"));
    } else if !same {
        terminal::print(&text);
    }
    *last = Some(snapshot.clone());
}

/// A page for a person.
pub fn human(snapshot: &Snapshot, now: Wall, paint: Paint) -> String {
    let mut text = headline(snapshot, paint);
    let conditions = snapshot.conditions.iter().filter(|condition| {
        // What is not the matter is no news; Ready always is.
        condition.kind == ConditionType::Ready || condition.status != Truth::False
    });
    let rows: Vec<[String; 3]> = conditions
        .map(|condition| {
            let kind = format!("{}={}", paint.condition(condition), condition.status);
            [kind, condition.reason.clone(), printable(condition.message.trim_end()).into_owned()]
        })
        .collect();
    for [kind, reason, message] in &rows {
        text += &format!("{kind} {reason}: {message}\n");
    }
    let members = snapshot.members.iter().map(|member| {
        let holds = snapshot.vips.iter().filter(|vip| vip.actual.as_ref() == Some(&member.node)).count();
        [
            member.node.to_string(),
            paint.member(member.state),
            age(now, member.since),
            holds.to_string(),
            member.revision.as_ref().map_or_else(String::new, |revision| printable(&revision.short()).into_owned()),
            member.version.as_deref().map_or_else(String::new, |version| printable(version).into_owned()),
            member.note.as_ref().map_or_else(String::new, |note| printable(&note.message).into_owned()),
        ]
    });
    text += &table(["NODE", "STATE", "SINCE", "VIPS", "REVISION", "VERSION", "NOTE"], members);
    let vips = snapshot.vips.iter().map(|vip| {
        [
            vip.vip.to_string(),
            vip.pool.to_string(),
            paint.vip(vip.state),
            name(vip.actual.as_ref()).to_owned(),
            age(now, vip.since),
            remark(vip),
        ]
    });
    text += &table(["VIP", "POOL", "STATE", "OWNER", "SINCE", "NOTE"], vips);
    text
}

fn headline(snapshot: &Snapshot, paint: Paint) -> String {
    let cluster =
        snapshot.cluster.as_ref().map_or_else(|| "no cluster yet".to_owned(), |name| format!("cluster {name}"));
    let mut text = format!("{}, as {} sees it: {}\n", paint.strong(&cluster), snapshot.node, tally(snapshot, paint));
    match (&snapshot.revision, &snapshot.digest) {
        (Some(revision), _) => text += &format!("runs {}", printable(&revision.short())),
        (None, Some(digest)) => text += &format!("runs sha256:{}", digest.short()),
        (None, None) => text += "runs nothing yet",
    }
    if let Some(attempted) = snapshot.attempted.as_ref().filter(|it| Some(*it) != snapshot.revision.as_ref()) {
        text += &format!(", saw {}", printable(&attempted.short()));
    }
    if let Some(view) = &snapshot.view {
        let established = if view.established { paint.good("established") } else { paint.bad("not established") };
        text += &format!("; view {} of {}, {established}", view.number, count(view.members.len(), "node"));
        if !view.missing.is_empty() {
            let names: Vec<&str> = view.missing.iter().map(NodeName::as_str).collect();
            text += &format!("; missing: {}", names.join(", "));
        }
    }
    text.push('\n');
    text
}

/// `7 VIPs, all held`; or how many are not, and how they are.
fn tally(snapshot: &Snapshot, paint: Paint) -> String {
    let of = |state| snapshot.vips.iter().filter(|vip| vip.state == state).count();
    let all = snapshot.vips.len();
    if all > 0 && of(VipState::Held) == all {
        return format!("{}, {}", count(all, "VIP"), paint.good("all held"));
    }
    let states = [VipState::Held, VipState::Moving, VipState::Unowned, VipState::Conflict, VipState::Refused];
    let parts =
        states.into_iter().filter(|state| of(*state) > 0).map(|state| format!(", {} {}", of(state), paint.vip(state)));
    parts.fold(count(all, "VIP"), |text, part| text + &part)
}

/// What the other columns do not tell.
pub fn remark(vip: &VipStatus) -> String {
    if let Some(note) = &vip.note {
        return printable(&note.message).into_owned();
    }
    match (&vip.desired, &vip.actual) {
        (Some(desired), actual) if actual.as_ref() != Some(desired) => format!("on its way to {desired}"),
        (None, None) => "no node can take it at present".to_owned(),
        _ => String::new(),
    }
}

fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    if rows.is_empty() { String::new() } else { format!("\n{}", columns("", header, &rows)) }
}

/// A node's name, or a dash.
pub fn name(node: Option<&NodeName>) -> &str {
    node.map_or("-", NodeName::as_str)
}

fn count(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// How long ago, in its two largest units, as kubectl writes it.
pub fn age(now: Wall, since: Wall) -> String {
    let seconds = now.as_millis().saturating_sub(since.as_millis()) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m{}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}
