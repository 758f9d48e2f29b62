//! The Ethernet header: to whom, from whom, what is inside.
//!
//! In: a frame's bytes. Out: [`Header`] and what follows it. Not here: VLAN tags, which the kernel has taken off
//! before a packet socket sees the frame (the socket's filter refuses frames of another VLAN).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The address of an Ethernet interface.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Everybody on the segment.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// Nobody: what stands where an address is not known yet.
    pub const ZERO: Self = Self([0; 6]);

    /// Is it the address of a group? (IEEE 802, the I/G bit; broadcast is one.)
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Can it be the address of one interface?
    pub fn is_unicast(self) -> bool {
        !self.is_multicast() && self != Self::ZERO
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six pairs of hexadecimal digits joined by `:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAMac;

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a MAC address is six pairs of hexadecimal digits joined by `:`")
    }
}

impl std::error::Error for NotAMac {}

impl FromStr for MacAddr {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let mut pairs = text.split(':');
        let mut mac = [0; 6];
        for byte in &mut mac {
            let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or(NotAMac)?;
        }
        if pairs.next().is_none() { Ok(Self(mac)) } else { Err(NotAMac) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 6]>::deserialize(deserializer).map(Self)
        }
    }
}

/// What a frame carries: the EtherType (RFC 9542, appendix B). Unknown ones are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// ARP (RFC 826).
    pub const ARP: Self = Self(0x0806);
    /// IPv4 (RFC 894).
    pub const IPV4: Self = Self(0x0800);
    /// IPv6 (RFC 2464).
    pub const IPV6: Self = Self(0x86dd);
}

impl fmt::Debug for EtherType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// The length of the header in bytes.
pub const LEN: usize = 14;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// To whom.
    pub destination: MacAddr,
    /// From whom.
    pub source: MacAddr,
    /// What follows.
    pub ethertype: EtherType,
}

/// The frame ends within its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooShort;

impl Header {
    /// The header and what follows it.
    pub fn parse(frame: &[u8]) -> Result<(Self, &[u8]), TooShort> {
        let (header, rest) = frame.split_first_chunk::<LEN>().ok_or(TooShort)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
        let header = Self {
            destination: MacAddr([d0, d1, d2, d3, d4, d5]),
            source: MacAddr([s0, s1, s2, s3, s4, s5]),
            ethertype: EtherType(u16::from_be_bytes([t0, t1])),
        };
        Ok((header, rest))
    }

    /// Writes the header over the first [`LEN`] bytes.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn emit(&self, buffer: &mut [u8]) {
        buffer[..6].copy_from_slice(&self.destination.0);
        buffer[6..12].copy_from_slice(&self.source.0);
        buffer[12..LEN].copy_from_slice(&self.ethertype.0.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mac_address_is_read_as_it_is_written() {
        let mac = MacAddr([0x02, 0, 0xab, 0xcd, 0xef, 0x01]);
        assert_eq!(mac.to_string(), "02:00:ab:cd:ef:01");
        assert_eq!("02:00:AB:cd:ef:01".parse(), Ok(mac));
        for bad in
            ["", "02:00:ab:cd:ef", "02:00:ab:cd:ef:01:02", "2:0:ab:cd:ef:1", "+2:00:ab:cd:ef:01", "é:00:ab:cd:ef:1"]
        {
            assert_eq!(bad.parse::<MacAddr>(), Err(NotAMac), "{bad}");
        }
    }

    #[test]
    fn groups_and_nobody_are_not_the_address_of_an_interface() {
        assert!(MacAddr([2, 0, 0, 0, 0, 1]).is_unicast());
        for mac in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])] {
            assert!(!mac.is_unicast(), "{mac}");
        }
    }

    proptest! {
        #[test]
        fn any_header_that_parses_is_emitted_as_it_was(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            match Header::parse(&bytes) {
                Err(TooShort) => prop_assert!(bytes.len() < LEN),
                Ok((header, rest)) => {
                    let mut emitted = [0xa5; LEN];
                    header.emit(&mut emitted);
                    prop_assert_eq!([&emitted, rest].concat(), bytes);
                }
            }
        }
    }
}
