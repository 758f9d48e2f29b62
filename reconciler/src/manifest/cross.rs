//! All documents held against each other, and what is left made into [`Desired`].
//!
//! In: the draft of each document. Out: `Desired`, or every clash and everything that points nowhere.
//! Of two that clash the later by path, then by line, is at fault, and both are named.
//! Not here: a document by itself (`kinds`), the digest (`canonical`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::addresses::{MOST_VIPS, confuses_buggy_firmware, step};
use super::canonical;
use super::desired::{Attach, Cluster, Desired, Node, Partition, Pool};
use super::diagnostic::{Code, Diagnostic, Place, Span, meant, quoted};
use super::kinds::{Draft, Entry, NodeDraft, PoolDraft};
use crate::name::{InterfaceName, NodeName, PoolName};
use crate::vip::Vip;

/// IPv6 addresses on one interface from which on MLD makes adding them slow (design: Announce).
const MANY_IPV6: usize = 1_000;

/// Neighbours that a Linux host remembers of a family by default (gc_thresh3 in arp(7)); other systems have about as many.
const NEIGHBOURS: usize = 1_024;

fn at(code: Code, place: &Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(code, &place.file, place.span, message)
}

/// Checks the whole, and makes `Desired` of it if nothing is wrong so far.
///
/// `allowed` is what the nodes' own files let a repository claim, where that is known.
pub(super) fn check(draft: Draft, allowed: Option<&[IpNet]>, out: &mut Vec<Diagnostic>) -> Option<Desired> {
    let cluster = cluster(&draft, out);
    let vips = vips(&draft, out);
    nodes(&draft, &vips, out);
    pool_names(&draft, out);
    let nodes: BTreeMap<&NodeName, &NodeDraft> = draft.nodes.iter().rev().map(|node| (&node.name, node)).collect();
    for pool in &draft.pools {
        references(pool, &nodes, draft.incomplete, out);
    }
    if out.iter().any(Diagnostic::is_error) {
        return None;
    }
    warn(&draft, &nodes, &vips, out);
    warn_of_neighbours(&draft, &vips, out);
    if let Some(allowed) = allowed {
        warn_of_what_is_not_allowed(&draft, allowed, &vips, out);
    }
    let desired_nodes = nodes.values().map(|node| {
        let (address, _) = node.address.as_ref()?;
        let node_value =
            Node { labels: node.labels.clone(), address: *address, weight: node.weight?, cordon: node.cordon };
        Some((node.name.clone(), node_value))
    });
    let nodes: Option<BTreeMap<NodeName, Node>> = desired_nodes.collect();
    let mut addresses: BTreeMap<usize, Vec<Vip>> = BTreeMap::new();
    for claim in &vips {
        addresses.entry(claim.pool).or_default().push(claim.vip);
    }
    let mut pools = BTreeMap::new();
    for (index, pool) in draft.pools.into_iter().enumerate() {
        let (name, pool) = finish(pool, addresses.remove(&index).unwrap_or_default())?;
        pools.insert(name, pool);
    }
    let digest = canonical::digest(&cluster.clone()?, nodes.as_ref()?, &pools);
    Some(Desired { cluster: cluster?, nodes: nodes?, pools, digest })
}

fn finish(pool: PoolDraft, addresses: Vec<Vip>) -> Option<(PoolName, Pool)> {
    let value = Pool {
        addresses,
        interfaces: pool.interfaces,
        selector: pool.selector,
        prefer: pool.prefer.into_iter().map(|(name, _)| name).collect(),
        attach: pool.attach,
        together: pool.together,
        failback: pool.failback,
        linger: pool.linger,
        partition: pool.partition,
        health: pool.health,
        suspend: pool.suspend,
    };
    Some((pool.name?, value))
}

fn cluster(draft: &Draft, out: &mut Vec<Diagnostic>) -> Option<Cluster> {
    let Some((first, cluster)) = draft.clusters.first() else {
        if !draft.incomplete {
            let file: Arc<str> = ".".into();
            let found = draft.nodes.len() + draft.pools.len();
            let message = if found == 0 { "no manifests were found" } else { "no Cluster is declared" };
            let help = "add a file with `apiVersion: rendezvip/v1`, `kind: Cluster` and `metadata: {name: …}`; \
                        only *.yaml and *.yml count";
            out.push(Diagnostic::new(Code::NoCluster, &file, Span::FIRST, message).help(help));
        }
        return None;
    };
    for (place, _) in &draft.clusters[1..] {
        let second = at(Code::SecondCluster, place, "a second Cluster is declared");
        out.push(
            second.label(format!("the first is at {first}")).help("a repository describes one cluster: remove one"),
        );
    }
    if draft.nodes.is_empty() && !draft.incomplete {
        let help = "add a `kind: Node` for each machine, with the address that its peers reach it by";
        out.push(at(Code::NoNodes, first, "no Node is declared").help(help));
    }
    cluster.clone()
}

