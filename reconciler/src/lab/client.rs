//! A client: does the service at each VIP go on, as seen by somebody who uses it?
//!
//! In: VIPs to probe. Out: per VIP the longest silence, when it began, and how many probes got no answer. Each probe
//! is an ICMP echo every few milliseconds through the kernel's own neighbour table: what ARP and NDP do to real
//! clients they do to this one.
//! Not here: who answers for a VIP on the wire (`bystander`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::sockopt::{RcvBuf, ReceiveTimestampns};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrLike, SockaddrStorage, recvmsg, sendto, setsockopt, socket,
};
use nix::sys::time::TimeSpec;

use super::namespace::Place;
use super::{LabError, Step, now, stamp};
use crate::time::Instant;

/// How often each VIP is asked.
pub const INTERVAL: Duration = Duration::from_millis(5);

/// An unanswered probe counts as lost once it is this old.
const LOST_AFTER: Duration = Duration::from_millis(200);

/// The first four bytes of a probe's payload: whose it is.
const MARK: [u8; 4] = *b"rvip";

/// What the client saw of one VIP since the last [`Client::mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Service {
    /// Probes sent.
    pub sent: u64,
    /// Probes that nobody answered.
    pub lost: u64,
    /// The longest time between two answers with a probe unanswered (or late) between them; zero where there was none.
    /// One that still lasts counts up to now.
    pub longest: Duration,
    /// When that began: the last answer before it.
    pub began: Option<Instant>,
    /// Does it last?
    pub ongoing: bool,
}

/// Probes of one VIP.
#[derive(Debug, Default)]
struct Probes {
    next: u64,
    /// Number and time of those without an answer yet, oldest first.
    pending: VecDeque<(u64, Instant)>,
    last_answer: Option<Instant>,
    service: Service,
    /// Numbers below this were sent before the mark.
    marked: u64,
}

impl Probes {
    fn sent(&mut self, at: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.pending.push_back((number, at));
        self.service.sent += 1;
        number
    }

    fn answered(&mut self, number: u64, at: Instant) {
        let Some(position) = self.pending.iter().position(|(pending, _)| *pending == number) else {
            return;
        };
        // Answers keep their order on a segment, so whatever is older got none.
        let sent = self.pending[position].1;
        let oldest = self.pending[0];
        let skipped = self.pending.drain(..=position).filter(|(number, _)| *number >= self.marked).count() - 1;
        self.service.lost += u64::try_from(skipped).unwrap_or(u64::MAX);
        let late = at.since(sent) > INTERVAL * 4;
        if (position > 0 || late) && number >= self.marked {
            // From the last answer, or from the first question where there never was one.
            let began = self.last_answer.map_or(oldest.1, |answer| answer.min(oldest.1));
            if at.since(began) > self.service.longest {
                self.service.longest = at.since(began);
                self.service.began = Some(began);
            }
        }
        self.last_answer = Some(at);
    }

    fn report(&self, now: Instant) -> Service {
        let mut service = self.service;
        let overdue = self.pending.iter().filter(|(number, at)| *number >= self.marked && now.since(*at) > LOST_AFTER);
        service.lost += u64::try_from(overdue.count()).unwrap_or(u64::MAX);
        if let Some((_, oldest)) = self.pending.front().filter(|(_, at)| now.since(*at) > INTERVAL * 4) {
            let began = self.last_answer.map_or(*oldest, |answer| answer.min(*oldest));
            service.ongoing = true;
            if now.since(began) > service.longest {
                service.longest = now.since(began);
                service.began = Some(began);
            }
        }
        service
    }

    fn mark(&mut self) {
        self.service = Service::default();
        self.marked = self.next;
        // A silence that lasts already goes on being counted; what was lost before does not.
        let oldest = self.pending.front().copied();
        self.pending.retain(|probe| Some(*probe) == oldest);
    }
}

