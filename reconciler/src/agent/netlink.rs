//! Interfaces, addresses and routes of this host, over rtnetlink.
//!
//! In: VIPs to put on an interface, to let linger, to take away; the kernel's notices. Out: what stands on this host and
//! what changed. Not here: the gate (`nft`), which VIP belongs where (`engine`).
//!
//! What is ours carries protocol 118 (IFA_PROTO, rtm_protocol) and is told from others' by it after a crash. An IPv4 VIP
//! is a /32 of scope host and an IPv6 VIP a /128 without duplicate address detection and with preferred lifetime 0, so
//! that neither is ever the source of the host's own traffic. A VIP that lingers is a route of type local on `lo`
//! instead: traffic for it is accepted and `ip addr` does not show it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;

use super::error::{HostCode, HostError, errno};
use super::tlv::{
    Channel, Control, Message, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, Writer,
    address, attribute, attributes, messages, ne32, text,
};
use crate::name::InterfaceName;
use crate::vip::Vip;
use crate::wire::ethernet::MacAddr;

/// IFA_PROTO and rtm_protocol of everything that we put into the kernel.
pub const PROTOCOL: u8 = 118;

// include/uapi/linux/rtnetlink.h
const NEWLINK: u16 = libc::RTM_NEWLINK;
const DELLINK: u16 = libc::RTM_DELLINK;
const GETLINK: u16 = libc::RTM_GETLINK;
const NEWADDR: u16 = libc::RTM_NEWADDR;
const DELADDR: u16 = libc::RTM_DELADDR;
const GETADDR: u16 = libc::RTM_GETADDR;
const NEWROUTE: u16 = libc::RTM_NEWROUTE;
const DELROUTE: u16 = libc::RTM_DELROUTE;
const GETROUTE: u16 = libc::RTM_GETROUTE;
const NEWNEIGH: u16 = libc::RTM_NEWNEIGH;
const DELNEIGH: u16 = libc::RTM_DELNEIGH;
const GETNEIGH: u16 = libc::RTM_GETNEIGH;
const GROUPS: [u32; 3] = [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR];
const TABLE_LOCAL: u8 = 255;
const SCOPE_HOST: u8 = 254;
const TYPE_LOCAL: u8 = 2;
/// `lo` has index 1 in every network namespace (LOOPBACK_IFINDEX).
const LOOPBACK: u32 = 1;
const ARPHRD_ETHER: u16 = 1;
const IPV4: u8 = libc::AF_INET as u8;
const IPV6: u8 = libc::AF_INET6 as u8;

/// Messages in one send: few enough that even an error for each fits the receive buffer.
const PIECE: usize = 256;

/// An address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
    /// IFA_PROTO: who put it there; [`PROTOCOL`] is us, 0 nobody said.
    pub protocol: u8,
    /// RT_SCOPE_*: 0 global, 253 link, 254 host.
    pub scope: u8,
    /// IFA_F_*.
    pub flags: u32,
}

impl Address {
    /// Did we put it there?
    pub const fn is_ours(&self) -> bool {
        self.protocol == PROTOCOL
    }

    /// Duplicate address detection found it elsewhere.
    pub const fn is_duplicate(&self) -> bool {
        self.flags & libc::IFA_F_DADFAILED != 0
    }
}

/// An interface of this network namespace.
#[derive(Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it; a device made again has another.
    pub index: u32,
    /// Its name.
    pub name: InterfaceName,
    /// Its MAC address, where it is an Ethernet device.
    pub mac: Option<MacAddr>,
    /// IFF_UP: somebody switched it on.
    pub up: bool,
    /// IFF_RUNNING: it has a carrier and can send.
    pub running: bool,
    /// IFF_LOOPBACK.
    pub loopback: bool,
    /// Its addresses.
    pub addresses: BTreeMap<(IpAddr, u8), Address>,
}

impl fmt::Debug for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, name, up, running, .. } = self;
        write!(f, "{name}#{index} up={up} running={running} addresses={}", self.addresses.len())
    }
}

impl Interface {
    /// An IPv6 address of the node's own here, link-local before others: what solicitations of a lingering VIP are sent
    /// from.
    pub fn own6(&self) -> Option<Ipv6Addr> {
        let own = self.addresses.values().filter(|address| !address.is_ours() && !address.is_duplicate());
        let own6 = own.filter_map(|address| match address.address {
            IpAddr::V6(v6) if !v6.is_loopback() => Some(v6),
            _ => None,
        });
        own6.max_by_key(Ipv6Addr::is_unicast_link_local)
    }

