//! The files of the status branch: one a pool, one a node, a summary for people.
//!
//! In: a [`Snapshot`] and the files written last. Out: the files to write, byte for byte the same while
//! nothing that they tell has changed; and a snapshot read back from files.
//! Not here: when to write ([`super::scribe`]), the commit and its message ([`super::message`]), disks (`agent`).
//!
//! What a scribe alone knows (its name, its view's number, the time) is in no file: another scribe that
//! sees the same writes the same bytes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::condition::{Condition, ConditionType, Truth, carry_over};
use super::snapshot::{MemberState, MemberStatus, Note, Snapshot, VipState, VipStatus};
use super::wall::Wall;
use crate::digest::Digest;
use crate::name::{NodeName, PoolName};
use crate::revision::Revision;
use crate::vip::Vip;

/// Contents by path below `status/`: `pools/POOL.yaml`, `nodes/NODE.yaml`, `SUMMARY.md`.
pub type Files = BTreeMap<String, String>;

/// A pool with more VIPs than this is summed up in `SUMMARY.md`; its own file has them all.
const LISTED: usize = 256;

/// One status document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document<S> {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    metadata: Metadata,
    status: S,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Metadata {
    name: String,
}

/// `status` of a PoolStatus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PoolBody {
    observed_revision: Option<Revision>,
    attempted_revision: Option<Revision>,
    observed_digest: Option<Digest>,
    conditions: Vec<Condition>,
    vips: Vec<VipLine>,
}

/// One of `status.vips`. What `desired` and `actual` tell already is not said twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct VipLine {
    vip: Vip,
    desired: Option<NodeName>,
    actual: Option<NodeName>,
    since: Wall,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    state: Option<VipState>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<Note>,
}

/// `status` of a NodeStatus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeBody {
    observed_revision: Option<Revision>,
    attempted_revision: Option<Revision>,
    observed_digest: Option<Digest>,
    conditions: Vec<Condition>,
    state: MemberState,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    version: Option<String>,
    /// How many VIPs it has.
    holds: usize,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<Note>,
}

const API_VERSION: &str = "rendezvip/v1";

fn document<S: Serialize>(kind: &str, name: &str, status: S) -> String {
    let metadata = Metadata { name: name.to_owned() };
    let document = Document { api_version: API_VERSION.to_owned(), kind: kind.to_owned(), metadata, status };
    quoted(&serde_yaml::to_string(&document).expect("a status document serializes"))
}

