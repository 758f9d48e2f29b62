//! ARP for IPv4 on Ethernet: who has an address, and who says so.
//!
//! In: what follows an Ethernet header of type ARP. Out: [`Repr`], or why it was dropped.
//! Not here: what to answer, what is a claim (`announce`).
//!
//! ```text
//!  0        2        4     5     6     8            14          18           24          28
//!  | hw = 1 | 0x0800 | 6   | 4   | op  | sender MAC | sender IP | target MAC | target IP |   RFC 826, "Packet format"
//! ```
//! What follows (the padding of short frames, IEEE 802.3) means nothing.

use std::fmt;
use std::net::Ipv4Addr;

use super::ethernet::MacAddr;

/// The length in bytes.
pub const LEN: usize = 28;

const HARDWARE_ETHERNET: u16 = 1;
const PROTOCOL_IPV4: u16 = 0x0800;
const LENGTHS: [u8; 2] = [6, 4];

/// Where each field stands.
mod field {
    use std::ops::Range;

    pub const HARDWARE: Range<usize> = 0..2;
    pub const PROTOCOL: Range<usize> = 2..4;
    pub const LENGTHS: Range<usize> = 4..6;
    pub const OPERATION: Range<usize> = 6..8;
    pub const SENDER_MAC: Range<usize> = 8..14;
    pub const SENDER_IP: Range<usize> = 14..18;
    pub const TARGET_MAC: Range<usize> = 18..24;
    pub const TARGET_IP: Range<usize> = 24..28;
}

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// Shorter than 28 bytes.
    TooShort,
    /// Not of Ethernet (RFC 826, "Packet Reception": "Do I have the hardware type").
    Hardware(u16),
    /// Not for IPv4 (RFC 826, "Do I speak the protocol").
    Protocol(u16),
    /// Lengths other than six and four (RFC 826, "optionally check").
    Lengths(u8, u8),
    /// Neither request nor reply: reverse and inverse ARP (RFC 903, RFC 2390) say nothing of who has an address.
    Operation(u16),
}

impl Drop {
    /// A short stable label, for counters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooShort => "arp_too_short",
            Self::Hardware(_) => "arp_hardware",
            Self::Protocol(_) => "arp_protocol",
            Self::Lengths(..) => "arp_lengths",
            Self::Operation(_) => "arp_operation",
        }
    }
}

/// A question or an answer (RFC 826, "Definitions": ares_op$REQUEST = 1, ares_op$REPLY = 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Who has the target IP? And: the sender has the sender IP.
    Request,
    /// The sender has the sender IP.
    Reply,
}

/// What an ARP packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Repr {
    /// Question or answer.
    pub operation: Operation,
    /// The MAC address that speaks, or for which it is spoken.
    pub sender_mac: MacAddr,
    /// Its IP address; 0.0.0.0 in a probe (RFC 5227, section 1.1).
    pub sender_ip: Ipv4Addr,
    /// Zero in most questions (RFC 826 leaves it open).
    pub target_mac: MacAddr,
    /// The address asked for, or of the one who asked.
    pub target_ip: Ipv4Addr,
}

impl Repr {
    /// What the bytes say.
    pub fn parse(bytes: &[u8]) -> Result<Self, Drop> {
        let bytes = bytes.first_chunk::<LEN>().ok_or(Drop::TooShort)?;
        let two = |at: std::ops::Range<usize>| u16::from_be_bytes([bytes[at.start], bytes[at.start + 1]]);
        let mac = |at: std::ops::Range<usize>| MacAddr(std::array::from_fn(|i| bytes[at.start + i]));
        let ip = |at: std::ops::Range<usize>| Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|i| bytes[at.start + i]));
        match two(field::HARDWARE) {
            HARDWARE_ETHERNET => {}
            other => return Err(Drop::Hardware(other)),
        }
        match two(field::PROTOCOL) {
            PROTOCOL_IPV4 => {}
            other => return Err(Drop::Protocol(other)),
        }
        if bytes[field::LENGTHS] != LENGTHS {
            return Err(Drop::Lengths(bytes[4], bytes[5]));
        }
        Ok(Self {
            operation: match two(field::OPERATION) {
                1 => Operation::Request,
                2 => Operation::Reply,
                other => return Err(Drop::Operation(other)),
            },
            sender_mac: mac(field::SENDER_MAC),
            sender_ip: ip(field::SENDER_IP),
            target_mac: mac(field::TARGET_MAC),
            target_ip: ip(field::TARGET_IP),
        })
    }

    /// Writes all of the first [`LEN`] bytes.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn emit(&self, buffer: &mut [u8]) {
        buffer[field::HARDWARE].copy_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
        buffer[field::PROTOCOL].copy_from_slice(&PROTOCOL_IPV4.to_be_bytes());
        buffer[field::LENGTHS].copy_from_slice(&LENGTHS);
        let operation: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        buffer[field::OPERATION].copy_from_slice(&operation.to_be_bytes());
        buffer[field::SENDER_MAC].copy_from_slice(&self.sender_mac.0);
        buffer[field::SENDER_IP].copy_from_slice(&self.sender_ip.octets());
        buffer[field::TARGET_MAC].copy_from_slice(&self.target_mac.0);
        buffer[field::TARGET_IP].copy_from_slice(&self.target_ip.octets());
    }

    /// A probe asks for an address without claiming one (RFC 5227, section 1.1).
    pub fn is_probe(&self) -> bool {
        self.operation == Operation::Request && self.sender_ip.is_unspecified()
    }

    /// Speaks of the sender's own address to everybody (RFC 5227, section 1.1: ARP Announcement; RFC 5944, section
    /// 4.6: Gratuitous ARP).
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip && !self.sender_ip.is_unspecified()
    }
}