#[derive(Debug, Default)]
struct Shared {
    vips: Mutex<BTreeMap<IpAddr, Probes>>,
    changed: Condvar,
    /// Microseconds between two probes of a VIP, where it is not [`INTERVAL`].
    pace: AtomicU64,
    paused: AtomicBool,
    ended: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Probes>> {
        self.vips.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that probes until it is dropped.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts one inside `place`, probing nobody yet.
    pub fn start(place: &Place) -> Result<Self, LabError> {
        let sockets = place.run(Sockets::open).step(|| "open the client's sockets".to_owned())?;
        let shared = Arc::new(Shared::default());
        let probing = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("client".to_owned())
            .spawn(move || probe(&probing, &sockets))
            .step(|| "start the client".to_owned())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Probes these VIPs, and no others, from now on.
    pub fn watch(&self, vips: &BTreeSet<IpAddr>) {
        let mut probes = self.shared.lock();
        probes.retain(|vip, _| vips.contains(vip));
        for vip in vips {
            probes.entry(*vip).or_default();
        }
    }

    /// Probes each VIP this often from now on, instead of each [`INTERVAL`]: for more VIPs than a machine can probe.
    pub fn pace(&self, pace: Duration) {
        self.shared.pace.store(u64::try_from(pace.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Stops probing, or goes on.
    pub fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::Relaxed);
    }

    /// Begins to count anew.
    pub fn mark(&self) {
        self.shared.lock().values_mut().for_each(Probes::mark);
    }

    /// What was seen of each VIP since the last mark.
    pub fn report(&self) -> BTreeMap<IpAddr, Service> {
        let now = now();
        self.shared.lock().iter().map(|(vip, probes)| (*vip, probes.report(now))).collect()
    }

    /// Waits until every VIP in `vips` answered a probe that was sent from now on; false when `limit` is over first.
    pub fn answered(&self, vips: &BTreeSet<IpAddr>, limit: Duration) -> bool {
        let asked = now();
        let probes = self.shared.lock();
        let missing = |probes: &mut BTreeMap<IpAddr, Probes>| {
            vips.iter().any(|vip| probes.get(vip).and_then(|probes| probes.last_answer).is_none_or(|at| at < asked))
        };
        let (mut probes, _) =
            self.shared.changed.wait_timeout_while(probes, limit, missing).unwrap_or_else(PoisonError::into_inner);
        !missing(&mut probes)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One raw ICMP socket a family.
#[derive(Debug)]
struct Sockets {
    v4: OwnedFd,
    v6: OwnedFd,
}

impl Sockets {
    fn open() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let v4 = socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)?;
        let v6 = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
        for socket in [&v4, &v6] {
            setsockopt(socket, ReceiveTimestampns, &true)?;
            setsockopt(socket, RcvBuf, &(4 << 20))?;
        }
        Ok(Self { v4, v6 })
    }

    fn ask(&self, vip: IpAddr, number: u64) {
        // Type, code, checksum (the kernel's work for ICMPv6), identifier, sequence, payload.
        let mut echo = [0_u8; 20];
        echo[6..8].copy_from_slice(&number.to_be_bytes()[6..]);
        echo[8..12].copy_from_slice(&MARK);
        echo[12..].copy_from_slice(&number.to_be_bytes());
        // A refusal (no route, neighbour unreachable) is a probe without an answer: what a client would see.
        let _ = match vip {
            IpAddr::V4(vip) => {
                echo[0] = 8;
                let sum = checksum(&echo);
                echo[2..4].copy_from_slice(&sum.to_be_bytes());
                let to = SockaddrIn::from(SocketAddrV4::new(vip, 0));
                sendto(self.v4.as_raw_fd(), &echo, &to, MsgFlags::MSG_DONTWAIT)
            }
            IpAddr::V6(vip) => {
                echo[0] = 128;
                let to = SockaddrIn6::from(SocketAddrV6::new(vip, 0, 0, 0));
                sendto(self.v6.as_raw_fd(), &echo, &to, MsgFlags::MSG_DONTWAIT)
            }
        };
    }

    /// All answers that are there.
    fn drain(&self, answered: &mut impl FnMut(IpAddr, u64, Instant)) {
        // IPv4 raw sockets deliver the IP header too (raw(7)).
        for (socket, reply, skip_header) in [(&self.v4, 0_u8, true), (&self.v6, 129, false)] {
            let mut buffer = [0_u8; 256];
            loop {
                let mut slices = [IoSliceMut::new(&mut buffer)];
                let mut control = cmsg_space!(TimeSpec);
                let (length, from, at) = match recvmsg::<SockaddrStorage>(
                    socket.as_raw_fd(),
                    &mut slices,
                    Some(&mut control),
                    MsgFlags::MSG_DONTWAIT,
                ) {
                    Ok(message) => {
                        let at = message.cmsgs().ok().and_then(|mut all| {
                            all.find_map(|one| match one {
                                ControlMessageOwned::ScmTimestampns(at) => Some(stamp(at.tv_sec(), at.tv_nsec())),
                                _ => None,
                            })
                        });
                        (message.bytes, message.address, at.unwrap_or_else(now))
                    }
                    Err(Errno::EINTR) => continue,
                    Err(_) => break,
                };
                let packet = buffer.get(..length).unwrap_or_default();
                let header =
                    if skip_header { packet.first().map_or(0, |byte| usize::from(byte & 0x0f) * 4) } else { 0 };
                let echo = packet.get(header..).unwrap_or_default();
                if echo.len() < 20 || echo[0] != reply || echo[8..12] != MARK {
                    continue;
                }
                let Some(number) = echo[12..].first_chunk().map(|bytes| u64::from_be_bytes(*bytes)) else { continue };
                if let Some(from) = from.as_ref().and_then(address) {
                    answered(from, number, at);
                }
            }
        }
    }
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    match storage.family()? {
        AddressFamily::Inet => storage.as_sockaddr_in().map(|from| from.ip().into()),
        AddressFamily::Inet6 => storage.as_sockaddr_in6().map(|from| from.ip().into()),
        _ => None,
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn probe(shared: &Shared, sockets: &Sockets) {
    /// Answers of so many probes fit the default receive buffer.
    const BURST: usize = 64;
    let mut tick = now();
    while !shared.ended.load(Ordering::Relaxed) {
        let mut vips = shared.lock();
        if !shared.paused.load(Ordering::Relaxed) {
            let all: Vec<IpAddr> = vips.keys().copied().collect();
            for some in all.chunks(BURST) {
                for vip in some {
                    if let Some(probes) = vips.get_mut(vip) {
                        sockets.ask(*vip, probes.sent(now()));
                    }
                }
                take(sockets, &mut vips);
            }
        }
        drop(vips);
        // Stalled for more than a tick: go on from now, rather than catch up in a burst.
        let pace = match shared.pace.load(Ordering::Relaxed) {
            0 => INTERVAL,
            micros => Duration::from_micros(micros),
        };
        tick = (tick + pace).max(now());
        loop {
            let left = tick.since(now());
            if left.is_zero() {
                break;
            }
            let mut fds = [
                PollFd::new(sockets.v4.as_fd(), PollFlags::POLLIN),
                PollFd::new(sockets.v6.as_fd(), PollFlags::POLLIN),
            ];
            let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(left)), None);
            take(sockets, &mut shared.lock());
            shared.changed.notify_all();
        }
    }
}

fn take(sockets: &Sockets, vips: &mut BTreeMap<IpAddr, Probes>) {
    sockets.drain(&mut |vip, number, at| {
        if let Some(probes) = vips.get_mut(&vip) {
            probes.answered(number, at);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn a_service_that_answers_every_probe_has_no_silence() {
        let mut probes = Probes::default();
        for tick in 0..100 {
            let number = probes.sent(at(tick * 5));
            probes.answered(number, at(tick * 5));
        }
        assert_eq!(probes.report(at(500)), Service { sent: 100, ..Service::default() });
    }

    #[test]
    fn a_silence_lasts_from_the_last_answer_before_it_to_the_first_after_it() {
        let mut probes = Probes::default();
        let first = probes.sent(at(0));
        probes.answered(first, at(1));
        for tick in 1..=20 {
            probes.sent(at(tick * 5));
        }
        let seen = probes.report(at(101));
        assert_eq!((seen.longest, seen.ongoing), (Duration::from_millis(100), true));
        probes.answered(20, at(101));
        let seen = probes.report(at(101));
        assert_eq!(
            (seen.lost, seen.longest, seen.began, seen.ongoing),
            (19, Duration::from_millis(100), Some(at(1)), false)
        );
    }

    #[test]
    fn a_probe_that_the_kernel_held_back_until_it_found_the_neighbour_counts_as_silence() {
        let mut probes = Probes::default();
        let first = probes.sent(at(0));
        probes.answered(first, at(150));
        let seen = probes.report(at(150));
        assert_eq!((seen.lost, seen.longest), (0, Duration::from_millis(150)));
    }

    #[test]
    fn a_stall_of_the_client_itself_is_not_the_services_silence() {
        let mut probes = Probes::default();
        for start in [0, 300] {
            let number = probes.sent(at(start));
            probes.answered(number, at(start + 1));
        }
        assert_eq!(probes.report(at(301)).longest, Duration::ZERO);
    }

    #[test]
    fn a_mark_forgets_what_was_before_it() {
        let mut probes = Probes::default();
        for tick in 0..10 {
            probes.sent(at(tick * 5));
        }
        probes.mark();
        let number = probes.sent(at(50));
        probes.answered(number, at(51));
        let seen = probes.report(at(51));
        assert_eq!((seen.sent, seen.lost), (1, 0));
    }
}