/// Puts times and IPv6 addresses into quotes: a YAML 1.1 reader (PyYAML, Ansible) would make a date of the
/// first, and of `2001:10:20:30:40:50:51:52` a number to base 60.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    for line in text.lines() {
        match line.rsplit_once(": ") {
            Some((key, value))
                if ["since", "lastTransitionTime", "- vip"].contains(&key.trim_start())
                    && value.contains(':')
                    && value.bytes().all(|b| b.is_ascii_alphanumeric() || b":-.".contains(&b)) =>
            {
                let _ = writeln!(out, "{key}: '{value}'");
            }
            _ => {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    out
}

/// The files under `folder` that are documents of ours; what a stranger wrote there is passed over.
fn documents<S: for<'a> Deserialize<'a>>(files: &Files, folder: &str) -> BTreeMap<String, S> {
    files
        .iter()
        .filter(|(path, _)| path.starts_with(folder))
        .filter_map(|(_, text)| serde_yaml::from_str::<Document<S>>(text).ok())
        .filter(|document| document.api_version == API_VERSION)
        .map(|document| (document.metadata.name, document.status))
        .collect()
}

/// A file that should tell of a pool or a node and cannot be read; one of another group is somebody else's.
pub fn damaged(files: &Files) -> Option<&str> {
    let is_read = |path: &str, text: &str| match path.split_once('/') {
        Some(("pools", _)) => serde_yaml::from_str::<Document<PoolBody>>(text).is_ok(),
        Some(("nodes", _)) => serde_yaml::from_str::<Document<NodeBody>>(text).is_ok(),
        _ => true,
    };
    let foreign = |text: &str| {
        let version = serde_yaml::from_str::<serde_yaml::Value>(text).ok();
        let version = version.as_ref().and_then(|it| it.get("apiVersion")?.as_str());
        version.is_some_and(|it| it != API_VERSION)
    };
    files
        .iter()
        .find(|(path, text)| path.ends_with(".yaml") && !is_read(path, text) && !foreign(text))
        .map(|(path, _)| path.as_str())
}

/// What the files written last say of each VIP: who had it, and since when.
pub(super) fn owners(files: &Files) -> BTreeMap<Vip, (Option<NodeName>, Wall)> {
    let pools = documents::<PoolBody>(files, "pools/");
    pools.into_values().flat_map(|pool| pool.vips).map(|line| (line.vip, (line.actual, line.since))).collect()
}

/// What the files written last say of each node.
pub(super) fn member_states(files: &Files) -> BTreeMap<String, MemberState> {
    documents::<NodeBody>(files, "nodes/").into_iter().map(|(name, body)| (name, body.state)).collect()
}

/// The revision that the files written last say runs.
pub(super) fn observed(files: &Files) -> Option<Revision> {
    documents::<PoolBody>(files, "pools/")
        .into_values()
        .find_map(|pool| pool.observed_revision)
        .or_else(|| documents::<NodeBody>(files, "nodes/").into_values().find_map(|node| node.observed_revision))
}

/// The files that tell what `snapshot` knows. Times are kept from `previous` where what they date is the same.
pub fn render(snapshot: &Snapshot, previous: &Files) -> Files {
    let mut snapshot = snapshot.clone();
    snapshot.sort();
    let owners = owners(previous);
    for vip in &mut snapshot.vips {
        vip.since = match owners.get(&vip.vip) {
            Some((actual, since)) if *actual == vip.actual => *since,
            _ => vip.since.whole_second(),
        };
    }
    let mut files = Files::new();
    let now = snapshot.at.whole_second();
    let before = documents::<PoolBody>(previous, "pools/");
    for (pool, vips) in by_pool(&snapshot.vips) {
        let mut conditions = pool_conditions(&snapshot, vips, now);
        carry_over(before.get(pool.as_str()).map_or(&[], |pool| &pool.conditions), &mut conditions);
        let body = PoolBody {
            observed_revision: snapshot.revision.clone(),
            attempted_revision: snapshot.attempted.clone(),
            observed_digest: snapshot.digest,
            conditions,
            vips: vips.iter().map(line).collect(),
        };
        files.insert(format!("pools/{pool}.yaml"), document("PoolStatus", pool.as_str(), body));
    }
    let before = documents::<NodeBody>(previous, "nodes/");
    let mut worst = Vec::new();
    for member in &snapshot.members {
        let mut conditions = node_conditions(&snapshot, member, now);
        carry_over(before.get(member.node.as_str()).map_or(&[], |node| &node.conditions), &mut conditions);
        worst.push(conditions[0].clone());
        let body = NodeBody {
            observed_revision: member.revision.clone(),
            attempted_revision: member.attempted.clone(),
            observed_digest: member.digest,
            conditions,
            state: member.state,
            version: member.version.clone(),
            holds: holds(&snapshot, &member.node),
            note: member.note.clone(),
        };
        files.insert(format!("nodes/{}.yaml", member.node), document("NodeStatus", member.node.as_str(), body));
    }
    files.insert("SUMMARY.md".to_owned(), summary(&snapshot));
    files
}

/// Reads files back, for `status --repo`: `node` wrote them, `at` is when.
pub fn parse(files: &Files, node: NodeName, at: Wall) -> Snapshot {
    let pools = documents::<PoolBody>(files, "pools/");
    let nodes = documents::<NodeBody>(files, "nodes/");
    let first = pools.values().next();
    let conditions = first.map(|pool| pool.conditions.clone()).unwrap_or_default();
    let mut snapshot = Snapshot {
        node,
        cluster: None,
        revision: observed(files),
        attempted: first.and_then(|pool| pool.attempted_revision.clone()),
        digest: first.and_then(|pool| pool.observed_digest),
        at,
        view: None,
        members: Vec::new(),
        vips: Vec::new(),
        conditions,
    };
    for (name, body) in nodes {
        let Ok(node) = NodeName::new(&name) else { continue };
        snapshot.members.push(MemberStatus {
            node,
            state: body.state,
            since: body.conditions.first().map_or(at, |ready| ready.since),
            version: body.version,
            revision: body.observed_revision,
            attempted: body.attempted_revision,
            digest: body.observed_digest,
            note: body.note,
        });
    }
    // Ready and Stalled of the whole are the worst of the pools.
    for pool in pools.values() {
        for (whole, part) in snapshot.conditions.iter_mut().zip(&pool.conditions) {
            let bad = if part.kind == ConditionType::Ready { Truth::False } else { Truth::True };
            if whole.kind == part.kind && whole.status != bad && part.status == bad {
                *whole = part.clone();
            }
        }
    }
    for (name, body) in pools {
        let Ok(pool) = PoolName::new(&name) else { continue };
        for line in body.vips {
            let state = line.state.unwrap_or_else(|| implied(line.desired.as_ref(), line.actual.as_ref()));
            snapshot.vips.push(VipStatus {
                vip: line.vip,
                pool: pool.clone(),
                desired: line.desired,
                actual: line.actual,
                state,
                since: line.since,
                note: line.note,
            });
        }
    }
    snapshot.sort();
    snapshot
}

/// The state that a reader takes from the two names alone.
fn implied(desired: Option<&NodeName>, actual: Option<&NodeName>) -> VipState {
    match (desired, actual) {
        (None, None) => VipState::Unowned,
        (desired, actual) if desired == actual => VipState::Held,
        _ => VipState::Moving,
    }
}

fn line(vip: &VipStatus) -> VipLine {
    let told = implied(vip.desired.as_ref(), vip.actual.as_ref()) == vip.state;
    VipLine {
        vip: vip.vip,
        desired: vip.desired.clone(),
        actual: vip.actual.clone(),
        since: vip.since,
        state: (!told).then_some(vip.state),
        note: vip.note.clone(),
    }
}

fn by_pool(vips: &[VipStatus]) -> impl Iterator<Item = (&PoolName, &[VipStatus])> {
    vips.chunk_by(|a, b| a.pool == b.pool).map(|vips| (&vips[0].pool, vips))
}

fn holds(snapshot: &Snapshot, node: &NodeName) -> usize {
    snapshot.vips.iter().filter(|vip| vip.actual.as_ref() == Some(node)).count()
}

fn of_whole(snapshot: &Snapshot, kind: ConditionType) -> Option<&Condition> {
    snapshot.conditions.iter().find(|condition| condition.kind == kind)
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Is there something that a person should know of this VIP?
fn wants_attention(vip: &VipStatus) -> bool {
    vip.state != VipState::Held || vip.note.is_some()
}

/// What is the matter with a VIP: a reason and a sentence.
fn complaint(vip: &VipStatus) -> (&str, String) {
    if let Some(note) = &vip.note {
        return (&note.reason, note.message.clone());
    }
    let name = |node: &Option<NodeName>| node.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
    match vip.state {
        VipState::Held => ("Held", format!("{} has it", name(&vip.actual))),
        VipState::Moving => ("Moving", format!("on its way from {} to {}", name(&vip.actual), name(&vip.desired))),
        VipState::Unowned => ("Unowned", "no node can take it".to_owned()),
        VipState::Conflict => ("Conflict", "somebody else claims it".to_owned()),
        VipState::Refused => ("Refused", "its node refuses it".to_owned()),
    }
}

fn complaints<'a>(vips: &[&'a VipStatus]) -> Option<(&'a str, String)> {
    let first = *vips.first()?;
    let (reason, text) = complaint(first);
    let same = vips.iter().filter(|vip| complaint(vip).1 == text).count();
    let who = if same > 1 { format!("{} and {} more", first.vip, same - 1) } else { first.vip.to_string() };
    let rest = vips.len() - same;
    let rest = if rest > 0 { format!("; {rest} more for other reasons") } else { String::new() };
    Some((reason, format!("{who}: {text}{rest}")))
}

