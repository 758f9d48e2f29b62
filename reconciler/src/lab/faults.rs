//! Faults on the wire: what a switch may do to frames, as nftables rules on its ports.
//!
//! In: which frames between whom are lost. Out: one table of family netdev in the bridge's namespace, replaced as a
//! whole, so that the namespaces of the nodes (whose own gate is there) are never touched.
//! Not here: a pulled cable and a host's death (`segment`).

use std::collections::BTreeSet;
use std::io;

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, DevHookNumber, ExpressionAttribute, Expressions, Hook,
    HookNumber, Immediate, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute,
    RuleMessage, TableAttribute, TableMessage, Verdict, VerdictAttribute,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::link::Mac;

/// The table's name.
const TABLE: &str = "faults";

/// Seen from the host on the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Frames to the host.
    In,
    /// Frames from the host.
    Out,
}

/// Which frames a fault is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frames {
    /// All of them.
    All,
    /// UDP over IPv4 to this port.
    Udp(u16),
    /// Those that this host sent.
    From(Mac),
}

/// Frames that get lost at a port of the bridge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The port's interface.
    pub port: String,
    /// Seen from the host.
    pub direction: Direction,
    /// Which frames.
    pub frames: Frames,
    /// How many of a hundred, drawn at random; 100 is all of them.
    pub percent: u8,
}

/// Replaces all faults by `faults`, in the network namespace of the calling thread.
pub fn set(faults: &[Fault]) -> io::Result<()> {
    let mut batch = Batch::default();
    // A table must exist to be deleted, and creating one that exists is no error.
    let table = || TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] };
    batch.add(NfTablesMessage::NewTable(table()));
    batch.add(NfTablesMessage::DeleteTable(table()));
    batch.add(NfTablesMessage::NewTable(table()));
    let chains: BTreeSet<(&str, Direction)> =
        faults.iter().map(|fault| (fault.port.as_str(), fault.direction)).collect();
    for (port, direction) in chains {
        batch.add(NfTablesMessage::NewChain(base_chain(port, direction)));
    }
    for fault in faults {
        batch.add(NfTablesMessage::NewRule(RuleMessage {
            attributes: vec![
                RuleAttribute::Table(TABLE.to_owned()),
                RuleAttribute::Chain(chain_name(&fault.port, fault.direction)),
                RuleAttribute::Expressions(rule(fault)),
            ],
        }));
    }
    batch.commit()
}

fn chain_name(port: &str, direction: Direction) -> String {
    format!("{port}-{}", if direction == Direction::In { "in" } else { "out" })
}

fn base_chain(port: &str, direction: Direction) -> ChainMessage {
    // What goes to the host leaves the bridge by the port.
    let hook = if direction == Direction::In { DevHookNumber::Egress } else { DevHookNumber::Ingress };
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(chain_name(port, direction)),
            ChainAttribute::Hook(vec![
                Hook::Number(HookNumber::Dev(hook)),
                Hook::Priority(0),
                Hook::NetDeviceName(port.to_owned()),
            ]),
            ChainAttribute::Type("filter".to_owned()),
        ],
    }
}

/// Bases of `payload` (enum nft_payload_bases, linux/netfilter/nf_tables.h).
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

fn rule(fault: &Fault) -> Vec<ListAttribute<ExpressionAttribute>> {
    let mut expressions: Vec<Expressions> = Vec::new();
    match fault.frames {
        Frames::All => {}
        Frames::Udp(port) => {
            expressions.push(Expressions::Meta(vec![
                Meta::Key(MetaKey::EtherTypeProtocol),
                Meta::DestinationRegister(Register::Reg1),
            ]));
            expressions.push(compare(Operator::Equal, &[0x08, 0x00]));
            expressions.push(payload(NETWORK_HEADER, 9, 1));
            expressions.push(compare(Operator::Equal, &[17]));
            expressions.push(payload(TRANSPORT_HEADER, 2, 2));
            expressions.push(compare(Operator::Equal, &port.to_be_bytes()));
        }
        Frames::From(mac) => {
            expressions.push(payload(LINK_HEADER, 6, 6));
            expressions.push(compare(Operator::Equal, &mac));
        }
    }
    if fault.percent < 100 {
        // numgen random mod 100, then to network order, in which `cmp` compares.
        expressions.push(other("numgen", &[(1, 1), (2, 100), (3, 1)]));
        expressions.push(other("byteorder", &[(1, 1), (2, 1), (3, 1), (4, 4), (5, 4)]));
        expressions.push(compare(Operator::LessThan, &u32::from(fault.percent).to_be_bytes()));
    }
    expressions.push(Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        // NF_DROP.
        Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(0))])),
    ]));
    expressions.into_iter().map(Into::into).collect()
}

fn payload(base: u32, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn compare(operator: Operator, with: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(with.to_vec())),
    ])
}

fn other(name: &str, attributes: &[(u16, u32)]) -> Expressions {
    Expressions::Other {
        expression_type: name.to_owned(),
        attributes: attributes
            .iter()
            .map(|(kind, value)| DefaultNla::new(*kind, value.to_be_bytes().to_vec()))
            .collect(),
    }
}

/// One nftables transaction.
#[derive(Default)]
struct Batch {
    messages: Vec<NfTablesMessage>,
}

impl Batch {
    fn add(&mut self, message: NfTablesMessage) {
        self.messages.push(message);
    }

    fn commit(self) -> io::Result<()> {
        /// nfgenmsg.res_id of a batch names the subsystem (linux/netfilter/nfnetlink.h).
        const NFTABLES: u16 = 10;
        let netdev = || NetfilterHeader::new(NetfilterProtoFamily::NetDev, 0, 0);
        let control = || NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFTABLES);
        let last = u32::try_from(self.messages.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        let mut write = |inner: NetfilterMessage, flags: u16, sequence: u32| {
            let mut message = NetlinkMessage::from(inner);
            message.header.flags = NLM_F_REQUEST | flags;
            message.header.sequence_number = sequence;
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len(), 0);
            message.serialize(&mut bytes[start..]);
        };
        write(NetfilterMessage::new(control(), ControlMessage::BatchBegin), 0, 0);
        for (sequence, message) in (1..).zip(self.messages) {
            let append = matches!(message, NfTablesMessage::NewRule(_));
            let deletes = matches!(message, NfTablesMessage::DeleteTable(_));
            let flags = if deletes { 0 } else { NLM_F_CREATE } | if append { NLM_F_APPEND } else { 0 } | NLM_F_ACK;
            write(NetfilterMessage::new(netdev(), message), flags, sequence);
        }
        write(NetfilterMessage::new(control(), ControlMessage::BatchEnd), 0, last + 1);

        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&bytes, 0)?;
        // Acks of one send may share a datagram; a refused transaction is answered by its first error.
        let mut acknowledged = 0;
        while acknowledged < last {
            let (answers, _) = socket.recv_from_full()?;
            let mut rest = answers.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(io::Error::other)?;
                if let NetlinkPayload::Error(error) = &answer.payload {
                    if error.code.is_some() {
                        return Err(error.to_io());
                    }
                    acknowledged += 1;
                }
                let length = usize::try_from(answer.header.length).map_err(io::Error::other)?.next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
            }
        }
        Ok(())
    }
}
