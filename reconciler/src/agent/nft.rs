//! The gate: no frame that speaks for a guarded VIP leaves this host unless the VIP is held and the lease lasts.
//!
//! In: the interfaces and VIPs to guard, the VIPs held, the end of the lease. Out: one nftables table of family netdev
//! with a chain on the egress hook of each interface. Not here: who holds a VIP and until when (`engine`).
//!
//! A frame speaks for a VIP when it makes a neighbour write the VIP down with our MAC: ARP whose sender is the VIP
//! (replies and requests alike), a neighbour advertisement whose target is the VIP, a neighbour solicitation whose source
//! is the VIP (RFC 4861, 7.2.3). The egress hook sees the kernel's own frames and those of packet sockets.
//!
//! The end of the lease is absolute: an interval [0, end) over `meta time` (CLOCK_REALTIME in ns). A timeout two ticks
//! longer bounds it in case the clock is set back. Changing it empties the set and fills it in one transaction, so there
//! is no instant without an end and none with two, and an expired element is no trouble.
//!
//! VIPs that may be served alone (pools of `partition: available`) have a set of their own, and a second lease of the same
//! form counts for these and no others. A rule that lets something of a strict pool pass asks for the lease of a view.
//!
//! The table has the flags owner and persist (Linux 6.9): `nft flush ruleset` leaves it alone and the death of this
//! process leaves it closed by itself. Older kernels get an ordinary table; [`GateWatch`] tells when somebody touched it.
//!
//! Attributes are written by hand: the table flags, `byteorder` and `payload` writes that the gate is made of, and the
//! commands that empty a set, are beyond what netlink-packet-netfilter knows.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::error::{HostCode, HostError, errno};
use super::tlv::{
    Channel, Control, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, Writer, address, attribute,
    attributes, messages, text,
};
use crate::name::InterfaceName;
use crate::vip::Vip;

/// The name of the table, and of nothing else on the host.
pub const TABLE: &str = "rendezvip";

// include/uapi/linux/netfilter/nfnetlink.h
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const GROUP_NFTABLES: u32 = 7;
const FAMILY_NETDEV: u8 = 5;

// include/uapi/linux/netfilter/nf_tables.h, enum nf_tables_msg_types
const NEWTABLE: u16 = 0;
const GETTABLE: u16 = 1;
const DELTABLE: u16 = 2;
const NEWCHAIN: u16 = 3;
const GETCHAIN: u16 = 4;
const DELCHAIN: u16 = 5;
const NEWRULE: u16 = 6;
const DELRULE: u16 = 8;
const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;
const NEWGEN: u16 = 15;

/// NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST.
const OWNER_PERSIST: u32 = 0x2 | 0x4;

// The sets. Type numbers are nft's own (`enum datatypes`): they only tell `nft list` how to print.
const GUARDED4: &str = "guarded4";
const GUARDED6: &str = "guarded6";
const HELD4: &str = "held4";
const HELD6: &str = "held6";
const LEASE: &str = "lease";
/// VIPs that may be answered for alone, and until when.
const LOOSE4: &str = "loose4";
const LOOSE6: &str = "loose6";
const ALONE: &str = "alone";
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_TIME: u32 = 43;
/// NFT_SET_INTERVAL | NFT_SET_TIMEOUT.
const INTERVAL_TIMEOUT: u32 = 0x4 | 0x10;
/// The most VIPs that a repository may have. A set whose size is known gets its hash table at once (0.7 MiB); one that grows
/// took 40 ms instead of 5 for 10,000 elements, and the lease cannot be renewed meanwhile.
const MOST: u32 = 65_536;
/// What nft keeps beside `typeof meta time` (byte order, NFTNL_UDATA_SET_TYPEOF), so that `nft list` prints dates.
const LEASE_UDATA: &[u8] = &[0, 4, 1, 0, 0, 0, 3, 14, 0, 4, 9, 0, 0, 0, 1, 6, 0, 4, 30, 0, 0, 0];
/// Keys in network byte order.
const ADDRESS_UDATA: &[u8] = &[0, 4, 2, 0, 0, 0];

/// The chain for ARP, and for neighbour discovery.
const ARP: &str = "arp";
const ND: &str = "nd";
/// Before the name of its interface: an egress chain.
const EGRESS: &str = "egress-";

/// Elements in one attribute, which ends at 64 KiB: 28 bytes each at most.
const ELEMENTS: usize = 2_000;

// Verdicts: include/uapi/linux/netfilter.h and nf_tables.h.
const ACCEPT: u32 = 1;
const DROP: u32 = 0;
const GOTO: u32 = (-4_i32).cast_unsigned();

/// An interface whose egress the gate stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedInterface {
    /// Its name; the gate follows the name, not the index.
    pub name: InterfaceName,
    /// An IPv6 address of the node's own there (link-local will do). Solicitations from a VIP that is not held are sent
    /// from it instead, so that lingering traffic goes on and announces nothing; without one they are dropped.
    pub own6: Option<Ipv6Addr>,
}

/// The end of a lease, for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseEnd {
    /// CLOCK_REALTIME in nanoseconds: the first instant without lease.
    pub realtime_ns: u64,
    /// How long that is from now. Bounds the lease when the clock is set back.
    pub remaining: Duration,
}

