//! What an import came to: files, notes, and the owner of each VIP before and after.
//!
//! In: a [`Draft`], the forecast of what was written. Out: text or JSON. Not here: deciding any of it.

use serde::Serialize;

use super::draft::{Draft, Fate, Note};
use crate::cli::columns::columns;
use crate::cli::plan::{Forecast, vips};
use crate::manifest::diagnostic::printable;
use crate::name::{NodeName, PoolName};
use crate::vip::Vip;

/// The owner of a VIP before and after.
#[derive(Debug, Serialize)]
pub struct Owner<'a> {
    vip: Vip,
    pool: &'a PoolName,
    before: Option<&'a NodeName>,
    after: Option<&'a NodeName>,
}

/// Owners of every VIP, in order of pool and address.
pub fn owners<'a>(draft: &'a Draft, forecast: &'a Forecast) -> Vec<Owner<'a>> {
    let row = |(at, ranked): (usize, &'a crate::placement::RankedVip)| Owner {
        vip: ranked.vip,
        pool: &ranked.pool,
        before: draft.owners.get(&ranked.vip),
        after: forecast.placement.owner(at),
    };
    forecast.ranking.vips().iter().enumerate().map(row).collect()
}

/// The report for a person; `before` says who owns a VIP today.
pub fn human(draft: &Draft, files: &[String], out: &str, before: &str, owners: &[Owner<'_>]) -> String {
    let mut text = format!("wrote {} files to {out}\n", files.len());
    for file in files {
        text += &format!("  {file}\n");
    }
    for (fate, title) in [(Fate::Lost, "Not carried over"), (Fate::Differs, "Carried over, and works in another way")] {
        let notes: Vec<&Note> = draft.notes.iter().filter(|note| note.fate == fate).collect();
        if !notes.is_empty() {
            text += &format!("\n{title}\n");
            for note in notes {
                text += &format!("  {}:{}: {}\n", printable(&note.file), note.line, printable(&note.message));
            }
        }
    }
    let name = |node: Option<&NodeName>| node.map_or("-".to_owned(), NodeName::to_string);
    let rows: Vec<[String; 5]> = owners
        .iter()
        .map(|owner| {
            let same = if owner.before == owner.after { "stays" } else { "MOVES" };
            [owner.vip.to_string(), owner.pool.to_string(), name(owner.before), name(owner.after), same.to_owned()]
        })
        .collect();
    text += &format!("\nOwners\n{}", columns("  ", ["VIP", "POOL", before, "PLAN", ""], &rows));
    let moved = owners.iter().filter(|owner| owner.before != owner.after).count();
    text += &match moved {
        0 if owners.len() == 1 => "\nthe VIP stays where it is\n".to_owned(),
        0 => format!("\nall {} stay where they are\n", vips(owners.len())),
        moved => format!("\n{moved} of {} would move\n", vips(owners.len())),
    };
    text
}

#[derive(Serialize)]
struct Json<'a> {
    files: &'a [String],
    notes: Vec<JsonNote<'a>>,
    owners: &'a [Owner<'a>],
}

#[derive(Serialize)]
struct JsonNote<'a> {
    file: &'a str,
    line: u32,
    fate: &'static str,
    message: &'a str,
}

/// The report for a program.
pub fn json<'a>(draft: &'a Draft, files: &'a [String], owners: &'a [Owner<'a>]) -> String {
    let note = |note: &'a Note| JsonNote {
        file: &note.file,
        line: note.line,
        fate: note.fate.as_str(),
        message: &note.message,
    };
    let notes = draft.notes.iter().map(note).collect();
    // Names, addresses and text always serialize.
    serde_json::to_string_pretty(&Json { files, notes, owners }).unwrap_or_default() + "\n"
}
