//! Who else speaks for a VIP, and what is to be done about it?
//!
//! In: claims heard, and whose MAC addresses are ours or our peers'. Out: [`Verdict`]s: a stranger appeared, defend
//! now, the stranger is gone; and who claims which VIP, for the status. Not here: which VIPs are ours to look at (the
//! engine hands in claims for declared VIPs only), the frames of a defence (`schedule`, `frames`).
//!
//! A held VIP is defended as RFC 5227, section 2.4, case (c) says: for ever, and at most once in ten seconds. A claim
//! that came too soon after a defence is answered when the ten seconds are over, so the defender has the last word. A
//! peer is never a stranger: in a hand-over two of us speak for a VIP one after the other, and what a peer may say is
//! settled elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::name::InterfaceName;
use crate::time::Instant;
use crate::vip::Vip;
use crate::wire::arp::Operation;
use crate::wire::ethernet::MacAddr;
use crate::wire::frame::{Body, Frame};
use crate::wire::ndp::Repr;

/// Between two defences of a VIP (RFC 5227, section 1.1: DEFEND_INTERVAL).
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// A claim counts for so long. Half of the minute within which a conflict must be seen to have ended: the other half is
/// for telling it.
pub const FORGET: Duration = Duration::from_secs(30);

/// How somebody spoke for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Unasked, to all: gratuitous ARP, unsolicited advertisement.
    Announced,
    /// In answer to a question.
    Answered,
    /// By asking from it: an ARP request or a solicitation names its sender, and listeners learn it.
    Asked,
}

/// Somebody spoke for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Heard on which interface.
    pub iface: InterfaceName,
    /// The address.
    pub vip: Vip,
    /// Who is said to have it.
    pub mac: MacAddr,
    /// In which way.
    pub kind: Kind,
}

impl Claim {
    /// For which address the frame speaks, if for one that can be a VIP. A probe speaks for none (RFC 5227, section
    /// 1.1; RFC 4862, section 5.4.2).
    pub fn of(iface: &InterfaceName, frame: &Frame) -> Option<Self> {
        let (address, mac, kind) = match &frame.body {
            Body::Arp(repr) => {
                let kind = match repr.operation {
                    _ if repr.is_gratuitous() => Kind::Announced,
                    Operation::Request => Kind::Asked,
                    Operation::Reply => Kind::Answered,
                };
                (IpAddr::V4(repr.sender_ip), repr.sender_mac, kind)
            }
            Body::Ndp(Repr::Solicitation(it)) => {
                (IpAddr::V6(it.source), it.source_mac.unwrap_or(frame.source), Kind::Asked)
            }
            Body::Ndp(Repr::Advertisement(it)) => {
                let kind = if it.solicited { Kind::Answered } else { Kind::Announced };
                (IpAddr::V6(it.target), it.target_mac.unwrap_or(frame.source), kind)
            }
        };
        Some(Self { iface: iface.clone(), vip: Vip::new(address).ok()?, mac, kind })
    }
}

/// What follows from a claim, or from its absence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A stranger claims a VIP; said once for each VIP and interface until it is gone.
    Appeared {
        /// On which interface.
        iface: InterfaceName,
        /// The VIP.
        vip: Vip,
        /// Who.
        mac: MacAddr,
    },
    /// Announce the VIP once, now ([`Schedule::defend`](super::schedule::Schedule::defend)).
    Defend {
        /// On which interface.
        iface: InterfaceName,
        /// The VIP.
        vip: Vip,
    },
    /// Nobody claimed the VIP there for [`FORGET`], or it was a peer: announce it again
    /// ([`Schedule::again`](super::schedule::Schedule::again)).
    Gone {
        /// On which interface.
        iface: InterfaceName,
        /// The VIP.
        vip: Vip,
    },
}

/// A stranger's claim, for the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// On which interface.
    pub iface: InterfaceName,
    /// Who spoke last.
    pub mac: MacAddr,
    /// When the first claim was heard.
    pub since: Instant,
    /// When the latest was.
    pub last: Instant,
}

#[derive(Debug)]
struct Record {
    mac: MacAddr,
    since: Instant,
    last: Instant,
    defended: Option<Instant>,
    /// A claim was heard since the last defence, and the VIP is held.
    owed: bool,
}

