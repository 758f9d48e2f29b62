//! The three kinds of a repository, each document by itself.
//!
//! In: a document's tree. Out: a draft of it: whatever could be made out, with places, so that the checks
//! across documents (`cross`) see what a person meant in spite of an error elsewhere.
//! Not here: anything that needs two documents.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::addresses::{self, Range};
use super::desired::{Attach, Cluster, Failback, Failover, Partition, PlacementMode, Profile};
use super::diagnostic::{Code, Diagnostic, Place, Span, meant, one_of, quoted};
use super::fields::{Fields, Reader};
use super::tree::{Document, Node, Value};
use crate::name::{CheckName, ClusterName, InterfaceName, NodeName, PoolName};
use crate::vip::{NotAVip, Vip};

/// The one apiVersion.
pub const API_VERSION: &str = "rendezvip/v1";
/// UDP port of gossip where a Node names none.
pub const DEFAULT_PORT: u16 = 7847;
/// What is not written otherwise.
const FAILBACK: Failback = Failback::After(Duration::from_secs(10));

/// Shortest and longest heartbeat.
pub const HEARTBEAT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(10));

const GROUP: &str = "rendezvip";
const KINDS: [&str; 3] = ["Cluster", "Node", "VipPool"];
const STATUS_KINDS: [&str; 2] = ["PoolStatus", "NodeStatus"];
const ELSEWHERE: &str =
    "files that are not manifests belong outside `source.git.path`, or into a folder with a `.rendezvipignore`";

/// What all documents say, before they are held against each other.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub clusters: Vec<(Place, Option<Cluster>)>,
    pub nodes: Vec<NodeDraft>,
    pub pools: Vec<PoolDraft>,
    /// Something was not understood, so that what seems to be missing may be there.
    pub incomplete: bool,
}

#[derive(Debug)]
pub(super) struct NodeDraft {
    pub place: Place,
    pub name: NodeName,
    pub labels: BTreeMap<String, String>,
    pub address: Option<(SocketAddr, Place)>,
    pub weight: Option<u8>,
    pub cordon: bool,
}

#[derive(Debug)]
pub(super) struct PoolDraft {
    pub place: Place,
    /// The name as written, for messages.
    pub called: String,
    pub name: Option<PoolName>,
    pub addresses_place: Place,
    pub entries: Vec<Entry>,
    /// Every entry was understood.
    pub entries_complete: bool,
    pub avoid_buggy: bool,
    pub selector: BTreeMap<String, String>,
    pub selector_place: Option<Place>,
    pub prefer: Vec<(NodeName, Place)>,
    pub interfaces: Vec<InterfaceName>,
    pub attach: Attach,
    pub together: bool,
    pub failback: Failback,
    pub linger: Duration,
    pub partition: Partition,
    pub health: Vec<CheckName>,
    pub suspend: bool,
}

/// One entry of a pool's `addresses`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub place: Place,
    pub text: String,
    pub range: Range,
}

