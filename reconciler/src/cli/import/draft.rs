//! What an importer found, in our terms, and the files that say it.
//!
//! In: nodes, pools, checks and hooks, notes. Out: file texts by path. Not here: reading what is imported
//! (`keepalived`, `metallb`), writing to disk (`import`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::manifest::desired::PlacementMode;
use crate::name::{CheckName, ClusterName, InterfaceName, NodeName, PoolName};
use crate::vip::Vip;

/// Everything that was found.
#[derive(Debug)]
pub struct Draft {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// How VIPs are spread.
    pub placement: PlacementMode,
    /// Nodes by name.
    pub nodes: BTreeMap<NodeName, NodeDraft>,
    /// Pools by name.
    pub pools: BTreeMap<PoolName, PoolDraft>,
    /// What belongs into each node's own file.
    pub hosts: BTreeMap<NodeName, HostDraft>,
    /// What is lost or differs.
    pub notes: BTreeSet<Note>,
    /// Who answers for each VIP today, as far as the files tell.
    pub owners: BTreeMap<Vip, NodeName>,
}

/// A node.
#[derive(Debug, Clone)]
pub struct NodeDraft {
    /// Where its peers reach it.
    pub address: IpAddr,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A pool.
#[derive(Debug, Clone, Default)]
pub struct PoolDraft {
    /// Addresses, ranges and CIDRs as they are written.
    pub addresses: Vec<String>,
    /// `avoidBuggyIPs`.
    pub avoid_buggy: bool,
    /// `interfaces`.
    pub interfaces: BTreeSet<InterfaceName>,
    /// `nodeSelector.matchLabels`.
    pub selector: BTreeMap<String, String>,
    /// `prefer`.
    pub prefer: Vec<NodeName>,
    /// `together`.
    pub together: bool,
    /// `failback`, where it is not the default.
    pub failback: Option<FailbackDraft>,
    /// `partition: available`.
    pub available: bool,
    /// `health`.
    pub health: BTreeSet<CheckName>,
}

/// `failback`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailbackDraft {
    /// `manual`.
    Manual,
    /// `{after: …}`.
    After(Duration),
}

/// What belongs into a node's own file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostDraft {
    /// `checks`.
    pub checks: BTreeMap<CheckName, CheckDraft>,
    /// `hooks.acquired`.
    pub acquired: BTreeSet<String>,
    /// `hooks.released`.
    pub released: BTreeSet<String>,
}

/// A check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckDraft {
    /// A process's name, or else a program and its arguments.
    pub probe: ProbeDraft,
    /// `interval`.
    pub interval: Duration,
    /// `timeout`.
    pub timeout: Duration,
    /// `fall`.
    pub fall: u32,
    /// `rise`.
    pub rise: u32,
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeDraft {
    /// `process`.
    Process(String),
    /// `exec`.
    Exec(Vec<String>),
}

/// Something that could not be carried over, or not as it was.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// How much of it is left.
    pub fate: Fate,
    /// In words.
    pub message: String,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is not in the manifests.
    Lost,
    /// It is, and works in another way.
    Differs,
}

impl Fate {
    /// `not carried over` or `differs`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "not carried over",
            Self::Differs => "differs",
        }
    }
}

impl Draft {
    /// An empty draft.
    pub fn new(cluster: ClusterName) -> Self {
        Self {
            cluster,
            placement: PlacementMode::Balanced,
            nodes: BTreeMap::new(),
            pools: BTreeMap::new(),
            hosts: BTreeMap::new(),
            notes: BTreeSet::new(),
            owners: BTreeMap::new(),
        }
    }

    /// Notes something.
    pub fn note(&mut self, fate: Fate, at: (&str, u32), message: impl Into<String>) {
        self.notes.insert(Note { file: at.0.to_owned(), line: at.1, fate, message: message.into() });
    }

    /// The files, by path below the directory to write to.
    pub fn files(&self, from: &str) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let placement = match self.placement {
            PlacementMode::Balanced => "balanced",
            PlacementMode::Rendezvous => "rendezvous   # MetalLB's order, so that owners stay",
        };
        let text = format!(
            "# Imported from {from}.\napiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {{name: {}}}\nspec:\n  \
             placement: {placement}\n",
            scalar(self.cluster.as_str())
        );
        files.insert("cluster.yaml".to_owned(), text);
        for (name, node) in &self.nodes {
            files.insert(format!("nodes/{name}.yaml"), node.file(name));
        }
        for (name, pool) in &self.pools {
            files.insert(format!("pools/{name}.yaml"), pool.file(name));
        }
        for (name, host) in self.hosts.iter().filter(|(_, host)| **host != HostDraft::default()) {
            files.insert("hosts/.rendezvipignore".to_owned(), String::new());
            files.insert(format!("hosts/{name}.yaml"), host.file(name, from));
        }
        files
    }
}

impl NodeDraft {
    fn file(&self, name: &NodeName) -> String {
        let name = scalar(name.as_str());
        let metadata = match &self.labels {
            labels if labels.is_empty() => format!("metadata: {{name: {name}}}\n"),
            labels => format!("metadata:\n  name: {name}\n  labels:\n{}", mapping("    ", labels)),
        };
        let address = match self.address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("\"[{v6}]\""),
        };
        format!("apiVersion: rendezvip/v1\nkind: Node\n{metadata}spec:\n  address: {address}\n")
    }
}

