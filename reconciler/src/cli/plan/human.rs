//! A plan for a terminal.
//!
//! In: [`Plan`]. Out: text without colour. Not here: what it means (`forecast`).

use super::forecast::{Plan, vips};
use super::{joined, name_or_nobody};
use crate::cli::columns::columns;

/// The plan for a person, with the owners of all VIPs if they are wanted.
pub fn human(plan: &Plan, owners: bool) -> String {
    let desired = &plan.after.desired;
    let mut text = format!(
        "{} in {} on {}, digest {}\n",
        vips(plan.after.placement.len()),
        counted(desired.pools.len(), "pool"),
        counted(desired.nodes.len(), "node"),
        desired.digest.short(),
    );
    if let Some((_, base)) = &plan.base {
        text += &format!("against {base}: {}\n", plan.headline());
    }
    match plan.after.unowned() {
        0 => {}
        count => text += &format!("attention: {} nobody can own\n", vips(count)),
    }
    if !plan.moves.is_empty() {
        let rows = plan.moves.iter().map(|one| {
            [
                one.vip.to_string(),
                one.pool.to_string(),
                name_or_nobody(one.from.as_ref()).to_owned(),
                name_or_nobody(one.to.as_ref()).to_owned(),
                one.cause.to_string(),
                plan.interruption(one).to_string(),
            ]
        });
        text += &section("Moves", ["VIP", "POOL", "FROM", "TO", "CAUSE", "INTERRUPTION"], rows);
    }
    text += &spread(plan);
    if !owners {
        return text;
    }
    let owners = plan.after.ranking.vips().iter().enumerate().map(|(at, ranked)| {
        [
            ranked.vip.to_string(),
            ranked.pool.to_string(),
            name_or_nobody(plan.after.placement.owner(at)).to_owned(),
            joined(plan.after.placement.backups(at)),
        ]
    });
    text + &section("Owners", ["VIP", "POOL", "OWNER", "BACKUPS"], owners)
}

fn spread(plan: &Plan) -> String {
    let rows = super::spread_rows(plan);
    match plan.base {
        Some(_) => section("Spread", ["NODE", "WEIGHT", "BEFORE", "AFTER"], rows.into_iter()),
        None => {
            let rows = rows.into_iter().map(|[node, weight, _, after]| [node, weight, after]);
            section("Spread", ["NODE", "WEIGHT", "VIPS"], rows)
        }
    }
}

fn section<const N: usize>(title: &str, header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{title}\n{}", columns("  ", header, &rows))
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
