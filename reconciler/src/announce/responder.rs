//! How is a question for a VIP answered where the kernel does not: `attach: loopback` and `none`?
//!
//! In: a frame heard, the interface that heard it, and whether the VIP is held. Out: the frame that answers, or none.
//! Not here: whether the lease holds (the gate that the answer goes through sees to it), claims of others (`conflict`).
//!
//! No answer goes to a group of Ethernet on behalf of ARP, and none to a sender that names itself as one: a question
//! cannot make this node speak to more than the one who asked, but for duplicate address detection, whose answer is
//! for all nodes by its nature (RFC 4861, section 7.2.4).

use std::net::{IpAddr, Ipv6Addr};

use super::frames::Port;
use crate::vip::Vip;
use crate::wire::arp::{self, Operation};
use crate::wire::frame::{Body, Frame};
use crate::wire::ndp::{self, ALL_NODES, Solicitation, multicast_mac};

/// The answer to `heard`, if it asks for a VIP that is held and was meant for this interface.
pub fn answer(heard: &Frame, port: &Port, holds: impl Fn(Vip) -> bool) -> Option<Frame> {
    let for_us = heard.destination == port.mac || heard.destination.is_multicast();
    if !for_us || heard.source == port.mac {
        return None;
    }
    match &heard.body {
        Body::Arp(repr) => answer_arp(repr, port, holds),
        Body::Ndp(ndp::Repr::Solicitation(it)) => answer_solicitation(heard, it, port, holds),
        Body::Ndp(ndp::Repr::Advertisement(_)) => None,
    }
}

/// RFC 826, "Packet Reception"; a probe, from 0.0.0.0, is answered as any question (RFC 5227, section 2.4, case (a)).
fn answer_arp(asked: &arp::Repr, port: &Port, holds: impl Fn(Vip) -> bool) -> Option<Frame> {
    let vip = Vip::new(IpAddr::V4(asked.target_ip)).ok()?;
    // Whoever speaks of the VIP as its own does not ask: that is a claim.
    let asks = asked.operation == Operation::Request && asked.sender_ip != asked.target_ip;
    if !asks || !asked.sender_mac.is_unicast() || !holds(vip) {
        return None;
    }
    let reply = arp::Repr {
        operation: Operation::Reply,
        sender_mac: port.mac,
        sender_ip: asked.target_ip,
        target_mac: asked.sender_mac,
        target_ip: asked.sender_ip,
    };
    Some(port.reply(asked.sender_mac, reply))
}

