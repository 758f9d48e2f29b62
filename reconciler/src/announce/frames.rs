//! Which frame says it? Announcements, questions and a node's own addresses, ready to be sent.
//!
//! In: what to say, and the interface that says it. Out: [`Frame`]s. Not here: when (`schedule`), answers
//! (`responder`), bytes (`wire`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::schedule::{Announcement, Form};
use crate::vip::Vip;
use crate::wire::arp::{self, Operation};
use crate::wire::ethernet::MacAddr;
use crate::wire::frame::{Body, Frame};
use crate::wire::ndp::{self, ALL_NODES, Advertisement, Solicitation, multicast_mac, solicited_node};

/// An interface of this node, as far as its frames tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its MAC address.
    pub mac: MacAddr,
    /// The node's own addresses on it, VIPs not among them; the first of a family asks.
    pub own: Vec<IpAddr>,
    /// Does the node forward IPv6 here? Hosts drop a router whose advertisement says no (RFC 4861, section 7.2.5).
    pub router: bool,
}

impl Port {
    fn v4(&self) -> Option<Ipv4Addr> {
        self.own.iter().find_map(|own| match own {
            IpAddr::V4(own) => Some(*own),
            IpAddr::V6(_) => None,
        })
    }

    /// The first IPv6 address, a global one before a link-local one.
    fn v6(&self) -> Option<Ipv6Addr> {
        let v6 = || {
            self.own.iter().filter_map(|own| match own {
                IpAddr::V4(_) => None,
                IpAddr::V6(own) => Some(*own),
            })
        };
        v6().find(|own| !own.is_unicast_link_local()).or_else(|| v6().next())
    }

    fn arp(&self, destination: MacAddr, repr: arp::Repr) -> Frame {
        Frame { destination, source: self.mac, body: Body::Arp(repr) }
    }

    fn ndp(&self, destination: MacAddr, repr: ndp::Repr) -> Frame {
        Frame { destination, source: self.mac, body: Body::Ndp(repr) }
    }

    /// "I have this address", to everybody.
    fn claim(&self, address: IpAddr, form: Form) -> Frame {
        match address {
            IpAddr::V4(address) => {
                let (operation, target_mac) = match form {
                    Form::Request => (Operation::Request, MacAddr::ZERO),
                    // Linux takes a reply for gratuitous only if its target MAC is the sender's (arp_is_garp,
                    // net/ipv4/arp.c).
                    Form::Reply => (Operation::Reply, self.mac),
                };
                self.arp(
                    MacAddr::BROADCAST,
                    arp::Repr { operation, sender_mac: self.mac, sender_ip: address, target_mac, target_ip: address },
                )
            }
            IpAddr::V6(target) => self.ndp(multicast_mac(ALL_NODES), self.advertisement(target, ALL_NODES, false)),
        }
    }

    /// From the target itself, as the kernel does: it may be the only address that this node has on the segment.
    pub(super) fn advertisement(&self, target: Ipv6Addr, destination: Ipv6Addr, solicited: bool) -> ndp::Repr {
        ndp::Repr::Advertisement(Advertisement {
            source: target,
            destination,
            target,
            target_mac: Some(self.mac),
            router: self.router,
            solicited,
            overrides: true,
        })
    }

    pub(super) fn reply(&self, destination: MacAddr, repr: arp::Repr) -> Frame {
        self.arp(destination, repr)
    }

    pub(super) fn advertise(&self, destination: MacAddr, repr: ndp::Repr) -> Frame {
        self.ndp(destination, repr)
    }
}

/// The frame of an announcement: a gratuitous ARP (RFC 5227, section 2.3; RFC 5944, section 4.6), or an unsolicited
/// advertisement with override (RFC 4861, section 7.2.6).
pub fn announcement(announcement: &Announcement, port: &Port) -> Frame {
    port.claim(announcement.vip.address(), announcement.form)
}

/// Asks whether anybody has this address, without saying anything of one's own: an ARP probe (RFC 5227, section
/// 2.1.1) or a solicitation from :: (RFC 4862, section 5.4.2). Nobody's entry for it changes.
pub fn probe(vip: Vip, port: &Port) -> Frame {
    match vip.address() {
        IpAddr::V4(target) => ask_v4(port, Ipv4Addr::UNSPECIFIED, target),
        IpAddr::V6(target) => ask_v6(port, Ipv6Addr::UNSPECIFIED, target),
    }
}

/// Asks for an address as a client would, from the node's own; none without one of the family. The answer comes to
/// this node alone.
pub fn question(vip: Vip, port: &Port) -> Option<Frame> {
    Some(match vip.address() {
        IpAddr::V4(target) => ask_v4(port, port.v4()?, target),
        IpAddr::V6(target) => ask_v6(port, port.v6()?, target),
    })
}

/// Announces the node's own addresses: its MAC address changed, and those that gossip with it must not wait until their
/// entries age. In both forms for IPv4.
pub fn own_addresses(port: &Port) -> Vec<Frame> {
    port.own
        .iter()
        .flat_map(|own| {
            let forms: &[Form] = if own.is_ipv4() { &[Form::Request, Form::Reply] } else { &[Form::Request] };
            forms.iter().map(|form| port.claim(*own, *form))
        })
        .collect()
}