impl Record {
    fn deadline(&self) -> Instant {
        let gone = self.last + FORGET;
        match self.defended {
            Some(defended) if self.owed => gone.min(defended + DEFEND_INTERVAL),
            _ => gone,
        }
    }
}

impl Record {
    fn foreign(&self, iface: &InterfaceName) -> Foreign {
        Foreign { iface: iface.clone(), mac: self.mac, since: self.since, last: self.last }
    }
}

type At = (Vip, InterfaceName);

/// All strangers that speak for VIPs. One record for a VIP and interface, however many claim it.
#[derive(Debug, Default)]
pub struct Conflicts {
    ours: BTreeSet<MacAddr>,
    peers: BTreeSet<MacAddr>,
    records: BTreeMap<Vip, BTreeMap<InterfaceName, Record>>,
    deadlines: BTreeSet<(Instant, At)>,
}

impl Conflicts {
    /// Nobody heard yet; until it is told, everybody is a stranger.
    pub fn new() -> Self {
        Self::default()
    }

    /// These are the MAC addresses of this node's interfaces, also those it had until a moment ago.
    pub fn set_ours(&mut self, ours: BTreeSet<MacAddr>) -> Vec<Verdict> {
        self.ours = ours;
        self.pardon()
    }

    /// These are the MAC addresses of the declared nodes, as their heartbeats tell.
    pub fn set_peers(&mut self, peers: BTreeSet<MacAddr>) -> Vec<Verdict> {
        self.peers = peers;
        self.pardon()
    }