/// How strongly the kernel keeps the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// Owned and persistent: nobody else changes it, and it outlives us.
    Owned,
    /// An ordinary table (before Linux 6.9): whoever flushes the ruleset opens the gate until it is made again.
    Ordinary,
}

/// What a message of a transaction does; names it when the kernel refuses.
#[derive(Debug, Clone, Copy)]
enum Step {
    Table,
    Set,
    Chain(usize),
    Rule,
    Elements,
    Lease,
}

/// Why a transaction failed: an errno, and the step that it belongs to.
#[derive(Debug, Clone, Copy)]
struct Refusal {
    errno: i32,
    step: Option<Step>,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { errno: errno(&error), step: None }
    }
}

/// Messages of one transaction.
#[derive(Debug)]
struct Batch {
    writer: Writer,
    first: u32,
    last: u32,
    steps: Vec<Step>,
}

fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

const fn message_type(message: u16) -> u16 {
    SUBSYSTEM << 8 | message
}

impl Batch {
    fn new() -> Self {
        Self { writer: Writer::with_capacity(16 * 1024), first: 0, last: 0, steps: Vec::with_capacity(64) }
    }

    fn start(&mut self, sequence: u32) {
        self.writer.clear();
        self.steps.clear();
        (self.first, self.last) = (sequence, sequence);
        self.writer.begin(BATCH_BEGIN, NLM_F_REQUEST, sequence, &header(0, SUBSYSTEM));
        self.writer.end();
    }

    fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// One command on the table, with the attributes that `rest` writes behind the table's name (attribute 1 of all).
    fn command(&mut self, step: Step, message: u16, flags: u16, rest: impl FnOnce(&mut Writer)) {
        self.last = self.last.wrapping_add(1);
        self.steps.push(step);
        self.writer.begin(message_type(message), NLM_F_REQUEST | flags, self.last, &header(FAMILY_NETDEV, 0));
        self.writer.put_str(1, TABLE);
        rest(&mut self.writer);
        self.writer.end();
    }

    fn finish(&mut self) {
        // The last command's answer comes after the commit.
        self.writer.add_flags(NLM_F_ACK);
        self.writer.begin(BATCH_END, NLM_F_REQUEST, self.last.wrapping_add(1), &header(0, SUBSYSTEM));
        self.writer.end();
    }

    fn table(&mut self, flags: u32) {
        self.command(Step::Table, NEWTABLE, NLM_F_CREATE, |w| w.put_be32(2, flags));
    }

    fn delete_table(&mut self) {
        self.command(Step::Table, DELTABLE, 0, |_| ());
    }

    fn set(&mut self, id: u32, name: &str, flags: u32, key: u32, length: u32, udata: &[u8]) {
        self.command(Step::Set, NEWSET, NLM_F_CREATE, |w| {
            w.put_str(2, name);
            w.put_be32(3, flags);
            w.put_be32(4, key);
            w.put_be32(5, length);
            w.put_be32(10, id);
            if flags == 0 {
                let description = w.nest(9);
                w.put_be32(1, MOST);
                w.end_nest(description);
            }
            w.put(13, udata);
        });
    }

