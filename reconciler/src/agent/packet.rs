//! Frames to and from one interface: ARP and neighbour discovery, over a packet socket.
//!
//! In: frames to send; what neighbours say. Out: bytes for `wire`, and how many frames went out. Not here: what a frame
//! means (`wire`), which ones to send (`announce`), whether they may leave (`nft`: the gate drops them on their way out).
//!
//! A filter in the kernel lets through ARP, solicitations and advertisements of this segment alone, so that the rest of
//! the host's traffic costs no wake-up.
#![expect(
    unsafe_code,
    reason = "no crate wraps bind to an interface, options of packet sockets, sendmmsg of borrowed frames"
)]

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::error::{HostError, errno};
use crate::name::InterfaceName;
use crate::wire::ethernet::MacAddr;

/// Longer than any frame that passes the filter with what matters in front.
const FRAME: usize = 2_048;
/// Frames a system call; the kernel takes 1,024 at most (UIO_MAXIOV).
const PIECE: usize = 512;
/// include/uapi/linux/if_packet.h
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

// Classic BPF: include/uapi/linux/bpf_common.h, filter.h.
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const EQUALS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
/// SKF_AD_OFF + SKF_AD_VLAN_TAG: the tag that the kernel has taken off the frame.
const VLAN_TAG: u32 = (-0x1000_i32 + 44).cast_unsigned();

/// ARP, and ICMPv6 of type 135 and 136 right behind the IPv6 header, of this segment alone. Each step: what to do, how
/// many steps to leap over when it is so and when it is not, and with which value.
const FILTER: [(u32, u8, u8, u32); 12] = [
    (LOAD_WORD, 0, 0, VLAN_TAG),
    (ANY_BIT, 9, 0, 0x0fff), // another VLAN, another segment; id 0 is a mere priority tag
    (LOAD_HALF, 0, 0, 12),
    (EQUALS, 6, 0, 0x0806),
    (EQUALS, 0, 6, 0x86dd),
    (LOAD_BYTE, 0, 0, 20),
    (EQUALS, 0, 4, 58),
    (LOAD_BYTE, 0, 0, 54),
    (EQUALS, 1, 0, 135),
    (EQUALS, 0, 1, 136),
    (RETURN, 0, 0, FRAME as u32),
    (RETURN, 0, 0, 0),
];

/// How a batch of frames fared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// On their way.
    pub sent: usize,
    /// Dropped on their way out: by the gate, or by a full queue.
    pub dropped: usize,
    /// Not tried: the socket's buffer is full; these are the last ones of the batch.
    pub left: usize,
}

/// A packet socket on one interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    name: InterfaceName,
    index: u32,
    input: Box<[u8; FRAME]>,
}

impl PacketSocket {
    /// Opens a socket on the interface of this name and index. Non-blocking; poll its descriptor.
    pub fn open(name: &InterfaceName, index: u32) -> Result<Self, HostError> {
        let explain = |error: io::Error| HostError::raw("open a packet socket on", name.to_string(), errno(&error));
        // Protocol 0: nothing comes in before the filter is there and the socket is bound.
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::PACKET, kind, Some(Protocol::from(0))).map_err(explain)?;
        let filter = FILTER.map(|(code, so, not, value)| SockFilter::new(code as u16, so, not, value));
        socket.attach_filter(&filter).map_err(explain)?;
        set_option(&socket, PACKET_IGNORE_OUTGOING, &1_i32).map_err(explain)?;
        let _ = socket.set_recv_buffer_size(1 << 20);
        let _ = socket.set_send_buffer_size(4 << 20);
        bind(&socket, index).map_err(explain)?;
        Ok(Self { socket, name: name.clone(), index, input: Box::new([0; FRAME]) })
    }

    /// The next frame that came in, Ethernet header first; `None` where none waits.
    pub fn receive(&mut self) -> Result<Option<&[u8]>, HostError> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.input[..], MsgFlags::MSG_DONTWAIT) {
                Ok(length) => return Ok(Some(&self.input[..length])),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(HostError::raw("receive on", self.name.to_string(), error as i32)),
            }
        }
    }

    /// Sends frames in their order. One that the gate drops costs the others nothing.
    pub fn send<F: AsRef<[u8]>>(&self, frames: &[F]) -> Result<Sent, HostError> {
        let mut outcome = Sent::default();
        let mut next = 0;
        while next < frames.len() {
            let piece = &frames[next..frames.len().min(next + PIECE)];
            match send_piece(&self.socket, piece) {
                Ok(sent) => {
                    outcome.sent += sent;
                    next += sent;
                }
                // The first frame of the piece; the call stops at it, and says so when it comes first.
                Err(Errno::ENOBUFS) => {
                    outcome.dropped += 1;
                    next += 1;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    outcome.left = frames.len() - next;
                    break;
                }
                Err(error) => return Err(HostError::raw("send on", self.name.to_string(), error as i32)),
            }
        }
        Ok(outcome)
    }

    /// Lets frames to a multicast address in: a NIC filters them out else. Joining counts; it ends with the socket.
    pub fn join(&self, group: MacAddr) -> Result<(), HostError> {
        self.membership(libc::PACKET_ADD_MEMBERSHIP, group, "join a multicast group on")
    }

    /// Undoes one `join`.
    pub fn leave(&self, group: MacAddr) -> Result<(), HostError> {
        self.membership(libc::PACKET_DROP_MEMBERSHIP, group, "leave a multicast group on")
    }

    fn membership(&self, option: libc::c_int, group: MacAddr, operation: &'static str) -> Result<(), HostError> {
        let explain = |error: io::Error| HostError::raw(operation, self.name.to_string(), errno(&error));
        let mut address = [0; 8];
        address[..6].copy_from_slice(&group.0);
        let request = libc::packet_mreq {
            mr_ifindex: self.index.cast_signed(),
            mr_type: libc::PACKET_MR_MULTICAST as libc::c_ushort,
            mr_alen: 6,
            mr_address: address,
        };
        set_option(&self.socket, option, &request).map_err(explain)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Binds to an interface and lets every protocol in (that the filter does).
fn bind(socket: &Socket, index: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain numbers, for which all zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the pointer is to a sockaddr_ll that lives through the call, and the length is its own.
    let answer = unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), mem::size_of_val(&address) as libc::socklen_t)
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option of level SOL_PACKET.
fn set_option<T: Copy>(socket: &Socket, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the pointer is to a value that lives through the call, and the length is its own.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            ptr::from_ref(value).cast(),
            mem::size_of::<T>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One sendmmsg: how many frames went before the first that did not, or why the first did not.
fn send_piece<F: AsRef<[u8]>>(socket: &Socket, frames: &[F]) -> Result<usize, Errno> {
    let mut parts: Vec<libc::iovec> = frames
        .iter()
        .map(|frame| {
            let bytes = frame.as_ref();
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
        })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: mmsghdr is numbers and pointers, for which all zero (no address, no control data) is a value.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    // SAFETY: each message points to one iovec in `parts` and that to a frame in `frames`; both live through the call,
    // the kernel only reads the frames, and the count is the vector's own.
    let sent = unsafe {
        libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as libc::c_uint, libc::MSG_DONTWAIT)
    };
    Errno::result(sent).map(|sent| sent as usize)
}
