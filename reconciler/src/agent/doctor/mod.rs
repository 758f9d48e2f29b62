//! What this host is like, looked at and not changed: what `rendezvip doctor` judges.
//!
//! In: the node's own file, /proc, /sys, the kernel's answers, some seconds of time. Out: [`Facts`], with
//! [`Seen::Not`] where this user may not look. Not here: what of it is good or bad (`cli::doctor`).
//!
//! `pulse` measures how late a thread comes, `probe` how long peers take, `trial` tries the gate in a network namespace
//! of its own, so that nothing of this host's is touched.

pub mod probe;
pub mod pulse;
pub mod trial;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ipnet::IpNet;

use super::directory;
use super::netlink::Netlink;
use super::packet::PacketSocket;
use super::state;
use super::trips::Trip;
use crate::manifest::agent_file::{AgentFile, Source, StatusTarget};
use crate::manifest::desired::Desired;
use crate::name::{InterfaceName, NodeName};
use crate::wire::ethernet::MacAddr;
use pulse::Pulse;
use trial::Trial;

/// What was looked at, or why it could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// It is so.
    So(T),
    /// It could not be looked at, and why.
    Not(String),
}

/// All that is known of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's release.
    pub kernel: String,
    /// What the gate says of this kernel.
    pub gate: Seen<Trial>,
    /// What the daemon may do, or would: rights of the running one, else of whoever asks.
    pub rights: Rights,
    /// How late a thread comes here.
    pub pulse: Pulse,
    /// The clocks.
    pub clock: Clock,
    /// Interfaces that may carry VIPs.
    pub interfaces: Seen<Vec<Interface>>,
    /// Interfaces that the node's own file allows and that do not exist.
    pub absent: Vec<String>,
    /// Files that the daemon needs, and how they are.
    pub files: Vec<KeptFile>,
    /// Where the state lies.
    pub state: State,
    /// Can the port of gossip be had? Nothing while the daemon has it.
    pub port: Option<Result<(), String>>,
    /// Round trips to the peers.
    pub peers: Peers,
    /// Other programs here that answer for addresses.
    pub rivals: Vec<String>,
}

/// Capabilities and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The running daemon's process, if there is one.
    pub daemon: Option<u32>,
    /// Effective capabilities, a bit each (capability.h).
    pub capabilities: u64,
    /// RLIMIT_MEMLOCK in bytes; nothing where there is no limit.
    pub memlock: Option<u64>,
    /// The highest real-time priority that the limit allows.
    pub rtprio: u64,
}

/// Bits of [`Rights::capabilities`] (linux/capability.h).
pub mod capability {
    /// CAP_NET_ADMIN.
    pub const NET_ADMIN: u32 = 12;
    /// CAP_NET_RAW.
    pub const NET_RAW: u32 = 13;
    /// CAP_IPC_LOCK.
    pub const IPC_LOCK: u32 = 14;
    /// CAP_SYS_NICE.
    pub const SYS_NICE: u32 = 23;
}

/// The clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// Seconds since 1970.
    pub realtime: u64,
    /// By how much the wall clock was set while we looked, in milliseconds.
    pub stepped_ms: i64,
    /// Does the kernel believe that the clock is disciplined (STA_UNSYNC)?
    pub synchronised: Seen<bool>,
    /// What the kernel counts time by.
    pub source: Seen<String>,
}

/// An interface that may carry VIPs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Switched on.
    pub up: bool,
    /// With carrier.
    pub running: bool,
    /// Subnets of its own addresses.
    pub subnets: Vec<IpNet>,
    /// IFF_MULTICAST.
    pub multicast: bool,
    /// IFF_NOARP.
    pub noarp: bool,
    /// IFF_PROMISC.
    pub promiscuous: bool,
    /// Wireless.
    pub wireless: bool,
    /// Shares its parent's hardware address: ipvlan.
    pub shared_mac: bool,
    /// Did the device take a multicast address into its filter? Nothing where it could not be tried.
    pub filter: Option<bool>,
    /// The higher of `all` and the interface, as the kernel reckons.
    pub arp_ignore: u64,
    /// Either.
    pub arp_filter: bool,
    /// The higher of both.
    pub rp_filter: u64,
    /// Either.
    pub proxy_arp: bool,
    /// Either.
    pub ipv6_disabled: bool,
    /// It is a bridge, or a port of one, that snoops multicast, and nobody there asks.
    pub snooping_unasked: Option<String>,
}

/// A file of the node's own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// What it is for, as the node's own file calls it.
    pub field: &'static str,
    /// Where.
    pub path: String,
    /// May others read it? Nothing of that where it is no secret.
    pub secret: bool,
    /// Its mode; why there is none.
    pub mode: Mode,
}

