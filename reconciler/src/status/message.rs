//! The message of a status commit: what happened, for a person who reads `git log --first-parent`.
//!
//! In: the files written last, and the snapshot now told. Out: a subject, the list of moves, trailers.
//! Not here: the files ([`super::files`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::files::{self, Files};
use super::snapshot::{MemberState, Snapshot};
use super::{ConditionType, Truth};
use crate::name::NodeName;
use crate::revision::Revision;
use crate::vip::Vip;

/// Pipelines on the branch need not run for a report (GitHub, GitLab, CircleCI, Bitbucket, Azure).
const MARK: &str = "[skip ci]";

/// Who wrote the commit; by it a scribe tells the cluster's own commits from a stranger's.
const SCRIBE: &str = "Rendezvip-Scribe: ";

/// Which revision the commit reports on.
const REVISION: &str = "Rendezvip-Revision: ";

/// A subject is not made longer by a second sentence than this (git's own advice is 50, forges cut at 72).
const SUBJECT: usize = 72;

/// Lines of the body.
const LINES: usize = 50;

/// Owners before and after of some VIPs, none where one left git.
type Moves = BTreeMap<(Option<NodeName>, Option<NodeName>), Vec<Vip>>;

/// The message for a commit that goes from `previous` to what `snapshot` knows.
pub fn message(previous: &Files, snapshot: &Snapshot) -> String {
    let sentences = sentences(previous, snapshot);
    let mut subject = sentences.first().cloned().unwrap_or_else(|| "Conditions changed".to_owned());
    let mut said = 1;
    while let Some(next) = sentences.get(said)
        && subject.chars().count() + 2 + next.chars().count() <= SUBJECT
    {
        let _ = write!(subject, "; {next}");
        said += 1;
    }
    let mut text = format!("{subject} {MARK}\n\n");
    if sentences.len() > said {
        for sentence in sentences.iter().take(LINES) {
            let _ = writeln!(text, "- {sentence}");
        }
        if sentences.len() > LINES {
            let _ = writeln!(text, "- and {} more", sentences.len() - LINES);
        }
        text.push('\n');
    }
    let _ = writeln!(text, "{SCRIBE}{}", snapshot.node);
    if let Some(revision) = &snapshot.revision {
        let _ = writeln!(text, "{REVISION}{revision}");
    }
    text
}

/// The node that wrote the commit with this message, if it is one of ours.
pub fn scribe_of(message: &str) -> Option<NodeName> {
    message.lines().rev().find_map(|line| line.strip_prefix(SCRIBE)?.parse().ok())
}

/// The revision that the commit with this message reports on, if it is one of ours.
pub fn revision_of(message: &str) -> Option<Revision> {
    message.lines().rev().find_map(|line| line.strip_prefix(REVISION)?.parse().ok())
}

fn sentences(previous: &Files, snapshot: &Snapshot) -> Vec<String> {
    let mut sentences = Vec::new();
    let before = files::owners(previous);
    let observed = files::observed(previous);
    if previous.is_empty() {
        let held = snapshot.vips.iter().filter(|vip| vip.actual.is_some()).count();
        let members = snapshot.members.iter().filter(|m| m.state == MemberState::Alive).count();
        sentences.push(format!("First report: {held} of {} VIPs held by {members} nodes", snapshot.vips.len()));
    }
    let stalled = snapshot.conditions.iter().find(|c| c.kind == ConditionType::Stalled && c.status == Truth::True);
    if let (Some(revision), false) = (&snapshot.revision, observed == snapshot.revision) {
        sentences.push(format!("{} runs", revision.short()));
    }
    if let (Some(stalled), Some(attempted)) = (stalled, &snapshot.attempted)
        && !previous.values().any(|text| text.contains(&format!("reason: {}", stalled.reason)))
    {
        sentences.push(format!("{} is refused: {}", attempted.short(), stalled.reason));
    }

    let mut moves = Moves::new();
    let mut gone: Vec<Vip> = Vec::new();
    if !previous.is_empty() {
        for vip in &snapshot.vips {
            let from = before.get(&vip.vip).and_then(|(actual, _)| actual.clone());
            if from != vip.actual {
                moves.entry((from, vip.actual.clone())).or_default().push(vip.vip);
            }
        }
        let present: std::collections::BTreeSet<Vip> = snapshot.vips.iter().map(|vip| vip.vip).collect();
        gone.extend(before.keys().filter(|vip| !present.contains(vip)));
    }
    let mut moves: Vec<_> = moves.into_iter().collect();
    moves.sort_by_key(|(_, vips)| std::cmp::Reverse(vips.len()));
    for ((from, to), vips) in &moves {
        let what = some(vips);
        let cause = from.as_ref().and_then(|from| cause(snapshot, from));
        let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
        sentences.push(match (from, to) {
            (Some(from), Some(to)) => format!("{to} took {what} from {from}{cause}"),
            (None, Some(to)) => format!("{to} took {what}"),
            (Some(from), None) => format!("{from} lost {what}{cause}"),
            (None, None) => continue,
        });
    }
    if !gone.is_empty() {
        sentences.push(format!("{} left git", some(&gone)));
    }

    let told = |name: &str| moves.iter().any(|((from, _), _)| from.as_ref().is_some_and(|from| from.as_str() == name));
    let before = files::member_states(previous);
    for member in &snapshot.members {
        let name = member.node.as_str();
        let known = before.get(name).copied();
        if known.is_some() && known != Some(member.state) && !told(name) {
            sentences.push(format!("{name} {}", in_words(member.state)));
        }
    }
    if sentences.is_empty()
        && let Some(vip) = snapshot.vips.iter().find(|vip| vip.note.is_some())
        && let Some(note) = &vip.note
    {
        sentences.push(format!("{}: {}", vip.vip, note.message));
    }
    sentences
}

fn some(vips: &[Vip]) -> String {
    match vips {
        [] => "nothing".to_owned(),
        [vip] => vip.to_string(),
        [vip, rest @ ..] => format!("{vip} and {} more", rest.len()),
    }
}

const fn in_words(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "is back",
        MemberState::Suspect => "is silent",
        MemberState::Dead => "is dead",
        MemberState::Left => "left",
    }
}

fn cause(snapshot: &Snapshot, node: &NodeName) -> Option<String> {
    let member = snapshot.members.iter().find(|member| member.node == *node)?;
    match (member.state, &member.note) {
        (MemberState::Alive, None) => None,
        (MemberState::Alive, Some(note)) => Some(note.message.clone()),
        (state, _) => Some(format!("{node} {}", in_words(state))),
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
