//! Neighbour discovery: solicitations and advertisements, in their IPv6 packets.
//!
//! In: what follows an Ethernet header of type IPv6. Out: [`Repr`], or why it was dropped.
//! Not here: what to answer, what is a claim (`announce`); router and redirect messages.
//!
//! ```text
//!  0            4         6    7     8             24               40
//!  | 6 ...      | payload | 58 | 255 | source      | destination    |                    RFC 8200, section 3
//!  40      41    42         44                48            64
//!  | 135   | 0   | checksum | reserved        | target      | options ...              RFC 4861, section 4.3
//!  | 136   | 0   | checksum | R S O, reserved | target      | options ...              RFC 4861, section 4.4
//! ```
//! An option is type, length in units of eight bytes, content (RFC 4861, section 4.6); of them the link-layer addresses
//! mean something here (section 4.6.1; six bytes and length 1 on Ethernet: RFC 2464, section 6). Others are skipped, as
//! RFC 4861, section 7.1 demands; what follows the payload is padding of the frame.

use std::fmt;
use std::net::Ipv6Addr;

use super::ethernet::MacAddr;

/// The length of the IPv6 header.
const IP: usize = 40;
/// The length of either message without options.
const MESSAGE: usize = 24;
/// The length of a link-layer address option on Ethernet.
const OPTION: usize = 8;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const NEXT_HEADER_ICMPV6: u8 = 58;
/// A packet that a router forwarded has less: so nobody off the segment can speak here.
const HOP_LIMIT: u8 = 255;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// All nodes of the segment, ff02::1 (RFC 4291, section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The group that whoever has `address` listens to: ff02::1:ffXX:XXXX (RFC 4291, section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The Ethernet group of an IPv6 group: 33:33 and its last four bytes (RFC 2464, section 7).
pub fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// It ends within a header or a message.
    TooShort,
    /// Not version 6.
    Version(u8),
    /// What follows the IPv6 header is not ICMPv6. Fragments and extension headers are refused (RFC 6980, section 5).
    NextHeader(u8),
    /// Not 255: it came through a router (RFC 4861, sections 7.1.1 and 7.1.2).
    HopLimit(u8),
    /// The checksum does not fit (RFC 4443, section 2.3).
    Checksum,
    /// Neither solicitation nor advertisement.
    Type(u8),
    /// The code is not zero (RFC 4861, sections 7.1.1 and 7.1.2).
    Code(u8),
    /// The source is a group (RFC 4291, section 2.7).
    MulticastSource,
    /// The target is a group (RFC 4861, sections 7.1.1 and 7.1.2).
    MulticastTarget,
    /// An option of length zero, or one that ends after the packet (RFC 4861, section 4.6).
    OptionLength,
    /// From ::, and not to a solicited-node group (RFC 4861, section 7.1.1).
    ProbeDestination,
    /// From ::, and with a link-layer address (RFC 4861, section 7.1.1).
    ProbeWithSource,
    /// To a group, and called solicited (RFC 4861, section 7.1.2).
    SolicitedToGroup,
}

impl Drop {
    /// A short stable label, for counters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooShort => "ndp_too_short",
            Self::Version(_) => "ndp_version",
            Self::NextHeader(_) => "ndp_next_header",
            Self::HopLimit(_) => "ndp_hop_limit",
            Self::Checksum => "ndp_checksum",
            Self::Type(_) => "ndp_type",
            Self::Code(_) => "ndp_code",
            Self::MulticastSource => "ndp_multicast_source",
            Self::MulticastTarget => "ndp_multicast_target",
            Self::OptionLength => "ndp_option_length",
            Self::ProbeDestination => "ndp_probe_destination",
            Self::ProbeWithSource => "ndp_probe_with_source",
            Self::SolicitedToGroup => "ndp_solicited_to_group",
        }
    }
}

/// A question: who has the target? (RFC 4861, section 4.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Solicitation {
    /// From which address; :: in duplicate address detection (RFC 4862, section 5.4.2).
    pub source: Ipv6Addr,
    /// To which address.
    pub destination: Ipv6Addr,
    /// The address asked for.
    pub target: Ipv6Addr,
    /// The MAC address of the source.
    pub source_mac: Option<MacAddr>,
}

/// An answer, or an unasked-for word: the target is mine. (RFC 4861, section 4.4)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Advertisement {
    /// From which address.
    pub source: Ipv6Addr,
    /// To which address.
    pub destination: Ipv6Addr,
    /// The address spoken of.
    pub target: Ipv6Addr,
    /// The MAC address of the target.
    pub target_mac: Option<MacAddr>,
    /// The sender forwards packets; hosts take a router that says no out of their list (RFC 4861, section 7.2.5).
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It takes the place of what the listener knows.
    pub overrides: bool,
}

