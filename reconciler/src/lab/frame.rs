//! Frames as the lab's bystander reads and writes them: who claims an address, and the question that makes it say so.
//!
//! In: bytes of a frame, or who asks whom. Out: [`Claim`], or bytes. It is a codec of its own on purpose: the observer
//! must not share a mistake with what it observes (`wire`).
//! Not here: sockets, what a claim means (`bystander`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::link::Mac;

/// ff:ff:ff:ff:ff:ff.
pub const BROADCAST: Mac = [0xff; 6];

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// How an address was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// An answer to a question: an ARP reply, a solicited advertisement.
    Answer,
    /// Nobody asked: gratuitous ARP in either form, an unsolicited advertisement.
    Announcement,
    /// A question that names the address as its asker: neighbours learn from that too (RFC 826, RFC 4861 section 7.2.3).
    Question,
}

/// Somebody says that an address is at its MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The address.
    pub address: IpAddr,
    /// Where it is said to be.
    pub mac: Mac,
    /// How it was said.
    pub form: Form,
    /// An advertisement's flags, solicited and override; both false for ARP.
    pub flags: (bool, bool),
}

/// The claim that a frame makes, if it makes one.
pub fn claim(frame: &[u8]) -> Option<Claim> {
    match u16::from_be_bytes(*frame.get(12..)?.first_chunk()?) {
        ARP => arp(frame.get(14..42)?),
        IPV6 => neighbour(*frame.get(6..)?.first_chunk()?, frame.get(14..)?),
        _ => None,
    }
}

/// RFC 826: htype ptype hlen plen op sha spa tha tpa.
fn arp(body: &[u8]) -> Option<Claim> {
    if body[..6] != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let sender = Ipv4Addr::from(*body[14..].first_chunk::<4>()?);
    let target = Ipv4Addr::from(*body[24..].first_chunk::<4>()?);
    // A probe (RFC 5227) claims nothing.
    if sender.is_unspecified() {
        return None;
    }
    let form = match u16::from_be_bytes([body[6], body[7]]) {
        _ if sender == target => Form::Announcement,
        1 => Form::Question,
        2 => Form::Answer,
        _ => return None,
    };
    Some(Claim { address: sender.into(), mac: *body[8..].first_chunk()?, form, flags: (false, false) })
}

/// RFC 4861 sections 4.3 and 4.4, without extension headers, which neighbour discovery never carries.
fn neighbour(source: Mac, packet: &[u8]) -> Option<Claim> {
    let (header, body) = packet.split_at_checked(40)?;
    if header[6] != ICMPV6 || body.len() < 24 {
        return None;
    }
    let option = |wanted: u8| -> Option<Mac> {
        let mut rest = &body[24..];
        while let [kind, units, ..] = *rest {
            let length = usize::from(units) * 8;
            if kind == wanted {
                return rest.get(2..8)?.first_chunk().copied();
            }
            rest = rest.get(length.max(8)..)?;
        }
        None
    };
    let target = Ipv6Addr::from(*body[8..].first_chunk::<16>()?);
    let from = Ipv6Addr::from(*header[8..].first_chunk::<16>()?);
    match body[0] {
        ADVERTISEMENT => {
            let flags = (body[4] & 0x40 != 0, body[4] & 0x20 != 0);
            let to_all = header[24] == 0xff;
            let form = if flags.0 || !to_all { Form::Answer } else { Form::Announcement };
            Some(Claim { address: target.into(), mac: option(2).unwrap_or(source), form, flags })
        }
        // Only with its source's link-layer address does a solicitation teach anybody anything.
        SOLICITATION if !from.is_unspecified() => {
            Some(Claim { address: from.into(), mac: option(1)?, form: Form::Question, flags: (false, false) })
        }
        _ => None,
    }
}

/// Who asks: hardware address, and address; an unspecified one makes a probe.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// The hardware address.
    pub mac: Mac,
    /// The address of the target's family, or the unspecified one.
    pub address: IpAddr,
}