fn ask_v4(port: &Port, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Frame {
    port.arp(
        MacAddr::BROADCAST,
        arp::Repr {
            operation: Operation::Request,
            sender_mac: port.mac,
            sender_ip,
            target_mac: MacAddr::ZERO,
            target_ip,
        },
    )
}

fn ask_v6(port: &Port, source: Ipv6Addr, target: Ipv6Addr) -> Frame {
    let destination = solicited_node(target);
    let source_mac = (!source.is_unspecified()).then_some(port.mac);
    port.ndp(
        multicast_mac(destination),
        ndp::Repr::Solicitation(Solicitation { source, destination, target, source_mac }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::InterfaceName;

    fn port() -> Port {
        Port {
            mac: MacAddr([2, 0, 0, 0, 0, 0x0a]),
            own: ["fe80::a", "10.99.0.10", "fd99::a", "10.99.0.11"].map(|own| own.parse().unwrap()).to_vec(),
            router: false,
        }
    }

    fn say(vip: &str, form: Form) -> String {
        let iface = InterfaceName::new("eth0").unwrap();
        let frame = announcement(&Announcement { iface, vip: vip.parse().unwrap(), form }, &port());
        assert_eq!(Frame::parse(&frame.to_bytes()), Ok(frame));
        frame.to_string()
    }

    #[test]
    fn an_announcement_is_what_every_listener_takes() {
        insta::assert_snapshot!(
            [
                say("10.99.0.100", Form::Request),
                say("10.99.0.100", Form::Reply),
                say("fd99::100", Form::Request),
            ]
            .join("\n"),
            @"
        02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp who-has 10.99.0.100 tell 10.99.0.100, announced by 02:00:00:00:00:0a
        02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp 10.99.0.100 is-at 02:00:00:00:00:0a, gratuitous
        02:00:00:00:00:0a > 33:33:00:00:00:01 ndp fd99::100 > ff02::1: fd99::100 is at 02:00:00:00:00:0a override
        "
        );
        let iface = InterfaceName::new("eth0").unwrap();
        let reply = Announcement { iface, vip: "10.99.0.100".parse().unwrap(), form: Form::Reply };
        let Body::Arp(repr) = announcement(&reply, &port()).body else { panic!("not ARP") };
        assert_eq!(repr.target_mac, repr.sender_mac);
    }

    #[test]
    fn a_router_says_so_in_its_advertisements() {
        let announced = Announcement {
            iface: InterfaceName::new("eth0").unwrap(),
            vip: "fd99::100".parse().unwrap(),
            form: Form::Request,
        };
        let frame = announcement(&announced, &Port { router: true, ..port() });
        assert!(frame.to_string().ends_with(" router override"), "{frame}");
    }

    #[test]
    fn a_probe_says_nothing_of_the_one_who_asks_and_a_question_asks_as_a_client() {
        let [v4, v6] = ["10.99.0.100", "fd99::100"].map(|vip| vip.parse().unwrap());
        let lonely = Port { own: vec!["fe80::a".parse().unwrap()], ..port() };
        let frames = [
            Some(probe(v4, &port())),
            Some(probe(v6, &port())),
            question(v4, &port()),
            question(v6, &port()),
            question(v6, &lonely),
        ];
        let lines: Vec<String> = frames
            .into_iter()
            .flatten()
            .inspect(|frame| assert_eq!(Frame::parse(&frame.to_bytes()), Ok(*frame)))
            .map(|frame| frame.to_string())
            .collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp who-has 10.99.0.100, probe from 02:00:00:00:00:0a
        02:00:00:00:00:0a > 33:33:ff:00:01:00 ndp :: > ff02::1:ff00:100: who has fd99::100
        02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp who-has 10.99.0.100 tell 10.99.0.10 at 02:00:00:00:00:0a
        02:00:00:00:00:0a > 33:33:ff:00:01:00 ndp fd99::a > ff02::1:ff00:100: who has fd99::100 tell 02:00:00:00:00:0a
        02:00:00:00:00:0a > 33:33:ff:00:01:00 ndp fe80::a > ff02::1:ff00:100: who has fd99::100 tell 02:00:00:00:00:0a
        ");
        assert_eq!(question(v4, &lonely), None);
    }

    #[test]
    fn a_new_mac_address_is_told_for_each_own_address() {
        let lines: Vec<String> = own_addresses(&port()).iter().map(Frame::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @"
        02:00:00:00:00:0a > 33:33:00:00:00:01 ndp fe80::a > ff02::1: fe80::a is at 02:00:00:00:00:0a override
        02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp who-has 10.99.0.10 tell 10.99.0.10, announced by 02:00:00:00:00:0a
        02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp 10.99.0.10 is-at 02:00:00:00:00:0a, gratuitous
        02:00:00:00:00:0a > 33:33:00:00:00:01 ndp fd99::a > ff02::1: fd99::a is at 02:00:00:00:00:0a override
        02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp who-has 10.99.0.11 tell 10.99.0.11, announced by 02:00:00:00:00:0a
        02:00:00:00:00:0a > ff:ff:ff:ff:ff:ff arp 10.99.0.11 is-at 02:00:00:00:00:0a, gratuitous
        ");
    }
}
