//! A bystander: who claims each VIP on the wire, and do two at once?
//!
//! In: VIPs to ask for. Out: every claim with the kernel's time of its arrival, who claims now, and overlaps. It asks
//! by ARP and neighbour solicitation from a packet socket, so no cache of its own hides anything.
//! Not here: whether the service goes on (`client`).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::sockopt::{RcvBuf, ReceiveTimestampns};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg, sendto,
    setsockopt, socket,
};
use nix::sys::time::TimeSpec;

use super::frame::{Asker, Claim, Form, claim, question};
use super::link::Mac;
use super::namespace::Place;
use super::{LabError, Step, now, stamp};
use crate::time::Instant;

/// How often each VIP is asked for.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// Two MACs whose claims are interleaved within this time claim at once; who moves twice takes longer for it.
pub const WINDOW: Duration = Duration::from_millis(500);

/// Claims kept at most: half an hour of ten VIPs; the older half goes first.
const KEPT: usize = 1_000_000;

/// A claim, and when it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When the kernel received it.
    pub at: Instant,
    /// What it says.
    pub claim: Claim,
}

/// A VIP was claimed by somebody else before *and* after this claim of `mac`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// The VIP.
    pub vip: IpAddr,
    /// Who claimed it in the midst of another's claims.
    pub mac: Mac,
    /// The other one.
    pub other: Mac,
    /// When.
    pub at: Instant,
    /// How long after the other's first claim nearby.
    pub after: Duration,
}

/// The claims that were made while another MAC claimed the same VIP.
///
/// A claim by A counts when B claimed the VIP both before and after it, each within `window`: B A B. A hand-over is
/// A A B B and never counts, nor does a move there and back that takes longer than the window.
pub fn overlaps(seen: &[Seen], window: Duration) -> Vec<Overlap> {
    let mut by_vip: BTreeMap<IpAddr, Vec<Seen>> = BTreeMap::new();
    for one in seen {
        by_vip.entry(one.claim.address).or_default().push(*one);
    }
    let mut found = Vec::new();
    for (vip, mut claims) in by_vip {
        claims.sort_by_key(|one| one.at);
        let mut last: BTreeMap<Mac, Instant> = BTreeMap::new();
        for (position, one) in claims.iter().enumerate() {
            let (at, mac) = (one.at, one.claim.mac);
            let others = last.iter().filter(|(other, before)| **other != mac && at.since(**before) <= window);
            for (other, before) in others {
                let mut later = claims[position..].iter().take_while(|one| one.at.since(at) <= window);
                if later.any(|one| one.claim.mac == *other) {
                    found.push(Overlap { vip, mac, other: *other, at, after: at.since(*before) });
                }
            }
            last.insert(mac, at);
        }
    }
    found
}

/// Two nodes answered the same question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Double {
    /// The VIP that was asked for.
    pub vip: IpAddr,
    /// Who answered, in their order.
    pub macs: Vec<Mac>,
    /// When the first answer came.
    pub at: Instant,
}

/// The questions, by when each round of them began, that more than one answered.
fn doubles(seen: &[Seen], rounds: &[Instant]) -> Vec<Double> {
    let mut answers: BTreeMap<(usize, IpAddr), Double> = BTreeMap::new();
    for one in seen.iter().filter(|one| one.claim.form == Form::Answer) {
        let round = rounds.partition_point(|began| *began <= one.at);
        let vip = one.claim.address;
        let answer = answers.entry((round, vip)).or_insert(Double { vip, macs: Vec::new(), at: one.at });
        if !answer.macs.contains(&one.claim.mac) {
            answer.macs.push(one.claim.mac);
        }
    }
    answers.into_values().filter(|answer| answer.macs.len() > 1).collect()
}

#[derive(Debug, Default)]
struct Heard {
    vips: BTreeSet<IpAddr>,
    /// When each round of questions began.
    rounds: Vec<Instant>,
    seen: Vec<Seen>,
    latest: BTreeMap<(IpAddr, Mac), Instant>,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    changed: Condvar,
    /// Microseconds between two questions for a VIP, where it is not [`INTERVAL`].
    pace: AtomicU64,
    paused: AtomicBool,
    ended: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bystander that asks and listens until it is dropped.
#[derive(Debug)]
pub struct Bystander {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    wire: Arc<Wire>,
    addresses: [IpAddr; 2],
}

impl Bystander {
    /// Starts one inside `place`, where `interface` leads to the segment; it asks from `addresses`, its own.
    pub fn start(place: &Place, interface: &str, addresses: [IpAddr; 2]) -> Result<Self, LabError> {
        let name = interface.to_owned();
        let wire = place.run(move || Wire::open(&name)).step(|| format!("open a packet socket on {interface}"))?;
        let (shared, wire) = (Arc::new(Shared::default()), Arc::new(wire));
        let (watching, socket) = (Arc::clone(&shared), Arc::clone(&wire));
        let thread = std::thread::Builder::new()
            .name("bystander".to_owned())
            .spawn(move || watch(&watching, &socket, addresses))
            .step(|| "start the bystander".to_owned())?;
        Ok(Self { shared, thread: Some(thread), wire, addresses })
    }

