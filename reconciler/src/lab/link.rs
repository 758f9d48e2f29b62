//! Links of a lab: bridges, veth pairs, their ports and counters.
//!
//! In: what to lay, in the network namespace of the calling thread. Out: it is laid, by rtnetlink, without `ip`.
//! Not here: which links a segment has (`segment`), the addresses of VIPs (`agent`).

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::net::if_::if_nametoindex;

/// A hardware address.
pub type Mac = [u8; 6];

/// A hardware address as people write it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The largest message that the kernel sends back: a link with all its attributes takes some 2 KiB.
const ANSWER: usize = 32 * 1024;

/// A connection to the kernel's routing socket, in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
    sequence: u32,
}

/// What a link's other end sent and received so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames that came in by this link.
    pub received: u64,
    /// Frames that went out by this link.
    pub sent: u64,
}

impl Links {
    /// Connects, in the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Adds a bridge and sets it up.
    pub fn bridge(&mut self, name: &str) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.add(link)?;
        self.up(name)
    }

    /// Adds a veth pair: `port` here, `inner` with `mac` in the network namespace `place`.
    pub fn veth(&mut self, port: &str, inner: &str, mac: Mac, place: &File) -> io::Result<()> {
        let mut peer = named(inner);
        peer.attributes.push(LinkAttribute::Address(mac.to_vec()));
        peer.attributes.push(LinkAttribute::NetNsFd(place.as_raw_fd()));
        let mut link = named(port);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.add(link)
    }

    /// Makes `port` a port of `bridge`.
    pub fn enslave(&mut self, port: &str, bridge: &str) -> io::Result<()> {
        let index = if_nametoindex(bridge)?;
        let mut link = named(port);
        link.attributes.push(LinkAttribute::Controller(index));
        self.change(link)
    }

    /// Sets a link up.
    pub fn up(&mut self, name: &str) -> io::Result<()> {
        let mut link = named(name);
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.change(link)
    }

    /// Sets a link down: the other end of a veth pair loses its carrier.
    pub fn down(&mut self, name: &str) -> io::Result<()> {
        let mut link = named(name);
        link.header.change_mask = LinkFlags::Up;
        self.change(link)
    }

    /// Gives a link another hardware address.
    pub fn set_mac(&mut self, name: &str, mac: Mac) -> io::Result<()> {
        let mut link = named(name);
        link.attributes.push(LinkAttribute::Address(mac.to_vec()));
        self.change(link)
    }

    /// Deletes a link, and a pair with it.
    pub fn delete(&mut self, name: &str) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::DelLink(named(name)), NLM_F_ACK).map(drop)
    }

    /// Adds an address to a link; an IPv6 one may be used at once (no duplicate address detection).
    pub fn add_address(&mut self, name: &str, address: IpNet) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::NewAddress(address_of(name, address)?), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
            .map(drop)
    }

    /// Deletes an address from a link.
    pub fn delete_address(&mut self, name: &str, address: IpNet) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::DelAddress(address_of(name, address)?), NLM_F_ACK).map(drop)
    }

    /// A link's counters.
    pub fn counters(&mut self, name: &str) -> io::Result<Counters> {
        let link = self.link(name)?;
        let found = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(Counters { received: stats.rx_packets, sent: stats.tx_packets }),
            _ => None,
        });
        found.ok_or_else(|| io::Error::other(format!("no counters of {name}")))
    }

    /// A link's hardware address.
    pub fn mac(&mut self, name: &str) -> io::Result<Mac> {
        let link = self.link(name)?;
        let found = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => Mac::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
        found.ok_or_else(|| io::Error::other(format!("no hardware address of {name}")))
    }

    fn link(&mut self, name: &str) -> io::Result<LinkMessage> {
        match self.ask(RouteNetlinkMessage::GetLink(named(name)), 0)? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
            _ => Err(io::Error::other(format!("no answer about {name}"))),
        }
    }

    fn add(&mut self, link: LinkMessage) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    fn change(&mut self, link: LinkMessage) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let mut answer = Vec::with_capacity(ANSWER);
            self.socket.recv(&mut answer, 0)?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_none() => Ok(None),
                NetlinkPayload::Error(error) => Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
                _ => Ok(None),
            };
        }
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}

fn address_of(name: &str, address: IpNet) -> io::Result<AddressMessage> {
    let mut message = AddressMessage::default();
    message.header.index = if_nametoindex(name)?;
    message.header.prefix_len = address.prefix_len();
    message.header.family = match address.addr() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.attributes.push(AddressAttribute::Address(address.addr()));
    if address.addr().is_ipv4() {
        message.attributes.push(AddressAttribute::Local(address.addr()));
    } else {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    Ok(message)
}
