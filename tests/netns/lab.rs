//! The lab itself: what the other tests rely on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use ipnet::IpNet;
use rendezvip::lab::bystander::Bystander;
use rendezvip::lab::client::Client;
use rendezvip::lab::faults::{Direction, Frames};
use rendezvip::lab::link::Links;
use rendezvip::lab::now;
use rendezvip::lab::segment::Segment;

use crate::in_a_lab;

const SOON: Duration = Duration::from_secs(5);

fn vips() -> BTreeSet<IpAddr> {
    ["10.99.0.100", "fd99::100"].into_iter().map(|vip| vip.parse().unwrap()).collect()
}

/// Puts the addresses on a node by hand, as somebody without rendezvip would.
fn put(segment: &Segment, node: &str) {
    segment.node(node).place().run(|| {
        let mut links = Links::open().unwrap();
        for vip in vips() {
            links.add_address("eth0", IpNet::from(vip)).unwrap();
        }
    });
}

fn take(segment: &Segment, node: &str) {
    segment.node(node).place().run(|| {
        let mut links = Links::open().unwrap();
        for vip in vips() {
            links.delete_address("eth0", IpNet::from(vip)).unwrap();
        }
    });
}

fn watchers(segment: &Segment) -> (Client, Bystander) {
    let client = Client::start(segment.client()).unwrap();
    let bystander = Bystander::start(segment.bystander(), "eth0", segment.bystander_addresses()).unwrap();
    client.watch(&vips());
    bystander.watch(&vips());
    (client, bystander)
}

#[test]
fn a_client_and_a_bystander_see_who_serves_a_vip_and_how_long_nobody_did() {
    in_a_lab(|| {
        let segment = Segment::new(&["edge-a", "edge-b"], false).unwrap();
        put(&segment, "edge-a");
        let (client, bystander) = watchers(&segment);
        assert!(client.answered(&vips(), SOON), "{:?}", client.report());
        let a = segment.node("edge-a").seat().mac();
        assert!(bystander.wait(SOON, |who| who.len() == 2 && who.values().all(|mac| *mac == a)).is_some());

        client.mark();
        let start = now();
        take(&segment, "edge-a");
        std::thread::sleep(Duration::from_millis(200));
        put(&segment, "edge-b");
        let b = segment.node("edge-b").seat().mac();
        assert!(bystander.wait(SOON, |who| who.len() == 2 && who.values().all(|mac| *mac == b)).is_some());
        // Nobody announced the move, so a real client goes on asking the wrong one.
        let silence = client.report();
        assert!(silence.values().all(|one| one.ongoing && one.longest >= Duration::from_millis(190)), "{silence:?}");
        assert_eq!(bystander.overlaps(start), []);
        for vip in vips() {
            bystander.send(&rendezvip::lab::frame::announcement(b, vip)).unwrap();
        }
        assert!(client.answered(&vips(), SOON), "{:?}", client.report());
        assert!(client.report().values().all(|one| !one.ongoing && one.lost > 30));
    });
}

#[test]
fn a_bystander_sees_two_that_claim_one_address() {
    in_a_lab(|| {
        let segment = Segment::new(&["edge-a", "edge-b"], false).unwrap();
        let (_client, bystander) = watchers(&segment);
        put(&segment, "edge-a");
        put(&segment, "edge-b");
        let start = now();
        let both = |segment: &Segment| [segment.node("edge-a").seat().mac(), segment.node("edge-b").seat().mac()];
        let claimed = || bystander.claims(start);
        let until = now() + SOON;
        while !both(&segment).iter().all(|mac| claimed().iter().filter(|one| one.claim.mac == *mac).count() > 5) {
            assert!(now() < until, "{:?}", claimed());
            std::thread::sleep(Duration::from_millis(20));
        }
        let found: BTreeSet<IpAddr> = bystander.overlaps(start).iter().map(|one| one.vip).collect();
        assert_eq!(found, vips());
    });
}

#[test]
fn a_pulled_cable_and_a_dead_host_are_silent_and_come_back() {
    in_a_lab(|| {
        let mut segment = Segment::new(&["edge-a", "edge-b"], true).unwrap();
        put(&segment, "edge-a");
        let (client, _bystander) = watchers(&segment);
        assert!(client.answered(&vips(), SOON));
        segment.pull_cable("edge-a").unwrap();
        assert!(!client.answered(&vips(), Duration::from_millis(100)));
        segment.plug_cable("edge-a").unwrap();
        // IPv6 addresses went with the interface's carrier only if the kernel says so; it does not.
        assert!(client.answered(&vips(), SOON), "{:?}", client.report());

        let mut sleeper = Command::new("sleep");
        sleeper.arg("1000");
        let mut child = segment.node("edge-a").place().spawn(sleeper).unwrap();
        segment.power_off("edge-a").unwrap();
        assert!(!child.wait().unwrap().success(), "a process outlived its host");
        assert!(!client.answered(&vips(), Duration::from_millis(100)));
        segment.power_on("edge-a").unwrap();
        assert!(!client.answered(&vips(), Duration::from_millis(100)), "a new boot remembers no address");
        put(&segment, "edge-a");
        assert!(client.answered(&vips(), SOON), "{:?}", client.report());
        assert!(segment.counters("edge-a").unwrap().sent > 0);
    });
}

