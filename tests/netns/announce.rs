//! What we announce and answer, as a Linux client takes it: its kernel's neighbour tables, not our reading of the RFCs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rendezvip::agent::packet::PacketSocket;
use rendezvip::announce::frames::{Port, announcement};
use rendezvip::announce::responder::answer;
use rendezvip::announce::schedule::{Announcement, Form};
use rendezvip::lab::client::Client;
use rendezvip::lab::link::Links;
use rendezvip::lab::segment::Segment;
use rendezvip::name::InterfaceName;
use rendezvip::vip::Vip;
use rendezvip::wire::ethernet::MacAddr;
use rendezvip::wire::frame::Frame;
use rendezvip::wire::ndp::{multicast_mac, solicited_node};

use crate::in_a_lab;

const SOON: Duration = Duration::from_secs(5);

fn eth0() -> InterfaceName {
    InterfaceName::new("eth0").unwrap()
}

fn address(text: &str) -> BTreeSet<IpAddr> {
    [text.parse().unwrap()].into()
}

fn change(segment: &Segment, node: &str, interface: &'static str, vips: &BTreeSet<IpAddr>, add: bool) {
    let vips = vips.clone();
    segment.node(node).place().run(move || {
        let mut links = Links::open().unwrap();
        for vip in vips.into_iter().map(IpNet::from) {
            if add { links.add_address(interface, vip) } else { links.delete_address(interface, vip) }.unwrap();
        }
    });
}

fn send(segment: &Segment, node: &str, frame: Frame) {
    segment.node(node).place().run(move || {
        let index = nix::net::if_::if_nametoindex("eth0").unwrap();
        let socket = PacketSocket::open(&eth0(), index).unwrap();
        assert_eq!(socket.send(&[frame.to_bytes()]).unwrap().sent, 1);
    });
}

fn port(segment: &Segment, node: &str) -> Port {
    let mac: [u8; 6] = segment.node(node).seat().mac();
    Port { mac: MacAddr(mac), own: Vec::new(), router: false }
}

#[test]
fn a_client_follows_each_form_of_announcement_by_itself() {
    in_a_lab(|| {
        let segment = Segment::new(&["edge-a", "edge-b"], false).unwrap();
        let client = Client::start(segment.client()).unwrap();
        for (text, form) in [("10.99.0.100", Form::Request), ("10.99.0.101", Form::Reply), ("fd99::100", Form::Request)]
        {
            let vips = address(text);
            change(&segment, "edge-a", "eth0", &vips, true);
            client.watch(&vips);
            assert!(client.answered(&vips, SOON), "{text}: {:?}", client.report());
            change(&segment, "edge-a", "eth0", &vips, false);
            change(&segment, "edge-b", "eth0", &vips, true);
            client.mark();
            // Its entry is fresh, so nothing but a frame makes it look elsewhere.
            std::thread::sleep(Duration::from_millis(150));
            assert!(client.report().values().all(|one| one.ongoing), "{text}: {:?}", client.report());
            let vip: Vip = text.parse().unwrap();
            let said = announcement(&Announcement { iface: eth0(), vip, form }, &port(&segment, "edge-b"));
            send(&segment, "edge-b", said);
            assert!(client.answered(&vips, Duration::from_secs(1)), "{said}: {:?}", client.report());
        }
    });
}

#[test]
fn a_client_reaches_a_vip_for_which_the_responder_alone_answers() {
    in_a_lab(|| {
        let segment = Segment::new(&["edge-a"], false).unwrap();
        let vips: BTreeSet<IpAddr> = ["10.99.0.100", "fd99::100"].map(|vip| vip.parse().unwrap()).into();
        change(&segment, "edge-a", "lo", &vips, true);
        let (port, held) = (port(&segment, "edge-a"), vips.clone());
        // A socket stays in the namespace where it was opened.
        let mut socket = segment.node("edge-a").place().run(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/arp_ignore", "1").unwrap();
            let index = nix::net::if_::if_nametoindex("eth0").unwrap();
            PacketSocket::open(&eth0(), index).unwrap()
        });
        for vip in &held {
            if let IpAddr::V6(vip) = vip {
                socket.join(multicast_mac(solicited_node(*vip))).unwrap();
            }
        }
        // It ends with the lab.
        std::thread::spawn(move || {
            loop {
                match socket.receive().unwrap().map(Frame::parse) {
                    Some(Ok(frame)) => {
                        if let Some(reply) = answer(&frame, &port, |vip| held.contains(&vip.address())) {
                            socket.send(&[reply.to_bytes()]).unwrap();
                        }
                    }
                    Some(Err(_)) => {}
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        let client = Client::start(segment.client()).unwrap();
        client.watch(&vips);
        assert!(client.answered(&vips, SOON), "{:?}", client.report());
    });
}