fn pool_conditions(snapshot: &Snapshot, vips: &[VipStatus], now: Wall) -> Vec<Condition> {
    let whole = |kind| of_whole(snapshot, kind);
    let take = |condition: &Condition| (condition.status, condition.reason.clone(), condition.message.clone());
    let mut amiss: Vec<&VipStatus> = vips.iter().filter(|vip| wants_attention(vip)).collect();
    // What will not mend itself goes first.
    amiss.sort_by_key(|vip| std::cmp::Reverse(vip.state));
    let stuck: Vec<&VipStatus> =
        amiss.iter().copied().filter(|vip| matches!(vip.state, VipState::Conflict | VipState::Refused)).collect();
    let moving: Vec<&VipStatus> = amiss.iter().copied().filter(|vip| vip.state == VipState::Moving).collect();

    let ready = match (complaints(&amiss), whole(ConditionType::Ready)) {
        (Some((reason, message)), _) => (Truth::False, reason.to_owned(), message),
        (None, Some(ready)) if ready.status != Truth::True => take(ready),
        (None, _) if vips.len() == 1 => (Truth::True, "Held".to_owned(), "its VIP is held".to_owned()),
        (None, _) => (Truth::True, "Held".to_owned(), format!("all {} VIPs are held", vips.len())),
    };
    let reconciling = match (complaints(&moving), whole(ConditionType::Reconciling)) {
        (Some((reason, message)), _) => (Truth::True, reason.to_owned(), message),
        (None, Some(reconciling)) => take(reconciling),
        (None, None) => (Truth::False, "UpToDate".to_owned(), String::new()),
    };
    let stalled = match (whole(ConditionType::Stalled), complaints(&stuck)) {
        (Some(stalled), _) if stalled.status == Truth::True => take(stalled),
        (_, Some((reason, message))) => (Truth::True, reason.to_owned(), message),
        (Some(stalled), None) => take(stalled),
        (None, None) => (Truth::False, "NotStalled".to_owned(), String::new()),
    };
    three(ready, reconciling, stalled, now)
}

