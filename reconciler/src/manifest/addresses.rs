//! One entry of `addresses`: a single address, a range or a CIDR.
//!
//! In: its text. Out: a [`Range`] of addresses that may all be VIPs, or what is wrong with it.
//! Not here: who else claims them (`cross`). Nothing is expanded before its size is known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::diagnostic::{Code, quoted};
use crate::vip::{NotAVip, Vip};

/// Most VIPs in a repository.
pub const MOST_VIPS: usize = 65_536;

/// Addresses of one family, from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub first: IpAddr,
    pub last: IpAddr,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub code: Code,
    pub message: String,
    pub help: String,
}

fn fault(code: Code, message: String, help: impl Into<String>) -> Fault {
    Fault { code, message, help: help.into() }
}

/// An address as a number of its family.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of the same family `steps` after this one, if there is one.
pub(super) fn step(address: IpAddr, steps: i8) -> Option<IpAddr> {
    let number = number(address).checked_add_signed(steps.into())?;
    match address {
        IpAddr::V4(_) => u32::try_from(number).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(_) => Some(Ipv6Addr::from_bits(number).into()),
    }
}

impl Range {
    /// How many addresses; all of IPv6 counts one less.
    pub fn len(&self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }

    /// Is it written as one address would be?
    pub fn is_single(&self) -> bool {
        self.first == self.last
    }

    /// The addresses, without those that `avoid_buggy` skips.
    pub fn vips(&self, avoid_buggy: bool) -> impl Iterator<Item = Vip> + use<> {
        let v4 = self.first.is_ipv4();
        (number(self.first)..=number(self.last)).filter_map(move |bits| {
            let address = if v4 {
                IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).ok()?))
            } else {
                IpAddr::V6(Ipv6Addr::from_bits(bits))
            };
            if avoid_buggy && confuses_buggy_firmware(address) { None } else { Vip::new(address).ok() }
        })
    }
}

/// IPv4 addresses that end in .0 or .255, which some old equipment takes for a network's own (as MetalLB's
/// `ipConfusesBuggyFirmwares`).
pub(super) fn confuses_buggy_firmware(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if matches!(v4.octets()[3], 0 | 255))
}

/// Reads an entry.
pub(crate) fn parse(text: &str) -> Result<Range, Fault> {
    let range = if let Some((address, length)) = text.split_once('/') {
        cidr(text, address, length)?
    } else if let Some((first, last)) = text.split_once('-') {
        let first = address(first.trim())?;
        let last = address(last.trim()).map_err(|mut fault| {
            if !last.contains(['.', ':']) {
                fault.help = format!("write both ends of the range in full, as in `{first}-{first}`");
            }
            fault
        })?;
        if first.is_ipv4() != last.is_ipv4() {
            let message = format!("{} goes from one family to the other", quoted(text));
            return Err(fault(Code::BadRange, message, "write a range for IPv4 and one for IPv6"));
        }
        if first > last {
            let message = format!("{} ends before it begins", quoted(text));
            return Err(fault(Code::BadRange, message, format!("write `{last}-{first}`")));
        }
        Range { first, last }
    } else {
        let address = address(text)?;
        Range { first: address, last: address }
    };
    if range.len() > 2 * MOST_VIPS as u128 {
        let message = format!("{} has more than {MOST_VIPS} addresses", quoted(text));
        return Err(fault(Code::TooManyVips, message, format!("a repository holds at most {MOST_VIPS} VIPs")));
    }
    unicast(text, range)?;
    Ok(range)
}

fn address(text: &str) -> Result<IpAddr, Fault> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let message = format!("{} is not an address", quoted(text));
    let octets: Vec<&str> = text.split('.').collect();
    let digits = |octet: &&str| !octet.is_empty() && octet.len() <= 10 && octet.bytes().all(|b| b.is_ascii_digit());
    let help = if octets.len() == 4 && octets.iter().all(digits) {
        let trimmed = octets.iter().map(|octet| match octet.trim_start_matches('0') {
            "" => "0",
            rest => rest,
        });
        let better = trimmed.collect::<Vec<_>>().join(".");
        match better.parse::<Ipv4Addr>() {
            Ok(_) if better != text => format!("leading zeros mean octal to some readers: write `{better}`"),
            _ => "each number of an IPv4 address is at most 255".to_owned(),
        }
    } else if text.contains('%') {
        "an address of a pool has no zone: leave `%…` out, and name the interface under `interfaces`".to_owned()
    } else if text.starts_with('[') {
        "leave the brackets out".to_owned()
    } else {
        "write an address (10.0.0.1, \"fd00::1\"), a range (10.0.0.1-10.0.0.9) or a CIDR (10.0.0.0/28)".to_owned()
    };
    Err(fault(Code::BadAddress, message, help))
}