    /// Adds or deletes addresses of a pair of sets, IPv4 and IPv6 apart, in pieces that fit an attribute.
    fn elements<'a>(&mut self, message: u16, sets: [&str; 2], vips: impl Iterator<Item = &'a Vip> + Clone) {
        for (set, ipv4) in sets.into_iter().zip([true, false]) {
            let mut rest = vips.clone().filter(|vip| vip.is_ipv4() == ipv4).peekable();
            while rest.peek().is_some() {
                self.command(Step::Elements, message, NLM_F_CREATE, |w| {
                    w.put_str(2, set);
                    let list = w.nest(3);
                    for vip in rest.by_ref().take(ELEMENTS) {
                        let element = w.nest(1);
                        let key = w.nest(1);
                        match vip.address() {
                            IpAddr::V4(v4) => w.put(1, &v4.octets()),
                            IpAddr::V6(v6) => w.put(1, &v6.octets()),
                        }
                        w.end_nest(key);
                        w.end_nest(element);
                    }
                    w.end_nest(list);
                });
            }
        }
    }

    fn empty_lease(&mut self, lease: &str) {
        self.command(Step::Lease, DELSETELEM, 0, |w| w.put_str(2, lease));
    }

    fn fill_lease(&mut self, lease: &str, end: LeaseEnd, timeout: Duration) {
        self.command(Step::Lease, NEWSETELEM, NLM_F_CREATE, |w| {
            w.put_str(2, lease);
            let list = w.nest(3);
            let element = w.nest(1);
            let key = w.nest(1);
            w.put(1, &[0; 8]);
            w.end_nest(key);
            let millis = u64::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            w.put(4, &millis.to_be_bytes());
            w.end_nest(element);
            let element = w.nest(1);
            let key = w.nest(1);
            w.put(1, &end.realtime_ns.to_be_bytes());
            w.end_nest(key);
            w.put_be32(3, 1); // NFT_SET_ELEM_INTERVAL_END; with a timeout the kernel says EINVAL
            w.end_nest(element);
            w.end_nest(list);
        });
    }

    fn egress_chain(&mut self, index: usize, interface: &GuardedInterface) {
        self.command(Step::Chain(index), NEWCHAIN, NLM_F_CREATE, |w| {
            w.put_str(3, &format!("{EGRESS}{}", interface.name));
            w.put_str(7, "filter");
            w.put_be32(5, ACCEPT);
            let hook = w.nest(4);
            w.put_be32(1, 1); // NF_NETDEV_EGRESS
            w.put_be32(2, 0);
            w.put_str(3, interface.name.as_str());
            w.end_nest(hook);
        });
        self.egress_rules(interface);
    }

    fn egress_rules(&mut self, interface: &GuardedInterface) {
        let chain = format!("{EGRESS}{}", interface.name);
        self.rule(&chain, |e| {
            e.arp();
            e.verdict(GOTO, Some(ARP));
        });
        if let Some(own) = interface.own6 {
            self.rule(&chain, |e| {
                e.solicitation_from(HELD6);
                e.within(LEASE);
                e.verdict(ACCEPT, None);
            });
            self.rule(&chain, |e| {
                e.solicitation_from(HELD6);
                e.in_set(LOOSE6);
                e.within(ALONE);
                e.verdict(ACCEPT, None);
            });
            self.rule(&chain, |e| {
                e.solicitation_from(GUARDED6);
                e.set_ipv6_source(own);
                e.verdict(ACCEPT, None);
            });
        }
        self.rule(&chain, |e| {
            e.icmpv6();
            e.verdict(GOTO, Some(ND));
        });
    }

    fn delete_egress_rules(&mut self, interface: &GuardedInterface) {
        let chain = format!("{EGRESS}{}", interface.name);
        self.command(Step::Rule, DELRULE, 0, |w| w.put_str(2, &chain));
    }

    fn delete_egress_chain(&mut self, interface: &GuardedInterface) {
        let chain = format!("{EGRESS}{}", interface.name);
        self.command(Step::Rule, DELCHAIN, 0, |w| w.put_str(3, &chain));
    }

    /// The chains that all interfaces share: accept what is held within the lease, drop what is guarded.
    fn shared_chains(&mut self) {
        for chain in [ARP, ND] {
            self.command(Step::Rule, NEWCHAIN, NLM_F_CREATE, |w| w.put_str(3, chain));
        }
        self.rule(ARP, |e| {
            e.arp_sender_in(HELD4);
            e.within(LEASE);
            e.verdict(ACCEPT, None);
        });
        self.rule(ARP, |e| {
            e.arp_sender_in(HELD4);
            e.in_set(LOOSE4);
            e.within(ALONE);
            e.verdict(ACCEPT, None);
        });
        self.rule(ARP, |e| {
            e.arp_sender_in(GUARDED4);
            e.verdict(DROP, None);
        });
        self.rule(ND, |e| {
            e.advertisement_of(HELD6);
            e.within(LEASE);
            e.override_others();
            e.verdict(ACCEPT, None);
        });
        self.rule(ND, |e| {
            e.advertisement_of(HELD6);
            e.in_set(LOOSE6);
            e.within(ALONE);
            e.override_others();
            e.verdict(ACCEPT, None);
        });
        self.rule(ND, |e| {
            e.advertisement_of(GUARDED6);
            e.verdict(DROP, None);
        });
        self.rule(ND, |e| {
            e.solicitation_from(HELD6);
            e.within(LEASE);
            e.verdict(ACCEPT, None);
        });
        self.rule(ND, |e| {
            e.solicitation_from(HELD6);
            e.in_set(LOOSE6);
            e.within(ALONE);
            e.verdict(ACCEPT, None);
        });
        self.rule(ND, |e| {
            e.solicitation_from(GUARDED6);
            e.verdict(DROP, None);
        });
    }

    fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Expressions<'_>)) {
        self.command(Step::Rule, NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |w| {
            w.put_str(2, chain);
            let list = w.nest(4);
            write(&mut Expressions(w));
            w.end_nest(list);
        });
    }
}

/// What a rule asks, in the order in which it asks. Register 1 carries whatever is looked at.
struct Expressions<'a>(&'a mut Writer);

/// NFT_PAYLOAD_LL_HEADER and NFT_PAYLOAD_NETWORK_HEADER.
const LINK: u32 = 0;
const NETWORK: u32 = 1;
/// NFT_REG_1.
const REGISTER: u32 = 1;
/// The override flag among the flags of an advertisement.
const OVERRIDE: u32 = 1 << 29;