/// What there is of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// It is there, with these bits.
    Is(u32),
    /// It is not, and why.
    Missing(String),
    /// This user may not look.
    Unseen,
}

/// The state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Where.
    pub path: String,
    /// Is it in memory alone? Nothing where it is not there yet.
    pub volatile: Option<bool>,
}

/// Round trips to the peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// As the running daemon measured them, and how late its beat came at the latest.
    Daemon {
        /// Round trips.
        trips: Vec<Trip>,
        /// In microseconds.
        latest_us: u64,
        /// Declared nodes that it does not ask.
        unasked: Vec<NodeName>,
    },
    /// By echo requests.
    Probed(Vec<Trip>),
    /// Not measured, and why.
    Unknown(String),
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn number(path: impl AsRef<Path>) -> u64 {
    text(path).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The kernel's release.
pub fn kernel() -> String {
    text("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned())
}

/// The process of the daemon that runs with this state directory.
pub fn daemon(file: &AgentFile) -> Option<u32> {
    let pid: u32 = text(file.state_dir.join("lock"))?.parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    command.split(|byte| *byte == 0).any(|word| word == b"run").then_some(pid)
}

/// What a process may do.
pub fn rights(daemon: Option<u32>) -> Rights {
    let process = daemon.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let status = text(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let limits = text(format!("/proc/{process}/limits")).unwrap_or_default();
    let soft = |name: &str| {
        let rest = limits.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let memlock = match soft("Max locked memory").as_deref() {
        Some("unlimited") => None,
        other => Some(other.and_then(|text| text.parse().ok()).unwrap_or(0)),
    };
    let rtprio = soft("Max realtime priority").and_then(|text| text.parse().ok()).unwrap_or(0);
    Rights { daemon, capabilities, memlock, rtprio }
}

/// What the last good state or the directory asks for, if this user may read either.
pub fn desired(file: &AgentFile) -> Option<Desired> {
    if let Some(good) = state::peek(&file.state_dir) {
        return Some(good.desired);
    }
    match &file.source {
        Source::Directory(path) => directory::read(path).load().desired,
        Source::Git(_) => None,
    }
}

/// The interfaces that the node's own file allows and that do not exist.
pub fn absent(file: &AgentFile) -> Vec<String> {
    let allowed = file.allow.interfaces.iter().flatten().map(ToString::to_string);
    allowed.filter(|name| !Path::new("/sys/class/net").join(name).exists()).collect()
}

/// The interfaces that may carry VIPs.
pub fn interfaces(file: Option<&AgentFile>) -> Seen<Vec<Interface>> {
    let snapshot = match Netlink::open().and_then(|mut netlink| netlink.snapshot()) {
        Ok(snapshot) => snapshot,
        Err(error) => return Seen::Not(error.message()),
    };
    let allowed = |name: &InterfaceName| {
        file.and_then(|file| file.allow.interfaces.as_ref()).is_none_or(|allowed| allowed.contains(name))
    };
    let chosen = snapshot.interfaces.values().filter(|it| !it.loopback && it.mac.is_some() && allowed(&it.name));
    Seen::So(
        chosen
            .filter_map(|it| {
                let own = it.addresses.values().filter(|address| !address.is_ours());
                let subnets: Vec<IpNet> = own
                    .filter(
                        |address| !matches!(address.address, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local()),
                    )
                    .filter_map(|address| IpNet::new(address.address, address.prefix).ok())
                    .map(|net| net.trunc())
                    .collect();
                (!subnets.is_empty()).then(|| interface(&it.name, it.index, it.up, it.running, subnets))
            })
            .collect(),
    )
}

fn interface(name: &InterfaceName, index: u32, up: bool, running: bool, subnets: Vec<IpNet>) -> Interface {
    let sys = format!("/sys/class/net/{name}");
    let flags = text(format!("{sys}/flags")).and_then(|hex| u64::from_str_radix(hex.trim_start_matches("0x"), 16).ok());
    let has = |flag: i32| flags.is_some_and(|flags| flags & u64::from(flag.cast_unsigned()) != 0);
    let conf = |family: &str, key: &str| {
        let of = |which: &str| number(format!("/proc/sys/net/{family}/conf/{which}/{key}"));
        of("all").max(of(name.as_str()))
    };
    let kind = text(format!("{sys}/uevent")).unwrap_or_default();
    Interface {
        name: name.to_string(),
        up,
        running,
        subnets,
        multicast: has(libc::IFF_MULTICAST),
        noarp: has(libc::IFF_NOARP),
        promiscuous: has(libc::IFF_PROMISC),
        wireless: Path::new(&format!("{sys}/wireless")).exists() || kind.contains("DEVTYPE=wlan"),
        shared_mac: kind.contains("DEVTYPE=ipvlan"),
        filter: filter(name, index),
        arp_ignore: conf("ipv4", "arp_ignore"),
        arp_filter: conf("ipv4", "arp_filter") > 0,
        rp_filter: conf("ipv4", "rp_filter"),
        proxy_arp: conf("ipv4", "proxy_arp") > 0,
        ipv6_disabled: number(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6")) > 0
            || !Path::new("/proc/sys/net/ipv6").exists(),
        snooping_unasked: snooping(&sys, name),
    }
}

/// Joins a group that nobody uses and looks whether the device took it in; a socket's end leaves it.
fn filter(name: &InterfaceName, index: u32) -> Option<bool> {
    // The solicited-node group of 2001:db8::ff:fe76:7078, a documentation address (RFC 3849).
    let group = MacAddr([0x33, 0x33, 0xff, 0x76, 0x70, 0x78]);
    let socket = PacketSocket::open(name, index).ok()?;
    socket.join(group).ok()?;
    let list = text("/proc/net/dev_mcast")?;
    Some(list.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(name.as_str()) && words.last() == Some("3333ff767078")
    }))
}

/// The bridge here that drops what nobody asked for, where nobody asks (RFC 4541, section 2.1.1).
fn snooping(sys: &str, name: &InterfaceName) -> Option<String> {
    let bridge = if Path::new(&format!("{sys}/bridge")).exists() {
        name.to_string()
    } else {
        let master = fs::read_link(format!("{sys}/master")).ok()?;
        master.file_name()?.to_string_lossy().into_owned()
    };
    let of = |key: &str| number(format!("/sys/class/net/{bridge}/bridge/{key}"));
    (of("multicast_snooping") > 0 && of("multicast_querier") == 0).then_some(bridge)
}

/// The files that the node's own file names.
pub fn files(file: &AgentFile) -> Vec<KeptFile> {
    let look = |field, path: &Path, secret| KeptFile {
        field,
        path: path.display().to_string(),
        secret,
        mode: match fs::metadata(path) {
            Ok(it) => Mode::Is(it.mode() & 0o7777),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Mode::Unseen,
            Err(error) => Mode::Missing(error.to_string()),
        },
    };
    let mut files = vec![look("gossip.keyFile", &file.gossip.key_file, true)];
    let ssh = |url: &str| url.starts_with("ssh://");
    if let Source::Git(git) = &file.source {
        if ssh(&git.url) {
            files.push(look("source.git.sshKeyFile", &git.ssh_key_file, true));
            files.push(look("source.git.knownHostsFile", &git.known_hosts_file, false));
        }
        files.extend(git.credentials_file.iter().map(|path| look("source.git.credentialsFile", path, true)));
        files.extend(git.ca_file.iter().map(|path| look("source.git.caFile", path, false)));
    }
    if let Some(StatusTarget::Git { url, ssh_key_file, known_hosts_file, credentials_file, .. }) = &file.status {
        if ssh(url) {
            files.push(look("status.git.sshKeyFile", ssh_key_file, true));
            files.push(look("status.git.knownHostsFile", known_hosts_file, false));
        }
        files.extend(credentials_file.iter().map(|path| look("status.git.credentialsFile", path, true)));
    }
    // The status goes where the source comes from, as a rule, with the same files.
    let mut seen = std::collections::BTreeSet::new();
    files.retain(|file| seen.insert(file.path.clone()));
    files
}

/// Where the state lies.
pub fn state(file: &AgentFile) -> State {
    let path = file.state_dir.display().to_string();
    let volatile = nix::sys::statfs::statfs(&file.state_dir).ok().map(|it| {
        let kind = it.filesystem_type();
        kind == nix::sys::statfs::TMPFS_MAGIC || kind.0 == RAMFS_MAGIC
    });
    State { path, volatile }
}

/// linux/magic.h
const RAMFS_MAGIC: libc::__fsword_t = 0x8584_58f6;

/// Can the port be had?
pub fn port(file: &AgentFile) -> Result<(), String> {
    UdpSocket::bind(file.gossip.bind).map(drop).map_err(|error| format!("UDP {}: {error}", file.gossip.bind))
}

/// Programs that answer for addresses of others, among those that run.
pub fn rivals() -> Vec<String> {
    const KNOWN: [&str; 7] = ["keepalived", "kube-vip", "vrrpd", "ucarp", "corosync", "pacemakerd", "speaker"];
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<String> = processes
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| text(entry.path().join("comm")))
        .filter(|name| KNOWN.contains(&name.as_str()))
        .collect();
    found.sort();
    found.dedup();
    found
}