fn cidr(text: &str, base: &str, length: &str) -> Result<Range, Fault> {
    let base = address(base)?;
    let bits = if base.is_ipv4() { 32 } else { 128 };
    let plain = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length = match length.parse::<u32>() {
        Ok(number) if plain && number <= bits && (length == "0" || !length.starts_with('0')) => number,
        _ => {
            let message = format!("{} has no prefix length", quoted(text));
            return Err(fault(Code::BadAddress, message, format!("write /0 to /{bits}, without leading zeros")));
        }
    };
    let host = if base.is_ipv4() {
        u128::from(u32::MAX.checked_shr(length).unwrap_or(0))
    } else {
        u128::MAX.checked_shr(length).unwrap_or(0)
    };
    let make = |bits: u128| match base {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    let first = make(number(base) & !host);
    if first != base {
        let message = format!("{} has host bits: it is not the first address of its network", quoted(text));
        let help = format!("write `{first}/{length}` for the network, or `{base}` for the one address");
        return Err(fault(Code::HostBits, message, help));
    }
    Ok(Range { first, last: make(number(base) | host) })
}

/// The blocks that [`Vip::new`] refuses, so that a range needs no look at each of its addresses.
const REFUSED_V4: [(u32, u32); 4] =
    [(0, 0x00ff_ffff), (0x7f00_0000, 0x7fff_ffff), (0xa9fe_0000, 0xa9fe_ffff), (0xe000_0000, 0xffff_ffff)];
const REFUSED_V6: [(u128, u128); 4] =
    [(0, 1), (0xffff_0000_0000, 0xffff_ffff_ffff), (0xfe80 << 112, (0xfec0 << 112) - 1), (0xff00 << 112, u128::MAX)];

fn unicast(text: &str, range: Range) -> Result<(), Fault> {
    let (first, last) = (number(range.first), number(range.last));
    let meets = |(low, high): (u128, u128)| (first <= high && low <= last).then_some(first.max(low));
    let address: Option<IpAddr> = if range.first.is_ipv4() {
        let mut blocks = REFUSED_V4.iter().map(|(low, high)| (u128::from(*low), u128::from(*high)));
        blocks.find_map(meets).map(|bits| Ipv4Addr::from_bits(bits as u32).into())
    } else {
        REFUSED_V6.into_iter().find_map(meets).map(|bits| Ipv6Addr::from_bits(bits).into())
    };
    let Some(address) = address else { return Ok(()) };
    let why = Vip::new(address).err().unwrap_or(NotAVip::Reserved);
    let message = if range.is_single() {
        format!("{} cannot be a VIP: it is {why}", quoted(text))
    } else {
        format!("{} cannot be VIPs: `{address}` is {why}", quoted(text))
    };
    let help = match why {
        NotAVip::Mapped => "write the IPv4 address itself",
        _ => "a VIP is a global or private unicast address of the segment",
    };
    Err(fault(Code::NotUnicast, message, help))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_are_single_addresses_ranges_and_cidrs() {
        for (text, len) in [
            ("10.0.0.1", 1),
            ("10.0.0.1-10.0.0.9", 9),
            ("10.0.0.1 - 10.0.0.1", 1),
            ("10.0.0.0/28", 16),
            ("10.0.0.7/32", 1),
            ("10.1.0.0/16", 65_536),
            ("fd00::/112", 65_536),
            ("fd00::ff-fd00::1:0", 65_282),
            ("FD00::A", 1),
        ] {
            assert_eq!(parse(text).map(|range| range.len()), Ok(len), "{text}");
        }
    }

    #[test]
    fn what_is_not_quite_an_entry_is_refused_by_its_own_code() {
        for (text, code) in [
            ("", Code::BadAddress),
            ("10.0.0.01", Code::BadAddress),
            ("10.0.0.256", Code::BadAddress),
            ("10.0.0", Code::BadAddress),
            ("10.0.0.0/", Code::BadAddress),
            ("10.0.0.0/08", Code::BadAddress),
            ("10.0.0.0/33", Code::BadAddress),
            ("10.0.0.0/+8", Code::BadAddress),
            ("10.0.0.0/24/24", Code::BadAddress),
            ("10.0.0.1-9", Code::BadAddress),
            ("fd00::1%eth0", Code::BadAddress),
            ("[fd00::1]", Code::BadAddress),
            ("10.0.0.1/24", Code::HostBits),
            ("fd00::1/64", Code::HostBits),
            ("10.0.0.9-10.0.0.1", Code::BadRange),
            ("10.0.0.9-fd00::1", Code::BadRange),
            ("::/0", Code::TooManyVips),
            ("0.0.0.0/0", Code::TooManyVips),
            ("10.0.0.0/8", Code::TooManyVips),
            ("127.0.0.1", Code::NotUnicast),
            ("126.255.255.250-127.0.0.5", Code::NotUnicast),
            ("223.255.255.0-224.0.0.1", Code::NotUnicast),
            ("255.255.255.255", Code::NotUnicast),
            ("fe80::1", Code::NotUnicast),
            ("ff02::1", Code::NotUnicast),
            ("::", Code::NotUnicast),
            ("::1", Code::NotUnicast),
            ("::ffff:10.0.0.1", Code::NotUnicast),
            ("169.254.0.0/24", Code::NotUnicast),
        ] {
            assert_eq!(parse(text).map_err(|fault| fault.code), Err(code), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_range_is_refused_exactly_if_one_of_its_addresses_cannot_be_a_vip(start: u32, len in 0u32..300, v6: bool, top in 0usize..7) {
            let prefixes = [0u128, 0xffff << 32, 0xfe7f << 112, 0xfebf << 112, 0xfeff << 112, 0xfd00 << 112, 0xffff << 112];
            let (first, last): (IpAddr, IpAddr) = if v6 {
                let base = prefixes[top] + u128::from(start) % 1000;
                (Ipv6Addr::from_bits(base).into(), Ipv6Addr::from_bits(base + u128::from(len)).into())
            } else {
                (Ipv4Addr::from_bits(start).into(), Ipv4Addr::from_bits(start.saturating_add(len)).into())
            };
            let range = Range { first, last };
            let all_fine = range.vips(false).count() as u128 == range.len();
            prop_assert_eq!(unicast("x", range).is_ok(), all_fine);
        }

        #[test]
        fn any_text_is_an_entry_or_a_fault(text in "[0-9a-f:./% -]{0,40}") {
            let _ = parse(&text);
        }
    }
}
