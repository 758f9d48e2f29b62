//! What of a host is fine, worth knowing or to be mended, and which heartbeat fits it.
//!
//! In: [`Facts`]. Out: [`Finding`]s in a fixed order, and [`Fits`]. Not here: looking (`agent::doctor`), showing (`mod`).

use std::time::Duration;

use serde::Serialize;

use crate::agent::doctor::capability::{IPC_LOCK, NET_ADMIN, NET_RAW, SYS_NICE};
use crate::agent::doctor::trial::Trial;
use crate::agent::doctor::{Facts, Interface, KeptFile, Mode, Peers, Seen};
use crate::agent::error::HostCode;
use crate::manifest::desired::{Failover, Profile};
use crate::membership::timing::Timing;
use crate::time::micros;

/// How it is with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Fine,
    /// Worth knowing; nothing need be done.
    Note,
    /// It must be mended.
    Mend,
    /// It could not be looked at.
    Unseen,
}

impl State {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Mend => "mend",
            Self::Unseen => "unseen",
        }
    }
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of what: a word, or an interface.
    pub check: String,
    /// How it is.
    pub state: State,
    /// The code, where something must be mended.
    pub code: Option<String>,
    /// In a sentence.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Heartbeats that the schema takes and people choose.
const CHOICE: [u64; 12] = [20, 25, 50, 100, 150, 200, 300, 500, 1000, 2000, 5000, 10_000];
/// What was measured in seconds is exceeded in months.
const MARGIN: u64 = 3;

/// Which heartbeat fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fits {
    /// The shortest that fits, in milliseconds; nothing where none does.
    pub shortest_ms: Option<u64>,
    /// The one that is declared, or the default.
    pub declared_ms: u64,
    /// Is it declared, as far as could be read here?
    pub known: bool,
    /// `default` or `fast`.
    pub profile: &'static str,
    /// Does the declared one fit?
    pub fits: bool,
    /// The stall that a lease survives at the declared one, in microseconds.
    pub survives_us: u64,
    /// The longest that was measured: a thread too late, and a round trip more.
    pub worst_us: u64,
}

/// The stall that a lease survives: from when its age is a risk to its end (protocol.md, Pace).
fn survives(heartbeat: Duration, profile: Profile) -> u64 {
    let timing = Timing::new(Failover { heartbeat, profile });
    micros(timing.lease - timing.risk)
}

/// Which heartbeat fits what was measured.
pub fn fits(facts: &Facts, declared: Option<Failover>) -> Fits {
    let failover = declared.unwrap_or(Failover { heartbeat: Duration::from_millis(100), profile: Profile::Default });
    let trips = match &facts.peers {
        Peers::Daemon { trips, .. } | Peers::Probed(trips) => trips.as_slice(),
        Peers::Unknown(_) => &[],
    };
    let trip = trips.iter().map(|trip| trip.p99).max().unwrap_or(0);
    let worst = facts.pulse.max + trip;
    let enough = |heartbeat: Duration| survives(heartbeat, failover.profile) >= worst * MARGIN;
    Fits {
        shortest_ms: CHOICE.into_iter().find(|millis| enough(Duration::from_millis(*millis))),
        declared_ms: micros(failover.heartbeat) / 1000,
        known: declared.is_some(),
        profile: match failover.profile {
            Profile::Default => "default",
            Profile::Fast => "fast",
        },
        fits: survives(failover.heartbeat, failover.profile) >= worst,
        survives_us: survives(failover.heartbeat, failover.profile),
        worst_us: worst,
    }
}

/// Microseconds as people read them.
fn millis(micros: u64) -> String {
    format!("{}.{:01} ms", micros / 1000, micros % 1000 / 100)
}

impl Fits {
    /// What a person wants to know of it.
    pub fn sentence(&self) -> String {
        let whose = if self.known { "as declared" } else { "the default" };
        let verdict = if self.fits { "fits" } else { "DOES NOT FIT" };
        let shortest = self.shortest_ms.map_or_else(
            || "none fits that with a threefold margin".to_owned(),
            |shortest| format!("the shortest that fits with a threefold margin is {shortest}ms"),
        );
        format!(
            "heartbeat {}ms ({whose}, profile {}) {verdict}: it survives {}, the worst measured was {}; {shortest}",
            self.declared_ms,
            self.profile,
            millis(self.survives_us),
            millis(self.worst_us),
        )
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, check: &str, state: State, code: Option<&str>, message: String, help: Option<String>) {
        self.0.push(Finding { check: check.to_owned(), state, code: code.map(str::to_owned), message, help });
    }

    fn fine(&mut self, check: &str, message: impl Into<String>) {
        self.add(check, State::Fine, None, message.into(), None);
    }

    fn note(&mut self, check: &str, message: impl Into<String>, help: impl Into<String>) {
        self.add(check, State::Note, None, message.into(), Some(help.into()));
    }