/// "Who has `target`?", to everybody whom it concerns, or to `to` alone.
///
/// None where the two addresses are of different families.
pub fn question(asker: Asker, target: IpAddr, to: Option<Mac>) -> Option<Vec<u8>> {
    match (asker.address, target) {
        (IpAddr::V4(from), IpAddr::V4(target)) => {
            Some(arp_frame(1, asker.mac, from, [0; 6], target, to.unwrap_or(BROADCAST)))
        }
        (IpAddr::V6(from), IpAddr::V6(target)) => {
            let [.., x, y, z] = target.octets();
            // Solicited-node multicast address (RFC 4291 section 2.7.1) and its MAC (RFC 2464 section 7).
            let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z]));
            let (mac, address) = match to {
                Some(mac) => (mac, target),
                None => ([0x33, 0x33, 0xff, x, y, z], group),
            };
            let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            body.extend(target.octets());
            // RFC 4861 section 4.3: no source link-layer address with the unspecified address.
            if !from.is_unspecified() {
                body.extend([1, 1]);
                body.extend(asker.mac);
            }
            Some(icmpv6_frame(asker.mac, mac, from, address, body))
        }
        _ => None,
    }
}

/// A gratuitous claim of `address` by `mac`: an ARP request with itself as target, or an unsolicited advertisement.
pub fn announcement(mac: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_frame(1, mac, address, [0; 6], address, BROADCAST),
        IpAddr::V6(address) => {
            let mut body = vec![ADVERTISEMENT, 0, 0, 0, 0x20, 0, 0, 0];
            body.extend(address.octets());
            body.extend([2, 1]);
            body.extend(mac);
            let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            icmpv6_frame(mac, [0x33, 0x33, 0, 0, 0, 1], address, everybody, body)
        }
    }
}

fn ethernet(from: Mac, to: Mac, kind: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend(to);
    frame.extend(from);
    frame.extend(kind.to_be_bytes());
    frame
}

fn arp_frame(operation: u16, mac: Mac, from: Ipv4Addr, to_mac: Mac, to: Ipv4Addr, destination: Mac) -> Vec<u8> {
    let mut frame = ethernet(mac, destination, ARP);
    frame.extend([0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac);
    frame.extend(from.octets());
    frame.extend(to_mac);
    frame.extend(to.octets());
    frame
}

fn icmpv6_frame(mac: Mac, destination: Mac, from: Ipv6Addr, to: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let sum = checksum(from, to, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(mac, destination, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    // Hop limit 255, or nobody believes it (RFC 4861 section 7.1).
    frame.extend([ICMPV6, 255]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(body);
    frame
}

/// RFC 4443 section 2.3, over the pseudo-header of RFC 8200 section 8.1.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> u16 {
    let mut pseudo = Vec::with_capacity(40 + body.len() + 1);
    pseudo.extend(from.octets());
    pseudo.extend(to.octets());
    pseudo.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    pseudo.extend([0, 0, 0, ICMPV6]);
    pseudo.extend(body);
    if pseudo.len() % 2 == 1 {
        pseudo.push(0);
    }
    let mut sum: u32 = pseudo.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    fn both() -> [(IpAddr, IpAddr); 2] {
        [
            ("10.99.0.241".parse().unwrap(), "10.99.0.100".parse().unwrap()),
            ("fd99::241".parse().unwrap(), "fd99::100".parse().unwrap()),
        ]
    }

    #[test]
    fn a_question_claims_its_askers_address_and_a_probe_claims_nothing() {
        for (from, target) in both() {
            let asked = claim(&question(Asker { mac: MAC, address: from }, target, None).unwrap()).unwrap();
            assert_eq!((asked.address, asked.mac, asked.form), (from, MAC, Form::Question));
            let nobody: IpAddr =
                if from.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            assert_eq!(claim(&question(Asker { mac: MAC, address: nobody }, target, None).unwrap()), None);
        }
    }

    #[test]
    fn an_announcement_claims_its_address() {
        for (_, vip) in both() {
            let told = claim(&announcement(MAC, vip)).unwrap();
            assert_eq!((told.address, told.mac, told.form), (vip, MAC, Form::Announcement));
        }
    }

    #[test]
    fn a_frame_cut_short_anywhere_is_no_claim_and_no_panic() {
        for (_, vip) in both() {
            let frame = announcement(MAC, vip);
            for end in 0..frame.len() - 8 {
                assert!(claim(&frame[..end]).is_none() || end >= 42 + 20, "{end}");
            }
        }
    }

    #[test]
    fn a_checksum_makes_the_sum_of_everything_all_ones() {
        let (from, to) = ("fe80::1".parse().unwrap(), "ff02::1".parse().unwrap());
        let mut body = vec![ADVERTISEMENT, 0, 0, 0, 1, 2, 3, 4, 5];
        let sum = checksum(from, to, &body);
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(checksum(from, to, &body), 0);
    }
}
