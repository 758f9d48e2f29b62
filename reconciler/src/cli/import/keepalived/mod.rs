//! keepalived.conf of one or more hosts, as a cluster.
//!
//! In: a file per host, or one with conditions per host. Out: a [`Draft`]. Not here: the language
//! (`syntax`), what one host says (`host`).
//!
//! An instance becomes a pool, a sync group one pool of all its instances. The hosts in descending
//! priority become `prefer`, so the master stays the owner, and all addresses stay `together`, as they
//! did. Hosts that do not have an instance are kept from its pool by a label.

mod host;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use host::{Host, Instance};
pub use syntax::Files;

use super::draft::{Draft, FailbackDraft, Fate, NodeDraft, PoolDraft, name_of_address, named};
use crate::cli::failure::Failure;
use crate::name::{ClusterName, NodeName, PoolName};
use crate::vip::Vip;

/// A host with the name that it gets.
struct Named {
    name: NodeName,
    file: String,
    address: Option<IpAddr>,
    host: Host,
}

/// Reads the files; `nodes` are the names and addresses that the user gave.
pub fn import(
    files: &dyn Files,
    paths: &[PathBuf],
    nodes: &BTreeMap<NodeName, IpAddr>,
    cluster: ClusterName,
) -> Result<Draft, Failure> {
    let mut draft = Draft::new(cluster);
    let mut hosts = Vec::new();
    for path in paths {
        hosts.extend(read(files, path, &mut draft)?);
    }
    let hosts = name_hosts(hosts, paths.len(), nodes);
    let mut known: BTreeMap<NodeName, NodeDraft> = BTreeMap::new();
    let plain = |address: IpAddr| NodeDraft { address, labels: BTreeMap::new() };
    known.extend(nodes.iter().map(|(name, address)| (name.clone(), plain(*address))));
    for host in &hosts {
        let Some(address) = host.address else {
            let message = format!("{}: nothing says which address node {} has", host.file, host.name);
            let help = format!("name all nodes: --nodes {}=10.0.0.1,…", host.name);
            return Err(Failure::new("RV0651", message, help));
        };
        known.entry(host.name.clone()).or_insert_with(|| plain(address));
    }
    draft.nodes = known;
    let peers: BTreeSet<IpAddr> = hosts
        .iter()
        .flat_map(|host| &host.host.instances)
        .flat_map(|instance| instance.peers.iter().copied())
        .collect();
    for peer in peers {
        if draft.nodes.values().all(|node| node.address != peer) {
            draft.nodes.insert(name_of_address(peer), plain(peer));
        }
    }
    for (name, found) in pools(&hosts) {
        pool(name, &found, &hosts, &mut draft);
    }
    for host in hosts {
        let own = draft.hosts.entry(host.name).or_default();
        own.checks.extend(host.host.own.checks);
        own.acquired.extend(host.host.own.acquired);
        own.released.extend(host.host.own.released);
    }
    Ok(draft)
}

/// The hosts that a file speaks of: one, or one for each that its conditions name.
fn read(files: &dyn Files, path: &Path, draft: &mut Draft) -> Result<Vec<(PathBuf, Option<String>, Host)>, Failure> {
    let unreadable = |error| Failure::new("RV0650", error, "name the keepalived.conf of each host");
    let tree = syntax::parse(files, path, None).map_err(unreadable)?;
    let mut ids: Vec<Option<String>> = tree.hosts.iter().cloned().map(Some).collect();
    if ids.is_empty() {
        ids.push(None);
    }
    let mut hosts = Vec::new();
    for id in ids {
        let tree = syntax::parse(files, path, id.as_deref()).map_err(unreadable)?;
        for (place, problem) in &tree.problems {
            draft.note(Fate::Lost, place.at(), problem.clone());
        }
        hosts.push((path.to_owned(), id, host::read(&tree.statements, draft)));
    }
    Ok(hosts)
}