impl Expressions<'_> {
    fn expression(&mut self, name: &str, data: impl FnOnce(&mut Writer)) {
        let element = self.0.nest(1);
        self.0.put_str(1, name);
        let nest = self.0.nest(2);
        data(self.0);
        self.0.end_nest(nest);
        self.0.end_nest(element);
    }

    fn load(&mut self, base: u32, offset: u32, length: u32) {
        self.expression("payload", |w| {
            w.put_be32(1, REGISTER);
            w.put_be32(2, base);
            w.put_be32(3, offset);
            w.put_be32(4, length);
        });
    }

    fn equals(&mut self, value: &[u8]) {
        self.expression("cmp", |w| {
            w.put_be32(1, REGISTER);
            w.put_be32(2, 0);
            let data = w.nest(3);
            w.put(1, value);
            w.end_nest(data);
        });
    }

    /// Looks for what is in the register; it stays there.
    fn in_set(&mut self, set: &str) {
        self.expression("lookup", |w| {
            w.put_str(1, set);
            w.put_be32(2, REGISTER);
        });
    }

    /// The frame's own EtherType, not what a packet socket says that it is.
    fn ether_type(&mut self, value: u16) {
        self.load(LINK, 12, 2);
        self.equals(&value.to_be_bytes());
    }

    fn arp(&mut self) {
        self.ether_type(0x0806);
    }

    fn icmpv6(&mut self) {
        self.ether_type(0x86dd);
        self.load(NETWORK, 6, 1);
        self.equals(&[58]);
    }

    /// RFC 826: the sender's protocol address is at 14 for Ethernet and IPv4.
    fn arp_sender_in(&mut self, set: &str) {
        self.load(NETWORK, 14, 4);
        self.in_set(set);
    }

    /// RFC 4861, 4.4: type 136, target at 8 behind the 40 bytes of IPv6.
    fn advertisement_of(&mut self, set: &str) {
        self.load(NETWORK, 40, 1);
        self.equals(&[136]);
        self.load(NETWORK, 48, 16);
        self.in_set(set);
    }

    /// RFC 4861, 4.3: type 135; the source is IPv6's own.
    fn solicitation_from(&mut self, set: &str) {
        self.icmpv6();
        self.load(NETWORK, 40, 1);
        self.equals(&[135]);
        self.load(NETWORK, 8, 16);
        self.in_set(set);
    }

    fn within(&mut self, lease: &str) {
        self.expression("meta", |w| {
            w.put_be32(1, REGISTER);
            w.put_be32(2, 30); // NFT_META_TIME_NS
        });
        self.expression("byteorder", |w| {
            w.put_be32(1, REGISTER);
            w.put_be32(2, REGISTER);
            w.put_be32(3, 1); // NFT_BYTEORDER_HTON
            w.put_be32(4, 8);
            w.put_be32(5, 8);
        });
        self.in_set(lease);
    }

    fn set_ipv6_source(&mut self, source: Ipv6Addr) {
        self.expression("immediate", |w| {
            w.put_be32(1, REGISTER);
            let data = w.nest(2);
            w.put(1, &source.octets());
            w.end_nest(data);
        });
        self.expression("payload", |w| {
            w.put_be32(5, REGISTER);
            w.put_be32(2, NETWORK);
            w.put_be32(3, 8);
            w.put_be32(4, 16);
            w.put_be32(8, 1); // NFT_PAYLOAD_L4CSUM_PSEUDOHDR: mends the ICMPv6 checksum
        });
    }

    /// Sets the override flag of an advertisement (RFC 4861, 4.4): a VIP is its owner's alone, and whoever asks shall
    /// forget another. Linux leaves it out where the question came by unicast (`ndisc_recv_ns`).
    fn override_others(&mut self) {
        self.load(NETWORK, 44, 4);
        self.expression("bitwise", |w| {
            w.put_be32(1, REGISTER);
            w.put_be32(2, REGISTER);
            w.put_be32(3, 4);
            for (attribute, value) in [(4, !OVERRIDE), (5, OVERRIDE)] {
                let data = w.nest(attribute);
                w.put(1, &value.to_be_bytes());
                w.end_nest(data);
            }
        });
        self.expression("payload", |w| {
            w.put_be32(5, REGISTER);
            w.put_be32(2, NETWORK);
            w.put_be32(3, 44);
            w.put_be32(4, 4);
            w.put_be32(6, 1); // NFT_PAYLOAD_CSUM_INET: mends the checksum at
            w.put_be32(7, 42);
        });
    }

    fn verdict(&mut self, code: u32, chain: Option<&str>) {
        self.expression("immediate", |w| {
            w.put_be32(1, 0); // NFT_REG_VERDICT
            let data = w.nest(2);
            let verdict = w.nest(2);
            w.put_be32(1, code);
            if let Some(chain) = chain {
                w.put_str(2, chain);
            }
            w.end_nest(verdict);
            w.end_nest(data);
        });
    }
}

/// A socket with a transaction in the making: what the daemon and its keeper both have.
#[derive(Debug)]
struct Table {
    channel: Channel,
    batch: Batch,
}

/// What stood there when we came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A table with the flags owner and persist; it is ours now and its lease is over.
    Orphan,
    /// A table with other flags; its lease is over.
    Other,
}

impl Table {
    fn open() -> Result<Self, HostError> {
        let channel = Channel::open(NETLINK_NETFILTER).map_err(|error| match errno(&error) {
            code @ (libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
                HostError::new(HostCode::NoNfTables, "open the gate by", "nfnetlink", Some(code))
            }
            code => HostError::admin("open the gate by", "nfnetlink", code),
        })?;
        Ok(Self { channel, batch: Batch::new() })
    }

    fn begin(&mut self) {
        // Room for the sequence numbers of the whole transaction, so that a late answer fits no other.
        self.batch.start(self.channel.skip(1 << 16));
    }