/// RFC 4861, section 7.2.4: to the one who asked, solicited; to all nodes, not solicited, where the question came from
/// ::. Override is set, as the VIP is this node's alone, and the link-layer address is always told.
fn answer_solicitation(heard: &Frame, asked: &Solicitation, port: &Port, holds: impl Fn(Vip) -> bool) -> Option<Frame> {
    let vip = Vip::new(IpAddr::V6(asked.target)).ok()?;
    if asked.source == asked.target || !holds(vip) {
        return None;
    }
    if asked.source == Ipv6Addr::UNSPECIFIED {
        return Some(port.advertise(multicast_mac(ALL_NODES), port.advertisement(asked.target, ALL_NODES, false)));
    }
    let mac = asked.source_mac.unwrap_or(heard.source);
    mac.is_unicast().then(|| port.advertise(mac, port.advertisement(asked.target, asked.source, true)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::ethernet::MacAddr;
    use crate::wire::ndp::solicited_node;

    const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xc]);
    const VIP4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);

    fn port() -> Port {
        Port { mac: MacAddr([2, 0, 0, 0, 0, 0x0a]), own: vec!["10.99.0.10".parse().unwrap()], router: false }
    }

    fn vip6() -> Ipv6Addr {
        "fd99::100".parse().unwrap()
    }

    fn held(vip: Vip) -> bool {
        vip.address() == IpAddr::V4(VIP4) || vip.address() == IpAddr::V6(vip6())
    }

    fn request(sender_ip: Ipv4Addr, target_ip: Ipv4Addr, destination: MacAddr) -> Frame {
        let repr = arp::Repr {
            operation: Operation::Request,
            sender_mac: CLIENT,
            sender_ip,
            target_mac: MacAddr::ZERO,
            target_ip,
        };
        Frame { destination, source: CLIENT, body: Body::Arp(repr) }
    }

    fn solicitation(source: &str, destination: Ipv6Addr, mac: MacAddr, source_mac: Option<MacAddr>) -> Frame {
        let it = Solicitation { source: source.parse().unwrap(), destination, target: vip6(), source_mac };
        Frame { destination: mac, source: CLIENT, body: Body::Ndp(ndp::Repr::Solicitation(it)) }
    }

    fn said(heard: &Frame) -> String {
        answer(heard, &port(), held).map_or_else(|| "nothing".to_owned(), |frame| frame.to_string())
    }

    #[test]
    fn unusual_questions_get_the_right_answer() {
        let client = Ipv4Addr::new(10, 99, 0, 200);
        let group = solicited_node(vip6());
        let lines = [
            ("plain request", said(&request(client, VIP4, MacAddr::BROADCAST))),
            ("unicast request", said(&request(client, VIP4, port().mac))),
            ("probe from 0.0.0.0", said(&request(Ipv4Addr::UNSPECIFIED, VIP4, MacAddr::BROADCAST))),
            ("solicitation", said(&solicitation("fe80::c", group, multicast_mac(group), Some(CLIENT)))),
            ("from ::", said(&solicitation("::", group, multicast_mac(group), None))),
            ("unicast from a global address", said(&solicitation("fd99::c", vip6(), port().mac, None))),
        ];
        let text: Vec<String> = lines.iter().map(|(name, line)| format!("{name}: {line}")).collect();
        insta::assert_snapshot!(text.join("\n"), @"
        plain request: 02:00:00:00:00:0a > 02:00:00:00:00:0c arp 10.99.0.100 is-at 02:00:00:00:00:0a, for 10.99.0.200
        unicast request: 02:00:00:00:00:0a > 02:00:00:00:00:0c arp 10.99.0.100 is-at 02:00:00:00:00:0a, for 10.99.0.200
        probe from 0.0.0.0: 02:00:00:00:00:0a > 02:00:00:00:00:0c arp 10.99.0.100 is-at 02:00:00:00:00:0a, for 0.0.0.0
        solicitation: 02:00:00:00:00:0a > 02:00:00:00:00:0c ndp fd99::100 > fe80::c: fd99::100 is at 02:00:00:00:00:0a solicited override
        from ::: 02:00:00:00:00:0a > 33:33:00:00:00:01 ndp fd99::100 > ff02::1: fd99::100 is at 02:00:00:00:00:0a override
        unicast from a global address: 02:00:00:00:00:0a > 02:00:00:00:00:0c ndp fd99::100 > fd99::c: fd99::100 is at 02:00:00:00:00:0a solicited override
        ");
    }

    #[test]
    fn what_is_not_a_question_for_a_held_vip_gets_no_answer() {
        let client = Ipv4Addr::new(10, 99, 0, 200);
        let elsewhere = MacAddr([2, 0, 0, 0, 0, 0x0b]);
        let group = solicited_node(vip6());
        let mut reply = request(client, VIP4, MacAddr::BROADCAST);
        let mut broadcaster = reply;
        let mut own = reply;
        if let Body::Arp(repr) = &mut reply.body {
            repr.operation = Operation::Reply;
        }
        if let Body::Arp(repr) = &mut broadcaster.body {
            repr.sender_mac = MacAddr::BROADCAST;
        }
        own.source = port().mac;
        for (why, heard) in [
            ("not held", request(client, Ipv4Addr::new(10, 99, 0, 101), MacAddr::BROADCAST)),
            ("an address that cannot be a VIP", request(client, Ipv4Addr::BROADCAST, MacAddr::BROADCAST)),
            ("a claim", request(VIP4, VIP4, MacAddr::BROADCAST)),
            ("flooded by a switch, meant for another", request(client, VIP4, elsewhere)),
            ("an answer", reply),
            ("a sender that is everybody", broadcaster),
            ("our own frame", own),
            ("somebody who speaks from the VIP", solicitation("fd99::100", group, multicast_mac(group), Some(CLIENT))),
            ("a source that is a group", solicitation("fd99::c", vip6(), port().mac, Some(MacAddr::BROADCAST))),
        ] {
            assert_eq!(answer(&heard, &port(), held), None, "{why}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_to_any_bytes_can_be_heard_and_is_never_longer_by_more_than_its_own_option(
            bytes in prop::collection::vec(any::<u8>(), 0..120), mut v4 in prop::collection::vec(any::<u8>(), 42..60),
        ) {
            v4[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            for bytes in [bytes, v4] {
                if let Ok(heard) = Frame::parse(&bytes)
                    && let Some(frame) = answer(&heard, &port(), |_| true)
                {
                    let sent = frame.to_bytes();
                    prop_assert_eq!(Frame::parse(&sent), Ok(frame));
                    prop_assert!(sent.len() <= bytes.len() + 8);
                }
            }
        }
    }
}