/// Names come from conditions, addresses that the user named, `router_id`, and the file's place, in this order.
fn name_hosts(
    hosts: Vec<(PathBuf, Option<String>, Host)>,
    files: usize,
    nodes: &BTreeMap<NodeName, IpAddr>,
) -> Vec<Named> {
    let ids: Vec<Option<&String>> = hosts.iter().map(|(_, _, host)| host.router_id.as_ref()).collect();
    let unique = |id: &String| ids.iter().flatten().filter(|other| **other == id).count() == 1;
    let mut taken: BTreeSet<NodeName> = BTreeSet::new();
    let mut named_hosts = Vec::new();
    let sources: Vec<Option<IpAddr>> =
        hosts.iter().map(|(_, _, host)| host.instances.iter().find_map(|instance| instance.source)).collect();
    let all_peers: BTreeSet<IpAddr> = hosts.iter().flat_map(|(_, _, host)| peers(host)).collect();
    let names: Vec<NodeName> = hosts
        .iter()
        .zip(&sources)
        .map(|((path, id, host), source)| {
            let by_address = nodes.iter().find(|(_, address)| Some(**address) == *source).map(|(name, _)| name.clone());
            let by_router = host.router_id.as_ref().filter(|id| unique(id)).map(|id| named(id, "node"));
            let by_id = id.as_ref().map(|id| named(id, "node"));
            let name = by_address.or(by_id).or_else(|| by_router.filter(|_| files > 0));
            name.unwrap_or_else(|| name_of_file(path))
        })
        .collect();
    for (((path, _, host), source), mut name) in hosts.into_iter().zip(sources).zip(names) {
        let mut number = 2;
        while taken.contains(&name) {
            name = named(&format!("{}-{number}", name_of_file(&path)), "node");
            number += 1;
        }
        taken.insert(name.clone());
        // Everybody's peers but not one's own: what is left over is one's own address.
        let own = peers(&host);
        let mut left = all_peers.iter().filter(|peer| !own.contains(*peer));
        let left_over = match (left.next(), left.next()) {
            (Some(one), None) if !own.is_empty() => Some(*one),
            _ => None,
        };
        let address = nodes.get(&name).copied().or(source).or(left_over);
        named_hosts.push(Named { name, file: path.display().to_string(), address, host });
    }
    named_hosts
}

fn peers(host: &Host) -> BTreeSet<IpAddr> {
    host.instances.iter().flat_map(|instance| instance.peers.iter().copied()).collect()
}

/// `edge-a.conf` is edge-a's; `edge-a/keepalived.conf` too.
fn name_of_file(path: &Path) -> NodeName {
    let stem = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    let own = stem(path);
    let text = match own.strip_prefix("keepalived").map(|rest| rest.trim_start_matches(['-', '_', '.'])) {
        Some("") => path
            .parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str())
            .filter(|name| !name.is_empty() && *name != "keepalived" && *name != "etc")
            .unwrap_or("node")
            .to_owned(),
        Some(rest) => rest.to_owned(),
        None => own,
    };
    named(&text, "node")
}

/// An instance and the index of its host.
type Member<'a> = (usize, &'a Instance);

/// Instances that are one router on several hosts, and those that a sync group ties to them.
fn pools(hosts: &[Named]) -> Vec<(String, Vec<Member<'_>>)> {
    let mut routers: Vec<Vec<Member<'_>>> = Vec::new();
    for (at, host) in hosts.iter().enumerate() {
        for instance in &host.host.instances {
            let same = |(_, other): &Member<'_>| {
                other.router == instance.router
                    && (other.name == instance.name
                        || other.vips.iter().any(|(vip, ..)| instance.vips.iter().any(|(own, ..)| own == vip)))
            };
            match routers.iter_mut().find(|members| members.iter().any(same) && members.iter().all(|(m, _)| *m != at)) {
                Some(members) => members.push((at, instance)),
                None => routers.push(vec![(at, instance)]),
            }
        }
    }
    let mut pools: Vec<(String, Vec<Member<'_>>)> = Vec::new();
    let group_of = |members: &[Member<'_>]| {
        members.iter().find_map(|(at, instance)| {
            let groups = &hosts[*at].host.groups;
            groups.iter().find(|(_, names)| names.contains(&instance.name)).map(|(group, _)| group.clone())
        })
    };
    for members in routers {
        let group = group_of(&members);
        let name = group.clone().unwrap_or_else(|| members[0].1.name.clone());
        match pools.iter_mut().find(|(other, found)| group.is_some() && *other == name && group_of(found) == group) {
            Some((_, found)) => found.extend(members),
            None => pools.push((name, members)),
        }
    }
    pools
}

