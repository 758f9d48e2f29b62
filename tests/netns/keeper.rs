//! The keeper, and deaths of its parent.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rendezvip::agent::clock;
use rendezvip::agent::keeper::{Goodbye, Keeper, KeeperState};
use rendezvip::agent::netlink::{Edit, Netlink};
use rendezvip::agent::nft::{Gate, GuardedInterface};
use rendezvip::name::InterfaceName;

use crate::namespace::{role, veth, vip, vips, within};

const BINARY: &str = env!("CARGO_BIN_EXE_rendezvip");

/// A daemon of the least sort, in a process of its own: holds two VIPs with a long lease, keeps a keeper, and waits for
/// what comes. `orders` on its command line: the port that the goodbye goes to.
pub fn daemon(port: u16, orderly: bool) {
    let interface = nix::net::if_::if_nametoindex("va").unwrap();
    let vips = [vip("10.99.0.100"), vip("fd99::100")];
    let mut gate = Gate::open().unwrap();
    gate.interfaces(&[GuardedInterface { name: InterfaceName::new("va").unwrap(), own6: None }]).unwrap();
    gate.guard(&vips, &[]).unwrap();
    gate.hold(&vips, &[]).unwrap();
    gate.lease(clock::lease_end(clock::now() + Duration::from_secs(600))).unwrap();
    let mut netlink = Netlink::open().unwrap();
    assert_eq!(netlink.apply(&vips.map(|vip| Edit::Add { vip, interface })), []);
    assert_eq!(netlink.apply(&[Edit::Linger(vip("10.99.0.101"))]), []);
    let keeper = Keeper::spawn_from(Path::new(BINARY)).unwrap();
    let goodbye = |words: &[u8]| KeeperState {
        from: IpAddr::V4(Ipv4Addr::LOCALHOST),
        goodbyes: vec![Goodbye { to: (Ipv4Addr::LOCALHOST, port).into(), datagram: words.to_vec() }],
    };
    keeper.update(&goodbye(b"older")).unwrap();
    keeper.update(&goodbye(b"goodbye")).unwrap();
    // The keeper has its sockets once it has read what it is told; a death before that is the lease's to bound.
    std::thread::sleep(Duration::from_millis(300));
    println!("ready");
    if orderly {
        keeper.dismiss().unwrap();
        println!("dismissed");
    }
    std::thread::sleep(Duration::from_secs(60));
}

struct Scene {
    netlink: Netlink,
    peer: UdpSocket,
    daemon: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

fn scene(orderly: bool) -> Scene {
    veth();
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = peer.local_addr().unwrap().port();
    let mut daemon: Child = Command::new(std::env::current_exe().unwrap())
        .args(["roles::daemon", "--exact", "--nocapture", "--test-threads=1"])
        .envs(role(&format!("{port} {orderly}")))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.ends_with("ready")));
    Scene { netlink: Netlink::open().unwrap(), peer, daemon, lines }
}

impl Scene {
    fn ours(&mut self) -> usize {
        let mut edits = Vec::new();
        self.netlink.leftovers(&mut edits).unwrap();
        edits.len()
    }

    fn said(&self, patience: Duration) -> Option<Vec<u8>> {
        self.peer.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = [0; 100];
        match self.peer.recv(&mut bytes) {
            Ok(length) => Some(bytes[..length].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_killed_daemon_leaves_nothing_behind_and_says_goodbye() {
    within("keeper::a_killed_daemon_leaves_nothing_behind_and_says_goodbye", || {
        let mut scene = scene(false);
        assert_eq!(scene.ours(), 3);
        let death = Instant::now();
        scene.daemon.kill().unwrap();
        assert_eq!(scene.said(Duration::from_secs(2)).as_deref(), Some(&b"goodbye"[..]));
        let goodbye = death.elapsed();
        while scene.ours() > 0 {
            assert!(death.elapsed() < Duration::from_secs(2), "leftovers");
        }
        println!("goodbye after {goodbye:?}, clean after {:?}", death.elapsed());
        scene.daemon.wait().unwrap();
        // The gate stands, closed and without an owner: the next daemon takes it over.
        let gate = Gate::open().unwrap();
        assert_eq!(gate.guarded().len(), 2);
    });
}

#[test]
fn a_keeper_whose_gate_somebody_else_owns_by_now_touches_nothing() {
    within("keeper::a_keeper_whose_gate_somebody_else_owns_by_now_touches_nothing", || {
        // The next daemon, already at work: it owns the gate and has put up an address of its own.
        let interface = veth();
        let _gate = Gate::open().unwrap();
        let mut netlink = Netlink::open().unwrap();
        assert_eq!(netlink.apply(&[Edit::Add { vip: vip("10.99.0.100"), interface }]), []);
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let keeper = Keeper::spawn_from(Path::new(BINARY)).unwrap();
        let goodbye = Goodbye { to: peer.local_addr().unwrap(), datagram: b"goodbye".to_vec() };
        keeper.update(&KeeperState { from: Ipv4Addr::LOCALHOST.into(), goodbyes: vec![goodbye] }).unwrap();
        drop(keeper);
        peer.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        assert!(peer.recv(&mut [0; 100]).is_err(), "a goodbye before the gate was closed");
        assert_eq!(netlink.snapshot().unwrap().ours().count(), 1);
    });
}

#[test]
fn a_keeper_without_a_gate_cleans_up_first_and_says_goodbye_then() {
    within("keeper::a_keeper_without_a_gate_cleans_up_first_and_says_goodbye_then", || {
        let interface = veth();
        let mut netlink = Netlink::open().unwrap();
        let all: Vec<Edit> = vips(500).map(|vip| Edit::Add { vip, interface }).collect();
        assert_eq!(netlink.apply(&all), []);
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let keeper = Keeper::spawn_from(Path::new(BINARY)).unwrap();
        let goodbye = Goodbye { to: peer.local_addr().unwrap(), datagram: b"goodbye".to_vec() };
        keeper.update(&KeeperState { from: Ipv4Addr::LOCALHOST.into(), goodbyes: vec![goodbye] }).unwrap();
        drop(keeper);
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(peer.recv(&mut [0; 100]).unwrap(), 7);
        assert_eq!(netlink.snapshot().unwrap().ours().count(), 0);
    });
}

#[test]
fn a_dismissed_keeper_touches_nothing() {
    within("keeper::a_dismissed_keeper_touches_nothing", || {
        let mut scene = scene(true);
        assert!(scene.lines.by_ref().map_while(Result::ok).any(|line| line.ends_with("dismissed")));
        assert_eq!(scene.said(Duration::from_millis(200)), None);
        assert_eq!(scene.ours(), 3);
        scene.daemon.kill().unwrap();
        scene.daemon.wait().unwrap();
        assert_eq!(scene.said(Duration::from_millis(200)), None);
        assert_eq!(scene.ours(), 3, "no keeper, no cleaning: the next daemon's first deed");
    });
}
