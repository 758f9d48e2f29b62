//! Netlink's own grammar: messages of a header and attributes, each a length, a type and a value.
//!
//! In: the parts of a message, or a datagram from the kernel. Out: bytes in a buffer that is used again, or the parts.
//! Not here: what a message means (`nft`, `netlink`).
//!
//! One small writer for both families, nfnetlink and rtnetlink: a renewal of the lease and everything that the keeper
//! does must not allocate, and the reader must not stumble over an attribute that a newer kernel adds.
//! Format: `man 7 netlink`; include/uapi/linux/netlink.h.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_sys::{Socket, SocketAddr};

const HEADER: usize = 16;
const ALIGN: usize = 4;
/// NLA_F_NESTED.
const NESTED: u16 = 0x8000;
/// The type without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
const TYPE_MASK: u16 = 0x3fff;

pub(crate) const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
pub(crate) const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
pub(crate) const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
pub(crate) const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
pub(crate) const NLM_F_EXCL: u16 = libc::NLM_F_EXCL as u16;
pub(crate) const NLM_F_APPEND: u16 = libc::NLM_F_APPEND as u16;
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;

/// Messages being written, one after the other.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    message: usize,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

/// A nested attribute that is still open.
#[must_use]
pub(crate) struct Nest(usize);

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), message: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Begins a message; `fixed` is the family's header behind netlink's own.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, sequence: u32, fixed: &[u8]) {
        self.message = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(fixed);
        self.pad();
    }

    /// Ends the message begun last.
    pub(crate) fn end(&mut self) {
        let length = u32::try_from(self.bytes.len() - self.message).unwrap_or(u32::MAX);
        self.bytes[self.message..self.message + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Sets flags of the message begun last.
    pub(crate) fn add_flags(&mut self, flags: u16) {
        let at = self.message + 6;
        let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    fn pad(&mut self) {
        let padded = self.bytes.len().next_multiple_of(ALIGN);
        self.bytes.resize(padded, 0);
    }

    /// An attribute; its value is at most 65,531 bytes long.
    pub(crate) fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
    }

    /// A string with its final zero byte.
    pub(crate) fn put_str(&mut self, kind: u16, value: &str) {
        let length = u16::try_from(value.len() + 5).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    /// A number in network byte order, as nfnetlink has them.
    pub(crate) fn put_be32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_be_bytes());
    }

    /// A number in the host's byte order, as rtnetlink has them.
    pub(crate) fn put_ne32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(crate) fn nest(&mut self, kind: u16) -> Nest {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        Nest(at)
    }

    pub(crate) fn end_nest(&mut self, nest: Nest) {
        let length = u16::try_from(self.bytes.len() - nest.0).unwrap_or(u16::MAX);
        self.bytes[nest.0..nest.0 + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

/// A message as the kernel sent it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) sequence: u32,
    pub(crate) port: u32,
    /// Everything behind netlink's header.
    pub(crate) body: &'a [u8],
}

/// What a message is, apart from its family's own kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    /// The answer to the message with this sequence number: 0 or an errno.
    Answer(i32),
    /// The end of a dump: 0 or an errno.
    Done(i32),
    /// A message of the family.
    Payload,
}

impl Message<'_> {
    pub(crate) fn control(&self) -> Control {
        let errno = || ne32(self.body).map_or(0, |code| code.cast_signed().unsigned_abs().cast_signed());
        match self.kind {
            NLMSG_ERROR => Control::Answer(errno()),
            NLMSG_DONE => Control::Done(errno()),
            _ => Control::Payload,
        }
    }
}

/// The first four bytes as a number of the host's byte order.
pub(crate) fn ne32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// The messages of a datagram, up to the first that is cut short.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = ne32(bytes)? as usize;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let (message, _) = bytes.split_at(length);
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(Message {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            sequence: ne32(&message[8..])?,
            port: ne32(&message[12..])?,
            body: &message[HEADER..],
        })
    })
}

/// The attributes in a value, up to the first that is cut short, each with its bare type.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        if length < 4 || length > bytes.len() {
            return None;
        }
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & TYPE_MASK;
        let value = &bytes[4..length];
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A string attribute without its final zero byte.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).ok()
}