    /// Asks for these VIPs, and no others, from now on; claims of any other address are not kept.
    pub fn watch(&self, vips: &BTreeSet<IpAddr>) {
        self.shared.lock().vips.clone_from(vips);
    }

    /// Asks for each VIP this often from now on, instead of each [`INTERVAL`]; what nobody asked for is heard at once.
    pub fn pace(&self, pace: Duration) {
        self.shared.pace.store(u64::try_from(pace.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Stops asking, or goes on; it listens all the time.
    pub fn pause(&self, paused: bool) {
        self.shared.paused.store(paused, Ordering::Relaxed);
    }

    /// Asks for these VIPs once, now.
    pub fn ask(&self, vips: impl IntoIterator<Item = IpAddr>) {
        vips.into_iter().for_each(|vip| ask(&self.wire, self.addresses, vip));
    }

    /// Everything that was claimed since `since`.
    pub fn claims(&self, since: Instant) -> Vec<Seen> {
        let heard = self.shared.lock();
        // One socket hears them in the order of their arrival.
        let start = heard.seen.partition_point(|one| one.at < since);
        heard.seen[start..].to_vec()
    }

    /// Claims since `since` that were made while another MAC claimed the same VIP.
    pub fn overlaps(&self, since: Instant) -> Vec<Overlap> {
        overlaps(&self.claims(since), WINDOW)
    }

    /// Questions since `since` that two nodes answered.
    pub fn doubles(&self, since: Instant) -> Vec<Double> {
        doubles(&self.claims(since), &self.shared.lock().rounds)
    }

    /// The last claim of a VIP by `mac` since `since`.
    pub fn last_claim(&self, mac: Mac, since: Instant) -> Option<Instant> {
        let heard = self.shared.lock();
        heard.latest.iter().filter(|((_, who), at)| *who == mac && **at >= since).map(|(_, at)| *at).max()
    }

    /// Who claimed each VIP last, of those that claimed it since `since`.
    pub fn claimants(&self, since: Instant) -> BTreeMap<IpAddr, Mac> {
        claimants(&self.shared.lock(), since)
    }

    /// Waits until who claims each VIP, as heard from now on, satisfies `right`; None when `limit` is over first.
    pub fn wait(
        &self,
        limit: Duration,
        mut right: impl FnMut(&BTreeMap<IpAddr, Mac>) -> bool,
    ) -> Option<BTreeMap<IpAddr, Mac>> {
        let asked = now();
        let (heard, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.lock(), limit, |heard| !right(&claimants(heard, asked)))
            .unwrap_or_else(PoisonError::into_inner);
        let found = claimants(&heard, asked);
        right(&found).then_some(found)
    }

    /// Sends a frame of the caller's making: a forged announcement, an unusual question.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.wire.send(frame)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn claimants(heard: &Heard, since: Instant) -> BTreeMap<IpAddr, Mac> {
    let mut found: BTreeMap<IpAddr, (Instant, Mac)> = BTreeMap::new();
    for ((vip, mac), at) in heard.latest.iter().filter(|(_, at)| **at >= since) {
        let newest = found.entry(*vip).or_insert((*at, *mac));
        if *at > newest.0 {
            *newest = (*at, *mac);
        }
    }
    found.into_iter().map(|(vip, (_, mac))| (vip, mac)).collect()
}

/// A packet socket that hears every interface of its namespace, and sends by one.
#[derive(Debug)]
struct Wire {
    socket: OwnedFd,
    /// Where frames go out; found, rather than made, so that no foreign structure is built by hand.
    interface: LinkAddr,
    mac: Mac,
}

impl Wire {
    fn open(interface: &str) -> io::Result<Self> {
        let address = getifaddrs()?
            .filter(|one| one.interface_name == interface)
            .find_map(|one| one.address?.as_link_addr().copied())
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let mac = address.addr().ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        setsockopt(&socket, ReceiveTimestampns, &true)?;
        setsockopt(&socket, RcvBuf, &(4 << 20))?;
        Ok(Self { socket, interface: address, mac })
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        sendto(self.socket.as_raw_fd(), frame, &self.interface, MsgFlags::empty())?;
        Ok(())
    }

    fn receive(&self, buffer: &mut [u8]) -> Option<(usize, Instant)> {
        loop {
            let mut slices = [IoSliceMut::new(buffer)];
            let mut control = cmsg_space!(TimeSpec);
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_DONTWAIT) {
                Ok(message) => {
                    let at = message.cmsgs().ok().and_then(|mut all| {
                        all.find_map(|one| match one {
                            ControlMessageOwned::ScmTimestampns(at) => Some(stamp(at.tv_sec(), at.tv_nsec())),
                            _ => None,
                        })
                    });
                    return Some((message.bytes, at.unwrap_or_else(now)));
                }
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

fn watch(shared: &Shared, wire: &Wire, addresses: [IpAddr; 2]) {
    /// Answers to so many questions fit the receive buffer many times over.
    const BURST: usize = 256;
    let mut tick = now();
    while !shared.ended.load(Ordering::Relaxed) {
        if !shared.paused.load(Ordering::Relaxed) {
            let vips: Vec<IpAddr> = {
                let mut heard = shared.lock();
                heard.rounds.push(now());
                heard.vips.iter().copied().collect()
            };
            for some in vips.chunks(BURST) {
                some.iter().for_each(|vip| ask(wire, addresses, *vip));
                listen(shared, wire);
            }
        }
        let pace = match shared.pace.load(Ordering::Relaxed) {
            0 => INTERVAL,
            micros => Duration::from_micros(micros),
        };
        tick = (tick + pace).max(now());
        loop {
            let left = tick.since(now());
            if left.is_zero() || shared.ended.load(Ordering::Relaxed) {
                break;
            }
            let mut fds = [PollFd::new(wire.socket.as_fd(), PollFlags::POLLIN)];
            // Whoever drops it, or sets another pace, does not wait for a slow one.
            let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(left.min(INTERVAL))), None);
            listen(shared, wire);
        }
    }
}

fn ask(wire: &Wire, addresses: [IpAddr; 2], vip: IpAddr) {
    let Some(address) = addresses.into_iter().find(|address| address.is_ipv4() == vip.is_ipv4()) else { return };
    if let Some(frame) = question(Asker { mac: wire.mac, address }, vip, None) {
        // A question that the kernel has no room for is asked again at the next tick.
        let _ = wire.send(&frame);
    }
}

/// Takes what has arrived.
fn listen(shared: &Shared, wire: &Wire) {
    let mut buffer = [0; 2048];
    let mut heard = shared.lock();
    let before = heard.seen.len();
    while let Some((length, at)) = wire.receive(&mut buffer) {
        let Some(claim) = buffer.get(..length).and_then(claim) else { continue };
        if claim.mac != wire.mac && heard.vips.contains(&claim.address) {
            heard.seen.push(Seen { at, claim });
            heard.latest.insert((claim.address, claim.mac), at);
        }
    }
    if heard.seen.len() > before {
        shared.changed.notify_all();
    }
    if heard.seen.len() > KEPT {
        heard.seen.drain(..KEPT / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 1];
    const B: Mac = [2, 0, 0, 0, 0, 2];

    fn seen(claims: &[(u64, Mac)]) -> Vec<Seen> {
        let vip = "10.99.0.100".parse().unwrap();
        claims
            .iter()
            .map(|(millis, mac)| Seen {
                at: Instant::from_micros(millis * 1_000),
                claim: Claim { address: vip, mac: *mac, form: Form::Answer, flags: (false, false) },
            })
            .collect()
    }

    #[test]
    fn a_take_over_is_no_overlap() {
        assert_eq!(overlaps(&seen(&[(0, A), (20, A), (21, B), (40, B), (60, B)]), WINDOW), []);
    }

    #[test]
    fn a_dead_owner_that_answers_once_more_is_an_overlap() {
        let found = overlaps(&seen(&[(0, A), (20, A), (21, B), (40, A), (41, B), (60, B)]), WINDOW);
        assert!(found.iter().any(|one| (one.mac, one.other) == (A, B) && one.at.as_micros() == 40_000), "{found:?}");
    }

    #[test]
    fn two_that_answer_every_question_overlap_all_the_time() {
        let both: Vec<(u64, Mac)> = (0..10).flat_map(|tick| [(tick * 20, A), (tick * 20 + 1, B)]).collect();
        assert!(overlaps(&seen(&both), WINDOW).len() >= 16);
    }

    #[test]
    fn a_question_with_two_answers_is_told_from_two_questions_with_one_each() {
        let rounds = [0, 20, 40].map(|millis| Instant::from_micros(millis * 1_000));
        assert_eq!(doubles(&seen(&[(1, A), (21, B), (41, B)]), &rounds), []);
        let found = doubles(&seen(&[(1, A), (21, A), (22, B), (41, B)]), &rounds);
        assert_eq!(
            found.iter().map(|one| (one.at.as_micros(), one.macs.clone())).collect::<Vec<_>>(),
            [(21_000, vec![A, B])]
        );
    }

    #[test]
    fn a_move_there_and_back_is_no_overlap() {
        let there: Vec<(u64, Mac)> =
            (0..300).map(|tick| (tick * 20, if (100..200).contains(&tick) { B } else { A })).collect();
        assert_eq!(overlaps(&seen(&there), WINDOW), []);
    }
}
