//! A plan for a pull request: GitHub, GitLab and Gitea all show it well.
//!
//! In: [`Plan`]. Out: GitHub-flavoured Markdown. Not here: what it means (`forecast`).
//!
//! A comment holds 65,536 characters on GitHub, so many moves are grouped by what they have in common
//! and the owners of a large repository are left out.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::forecast::{Interruption, Plan, vips};
use super::{joined, name_or_nobody, spread_rows};
use crate::placement::Move;
use crate::vip::Vip;

/// So many moves are shown one by one.
const SINGLE: usize = 40;
/// So many groups of moves at most.
const GROUPS: usize = 100;
/// Owners are listed up to so many VIPs.
const OWNERS: usize = 200;
/// Rows of the spread at most.
const NODES: usize = 100;

/// The plan as Markdown, with the owners of all VIPs if they are wanted.
pub fn markdown(plan: &Plan, with_owners: bool) -> String {
    let mut text = format!("### rendezvip plan: {}\n\n", plan.headline());
    text += &format!(
        "{} on {}, digest `{}`",
        vips(plan.after.placement.len()),
        match plan.after.desired.nodes.len() {
            1 => "1 node".to_owned(),
            count => format!("{count} nodes"),
        },
        plan.after.desired.digest.short(),
    );
    if let Some((_, base)) = &plan.base {
        text += &format!(", against {}", code(base));
    }
    text += ".\n";
    if plan.after.unowned() > 0 {
        text += &format!("\n**Attention:** {} nobody can own.\n", vips(plan.after.unowned()));
    }
    if !plan.moves.is_empty() {
        text += &moves(plan);
        text += &notes(plan);
    }
    text += &spread(plan);
    if with_owners && plan.after.placement.len() <= OWNERS && !plan.after.placement.is_empty() {
        text += &owners(plan);
    }
    text
}

fn moves(plan: &Plan) -> String {
    let mut text =
        "\n| VIP | Pool | From | To | Cause | Interruption |\n| --- | --- | --- | --- | --- | --- |\n".to_owned();
    let row = |vip: String, one: &Move, interruption: Interruption| {
        let emphasis = if interruption == Interruption::Unserved { "**" } else { "" };
        format!(
            "| {vip} | {} | {} | {} | {} | {emphasis}{interruption}{emphasis} |\n",
            one.pool,
            name_or_nobody(one.from.as_ref()),
            name_or_nobody(one.to.as_ref()),
            cell(&one.cause.to_string()),
        )
    };
    if plan.moves.len() <= SINGLE {
        return plan
            .moves
            .iter()
            .fold(text, |text, one| text + &row(code(&one.vip.to_string()), one, plan.interruption(one)));
    }
    let mut groups: BTreeMap<_, Vec<&Move>> = BTreeMap::new();
    for one in &plan.moves {
        let key = (&one.pool, &one.from, &one.to, one.cause.to_string(), plan.interruption(one));
        groups.entry(key).or_default().push(one);
    }
    let more = groups.len().saturating_sub(GROUPS);
    for (key, group) in groups.iter().take(GROUPS) {
        let vips: Vec<Vip> = group.iter().map(|one| one.vip).collect();
        text += &row(some(&vips), group[0], key.4);
    }
    if more > 0 {
        let hidden: usize = groups.values().skip(GROUPS).map(Vec::len).sum();
        text += &format!("\nand {} in {more} more rows: `rendezvip plan` shows all.\n", vips(hidden));
    }
    text
}

/// The first few of many.
fn some(vips: &[Vip]) -> String {
    match vips {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!(
                "{}, {}, {} and {} more",
                code(&first.to_string()),
                code(&second.to_string()),
                code(&third.to_string()),
                rest.len()
            )
        }
        few => few.iter().map(|vip| code(&vip.to_string())).collect::<Vec<_>>().join(", "),
    }
}

fn notes(plan: &Plan) -> String {
    let interruptions: BTreeSet<Interruption> = plan.moves.iter().map(|one| plan.interruption(one)).collect();
    let mut text = String::new();
    if interruptions.contains(&Interruption::None) {
        text += "\n*none*: handed over, make before break; the old owner goes on accepting for the pool's `handover.linger`.\n";
    }
    if interruptions.iter().any(|what| matches!(what, Interruption::Takeover(..))) {
        text += "\nA take-over is counted from a death; a node that is drained first costs nothing.\n";
    }
    text
}

fn spread(plan: &Plan) -> String {
    let rows = spread_rows(plan);
    let mut text = "\n| Node | Weight | Before | After |\n| --- | ---: | ---: | ---: |\n".to_owned();
    if plan.base.is_none() {
        text = "\n| Node | Weight | VIPs |\n| --- | ---: | ---: |\n".to_owned();
    }
    let more = rows.len().saturating_sub(NODES);
    for [node, weight, before, after] in rows.into_iter().take(NODES) {
        text += &match plan.base {
            Some(_) => format!("| {node} | {weight} | {before} | {after} |\n"),
            None => format!("| {node} | {weight} | {after} |\n"),
        };
    }
    if more > 0 {
        text += &format!("\nand {more} more nodes.\n");
    }
    text
}

fn owners(plan: &Plan) -> String {
    let mut text = format!("\n<details><summary>Owners of {}</summary>\n\n", vips(plan.after.placement.len()));
    text += "| VIP | Pool | Owner | Backups |\n| --- | --- | --- | --- |\n";
    for (at, ranked) in plan.after.ranking.vips().iter().enumerate() {
        text += &format!(
            "| {} | {} | {} | {} |\n",
            code(&ranked.vip.to_string()),
            ranked.pool,
            name_or_nobody(plan.after.placement.owner(at)),
            joined(plan.after.placement.backups(at)),
        );
    }
    text + "\n</details>\n"
}

/// Text in a cell of a table: labels and revisions may hold signs that mean something there.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '|' | '`' | '*' | '<' | '>' | '[' | ']' | '\\' | '_' | '@' | '#' => cell.extend(['\\', sign]),
            sign if sign.is_control() => cell.push(' '),
            sign => cell.push(sign),
        }
    }
    cell
}

fn code(text: &str) -> String {
    let plain: String = text.chars().map(|sign| if sign == '`' || sign.is_control() { ' ' } else { sign }).collect();
    format!("`{plain}`")
}
