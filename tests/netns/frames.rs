//! The gate and the packet port, with real frames on a veth pair: `va` is the node's, `vb` a client's.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use rendezvip::agent::clock;
use rendezvip::agent::netlink::{Edit, Netlink, prepare_interface};
use rendezvip::agent::nft::{Gate, GuardedInterface};
use rendezvip::agent::packet::{PacketSocket, Sent};
use rendezvip::name::InterfaceName;
use rendezvip::time;
use rendezvip::vip::Vip;
use rendezvip::wire::arp;
use rendezvip::wire::ethernet::MacAddr;
use rendezvip::wire::frame::{Body, Frame};
use rendezvip::wire::ndp::{self, ALL_NODES, Advertisement, Solicitation};

use crate::namespace::{ip, veth, vip, within};

const VIP4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);
const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x100);
const CLIENT4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 200);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x200);
/// No interface of this namespace has it, so the kernel leaves the client to us.
const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 2, 0]);

/// Both ends of the pair, and what a node has.
struct Segment {
    interface: u32,
    node_mac: MacAddr,
    own6: Ipv6Addr,
    node: PacketSocket,
    client: PacketSocket,
    netlink: Netlink,
    gate: Gate,
}

fn vips() -> [Vip; 2] {
    [vip("10.99.0.100"), vip("fd99::100")]
}