    /// What a change of the interface itself changes.
    fn link(&self) -> (&InterfaceName, Option<MacAddr>, bool, bool) {
        (&self.name, self.mac, self.up, self.running)
    }
}

/// What stands on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All interfaces by index.
    pub interfaces: BTreeMap<u32, Interface>,
}

impl Snapshot {
    /// The interface of a name.
    pub fn named(&self, name: &str) -> Option<&Interface> {
        self.interfaces.values().find(|interface| interface.name.as_str() == name)
    }

    /// Everything that is ours, with the index of its interface.
    pub fn ours(&self) -> impl Iterator<Item = (u32, &Address)> {
        self.interfaces.values().flat_map(|interface| {
            interface.addresses.values().filter(|address| address.is_ours()).map(|address| (interface.index, address))
        })
    }
}

/// A change on this host, as the kernel told it or a dump showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// An interface came, or something about it but its addresses changed: name, MAC, up, running.
    Link(u32),
    /// An interface went, and all its addresses with it.
    LinkGone(Interface),
    /// An address came, or its flags changed.
    Address(u32, Address),
    /// An address went.
    AddressGone(u32, Address),
}

/// Something to do to this host's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// Put a VIP on an interface. One that stands there already, and is ours, is fine.
    Add {
        /// The VIP.
        vip: Vip,
        /// Index of the interface.
        interface: u32,
    },
    /// Take a VIP from an interface; only the /32 or /128, never a stranger's address with a longer net. One that is
    /// gone is fine.
    Remove {
        /// The VIP.
        vip: Vip,
        /// Index of the interface.
        interface: u32,
    },
    /// Accept traffic for a VIP without its address. Put it before the `Remove` in the same list: no gap.
    Linger(Vip),
    /// The end of that.
    StopLingering(Vip),
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { vip, interface } | Self::Remove { vip, interface } => {
                // By name where it still has one.
                match nix::net::if_::if_indextoname(*interface) {
                    Ok(name) => write!(f, "{vip} on {}", name.to_string_lossy()),
                    Err(_) => write!(f, "{vip} on interface {interface}"),
                }
            }
            Self::Linger(vip) | Self::StopLingering(vip) => write!(f, "{vip}"),
        }
    }
}

impl Edit {
    const fn operation(self) -> &'static str {
        match self {
            Self::Add { .. } => "add the address",
            Self::Remove { .. } => "remove the address",
            Self::Linger(_) => "add the local route to",
            Self::StopLingering(_) => "remove the local route to",
        }
    }

    fn write(self, writer: &mut Writer, sequence: u32) {
        match self {
            Self::Add { vip, interface } => {
                write_address(writer, sequence, NEWADDR, NLM_F_CREATE | NLM_F_EXCL, vip, interface)
            }
            Self::Remove { vip, interface } => write_address(writer, sequence, DELADDR, 0, vip, interface),
            // Append: beside the route that the kernel has for the address while that still stands.
            Self::Linger(vip) => write_route(writer, sequence, NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, vip),
            Self::StopLingering(vip) => write_route(writer, sequence, DELROUTE, 0, vip),
        }
    }

    /// Answers that mean that things are as they should be.
    const fn is_done(self, errno: i32) -> bool {
        match self {
            Self::Add { .. } => false,
            Self::Linger(_) => errno == libc::EEXIST,
            Self::Remove { .. } => matches!(errno, libc::EADDRNOTAVAIL | libc::ENODEV),
            Self::StopLingering(_) => matches!(errno, libc::ESRCH | libc::ENODEV),
        }
    }

    fn error(self, errno: i32) -> HostError {
        let mut error = HostError::admin(self.operation(), self.to_string(), errno);
        let v6 = match self {
            Self::Add { vip, .. } | Self::Linger(vip) => !vip.is_ipv4(),
            _ => false,
        };
        // addrconf_add_dev (net/ipv6/addrconf.c) says EACCES where disable_ipv6 is set.
        if v6 && matches!(errno, libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) {
            error.code = HostCode::Ipv6Disabled;
        }
        error
    }
}