/// What a document is.
enum Kind<'n> {
    Cluster(Fields<'n>, Span),
    Node(Fields<'n>),
    Pool(Fields<'n>),
}

/// Reads one document into the draft.
pub(super) fn read(file: &Arc<str>, document: Document, draft: &mut Draft, out: &mut Vec<Diagnostic>) {
    let before = out.len();
    let mut r = Reader { file, out };
    let Some(kind) = kind(&mut r, &document) else {
        // Only warnings: it was somebody else's. An error: it may have been anything.
        draft.incomplete |= r.out[before..].iter().any(Diagnostic::is_error);
        return;
    };
    r.out.extend(document.remarks.iter().cloned());
    match kind {
        Kind::Cluster(fields, span) => cluster(&mut r, &fields, span, draft),
        Kind::Node(fields) => node(&mut r, &fields, draft),
        Kind::Pool(fields) => pool(&mut r, &fields, draft),
    }
}

fn kind<'n>(r: &mut Reader<'_>, document: &'n Document) -> Option<Kind<'n>> {
    let root = &document.root;
    let Value::Mapping(entries) = &root.value else {
        // Nothing but comments, or the space after a last `---`.
        if !super::fields::is_null(root) {
            r.error(Code::NotAManifest, root.span, "this document is not a mapping, so not a manifest", ELSEWHERE);
        }
        return None;
    };
    let value = |key: &str| entries.iter().find(|(k, _)| k.text == key).map(|(_, value)| value);
    let kind_text = value("kind").and_then(|node| match &node.value {
        Value::Scalar { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let Some(version) = value("apiVersion") else {
        let ours = kind_text.is_some_and(|kind| KINDS.contains(&kind) || kind == "Agent");
        let help = if ours { "begin it with `apiVersion: rendezvip/v1`" } else { ELSEWHERE };
        let first = entries.first().map_or(root.span, |(key, _)| key.span);
        r.error(Code::NotAManifest, first, "this mapping has no `apiVersion`, so it is not a manifest", help);
        return None;
    };
    let text = r.text(version, "apiVersion")?;
    let group = text.split_once('/').map_or(text, |(group, _)| group);
    if text.is_empty() {
        let help = format!("write `apiVersion: {API_VERSION}`");
        r.error(Code::NotAManifest, version.span, "apiVersion is empty, so this is not a manifest", help);
        return None;
    }
    if group != GROUP {
        let near = meant(group.split('.').next().unwrap_or(group), &[GROUP]).is_some();
        if near {
            let message = format!("apiVersion {} is another group's, so this document is skipped", quoted(text));
            let near = Diagnostic::new(Code::NearGroup, r.file, version.span, message);
            r.report(near.help(format!("did you mean `{API_VERSION}`?")));
        }
        return None;
    }
    if text != API_VERSION {
        let message = format!("apiVersion {} is not known", quoted(text));
        r.error(Code::UnknownVersion, version.span, message, format!("write `apiVersion: {API_VERSION}`"));
        return None;
    }
    let Some(kind_node) = value("kind") else {
        let first = entries.first().map_or(root.span, |(key, _)| key.span);
        r.error(Code::MissingKey, first, "this manifest has no `kind`", format!("write {}", one_of(&KINDS)));
        return None;
    };
    let kind = r.text(kind_node, "kind")?;
    if STATUS_KINDS.contains(&kind) {
        return None;
    }
    if kind == "Agent" {
        let message = "an Agent is a node's own file and is never taken from git";
        let help = "keep it on the node as /etc/rendezvip/node.yaml, and check it by `rendezvip validate --agent FILE`";
        r.error(Code::AgentInRepository, kind_node.span, message, help);
        return None;
    }
    if !KINDS.contains(&kind) {
        let help = match meant(kind, &KINDS) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write {}; {ELSEWHERE}", one_of(&KINDS)),
        };
        r.error(Code::UnknownKind, kind_node.span, format!("kind {} is not known", quoted(kind)), help);
        return None;
    }
    let fields = r.mapping(root, &format!("a {kind}"), &["apiVersion", "kind", "metadata", "spec"])?;
    Some(match kind {
        "Cluster" => Kind::Cluster(fields, kind_node.span),
        "Node" => Kind::Node(fields),
        _ => Kind::Pool(fields),
    })
}

fn place(r: &Reader<'_>, span: Span) -> Place {
    Place { file: r.file.clone(), span }
}

/// `metadata.name` as written, its node and the rest of the metadata.
fn metadata<'n>(
    r: &mut Reader<'_>,
    fields: &Fields<'n>,
    kind: &str,
    known: &[&str],
) -> (Option<&'n Node>, Option<Fields<'n>>) {
    let metadata = r.require(fields, "metadata", kind).and_then(|node| r.mapping(node, "metadata", known));
    let name = metadata.as_ref().and_then(|metadata| r.require(metadata, "name", "metadata"));
    (name, metadata)
}

fn cluster(r: &mut Reader<'_>, fields: &Fields<'_>, span: Span, draft: &mut Draft) {
    let (name, _) = metadata(r, fields, "a Cluster", &["name"]);
    let name = name.and_then(|node| r.name::<ClusterName>(node, "a Cluster's name"));
    let spec = fields.get("spec").and_then(|node| r.mapping(node, "spec", &["placement", "failover"]));
    let (mut placement, mut heartbeat, mut profile) = (None, None, None);
    if let Some(spec) = spec {
        let words = [("balanced", PlacementMode::Balanced), ("rendezvous", PlacementMode::Rendezvous)];
        placement = spec.get("placement").and_then(|node| r.word(node, "placement", &words));
        if let Some(failover) = spec.get("failover").and_then(|n| r.mapping(n, "failover", &["heartbeat", "profile"])) {
            heartbeat =
                failover.get("heartbeat").and_then(|n| r.duration_within(n, "heartbeat", HEARTBEAT.0, HEARTBEAT.1));
            let words = [("default", Profile::Default), ("fast", Profile::Fast)];
            profile = failover.get("profile").and_then(|node| r.word(node, "profile", &words));
        }
    }
    let cluster = name.map(|name| Cluster {
        name,
        placement: placement.unwrap_or_default(),
        failover: Failover {
            heartbeat: heartbeat.unwrap_or(Duration::from_millis(100)),
            profile: profile.unwrap_or_default(),
        },
    });
    draft.clusters.push((place(r, span), cluster));
}

fn node(r: &mut Reader<'_>, fields: &Fields<'_>, draft: &mut Draft) {
    let (name_node, metadata) = metadata(r, fields, "a Node", &["name", "labels"]);
    let labels = metadata.and_then(|metadata| metadata.get("labels")).map(|node| labels(r, node, "labels"));
    let name = name_node.and_then(|node| r.name::<NodeName>(node, "a Node's name").map(|name| (name, node.span)));
    let spec = r.require(fields, "spec", "a Node").and_then(|n| r.mapping(n, "spec", &["address", "weight", "cordon"]));
    let mut address = None;
    let (mut weight, mut cordon) = (Some(1), false);
    if let Some(spec) = spec {
        address = r.require(&spec, "address", "spec").and_then(|node| {
            let span = node.span;
            node_address(r, node).map(|address| (address, place(r, span)))
        });
        if let Some(node) = spec.get("weight") {
            weight = r.integer(node, "weight", 0..=100).and_then(|weight| u8::try_from(weight).ok());
        }
        cordon = spec.get("cordon").and_then(|node| r.boolean(node, "cordon")).unwrap_or(false);
    }
    match name {
        Some((name, span)) => draft.nodes.push(NodeDraft {
            place: place(r, span),
            name,
            labels: labels.unwrap_or_default(),
            address,
            weight,
            cordon,
        }),
        None => draft.incomplete = true,
    }
}

fn node_address(r: &mut Reader<'_>, node: &Node) -> Option<SocketAddr> {
    let form = "write IP:port or IP, an IPv6 address in brackets and quotes: 10.0.0.1:7847, \"[fd00::1]:7847\"";
    if let Value::List(_) | Value::Mapping(_) = &node.value {
        let message = "address is a text, not a list or a mapping";
        r.error(Code::WrongType, node.span, message, "an IPv6 address in brackets needs quotes: \"[fd00::1]:7847\"");
        return None;
    }
    let text = r.text(node, "address")?;
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = |text: &str| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DEFAULT_PORT));
    let address = match bracketed {
        Some(inner) => bare(inner).filter(SocketAddr::is_ipv6),
        None => text.parse::<SocketAddr>().ok().or_else(|| bare(text)),
    };
    let zeros = text.rsplit_once(':').is_some_and(|(host, port)| {
        (host.ends_with(']') || !host.contains(':')) && port.len() > 1 && port.starts_with('0')
    });
    if zeros && address.is_some() {
        r.error(
            Code::BadNodeAddress,
            node.span,
            format!("address {} has a port with leading zeros", quoted(text)),
            form,
        );
        return None;
    }
    let Some(address) = address else {
        let mut fault = addresses::parse(text).err();
        let code = Code::BadNodeAddress;
        let help = match fault.take() {
            Some(fault) if fault.help.contains("octal") => fault.help,
            _ => form.to_owned(),
        };
        r.error(code, node.span, format!("address cannot be {}", quoted(text)), help);
        return None;
    };
    // `fd00::10:7847` is an address too, and not the one that its writer meant.
    if bracketed.is_none() && address.is_ipv6() && !text.starts_with('[') && text.ends_with(":7847") {
        let ip = text.trim_end_matches(":7847");
        let help = format!("write \"[{ip}]:7847\" if the end is the port, or \"[{text}]\" if it is not");
        r.error(Code::BadNodeAddress, node.span, format!("address {} can be read in two ways", quoted(text)), help);
        return None;
    }
    let scope = matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0);
    let why = match Vip::new(address.ip()) {
        _ if scope => Some("it has a zone".to_owned()),
        _ if address.port() == 0 => Some("port 0 is no port".to_owned()),
        Err(NotAVip::Mapped) => Some("write the IPv4 address itself".to_owned()),
        Err(why) => Some(format!("it is {why}")),
        Ok(_) => None,
    };
    if let Some(why) = why {
        let message = format!("address cannot be {}: {why}", quoted(text));
        r.error(
            Code::BadNodeAddress,
            node.span,
            message,
            "a Node's address is the unicast address that its peers reach it by",
        );
        return None;
    }
    Some(address)
}