    fn mend(&mut self, check: &str, code: &str, message: impl Into<String>, help: impl Into<String>) {
        self.add(check, State::Mend, Some(code), message.into(), Some(help.into()));
    }

    fn unseen(&mut self, check: &str, message: impl Into<String>) {
        self.add(check, State::Unseen, None, message.into(), None);
    }
}

/// What is found of a host.
pub fn judge(facts: &Facts, fits: &Fits) -> Vec<Finding> {
    let mut all = Findings(Vec::new());
    kernel(&mut all, facts);
    rights(&mut all, facts);
    lateness(&mut all, facts, fits);
    clock(&mut all, facts);
    match &facts.interfaces {
        Seen::Not(why) => all.unseen("interfaces", why.clone()),
        Seen::So(interfaces) => {
            if interfaces.is_empty() {
                let help = "a node needs an address of its own in the subnet of its VIPs; `allow.interfaces` may leave \
                            out the one that has it";
                all.mend("interfaces", "RV0321", "no interface here can carry a VIP: none has an address", help);
            }
            for one in interfaces {
                interface(&mut all, one, interfaces.len());
            }
        }
    }
    if !facts.absent.is_empty() {
        let message =
            format!("`allow.interfaces` names {}, and this host has none of that name", facts.absent.join(", "));
        all.mend("interfaces", HostCode::InterfaceMissing.code(), message, HostCode::InterfaceMissing.help());
    }
    peers(&mut all, facts);
    for one in &facts.files {
        file(&mut all, one);
    }
    match facts.state.volatile {
        Some(true) => {
            let help = "put `stateDir` on a disk: the phase on it must outlive a crash of the host (protocol.md)";
            all.mend("state", "RV0327", format!("{} is in memory alone", facts.state.path), help);
        }
        Some(false) => all.fine("state", format!("{} is on a disk", facts.state.path)),
        None if facts.state.path.is_empty() => {}
        None => all.note("state", format!("{} is not there yet", facts.state.path), "the daemon makes it"),
    }
    match &facts.port {
        Some(Err(why)) => all.mend("port", HostCode::PortInUse.code(), why.clone(), HostCode::PortInUse.help()),
        Some(Ok(())) => all.fine("port", "the port of gossip is free"),
        None => {}
    }
    if !facts.rivals.is_empty() {
        let message = format!("{} runs here too, and may answer for addresses", facts.rivals.join(", "));
        all.note(
            "others",
            message,
            "see to it that no address stands in both: a stranger's claim is shown, not fought",
        );
    }
    all.0
}

fn kernel(all: &mut Findings, facts: &Facts) {
    match &facts.gate {
        Seen::Not(why) => all.unseen("gate", format!("whether the kernel holds a lease: {why}")),
        Seen::So(Trial::Stands { owned: true }) => {
            all.fine("gate", "the kernel holds a lease, in a table that survives a flush and its owner's death");
        }
        Seen::So(Trial::Stands { owned: false }) => all.note(
            "gate",
            "the kernel holds a lease, in an ordinary table: `nft flush ruleset` opens it for a moment",
            "Linux 6.9 and newer keep it; until then, nothing on this host should flush the ruleset",
        ),
        Seen::So(Trial::Refused { code, message, help }) => all.mend("gate", code, message.clone(), help.clone()),
        Seen::So(Trial::NoRoom(why)) => all.unseen("gate", why.clone()),
    }
}

fn rights(all: &mut Findings, facts: &Facts) {
    let rights = &facts.rights;
    let has = |capability: u32| rights.capabilities & 1 << capability != 0;
    let Some(pid) = rights.daemon else {
        if has(NET_ADMIN) && has(NET_RAW) {
            all.fine("rights", "CAP_NET_ADMIN and CAP_NET_RAW are here, for whoever asks");
        } else {
            all.unseen("rights", "what the daemon will be allowed: it does not run, and you are not it");
        }
        memory(all, facts, "you");
        return;
    };
    let missing = [(NET_ADMIN, HostCode::NoNetAdmin, "CAP_NET_ADMIN"), (NET_RAW, HostCode::NoNetRaw, "CAP_NET_RAW")];
    let mut whole = true;
    for (capability, code, name) in missing {
        if !has(capability) {
            whole = false;
            all.mend("rights", code.code(), format!("the daemon (process {pid}) has no {name}"), code.help());
        }
    }
    if whole {
        all.fine("rights", format!("the daemon (process {pid}) has CAP_NET_ADMIN and CAP_NET_RAW"));
    }
    memory(all, facts, "the daemon");
}