impl PoolDraft {
    fn file(&self, name: &PoolName) -> String {
        let mut text = format!(
            "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: {}}}\nspec:\n  addresses:\n",
            scalar(name.as_str())
        );
        for address in &self.addresses {
            text += &format!("    - {}\n", scalar(address));
        }
        if self.avoid_buggy {
            text += "  avoidBuggyIPs: true\n";
        }
        if !self.interfaces.is_empty() {
            text += &format!("  interfaces: {}\n", list(self.interfaces.iter().map(InterfaceName::as_str)));
        }
        if !self.selector.is_empty() {
            text += &format!("  nodeSelector:\n    matchLabels:\n{}", mapping("      ", &self.selector));
        }
        if !self.prefer.is_empty() {
            text += &format!("  prefer: {}\n", list(self.prefer.iter().map(NodeName::as_str)));
        }
        if self.together {
            text += "  together: true\n";
        }
        match self.failback {
            Some(FailbackDraft::Manual) => text += "  failback: manual\n",
            Some(FailbackDraft::After(after)) => text += &format!("  failback: {{after: {}}}\n", duration(after)),
            None => {}
        }
        if self.available {
            text += "  partition: available\n";
        }
        if !self.health.is_empty() {
            text += &format!("  health: {}\n", list(self.health.iter().map(CheckName::as_str)));
        }
        text
    }
}

impl HostDraft {
    fn file(&self, name: &NodeName, from: &str) -> String {
        let mut text = format!(
            "# What {from} did on {name} and the repository does not say: for /etc/rendezvip/node.yaml there.\n\
             # The folder's .rendezvipignore keeps this file out of the repository's own manifests.\n\
             apiVersion: rendezvip/v1\nkind: Agent\nnode: {}\nsource:\n  git:\n    \
             url: ssh://git@git.example/vips.git   # the repository that holds these manifests\n",
            scalar(name.as_str())
        );
        if !self.checks.is_empty() {
            text += "checks:\n";
        }
        for (name, check) in &self.checks {
            let probe = match &check.probe {
                ProbeDraft::Process(process) => format!("process: {}", scalar(process)),
                ProbeDraft::Exec(words) => format!("exec: {}", list(words.iter().map(String::as_str))),
            };
            text += &format!(
                "  {}: {{{probe}, interval: {}, timeout: {}, fall: {}, rise: {}}}\n",
                scalar(name.as_str()),
                duration(check.interval),
                duration(check.timeout),
                check.fall,
                check.rise,
            );
        }
        if !(self.acquired.is_empty() && self.released.is_empty()) {
            text += &format!(
                "hooks:\n  acquired: {}\n  released: {}\n",
                list(self.acquired.iter().map(String::as_str)),
                list(self.released.iter().map(String::as_str)),
            );
        }
        text
    }
}

/// A name for an address of which nothing else is known.
pub fn name_of_address(address: IpAddr) -> NodeName {
    let text = format!("node-{}", address.to_string().replace(['.', ':'], "-"));
    let text = text.trim_end_matches('-').to_owned();
    // Digits, hexadecimal letters and inner dashes are always a subdomain.
    NodeName::new(&text).unwrap_or_else(|_| fallback("node"))
}

/// A text that somebody else chose, made into a name of ours; `fallback` where nothing is left of it.
pub fn named<T: std::str::FromStr>(text: &str, fallback_name: &str) -> T {
    let lower: String = text
        .to_lowercase()
        .chars()
        .map(|sign| if sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '.' { sign } else { '-' })
        .collect();
    let labels: Vec<&str> = lower.split('.').map(|label| label.trim_matches('-')).filter(|l| !l.is_empty()).collect();
    let text: String = labels.join(".").chars().take(60).collect();
    let text = text.trim_matches(['-', '.']);
    text.parse().unwrap_or_else(|_| fallback(fallback_name))
}

fn fallback<T: std::str::FromStr>(name: &str) -> T {
    match name.parse() {
        Ok(name) => name,
        Err(_) => unreachable!("{name} is a name"),
    }
}

/// A scalar that every YAML reader takes as this text.
fn scalar(text: &str) -> String {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "-_./".contains(sign);
    let starts = text.starts_with(|sign: char| sign.is_ascii_alphabetic() || sign == '/');
    // An IPv4 address, range or CIDR is no number: it has more than one dot.
    let address = text.starts_with(|sign: char| sign.is_ascii_digit()) && text.matches('.').count() > 1;
    let word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    if text.chars().all(plain) && (starts || address) && !word {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for sign in text.chars() {
        match sign {
            '"' | '\\' => quoted.extend(['\\', sign]),
            sign if sign.is_control() => quoted += &format!("\\x{:02x}", u32::from(sign) & 0xff),
            sign => quoted.push(sign),
        }
    }
    quoted + "\""
}

fn list<'a>(items: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", items.map(scalar).collect::<Vec<_>>().join(", "))
}

fn mapping(indent: &str, entries: &BTreeMap<String, String>) -> String {
    entries.iter().map(|(key, value)| format!("{indent}{}: {}\n", scalar(key), scalar(value))).collect()
}

fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}