/// Labels as Kubernetes has them: `[prefix/]name`, 63 characters of letters, digits, `-`, `_` and `.`.
fn labels(r: &mut Reader<'_>, node: &Node, what: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(fields) = r.open_mapping(node, what, "labels such as `rack: r1`") else { return labels };
    for (key, value) in fields.entries() {
        let name = match key.text.split_once('/') {
            Some((prefix, name)) if NodeName::new(prefix).is_ok() => name,
            Some(_) => "",
            None => &key.text,
        };
        let rule = "at most 63 letters, digits, `-`, `_` and `.`, a letter or digit first and last";
        if name.is_empty() || !is_label(name) {
            r.error(Code::BadLabel, key.span, format!("{} cannot be a label's key", quoted(&key.text)), rule);
            continue;
        }
        let Some(text) = r.text(value, &format!("label {}", quoted(&key.text))) else { continue };
        if !is_label(text) {
            r.error(Code::BadLabel, value.span, format!("{} cannot be a label's value", quoted(text)), rule);
            continue;
        }
        labels.insert(key.text.clone(), text.to_owned());
    }
    labels
}

fn is_label(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && edge(text.chars().next())
        && edge(text.chars().last())
}

const POOL_KEYS: [&str; 12] = [
    "addresses",
    "avoidBuggyIPs",
    "interfaces",
    "nodeSelector",
    "prefer",
    "attach",
    "together",
    "failback",
    "handover",
    "partition",
    "health",
    "suspend",
];

