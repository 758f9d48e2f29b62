//! Hosts made up here, and what people read about them.

use super::*;
use crate::agent::doctor::trial::Trial;
use crate::agent::doctor::{Clock, Interface, KeptFile, Mode, Rights, Seen, State as StateFolder, pulse::Pulse};
use crate::manifest::desired::Profile;
use crate::name::NodeName;

fn trip(node: &str, p50: u64, lost: usize) -> Trip {
    let node = NodeName::new(node).unwrap();
    Trip { node, p50, p99: p50 * 3, max: p50 * 9, jitter: p50 / 4, samples: 512 - lost, lost }
}

fn fit() -> Facts {
    Facts {
        kernel: "6.12.9".to_owned(),
        gate: Seen::So(Trial::Stands { owned: true }),
        rights: Rights { daemon: Some(812), capabilities: u64::MAX, memlock: None, rtprio: 0 },
        pulse: Pulse { real_time: true, span_ms: 5000, p50: 61, p99: 140, max: 800 },
        clock: Clock {
            realtime: 1_790_000_000,
            stepped_ms: 0,
            synchronised: Seen::So(true),
            source: Seen::So("tsc".to_owned()),
        },
        interfaces: Seen::So(vec![Interface {
            name: "eth0".to_owned(),
            up: true,
            running: true,
            subnets: vec!["10.99.0.0/16".parse().unwrap(), "fd99::/64".parse().unwrap()],
            multicast: true,
            filter: Some(true),
            arp_ignore: 1,
            ..Interface::default()
        }]),
        absent: Vec::new(),
        files: vec![KeptFile {
            field: "gossip.keyFile",
            path: "/etc/rendezvip/gossip.key".to_owned(),
            secret: true,
            mode: Mode::Is(0o600),
        }],
        state: StateFolder { path: "/var/lib/rendezvip".to_owned(), volatile: Some(false) },
        port: None,
        peers: Peers::Daemon {
            trips: vec![trip("edge-b", 310, 0), trip("edge-c", 280, 2)],
            latest_us: 2_100,
            unasked: vec![NodeName::new("edge-d").unwrap()],
        },
        rivals: Vec::new(),
    }
}

fn unfit() -> Facts {
    Facts {
        kernel: "6.1.0-28-amd64".to_owned(),
        gate: Seen::So(Trial::Stands { owned: false }),
        rights: Rights { daemon: Some(812), capabilities: 1 << 12, memlock: Some(8 << 20), rtprio: 0 },
        pulse: Pulse { real_time: false, span_ms: 5000, p50: 90, p99: 12_300, max: 71_000 },
        clock: Clock {
            realtime: 1_790_000_000,
            stepped_ms: -1_200,
            synchronised: Seen::So(false),
            source: Seen::So("jiffies".to_owned()),
        },
        interfaces: Seen::So(vec![
            Interface {
                name: "eth0".to_owned(),
                up: true,
                running: true,
                subnets: vec!["10.99.0.0/16".parse().unwrap()],
                arp_ignore: 3,
                rp_filter: 1,
                proxy_arp: true,
                promiscuous: true,
                arp_filter: true,
                ipv6_disabled: true,
                ..Interface::default()
            },
            Interface {
                name: "br0".to_owned(),
                multicast: true,
                subnets: vec!["10.98.0.0/16".parse().unwrap()],
                snooping_unasked: Some("br0".to_owned()),
                shared_mac: true,
                wireless: true,
                ..Interface::default()
            },
        ]),
        absent: vec!["eth7".to_owned()],
        files: vec![
            KeptFile { field: "gossip.keyFile", path: "/etc/k".to_owned(), secret: true, mode: Mode::Is(0o644) },
            KeptFile {
                field: "source.git.sshKeyFile",
                path: "/etc/id".to_owned(),
                secret: true,
                mode: Mode::Missing("No such file or directory (os error 2)".to_owned()),
            },
        ],
        state: StateFolder { path: "/run/rendezvip".to_owned(), volatile: Some(true) },
        port: Some(Err("UDP 0.0.0.0:7847: Address in use (os error 98)".to_owned())),
        peers: Peers::Daemon {
            trips: vec![trip("edge-b", 900, 60), trip("edge-c", 0, 512)],
            latest_us: 90_000,
            unasked: Vec::new(),
        },
        rivals: vec!["keepalived".to_owned()],
    }
}

fn shown(facts: &Facts, declared: Option<Failover>) -> String {
    let fits = judge::fits(facts, declared);
    human(Some("edge-a"), facts, &judge::judge(facts, &fits), &fits, Paint(false))
}

const DECLARED: Failover = Failover { heartbeat: Duration::from_millis(100), profile: Profile::Default };

#[test]
fn a_host_that_is_fit_is_said_to_be() {
    insta::assert_snapshot!(shown(&fit(), Some(DECLARED)));
    let fits = judge::fits(&fit(), Some(DECLARED));
    insta::assert_snapshot!(json(Some("edge-a"), &fit(), &judge::judge(&fit(), &fits), &fits));
}

#[test]
fn all_that_must_be_mended_is_told_at_once_each_with_its_remedy() {
    insta::assert_snapshot!(shown(&unfit(), Some(DECLARED)));
    let findings = judge::judge(&unfit(), &judge::fits(&unfit(), None));
    let bare = |finding: &&Finding| finding.state == State::Mend && (finding.code.is_none() || finding.help.is_none());
    assert_eq!(findings.iter().find(bare), None);
}

#[test]
fn what_could_not_be_looked_at_is_no_fault() {
    let facts = Facts {
        gate: Seen::Not("this user may make no network namespace to try it in; ask as root".to_owned()),
        rights: Rights { daemon: None, capabilities: 0, memlock: Some(8 << 20), rtprio: 0 },
        interfaces: Seen::Not("cannot open a netlink socket: Permission denied (EACCES)".to_owned()),
        peers: Peers::Unknown("no daemon answers".to_owned()),
        files: vec![KeptFile { mode: Mode::Unseen, ..fit().files.remove(0) }],
        ..fit()
    };
    insta::assert_snapshot!(shown(&facts, None));
}

#[test]
fn the_heartbeat_that_is_proposed_survives_three_times_what_was_measured() {
    for max in [100, 900, 5_000, 30_000, 200_000] {
        let facts = Facts { pulse: Pulse { max, ..fit().pulse }, ..fit() };
        for profile in [Profile::Default, Profile::Fast] {
            let fits = judge::fits(&facts, Some(Failover { profile, ..DECLARED }));
            let heartbeat = Duration::from_millis(fits.shortest_ms.unwrap());
            let again = judge::fits(&facts, Some(Failover { heartbeat, profile }));
            assert!(again.fits && again.survives_us >= 3 * again.worst_us, "{again:?}");
        }
    }
}
