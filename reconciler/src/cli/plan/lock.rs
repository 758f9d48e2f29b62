//! `placement.lock.yaml`: owner and first backup of each VIP, a line each, so that a diff of it is the plan.
//!
//! In: [`Forecast`]. Out: the file's text, and in what an older text differs. Not here: files (`render`).
//!
//! The generation's digest is not in it: it would change with every commit, also with one that moves nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use super::forecast::Forecast;

/// What stands above the entries.
const HEADER: &str = "\
# Written by `rendezvip render`, not by hand: who has each VIP while every node is alive, and who is next.
# Commit it, and the diff of a pull request shows which VIPs it moves. rendezvip itself never reads it.
apiVersion: rendezvip/v1
kind: PlacementLock
";

/// The file's text.
pub fn lock(forecast: &Forecast) -> String {
    let vips = forecast.ranking.vips();
    let mut text = HEADER.to_owned();
    text += if vips.is_empty() { "vips: {}\n" } else { "vips:\n" };
    let mut pool = None;
    for (at, ranked) in vips.iter().enumerate() {
        if pool.replace(&ranked.pool) != Some(&ranked.pool) {
            text += &format!("  # pool {}\n", ranked.pool);
        }
        let key = if ranked.vip.is_ipv4() { ranked.vip.to_string() } else { format!("\"{}\"", ranked.vip) };
        let owner = quoted(forecast.placement.owner(at).map(|node| node.as_str()));
        let backup = quoted(forecast.placement.backups(at).next().map(|node| node.as_str()));
        text += &format!("  {key}: {{owner: {owner}, backup: {backup}}}\n");
    }
    text
}

/// A node's name as YAML: bare where no reader, of YAML 1.1 either, takes it for something else.
fn quoted(name: Option<&str>) -> String {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    match name {
        None => "null".to_owned(),
        Some(name) if name.starts_with(|sign: char| sign.is_ascii_digit()) || WORDS.contains(&name) => {
            format!("\"{name}\"")
        }
        Some(name) => name.to_owned(),
    }
}

/// One entry that differs: its VIP, and what the file has and what it should have, as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The key as written.
    pub vip: String,
    /// What stands in the file.
    pub found: Option<String>,
    /// What should.
    pub wanted: Option<String>,
}

/// In what an older text differs from the one wanted; nothing if it is up to date. Line ends of a
/// checkout on Windows do not count.
pub fn differences(found: &str, wanted: &str) -> Option<Vec<Difference>> {
    let found = found.replace("\r\n", "\n");
    if found == wanted {
        return None;
    }
    let (found, wanted) = (entries(&found), entries(wanted));
    let keys: std::collections::BTreeSet<&str> = found.keys().chain(wanted.keys()).copied().collect();
    let differs = keys.into_iter().filter(|key| found.get(key) != wanted.get(key)).map(|key| Difference {
        vip: key.trim_matches('"').to_owned(),
        found: found.get(key).map(|entry| (*entry).to_owned()),
        wanted: wanted.get(key).map(|entry| (*entry).to_owned()),
    });
    Some(differs.collect())
}

/// Entries by key, as far as the text looks like one of ours.
fn entries(text: &str) -> BTreeMap<&str, &str> {
    text.lines()
        .filter(|line| line.starts_with("  ") && !line.trim_start().starts_with('#'))
        .filter_map(|line| line.trim().split_once(": "))
        .collect()
}