fn pool(r: &mut Reader<'_>, fields: &Fields<'_>, draft: &mut Draft) {
    let (name_node, _) = metadata(r, fields, "a VipPool", &["name"]);
    let name = name_node.and_then(|node| r.name::<PoolName>(node, "a VipPool's name"));
    let called = match name_node.map(|node| &node.value) {
        Some(Value::Scalar { text, .. }) => text.clone(),
        _ => String::new(),
    };
    let own_place = place(r, name_node.map_or(fields.span, |node| node.span));
    let Some(spec) = r.require(fields, "spec", "a VipPool").and_then(|n| r.mapping(n, "spec", &POOL_KEYS)) else {
        return;
    };
    let addresses = r.require(&spec, "addresses", "spec");
    let items = addresses.and_then(|node| r.list(node, "addresses"));
    let mut entries = Vec::new();
    for item in items.unwrap_or_default() {
        entries.extend(entry(r, item));
    }
    let entries_complete = items.is_some_and(|items| items.len() == entries.len());
    let boolean = |r: &mut Reader<'_>, key: &str| spec.get(key).and_then(|node| r.boolean(node, key)).unwrap_or(false);
    let mut selector = BTreeMap::new();
    if let Some(fields) = spec.get("nodeSelector").and_then(|n| r.mapping(n, "nodeSelector", &["matchLabels"])) {
        selector = fields.get("matchLabels").map(|n| labels(r, n, "matchLabels")).unwrap_or_default();
    }
    let prefer = spec.get("prefer").map(|node| r.names::<NodeName>(node, "prefer", "a node")).unwrap_or_default();
    let plain = |names: Vec<(InterfaceName, Span)>| names.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let mut interfaces =
        spec.get("interfaces").map(|n| plain(r.names(n, "interfaces", "an interface"))).unwrap_or_default();
    interfaces.sort();
    let mut health: Vec<CheckName> = spec
        .get("health")
        .map(|n| r.names::<CheckName>(n, "health", "a check").into_iter().map(|(name, _)| name).collect())
        .unwrap_or_default();
    health.sort();
    let attach = [("interface", Attach::Interface), ("loopback", Attach::Loopback), ("none", Attach::None)];
    let attach = spec.get("attach").and_then(|n| r.word(n, "attach", &attach)).unwrap_or_default();
    let partition = [("strict", Partition::Strict), ("available", Partition::Available)];
    let partition = spec.get("partition").and_then(|n| r.word(n, "partition", &partition)).unwrap_or_default();
    let failback = spec.get("failback").and_then(|n| failback(r, n));
    let linger = spec
        .get("handover")
        .and_then(|n| r.mapping(n, "handover", &["linger"]))
        .and_then(|handover| handover.get("linger"))
        .and_then(|n| r.duration_within(n, "linger", Duration::ZERO, Duration::from_secs(24 * 3600)));
    draft.pools.push(PoolDraft {
        place: own_place,
        called,
        name,
        addresses_place: place(r, addresses.map_or(spec.span, |node| node.span)),
        entries,
        entries_complete,
        avoid_buggy: boolean(r, "avoidBuggyIPs"),
        selector,
        selector_place: spec.key("nodeSelector").map(|span| place(r, span)),
        prefer: prefer.into_iter().map(|(name, span)| (name, place(r, span))).collect(),
        interfaces,
        attach,
        together: boolean(r, "together"),
        failback: failback.unwrap_or(FAILBACK),
        linger: linger.unwrap_or(Duration::from_secs(30)),
        partition,
        health,
        suspend: boolean(r, "suspend"),
    });
}