fn pool(name: String, members: &[Member<'_>], hosts: &[Named], draft: &mut Draft) {
    let first = members[0].1;
    let mut pool_name: PoolName = named(&name, "vips");
    if draft.pools.contains_key(&pool_name) {
        pool_name = named(&format!("{name}-{}", first.router), "vips");
    }
    let mut pool = PoolDraft::default();
    let mut vips: BTreeMap<Vip, &Instance> = BTreeMap::new();
    for (_, instance) in members {
        for (vip, dev, place) in &instance.vips {
            let node = draft.nodes.iter().find(|(_, node)| node.address == vip.address()).map(|(name, _)| name.clone());
            if let Some(node) = node {
                draft.note(Fate::Lost, place.at(), format!("{vip}: it is the address of node {node} itself"));
            } else if draft.owners.contains_key(vip) {
                draft.note(Fate::Lost, place.at(), format!("{vip}: another instance has it already"));
            } else {
                vips.insert(*vip, instance);
                pool.interfaces.extend(dev.clone().or_else(|| instance.interface.clone()));
            }
        }
        pool.health.extend(instance.checks.iter().cloned());
    }
    if vips.is_empty() {
        draft.note(Fate::Lost, first.place.at(), format!("{name}: it has no address that can be a VIP"));
        return;
    }
    for (vip, instance) in &vips {
        let on_all = members
            .iter()
            .filter(|(_, other)| other.router == instance.router)
            .all(|(_, other)| other.vips.iter().any(|(own, ..)| own == vip));
        if !on_all {
            let message =
                format!("{vip}: not every host of {} has it; here it is one address of the pool", instance.name);
            draft.note(Fate::Differs, instance.place.at(), message);
        }
    }
    pool.addresses = vips.keys().map(Vip::to_string).collect();
    pool.together = vips.len() > 1;
    pool.prefer = line(members, hosts, draft);
    if members.iter().any(|(_, instance)| instance.no_preempt) {
        pool.failback = Some(FailbackDraft::Manual);
    } else if let Some(delay) = members.iter().filter_map(|(_, instance)| instance.preempt_delay).max() {
        pool.failback = Some(FailbackDraft::After(delay));
    } else {
        let message = format!("{name}: keepalived takes back at once, rendezvip after `failback: {{after: 10s}}`");
        draft.note(Fate::Differs, first.place.at(), message);
    }
    if pool.prefer.len() < draft.nodes.len() {
        let label = (format!("keepalived/{pool_name}"), "member".to_owned());
        for node in &pool.prefer {
            if let Some(node) = draft.nodes.get_mut(node) {
                node.labels.insert(label.0.clone(), label.1.clone());
            }
        }
        pool.selector.extend([label]);
    }
    if draft.nodes.len() < 3 {
        pool.available = true;
        let message = format!(
            "{name}: two nodes have no majority without each other, so the pool is `partition: available`, which may have \
             two owners when the network is cut, as VRRP has; add a witness (a Node of weight 0) and make it strict"
        );
        draft.note(Fate::Differs, first.place.at(), message);
    }
    if let Some(owner) = pool.prefer.first() {
        draft.owners.extend(vips.keys().map(|vip| (*vip, owner.clone())));
    }
    draft.pools.insert(pool_name, pool);
}

/// The nodes of a router, the master first: by priority, then by address, the higher one first (RFC 9568, 6.4.3).
///
/// Of a peer whose file was not given only the address is known: it stands behind a known `state MASTER`
/// or priority above the default of 100, and before everybody else.
fn line(members: &[Member<'_>], hosts: &[Named], draft: &mut Draft) -> Vec<NodeName> {
    let mut line: BTreeMap<NodeName, (u8, u8)> = BTreeMap::new();
    for (at, instance) in members {
        let rank = if instance.master || instance.priority > 100 { 2 } else { 0 };
        line.entry(hosts[*at].name.clone()).or_insert((rank, instance.priority));
    }
    let mut unknown = Vec::new();
    for (_, instance) in members {
        for peer in &instance.peers {
            let node = draft.nodes.iter().find(|(_, node)| node.address == *peer).map(|(name, _)| name.clone());
            if let Some(node) = node.filter(|node| !line.contains_key(node)) {
                unknown.push((node.clone(), instance.place.clone()));
                line.insert(node, (1, 0));
            }
        }
    }
    if unknown.is_empty() {
        line.values_mut().for_each(|(rank, _)| *rank = 0);
    }
    for (node, place) in unknown {
        let message = format!("priority of {node}: unknown, give its keepalived.conf too");
        draft.note(Fate::Lost, place.at(), message);
    }
    let mut line: Vec<(NodeName, (u8, u8))> = line.into_iter().collect();
    let address = |node: &NodeName| draft.nodes.get(node).map(|node| node.address);
    line.sort_by(|(a, a_rank), (b, b_rank)| b_rank.cmp(a_rank).then(address(b).cmp(&address(a))));
    line.into_iter().map(|(node, _)| node).collect()
}
