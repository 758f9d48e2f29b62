//! The list of live members, kept by foca: it finds nodes, spreads who lives, and notices slow deaths.
//!
//! In: foca's messages, which ride on heartbeats; identities as the protocol knows them. Out: messages for peers, and
//! who is alive, suspect or down. Not here: moving a VIP. foca's Down is one accuser's word, so it only shows in the
//! status; what a view excludes is told to foca, so that there is one list.
//!
//! foca's identities are `name@epoch.n`: name and epoch are the protocol's, n counts foca's own renewals.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use foca::{
    AccumulatingRuntime, Config, Foca, Member, NoCustomBroadcast, OwnedNotification, PostcardCodec, State, Timer,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::NodeName;
use crate::time::Instant;

/// foca's messages leave room for the heartbeat that carries them.
const MESSAGE: usize = 900;

/// An identity as foca sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Id {
    name: NodeName,
    epoch: u64,
    renewals: u32,
}

impl foca::Identity for Id {
    type Addr = NodeName;

    /// The engine changes identities itself, so that foca's view of this node and the protocol's stay one.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> NodeName {
        self.name.clone()
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.epoch, self.renewals) > (other.epoch, other.renewals)
    }
}

/// How foca finds a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answers.
    Alive,
    /// Somebody got no answer of it.
    Suspect,
    /// It is down, or left.
    Down,
}

/// The list.
pub struct MemberList {
    foca: Foca<Id, PostcardCodec, ChaCha8Rng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Id>,
    timers: BTreeMap<(Instant, u64), Timer<Id>>,
    armed: u64,
    /// Junk and misuse that foca refused; nothing changes by it.
    refused: u64,
    outbox: Vec<(NodeName, Vec<u8>)>,
}

impl std::fmt::Debug for MemberList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemberList").field("me", self.foca.identity()).finish_non_exhaustive()
    }
}

/// foca's times: its messages wait for the next heartbeat, so a round trip takes up to two of them.
fn config(heartbeat: Duration) -> Config {
    let mut config = Config::new_lan(NonZeroU32::new(8).expect("eight is not zero"));
    config.probe_rtt = heartbeat * 5;
    config.probe_period = heartbeat * 15;
    config.suspect_to_down_after = heartbeat * 60;
    // Long after a view has spoken: a name comes back under a later epoch in any case.
    config.remove_down_after = Some(Duration::from_secs(120));
    config.max_packet_size = NonZeroUsize::new(MESSAGE).expect("not zero");
    // What is new rides on probes; heartbeats say the rest. So foca adds nothing at rest but its probes.
    config.periodic_gossip = None;
    config
}

impl MemberList {
    /// A list that knows of this node alone.
    pub fn new(me: &NodeName, epoch: u64, heartbeat: Duration) -> Self {
        let mut seed = [0; 32];
        seed.copy_from_slice(&Digest::of(format!("{me}@{epoch}").as_bytes()).0);
        let id = Id { name: me.clone(), epoch, renewals: 0 };
        Self {
            foca: Foca::new(id, config(heartbeat), ChaCha8Rng::from_seed(seed), PostcardCodec),
            runtime: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            armed: 0,
            refused: 0,
            outbox: Vec::new(),
        }
    }

    /// A message of foca's came with a heartbeat.
    pub fn hear(&mut self, now: Instant, message: &[u8]) {
        let result = self.foca.handle_data(message, &mut self.runtime);
        self.settle(now, result);
    }

    /// A peer is heard under an identity that the list may lack: foca asks it who else there is.
    pub fn meet(&mut self, now: Instant, name: &NodeName, epoch: u64) {
        let known = self
            .foca
            .iter_membership_state()
            .any(|member| member.id().name == *name && (member.id().epoch > epoch || (member.id().epoch == epoch)));
        if known {
            return;
        }
        let id = Id { name: name.clone(), epoch, renewals: 0 };
        let result = self.foca.apply_many(std::iter::once(Member::alive(id.clone())), true, &mut self.runtime);
        self.settle(now, result);
        let result = self.foca.announce(id, &mut self.runtime);
        self.settle(now, result);
    }

    /// A view left this identity out: it is down, whatever foca thought.
    pub fn exclude(&mut self, now: Instant, name: &NodeName, epoch: u64) {
        let known = self
            .foca
            .iter_membership_state()
            .find(|member| member.id().name == *name && member.id().epoch <= epoch && member.state() != State::Down);
        let Some(id) = known.map(|member| member.id().clone()) else { return };
        let result = self.foca.apply_many(std::iter::once(Member::down(id)), true, &mut self.runtime);
        self.settle(now, result);
    }

    /// This node lives on under a later epoch.
    pub fn renew(&mut self, now: Instant, epoch: u64) {
        let me = self.foca.identity();
        if me.epoch == epoch {
            return;
        }
        let id = Id { name: me.name.clone(), epoch, renewals: 0 };
        let result = self.foca.change_identity(id, &mut self.runtime);
        self.settle(now, result);
    }