type Finding = (Truth, String, String);

fn three(ready: Finding, reconciling: Finding, stalled: Finding, now: Wall) -> Vec<Condition> {
    let kinds = [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled];
    let findings = [ready, reconciling, stalled];
    kinds
        .into_iter()
        .zip(findings)
        .map(|(kind, (status, reason, message))| Condition { kind, status, reason, message, since: now })
        .collect()
}

fn node_conditions(snapshot: &Snapshot, member: &MemberStatus, now: Wall) -> Vec<Condition> {
    let finding = |truth, reason: &str, message: String| (truth, reason.to_owned(), message);
    let live = matches!(member.state, MemberState::Alive | MemberState::Suspect);
    let behind = live && snapshot.digest.is_some() && member.digest != snapshot.digest;
    let newer = behind && member.revision.is_some() && member.revision == snapshot.attempted;
    let revision =
        |revision: &Option<Revision>| revision.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let lag = format!("it has loaded {}; {} runs", revision(&member.revision), revision(&snapshot.revision));
    let ready = match (member.state, &member.note) {
        (MemberState::Dead, _) => finding(Truth::False, "Dead", "it is not heard".to_owned()),
        (MemberState::Left, _) => finding(Truth::False, "Left", "it said goodbye".to_owned()),
        (MemberState::Suspect, _) => finding(Truth::Unknown, "Suspect", "it was not heard lately".to_owned()),
        (MemberState::Alive, Some(note)) => finding((!behind).into(), &note.reason, note.message.clone()),
        (MemberState::Alive, None) if behind && !newer => finding(Truth::False, "Behind", lag.clone()),
        (MemberState::Alive, None) => finding(Truth::True, "Alive", "it is heard, and in the view".to_owned()),
    };
    let reconciling = match (newer, behind) {
        (true, _) => finding(Truth::True, "Activating", lag),
        (false, true) => finding(Truth::True, "Behind", lag),
        (false, false) => finding(Truth::False, "UpToDate", "it has loaded what runs".to_owned()),
    };
    // Whoever saw the same revision refuses it for the same reason, whichever node writes this.
    let same = live && member.attempted.is_some() && member.attempted == snapshot.attempted;
    let stalled = match of_whole(snapshot, ConditionType::Stalled) {
        Some(stalled) if stalled.status == Truth::True && (same || member.node == snapshot.node) => {
            finding(Truth::True, &stalled.reason, stalled.message.clone())
        }
        _ => finding(Truth::False, "NotStalled", "nothing is refused".to_owned()),
    };
    three(ready, reconciling, stalled, now)
}

