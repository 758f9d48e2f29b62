//! `rendezvip why VIP`: why is it where it is, and who would be next?
//!
//! In: a node's answer, or a clone's status branch. Out: a page for people, its JSON for programs. Not here: what is
//! known (`agent::desk`), reasons (`placement::explain`).

use clap::Args;

use super::columns::columns;
use super::exit::Exit;
use super::order::{Format, refuse};
use super::paint::Paint;
use super::status::{age, name};
use super::terminal;
use super::told::Teller;
use crate::agent::desk::Why;
use crate::manifest::diagnostic::printable;
use crate::status::wall::Wall;
use crate::vip::Vip;

/// Show why a VIP is where it is: every node's place in line, and what moved it
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// The address
    vip: Vip,
    #[command(flatten)]
    teller: Teller,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &WhyArgs) -> Exit {
    let told = match args.teller.find() {
        Ok(told) => told,
        Err(error) => return refuse(&error),
    };
    match told.why(args.vip) {
        Ok((why, json)) => {
            terminal::print(&match args.format {
                Format::Human => human(&why, why.at, Paint(terminal::colour())),
                Format::Json => json.trim_end().to_owned() + "\n",
            });
            Exit::Fine
        }
        Err(failure) => refuse(&failure),
    }
}

/// A page for a person.
pub fn human(why: &Why, now: Wall, paint: Paint) -> String {
    let (age_of, desired) = (age(now, why.since), name(why.desired.as_ref()));
    let who = match (&why.actual, &why.desired) {
        (Some(actual), Some(desired)) if actual == desired => format!("{actual} has it, for {age_of}"),
        (Some(actual), _) => format!("{actual} has it, for {age_of}; it is on its way to {desired}"),
        (None, Some(desired)) => format!("nobody has it, for {age_of}; it is on its way to {desired}"),
        (None, None) => format!("nobody has it, for {age_of}, and nobody can at present"),
    };
    let vip = paint.strong(&why.vip.to_string());
    let mut text = format!("{vip} of pool {} is {}: {who}\n", why.pool, paint.vip(why.state));
    if let Some(note) = &why.note {
        text += &format!("{}\n", printable(&note.message));
    }
    let rows: Vec<[String; 3]> = why
        .ranking
        .iter()
        .map(|rank| {
            let eligible = if rank.eligible { paint.good("yes") } else { paint.bad("no") };
            [rank.node.to_string(), eligible, printable(&rank.reason).into_owned()]
        })
        .collect();
    if !rows.is_empty() {
        text += &format!("\n{}", columns("", ["NODE", "ELIGIBLE", "WHY"], &rows));
    }
    let rows: Vec<[String; 4]> = why
        .moves
        .iter()
        .rev()
        .map(|one| {
            let at = format!("{} ago", age(now, one.at));
            let who = |node: &Option<_>| name(node.as_ref()).to_owned();
            [at, who(&one.from), who(&one.to), printable(&one.cause).into_owned()]
        })
        .collect();
    if !rows.is_empty() {
        text += &format!("\n{}", columns("", ["MOVED", "FROM", "TO", "CAUSE"], &rows));
    }
    text
}