fn memory(all: &mut Findings, facts: &Facts, who: &str) {
    let rights = &facts.rights;
    let has = |capability: u32| rights.capabilities & 1 << capability != 0;
    match rights.memlock {
        Some(limit) if !has(IPC_LOCK) => all.note(
            "memory",
            format!("{who} may lock {} KiB (RLIMIT_MEMLOCK): a host that swaps holds the beat up", limit / 1024),
            "CAP_IPC_LOCK, or LimitMEMLOCK=infinity in the unit",
        ),
        _ => all.fine("memory", format!("{who} may lock all memory")),
    }
    if has(SYS_NICE) || rights.rtprio >= 10 {
        all.fine("priority", format!("{who} may have real-time priority"));
    } else {
        all.note(
            "priority",
            format!("{who} may have no real-time priority: a busy host holds the beat up"),
            "CAP_SYS_NICE, or LimitRTPRIO=10 in the unit",
        );
    }
}

fn lateness(all: &mut Findings, facts: &Facts, fits: &Fits) {
    let pulse = &facts.pulse;
    let how = if pulse.real_time { "at real-time priority" } else { "at ordinary priority" };
    let measured = format!(
        "a thread {how} came {} late at the worst, 99 of 100 times {} at most, in {} s",
        millis(pulse.max),
        millis(pulse.p99),
        pulse.span_ms / 1000
    );
    if fits.fits {
        all.fine("lateness", measured);
    } else {
        let help = match fits.shortest_ms {
            Some(shortest) => {
                format!("set `failover.heartbeat` of the Cluster to {shortest}ms, or find what holds this host up")
            }
            None => "find what holds this host up: no heartbeat makes up for it".to_owned(),
        };
        let message = format!(
            "{measured}; with a peer's round trip that is {}, and at a heartbeat of {}ms a lease survives {}",
            millis(fits.worst_us),
            fits.declared_ms,
            millis(fits.survives_us)
        );
        all.mend("lateness", "RV0320", message, help);
    }
    if let Peers::Daemon { latest_us, .. } = facts.peers
        && latest_us > fits.survives_us
    {
        let message = format!("the running daemon's beat came {} late once since it started", millis(latest_us));
        all.note(
            "lateness",
            message,
            "its log of that time says what held it up; a lease was lost if it was for longer",
        );
    }
}

/// 2020-01-01: a clock before it was never set.
const NEVER_SET: u64 = 1_577_836_800;

fn clock(all: &mut Findings, facts: &Facts) {
    let clock = &facts.clock;
    if clock.realtime < NEVER_SET {
        let message = "the wall clock is years behind: a node without a state could come back under an old identity";
        all.mend("clock", "RV0323", message, "set it, and let NTP keep it; nothing else depends on the time of day");
        return;
    }
    if clock.stepped_ms != 0 {
        let message = format!("the wall clock was set by {} ms while we looked", clock.stepped_ms);
        all.note("clock", message, "leases are renewed after a step; one that steps often is not disciplined");
    }
    match &clock.synchronised {
        Seen::So(true) => all.fine("clock", "the wall clock is disciplined"),
        Seen::So(false) => all.note(
            "clock",
            "the kernel does not know of any discipline of the wall clock",
            "run chrony or systemd-timesyncd: times in logs and on the status branch are this host's",
        ),
        Seen::Not(why) => all.unseen("clock", why.clone()),
    }
    if let Seen::So(source) = &clock.source
        && matches!(source.as_str(), "jiffies" | "refined-jiffies" | "pit")
    {
        let message = format!("the kernel counts time by `{source}`, which is coarse");
        all.note("clock", message, "see /sys/devices/system/clocksource/clocksource0/available_clocksource");
    }
}

