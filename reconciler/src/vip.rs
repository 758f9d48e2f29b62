//! A virtual address and the checks that make one out of an address.
//!
//! In: an `IpAddr`. Out: [`Vip`], which holds only unicast addresses that may stand on a segment.
//! Not here: ranges and CIDRs of a pool (`manifest`), who owns it (`placement`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address that moves between nodes. IPv4 sorts before IPv6, each by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip(IpAddr);

/// Why an address cannot be a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAVip {
    /// Not an address at all.
    NotAnAddress,
    /// 0.0.0.0/8 or ::.
    Unspecified,
    /// 127.0.0.0/8 or ::1.
    Loopback,
    /// 224.0.0.0/4 or ff00::/8.
    Multicast,
    /// 169.254.0.0/16 or fe80::/10.
    LinkLocal,
    /// 240.0.0.0/4, the limited broadcast address among it.
    Reserved,
    /// ::ffff:0:0/96: write the IPv4 address itself.
    Mapped,
}

impl fmt::Display for NotAVip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnAddress => "not an IPv4 or IPv6 address",
            Self::Unspecified => "an unspecified address (0.0.0.0/8 or ::)",
            Self::Loopback => "a loopback address (127.0.0.0/8 or ::1)",
            Self::Multicast => "a multicast address",
            Self::LinkLocal => "a link-local address (169.254.0.0/16 or fe80::/10)",
            Self::Reserved => "a broadcast or reserved address (240.0.0.0/4)",
            Self::Mapped => "an IPv4-mapped IPv6 address",
        })
    }
}

impl std::error::Error for NotAVip {}

impl Vip {
    /// The address as a VIP, or why it cannot be one.
    pub fn new(address: IpAddr) -> Result<Self, NotAVip> {
        match address {
            IpAddr::V4(v4) if v4.octets()[0] == 0 => Err(NotAVip::Unspecified),
            IpAddr::V4(v4) if v4.octets()[0] >= 240 => Err(NotAVip::Reserved),
            IpAddr::V4(v4) if v4.is_link_local() => Err(NotAVip::LinkLocal),
            IpAddr::V6(v6) if v6.is_unspecified() => Err(NotAVip::Unspecified),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(NotAVip::LinkLocal),
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Err(NotAVip::Mapped),
            _ if address.is_loopback() => Err(NotAVip::Loopback),
            _ if address.is_multicast() => Err(NotAVip::Multicast),
            _ => Ok(Self(address)),
        }
    }

    /// The address itself.
    pub const fn address(self) -> IpAddr {
        self.0
    }

    /// Is it an IPv4 address?
    pub const fn is_ipv4(self) -> bool {
        self.0.is_ipv4()
    }
}

impl fmt::Display for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Vip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Vip {
    type Err = NotAVip;

    fn from_str(text: &str) -> Result<Self, NotAVip> {
        Self::new(text.parse().map_err(|_| NotAVip::NotAnAddress)?)
    }
}

impl Serialize for Vip {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Vip {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(IpAddr::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unicast_addresses_that_may_stand_on_a_segment_are_vips() {
        for good in ["10.0.0.1", "192.0.2.255", "fd00::1", "2001:db8::"] {
            assert!(good.parse::<Vip>().is_ok(), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "169.254.1.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "10.0.0.01",
            "x",
        ] {
            assert!(bad.parse::<Vip>().is_err(), "{bad}");
        }
    }

    #[test]
    fn vips_sort_by_family_then_number() {
        let mut vips: Vec<Vip> = ["fd00::2", "10.0.0.10", "10.0.0.9"].iter().map(|v| v.parse().unwrap()).collect();
        vips.sort();
        assert_eq!(format!("{vips:?}"), "[10.0.0.9, 10.0.0.10, fd00::2]");
    }
}
