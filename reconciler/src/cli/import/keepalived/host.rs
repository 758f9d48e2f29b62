//! What one host's keepalived does: its instances, groups and scripts.
//!
//! In: the statements of a configuration. Out: [`Host`], and a note for each statement that has no counterpart.
//! Not here: how hosts fit together (`keepalived`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::syntax::{Place, Statement};
use crate::cli::import::draft::{CheckDraft, Draft, Fate, HostDraft, ProbeDraft, named};
use crate::name::{CheckName, InterfaceName};
use crate::vip::Vip;

/// One host.
#[derive(Debug, Default)]
pub struct Host {
    /// `router_id`.
    pub router_id: Option<String>,
    /// VRRP instances.
    pub instances: Vec<Instance>,
    /// Names of sync groups, and of the instances in each.
    pub groups: Vec<(String, Vec<String>)>,
    /// What belongs into the node's own file.
    pub own: HostDraft,
}

/// A `vrrp_instance`.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// `virtual_router_id`.
    pub router: u8,
    /// `priority`.
    pub priority: u8,
    /// `state MASTER`.
    pub master: bool,
    /// `interface`.
    pub interface: Option<InterfaceName>,
    /// Addresses, each with its `dev`.
    pub vips: Vec<(Vip, Option<InterfaceName>, Place)>,
    /// `unicast_src_ip` or `mcast_src_ip`.
    pub source: Option<IpAddr>,
    /// `unicast_peer`.
    pub peers: Vec<IpAddr>,
    /// `nopreempt`.
    pub no_preempt: bool,
    /// `preempt_delay`.
    pub preempt_delay: Option<Duration>,
    /// `track_script` and `track_process`.
    pub checks: Vec<CheckName>,
}

/// Reads a host's statements; what has no counterpart becomes a note of `draft`.
pub fn read(statements: &[Statement], draft: &mut Draft) -> Host {
    let mut host = Host::default();
    let mut checks: BTreeMap<CheckName, CheckDraft> = BTreeMap::new();
    for statement in statements {
        match statement.keyword() {
            "global_defs" => globals(statement, &mut host, draft),
            "vrrp_script" => {
                let (name, check) = script(statement, draft);
                checks.insert(name, check);
            }
            "vrrp_track_process" | "track_process" => {
                let (name, check) = process(statement, draft);
                checks.insert(name, check);
            }
            "vrrp_sync_group" => group(statement, &mut host, draft),
            "vrrp_instance" => instance(statement, &mut host, draft),
            "virtual_server" | "virtual_server_group" => {
                let what = statement.words.join(" ");
                draft.note(
                    Fate::Lost,
                    statement.place.at(),
                    format!("{what}: rendezvip moves addresses and balances no connections; keep keepalived's checkers or ipvsadm for IPVS"),
                );
            }
            "vrrp_track_file" | "track_file" | "vrrp_rule_file" => {
                lost(statement, "a check of kind `file` in the node's own file comes near", draft)
            }
            "static_ipaddress" | "static_routes" | "static_rules" => {
                lost(statement, "leave it to the system's network configuration", draft)
            }
            "bfd_instance" => lost(statement, "heartbeats find a death as fast", draft),
            _ => lost(statement, "it has no counterpart", draft),
        }
    }
    host.own.checks = checks;
    host
}

fn lost(statement: &Statement, why: &str, draft: &mut Draft) {
    let what = if statement.words.is_empty() { "a block without a name".to_owned() } else { shown(statement) };
    draft.note(Fate::Lost, statement.place.at(), format!("{what}: {why}"));
}

fn differs(statement: &Statement, how: &str, draft: &mut Draft) {
    draft.note(Fate::Differs, statement.place.at(), format!("{}: {how}", shown(statement)));
}

/// The statement in one line, without what should not be printed.
fn shown(statement: &Statement) -> String {
    match statement.keyword() {
        "auth_pass" => "auth_pass".to_owned(),
        _ => statement.words.join(" "),
    }
}

