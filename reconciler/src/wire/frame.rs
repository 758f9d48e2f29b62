//! A whole frame that speaks of who has an address: Ethernet with ARP or neighbour discovery in it.
//!
//! In: bytes as a packet socket gives them. Out: [`Frame`], or why it was dropped; and back.
//! Not here: what is in it ([`arp`], [`ndp`]), what to make of it (`announce`).

use std::fmt;

use super::ethernet::{self, EtherType, Header, MacAddr};
use super::{arp, ndp};

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Body {
    /// For IPv4.
    Arp(arp::Repr),
    /// For IPv6.
    Ndp(ndp::Repr),
}

/// A frame that speaks of who has an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frame {
    /// To whom.
    pub destination: MacAddr,
    /// From whom.
    pub source: MacAddr,
    /// What it says.
    pub body: Body,
}

/// Why a frame was dropped. Counted, not logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// It ends within the Ethernet header.
    TooShort,
    /// Neither ARP nor IPv6.
    EtherType(u16),
    /// ARP that does not speak of an address on this segment.
    Arp(arp::Drop),
    /// IPv6 that is no valid neighbour discovery.
    Ndp(ndp::Drop),
}

impl Drop {
    /// A short stable label, for counters.
    pub const fn label(self) -> &'static str {
        match self {
            Self::TooShort => "frame_too_short",
            Self::EtherType(_) => "frame_ethertype",
            Self::Arp(drop) => drop.label(),
            Self::Ndp(drop) => drop.label(),
        }
    }
}

impl Frame {
    /// What the frame says.
    pub fn parse(bytes: &[u8]) -> Result<Self, Drop> {
        let (header, rest) = Header::parse(bytes).map_err(|ethernet::TooShort| Drop::TooShort)?;
        let body = match header.ethertype {
            EtherType::ARP => Body::Arp(arp::Repr::parse(rest).map_err(Drop::Arp)?),
            EtherType::IPV6 => Body::Ndp(ndp::Repr::parse(rest).map_err(Drop::Ndp)?),
            EtherType(other) => return Err(Drop::EtherType(other)),
        };
        Ok(Self { destination: header.destination, source: header.source, body })
    }

    /// How many bytes [`Frame::emit`] writes. Short frames are padded by the interface.
    pub fn size(&self) -> usize {
        ethernet::LEN
            + match &self.body {
                Body::Arp(_) => arp::LEN,
                Body::Ndp(repr) => repr.size(),
            }
    }

    /// Writes the frame over the first [`size`](Self::size) bytes.
    ///
    /// # Panics
    /// If the buffer is shorter.
    pub fn emit(&self, buffer: &mut [u8]) {
        let ethertype = match &self.body {
            Body::Arp(_) => EtherType::ARP,
            Body::Ndp(_) => EtherType::IPV6,
        };
        Header { destination: self.destination, source: self.source, ethertype }.emit(buffer);
        let rest = &mut buffer[ethernet::LEN..];
        match &self.body {
            Body::Arp(repr) => repr.emit(rest),
            Body::Ndp(repr) => repr.emit(rest),
        }
    }

    /// The frame's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size()];
        self.emit(&mut bytes);
        bytes
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} ", self.source, self.destination)?;
        match &self.body {
            Body::Arp(repr) => fmt::Display::fmt(repr, f),
            Body::Ndp(repr) => fmt::Display::fmt(repr, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, line and bytes of each frame in `tests/vectors/frames.txt`.
    fn vectors() -> Vec<(&'static str, &'static str, Vec<u8>)> {
        let text = include_str!("../../../tests/vectors/frames.txt");
        let blocks = text.split("\n\n").skip(1);
        blocks
            .map(|block| {
                let [name, line, hex] = block.trim().lines().collect::<Vec<_>>().try_into().unwrap();
                let bytes = (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
                (name, line, bytes.collect())
            })
            .collect()
    }

    #[test]
    fn frames_of_others_are_understood_and_emitted_as_they_were() {
        let vectors = vectors();
        assert_eq!(vectors.len(), 11);
        for (name, line, bytes) in vectors {
            let frame = Frame::parse(&bytes).unwrap_or_else(|drop| panic!("{name}: {drop:?}"));
            assert_eq!(frame.to_string(), line, "{name}");
            let mut emitted = vec![0xa5; frame.size()];
            frame.emit(&mut emitted);
            if name.contains("nonce") {
                assert_eq!(Frame::parse(&emitted), Ok(frame), "{name}");
            } else {
                assert_eq!(emitted, bytes[..frame.size()], "{name}");
                assert!(bytes[frame.size()..].iter().all(|byte| *byte == 0), "{name}: all but padding is read");
            }
        }
    }

    #[test]
    fn a_cut_frame_is_dropped_wherever_it_was_cut() {
        for (name, _, bytes) in vectors() {
            let size = if name.contains("nonce") { bytes.len() } else { Frame::parse(&bytes).unwrap().size() };
            for cut in 0..size {
                assert!(Frame::parse(&bytes[..cut]).is_err(), "{name} at {cut}");
            }
        }
    }

    #[test]
    fn other_ethertypes_are_dropped_by_number() {
        let mut bytes = [0; 60];
        bytes[12..14].copy_from_slice(&[0x88, 0xcc]);
        assert_eq!(Frame::parse(&bytes), Err(Drop::EtherType(0x88cc)));
    }
}