    /// Timers that are due.
    pub fn tick(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let timer = entry.remove();
            let result = self.foca.handle_timer(timer, &mut self.runtime);
            self.settle(now, result);
        }
    }

    /// When to tick next.
    pub fn due(&self) -> Instant {
        self.timers.first_key_value().map_or(Instant::NEVER, |((at, _), _)| *at)
    }

    /// What is to ride on the next heartbeats, and to whom.
    pub fn take_messages(&mut self) -> Vec<(NodeName, Vec<u8>)> {
        std::mem::take(&mut self.outbox)
    }

    /// How foca finds a node; nothing where it never heard of it.
    pub fn standing(&self, name: &NodeName) -> Option<Standing> {
        let member = self.foca.iter_membership_state().find(|member| member.id().name == *name)?;
        Some(match member.state() {
            State::Alive => Standing::Alive,
            State::Suspect => Standing::Suspect,
            State::Down => Standing::Down,
        })
    }

    /// Messages that foca refused.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Turns what foca wants into values; a node that foca gave up is renewed without costing an epoch.
    fn settle(&mut self, now: Instant, result: Result<(), foca::Error>) {
        self.refused += u64::from(result.is_err());
        let mut defunct = false;
        while let Some(notice) = self.runtime.to_notify() {
            defunct |= matches!(notice, OwnedNotification::Defunct);
        }
        while let Some((after, timer)) = self.runtime.to_schedule() {
            self.armed += 1;
            self.timers.insert((now + after, self.armed), timer);
        }
        while let Some((to, data)) = self.runtime.to_send() {
            self.outbox.push((to.name, data.to_vec()));
        }
        if defunct {
            let me = self.foca.identity();
            let id = Id { renewals: me.renewals + 1, ..me.clone() };
            let result = self.foca.change_identity(id, &mut self.runtime);
            self.settle(now, result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_millis(100);

    fn name(text: &str) -> NodeName {
        NodeName::new(text).unwrap()
    }

    /// Carries messages between lists until the given time, each within a heartbeat, but for those to `deaf`.
    fn carry(lists: &mut [(&str, MemberList)], from: Instant, until: Instant, deaf: &str) {
        let mut now = from;
        while now < until {
            now = now + HEARTBEAT;
            let mut mail = Vec::new();
            for (who, list) in lists.iter_mut().filter(|(who, _)| *who != deaf) {
                list.tick(now);
                mail.extend(list.take_messages().into_iter().map(|(to, message)| (who.to_owned(), to, message)));
            }
            for (_, to, message) in mail {
                if let Some((_, list)) = lists.iter_mut().find(|(who, _)| *who == to.as_str() && *who != deaf) {
                    list.hear(now, &message);
                }
            }
        }
    }

    fn three() -> Vec<(&'static str, MemberList)> {
        ["a", "b", "c"].map(|who| (who, MemberList::new(&name(who), 1, HEARTBEAT))).into_iter().collect()
    }

    #[test]
    fn whoever_meets_one_node_finds_them_all() {
        let mut lists = three();
        lists[0].1.meet(Instant::ZERO, &name("b"), 1);
        lists[1].1.meet(Instant::ZERO, &name("c"), 1);
        carry(&mut lists, Instant::ZERO, Instant::ZERO + Duration::from_secs(10), "");
        assert_eq!(lists[0].1.standing(&name("c")), Some(Standing::Alive));
        assert_eq!(lists[2].1.standing(&name("a")), Some(Standing::Alive));
    }

    #[test]
    fn a_node_that_answers_nobody_is_suspected_and_then_down() {
        let mut lists = three();
        lists[0].1.meet(Instant::ZERO, &name("b"), 1);
        lists[0].1.meet(Instant::ZERO, &name("c"), 1);
        let met = Instant::ZERO + Duration::from_secs(5);
        carry(&mut lists, Instant::ZERO, met, "");
        carry(&mut lists, met, met + Duration::from_secs(30), "c");
        assert_eq!(lists[0].1.standing(&name("c")), Some(Standing::Down));
        assert_eq!(lists[0].1.standing(&name("b")), Some(Standing::Alive));
    }

    #[test]
    fn what_a_view_excludes_is_down_until_it_comes_back_under_a_later_epoch() {
        let mut lists = three();
        lists[0].1.meet(Instant::ZERO, &name("b"), 1);
        carry(&mut lists, Instant::ZERO, Instant::ZERO + Duration::from_secs(2), "");
        let now = Instant::ZERO + Duration::from_secs(2);
        lists[0].1.exclude(now, &name("b"), 1);
        assert_eq!(lists[0].1.standing(&name("b")), Some(Standing::Down));
        lists[0].1.meet(now, &name("b"), 2);
        assert_eq!(lists[0].1.standing(&name("b")), Some(Standing::Alive));
    }

    #[test]
    fn junk_changes_nothing_and_is_counted() {
        let mut list = MemberList::new(&name("a"), 1, HEARTBEAT);
        list.hear(Instant::ZERO, b"junk");
        list.hear(Instant::ZERO, &[]);
        assert_eq!(list.refused(), 2);
        assert!(list.take_messages().is_empty());
    }
}