/// What a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repr {
    /// A question.
    Solicitation(Solicitation),
    /// An answer.
    Advertisement(Advertisement),
}

impl Repr {
    /// What the packet says, if RFC 4861, section 7.1 lets it be heard.
    pub fn parse(packet: &[u8]) -> Result<Self, Drop> {
        let (ip, rest) = packet.split_first_chunk::<IP>().ok_or(Drop::TooShort)?;
        if ip[0] >> 4 != 6 {
            return Err(Drop::Version(ip[0] >> 4));
        }
        if ip[6] != NEXT_HEADER_ICMPV6 {
            return Err(Drop::NextHeader(ip[6]));
        }
        if ip[7] != HOP_LIMIT {
            return Err(Drop::HopLimit(ip[7]));
        }
        let length = u16::from_be_bytes([ip[4], ip[5]]);
        let message = rest.get(..length.into()).ok_or(Drop::TooShort)?;
        let (body, options) = message.split_first_chunk::<MESSAGE>().ok_or(Drop::TooShort)?;
        let (source, destination, target) = (address(&ip[8..]), address(&ip[24..]), address(&body[8..]));
        if sum(source, destination, message) != 0xffff {
            return Err(Drop::Checksum);
        }
        if !matches!(body[0], SOLICITATION | ADVERTISEMENT) {
            return Err(Drop::Type(body[0]));
        }
        if body[1] != 0 {
            return Err(Drop::Code(body[1]));
        }
        if source.is_multicast() {
            return Err(Drop::MulticastSource);
        }
        if target.is_multicast() {
            return Err(Drop::MulticastTarget);
        }
        if body[0] == SOLICITATION {
            let source_mac = link_layer(options, SOURCE_LINK_LAYER)?;
            if source.is_unspecified() {
                // Any such group: its last bytes need not be the target's, says the RFC.
                if destination != solicited_node(destination) {
                    return Err(Drop::ProbeDestination);
                }
                if source_mac.is_some() {
                    return Err(Drop::ProbeWithSource);
                }
            }
            Ok(Self::Solicitation(Solicitation { source, destination, target, source_mac }))
        } else {
            let target_mac = link_layer(options, TARGET_LINK_LAYER)?;
            let flag = |flag| body[4] & flag != 0;
            if destination.is_multicast() && flag(SOLICITED) {
                return Err(Drop::SolicitedToGroup);
            }
            Ok(Self::Advertisement(Advertisement {
                source,
                destination,
                target,
                target_mac,
                router: flag(ROUTER),
                solicited: flag(SOLICITED),
                overrides: flag(OVERRIDE),
            }))
        }
    }

    /// How many bytes [`Repr::emit`] writes.
    pub fn size(&self) -> usize {
        IP + MESSAGE + self.mac().map_or(0, |_| OPTION)
    }

    /// Writes the IPv6 packet, checksum and all, over the first [`size`](Self::size) bytes.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn emit(&self, buffer: &mut [u8]) {
        let (source, destination) = self.addresses();
        let (ip, rest) = buffer[..self.size()].split_at_mut(IP);
        ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
        ip[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
        ip[6] = NEXT_HEADER_ICMPV6;
        ip[7] = HOP_LIMIT;
        ip[8..24].copy_from_slice(&source.octets());
        ip[24..40].copy_from_slice(&destination.octets());
        let (kind, flags, target, option) = match self {
            Self::Solicitation(it) => (SOLICITATION, 0, it.target, SOURCE_LINK_LAYER),
            Self::Advertisement(it) => {
                let flag = |set: bool, flag: u8| if set { flag } else { 0 };
                let flags = flag(it.router, ROUTER) | flag(it.solicited, SOLICITED) | flag(it.overrides, OVERRIDE);
                (ADVERTISEMENT, flags, it.target, TARGET_LINK_LAYER)
            }
        };
        rest[..8].copy_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
        rest[8..MESSAGE].copy_from_slice(&target.octets());
        if let Some(mac) = self.mac() {
            rest[MESSAGE..MESSAGE + 2].copy_from_slice(&[option, 1]);
            rest[MESSAGE + 2..].copy_from_slice(&mac.0);
        }
        let checksum = !sum(source, destination, rest);
        rest[2..4].copy_from_slice(&checksum.to_be_bytes());
    }

    const fn mac(&self) -> Option<MacAddr> {
        match self {
            Self::Solicitation(it) => it.source_mac,
            Self::Advertisement(it) => it.target_mac,
        }
    }

    const fn addresses(&self) -> (Ipv6Addr, Ipv6Addr) {
        match self {
            Self::Solicitation(it) => (it.source, it.destination),
            Self::Advertisement(it) => (it.source, it.destination),
        }
    }
}

