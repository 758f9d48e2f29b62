//! The gossip port: one UDP socket, sealed datagrams, and where each peer is.
//!
//! In: datagrams. Out: heartbeats whose seal was good, and their opposite. Not here: what they say (`membership`),
//! the seal itself (`wire`).

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::clock;
use super::desk::Counters;
use super::error::HostError;
use super::keeper::{Goodbye, KeeperState};
use crate::engine::event::Event;
use crate::manifest::desired::Desired;
use crate::membership::heartbeat::{Flags, Heartbeat};
use crate::membership::protocol::Outgoing;
use crate::name::{ClusterName, NodeName};
use crate::wire::key::KeyRing;
use crate::wire::seal::{GOODBYE, MAX_DATAGRAM, Opener, Sealer};
use crate::wire::version::{Skew, Tongues, Versions};

/// The port.
pub struct Gossip {
    socket: UdpSocket,
    bind: SocketAddr,
    me: NodeName,
    ring: KeyRing,
    salt: [u8; 16],
    /// Nothing until the cluster's name is known, from the first revision.
    seal: Option<(ClusterName, Sealer, Opener)>,
    book: BTreeMap<NodeName, SocketAddr>,
    tongues: Tongues,
    buffer: Vec<u8>,
    counters: Arc<Counters>,
}

impl Gossip {
    /// Opens the socket.
    pub fn open(
        bind: SocketAddr,
        me: NodeName,
        ring: KeyRing,
        versions: Versions,
        counters: Arc<Counters>,
    ) -> Result<Self, HostError> {
        let explain = |error: io::Error| HostError::bind(format!("UDP {bind} (gossip.bind)"), &error);
        let socket = UdpSocket::bind(bind).map_err(explain)?;
        socket.set_nonblocking(true).map_err(explain)?;
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|_| explain(io::Error::from_raw_os_error(libc::EIO)))?;
        Ok(Self {
            socket,
            bind,
            me,
            ring,
            salt,
            seal: None,
            book: BTreeMap::new(),
            tongues: Tongues::new(versions),
            buffer: vec![0; MAX_DATAGRAM + 1],
            counters,
        })
    }

    /// A desired state tells the cluster's name and where its nodes are. Nodes of earlier ones keep their place.
    pub fn learn(&mut self, desired: &Desired) {
        self.book.extend(desired.nodes.iter().map(|(name, node)| (name.clone(), node.address)));
        let cluster = &desired.cluster.name;
        if self.seal.as_ref().is_none_or(|(known, _, _)| known != cluster) {
            let sealer = Sealer::new(self.ring.sending(), cluster, self.me.clone(), self.salt);
            let sealer = sealer.speaking(self.tongues.newest());
            let opener = Opener::new(self.ring.clone(), cluster.clone());
            self.seal = Some((cluster.clone(), sealer, opener));
        }
    }

    /// Where a peer is.
    pub fn place_of(&self, peer: &NodeName) -> Option<SocketAddr> {
        self.book.get(peer).copied()
    }

    /// Seals with the first of these keys from now on, and accepts all of them and no others.
    pub fn change_keys(&mut self, ring: KeyRing) {
        if let Some((_, sealer, opener)) = &mut self.seal {
            sealer.use_key(ring.sending());
            opener.set_ring(ring.clone());
        }
        self.ring = ring;
    }

    /// The next heartbeat that waits, without waiting for one. What is refused is counted.
    pub fn receive(&mut self) -> Option<Event> {
        loop {
            let (length, from) = match self.socket.recv_from(&mut self.buffer) {
                Ok(received) => received,
                // An unreachable peer's ICMP comes back as an error of an earlier send.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return None,
            };
            let Some((_, _, opener)) = &mut self.seal else { continue };
            let Ok(opened) = opener.open(&self.buffer[..length]) else {
                Counters::count(&self.counters.refused);
                continue;
            };
            if !self.tongues.heard(&opened.sender, opened.version, opened.newest) {
                Counters::count(&self.counters.refused);
                continue;
            }
            let Ok(heartbeat) = Heartbeat::from_bytes(&opened.payload) else {
                Counters::count(&self.counters.refused);
                continue;
            };
            Counters::count(&self.counters.received);
            if let Ok(at) = heartbeat.peers.binary_search_by(|report| report.name.cmp(&self.me)) {
                self.counters.trips.answered(&opened.sender, heartbeat.peers[at].counter, clock::now());
            }
            // Whoever has the key and is in no revision that this node loaded is answered where it spoke from.
            self.book.entry(opened.sender.clone()).or_insert(from);
            return Some(Event::Heartbeat {
                from: opened.sender,
                epoch: opened.epoch,
                counter: opened.counter,
                heartbeat: Arc::new(heartbeat),
            });
        }
    }

    /// Peers whose build is too far from this one's, where that changed since it was asked last.
    pub fn skewed_anew(&mut self) -> Option<Vec<Skew>> {
        Some(self.tongues.skewed_anew()?.values().cloned().collect())
    }

    /// Sends one. What cannot be sent is as good as lost on the way, and asked for again.
    pub fn send(&mut self, datagram: &Outgoing) {
        let (Some((_, sealer, _)), Some(to)) = (&mut self.seal, self.book.get(&datagram.to)) else { return };
        let version = self.tongues.to(&datagram.to);
        let sealed = sealer.seal_as(version, datagram.epoch, datagram.counter, &datagram.heartbeat.to_bytes());
        if self.socket.send_to(&sealed, to).is_ok() {
            self.counters.sent.fetch_add(1, Ordering::Relaxed);
            if datagram.heartbeat.flags.has(Flags::ANSWER_ME) {
                self.counters.trips.asked(&datagram.to, datagram.counter, clock::now());
            }
        }
    }

    /// What the keeper says for this node should it die, to all whom the engine speaks to.
    pub fn last_words<'a>(
        &mut self,
        epoch: u64,
        words: &Heartbeat,
        peers: impl Iterator<Item = &'a NodeName>,
    ) -> Option<KeeperState> {
        let (_, sealer, _) = self.seal.as_mut()?;
        let words = words.to_bytes();
        let goodbyes = peers
            .filter_map(|peer| Some((peer, self.book.get(peer)?)))
            .map(|(peer, to)| {
                let datagram = sealer.seal_as(self.tongues.to(peer), epoch, GOODBYE, &words);
                Goodbye { to: *to, datagram }
            })
            .collect();
        Some(KeeperState { from: self.bind.ip(), goodbyes })
    }
}

impl AsFd for Gossip {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