/// An address and the entry that claims it.
struct Claim {
    vip: Vip,
    pool: usize,
    entry: usize,
}

/// Expands every entry, as far as the limit allows, and reports addresses that are claimed twice.
fn vips(draft: &Draft, out: &mut Vec<Diagnostic>) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    let mut full = false;
    for (index, pool) in draft.pools.iter().enumerate() {
        let before = claims.len();
        for (number, entry) in pool.entries.iter().enumerate() {
            if full {
                break;
            }
            let room = MOST_VIPS - claims.len();
            let new = entry.range.vips(pool.avoid_buggy).take(room + 1);
            claims.extend(new.map(|vip| Claim { vip, pool: index, entry: number }));
            if claims.len() > MOST_VIPS {
                claims.truncate(MOST_VIPS);
                full = true;
                let message = format!("the repository has more than {MOST_VIPS} VIPs from here on");
                let help =
                    format!("a repository holds at most {MOST_VIPS} VIPs: make ranges smaller, or split the cluster");
                out.push(at(Code::TooManyVips, &entry.place, message).help(help));
            }
        }
        if pool.entries_complete && claims.len() == before && !full {
            let message = if pool.entries.is_empty() {
                format!("pool {} has no addresses", quoted(&pool.called))
            } else {
                format!("pool {} has no addresses but those that avoidBuggyIPs skips", quoted(&pool.called))
            };
            let help = "give it an address, a range or a CIDR, or remove the pool";
            out.push(at(Code::NoAddresses, &pool.addresses_place, message).help(help));
        }
    }
    // Drafts are in order of path and line, so among claims of one address the first entry is the earlier one.
    claims.sort_by_key(|claim| (claim.vip, claim.pool, claim.entry));
    let mut reported = BTreeSet::new();
    let mut first = 0;
    for index in 1..claims.len() {
        let (earlier, later) = (&claims[first], &claims[index]);
        if earlier.vip != later.vip {
            first = index;
        } else if reported.insert((later.pool, later.entry)) {
            let pools = (&draft.pools[earlier.pool], &draft.pools[later.pool]);
            let entries = (&pools.0.entries[earlier.entry], &pools.1.entries[later.entry]);
            out.push(clash(later.vip, earlier.pool == later.pool, &pools.0.called, entries.0, entries.1));
        }
    }
    claims.dedup_by_key(|claim| claim.vip);
    claims
}

fn clash(vip: Vip, same_pool: bool, other_pool: &str, earlier: &Entry, later: &Entry) -> Diagnostic {
    let message = if same_pool {
        format!("`{vip}` is in pool {} twice", quoted(other_pool))
    } else {
        format!("`{vip}` is claimed by pool {} too", quoted(other_pool))
    };
    let (mine, theirs) = (later.range, earlier.range);
    let rest_after = (mine.first >= theirs.first && mine.last > theirs.last).then(|| step(theirs.last, 1)).flatten();
    let rest_before = (mine.last <= theirs.last && mine.first < theirs.first).then(|| step(theirs.first, -1)).flatten();
    let help = match (rest_after, rest_before) {
        (Some(start), _) if start == mine.last => format!("write `{start}` alone"),
        (Some(start), _) => format!("start this range at {start}"),
        (_, Some(end)) if end == mine.first => format!("write `{end}` alone"),
        (_, Some(end)) => format!("end this range at {end}"),
        _ => "remove it here or there".to_owned(),
    };
    at(Code::ClaimedTwice, &later.place, message)
        .label(format!("overlaps {} ({})", quoted(&earlier.text).trim_matches('`'), earlier.place))
        .help(help)
}