    /// Sends the transaction and waits for the kernel's verdict. All of it stands, or nothing.
    fn commit(&mut self) -> Result<(), Refusal> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch.finish();
        self.channel.drain();
        self.channel.send(self.batch.writer.bytes())?;
        let mut failed = None;
        loop {
            let Some(datagram) = self.channel.receive()? else {
                return Err(Refusal { errno: libc::EPROTO, step: None });
            };
            for message in messages(datagram) {
                let Control::Answer(errno) = message.control() else { continue };
                let Some(place) = message.sequence.checked_sub(self.batch.first) else { continue };
                let step = (place as usize).checked_sub(1).and_then(|step| self.batch.steps.get(step)).copied();
                if errno != 0 && failed.is_none() {
                    failed = Some(Refusal { errno, step });
                }
                // The first number stands for the batch as a whole, the last for the commit.
                if message.sequence == self.batch.first || message.sequence == self.batch.last {
                    return failed.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// The flags of the table that stands there.
    fn flags(&mut self) -> Result<Option<u32>, Refusal> {
        let sequence = self.channel.skip(1);
        let writer = &mut self.batch.writer;
        writer.clear();
        writer.begin(message_type(GETTABLE), NLM_F_REQUEST | NLM_F_ACK, sequence, &header(FAMILY_NETDEV, 0));
        writer.put_str(1, TABLE);
        writer.end();
        let mut flags = None;
        let asked = self.channel.dump(writer.bytes(), sequence, |message| {
            let value = attribute(message.body.get(4..).unwrap_or_default(), 2);
            flags = value.and_then(|value| Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?)));
        });
        match asked {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(flags),
        }
    }

    /// Ends the lease of whatever stands there, and makes it ours where it is an orphan.
    fn take_over(&mut self) -> Result<Found, Refusal> {
        let found = match self.flags()? {
            None => return Ok(Found::Nothing),
            Some(OWNER_PERSIST) => Found::Orphan,
            Some(_) => Found::Other,
        };
        // A build from before there were two leases has one; a table without any was never finished.
        for leases in [&[LEASE, ALONE][..], &[LEASE], &[]] {
            self.begin();
            if found == Found::Orphan {
                self.batch.table(OWNER_PERSIST);
            }
            leases.iter().for_each(|lease| self.batch.empty_lease(lease));
            match self.commit() {
                Err(Refusal { errno: libc::ENOENT, step: Some(Step::Lease) }) => {}
                other => return other.map(|()| found),
            }
        }
        Ok(found)
    }

    /// Hands each message of a dump to `each`, from behind its header on; nothing where there is nothing.
    fn list(&mut self, kind: u16, set: Option<&str>, mut each: impl FnMut(&[u8])) -> Result<(), Refusal> {
        let sequence = self.channel.skip(1);
        let writer = &mut self.batch.writer;
        writer.clear();
        writer.begin(message_type(kind), NLM_F_REQUEST | NLM_F_DUMP, sequence, &header(FAMILY_NETDEV, 0));
        if let Some(set) = set {
            writer.put_str(1, TABLE);
            writer.put_str(2, set);
        }
        writer.end();
        let listed =
            self.channel.dump(writer.bytes(), sequence, |message| each(message.body.get(4..).unwrap_or_default()));
        match listed {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The gate of this network namespace.
#[derive(Debug)]
pub struct Gate {
    table: Table,
    keeping: Keeping,
    /// Two ticks of the kernel's timeouts.
    slack: Duration,
    interfaces: Vec<GuardedInterface>,
    guarded: BTreeSet<Vip>,
    held: BTreeSet<Vip>,
    loose: BTreeSet<Vip>,
    lease: Option<LeaseEnd>,
    alone: Option<LeaseEnd>,
}

impl Gate {
    /// Opens the gate of this network namespace, closed: whatever lease an earlier life left is over.
    ///
    /// What the earlier life guarded stays guarded, on the same interfaces, until `guard` and `interfaces` say otherwise:
    /// so leftover addresses are silent while they are cleaned away. Another living owner is waited for half a second (a
    /// keeper at its last work), then an error.
    pub fn open() -> Result<Self, HostError> {
        Self::open_as(Keeping::Owned)
    }

    /// The same with no more than this strength: with `Ordinary` as if the kernel were older than Linux 6.9.
    pub fn open_as(keeping: Keeping) -> Result<Self, HostError> {
        check_kernel()?;
        let table = Table::open()?;
        // The kernel refuses a send that is larger than the buffer: 65,536 VIPs in one transaction are 2 MiB.
        table.channel.set_buffers(8 << 20, 1 << 20);
        let mut gate = Self {
            table,
            keeping,
            slack: super::clock::tick() * 2,
            interfaces: Vec::new(),
            guarded: BTreeSet::new(),
            held: BTreeSet::new(),
            loose: BTreeSet::new(),
            lease: None,
            alone: None,
        };
        let mut attempts = 0;
        let found = loop {
            match gate.table.take_over() {
                Err(Refusal { errno: libc::EPERM, step: Some(_) }) if attempts < 50 => {
                    attempts += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => break other.map_err(|refusal| gate.explain("open", refusal))?,
            }
        };
        if found != Found::Nothing {
            gate.recall().map_err(|refusal| gate.explain("read", refusal))?;
        }
        let built = match gate.build(found) {
            // EOPNOTSUPP: the flag persist is younger than this kernel; EINVAL: so is owner.
            Err(Refusal { errno: libc::EOPNOTSUPP | libc::EINVAL, step: Some(Step::Table) }) => {
                gate.keeping = Keeping::Ordinary;
                gate.build(found)
            }
            other => other,
        };
        match built {
            // An interface of the earlier life that is gone (before Linux 6.16 a chain needs its device).
            Err(Refusal { errno: libc::ENOENT | libc::ENODEV, step: Some(Step::Chain(_)) }) => {
                gate.interfaces.clear();
                gate.build(found)
            }
            other => other,
        }
        .map_err(|refusal| gate.explain("open", refusal))?;
        Ok(gate)
    }

    /// How strongly the kernel keeps the table.
    pub const fn keeping(&self) -> Keeping {
        self.keeping
    }

    /// The VIPs that the gate covers, those of an earlier life among them.
    pub const fn guarded(&self) -> &BTreeSet<Vip> {
        &self.guarded
    }

    /// The VIPs that may be answered for while the lease lasts.
    pub const fn held(&self) -> &BTreeSet<Vip> {
        &self.held
    }

    /// Watches the table for changes by others; needed where it is an ordinary one.
    pub fn watch(&self) -> Result<GateWatch, HostError> {
        let channel = Channel::open(NETLINK_NETFILTER)
            .and_then(|mut channel| {
                channel.set_buffers(0, 1 << 20);
                channel.join(GROUP_NFTABLES)?;
                Ok(channel)
            })
            .map_err(|error| HostError::admin("watch", "the nftables table", errno(&error)))?;
        Ok(GateWatch { channel, ours: self.table.channel.port() })
    }

    /// Puts the gate on exactly these interfaces. One that does not exist is `InterfaceMissing` before Linux 6.16; later
    /// kernels take it at its word and the gate stands when it comes.
    pub fn interfaces(&mut self, wanted: &[GuardedInterface]) -> Result<(), HostError> {
        let old = std::mem::replace(&mut self.interfaces, wanted.to_vec());
        self.table.begin();
        let batch = &mut self.table.batch;
        for gone in old.iter().filter(|old| wanted.iter().all(|new| new.name != old.name)) {
            batch.delete_egress_rules(gone);
            batch.delete_egress_chain(gone);
        }
        for (index, new) in wanted.iter().enumerate() {
            match old.iter().find(|old| old.name == new.name) {
                None => batch.egress_chain(index, new),
                Some(same) if same == new => {}
                Some(_) => {
                    batch.delete_egress_rules(new);
                    batch.egress_rules(new);
                }
            }
        }
        self.commit().map_err(|refusal| {
            let error = self.explain("put on its interfaces", refusal);
            self.interfaces = old;
            error
        })
    }

    /// Changes which VIPs the gate covers. A VIP that is not covered passes freely.
    pub fn guard(&mut self, add: &[Vip], remove: &[Vip]) -> Result<(), HostError> {
        let changed = change(&mut self.guarded, add, remove);
        self.send_change([GUARDED4, GUARDED6], &changed).map_err(|refusal| {
            undo(&mut self.guarded, &changed);
            self.explain("change what is guarded by", refusal)
        })
    }

    /// Changes which VIPs are answered for while the lease lasts.
    pub fn hold(&mut self, add: &[Vip], remove: &[Vip]) -> Result<(), HostError> {
        let changed = change(&mut self.held, add, remove);
        self.send_change([HELD4, HELD6], &changed).map_err(|refusal| {
            undo(&mut self.held, &changed);
            self.explain("change what is held by", refusal)
        })
    }

    /// Changes which of the VIPs held are answered for while the other lease lasts, too.
    pub fn may_be_alone(&mut self, add: &[Vip], remove: &[Vip]) -> Result<(), HostError> {
        let changed = change(&mut self.loose, add, remove);
        self.send_change([LOOSE4, LOOSE6], &changed).map_err(|refusal| {
            undo(&mut self.loose, &changed);
            self.explain("change what may be served alone by", refusal)
        })
    }

    /// The VIPs that may be answered for alone.
    pub const fn loose(&self) -> &BTreeSet<Vip> {
        &self.loose
    }

    fn send_change(&mut self, sets: [&str; 2], (added, removed): &(Vec<Vip>, Vec<Vip>)) -> Result<(), Refusal> {
        self.table.begin();
        self.elements(DELSETELEM, sets, removed)?;
        self.elements(NEWSETELEM, sets, added)?;
        self.commit()
    }

    /// Puts elements into the transaction; one that outgrows a send is committed on the way and begun anew.
    fn elements(&mut self, message: u16, sets: [&str; 2], vips: &[Vip]) -> Result<(), Refusal> {
        let limit = self.table.channel.send_limit();
        for vips in vips.chunks(ELEMENTS) {
            if self.table.batch.writer.len() + 32 * ELEMENTS > limit {
                self.commit()?;
                self.table.begin();
            }
            self.table.batch.elements(message, sets, vips.iter());
        }
        Ok(())
    }

    /// Replaces the end of the lease, without a gap and without ever two; `None` ends it now.
    pub fn lease(&mut self, end: Option<LeaseEnd>) -> Result<(), HostError> {
        self.lease = end.filter(|end| !end.remaining.is_zero());
        self.table.begin();
        self.table.batch.empty_lease(LEASE);
        if let Some(end) = self.lease {
            self.table.batch.fill_lease(LEASE, end, end.remaining + self.slack);
        }
        self.commit().map_err(|refusal| {
            self.lease = None;
            self.explain("set the lease of", refusal)
        })
    }

    /// Replaces the end up to which what may be served alone, and nothing else, is answered for without the lease.
    pub fn alone(&mut self, end: Option<LeaseEnd>) -> Result<(), HostError> {
        self.alone = end.filter(|end| !end.remaining.is_zero());
        self.table.begin();
        self.table.batch.empty_lease(ALONE);
        if let Some(end) = self.alone {
            self.table.batch.fill_lease(ALONE, end, end.remaining + self.slack);
        }
        self.commit().map_err(|refusal| {
            self.alone = None;
            self.explain("set the lease of", refusal)
        })
    }

    /// Ends both leases now.
    pub fn close(&mut self) -> Result<(), HostError> {
        self.lease(None).and(self.alone(None))
    }

    /// Makes everything anew in one transaction: after somebody touched an ordinary table, or after an interface came back
    /// on a kernel before 6.16, which drops a chain with its device.
    pub fn rebuild(&mut self) -> Result<(), HostError> {
        self.build(Found::Nothing).map_err(|refusal| self.explain("rebuild", refusal))
    }

    /// Deletes the table: at a clean stop, when nothing is left to be silent about.
    pub fn remove(mut self) -> Result<(), HostError> {
        self.table.begin();
        self.table.batch.delete_table();
        match self.table.commit() {
            Err(refusal) if refusal.errno != libc::ENOENT => Err(self.explain("remove", refusal)),
            _ => Ok(()),
        }
    }

    /// Commits; where somebody else has deleted parts of an ordinary table, all of it is made again.
    fn commit(&mut self) -> Result<(), Refusal> {
        match self.table.commit() {
            Err(Refusal { errno: libc::ENOENT, .. }) if self.keeping == Keeping::Ordinary => self.build(Found::Nothing),
            other => other,
        }
    }

    fn build(&mut self, found: Found) -> Result<(), Refusal> {
        let flags = if self.keeping == Keeping::Owned { OWNER_PERSIST } else { 0 };
        self.table.begin();
        let batch = &mut self.table.batch;
        // Make sure that there is something to delete; other flags would be refused, but then there is.
        if found != Found::Other {
            batch.table(flags);
        }
        batch.delete_table();
        batch.table(flags);
        for (id, name) in [(1, GUARDED4), (2, HELD4), (6, LOOSE4)] {
            batch.set(id, name, 0, TYPE_IPV4, 4, ADDRESS_UDATA);
        }
        for (id, name) in [(3, GUARDED6), (4, HELD6), (7, LOOSE6)] {
            batch.set(id, name, 0, TYPE_IPV6, 16, ADDRESS_UDATA);
        }
        for (id, lease) in [(5, LEASE), (8, ALONE)] {
            batch.set(id, lease, INTERVAL_TIMEOUT, TYPE_TIME, 8, LEASE_UDATA);
        }
        batch.shared_chains();
        for (index, interface) in self.interfaces.iter().enumerate() {
            batch.egress_chain(index, interface);
        }
        let guarded: Vec<Vip> = self.guarded.iter().copied().collect();
        self.elements(NEWSETELEM, [GUARDED4, GUARDED6], &guarded)?;
        let held: Vec<Vip> = self.held.iter().copied().collect();
        self.elements(NEWSETELEM, [HELD4, HELD6], &held)?;
        let loose: Vec<Vip> = self.loose.iter().copied().collect();
        self.elements(NEWSETELEM, [LOOSE4, LOOSE6], &loose)?;
        for (lease, end) in [(LEASE, self.lease), (ALONE, self.alone)] {
            if let Some(end) = end {
                // What remains is less than it was; the absolute end decides.
                self.table.batch.fill_lease(lease, end, end.remaining + self.slack);
            }
        }
        self.table.commit()
    }

    /// Reads what an earlier life guarded, and where.
    fn recall(&mut self) -> Result<(), Refusal> {
        let guarded = &mut self.guarded;
        for set in [GUARDED4, GUARDED6] {
            self.table.list(GETSETELEM, Some(set), |body| {
                for (_, element) in attributes(attribute(body, 3).unwrap_or_default()) {
                    let key = attribute(element, 1).and_then(|key| attribute(key, 1)).unwrap_or_default();
                    guarded.extend(address(key).and_then(|address| Vip::new(address).ok()));
                }
            })?;
        }
        let interfaces = &mut self.interfaces;
        self.table.list(GETCHAIN, None, |body| {
            let name = |kind| attribute(body, kind).and_then(text);
            if name(1) == Some(TABLE)
                && let Some(interface) = name(3).and_then(|chain| chain.strip_prefix(EGRESS))
                && let Ok(name) = InterfaceName::new(interface)
            {
                interfaces.push(GuardedInterface { name, own6: None });
            }
        })
    }

    fn explain(&self, operation: &'static str, refusal: Refusal) -> HostError {
        let Refusal { errno, step } = refusal;
        let interface = match step {
            Some(Step::Chain(index)) => self.interfaces.get(index).map(|interface| interface.name.as_str()),
            _ => None,
        };
        let (code, object) = match (errno, step, interface) {
            (libc::ENOENT | libc::ENODEV, _, Some(interface)) => {
                (HostCode::InterfaceMissing, format!("the gate on {interface}"))
            }
            (_, _, Some(interface)) if matches!(errno, libc::EOPNOTSUPP | libc::EINVAL) => {
                (HostCode::NoNfTables, format!("the gate on {interface}"))
            }
            (libc::EPERM, Some(_), _) => (HostCode::GateOwned, format!("the gate (table {TABLE})")),
            (libc::EPERM, None, _) => (HostCode::NoNetAdmin, "the gate".to_owned()),
            (libc::EOPNOTSUPP, _, _) => (HostCode::NoNfTables, "the gate".to_owned()),
            (_, Some(step), _) => (HostCode::Refused, format!("the gate ({step:?})")),
            (_, None, _) => (HostCode::Refused, "the gate".to_owned()),
        };
        HostError::new(code, operation, object, Some(errno))
    }
}

/// Changes a set; what was really added and removed.
fn change(known: &mut BTreeSet<Vip>, add: &[Vip], remove: &[Vip]) -> (Vec<Vip>, Vec<Vip>) {
    let removed = remove.iter().filter(|vip| known.remove(vip)).copied().collect();
    let added = add.iter().filter(|vip| known.insert(**vip)).copied().collect();
    (added, removed)
}

fn undo(known: &mut BTreeSet<Vip>, (added, removed): &(Vec<Vip>, Vec<Vip>)) {
    for vip in added {
        known.remove(vip);
    }
    known.extend(removed);
}

/// Refuses kernels before 5.18, which have no egress hook that a lease could stand on.
fn check_kernel() -> Result<(), HostError> {
    let release = nix::sys::utsname::uname()
        .map_err(|error| HostError::new(HostCode::Refused, "ask for", "the kernel's release", Some(error as i32)))?;
    let release = release.release().to_string_lossy();
    match kernel_version(&release) {
        Some(version) if version < (5, 18) => {
            Err(HostError::new(HostCode::KernelTooOld, "hold a lease on", format!("Linux {release}"), None))
        }
        _ => Ok(()),
    }
}

/// Major and minor number of a kernel's release.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Tells when somebody else changed the gate's table.
#[derive(Debug)]
pub struct GateWatch {
    channel: Channel,
    ours: u32,
}

impl GateWatch {
    /// Reads what happened since; true where somebody else touched the table, or too much happened to tell.
    pub fn touched(&mut self) -> bool {
        let mut touched = false;
        loop {
            let datagram = match self.channel.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return touched,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    touched = true;
                    continue;
                }
                Err(_) => return true,
            };
            touched |= messages(datagram).any(|message| {
                message.kind >> 8 == SUBSYSTEM
                    && message.kind != message_type(NEWGEN)
                    && message.port != self.ours
                    && message.body.first() == Some(&FAMILY_NETDEV)
                    && message.body.get(4..).and_then(|body| attribute(body, 1)).and_then(text) == Some(TABLE)
            });
        }
    }
}

impl AsFd for GateWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.socket().as_fd()
    }
}

/// Closes the gate after its owner's death: the keeper's first deed. Everything it needs is there before.
#[derive(Debug)]
pub struct Closer(Table);

impl Closer {
    /// Opens the socket and sets the buffers aside.
    pub fn prepare() -> Result<Self, HostError> {
        Table::open().map(Self)
    }