/// One cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn summary(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let amiss: Vec<&VipStatus> = snapshot.vips.iter().filter(|vip| wants_attention(vip)).collect();
    let total = snapshot.vips.len();
    let verdict = match amiss.len() {
        0 if total == 0 => "no VIPs are declared".to_owned(),
        0 if total == 1 => "the one VIP is held".to_owned(),
        0 => format!("all {total} VIPs are held"),
        n => format!("{n} of {} {} attention", count(total, "VIP"), if n == 1 { "needs" } else { "need" }),
    };
    let cluster = snapshot.cluster.as_ref().map_or_else(|| "rendezvip".to_owned(), ToString::to_string);
    let _ = writeln!(text, "# {cluster}: {verdict}\n");
    match (&snapshot.revision, &snapshot.digest) {
        (Some(revision), Some(digest)) => {
            let _ = writeln!(text, "`{revision}` runs (digest `sha256:{}`).", digest.short());
        }
        _ => text.push_str("Nothing was activated yet.\n"),
    }
    if snapshot.attempted != snapshot.revision
        && let Some(attempted) = &snapshot.attempted
    {
        let _ = writeln!(text, "Last seen at the source: `{attempted}`.");
    }

    if !snapshot.conditions.is_empty() {
        text.push_str("\n| condition | status | reason | message |\n| --- | --- | --- | --- |\n");
        for Condition { kind, status, reason, message, .. } in &snapshot.conditions {
            let _ = writeln!(text, "| {kind:?} | {status} | {reason} | {} |", cell(message));
        }
    }
    if !amiss.is_empty() {
        text.push_str("\n## Needs attention\n\n| VIP | pool | state | why |\n| --- | --- | --- | --- |\n");
        for vip in amiss.iter().take(LISTED) {
            let _ = writeln!(text, "| {} | {} | {} | {} |", vip.vip, vip.pool, vip.state, cell(&complaint(vip).1));
        }
        if amiss.len() > LISTED {
            let _ = writeln!(text, "\nAnd {} more: see the files in `pools/`.", amiss.len() - LISTED);
        }
    }
    text.push_str("\n## Nodes\n\n| node | state | VIPs | version | revision |\n| --- | --- | ---: | --- | --- |\n");
    for member in &snapshot.members {
        let revision = member.revision.as_ref().map_or_else(String::new, |r| format!("`{}`", r.short()));
        let version = member.version.as_deref().map_or_else(String::new, cell);
        let vips = holds(snapshot, &member.node);
        let _ = writeln!(text, "| {} | {} | {vips} | {version} | {revision} |", member.node, member.state);
    }
    for (pool, vips) in by_pool(&snapshot.vips) {
        let _ = writeln!(text, "\n## Pool {pool}\n");
        let name = |node: &Option<NodeName>| node.as_ref().map_or_else(|| "–".to_owned(), ToString::to_string);
        if vips.len() > LISTED {
            let _ = writeln!(text, "{} VIPs; all of them are in `pools/{pool}.yaml`.\n", vips.len());
            text.push_str("| node | has | should have |\n| --- | ---: | ---: |\n");
            let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
            for vip in vips {
                counts.entry(name(&vip.actual)).or_default().0 += 1;
                counts.entry(name(&vip.desired)).or_default().1 += 1;
            }
            for (node, (has, should)) in counts {
                let _ = writeln!(text, "| {node} | {has} | {should} |");
            }
            continue;
        }
        text.push_str("| VIP | desired | actual | since |\n| --- | --- | --- | --- |\n");
        for vip in vips {
            let (desired, actual) = (name(&vip.desired), name(&vip.actual));
            let _ = writeln!(text, "| {} | {desired} | {actual} | {} |", vip.vip, vip.since);
        }
    }
    text
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