fn nodes(draft: &Draft, vips: &[Claim], out: &mut Vec<Diagnostic>) {
    let mut names: BTreeMap<&NodeName, &Place> = BTreeMap::new();
    let mut addresses: BTreeMap<IpAddr, (&NodeDraft, &Place)> = BTreeMap::new();
    for node in &draft.nodes {
        if let Some(first) = names.get(&node.name) {
            let twice = at(Code::NodeTwice, &node.place, format!("node `{}` is declared twice", node.name));
            out.push(twice.label(format!("first at {first}")).help("remove one, or give it another name"));
        } else {
            names.insert(&node.name, &node.place);
        }
        let Some((address, place)) = &node.address else { continue };
        let ip = address.ip();
        if let Some((other, first)) = addresses.get(&ip).filter(|(other, _)| other.name != node.name) {
            let message = format!("node `{}` has the address of node `{}`", node.name, other.name);
            let twice = at(Code::NodeAddressTwice, place, message);
            out.push(twice.label(format!("`{ip}` is at {first} too")).help("each node has an address of its own"));
        } else {
            addresses.entry(ip).or_insert((node, place));
        }
        let Ok(index) = vips.binary_search_by(|claim| claim.vip.address().cmp(&ip)) else { continue };
        let pool = &draft.pools[vips[index].pool];
        let entry = &pool.entries[vips[index].entry];
        let help = "a VIP moves and a node's address stays: leave it out of the pool, or give the node another";
        let diagnostic = if entry.place > *place {
            at(Code::VipIsNode, &entry.place, format!("`{ip}` is the address of node `{}`", node.name))
                .label(format!("declared at {place}"))
        } else {
            at(Code::VipIsNode, place, format!("`{ip}` is a VIP of pool {}", quoted(&pool.called)))
                .label(format!("claimed at {}", entry.place))
        };
        out.push(diagnostic.help(help));
    }
}

fn pool_names(draft: &Draft, out: &mut Vec<Diagnostic>) {
    let mut names: BTreeMap<&str, &PoolDraft> = BTreeMap::new();
    for pool in draft.pools.iter().filter(|pool| pool.name.is_some()) {
        if let Some(first) = names.get(pool.called.as_str()) {
            let twice = at(Code::PoolTwice, &pool.place, format!("pool {} is declared twice", quoted(&pool.called)));
            out.push(twice.label(format!("first at {}", first.place)).help("remove one, or give it another name"));
        } else {
            names.insert(&pool.called, pool);
        }
    }
}