fn globals(block: &Statement, host: &mut Host, draft: &mut Draft) {
    for statement in &block.block {
        match statement.keyword() {
            "router_id" => host.router_id = statement.word(1).map(str::to_owned),
            "script_user" | "enable_script_security" => {
                differs(statement, "checks and hooks run as the daemon does", draft);
            }
            "notification_email"
            | "notification_email_from"
            | "smtp_server"
            | "smtp_connect_timeout"
            | "smtp_alert"
            | "email_faults" => lost(statement, "rendezvip sends no mail; alert on its metrics", draft),
            "enable_snmp_vrrp" | "enable_snmp_keepalived" | "enable_snmp_rfc" | "enable_traps" | "snmp_socket" => {
                lost(statement, "there is no SNMP; /metrics has it for Prometheus", draft);
            }
            "vrrp_version" => {}
            keyword if keyword.starts_with("vrrp_garp") || keyword.starts_with("vrrp_gna") => {
                differs(statement, "the schedule of announcements is fixed: at 0, 0.1, 1.1 and 3 s", draft);
            }
            "vrrp_mcast_group4"
            | "vrrp_mcast_group6"
            | "vrrp_strict"
            | "vrrp_skip_check_adv_addr"
            | "vrrp_priority"
            | "vrrp_iptables"
            | "vrrp_ipsets"
            | "vrrp_higher_prio_send_advert"
            | "vrrp_lower_prio_no_advert" => {
                differs(statement, "it concerns VRRP's own packets, which are no longer sent", draft);
            }
            "lvs_sync_daemon" | "lvs_flush" | "lvs_timeouts" => {
                lost(statement, "rendezvip balances no connections", draft)
            }
            _ => lost(statement, "it has no counterpart", draft),
        }
    }
}

fn script(block: &Statement, draft: &mut Draft) -> (CheckName, CheckDraft) {
    let name = named(block.word(1).unwrap_or_default(), "script");
    let mut interval = Duration::from_secs(1);
    let mut timeout = None;
    let (mut fall, mut rise) = (1, 1);
    let mut command = String::new();
    for statement in &block.block {
        let seconds = || statement.word(1).and_then(seconds);
        let count = || statement.word(1).and_then(|word| word.parse().ok());
        match statement.keyword() {
            "script" => command = statement.words[1..].join(" "),
            "interval" => interval = seconds().unwrap_or(interval),
            "timeout" => timeout = seconds(),
            "fall" => fall = count().unwrap_or(fall),
            "rise" => rise = count().unwrap_or(rise),
            "weight" if statement.word(1) == Some("0") => {}
            "weight" => differs(statement, "a failing check takes the node's VIPs away, whatever its weight", draft),
            "user" => differs(statement, "checks run as the daemon does", draft),
            "init_fail" => differs(statement, "a check counts as failing until it has passed `rise` times", draft),
            _ => lost(statement, "it has no counterpart", draft),
        }
    }
    let timeout = timeout.unwrap_or(interval);
    (name, CheckDraft { probe: probe(&command), interval, timeout, fall: fall.max(1), rise: rise.max(1) })
}

/// What a script looks at: most of them ask whether a process lives.
fn probe(command: &str) -> ProbeDraft {
    let words: Vec<&str> = command.split_whitespace().collect();
    let program = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
    let process = match (program, &words[..]) {
        ("killall", [_, "-0", process]) | ("pidof" | "pgrep", [_, process]) => Some(*process),
        ("pgrep" | "pidof", [_, "-x" | "-s" | "-q", process]) => Some(*process),
        _ => None,
    };
    let plain = |text: &str| text.chars().all(|sign| sign.is_ascii_alphanumeric() || "-_.".contains(sign));
    match process {
        Some(process) if plain(process) && process.len() <= 15 => ProbeDraft::Process(process.to_owned()),
        _ if command.starts_with('/')
            && !command.contains(['|', '&', ';', '<', '>', '$', '`', '*', '(', '\'', '"']) =>
        {
            ProbeDraft::Exec(words.into_iter().map(str::to_owned).collect())
        }
        _ => ProbeDraft::Exec(vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()]),
    }
}