/// An IPv4 or IPv6 address, by its length.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

/// A socket to the kernel, and the port number by which the kernel knows it.
pub(crate) struct Channel {
    socket: Socket,
    port: u32,
    sequence: u32,
    input: Vec<u8>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "netlink port {}", self.port)
    }
}

/// The most that the kernel puts into one datagram of a dump.
const INPUT: usize = 64 * 1024;

impl Channel {
    /// Opens a socket of a protocol. It is closed on exec, so no child keeps what it owns alive.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        let port = socket.bind_auto()?.port_number();
        // An error would otherwise carry the whole question back, up to 64 KiB of it.
        socket.set_cap_ack(true)?;
        Ok(Self { socket, port, sequence: 1, input: vec![0; INPUT] })
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// The next sequence number, with `count` of them set aside.
    pub(crate) fn skip(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        // Starts again far below the end, so that no run of numbers wraps.
        self.sequence = if first > u32::MAX / 2 { 1 } else { first + count };
        first
    }

    /// Joins a multicast group.
    pub(crate) fn join(&mut self, group: u32) -> io::Result<()> {
        self.socket.add_membership(group)
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// One datagram, or nothing where none waits. The kernel works while we send, so an answer is there already.
    pub(crate) fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let received = self.socket.recv(&mut &mut self.input[..], libc::MSG_DONTWAIT);
            match received {
                Ok(length) => return Ok(Some(&self.input[..length.min(INPUT)])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Throws away what still waits.
    pub(crate) fn drain(&mut self) {
        // An error (ENOBUFS) is reported once and cleared by reading it.
        while !matches!(self.receive(), Ok(None)) {}
    }

    /// Room for what is sent at once and for what comes back; as much as the kernel grants.
    pub(crate) fn set_buffers(&self, send: usize, receive: usize) {
        use nix::sys::socket::{setsockopt, sockopt};
        if setsockopt(&self.socket, sockopt::SndBufForce, &send).is_err() {
            let _ = setsockopt(&self.socket, sockopt::SndBuf, &send);
        }
        if setsockopt(&self.socket, sockopt::RcvBufForce, &receive).is_err() {
            let _ = setsockopt(&self.socket, sockopt::RcvBuf, &receive);
        }
    }

    /// How many bytes one send may carry (`netlink_sendmsg` refuses more than the buffer less 32).
    pub(crate) fn send_limit(&self) -> usize {
        nix::sys::socket::getsockopt(&self.socket, nix::sys::socket::sockopt::SndBuf)
            .map_or(64 * 1024, |size| size.saturating_sub(64))
    }

    /// Sends a question for a dump and hands each message of the answer to `each`.
    pub(crate) fn dump(&mut self, question: &[u8], sequence: u32, mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        self.send(question)?;
        loop {
            let Some(datagram) = self.receive()? else {
                return Err(io::Error::from_raw_os_error(libc::EPROTO));
            };
            for message in messages(datagram).filter(|message| message.sequence == sequence) {
                match message.control() {
                    Control::Payload => each(message),
                    Control::Done(0) | Control::Answer(0) => return Ok(()),
                    Control::Done(errno) | Control::Answer(errno) => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::default();
        writer.begin(7, NLM_F_REQUEST, 9, &[5, 0, 0, 0]);
        writer.put_str(1, "abc");
        let nest = writer.nest(2);
        writer.put_be32(3, 0x0102_0304);
        writer.end_nest(nest);
        writer.end();
        writer.begin(8, 0, 10, &[]);
        writer.end();
        let read: Vec<Message<'_>> = messages(writer.bytes()).collect();
        assert_eq!((read.len(), read[0].kind, read[0].sequence, read[1].kind), (2, 7, 9, 8));
        let inside = &read[0].body[4..];
        assert_eq!(attribute(inside, 1).and_then(text), Some("abc"));
        assert_eq!(attribute(attribute(inside, 2).unwrap(), 3), Some(&[1, 2, 3, 4][..]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_stumble(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                let _ = message.control();
                for (_, value) in attributes(message.body) {
                    let _ = text(value);
                    let _ = attributes(value).count();
                }
            }
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