fn interface(all: &mut Findings, it: &Interface, interfaces: usize) {
    let name = it.name.as_str();
    let before = all.0.len();
    if !(it.up && it.running) {
        let message = "it is down or without carrier: this node is eligible for nothing there until it is back";
        all.note(name, message, format!("ip link show {name}"));
    }
    if it.noarp || it.wireless {
        let what = if it.noarp { "it resolves no addresses (NOARP)" } else { "it is wireless" };
        let help = "VIPs want Ethernet: an access point answers ARP for its stations and forwards no gratuitous one";
        all.note(name, what, help);
    }
    if it.shared_mac {
        let help = "use macvlan or a bridge: neighbours would reach whoever shares the address";
        all.mend(name, "RV0325", "it is an ipvlan: it shares its parent's hardware address", help);
    }
    if !it.multicast {
        let help = format!("ip link set {name} multicast on");
        all.mend(name, "RV0325", "it takes no multicast: neighbour discovery of IPv6 VIPs does not reach it", help);
    } else if it.filter == Some(false) {
        let help =
            "its driver does not take multicast addresses; IPv6 VIPs of `attach: loopback` and `none` are not heard";
        all.mend(name, "RV0325", "a multicast address that was joined is not in the device's filter", help);
    } else if it.filter.is_none() {
        all.unseen(name, "whether the device takes multicast addresses (needs CAP_NET_RAW)");
    }
    if let Some(bridge) = &it.snooping_unasked {
        let message =
            format!("the bridge {bridge} snoops multicast and nobody asks: questions for IPv6 VIPs may be dropped");
        let help = format!("ip link set {bridge} type bridge mcast_querier 1, or mcast_snooping 0");
        all.note(name, message, help);
    }
    if it.promiscuous {
        all.note(
            name,
            "it is promiscuous: every frame of the segment wakes this host",
            format!("ip link set {name} promisc off"),
        );
    }
    if it.arp_ignore >= 2 {
        let message = format!("arp_ignore is {}: the kernel answers for no VIP there", it.arp_ignore);
        let help =
            format!("sysctl -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.{name}.arp_ignore=0 (1 is fine, too)");
        all.mend(name, "RV0322", message, help);
    }
    if it.arp_filter && interfaces > 1 {
        let message = "arp_filter is on: the kernel answers only where its route back to the asker leads";
        all.note(name, message, format!("sysctl -w net.ipv4.conf.all.arp_filter=0 net.ipv4.conf.{name}.arp_filter=0"));
    }
    if it.rp_filter == 1 && interfaces > 1 {
        let message = "rp_filter is strict: packets for a VIP from clients whose route leads elsewhere are dropped";
        all.note(name, message, format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2 (loose)"));
    }
    if it.proxy_arp {
        let message = "proxy_arp is on: this host answers for addresses of others; for VIPs the gate keeps it silent";
        all.note(name, message, format!("sysctl -w net.ipv4.conf.{name}.proxy_arp=0"));
    }
    if it.ipv6_disabled {
        all.note(
            name,
            "IPv6 is switched off: this node is not eligible for IPv6 VIPs there",
            HostCode::Ipv6Disabled.help(),
        );
    }
    if all.0.len() == before {
        let subnets: Vec<String> = it.subnets.iter().map(ToString::to_string).collect();
        all.fine(name, format!("it can carry VIPs of {}", subnets.join(", ")));
    }
}

fn peers(all: &mut Findings, facts: &Facts) {
    let (trips, how) = match &facts.peers {
        Peers::Unknown(why) => return all.unseen("peers", format!("how long peers take: {why}")),
        Peers::Daemon { trips, .. } => (trips, "heartbeats"),
        Peers::Probed(trips) => (trips, "echo requests"),
    };
    for trip in trips {
        if trip.samples == 0 {
            let message = format!("{} answered none of {} {how}", trip.node, trip.lost);
            match &facts.peers {
                Peers::Probed(_) => all.note("peers", message, "it may be off, or answer no ping; heartbeats use UDP"),
                _ => all.mend("peers", "RV0324", message, "does it run? is UDP open both ways, and the key the same?"),
            }
            continue;
        }
        let message = format!(
            "{}: round trip {} ({} for 99 of 100), jitter {}, {} of {} {how} lost",
            trip.node,
            millis(trip.p50),
            millis(trip.p99),
            millis(trip.jitter),
            trip.lost,
            trip.samples + trip.lost
        );
        // More than the 5 % that the protocol takes in its stride (faults.md).
        if trip.lost * 20 > trip.samples + trip.lost {
            all.mend(
                "peers",
                "RV0324",
                message,
                "more than 5 % are lost: look at the link, the switch, the host's load",
            );
        } else {
            all.fine("peers", message);
        }
    }
    if let Peers::Daemon { unasked, .. } = &facts.peers {
        for node in unasked {
            all.fine(
                "peers",
                format!("{node}: of the two it is the one that asks; `rendezvip doctor` there shows the round trip"),
            );
        }
    }
}

fn file(all: &mut Findings, file: &KeptFile) {
    let KeptFile { field, path, secret, mode } = file;
    let gossip = *field == "gossip.keyFile";
    match mode {
        Mode::Unseen => all.unseen("file", format!("{path} ({field}): you may not look at it")),
        Mode::Missing(why) => {
            let (code, help) = if gossip {
                ("RV0708", "`rendezvip keygen` makes a key; put the same one on every node, mode 0600")
            } else {
                ("RV0326", "the daemon cannot follow its source without it; docs/node.md says what it is for")
            };
            all.mend("file", code, format!("{path} ({field}): {why}"), help);
        }
        Mode::Is(mode) if *secret && mode & 0o077 != 0 => {
            let code = if gossip { "RV0709" } else { "RV0326" };
            let message = format!("{path} ({field}) can be read by others (mode {mode:04o})");
            all.mend("file", code, message, format!("chmod 600 {path}; make a new one if it may have been seen"));
        }
        Mode::Is(mode) => all.fine("file", format!("{path} ({field}), mode {mode:04o}")),
    }
}
