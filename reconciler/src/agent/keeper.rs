//! The keeper: a tiny child that cleans up after its parent's death, whatever killed it.
//!
//! In: by a socket pair, the goodbye to send should the daemon die; the end of that socket, which is the death itself.
//! Out, in this order: the gate closed, the goodbye sent, our addresses and routes gone. Not here: the lease, which the
//! kernel ends by itself when the keeper dies too; keys (the goodbye comes sealed).
//!
//! ```text
//!   daemon ── socket pair (state, dismissal; its end) ──▶ keeper
//!      └───── pidfd (should somebody hold the pair) ─────▶
//! ```
//! The daemon starts its own binary again, so there is nothing to install and the code is in memory. The keeper runs in
//! a process group of its own and ignores what a terminal or a service manager sends to all, since it must outlive the
//! daemon by an instant. It opens its sockets and sets its buffers aside before it is needed, and locks its pages where
//! it may.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt};
use nix::unistd::getppid;
use serde::{Deserialize, Serialize};

use super::error::{HostCode, HostError, errno};
use super::netlink::{Edit, Netlink};
use super::nft::Closer;

/// The first argument that makes the binary a keeper. Not for people: `--help` does not show it.
pub const ARGUMENT: &str = "__keeper";

/// The most that a message to the keeper holds: goodbyes for a few hundred peers.
const MESSAGE: usize = 192 * 1024;
/// How long the table may still belong to the dead parent: its sockets close in the same breath.
const PATIENCE: Duration = Duration::from_millis(200);

/// One datagram to send when the daemon dies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// To whom.
    pub to: SocketAddr,
    /// Sealed for the present epoch, with the highest counter.
    pub datagram: Vec<u8>,
}

/// What the keeper is to say for the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperState {
    /// The address that the goodbyes are sent from; the port is any.
    pub from: IpAddr,
    /// The goodbyes.
    pub goodbyes: Vec<Goodbye>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// From now on this is what to say.
    Say(KeeperState),
    /// Leave, and touch nothing.
    Leave,
}

/// The daemon's end. Dropping it is dying, as far as the keeper can tell.
#[derive(Debug)]
pub struct Keeper {
    child: Child,
    socket: OwnedFd,
}

fn keeper_error(operation: &'static str, errno: i32) -> HostError {
    HostError::new(HostCode::Keeper, operation, "the keeper", Some(errno))
}

impl Keeper {
    /// Starts the keeper: this very binary, even if its file was replaced by now.
    pub fn spawn() -> Result<Self, HostError> {
        Self::spawn_from(Path::new("/proc/self/exe"))
    }

    /// Starts another copy of the binary as the keeper.
    pub fn spawn_from(program: &Path) -> Result<Self, HostError> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .map_err(|error| keeper_error("make a socket for", error as i32))?;
        let _ = setsockopt(&ours, sockopt::SndBuf, &(2 * MESSAGE));
        let child = Command::new(program)
            .arg0("rendezvip-keeper")
            .arg(ARGUMENT)
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| keeper_error("start", errno(&error)))?;
        Ok(Self { child, socket: ours })
    }

    /// Hands over what to say from now on. Does not wait; an error means that the keeper is gone or stuck.
    pub fn update(&self, state: &KeeperState) -> Result<(), HostError> {
        self.order(&Order::Say(state.clone()))
    }

    fn order(&self, order: &Order) -> Result<(), HostError> {
        let refused = |error: Errno| keeper_error("tell", error as i32);
        let bytes = postcard::to_allocvec(order).map_err(|_| refused(Errno::EMSGSIZE))?;
        if bytes.len() > MESSAGE {
            return Err(refused(Errno::EMSGSIZE));
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.socket.as_raw_fd(), &bytes, flags).map(drop).map_err(refused)
    }

    /// Has the keeper died? Its descriptor becomes readable then; start another.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// An orderly stop: the keeper leaves and touches nothing. Call it when nothing is left to clean up.
    pub fn dismiss(mut self) -> Result<(), HostError> {
        let told = self.order(&Order::Leave);
        if told.is_err() {
            // It would take its socket's end for our death.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        told
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Is the process asked to be a keeper? `arguments` with the program's name first.
pub fn is_wanted(mut arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.nth(1).is_some_and(|argument| argument == ARGUMENT)
}

/// The life of a keeper. Its standard input is the socket to the daemon.
pub fn main() {
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGPIPE] {
        ignore(ignored);
    }
    let _ = nix::sys::prctl::set_name(c"rendezvip-keep");
    // Where we may: the last to be killed, and never swapped out.
    let _ = fs::write("/proc/self/oom_score_adj", "-900");
    let _ = mlockall(
        MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT),
    );
    let stdin = io::stdin();
    let parent = parent();
    let Some(mut undertaker) = Undertaker::prepare() else { return };
    let mut message = vec![0; MESSAGE];
    loop {
        match await_order(stdin.as_fd(), parent.as_ref(), &mut message) {
            Some(Order::Say(state)) => undertaker.state = Some(Said::prepare(state)),
            Some(Order::Leave) => return,
            None => return undertaker.work(),
        }
    }
}

