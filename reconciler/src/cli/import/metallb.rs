//! MetalLB's objects, as a cluster.
//!
//! In: YAML files: IPAddressPool and L2Advertisement (or the ConfigMap of MetalLB before 0.13), and, if there, what
//! `kubectl get nodes,services -A -o yaml` prints. Out: a [`Draft`]. Not here: how it is written (`draft`).
//!
//! MetalLB announces an address once a Service has it, rendezvip every address of a pool. So where
//! Services are among the files, a pool gets the addresses that these have; else all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::draft::{Draft, Fate, NodeDraft, PoolDraft, named};
use crate::cli::failure::Failure;
use crate::digest::Digest;
use crate::manifest::addresses::{self, Range};
use crate::manifest::desired::PlacementMode;
use crate::manifest::tree::{self, Node, Value};
use crate::name::{ClusterName, InterfaceName, NodeName, PoolName};
use crate::vip::Vip;

/// The label by which Kubernetes selects one node.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// What was found in the files.
#[derive(Default)]
struct Objects {
    pools: Vec<Pool>,
    advertisements: Vec<Advertisement>,
    nodes: BTreeMap<NodeName, NodeDraft>,
    /// Addresses that Services have, each with the first one of its Service, by which MetalLB elects.
    used: BTreeMap<IpAddr, IpAddr>,
    /// Was any Service among the files?
    services: bool,
}

struct Pool {
    name: String,
    labels: BTreeMap<String, String>,
    place: Place,
    entries: Vec<(String, Place)>,
    avoid_buggy: bool,
    /// Of a ConfigMap: announced without an advertisement.
    announced: bool,
}

#[derive(Default)]
struct Advertisement {
    pools: Vec<String>,
    pool_selectors: Vec<Selector>,
    node_selectors: Vec<Selector>,
    interfaces: Vec<InterfaceName>,
}

/// A label selector of Kubernetes.
#[derive(Default)]
struct Selector {
    labels: BTreeMap<String, String>,
    /// Key, operator, values.
    expressions: Vec<(String, String, Vec<String>)>,
}

type Place = (Arc<str>, u32);

impl Selector {
    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.expressions.iter().all(|(key, operator, values)| {
                let has = labels.get(key);
                match operator.as_str() {
                    "In" => has.is_some_and(|value| values.contains(value)),
                    "NotIn" => !has.is_some_and(|value| values.contains(value)),
                    "Exists" => has.is_some(),
                    "DoesNotExist" => has.is_none(),
                    _ => false,
                }
            })
    }
}

/// Reads the files, each a path and its text; `nodes` are the names and addresses that the user gave.
pub fn import(
    files: &[(String, Vec<u8>)],
    nodes: &BTreeMap<NodeName, IpAddr>,
    cluster: ClusterName,
) -> Result<Draft, Failure> {
    let mut draft = Draft::new(cluster);
    // MetalLB's own order, so that every owner stays.
    draft.placement = PlacementMode::Rendezvous;
    let mut objects = Objects::default();
    for (path, bytes) in files {
        let file: Arc<str> = path.as_str().into();
        let unreadable = |problem: String| {
            Failure::new("RV0650", problem, "name files of YAML, as `kubectl get -o yaml` writes them")
        };
        let text = tree::text(&file, bytes).map_err(|diagnostic| unreadable(diagnostic.to_string()))?;
        let tree = tree::read(&file, text);
        if let Some(broken) = tree.broken {
            return Err(unreadable(broken.to_string()));
        }
        for document in &tree.documents {
            object(&document.root, &file, &mut objects, &mut draft);
        }
    }
    for (name, address) in nodes {
        objects.nodes.entry(name.clone()).or_insert(NodeDraft { address: *address, labels: BTreeMap::new() }).address =
            *address;
    }
    if objects.nodes.is_empty() {
        let help =
            "name them: --nodes a=10.0.0.1,b=10.0.0.2, or give what `kubectl get nodes -o yaml` prints as a file too";
        return Err(Failure::new("RV0651", "nothing says which nodes there are", help));
    }
    draft.nodes = std::mem::take(&mut objects.nodes);
    let pools = std::mem::take(&mut objects.pools);
    for found in &pools {
        pool(found, &objects, &mut draft);
    }
    draft.nodes.values_mut().for_each(|node| node.labels.retain(|key, _| key.starts_with("metallb/")));
    Ok(draft)
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Mapping(entries) => entries.iter().find(|(found, _)| found.text == key).map(|(_, value)| value),
        _ => None,
    }
}

fn at<'n>(node: &'n Node, path: &[&str]) -> Option<&'n Node> {
    path.iter().try_fold(node, |node, key| get(node, key))
}

fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => items,
        _ => &[],
    }
}

fn texts(node: Option<&Node>) -> Vec<String> {
    items(node).iter().filter_map(text).map(str::to_owned).collect()
}

fn mapping(node: Option<&Node>) -> BTreeMap<String, String> {
    match node.map(|node| &node.value) {
        Some(Value::Mapping(entries)) => {
            entries.iter().filter_map(|(key, value)| Some((key.text.clone(), text(value)?.to_owned()))).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn selectors(node: Option<&Node>) -> Vec<Selector> {
    let selector = |node: &Node| Selector {
        labels: mapping(get(node, "matchLabels")),
        expressions: items(get(node, "matchExpressions"))
            .iter()
            .filter_map(|one| {
                let word = |key| get(one, key).and_then(text).map(str::to_owned);
                Some((word("key")?, word("operator")?, texts(get(one, "values"))))
            })
            .collect(),
    };
    items(node).iter().map(selector).collect()
}

fn line(node: &Node) -> u32 {
    node.span.start.line
}

fn object(root: &Node, file: &Arc<str>, objects: &mut Objects, draft: &mut Draft) {
    let kind = get(root, "kind").and_then(text).unwrap_or_default();
    let called = at(root, &["metadata", "name"]).and_then(text).unwrap_or_default();
    let lost = |draft: &mut Draft, node: &Node, message: String| draft.note(Fate::Lost, (file, line(node)), message);
    match kind {
        "List" => items(get(root, "items")).iter().for_each(|item| object(item, file, objects, draft)),
        "Node" => {
            let addresses = items(at(root, &["status", "addresses"]));
            let internal = |node: &&Node| get(node, "type").and_then(text) == Some("InternalIP");
            let address = addresses.iter().find(internal).and_then(|node| get(node, "address")).and_then(text);
            match (NodeName::new(called), address.and_then(|address| address.parse().ok())) {
                (Ok(name), Some(address)) => {
                    let labels = mapping(at(root, &["metadata", "labels"]));
                    objects.nodes.insert(name, NodeDraft { address, labels });
                }
                _ => lost(draft, root, format!("Node {called}: it has no InternalIP")),
            }
        }
        "Service" => {
            objects.services = true;
            let ingress = items(at(root, &["status", "loadBalancer", "ingress"]));
            let ips: Vec<IpAddr> = ingress.iter().filter_map(|node| text(get(node, "ip")?)?.parse().ok()).collect();
            if let [first, _, ..] = ips[..] {
                let message = format!(
                    "Service {called}: one node announces all its addresses, after {first}; here each has its own owner, unless \
                     they are a pool with `together: true`"
                );
                draft.note(Fate::Differs, (file, line(root)), message);
            }
            objects.used.extend(ips.iter().filter_map(|ip| Some((*ip, *ips.first()?))));
        }
        "IPAddressPool" => {
            let spec = get(root, "spec");
            let found = spec.and_then(|spec| get(spec, "addresses"));
            let entries =
                items(found).iter().filter_map(|node| Some((text(node)?.to_owned(), (file.clone(), line(node)))));
            let avoid = spec.and_then(|spec| get(spec, "avoidBuggyIPs")).and_then(text) == Some("true");
            objects.pools.push(Pool {
                name: called.to_owned(),
                labels: mapping(at(root, &["metadata", "labels"])),
                place: (file.clone(), line(root)),
                entries: entries.collect(),
                avoid_buggy: avoid,
                announced: false,
            });
            for key in ["autoAssign", "serviceAllocation"] {
                if let Some(node) = spec.and_then(|spec| get(spec, key)) {
                    lost(draft, node, format!("{key} of pool {called}: rendezvip gives no addresses to Services"));
                }
            }
        }
        "L2Advertisement" => {
            let empty = Node { value: Value::Mapping(Vec::new()), span: root.span };
            let spec = get(root, "spec").unwrap_or(&empty);
            let mut interfaces = Vec::new();
            for node in items(get(spec, "interfaces")) {
                match text(node).and_then(|name| name.parse().ok()) {
                    Some(name) => interfaces.push(name),
                    None => lost(draft, node, "not the name of an interface".to_owned()),
                }
            }
            if let Some(node) = get(spec, "serviceSelectors") {
                lost(draft, node, format!("serviceSelectors of L2Advertisement {called}: rendezvip knows no Services"));
            }
            objects.advertisements.push(Advertisement {
                pools: texts(get(spec, "ipAddressPools")),
                pool_selectors: selectors(get(spec, "ipAddressPoolSelectors")),
                node_selectors: selectors(get(spec, "nodeSelectors")),
                interfaces,
            });
        }
        "ConfigMap" => config_map(root, file, objects, draft),
        "BGPPeer" | "BGPAdvertisement" | "BFDProfile" | "Community" => {
            lost(draft, root, format!("{kind} {called}: rendezvip answers on a layer-2 segment and speaks no BGP"));
        }
        "" => lost(draft, root, "a document without a kind".to_owned()),
        _ => lost(draft, root, format!("{kind} {called}: it says nothing of addresses")),
    }
}

/// MetalLB before 0.13: one text of YAML in a ConfigMap.
fn config_map(root: &Node, file: &Arc<str>, objects: &mut Objects, draft: &mut Draft) {
    let Some(config) = at(root, &["data", "config"]) else {
        draft.note(Fate::Lost, (file, line(root)), "ConfigMap: it has no `config` of MetalLB".to_owned());
        return;
    };
    let inner = tree::read(file, text(config).unwrap_or_default());
    // The text's own first line is where the scalar's span begins.
    let offset = line(config).saturating_sub(1);
    let place = |node: &Node| (file.clone(), offset + line(node));
    if let Some(broken) = &inner.broken {
        draft.note(Fate::Lost, (file, offset), format!("config: {}", broken.message));
    }
    for document in &inner.documents {
        let root = &document.root;
        for node in items(get(root, "address-pools")) {
            let name = get(node, "name").and_then(text).unwrap_or_default();
            let word = |key| get(node, key).and_then(text);
            if word("protocol") != Some("layer2") {
                let (file, line) = place(node);
                draft.note(
                    Fate::Lost,
                    (&file, line),
                    format!("pool {name}: rendezvip answers on a layer-2 segment and speaks no BGP"),
                );
                continue;
            }
            for (key, found) in ["auto-assign", "bgp-advertisements"].map(|key| (key, get(node, key))) {
                if let Some((file, line)) = found.map(place) {
                    draft.note(Fate::Lost, (&file, line), format!("{key} of pool {name}: it has no counterpart"));
                }
            }
            let entries = items(get(node, "addresses"));
            objects.pools.push(Pool {
                name: name.to_owned(),
                labels: BTreeMap::new(),
                place: place(node),
                entries: entries.iter().filter_map(|entry| Some((text(entry)?.to_owned(), place(entry)))).collect(),
                avoid_buggy: word("avoid-buggy-ips") == Some("true"),
                announced: true,
            });
        }
        for node in items(get(root, "peers")) {
            let (file, line) = place(node);
            draft.note(Fate::Lost, (&file, line), "peers: rendezvip answers on a layer-2 segment and speaks no BGP");
        }
    }
}

/// MetalLB takes a CIDR with host bits for its network.
fn range(entry: &str) -> Result<Range, String> {
    let entry = entry.trim();
    let text = match entry.parse::<IpNet>() {
        Ok(net) => net.trunc().to_string(),
        Err(_) => entry.to_owned(),
    };
    addresses::parse(&text).map_err(|fault| fault.message)
}

fn pool(found: &Pool, objects: &Objects, draft: &mut Draft) {
    let name: PoolName = named(&found.name, "pool");
    let (file, line) = &found.place;
    let here = (&**file, *line);
    let mine = |advertisement: &&Advertisement| {
        let all = advertisement.pools.is_empty() && advertisement.pool_selectors.is_empty();
        all || advertisement.pools.contains(&found.name)
            || advertisement.pool_selectors.iter().any(|selector| selector.selects(&found.labels))
    };
    let advertisements: Vec<&Advertisement> = objects.advertisements.iter().filter(mine).collect();
    if advertisements.is_empty() && !found.announced {
        let message = format!("pool {}: no L2Advertisement announces it", found.name);
        return draft.note(Fate::Lost, here, message);
    }
    let mut pool = PoolDraft { avoid_buggy: found.avoid_buggy, ..PoolDraft::default() };
    let mut vips = BTreeSet::new();
    for (entry, (file, line)) in &found.entries {
        let here = (&**file, *line);
        let range = match range(entry) {
            Ok(range) => range,
            Err(message) => {
                draft.note(Fate::Lost, here, message);
                continue;
            }
        };
        let inside: Vec<Vip> = range.vips(found.avoid_buggy).collect();
        let on_nodes: Vec<(NodeName, IpAddr)> = draft
            .nodes
            .iter()
            .filter(|(_, node)| inside.iter().any(|vip| vip.address() == node.address))
            .map(|(name, node)| (name.clone(), node.address))
            .collect();
        let taken = inside.iter().any(|vip| draft.owners.contains_key(vip));
        if objects.services || !on_nodes.is_empty() || taken {
            for (node, address) in on_nodes {
                draft.note(Fate::Lost, here, format!("{address}: it is the address of node {node} itself"));
            }
            let node_addresses: BTreeSet<IpAddr> = draft.nodes.values().map(|node| node.address).collect();
            let kept = inside.into_iter().filter(|vip| {
                (!objects.services || objects.used.contains_key(&vip.address()))
                    && !node_addresses.contains(&vip.address())
                    && !draft.owners.contains_key(vip)
            });
            let kept: Vec<Vip> = kept.filter(|vip| vips.insert(*vip)).collect();
            pool.addresses.extend(runs(&kept));
        } else {
            let text = if range.is_single() {
                range.first.to_string()
            } else {
                entry
                    .trim()
                    .parse::<IpNet>()
                    .map_or_else(|_| format!("{}-{}", range.first, range.last), |net| net.trunc().to_string())
            };
            pool.addresses.push(text);
            vips.extend(inside);
        }
    }
    if vips.is_empty() {
        let why =
            if objects.services { "no Service has an address of it" } else { "it has no address that can be a VIP" };
        return draft.note(Fate::Lost, here, format!("pool {}: {why}", found.name));
    }
    if !objects.services {
        let message = format!(
            "pool {}: MetalLB announces an address once a Service has it, rendezvip always ({}); give `kubectl get \
             services -A -o yaml` as a file too, or shorten the pool",
            found.name,
            crate::cli::plan::vips(vips.len())
        );
        draft.note(Fate::Differs, here, message);
    }
    for advertisement in &advertisements {
        pool.interfaces.extend(advertisement.interfaces.iter().cloned());
    }
    let selected = select(found, &name, &advertisements, &mut pool, draft);
    if draft.nodes.len() < 3 {
        pool.available = true;
        let message = format!(
            "pool {}: two nodes have no majority without each other, so it is `partition: available`, which may have two owners \
             when the network is cut, as MetalLB may; add a witness (a Node of weight 0) and make it strict",
            found.name
        );
        draft.note(Fate::Differs, here, message);
    }
    for vip in &vips {
        // speaker/layer2_controller.go: ascending sha256(node + "#" + ip).
        let first = objects.used.get(&vip.address()).copied().unwrap_or(vip.address());
        let hash = |node: &&NodeName| Digest::of(format!("{node}#{first}").as_bytes());
        draft.owners.extend(selected.iter().min_by_key(hash).map(|node| (*vip, node.clone())));
    }
    draft.pools.insert(name, pool);
}

/// The nodes that may announce a pool: those that any of its advertisements selects.
fn select(
    found: &Pool,
    name: &PoolName,
    advertisements: &[&Advertisement],
    pool: &mut PoolDraft,
    draft: &mut Draft,
) -> BTreeSet<NodeName> {
    let everybody = advertisements.iter().any(|one| one.node_selectors.is_empty()) || advertisements.is_empty();
    let selects = |name: &NodeName, node: &NodeDraft| {
        let mut labels = node.labels.clone();
        labels.entry(HOSTNAME.to_owned()).or_insert_with(|| name.to_string());
        everybody || advertisements.iter().flat_map(|one| &one.node_selectors).any(|selector| selector.selects(&labels))
    };
    let selected: BTreeSet<NodeName> =
        draft.nodes.iter().filter(|(name, node)| selects(name, node)).map(|(name, _)| name.clone()).collect();
    let here = (&*found.place.0, found.place.1);
    if selected.is_empty() {
        let message = format!(
            "pool {}: its nodeSelectors select none of the nodes, as nothing says which labels these have; every node may own \
             it (give `kubectl get nodes -o yaml` as a file too)",
            found.name
        );
        draft.note(Fate::Lost, here, message);
        return draft.nodes.keys().cloned().collect();
    }
    if selected.len() < draft.nodes.len() {
        let label = (format!("metallb/{name}"), "member".to_owned());
        for node in &selected {
            if let Some(node) = draft.nodes.get_mut(node) {
                node.labels.insert(label.0.clone(), label.1.clone());
            }
        }
        let message =
            format!("pool {}: its nodeSelectors became the label {} on {} nodes", found.name, label.0, selected.len());
        draft.note(Fate::Differs, here, message);
        pool.selector.extend([label]);
    }
    selected
}

/// Ascending addresses as ranges.
fn runs(vips: &[Vip]) -> Vec<String> {
    let follows = |a: &Vip, b: &Vip| match (a.address(), b.address()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.to_bits().checked_add(1) == Some(b.to_bits()),
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits().checked_add(1) == Some(b.to_bits()),
        _ => false,
    };
    let run = |run: &[Vip]| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    };
    vips.chunk_by(follows).map(run).collect()
}