fn entry(r: &mut Reader<'_>, node: &Node) -> Option<Entry> {
    if let Value::Mapping(_) = &node.value {
        let message = "an address is a text, not a mapping";
        r.error(
            Code::WrongType,
            node.span,
            message,
            "an IPv6 address that begins or ends with `:` needs quotes: \"fd99::\"",
        );
        return None;
    }
    let text = r.text(node, "an address")?;
    match addresses::parse(text) {
        Ok(range) => Some(Entry { place: place(r, node.span), text: text.to_owned(), range }),
        Err(fault) => {
            r.error(fault.code, node.span, fault.message, fault.help);
            None
        }
    }
}

fn failback(r: &mut Reader<'_>, node: &Node) -> Option<Failback> {
    if let Value::Scalar { .. } = &node.value {
        let text = r.text(node, "failback")?;
        if text == "manual" {
            return Some(Failback::Manual);
        }
        let help = match super::fields::duration(text) {
            Ok(_) => format!("write `failback: {{after: {text}}}`"),
            Err(_) => "write `failback: {after: 10s}` or `failback: manual`".to_owned(),
        };
        r.error(Code::UnknownWord, node.span, format!("failback cannot be {}", quoted(text)), help);
        return None;
    }
    let fields = r.mapping(node, "failback", &["after"])?;
    let Some(after) = fields.get("after") else { return Some(FAILBACK) };
    r.duration_within(after, "after", Duration::ZERO, Duration::from_secs(24 * 3600)).map(Failback::After)
}