fn process(block: &Statement, draft: &mut Draft) -> (CheckName, CheckDraft) {
    let mut name = block.word(1).unwrap_or_default().to_owned();
    let check = named(&name, "process");
    for statement in &block.block {
        match statement.keyword() {
            "process" => {
                name = statement.word(1).unwrap_or(&name).rsplit('/').next().unwrap_or_default().to_owned();
                if statement.words.len() > 2 {
                    differs(statement, "the process is found by its name alone", draft);
                }
            }
            "weight" if statement.word(1) == Some("0") => {}
            "weight" => differs(statement, "a failing check takes the node's VIPs away, whatever its weight", draft),
            _ => lost(statement, "it has no counterpart", draft),
        }
    }
    let name = name.chars().take(15).collect();
    let second = Duration::from_secs(1);
    (check, CheckDraft { probe: ProbeDraft::Process(name), interval: second, timeout: second / 2, fall: 1, rise: 1 })
}

fn group(block: &Statement, host: &mut Host, draft: &mut Draft) {
    let name = block.word(1).unwrap_or_default().to_owned();
    let mut members = Vec::new();
    for statement in &block.block {
        match statement.keyword() {
            "group" => {
                let words = statement.words[1..].iter().chain(statement.block.iter().flat_map(|inner| &inner.words));
                members.extend(words.cloned());
            }
            keyword if keyword.starts_with("notify") => notify(statement, host, draft),
            "track_script" | "track_process" | "track_interface" | "track_file" => {
                differs(statement, "name it in the instances of the group; it is not taken from the group", draft);
            }
            "global_tracking" | "sync_group_tracking_weight" => {
                differs(statement, "a failing check takes the node's VIPs away, whatever its weight", draft);
            }
            _ => lost(statement, "it has no counterpart", draft),
        }
    }
    host.groups.push((name, members));
}

fn notify(statement: &Statement, host: &mut Host, draft: &mut Draft) {
    let hook = match statement.keyword() {
        "notify_master" | "notify_master_rx_lower_pri" => &mut host.own.acquired,
        "notify_backup" | "notify_fault" | "notify_stop" | "notify_deleted" => &mut host.own.released,
        _ => return lost(statement, "split it: hooks.acquired and hooks.released are called with the VIPs", draft),
    };
    let mut words = statement.words[1..].iter().flat_map(|word| word.split_whitespace());
    match words.next() {
        Some(program) if program.starts_with('/') => {
            hook.insert(program.to_owned());
            let how = if words.next().is_some() {
                "it is called with the VIPs, and with these arguments no longer"
            } else {
                "it is called with the VIPs as arguments"
            };
            differs(statement, how, draft);
        }
        _ => lost(statement, "a hook is a program by its absolute path", draft),
    }
}