    /// Takes the table over and ends its lease; false where there is no gate. The owner's socket may outlive its pipe by
    /// an instant: tries for `patience`, then EPERM.
    pub fn close(&mut self, patience: Duration) -> Result<bool, HostError> {
        const PAUSE: Duration = Duration::from_micros(200);
        let mut left = patience;
        loop {
            match self.0.take_over() {
                Err(Refusal { errno: libc::EPERM, .. }) if !left.is_zero() => {
                    std::thread::sleep(PAUSE);
                    left = left.saturating_sub(PAUSE);
                }
                Err(refusal) => return Err(HostError::admin("close", "the gate", refusal.errno)),
                Ok(found) => return Ok(found != Found::Nothing),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_release_has_a_major_and_a_minor_number() {
        assert_eq!(kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(kernel_version("5.10.0-30-amd64"), Some((5, 10)));
        assert_eq!(kernel_version("x"), None);
    }

    #[test]
    fn a_change_that_the_kernel_refused_leaves_no_trace() {
        let vip = |text: &str| text.parse::<Vip>().unwrap();
        let mut known = BTreeSet::from([vip("10.0.0.1"), vip("10.0.0.2")]);
        let before = known.clone();
        let changed = change(&mut known, &[vip("10.0.0.2"), vip("10.0.0.3")], &[vip("10.0.0.1"), vip("10.0.0.9")]);
        assert_eq!(changed, (vec![vip("10.0.0.3")], vec![vip("10.0.0.1")]));
        undo(&mut known, &changed);
        assert_eq!(known, before);
    }
}