fn octets(address: IpAddr, put: impl FnOnce(&[u8])) {
    match address {
        IpAddr::V4(v4) => put(&v4.octets()),
        IpAddr::V6(v6) => put(&v6.octets()),
    }
}

const fn family(vip: Vip) -> (u8, u8) {
    if vip.is_ipv4() { (IPV4, 32) } else { (IPV6, 128) }
}

fn write_address(writer: &mut Writer, sequence: u32, kind: u16, flags: u16, vip: Vip, interface: u32) {
    let (family, prefix) = family(vip);
    let scope = if vip.is_ipv4() { SCOPE_HOST } else { 0 };
    let [a, b, c, d] = interface.to_ne_bytes();
    writer.begin(kind, NLM_F_REQUEST | flags, sequence, &[family, prefix, 0, scope, a, b, c, d]);
    octets(vip.address(), |bytes| {
        writer.put(libc::IFA_LOCAL, bytes);
        writer.put(libc::IFA_ADDRESS, bytes);
    });
    if kind == NEWADDR {
        if !vip.is_ipv4() {
            writer.put_ne32(libc::IFA_FLAGS, libc::IFA_F_NODAD);
            // struct ifa_cacheinfo: preferred 0, valid for ever, two stamps.
            let mut lifetimes = [0; 16];
            lifetimes[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
            writer.put(libc::IFA_CACHEINFO, &lifetimes);
        }
        writer.put(IFA_PROTO, &[PROTOCOL]);
    }
    writer.end();
}

/// IFA_PROTO (Linux 5.18).
const IFA_PROTO: u16 = 11;

fn write_route(writer: &mut Writer, sequence: u32, kind: u16, flags: u16, vip: Vip) {
    let (family, prefix) = family(vip);
    let fixed = [family, prefix, 0, 0, TABLE_LOCAL, PROTOCOL, SCOPE_HOST, TYPE_LOCAL, 0, 0, 0, 0];
    writer.begin(kind, NLM_F_REQUEST | flags, sequence, &fixed);
    octets(vip.address(), |bytes| writer.put(libc::RTA_DST, bytes));
    writer.put_ne32(libc::RTA_OIF, LOOPBACK);
    writer.end();
}

/// A socket for questions and edits.
#[derive(Debug)]
pub struct Netlink {
    channel: Channel,
    writer: Writer,
}

impl Netlink {
    /// Opens the socket and sets the buffers aside.
    pub fn open() -> Result<Self, HostError> {
        let channel = Channel::open(NETLINK_ROUTE)
            .map_err(|error| HostError::admin("open", "a netlink socket", errno(&error)))?;
        channel.set_buffers(1 << 20, 4 << 20);
        // So that the kernel itself leaves out the routes of other tables and protocols.
        let _ = channel.socket().set_netlink_get_strict_chk(true);
        Ok(Self { channel, writer: Writer::with_capacity(32 * 1024) })
    }

    /// Everything that stands on this host.
    pub fn snapshot(&mut self) -> Result<Snapshot, HostError> {
        let mut snapshot = Snapshot::default();
        let mut ignored = Vec::new();
        // struct ifinfomsg and struct ifaddrmsg, all zero but the family.
        self.dump(GETLINK, &[0; 16], |message| snapshot.take(message, &mut ignored))?;
        self.dump(GETADDR, &[0; 8], |message| snapshot.take(message, &mut ignored))?;
        Ok(snapshot)
    }

    /// What takes away everything that is ours on this host, addresses and routes; replaces what `edits` holds.
    pub fn leftovers(&mut self, edits: &mut Vec<Edit>) -> Result<(), HostError> {
        edits.clear();
        self.dump(GETADDR, &[0; 8], |message| {
            if let Some((interface, address)) = parse_address(message.body)
                && address.is_ours()
                && let Ok(vip) = Vip::new(address.address)
            {
                edits.push(Edit::Remove { vip, interface });
            }
        })?;
        for family in [IPV4, IPV6] {
            let fixed = [family, 0, 0, 0, TABLE_LOCAL, PROTOCOL, 0, 0, 0, 0, 0, 0];
            let dumped = self.dump(GETROUTE, &fixed, |message| {
                if let [_, _, _, _, TABLE_LOCAL, PROTOCOL, _, TYPE_LOCAL, ..] = message.body
                    && message.kind == NEWROUTE
                    && let Some(destination) = message.body.get(12..).and_then(|body| attribute(body, libc::RTA_DST))
                    && let Some(Ok(vip)) = address(destination).map(Vip::new)
                {
                    edits.push(Edit::StopLingering(vip));
                }
            });
            match dumped {
                // A kernel without IPv6 has no such routes, a namespace without any address no such table.
                Err(error) if matches!(error.errno, Some(libc::EOPNOTSUPP | libc::ENOENT)) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Does the edits in their order, a few hundred a system call; returns those that the kernel refused.
    pub fn apply(&mut self, edits: &[Edit]) -> Vec<(Edit, HostError)> {
        let mut refused = Vec::new();
        for piece in edits.chunks(PIECE) {
            self.send(piece, |edit, errno| refused.push((edit, edit.error(errno))));
        }
        if refused.iter().any(|(_, error)| error.errno == Some(libc::EEXIST)) {
            // It stands there already. If it is ours, good; if it is a stranger's, that is the answer.
            let standing = self.snapshot().unwrap_or_default();
            refused.retain(|(edit, error)| match edit {
                Edit::Add { vip, interface } if error.errno == Some(libc::EEXIST) => {
                    !standing.ours().any(|(index, address)| index == *interface && address.address == vip.address())
                }
                _ => true,
            });
        }
        refused
    }

    /// Waits, at most `limit`, until the kernel accepts traffic for these IPv6 VIPs by their addresses.
    ///
    /// An IPv6 address is acknowledged first and gets its route from a worker of the kernel (addrconf_dad_work), on a
    /// busy host some milliseconds later; whoever announces it before that loses what comes meanwhile.
    pub fn await_routes(&mut self, vips: &[Vip], limit: Duration) {
        const PAUSE: Duration = Duration::from_micros(500);
        let mut missing: Vec<Vip> = vips.iter().filter(|vip| !vip.is_ipv4()).copied().collect();
        for _ in 0..=limit.as_micros() / PAUSE.as_micros() {
            missing.retain(|vip| !self.has_route(*vip));
            if missing.is_empty() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The gateway by which the kernel would reach an address, where there is one.
    fn gateway_to(&mut self, destination: IpAddr) -> Option<IpAddr> {
        let (family, prefix) = if destination.is_ipv4() { (IPV4, 32) } else { (IPV6, 128) };
        self.channel.drain();
        let sequence = self.channel.skip(1);
        self.writer.clear();
        self.writer.begin(GETROUTE, NLM_F_REQUEST, sequence, &[family, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        octets(destination, |bytes| self.writer.put(libc::RTA_DST, bytes));
        self.writer.end();
        self.channel.send(self.writer.bytes()).ok()?;
        let datagram = self.channel.receive().ok()??;
        let route = messages(datagram).find(|message| message.kind == NEWROUTE)?;
        address(attribute(route.body.get(12..)?, libc::RTA_GATEWAY)?)
    }

    /// Does the kernel's own local route lead to the VIP (not ours, by which it lingers)? True where it does not say.
    fn has_route(&mut self, vip: Vip) -> bool {
        let (family, prefix) = family(vip);
        self.channel.drain();
        let sequence = self.channel.skip(1);
        self.writer.clear();
        self.writer.begin(GETROUTE, NLM_F_REQUEST, sequence, &[family, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        octets(vip.address(), |bytes| self.writer.put(libc::RTA_DST, bytes));
        self.writer.end();
        if self.channel.send(self.writer.bytes()).is_err() {
            return true;
        }
        let Ok(Some(datagram)) = self.channel.receive() else { return true };
        messages(datagram).any(|message| match message.body {
            [_, _, _, _, _, protocol, _, TYPE_LOCAL, ..] => message.kind == NEWROUTE && *protocol != PROTOCOL,
            _ => false,
        })
    }

    /// Has the kernel begin anew where it waits in vain for a neighbour's hardware address.
    ///
    /// A question that was lost, because the link or the switch's port was not quite up yet, is repeated after a whole
    /// second only (neigh/retrans_time_ms), and what is sent to the neighbour meanwhile waits. Without the entry, the
    /// next datagram asks at once. True where there was such an entry.
    fn forget_unresolved(&mut self, interface: u32, neighbour: IpAddr) -> bool {
        // NUD_INCOMPLETE and NUD_FAILED (linux/neighbour.h).
        const UNRESOLVED: u16 = 0x01 | 0x20;
        let family = if neighbour.is_ipv4() { IPV4 } else { IPV6 };
        let [a, b, c, d] = interface.to_ne_bytes();
        // struct ndmsg.
        let fixed = [family, 0, 0, 0, a, b, c, d, 0, 0, 0, 0];
        let mut ask = |kind: u16, flags: u16| {
            self.channel.drain();
            let sequence = self.channel.skip(1);
            self.writer.clear();
            self.writer.begin(kind, NLM_F_REQUEST | flags, sequence, &fixed);
            octets(neighbour, |bytes| self.writer.put(libc::NDA_DST, bytes));
            self.writer.end();
            self.channel.send(self.writer.bytes()).ok()?;
            let message = messages(self.channel.receive().ok()??).next()?;
            Some((message.kind, message.body.to_vec()))
        };
        let Some((NEWNEIGH, body)) = ask(GETNEIGH, 0) else { return false };
        let state = body.get(8..10).map_or(0, |state| u16::from_ne_bytes([state[0], state[1]]));
        state & UNRESOLVED != 0 && ask(DELNEIGH, NLM_F_ACK).is_some()
    }

    fn send(&mut self, edits: &[Edit], mut refused: impl FnMut(Edit, i32)) {
        if edits.is_empty() {
            return;
        }
        let first = self.channel.skip(PIECE as u32);
        self.writer.clear();
        let mut last = first;
        for (sequence, edit) in (first..).zip(edits) {
            edit.write(&mut self.writer, sequence);
            last = sequence;
        }
        // The kernel works the list off before the call returns; one answer at the end, and one for each refusal.
        self.writer.add_flags(NLM_F_ACK);
        self.channel.drain();
        if let Err(error) = self.channel.send(self.writer.bytes()) {
            edits.iter().for_each(|edit| refused(*edit, errno(&error)));
            return;
        }
        loop {
            let datagram = match self.channel.receive() {
                Ok(Some(datagram)) => datagram,
                // No answer to the last: then nothing is known of it.
                Ok(None) => return refused(edits[edits.len() - 1], libc::EPROTO),
                Err(error) => return edits.iter().for_each(|edit| refused(*edit, errno(&error))),
            };
            for message in messages(datagram) {
                let Control::Answer(errno) = message.control() else { continue };
                let Some(place) = message.sequence.checked_sub(first) else { continue };
                if let Some(edit) = edits.get(place as usize)
                    && errno != 0
                    && !edit.is_done(errno)
                {
                    refused(*edit, errno);
                }
                if message.sequence == last {
                    return;
                }
            }
        }
    }

    fn dump(&mut self, kind: u16, fixed: &[u8], each: impl FnMut(Message<'_>)) -> Result<(), HostError> {
        self.channel.drain();
        let sequence = self.channel.skip(1);
        self.writer.clear();
        self.writer.begin(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, fixed);
        if kind == GETLINK {
            self.writer.put_ne32(29, 1 << 3); // IFLA_EXT_MASK: RTEXT_FILTER_SKIP_STATS
        }
        self.writer.end();
        self.channel
            .dump(self.writer.bytes(), sequence, each)
            .map_err(|error| HostError::admin("list", "interfaces and addresses", errno(&error)))
    }
}

impl Snapshot {
    /// Takes a message of the kernel in; what it changed goes to `changes`.
    fn take(&mut self, message: Message<'_>, changes: &mut Vec<Change>) {
        match message.kind {
            NEWLINK => {
                let Some(mut link) = parse_link(message.body) else { return };
                let index = link.index;
                let old = self.interfaces.remove(&index);
                let same = old.as_ref().map(Interface::link) == Some(link.link());
                link.addresses = old.map(|old| old.addresses).unwrap_or_default();
                self.interfaces.insert(index, link);
                if !same {
                    changes.push(Change::Link(index));
                }
            }
            DELLINK => {
                // A bridge says DELLINK of family AF_BRIDGE when a port leaves it: the interface stays.
                if message.body.first() == Some(&0)
                    && let Some(gone) = message.body.get(4..).and_then(ne32).and_then(|i| self.interfaces.remove(&i))
                {
                    changes.push(Change::LinkGone(gone));
                }
            }
            NEWADDR | DELADDR => {
                let Some((index, address)) = parse_address(message.body) else { return };
                let Some(interface) = self.interfaces.get_mut(&index) else { return };
                let key = (address.address, address.prefix);
                if message.kind == DELADDR {
                    changes.extend(interface.addresses.remove(&key).map(|gone| Change::AddressGone(index, gone)));
                } else if interface.addresses.insert(key, address) != Some(address) {
                    changes.push(Change::Address(index, address));
                }
            }
            _ => {}
        }
    }

    /// What has to have happened between `self` and `later`.
    fn difference(&self, later: &Self, changes: &mut Vec<Change>) {
        for (index, old) in &self.interfaces {
            match later.interfaces.get(index) {
                None => changes.push(Change::LinkGone(old.clone())),
                Some(new) => changes.extend(
                    old.addresses
                        .iter()
                        .filter(|(key, _)| !new.addresses.contains_key(key))
                        .map(|(_, gone)| Change::AddressGone(*index, *gone)),
                ),
            }
        }
        for (index, new) in &later.interfaces {
            let old = self.interfaces.get(index);
            if old.map(Interface::link) != Some(new.link()) {
                changes.push(Change::Link(*index));
            }
            changes.extend(
                new.addresses
                    .iter()
                    .filter(|(key, address)| old.and_then(|old| old.addresses.get(key)) != Some(address))
                    .map(|(_, address)| Change::Address(*index, *address)),
            );
        }
    }
}

/// struct ifinfomsg and its attributes.
fn parse_link(body: &[u8]) -> Option<Interface> {
    let (fixed, rest) = body.split_at_checked(16)?;
    // A bridge's own notices about its ports carry family AF_BRIDGE and less.
    if fixed[0] != 0 {
        return None;
    }
    let kind = u16::from_ne_bytes([fixed[2], fixed[3]]);
    let flags = ne32(&fixed[8..])?.cast_signed();
    let mac = attribute(rest, libc::IFLA_ADDRESS).and_then(|mac| Some(MacAddr(mac.try_into().ok()?)));
    Some(Interface {
        index: ne32(&fixed[4..])?,
        name: InterfaceName::new(attribute(rest, libc::IFLA_IFNAME).and_then(text)?).ok()?,
        mac: mac.filter(|_| kind == ARPHRD_ETHER),
        up: flags & libc::IFF_UP != 0,
        running: flags & libc::IFF_RUNNING != 0,
        loopback: flags & libc::IFF_LOOPBACK != 0,
        addresses: BTreeMap::new(),
    })
}

/// struct ifaddrmsg and its attributes.
fn parse_address(body: &[u8]) -> Option<(u32, Address)> {
    let (fixed, rest) = body.split_at_checked(8)?;
    let (mut plain, mut local, mut flags, mut protocol) = (None, None, u32::from(fixed[2]), 0);
    for (kind, value) in attributes(rest) {
        match kind {
            libc::IFA_ADDRESS => plain = address(value),
            // Of a point-to-point interface the local end; else the same.
            libc::IFA_LOCAL => local = address(value),
            libc::IFA_FLAGS => flags = ne32(value)?,
            IFA_PROTO => protocol = *value.first()?,
            _ => {}
        }
    }
    let address = Address { address: local.or(plain)?, prefix: fixed[1], protocol, scope: fixed[3], flags };
    Some((ne32(&fixed[4..])?, address))
}

/// Follows what happens on this host.
#[derive(Debug)]
pub struct Monitor {
    events: Channel,
    netlink: Netlink,
    snapshot: Snapshot,
}

impl Monitor {
    /// Starts to follow: first the notices, then a look at everything, so that nothing is missed between.
    pub fn open() -> Result<Self, HostError> {
        let mut events = Channel::open(NETLINK_ROUTE)
            .map_err(|error| HostError::admin("open", "a netlink socket", errno(&error)))?;
        events.set_buffers(64 * 1024, 8 << 20);
        for group in GROUPS {
            events.join(group).map_err(|error| HostError::admin("follow", "the kernel's notices", errno(&error)))?;
        }
        let mut netlink = Netlink::open()?;
        let snapshot = netlink.snapshot()?;
        Ok(Self { events, netlink, snapshot })
    }

    /// The default gateways: by which the kernel would reach addresses that nobody has (RFC 5737, RFC 3849).
    pub fn gateways(&mut self) -> Vec<IpAddr> {
        let nobody: [IpAddr; 2] =
            [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
        nobody.into_iter().filter_map(|address| self.netlink.gateway_to(address)).collect()
    }

    /// Has the kernel ask at once for the hardware address of a neighbour for which it waits in vain; see
    /// [`Netlink::forget_unresolved`]. True where it did wait.
    pub fn resolve_anew(&mut self, neighbour: IpAddr) -> bool {
        let near = |address: &Address| {
            ipnet::IpNet::new(address.address, address.prefix).is_ok_and(|net| net.contains(&neighbour))
        };
        let on = self.snapshot.interfaces.values().find(|interface| {
            !interface.loopback && interface.addresses.values().any(|address| !address.is_ours() && near(address))
        });
        on.map(|interface| interface.index).is_some_and(|index| self.netlink.forget_unresolved(index, neighbour))
    }

    /// What stands on this host, as of the last `read`.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Reads what happened since, without waiting, into `changes`. Where the kernel had to drop notices, everything is
    /// looked at again and the differences are the changes.
    pub fn read(&mut self, changes: &mut Vec<Change>) -> Result<(), HostError> {
        loop {
            match self.events.receive() {
                Ok(Some(datagram)) => messages(datagram).for_each(|message| self.snapshot.take(message, changes)),
                Ok(None) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.events.drain();
                    let later = self.netlink.snapshot()?;
                    self.snapshot.difference(&later, changes);
                    self.snapshot = later;
                }
                Err(error) => return Err(HostError::admin("follow", "the kernel's notices", errno(&error))),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.socket().as_fd()
    }
}

/// A kernel setting that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name as `sysctl` writes it.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// What it was.
    pub old: String,
    /// What it is now.
    pub new: &'static str,
}

/// Sets what an interface needs so that VIPs behave there: `arp_announce=2`, or its ARP requests would announce a VIP;
/// `keep_addr_on_down=1`, or IPv6 VIPs go with the cable; with VIPs on `lo` also `arp_ignore=1`, or the kernel answers
/// for them past the gate's idea. Returns what was changed.
pub fn prepare_interface(interface: &InterfaceName, vips_on_loopback: bool) -> Result<Vec<Setting>, HostError> {
    let mut changed = Vec::new();
    let wanted = [("ipv4", "arp_announce", "2"), ("ipv6", "keep_addr_on_down", "1"), ("ipv4", "arp_ignore", "1")];
    for (family, key, new) in wanted.into_iter().take(if vips_on_loopback { 3 } else { 2 }) {
        let path = format!("/proc/sys/net/{family}/conf/{interface}/{key}");
        let explain = |error: io::Error| {
            let code = match error.kind() {
                io::ErrorKind::NotFound => HostCode::InterfaceMissing,
                io::ErrorKind::PermissionDenied => HostCode::NoNetAdmin,
                _ => HostCode::Refused,
            };
            HostError::new(code, "set", format!("net.{family}.conf.{interface}.{key}={new}"), error.raw_os_error())
        };
        let old = match std::fs::read_to_string(&path) {
            // A kernel without IPv6 has nothing to keep.
            Err(error) if error.kind() == io::ErrorKind::NotFound && family == "ipv6" => continue,
            other => other.map_err(explain)?,
        };
        let old = old.trim();
        // Higher is stricter, for all three.
        if old.parse::<i32>().ok() < new.parse().ok() {
            std::fs::write(&path, new).map_err(explain)?;
            let name = format!("net.{family}.conf.{interface}.{key}");
            changed.push(Setting { name, path, old: old.to_owned(), new });
        }
    }
    Ok(changed)
}

/// Puts settings back that nobody has changed since this program did: path, what it was, what we made of it.
pub fn restore_settings<'a>(settings: impl Iterator<Item = (&'a str, &'a str, &'a str)>) {
    for (path, old, new) in settings {
        // An interface that is gone took its settings along.
        if std::fs::read_to_string(path).is_ok_and(|now| now.trim() == new)
            && let Err(error) = std::fs::write(path, old)
        {
            tracing::warn!(path, %error, "a setting of the kernel could not be put back");
        }
    }
}