#[test]
fn frames_are_lost_as_asked_and_no_others() {
    in_a_lab(|| {
        let mut segment = Segment::new(&["edge-a", "edge-b"], false).unwrap();
        put(&segment, "edge-a");
        let (client, _bystander) = watchers(&segment);
        assert!(client.answered(&vips(), SOON));

        client.mark();
        segment.lose("edge-a", Direction::Out, Frames::All, 30).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        let seen = client.report();
        segment.heal().unwrap();
        for one in seen.values() {
            let percent = one.lost * 100 / one.sent;
            assert!((15..45).contains(&percent), "{seen:?}");
        }

        // One way only: what edge-b says does not arrive at edge-a, and edge-a's datagrams do arrive at edge-b.
        let udp = |name: &str| {
            segment.node(name).place().run(|| {
                let socket = std::net::UdpSocket::bind("0.0.0.0:7847").unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                socket
            })
        };
        let (a, b) = (udp("edge-a"), udp("edge-b"));
        let heard = |from: &std::net::UdpSocket, to: &std::net::UdpSocket, address: &str| {
            from.send_to(b"x", (address, 7847)).unwrap();
            to.recv(&mut [0; 8]).is_ok()
        };
        assert!(heard(&b, &a, "10.99.0.10") && heard(&a, &b, "10.99.0.11"));
        segment.deafen("edge-a", "edge-b").unwrap();
        assert!(!heard(&b, &a, "10.99.0.10") && heard(&a, &b, "10.99.0.11"));
        segment.heal().unwrap();
        segment.lose("edge-a", Direction::Out, Frames::Udp(7847), 100).unwrap();
        assert!(heard(&b, &a, "10.99.0.10") && !heard(&a, &b, "10.99.0.11"));
        assert!(client.answered(&vips(), SOON), "only that port is lost");
        segment.heal().unwrap();
        segment.partition(&["edge-a"], &["edge-b"]).unwrap();
        assert!(!heard(&b, &a, "10.99.0.10") && !heard(&a, &b, "10.99.0.11"));
        assert!(client.answered(&vips(), SOON), "the client hears both halves");
    });
}

#[test]
fn signals_reach_every_process_of_a_node_and_nobody_else() {
    in_a_lab(|| {
        let segment = Segment::new(&["edge-a", "edge-b"], false).unwrap();
        let sleeper = || {
            let mut sleeper = Command::new("sleep");
            sleeper.arg("1000");
            sleeper
        };
        let mut here = segment.node("edge-a").place().spawn(sleeper()).unwrap();
        let mut there = segment.node("edge-b").place().spawn(sleeper()).unwrap();
        // A process stops, and goes on, when the scheduler next comes to it.
        let becomes = |child: &std::process::Child, stopped: bool| {
            let until = now() + SOON;
            loop {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
                if stat.rsplit(") ").next().unwrap().starts_with('T') == stopped {
                    return true;
                }
                if now() > until {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        segment.node("edge-a").place().stop_all().unwrap();
        assert!(becomes(&here, true) && becomes(&there, false));
        segment.node("edge-a").place().continue_all().unwrap();
        assert!(becomes(&here, false));
        segment.node("edge-a").place().kill_all().unwrap();
        assert!(!here.wait().unwrap().success());
        assert_eq!(there.try_wait().unwrap(), None);
        let hostname = segment.node("edge-b").place().output(Command::new("hostname")).unwrap();
        assert_eq!(String::from_utf8_lossy(&hostname.stdout).trim(), "edge-b");
    });
}

#[test]
fn a_lab_whose_first_process_is_killed_leaves_no_process_behind() {
    // Nobody else sleeps for exactly so long.
    const MARK: &str = "86399.731";
    let running = || {
        let commands = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&command).into_owned())
        });
        commands.filter(|command| command.starts_with("sleep") && command.contains(MARK)).count()
    };
    let mut lab = Command::new(env!("CARGO_BIN_EXE_rendezvip"))
        .args(["lab-enter", "--", "sleep", MARK])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let until = now() + SOON;
    while running() == 0 {
        if lab.try_wait().unwrap().is_some() {
            println!("skipped: {}", std::io::read_to_string(lab.stderr.take().unwrap()).unwrap());
            return;
        }
        assert!(now() < until, "it never ran");
        std::thread::sleep(Duration::from_millis(10));
    }
    lab.kill().unwrap();
    lab.wait().unwrap();
    while running() > 0 {
        assert!(now() < until + SOON, "a process outlived the lab");
        std::thread::sleep(Duration::from_millis(10));
    }
}