    fn all(&self) -> impl Iterator<Item = (Vip, &InterfaceName, &Record)> + '_ {
        self.records.iter().flat_map(|(vip, there)| there.iter().map(|(iface, record)| (*vip, iface, record)))
    }

    fn record(&self, at: &At) -> Option<&Record> {
        self.records.get(&at.0)?.get(&at.1)
    }

    fn known(&self, mac: MacAddr) -> bool {
        self.ours.contains(&mac) || self.peers.contains(&mac)
    }

    fn pardon(&mut self) -> Vec<Verdict> {
        let pardoned: Vec<At> = self
            .all()
            .filter(|(_, _, record)| self.known(record.mac))
            .map(|(vip, iface, _)| (vip, iface.clone()))
            .collect();
        pardoned.into_iter().map(|at| self.end(at)).collect()
    }

    fn end(&mut self, at: At) -> Verdict {
        if let Some(there) = self.records.get_mut(&at.0) {
            if let Some(record) = there.remove(&at.1) {
                self.deadlines.remove(&(record.deadline(), at.clone()));
            }
            if there.is_empty() {
                self.records.remove(&at.0);
            }
        }
        Verdict::Gone { vip: at.0, iface: at.1 }
    }

    fn change(&mut self, at: &At, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.records.get_mut(&at.0).and_then(|there| there.get_mut(&at.1)) {
            self.deadlines.remove(&(record.deadline(), at.clone()));
            change(record);
            self.deadlines.insert((record.deadline(), at.clone()));
        }
    }

    /// Somebody spoke for a declared VIP. `held`: this node answers for it on that interface.
    pub fn heard(&mut self, now: Instant, claim: &Claim, held: bool) -> Vec<Verdict> {
        if self.known(claim.mac) {
            return Vec::new();
        }
        let mut verdicts = Vec::new();
        let at = (claim.vip, claim.iface.clone());
        if self.record(&at).is_none() {
            let record = Record { mac: claim.mac, since: now, last: now, defended: None, owed: false };
            self.deadlines.insert((record.deadline(), at.clone()));
            self.records.entry(claim.vip).or_default().insert(claim.iface.clone(), record);
            verdicts.push(Verdict::Appeared { iface: claim.iface.clone(), vip: claim.vip, mac: claim.mac });
        }
        self.change(&at, |record| {
            record.mac = claim.mac;
            record.last = now;
            record.owed = held;
        });
        verdicts.extend(self.defence(now, &at));
        verdicts
    }

    fn defence(&mut self, now: Instant, at: &At) -> Option<Verdict> {
        let record = self.record(at)?;
        if !record.owed || record.defended.is_some_and(|defended| now < defended + DEFEND_INTERVAL) {
            return None;
        }
        self.change(at, |record| {
            record.defended = Some(now);
            record.owed = false;
        });
        Some(Verdict::Defend { iface: at.1.clone(), vip: at.0 })
    }

    /// This node no longer answers for the VIP: nothing is to be defended.
    pub fn gave_up(&mut self, vip: Vip) {
        for at in self.of(vip) {
            self.change(&at, |record| record.owed = false);
        }
    }

    /// The VIP is no longer declared: nobody cares who has it.
    pub fn withdrawn(&mut self, vip: Vip) {
        for at in self.of(vip) {
            self.end(at);
        }
    }

    fn of(&self, vip: Vip) -> Vec<At> {
        self.records.get(&vip).into_iter().flat_map(BTreeMap::keys).map(|iface| (vip, iface.clone())).collect()
    }

    /// Defences that are owed, and strangers that were not heard for [`FORGET`].
    pub fn poll(&mut self, now: Instant) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        while let Some((deadline, at)) = self.deadlines.first().cloned()
            && deadline <= now
        {
            let over = self.record(&at).is_none_or(|record| record.last + FORGET <= now);
            if over {
                verdicts.push(self.end(at));
            } else {
                verdicts.extend(self.defence(now, &at));
            }
        }
        verdicts
    }

    /// When to poll next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Who else claims this VIP, the latest to speak where it is more than one.
    pub fn foreign(&self, vip: Vip) -> Option<Foreign> {
        self.records.get(&vip)?.iter().map(|(iface, record)| record.foreign(iface)).max_by_key(|foreign| foreign.last)
    }

    /// All VIPs that somebody else claims.
    pub fn foreigners(&self) -> impl Iterator<Item = (Vip, Foreign)> + '_ {
        self.all().map(|(vip, iface, record)| (vip, record.foreign(iface)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xee]);
    const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0b]);
    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0a]);

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    fn vip() -> Vip {
        "10.99.0.100".parse().unwrap()
    }

    fn eth0() -> InterfaceName {
        InterfaceName::new("eth0").unwrap()
    }

    fn by(mac: MacAddr) -> Claim {
        Claim { iface: eth0(), vip: vip(), mac, kind: Kind::Announced }
    }

    fn conflicts() -> Conflicts {
        let mut conflicts = Conflicts::new();
        conflicts.set_ours([OWN].into());
        conflicts.set_peers([PEER].into());
        conflicts
    }

    fn appeared() -> Verdict {
        Verdict::Appeared { iface: eth0(), vip: vip(), mac: STRANGER }
    }

    fn defend() -> Verdict {
        Verdict::Defend { iface: eth0(), vip: vip() }
    }

    fn gone() -> Verdict {
        Verdict::Gone { iface: eth0(), vip: vip() }
    }

    #[test]
    fn a_stranger_who_claims_each_second_is_defended_against_once_in_ten_seconds_and_cleared_within_a_minute() {
        let mut conflicts = conflicts();
        let mut verdicts = Vec::new();
        for second in 0..60 {
            let now = at(second * 1_000);
            verdicts.extend(conflicts.poll(now).into_iter().map(|verdict| (second, verdict)));
            verdicts.extend(conflicts.heard(now, &by(STRANGER), true).into_iter().map(|verdict| (second, verdict)));
        }
        let mut expected = vec![(0, appeared())];
        expected.extend((0..6).map(|n| (n * 10, defend())));
        assert_eq!(verdicts, expected);
        assert_eq!(
            conflicts.foreign(vip()),
            Some(Foreign { iface: eth0(), mac: STRANGER, since: at(0), last: at(59_000) })
        );
        let mut after = Vec::new();
        while let Some(deadline) = conflicts.next_deadline() {
            after.extend(conflicts.poll(deadline).into_iter().map(|verdict| (deadline, verdict)));
        }
        assert_eq!(after, [(at(60_000), defend()), (at(89_000), gone())]);
        assert_eq!(conflicts.foreign(vip()), None);
    }

    #[test]
    fn a_single_claim_is_defended_against_at_once_and_once() {
        let mut conflicts = conflicts();
        assert_eq!(conflicts.heard(at(0), &by(STRANGER), true), [appeared(), defend()]);
        assert_eq!(conflicts.next_deadline(), Some(at(30_000)));
        assert_eq!(conflicts.poll(at(30_000)), [gone()]);
    }

    #[test]
    fn a_claim_just_after_a_defence_is_answered_when_the_interval_is_over() {
        let mut conflicts = conflicts();
        conflicts.heard(at(0), &by(STRANGER), true);
        assert_eq!(conflicts.heard(at(100), &by(STRANGER), true), []);
        assert_eq!(conflicts.next_deadline(), Some(at(10_000)));
        assert_eq!(conflicts.poll(at(9_999)), []);
        assert_eq!(conflicts.poll(at(10_000)), [defend()]);
    }

    #[test]
    fn neither_we_nor_a_peer_in_a_hand_over_are_ever_foreign() {
        let mut conflicts = conflicts();
        for mac in [OWN, PEER] {
            assert_eq!(conflicts.heard(at(0), &by(mac), true), []);
        }
        assert_eq!((conflicts.foreign(vip()), conflicts.next_deadline()), (None, None));
    }

    #[test]
    fn a_stranger_who_turns_out_to_be_a_peer_is_pardoned() {
        let mut conflicts = conflicts();
        conflicts.heard(at(0), &by(STRANGER), true);
        assert_eq!(conflicts.set_peers([PEER, STRANGER].into()), [gone()]);
        assert_eq!((conflicts.foreign(vip()), conflicts.next_deadline()), (None, None));
    }

    #[test]
    fn a_vip_that_is_not_held_is_watched_and_not_defended() {
        let mut conflicts = conflicts();
        assert_eq!(conflicts.heard(at(0), &by(STRANGER), false), [appeared()]);
        assert_eq!(conflicts.heard(at(20_000), &by(STRANGER), true), [defend()]);
        conflicts.heard(at(21_000), &by(STRANGER), true);
        conflicts.gave_up(vip());
        assert_eq!(conflicts.poll(at(50_999)), []);
        assert_eq!(conflicts.poll(at(51_000)), [gone()]);
    }

    #[test]
    fn a_withdrawn_vip_has_no_conflict() {
        let mut conflicts = conflicts();
        conflicts.heard(at(0), &by(STRANGER), true);
        conflicts.heard(at(0), &Claim { vip: "10.99.0.101".parse().unwrap(), ..by(STRANGER) }, true);
        conflicts.withdrawn(vip());
        assert_eq!(conflicts.foreigners().map(|(vip, _)| vip.to_string()).collect::<Vec<_>>(), ["10.99.0.101"]);
    }

    #[test]
    fn a_flood_of_made_up_claimants_makes_one_record_and_one_verdict() {
        let mut conflicts = conflicts();
        let mut verdicts = 0;
        for n in 0..10_000_u32 {
            let [_, a, b, c] = n.to_be_bytes();
            verdicts += conflicts.heard(at(1), &by(MacAddr([0x0e, 0, 0, a, b, c])), true).len();
        }
        assert_eq!((verdicts, conflicts.records.len(), conflicts.deadlines.len()), (2, 1, 1));
    }

    #[test]
    fn claims_are_read_from_every_kind_of_frame_that_teaches_listeners_and_from_no_probe() {
        use super::super::frames::{Port, announcement, probe, question};
        use super::super::responder::answer;
        use super::super::schedule::{Announcement, Form};

        let claim =
            |frame: &Frame| Claim::of(&eth0(), frame).map(|claim| (claim.vip.to_string(), claim.mac, claim.kind));
        let port = |own: &str| Port { mac: STRANGER, own: vec![own.parse().unwrap()], router: false };
        for (text, client) in [("10.99.0.100", "10.99.0.200"), ("fd99::100", "fd99::200")] {
            let vip: Vip = text.parse().unwrap();
            let of = |kind| Some((text.to_owned(), STRANGER, kind));
            for form in [Form::Request, Form::Reply] {
                let frame = announcement(&Announcement { iface: eth0(), vip, form }, &port(client));
                assert_eq!(claim(&frame), of(Kind::Announced));
            }
            assert_eq!(claim(&probe(vip, &port(client))), None);
            let other: Vip = client.parse().unwrap();
            assert_eq!(claim(&question(other, &port(text)).unwrap()), of(Kind::Asked));
            let asked = question(vip, &Port { mac: PEER, ..port(client) }).unwrap();
            assert_eq!(claim(&answer(&asked, &port(client), |_| true).unwrap()), of(Kind::Answered));
        }
    }
}
