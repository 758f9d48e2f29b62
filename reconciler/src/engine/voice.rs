//! What this node says and hears on the wire about VIPs: announcements, answers, claims of others, first questions.
//!
//! In: VIPs held, frames heard, ports as they change. Out: frames to send, VIPs that a stranger has.
//! Not here: the rules of each (`announce`), who owns what (the engine's own file), sockets (`agent`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::LocalInterface;
use crate::announce::conflict::{Claim, Conflicts, Foreign, Verdict};
use crate::announce::frames::{Port, announcement, own_addresses, probe, question};
use crate::announce::resolve::{Contradiction, Expected, Resolver};
use crate::announce::responder::answer;
use crate::announce::schedule::Schedule;
use crate::name::InterfaceName;
use crate::time::Instant;
use crate::vip::Vip;
use crate::wire::ethernet::MacAddr;
use crate::wire::frame::Frame;

/// How long a first question waits for an answer: a Linux neighbour takes microseconds, a busy one milliseconds.
const ASK_PATIENCE: Duration = Duration::from_millis(40);

/// A VIP that a stranger has is asked for again after so long.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// VIPs of other nodes that are asked for, a second: what that adds to the frames at rest must not show.
const QUESTIONS: u32 = 2;

/// Frames to send, each on its interface.
pub(super) type Frames = Vec<(InterfaceName, Frame)>;

/// The node's voice.
#[derive(Debug)]
pub(super) struct Voice {
    schedule: Schedule,
    conflicts: Conflicts,
    ports: BTreeMap<InterfaceName, Port>,
    usable: BTreeSet<InterfaceName>,
    /// VIPs that nobody held: asked for on the wire, and until when an answer is awaited.
    asking: BTreeMap<Vip, Instant>,
    /// Asked for, and nobody answered.
    free: BTreeSet<Vip>,
    resolver: Resolver,
    out: Frames,
}

impl Voice {
    pub fn new() -> Self {
        Self {
            schedule: Schedule::new(10_000, 15),
            conflicts: Conflicts::new(),
            ports: BTreeMap::new(),
            usable: BTreeSet::new(),
            asking: BTreeMap::new(),
            free: BTreeSet::new(),
            resolver: Resolver::new(QUESTIONS),
            out: Vec::new(),
        }
    }

    /// First announcements and all later ones a second, on each interface.
    pub fn set_rates(&mut self, rate: u32, refresh: u32) {
        self.schedule = Schedule::new(rate, refresh);
    }

    /// VIPs of others to look after, and no others.
    pub fn look_after(&mut self, now: Instant, wanted: BTreeMap<Vip, Expected>) {
        self.resolver.set(now, wanted);
    }

    /// What it looks after.
    pub fn looks_after(&self, vip: Vip) -> Option<&Expected> {
        self.resolver.expected(vip)
    }