impl fmt::Display for Repr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Solicitation(Solicitation { source, destination, target, source_mac }) => {
                write!(f, "ndp {source} > {destination}: who has {target}")?;
                source_mac.map_or(Ok(()), |mac| write!(f, " tell {mac}"))
            }
            Self::Advertisement(it) => {
                write!(f, "ndp {} > {}: {} is", it.source, it.destination, it.target)?;
                match it.target_mac {
                    Some(mac) => write!(f, " at {mac}")?,
                    None => f.write_str(" mine")?,
                }
                for (set, flag) in [(it.router, " router"), (it.solicited, " solicited"), (it.overrides, " override")] {
                    f.write_str(if set { flag } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

fn address(bytes: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|at| bytes[at]))
}

/// The sum over the pseudo-header and the message (RFC 8200, section 8.1): 0xffff where the checksum in it fits, and
/// the complement of the checksum where that is still zero.
fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u64 {
        let (pairs, odd) = bytes.as_chunks::<2>();
        let last = odd.first().map_or(0, |&byte| u64::from(byte) << 8);
        pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum::<u64>() + last
    };
    let mut sum = words(&source.octets())
        + words(&destination.octets())
        + message.len() as u64
        + u64::from(NEXT_HEADER_ICMPV6)
        + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The first link-layer address of this kind among the options.
fn link_layer(mut options: &[u8], kind: u8) -> Result<Option<MacAddr>, Drop> {
    let mut found = None;
    while let Some(&of) = options.first() {
        let length = 8 * usize::from(*options.get(1).ok_or(Drop::OptionLength)?);
        if length == 0 {
            return Err(Drop::OptionLength);
        }
        let (option, rest) = options.split_at_checked(length).ok_or(Drop::OptionLength)?;
        if of == kind && found.is_none() {
            if length != OPTION {
                return Err(Drop::OptionLength);
            }
            found = Some(MacAddr(std::array::from_fn(|at| option[2 + at])));
        }
        options = rest;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn solicitation() -> Solicitation {
        Solicitation {
            source: ip("fe80::1"),
            destination: solicited_node(ip("fd99::100")),
            target: ip("fd99::100"),
            source_mac: Some(MAC),
        }
    }

    fn advertisement() -> Advertisement {
        Advertisement {
            source: ip("fd99::100"),
            destination: ip("fe80::2"),
            target: ip("fd99::100"),
            target_mac: Some(MAC),
            router: false,
            solicited: true,
            overrides: true,
        }
    }

    fn emitted(repr: Repr) -> Vec<u8> {
        let mut bytes = vec![0xa5; repr.size()];
        repr.emit(&mut bytes);
        bytes
    }

    /// The packet with some bytes changed, its checksum mended.
    fn mended(repr: Repr, changes: &[(usize, u8)]) -> Vec<u8> {
        let mut bytes = emitted(repr);
        for &(at, value) in changes {
            bytes[at] = value;
        }
        mend(&mut bytes);
        bytes
    }

    fn mend(bytes: &mut [u8]) {
        bytes[42..44].fill(0);
        let checksum = !sum(address(&bytes[8..]), address(&bytes[24..]), &bytes[IP..]);
        bytes[42..44].copy_from_slice(&checksum.to_be_bytes());
    }

    #[test]
    fn groups_are_those_of_rfc_4291_and_rfc_2464() {
        // The example of RFC 4291, section 2.7.1.
        assert_eq!(solicited_node(ip("4037::01:800:200e:8c6c")), ip("ff02::1:ff0e:8c6c"));
        assert_eq!(multicast_mac(ip("ff02::1:ff0e:8c6c")), MacAddr([0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
        assert_eq!(multicast_mac(ALL_NODES).to_string(), "33:33:00:00:00:01");
    }

    #[test]
    fn what_rfc_4861_section_7_1_forbids_is_dropped_with_its_reason() {
        let (ns, na) = (Repr::Solicitation(solicitation()), Repr::Advertisement(advertisement()));
        let drop = |bytes: &[u8]| Repr::parse(bytes).unwrap_err();
        for repr in [ns, na] {
            let good = emitted(repr);
            assert_eq!(Repr::parse(&good), Ok(repr));
            for cut in 0..good.len() {
                assert_eq!(drop(&good[..cut]), Drop::TooShort, "{cut}");
            }
            assert_eq!(drop(&mended(repr, &[(0, 0x40)])), Drop::Version(4));
            assert_eq!(drop(&mended(repr, &[(6, 44)])), Drop::NextHeader(44));
            assert_eq!(drop(&mended(repr, &[(7, 254)])), Drop::HopLimit(254));
            assert_eq!(drop(&mended(repr, &[(40, 134)])), Drop::Type(134));
            assert_eq!(drop(&mended(repr, &[(41, 1)])), Drop::Code(1));
            assert_eq!(drop(&mended(repr, &[(8, 0xff)])), Drop::MulticastSource);
            assert_eq!(drop(&mended(repr, &[(48, 0xff)])), Drop::MulticastTarget);
            assert_eq!(drop(&mended(repr, &[(65, 0)])), Drop::OptionLength);
            assert_eq!(drop(&mended(repr, &[(65, 2)])), Drop::OptionLength);
            let short = mended(repr, &[(5, 23)]);
            assert_eq!(drop(&short), Drop::TooShort);
        }
        let probe = Solicitation { source: Ipv6Addr::UNSPECIFIED, source_mac: None, ..solicitation() };
        assert!(Repr::parse(&emitted(Repr::Solicitation(probe))).is_ok());
        let unicast = Solicitation { destination: probe.target, ..probe };
        assert_eq!(drop(&emitted(Repr::Solicitation(unicast))), Drop::ProbeDestination);
        let telling = Solicitation { source_mac: Some(MAC), ..probe };
        assert_eq!(drop(&emitted(Repr::Solicitation(telling))), Drop::ProbeWithSource);
        let loud = Advertisement { destination: ALL_NODES, ..advertisement() };
        assert_eq!(drop(&emitted(Repr::Advertisement(loud))), Drop::SolicitedToGroup);
    }

    #[test]
    fn a_changed_bit_anywhere_under_the_checksum_is_noticed() {
        let good = emitted(Repr::Advertisement(advertisement()));
        for bit in 8 * 8..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            Repr::parse(&bytes).expect_err(&format!("bit {bit}"));
        }
    }

    #[test]
    fn options_of_other_kinds_are_skipped_and_the_first_address_counts() {
        // A nonce (RFC 3971, section 5.3.2) as Linux sends it in duplicate address detection (RFC 7527), then two
        // addresses.
        let mut bytes = emitted(Repr::Solicitation(Solicitation { source_mac: None, ..solicitation() }));
        bytes.extend([14, 1, 1, 2, 3, 4, 5, 6, 1, 1, 2, 0, 0, 0, 0, 1, 1, 1, 2, 0, 0, 0, 0, 9]);
        bytes[5] += 24;
        mend(&mut bytes);
        bytes.extend([0; 3]);
        assert_eq!(Repr::parse(&bytes), Ok(Repr::Solicitation(solicitation())));
    }

    #[test]
    fn a_packet_reads_as_one_line() {
        let lines = [
            Repr::Solicitation(solicitation()),
            Repr::Solicitation(Solicitation { source: Ipv6Addr::UNSPECIFIED, source_mac: None, ..solicitation() }),
            Repr::Advertisement(advertisement()),
            Repr::Advertisement(Advertisement {
                destination: ALL_NODES,
                target_mac: None,
                router: true,
                solicited: false,
                ..advertisement()
            }),
        ];
        insta::assert_snapshot!(
            lines.map(|line| line.to_string()).join("\n"),
            @"
        ndp fe80::1 > ff02::1:ff00:100: who has fd99::100 tell 02:00:00:00:00:01
        ndp :: > ff02::1:ff00:100: who has fd99::100
        ndp fd99::100 > fe80::2: fd99::100 is at 02:00:00:00:00:01 solicited override
        ndp fd99::100 > ff02::1: fd99::100 is mine router override
        "
        );
    }

    /// Bytes that get past some of the checks: a made-up packet with a fitting checksum.
    fn packets() -> impl Strategy<Value = Vec<u8>> {
        let bytes = prop::collection::vec(any::<u8>(), MESSAGE..120);
        (bytes, any::<[u8; 16]>(), any::<[u8; 16]>(), any::<bool>(), any::<bool>(), 0u8..4).prop_map(
            |(mut message, source, destination, ns, from_nobody, option)| {
                message[0] = if ns { SOLICITATION } else { ADVERTISEMENT };
                message[1] = 0;
                if message.len() >= MESSAGE + 2 {
                    message[MESSAGE..MESSAGE + 2].copy_from_slice(&[option, 1]);
                    message.truncate(MESSAGE + OPTION * ((message.len() - MESSAGE) / OPTION).min(1));
                }
                let mut packet = vec![0x60, 0, 0, 0, 0, message.len() as u8, NEXT_HEADER_ICMPV6, HOP_LIMIT];
                packet.extend(if from_nobody { [0; 16] } else { source });
                packet.extend(if from_nobody { solicited_node(destination.into()).octets() } else { destination });
                packet.extend(message);
                mend(&mut packet);
                packet
            },
        )
    }

    proptest! {
        #[test]
        fn what_parses_is_emitted_and_means_the_same(packet in packets()) {
            if let Ok(repr) = Repr::parse(&packet) {
                prop_assert_eq!(Repr::parse(&emitted(repr)), Ok(repr));
                let _ = repr.to_string();
            }
        }

        #[test]
        fn no_bytes_do_any_harm(packet in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Repr::parse(&packet);
        }
    }
}