impl Segment {
    /// The VIPs stand on `va`, guarded and held; no lease yet.
    fn new() -> Self {
        // Of the client's end the kernel must not take part.
        let interface = veth();
        std::fs::write("/proc/sys/net/ipv6/conf/vb/disable_ipv6", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/vb/arp_ignore", "8").unwrap();
        let [va, vb] = ["va", "vb"].map(|name| InterfaceName::new(name).unwrap());
        prepare_interface(&va, false).unwrap();
        let mut netlink = Netlink::open().unwrap();
        // Link-local and solicited-node groups are there once duplicate address detection has passed.
        let until = Instant::now() + Duration::from_secs(10);
        let own6 = loop {
            match netlink.snapshot().unwrap().interfaces[&interface].own6() {
                Some(own6) if !is_tentative(own6) => break own6,
                _ => assert!(Instant::now() < until, "no link-local address"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let snapshot = netlink.snapshot().unwrap();
        let node_mac = snapshot.interfaces[&interface].mac.unwrap();
        let mut gate = Gate::open().unwrap();
        gate.interfaces(&[GuardedInterface { name: va.clone(), own6: Some(own6) }]).unwrap();
        gate.guard(&vips(), &[]).unwrap();
        gate.hold(&vips(), &[]).unwrap();
        assert_eq!(netlink.apply(&vips().map(|vip| Edit::Add { vip, interface })), []);
        await_group();
        let node = PacketSocket::open(&va, interface).unwrap();
        let client = PacketSocket::open(&vb, snapshot.named("vb").unwrap().index).unwrap();
        Self { interface, node_mac, own6, node, client, netlink, gate }
    }

    fn lease(&mut self, length: Duration) -> time::Instant {
        let until = clock::now() + length;
        self.gate.lease(clock::lease_end(until)).unwrap();
        until
    }

    /// Sends a frame from the client; what comes back within `patience`, up to the first that `wanted` takes.
    fn ask(&mut self, frame: &[u8], patience: Duration, wanted: impl Fn(&Body) -> bool) -> Option<Frame> {
        while self.client.receive().unwrap().is_some() {}
        assert_eq!(self.client.send(&[frame]).unwrap().sent, 1);
        self.hear(patience, wanted)
    }

    fn hear(&mut self, patience: Duration, wanted: impl Fn(&Body) -> bool) -> Option<Frame> {
        let until = Instant::now() + patience;
        loop {
            while let Some(bytes) = self.client.receive().unwrap() {
                match Frame::parse(bytes) {
                    Ok(frame) if wanted(&frame.body) => return Some(frame),
                    _ => {}
                }
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn who_has(&mut self, patience: Duration) -> [bool; 2] {
        let request = who_has(VIP4);
        let solicitation = solicit(VIP6);
        [
            self.ask(&request, patience, |body| matches!(body, Body::Arp(arp) if arp.sender_ip == VIP4)).is_some(),
            self.ask(
                &solicitation,
                patience,
                |body| matches!(body, Body::Ndp(ndp::Repr::Advertisement(said)) if said.target == VIP6),
            )
            .is_some(),
        ]
    }
}

/// The kernel joins the solicited-node group of a new address by a work queue, milliseconds later; before that it hears no
/// multicast solicitation. A neighbour asks again after a second; these tests ask once.
fn await_group() {
    let added = Instant::now();
    while !std::fs::read_to_string("/proc/net/igmp6").unwrap().contains("ff0200000000000000000001ff000100") {
        assert!(added.elapsed() < Duration::from_secs(10), "the solicited-node group of the VIP is not joined");
    }
}

fn is_tentative(own6: Ipv6Addr) -> bool {
    // The kernel answers for an address, and binds to it, once it is no longer tentative.
    let index = nix::net::if_::if_nametoindex("va").unwrap();
    std::net::UdpSocket::bind(std::net::SocketAddrV6::new(own6, 0, 0, index)).is_err()
}

fn arp(destination: MacAddr, source: MacAddr, repr: arp::Repr) -> Vec<u8> {
    Frame { destination, source, body: Body::Arp(repr) }.to_bytes()
}

fn who_has(target: Ipv4Addr) -> Vec<u8> {
    let operation = arp::Operation::Request;
    let (sender_mac, sender_ip, target_mac) = (CLIENT_MAC, CLIENT4, MacAddr::ZERO);
    arp(MacAddr::BROADCAST, CLIENT_MAC, arp::Repr { operation, sender_mac, sender_ip, target_mac, target_ip: target })
}

fn solicit(target: Ipv6Addr) -> Vec<u8> {
    let destination = ndp::solicited_node(target);
    let body = Solicitation { source: CLIENT6, destination, target, source_mac: Some(CLIENT_MAC) };
    Frame {
        destination: ndp::multicast_mac(destination),
        source: CLIENT_MAC,
        body: Body::Ndp(ndp::Repr::Solicitation(body)),
    }
    .to_bytes()
}

/// A gratuitous ARP request and an unsolicited advertisement, as an owner announces a VIP.
fn announcements(mac: MacAddr) -> [Vec<u8>; 2] {
    let operation = arp::Operation::Request;
    let (sender_mac, target_mac) = (mac, MacAddr::ZERO);
    let body = Advertisement {
        source: VIP6,
        destination: ALL_NODES,
        target: VIP6,
        target_mac: Some(mac),
        router: false,
        solicited: false,
        overrides: true,
    };
    [
        arp(MacAddr::BROADCAST, mac, arp::Repr { operation, sender_mac, sender_ip: VIP4, target_mac, target_ip: VIP4 }),
        Frame {
            destination: ndp::multicast_mac(ALL_NODES),
            source: mac,
            body: Body::Ndp(ndp::Repr::Advertisement(body)),
        }
        .to_bytes(),
    ]
}

#[test]
fn every_question_is_answered_while_the_lease_is_renewed_and_none_after_its_end() {
    within("frames::every_question_is_answered_while_the_lease_is_renewed_and_none_after_its_end", || {
        let mut segment = Segment::new();
        let length = Duration::from_millis(160);
        let start = clock::now();
        let mut until = segment.lease(length);
        let (mut within, mut after, mut lapses, mut renewed) = (0, 0, 0, start);
        while clock::now().since(start) < Duration::from_millis(1_400) {
            // Renewed each 100 ms for a second; then the daemon hangs.
            let now = clock::now();
            if now.since(start) < Duration::from_secs(1) && now.since(renewed) >= Duration::from_millis(100) {
                renewed = now;
                if now >= until {
                    lapses += 1; // this machine stood still for 60 ms
                }
                until = segment.lease(length);
            }
            let before = clock::now();
            let leased = before < until;
            let answers = segment.who_has(if leased { Duration::from_millis(100) } else { Duration::from_millis(5) });
            if clock::now() < until {
                within += 1;
                assert_eq!(answers, [true, true], "asked and waited within the lease, {within}");
            }
            if !leased {
                after += 1;
                assert_eq!(answers, [false, false], "asked {:?} after the end", before.since(until));
            }
        }
        assert!(within > 50 && after >= 5, "{within} within, {after} after, {lapses} lapses");
    });
}

#[test]
fn what_may_be_served_alone_passes_by_its_own_lease_and_nothing_else_does() {
    within("frames::what_may_be_served_alone_passes_by_its_own_lease_and_nothing_else_does", || {
        let mut segment = Segment::new();
        let ([v4, v6], patience, long) = (vips(), Duration::from_millis(100), Duration::from_secs(30));
        let end = |length: Duration| clock::lease_end(clock::now() + length);
        segment.gate.may_be_alone(&[v4], &[]).unwrap();
        segment.gate.alone(end(long)).unwrap();
        assert_eq!(segment.who_has(patience), [true, false], "of two that are held one may be served alone");
        segment.gate.rebuild().unwrap();
        assert_eq!(segment.who_has(patience), [true, false], "made anew");
        segment.gate.may_be_alone(&[v6], &[v4]).unwrap();
        assert_eq!(segment.who_has(patience), [false, true]);
        segment.gate.hold(&[], &[v6]).unwrap();
        assert_eq!(segment.who_has(patience), [false, false], "what is not held is not answered for");
        segment.gate.hold(&[v6], &[]).unwrap();
        segment.gate.lease(end(long)).unwrap();
        assert_eq!(segment.who_has(patience), [true, true], "the lease counts for both");
        segment.gate.lease(None).unwrap();
        let until = clock::now() + Duration::from_millis(200);
        segment.gate.alone(clock::lease_end(until)).unwrap();
        std::thread::sleep(until.since(clock::now()));
        assert_eq!(segment.who_has(patience), [false, false], "it ends by itself");
        segment.gate.alone(end(long)).unwrap();
        drop(segment.gate);
        segment.gate = Gate::open().unwrap();
        segment.gate.hold(&vips(), &[]).unwrap();
        assert_eq!(segment.who_has(patience), [false, false], "and with the daemon's life");
    });
}

#[test]
fn what_a_packet_socket_sends_for_a_vip_passes_the_gate_too() {
    within("frames::what_a_packet_socket_sends_for_a_vip_passes_the_gate_too", || {
        let mut segment = Segment::new();
        let [request, advertisement] = announcements(segment.node_mac);
        let own = arp(
            MacAddr::BROADCAST,
            segment.node_mac,
            arp::Repr {
                operation: arp::Operation::Request,
                sender_mac: segment.node_mac,
                sender_ip: Ipv4Addr::new(10, 99, 0, 10),
                target_mac: MacAddr::ZERO,
                target_ip: CLIENT4,
            },
        );
        let batch = [&own, &request, &advertisement, &own];
        assert_eq!(segment.node.send(&batch).unwrap(), Sent { sent: 2, dropped: 2, left: 0 });
        segment.lease(Duration::from_secs(60));
        assert_eq!(segment.node.send(&batch).unwrap(), Sent { sent: 4, dropped: 0, left: 0 });
        segment.gate.close().unwrap();
        assert_eq!(segment.node.send(&batch).unwrap(), Sent { sent: 2, dropped: 2, left: 0 });
        // In the order in which they went; the gate's victims are not among them.
        let mut senders = Vec::new();
        while let Some(frame) = segment.hear(Duration::from_millis(20), |_| true) {
            senders.push(match frame.body {
                Body::Arp(arp) => arp.sender_ip.to_string(),
                Body::Ndp(ndp::Repr::Advertisement(said)) => said.target.to_string(),
                Body::Ndp(_) => continue,
            });
        }
        assert_eq!(
            senders,
            [
                "10.99.0.10",
                "10.99.0.10",
                "10.99.0.10",
                "10.99.0.100",
                "fd99::100",
                "10.99.0.10",
                "10.99.0.10",
                "10.99.0.10"
            ]
        );
    });
}

#[test]
fn thousands_of_announcements_go_out_in_one_batch() {
    within("frames::thousands_of_announcements_go_out_in_one_batch", || {
        let mut segment = Segment::new();
        segment.lease(Duration::from_secs(60));
        let frames = vec![announcements(segment.node_mac)[0].clone(); 3_333];
        let mut sent = 0;
        while sent < frames.len() {
            let outcome = segment.node.send(&frames[sent..]).unwrap();
            assert_eq!(outcome.dropped, 0);
            sent += outcome.sent;
        }
    });
}

/// An echo request from the client to the VIP, and whether a reply came; the node's questions for the client's MAC are
/// answered, and who asked them is noted.
fn ping(segment: &mut Segment, v6: bool, askers: &mut Vec<String>) -> bool {
    let mut wide = socket2::Socket::new(
        socket2::Domain::PACKET,
        socket2::Type::RAW.nonblocking(),
        Some(socket2::Protocol::from(i32::from(3_u16.to_be()))),
    )
    .unwrap();
    let echo = if v6 { echo6(segment.node_mac) } else { echo4(segment.node_mac) };
    assert_eq!(segment.client.send(&[echo]).unwrap().sent, 1);
    let until = Instant::now() + Duration::from_secs(2);
    let mut replied = false;
    let mut bytes = [0; 2_048];
    while Instant::now() < until && !replied {
        while let Some(said) = segment.client.receive().unwrap() {
            let Ok(frame) = Frame::parse(said) else { continue };
            match frame.body {
                Body::Arp(asked) if asked.target_ip == CLIENT4 => {
                    askers.push(asked.sender_ip.to_string());
                    let (operation, sender_mac, sender_ip) = (arp::Operation::Reply, CLIENT_MAC, CLIENT4);
                    let (target_mac, target_ip) = (asked.sender_mac, asked.sender_ip);
                    let answer = arp::Repr { operation, sender_mac, sender_ip, target_mac, target_ip };
                    segment.client.send(&[arp(asked.sender_mac, CLIENT_MAC, answer)]).unwrap();
                }
                Body::Ndp(ndp::Repr::Solicitation(asked)) if asked.target == CLIENT6 => {
                    askers.push(asked.source.to_string());
                    let answer = Advertisement {
                        source: CLIENT6,
                        destination: asked.source,
                        target: CLIENT6,
                        target_mac: Some(CLIENT_MAC),
                        router: false,
                        solicited: true,
                        overrides: true,
                    };
                    let body = Body::Ndp(ndp::Repr::Advertisement(answer));
                    let frame = Frame { destination: frame.source, source: CLIENT_MAC, body };
                    segment.client.send(&[frame.to_bytes()]).unwrap();
                }
                _ => {}
            }
        }
        while let Ok(length) = std::io::Read::read(&mut wide, &mut bytes) {
            let reply4 = bytes[12..14] == [8, 0] && bytes[23] == 1 && bytes[34] == 0 && bytes[26..30] == VIP4.octets();
            let reply6 =
                bytes[12..14] == [0x86, 0xdd] && bytes[20] == 58 && bytes[54] == 129 && bytes[22..38] == VIP6.octets();
            replied |= length > 54 && bytes[..6] == CLIENT_MAC.0 && if v6 { reply6 } else { reply4 };
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    replied
}

/// RFC 1071 over the bytes, padded.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

const DATA: [u8; 32] = [0x5a; 32];

fn echo4(to: MacAddr) -> Vec<u8> {
    let mut icmp = [&[8, 0, 0, 0, 0, 7, 0, 1][..], &DATA].concat();
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let mut header = [0x45, 0, 0, 60, 0, 0, 0, 0, 64, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&CLIENT4.octets());
    header[16..20].copy_from_slice(&VIP4.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&to.0[..], &CLIENT_MAC.0, &[8, 0], &header, &icmp].concat()
}

fn echo6(to: MacAddr) -> Vec<u8> {
    let mut icmp = [&[128, 0, 0, 0, 0, 7, 0, 1][..], &DATA].concat();
    let addresses = [CLIENT6.octets(), VIP6.octets()].concat();
    let sum = checksum(&[&addresses[..], &[0, 0, 0, 40, 0, 0, 0, 58], &icmp].concat());
    icmp[2..4].copy_from_slice(&sum);
    [&to.0[..], &CLIENT_MAC.0, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, 58, 64], &addresses, &icmp].concat()
}

#[test]
fn a_lingering_vip_serves_and_answers_nobody() {
    within("frames::a_lingering_vip_serves_and_answers_nobody", || {
        let mut segment = Segment::new();
        segment.lease(Duration::from_secs(600));
        let mut askers = Vec::new();
        for v6 in [false, true] {
            assert!(ping(&mut segment, v6, &mut askers), "as owner, {askers:?}");
        }
        // Handed over: not held, a local route in the address's place; the lease goes on for others.
        segment.gate.hold(&[], &vips()).unwrap();
        let interface = segment.interface;
        let edits = vips().map(|vip| [Edit::Linger(vip), Edit::Remove { vip, interface }]).concat();
        assert_eq!(segment.netlink.apply(&edits), []);
        assert_eq!(segment.netlink.snapshot().unwrap().ours().count(), 0, "`ip addr` shows it at its owner only");
        ip("neigh flush dev va");
        askers.clear();
        for v6 in [false, true] {
            assert!(ping(&mut segment, v6, &mut askers), "lingering, {askers:?}");
        }
        let own = segment.own6.to_string();
        assert!(!askers.is_empty() && askers.iter().all(|asker| *asker == "10.99.0.10" || *asker == own), "{askers:?}");
        assert!(askers.contains(&own) && askers.len() > 1, "the entry was gone: both families had to ask, {askers:?}");
        assert_eq!(segment.who_has(Duration::from_millis(50)), [false, false]);
        // Back again: the address first, then the end of lingering.
        let edits = vips().map(|vip| [Edit::Add { vip, interface }, Edit::StopLingering(vip)]).concat();
        assert_eq!(segment.netlink.apply(&edits), []);
        segment.gate.hold(&vips(), &[]).unwrap();
        await_group();
        assert_eq!(segment.who_has(Duration::from_millis(500)), [true, true]);
    });
}

#[test]
fn frames_of_other_kinds_and_our_own_wake_nobody() {
    within("frames::frames_of_other_kinds_and_our_own_wake_nobody", || {
        let mut segment = Segment::new();
        segment.gate.close().unwrap();
        while segment.node.receive().unwrap().is_some() {}
        let tagged = {
            let mut frame = who_has(VIP4);
            frame.splice(12..12, [0x81, 0, 0, 7]);
            frame
        };
        let sent = segment.client.send(&[echo4(segment.node_mac), tagged]).unwrap();
        assert_eq!(sent.sent, 2);
        segment.node.send(&[who_has(VIP4)]).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        while let Some(bytes) = segment.node.receive().unwrap() {
            let frame = Frame::parse(bytes).expect("only what `wire` reads passes the filter");
            assert!(matches!(frame.body, Body::Ndp(_)), "{frame:?}");
        }
        let _ = segment.client.send(&[who_has(VIP4), solicit(VIP6)]);
        let until = Instant::now() + Duration::from_secs(2);
        let mut heard = 0;
        while heard < 2 && Instant::now() < until {
            while let Some(bytes) = segment.node.receive().unwrap() {
                heard += usize::from(Frame::parse(bytes).unwrap().source == CLIENT_MAC);
            }
        }
        assert_eq!(heard, 2);
    });
}