/// Waits for an order; `None` is the daemon's death.
fn await_order(socket: BorrowedFd<'_>, parent: Option<&OwnedFd>, message: &mut [u8]) -> Option<Order> {
    loop {
        let mut watched = vec![PollFd::new(socket, PollFlags::POLLIN)];
        watched.extend(parent.map(|parent| PollFd::new(parent.as_fd(), PollFlags::POLLIN)));
        match poll(&mut watched, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
            Ok(_) => {}
        }
        // What the daemon said before it died comes first.
        match recv(socket.as_raw_fd(), message, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return None,
            Ok(length) => {
                if let Ok(order) = postcard::from_bytes(&message[..length]) {
                    return Some(order);
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let died = watched.get(1).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
                if died {
                    return None;
                }
            }
            Err(_) => return None,
        }
    }
}

/// What to say, with the socket to say it by.
#[derive(Debug)]
struct Said {
    socket: Option<UdpSocket>,
    goodbyes: Vec<Goodbye>,
}

impl Said {
    fn prepare(state: KeeperState) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(state.from, 0)).ok();
        if let Some(socket) = &socket {
            let _ = socket.set_nonblocking(true);
        }
        Self { socket, goodbyes: state.goodbyes }
    }
}

/// Everything that is needed at the daemon's death.
struct Undertaker {
    closer: Closer,
    netlink: Netlink,
    edits: Vec<Edit>,
    state: Option<Said>,
}

impl Undertaker {
    fn prepare() -> Option<Self> {
        let opened = Closer::prepare().and_then(|closer| Ok((closer, Netlink::open()?)));
        let (closer, mut netlink) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                say(&error.to_string());
                return None;
            }
        };
        // A rehearsal, so that code and buffers are in memory when it counts.
        let mut edits = Vec::with_capacity(4_096);
        let _ = netlink.leftovers(&mut edits);
        Some(Self { closer, netlink, edits, state: None })
    }

    /// A goodbye says *I hold nothing*, so it never goes out before that is true.
    fn work(mut self) {
        match self.closer.close(PATIENCE) {
            Ok(true) => {
                self.say_goodbye();
                self.clean();
            }
            // The next daemon was faster, and what stands there is its own to clean; or the dead one still dies, and its
            // lease is what ends it.
            Err(error) if error.errno == Some(libc::EPERM) => {}
            // No gate: then it is the addresses that answer.
            not_closed => {
                if let Err(error) = not_closed {
                    say(&error.to_string());
                }
                if self.clean() {
                    self.say_goodbye();
                }
            }
        }
    }

    /// Takes our addresses and routes away; true where none is left.
    fn clean(&mut self) -> bool {
        let mut refused = Vec::new();
        match self.netlink.leftovers(&mut self.edits) {
            Ok(()) => refused.extend(self.netlink.apply(&self.edits).into_iter().map(|(_, error)| error)),
            Err(error) => refused.push(error),
        }
        refused.iter().for_each(|error| say(&error.to_string()));
        refused.is_empty()
    }

    fn say_goodbye(&self) {
        let Some(Said { socket: Some(socket), goodbyes }) = &self.state else { return };
        for goodbye in goodbyes {
            // Heard or not, the lease has ended: nobody waits for this.
            let _ = socket.send_to(&goodbye.datagram, goodbye.to);
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "rendezvip-keeper: {text}");
}

#[expect(unsafe_code, reason = "signal() is unsafe for the sake of handlers")]
fn ignore(ignored: Signal) {
    // SAFETY: ignoring a signal installs no handler, so nothing runs in its context.
    let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
}

/// A descriptor that becomes readable at the parent's death.
#[expect(unsafe_code, reason = "no crate wraps pidfd_open")]
fn parent() -> Option<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and no pointer.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, getppid().as_raw(), 0) };
    let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_argument_makes_a_keeper() {
        let wanted = |line: &str| is_wanted(line.split(' ').map(OsString::from));
        assert!(wanted("rendezvip __keeper"));
        assert!(!wanted("rendezvip run __keeper"));
        assert!(!wanted("rendezvip"));
    }
}