fn selects(pool: &PoolDraft, node: &NodeDraft) -> bool {
    pool.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

fn can_own(node: &NodeDraft) -> bool {
    node.weight != Some(0)
}

fn references(pool: &PoolDraft, nodes: &BTreeMap<&NodeName, &NodeDraft>, incomplete: bool, out: &mut Vec<Diagnostic>) {
    // With documents that were not understood, whatever seems to be missing may be in one of them.
    if incomplete || nodes.is_empty() {
        return;
    }
    if !nodes.values().any(|node| selects(pool, node) && can_own(node)) {
        let place = pool.selector_place.as_ref().unwrap_or(&pool.place);
        let wanted: Vec<String> = pool.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let witnesses = nodes.values().any(|node| selects(pool, node));
        let message = match (pool.selector.is_empty(), witnesses) {
            (true, _) => format!("no node can own pool {}: all have weight 0", quoted(&pool.called)),
            (false, true) => format!("pool {} selects witnesses alone: all have weight 0", quoted(&pool.called)),
            (false, false) => {
                format!("pool {} selects no node: none has {}", quoted(&pool.called), quoted(&wanted.join(", ")))
            }
        };
        let mut diagnostic = at(Code::SelectsNobody, place, message);
        if let Some((key, _)) = pool.selector.first_key_value().filter(|_| !witnesses) {
            let mut values: Vec<&str> = nodes.values().filter_map(|n| n.labels.get(key)).map(String::as_str).collect();
            values.sort_unstable();
            values.dedup();
            values.truncate(5);
            diagnostic = diagnostic.help(if values.is_empty() {
                format!("no node has a label `{key}`: give it under `metadata.labels` of the Nodes")
            } else {
                format!("nodes have {}", values.iter().map(|v| format!("`{key}: {v}`")).collect::<Vec<_>>().join(", "))
            });
        }
        out.push(diagnostic);
    }
    for (name, place) in &pool.prefer {
        if nodes.contains_key(name) {
            continue;
        }
        let known: Vec<&str> = nodes.keys().map(|name| name.as_str()).collect();
        let help = match meant(name.as_str(), &known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "declare it by a `kind: Node`, or leave it out".to_owned(),
        };
        out.push(at(Code::PreferUndeclared, place, format!("preferred node `{name}` is not declared")).help(help));
    }
}

/// What works and may surprise; only where nothing is wrong.
fn warn(draft: &Draft, nodes: &BTreeMap<&NodeName, &NodeDraft>, vips: &[Claim], out: &mut Vec<Diagnostic>) {
    let strict = |pool: &PoolDraft| pool.partition == Partition::Strict;
    if nodes.len() == 2 && (draft.pools.is_empty() || draft.pools.iter().any(strict)) {
        let later = &draft.nodes[1];
        let message = "two nodes have no majority when one is gone, so strict pools stop with either of them";
        let help = "declare a third machine with `weight: 0` as a witness: it votes and owns nothing; or let the pools be \
                    `partition: available`, which one node alone serves, and both while the network between them is cut";
        out.push(at(Code::NoWitness, &later.place, message).help(help));
    }
    let mut ipv6 = 0;
    for (index, pool) in draft.pools.iter().enumerate() {
        let owners: Vec<_> = nodes.values().filter(|node| selects(pool, node) && can_own(node)).collect();
        if let ([only], true) = (owners.as_slice(), nodes.len() > 1) {
            let place = pool.selector_place.as_ref().unwrap_or(&pool.place);
            let message =
                format!("node `{}` alone can own pool {}: nobody takes over", only.name, quoted(&pool.called));
            out.push(at(Code::OneOwner, place, message).help("let the selector take in a second node"));
        }
        for (name, place) in &pool.prefer {
            if owners.iter().all(|node| node.name != *name) {
                let message = format!("preferred node `{name}` cannot own pool {}", quoted(&pool.called));
                let help = "its weight is 0, or nodeSelector leaves it out";
                out.push(at(Code::PreferIdle, place, message).help(help));
            }
        }
        for entry in pool.entries.iter().filter(|entry| entry.range.is_single()) {
            if pool.avoid_buggy && confuses_buggy_firmware(entry.range.first) {
                let message = format!("`{}` is skipped because of avoidBuggyIPs", entry.range.first);
                out.push(at(Code::Skipped, &entry.place, message).help("leave it out, or set `avoidBuggyIPs: false`"));
            }
        }
        if pool.attach == Attach::Interface {
            let before = ipv6;
            ipv6 += vips.iter().filter(|claim| claim.pool == index && !claim.vip.is_ipv4()).count();
            if before <= MANY_IPV6 && ipv6 > MANY_IPV6 {
                let message = format!(
                    "{ipv6} IPv6 VIPs with `attach: interface`: a node that gets them needs seconds to add them"
                );
                let help = "set `attach: loopback`; above some 1,000 IPv6 addresses multicast listening makes an interface slow";
                out.push(at(Code::ManyIpv6, &pool.addresses_place, message).help(help));
            }
        }
    }
}

/// Counted per interface as the pools name it; what is not named is one segment, most likely.
fn warn_of_neighbours(draft: &Draft, vips: &[Claim], out: &mut Vec<Diagnostic>) {
    let mut sizes = vec![[0; 2]; draft.pools.len()];
    for claim in vips {
        sizes[claim.pool][usize::from(!claim.vip.is_ipv4())] += 1;
    }
    let mut counts: BTreeMap<(Option<&InterfaceName>, usize), usize> = BTreeMap::new();
    for (pool, size) in draft.pools.iter().zip(&sizes) {
        for (family, count) in size.iter().enumerate() {
            let interface = pool.interfaces.first();
            let sum = counts.entry((interface, family)).or_default();
            let before = *sum;
            *sum += count;
            if before <= NEIGHBOURS && *sum > NEIGHBOURS {
                let family = ["IPv4", "IPv6"][family];
                let place = interface.map_or_else(|| "one segment".to_owned(), |it| format!("the segment of `{it}`"));
                let message =
                    format!("{sum} {family} VIPs on {place}: a neighbour with usual settings remembers {NEIGHBOURS}");
                let help = "on routers and hosts that talk to all of them raise net.ipv4.neigh.default.gc_thresh1 to 3 (ipv6 too), or \
                            the like; what is not remembered is asked for again and again";
                out.push(at(Code::ManyNeighbours, &pool.addresses_place, message).help(help));
            }
        }
    }
}

fn warn_of_what_is_not_allowed(draft: &Draft, allowed: &[IpNet], vips: &[Claim], out: &mut Vec<Diagnostic>) {
    // The first of each entry, and how many.
    let mut outside: BTreeMap<(usize, usize), (Vip, usize)> = BTreeMap::new();
    for claim in vips {
        if !allowed.iter().any(|net| net.contains(&claim.vip.address())) {
            outside.entry((claim.pool, claim.entry)).or_insert((claim.vip, 0)).1 += 1;
        }
    }
    for ((pool, entry), (first, count)) in outside {
        let entry = &draft.pools[pool].entries[entry];
        let message = match count {
            1 => format!("`{first}` is in no prefix that a node allows, so nobody takes it"),
            _ => format!("`{first}` and {} more are in no prefix that a node allows, so nobody takes them", count - 1),
        };
        let nets: Vec<String> = allowed.iter().take(8).map(|net| format!("`{net}`")).collect();
        let help = match nets.is_empty() {
            true => "`allow.prefixes` of every node's own file is empty".to_owned(),
            false => format!("the nodes' own files allow {}", nets.join(", ")),
        };
        out.push(at(Code::OutsideAllow, &entry.place, message).help(help));
    }
}