impl fmt::Display for Repr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sender_mac, sender_ip, target_ip, .. } = self;
        match self.operation {
            Operation::Request if self.is_probe() => write!(f, "arp who-has {target_ip}, probe from {sender_mac}"),
            Operation::Request if self.is_gratuitous() => {
                write!(f, "arp who-has {target_ip} tell {sender_ip}, announced by {sender_mac}")
            }
            Operation::Request => write!(f, "arp who-has {target_ip} tell {sender_ip} at {sender_mac}"),
            Operation::Reply if self.is_gratuitous() => write!(f, "arp {sender_ip} is-at {sender_mac}, gratuitous"),
            Operation::Reply => write!(f, "arp {sender_ip} is-at {sender_mac}, for {target_ip}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn hardware_protocol_lengths_and_operation_are_checked() {
        let good = {
            let mut bytes = [0xa5; LEN];
            let repr = Repr {
                operation: Operation::Request,
                sender_mac: mac(1),
                sender_ip: Ipv4Addr::new(10, 0, 0, 1),
                target_mac: MacAddr::ZERO,
                target_ip: Ipv4Addr::new(10, 0, 0, 2),
            };
            repr.emit(&mut bytes);
            assert_eq!(Repr::parse(&bytes), Ok(repr));
            bytes
        };
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            Repr::parse(&bytes).unwrap_err()
        };
        assert_eq!(Repr::parse(&good[..27]), Err(Drop::TooShort));
        assert_eq!(with(1, 6), Drop::Hardware(6));
        assert_eq!(with(3, 6), Drop::Protocol(0x0806));
        assert_eq!(with(4, 8), Drop::Lengths(8, 4));
        assert_eq!(with(5, 16), Drop::Lengths(6, 16));
        assert_eq!(with(7, 3), Drop::Operation(3));
        assert_eq!(with(6, 1), Drop::Operation(0x0101));
    }

    #[test]
    fn a_packet_reads_as_one_line() {
        let all = Ipv4Addr::UNSPECIFIED;
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let line = |operation, sender_ip, target_ip| {
            Repr { operation, sender_mac: mac(1), sender_ip, target_mac: MacAddr::ZERO, target_ip }.to_string()
        };
        insta::assert_snapshot!(
            [
                line(Operation::Request, a, b),
                line(Operation::Request, all, b),
                line(Operation::Request, a, a),
                line(Operation::Reply, a, b),
                line(Operation::Reply, a, a),
            ]
            .join("\n"),
            @"
        arp who-has 10.0.0.2 tell 10.0.0.1 at 02:00:00:00:00:01
        arp who-has 10.0.0.2, probe from 02:00:00:00:00:01
        arp who-has 10.0.0.1 tell 10.0.0.1, announced by 02:00:00:00:00:01
        arp 10.0.0.1 is-at 02:00:00:00:00:01, for 10.0.0.2
        arp 10.0.0.1 is-at 02:00:00:00:00:01, gratuitous
        "
        );
    }

    proptest! {
        #[test]
        fn what_parses_is_emitted_byte_for_byte(
            mut bytes in prop::collection::vec(any::<u8>(), 0..64), valid: bool, reply: bool,
        ) {
            if valid && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1 + u8::from(reply)]);
            }
            if let Ok(repr) = Repr::parse(&bytes) {
                let mut emitted = [0xa5; LEN];
                repr.emit(&mut emitted);
                prop_assert_eq!(&emitted[..], &bytes[..LEN]);
                let _ = repr.to_string();
            }
        }
    }
}