    /// What the wire contradicts of what other nodes say.
    pub fn contradictions(&self) -> impl Iterator<Item = (Vip, Contradiction)> + '_ {
        self.resolver.contradictions()
    }

    /// The interfaces changed: a new MAC address and a link that is back are announced.
    pub fn set_interfaces(&mut self, now: Instant, interfaces: &BTreeMap<InterfaceName, LocalInterface>) {
        for (name, interface) in interfaces {
            let port = Port { mac: MacAddr(interface.mac), own: interface.own.clone(), router: interface.router };
            let new_mac = self.ports.get(name).is_some_and(|known| known.mac != port.mac);
            if new_mac {
                // Those that gossip with this node first, or their acks go to the old address.
                self.out.extend(own_addresses(&port).into_iter().map(|frame| (name.clone(), frame)));
            }
            let back = interface.usable && !self.usable.contains(name);
            self.ports.insert(name.clone(), port);
            if new_mac || back {
                self.schedule.again_on(now, name);
            }
        }
        self.ports.retain(|name, _| interfaces.contains_key(name));
        self.usable = interfaces.iter().filter(|(_, it)| it.usable).map(|(name, _)| name.clone()).collect();
        let ours = self.ports.values().map(|port| port.mac).collect();
        let verdicts = self.conflicts.set_ours(ours);
        self.follow(now, verdicts);
    }

    /// The MAC addresses of the declared nodes.
    pub fn set_peers(&mut self, now: Instant, peers: BTreeSet<MacAddr>) {
        let verdicts = self.conflicts.set_peers(peers);
        self.follow(now, verdicts);
    }

    /// These stand on the host now and are answered for.
    pub fn taken(&mut self, now: Instant, interface: &InterfaceName, vips: &[Vip]) {
        self.schedule.taken(now, interface, vips.iter().copied());
    }

    /// All rounds again for these: somebody else answered for them until now.
    pub fn again(&mut self, now: Instant, vips: &[Vip]) {
        self.schedule.again(now, vips);
    }

    pub fn gave_up(&mut self, vip: Vip) {
        self.schedule.gave_up(vip);
        self.conflicts.gave_up(vip);
    }

    /// VIPs of a generation that is no longer in force.
    pub fn withdrawn(&mut self, vip: Vip) {
        self.conflicts.withdrawn(vip);
        self.asking.remove(&vip);
        self.free.remove(&vip);
    }

    /// Is the VIP known to be free, as far as the wire tells? Asks where it is not known yet.
    pub fn is_free(&mut self, now: Instant, interface: &InterfaceName, vip: Vip) -> bool {
        if self.conflicts.foreign(vip).is_some() {
            // Asked again now and then: the stranger may be gone before its claim is forgotten.
            if self.asking.get(&vip).is_none_or(|until| now >= *until) {
                self.asking.insert(vip, now + ASK_AGAIN);
                if let Some(port) = self.ports.get(interface) {
                    self.out.push((interface.clone(), probe(vip, port)));
                }
            }
            return false;
        }
        if self.free.contains(&vip) {
            return true;
        }
        match self.asking.get(&vip) {
            Some(until) if now >= *until => {
                self.asking.remove(&vip);
                self.free.insert(vip);
                true
            }
            Some(_) => false,
            None => {
                let Some(port) = self.ports.get(interface) else { return true };
                self.out.push((interface.clone(), probe(vip, port)));
                self.asking.insert(vip, now + ASK_PATIENCE);
                false
            }
        }
    }

    /// What was free a while ago is asked for anew before it is next taken for the first time.
    pub fn forget_answers(&mut self) {
        self.asking.clear();
        self.free.clear();
    }

    /// A frame came. `declared`: is it a VIP of this cluster? `held`, `answered`: by this node, by this responder.
    pub fn heard(
        &mut self,
        now: Instant,
        interface: &InterfaceName,
        bytes: &[u8],
        declared: impl Fn(Vip) -> bool,
        held: impl Fn(Vip) -> bool,
        answered: impl Fn(Vip) -> bool,
    ) {
        let Ok(frame) = Frame::parse(bytes) else { return };
        if let Some(claim) = Claim::of(interface, &frame)
            && declared(claim.vip)
        {
            self.resolver.heard(&claim);
            let verdicts = self.conflicts.heard(now, &claim, held(claim.vip));
            self.follow(now, verdicts);
        }
        if let Some(port) = self.ports.get(interface)
            && let Some(reply) = answer(&frame, port, answered)
        {
            self.out.push((interface.clone(), reply));
        }
    }

    fn follow(&mut self, now: Instant, verdicts: Vec<Verdict>) {
        for verdict in verdicts {
            match verdict {
                Verdict::Appeared { vip, .. } => {
                    self.asking.remove(&vip);
                    self.free.remove(&vip);
                }
                Verdict::Defend { iface, vip } => self.schedule.defend(now, &iface, vip),
                Verdict::Gone { vip, .. } => self.schedule.again(now, &[vip]),
            }
        }
    }

    /// A stranger that claims the VIP.
    pub fn foreign(&self, vip: Vip) -> Option<Foreign> {
        self.conflicts.foreign(vip)
    }

    /// All that strangers claim.
    pub fn foreigners(&self) -> impl Iterator<Item = (Vip, Foreign)> + '_ {
        self.conflicts.foreigners()
    }

    /// What is to be sent now.
    pub fn poll(&mut self, now: Instant) -> Frames {
        let verdicts = self.conflicts.poll(now);
        self.follow(now, verdicts);
        // A question that nobody waits on any more must not wake the node again and again.
        let over: Vec<Vip> = self.asking.iter().filter(|(_, until)| now >= **until).map(|(vip, _)| *vip).collect();
        for vip in over {
            self.asking.remove(&vip);
            if self.conflicts.foreign(vip).is_none() {
                self.free.insert(vip);
            }
        }
        for (interface, vip) in self.resolver.poll(now) {
            if let Some(port) = self.ports.get(&interface) {
                let asked = question(vip, port).unwrap_or_else(|| probe(vip, port));
                self.out.push((interface, asked));
            }
        }
        for due in self.schedule.poll(now) {
            if let Some(port) = self.ports.get(&due.iface) {
                self.out.push((due.iface.clone(), announcement(&due, port)));
            }
        }
        std::mem::take(&mut self.out)
    }

    pub fn next_deadline(&self) -> Instant {
        let asking = self.asking.values().min().copied();
        let deadlines =
            [self.schedule.next_deadline(), self.conflicts.next_deadline(), asking, self.resolver.next_deadline()];
        deadlines.into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_that_nobody_waits_on_any_more_wakes_the_node_once_at_the_most() {
        let mut voice = Voice::new();
        let eth0 = InterfaceName::new("eth0").unwrap();
        let interface = LocalInterface { usable: true, mac: [2, 0, 0, 0, 0, 1], ..LocalInterface::default() };
        voice.set_interfaces(Instant::ZERO, &BTreeMap::from([(eth0.clone(), interface)]));
        let vip = "10.0.0.7".parse().unwrap();
        assert!(!voice.is_free(Instant::ZERO, &eth0, vip), "it is asked for first");
        let due = voice.next_deadline();
        assert_eq!(due, Instant::ZERO + ASK_PATIENCE);
        voice.poll(due);
        assert_eq!(voice.next_deadline(), Instant::NEVER);
        assert!(voice.is_free(due, &eth0, vip), "nobody answered");
    }
}