fn instance(block: &Statement, host: &mut Host, draft: &mut Draft) {
    let mut found = Instance {
        name: block.word(1).unwrap_or_default().to_owned(),
        place: block.place.clone(),
        router: 0,
        priority: 100,
        master: false,
        interface: None,
        vips: Vec::new(),
        source: None,
        peers: Vec::new(),
        no_preempt: false,
        preempt_delay: None,
        checks: Vec::new(),
    };
    for statement in &block.block {
        let word = statement.word(1);
        let number = || word.and_then(|word| word.parse().ok());
        match statement.keyword() {
            "state" => found.master = word == Some("MASTER"),
            "interface" => found.interface = word.and_then(|word| word.parse().ok()),
            "virtual_router_id" => found.router = number().unwrap_or(0),
            "priority" => found.priority = number().unwrap_or(100),
            "virtual_ipaddress" | "virtual_ipaddress_excluded" => {
                addresses(statement, &mut found, draft);
            }
            "unicast_peer" => {
                for peer in &statement.block {
                    match peer.keyword().parse() {
                        Ok(address) => found.peers.push(address),
                        Err(_) => lost(peer, "not an address", draft),
                    }
                }
            }
            "unicast_src_ip" | "mcast_src_ip" => found.source = word.and_then(|word| word.parse().ok()),
            "nopreempt" => found.no_preempt = true,
            "preempt" => {}
            "preempt_delay" => found.preempt_delay = word.and_then(seconds),
            "track_script" | "track_process" => {
                for tracked in &statement.block {
                    found.checks.push(named(tracked.keyword(), "check"));
                    let weight = tracked.words.iter().position(|word| word == "weight");
                    if weight.is_some_and(|at| tracked.word(at + 1) != Some("0")) {
                        differs(tracked, "a failing check takes the node's VIPs away, whatever its weight", draft);
                    }
                }
            }
            "track_interface" => {
                for tracked in &statement.block {
                    let own = found.interface.as_ref().is_some_and(|own| own.as_str() == tracked.keyword());
                    if !own {
                        lost(
                            tracked,
                            "only the interface that carries a VIP is watched; a check of the node's own file can watch another",
                            draft,
                        );
                    }
                }
            }
            "advert_int" => {
                let how = "heartbeats take its place: see `failover` of the Cluster, and `rendezvip doctor` for which one fits";
                differs(statement, how, draft);
            }
            "authentication" => {
                differs(statement, "datagrams are sealed with the key of `rendezvip keygen` instead", draft);
            }
            keyword if keyword.starts_with("notify") => notify(statement, host, draft),
            keyword if keyword.starts_with("garp_") => {
                differs(statement, "the schedule of announcements is fixed: at 0, 0.1, 1.1 and 3 s", draft);
            }
            "use_vmac" | "vmac_xmit_base" | "use_ipvlan" => {
                lost(statement, "a VIP moves to the new owner's own MAC address, announced by gratuitous ARP", draft);
            }
            "virtual_routes" | "virtual_rules" => lost(statement, "set them in a hook of the node's own file", draft),
            "smtp_alert" => lost(statement, "rendezvip sends no mail; alert on its metrics", draft),
            "track_file" | "track_bfd" => lost(statement, "a check of the node's own file comes near", draft),
            "version"
            | "native_ipv6"
            | "lvs_sync_daemon_interface"
            | "debug"
            | "dont_track_primary"
            | "accept"
            | "strict_mode"
            | "skip_check_adv_addr"
            | "checksum_compatibility"
            | "old_unicast_checksum"
            | "unicast_ttl"
            | "higher_prio_send_advert"
            | "lower_prio_no_advert"
            | "unicast_fault_no_peers"
            | "check_unicast_src" => {
                differs(statement, "it concerns VRRP's own packets, which are no longer sent", draft);
            }
            "no_accept" => lost(
                statement,
                "the owner accepts what is sent to a VIP; use `attach: none` where something else terminates it",
                draft,
            ),
            "promote_secondaries" => {}
            _ => lost(statement, "it has no counterpart", draft),
        }
    }
    host.instances.push(found);
}

fn addresses(block: &Statement, instance: &mut Instance, draft: &mut Draft) {
    for statement in &block.block {
        let text = statement.keyword();
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let vip = match address.parse::<Vip>() {
            Ok(vip) => vip,
            Err(why) => {
                lost(statement, &format!("it cannot be a VIP, as it is {why}"), draft);
                continue;
            }
        };
        let whole = if vip.is_ipv4() { "32" } else { "128" };
        if prefix.is_some_and(|prefix| prefix != whole) {
            let how = format!("it stands on the interface as /{whole}, so it adds no route to its subnet");
            draft.note(Fate::Differs, statement.place.at(), format!("{text}: {how}"));
        }
        let mut dev = None;
        let mut words = statement.words[1..].iter().map(String::as_str);
        while let Some(word) = words.next() {
            match word {
                "dev" => dev = words.next().and_then(|name| name.parse().ok()),
                "brd" | "broadcast" | "scope" | "peer" | "home" | "preferred_lft" | "metric" => {
                    let value = words.next().unwrap_or_default();
                    if word != "brd" && word != "broadcast" {
                        let how = match word {
                            "scope" => "a VIP has scope host, so that it is never a source address",
                            _ => "it has no counterpart",
                        };
                        draft.note(Fate::Lost, statement.place.at(), format!("{word} {value} of {vip}: {how}"));
                    }
                }
                "label" => {
                    let label = words.next().unwrap_or_default();
                    let how = "the address is marked by IFA_PROTO 118 instead, as `ip -d addr` shows";
                    draft.note(Fate::Lost, statement.place.at(), format!("label {label} of {vip}: {how}"));
                }
                "no_track" | "noprefixroute" | "nodad" | "-nodad" | "mngtmpaddr" => {}
                other => {
                    draft.note(Fate::Lost, statement.place.at(), format!("{other} of {vip}: it has no counterpart"))
                }
            }
        }
        instance.vips.push((vip, dev, statement.place.clone()));
    }
}

/// `2`, `0.5`, `1.25`: seconds with a fraction, read without a float.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let millis = whole.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    (millis > 0).then(|| Duration::from_millis(millis))
}
