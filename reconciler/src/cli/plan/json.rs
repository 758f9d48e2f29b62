//! A plan for programs: the pinned JSON, a VIP and a move a line, so that two can be compared with diff.
//!
//! In: [`Plan`]. Out: text. Not here: what it means (`forecast`).

use serde::Serialize;

use super::forecast::Plan;
use crate::name::{NodeName, PoolName};
use crate::vip::Vip;

#[derive(Serialize)]
struct VipRow<'a> {
    vip: Vip,
    pool: &'a PoolName,
    owner: Option<&'a NodeName>,
    backups: Vec<&'a NodeName>,
}

#[derive(Serialize)]
struct MoveRow<'a> {
    vip: Vip,
    pool: &'a PoolName,
    from: Option<&'a NodeName>,
    to: Option<&'a NodeName>,
    cause: String,
}

/// The plan as JSON.
pub fn json(plan: &Plan) -> String {
    let placement = &plan.after.placement;
    let vips = plan.after.ranking.vips().iter().enumerate().map(|(at, ranked)| VipRow {
        vip: ranked.vip,
        pool: &ranked.pool,
        owner: placement.owner(at),
        backups: placement.backups(at).collect(),
    });
    let moves = plan.moves.iter().map(|one| MoveRow {
        vip: one.vip,
        pool: &one.pool,
        from: one.from.as_ref(),
        to: one.to.as_ref(),
        cause: one.cause.to_string(),
    });
    let digest = plan.after.desired.digest;
    format!("{{\"digest\":\"{digest}\",\n \"vips\":[{}],\n \"moves\":[{}]}}\n", lines(vips), lines(moves))
}

fn lines<T: Serialize>(rows: impl Iterator<Item = T>) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(if text.is_empty() { "\n  " } else { ",\n  " });
        // Rows are made of names, addresses and plain text, which always serialize.
        text.push_str(&serde_json::to_string(&row).unwrap_or_default());
    }
    text
}
