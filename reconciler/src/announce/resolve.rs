//! Does the wire say what the owner says?
//!
//! In: VIPs of other nodes that this node is to look after, with the MAC addresses that may answer; claims heard. Out:
//! VIPs to ask for now, and what the wire contradicts. Not here: which node asks for which VIP (the engine), the frame
//! of a question (`frames`), strangers that speak unasked (`conflict`).
//!
//! A VIP is asked for soon after it changed, and now and then after that, a few questions a second for all of them. One
//! odd answer proves nothing: a hand-over may be under way, a frame may be lost. Three in a row do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::conflict::{Claim, Kind};
use crate::name::InterfaceName;
use crate::time::Instant;
use crate::vip::Vip;
use crate::wire::ethernet::MacAddr;

/// What changed is asked for when the announcements of the hand-over are out.
const SETTLE: Duration = Duration::from_secs(1);
/// Answers to one question are awaited for so long; the next one after a miss follows at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many questions in a row must go wrong.
const MISSES: u8 = 3;
/// What is contradicted is asked for again after so long.
const WRONG_AGAIN: Duration = Duration::from_secs(10);
/// What is right is.
const RIGHT_AGAIN: Duration = Duration::from_secs(300);

/// A VIP to look after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Ask there.
    pub iface: InterfaceName,
    /// The MAC addresses of its owner.
    pub macs: Vec<[u8; 6]>,
}

/// What the wire says against the owner's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contradiction {
    /// Nobody answers for the VIP.
    Silence,
    /// Somebody else does, with or without the owner.
    Other(MacAddr),
}

#[derive(Debug)]
struct Watch {
    expected: Expected,
    /// When to ask next, or until when answers are awaited.
    due: Instant,
    awaiting: bool,
    owner_answered: bool,
    other_answered: Option<MacAddr>,
    misses: u8,
    contradiction: Option<Contradiction>,
}

/// Asks for VIPs of other nodes.
#[derive(Debug)]
pub struct Resolver {
    /// Between two questions.
    pause: Duration,
    free_at: Instant,
    watched: BTreeMap<Vip, Watch>,
    /// When each is to be asked for. Whose time is over and who still waits stands first, as it became due.
    questions: BTreeSet<(Instant, Vip)>,
    /// Until when answers are awaited.
    answers: BTreeSet<(Instant, Vip)>,
}

impl Resolver {
    /// Nothing to look after, and so many questions a second at the most.
    pub fn new(rate: u32) -> Self {
        Self {
            pause: Duration::from_secs(1) / rate.max(1),
            free_at: Instant::ZERO,
            watched: BTreeMap::new(),
            questions: BTreeSet::new(),
            answers: BTreeSet::new(),
        }
    }

    /// These are to be looked after, and no others. What did not change keeps its time.
    pub fn set(&mut self, now: Instant, wanted: BTreeMap<Vip, Expected>) {
        let gone: Vec<Vip> = self.watched.keys().filter(|vip| !wanted.contains_key(vip)).copied().collect();
        for vip in gone {
            self.forget(vip);
        }
        for (vip, expected) in wanted {
            if self.watched.get(&vip).is_some_and(|watch| watch.expected == expected) {
                continue;
            }
            self.forget(vip);
            let due = now + SETTLE;
            self.questions.insert((due, vip));
            let watch = Watch {
                expected,
                due,
                awaiting: false,
                owner_answered: false,
                other_answered: None,
                misses: 0,
                contradiction: None,
            };
            self.watched.insert(vip, watch);
        }
    }

    /// What is expected of a VIP that is looked after.
    pub fn expected(&self, vip: Vip) -> Option<&Expected> {
        self.watched.get(&vip).map(|watch| &watch.expected)
    }

    fn forget(&mut self, vip: Vip) {
        if let Some(watch) = self.watched.remove(&vip) {
            let queue = if watch.awaiting { &mut self.answers } else { &mut self.questions };
            queue.remove(&(watch.due, vip));
        }
    }

    /// Somebody spoke for a VIP.
    pub fn heard(&mut self, claim: &Claim) {
        let Some(watch) = self.watched.get_mut(&claim.vip) else { return };
        if !watch.awaiting || claim.iface != watch.expected.iface || claim.kind != Kind::Answered {
            return;
        }
        if watch.expected.macs.contains(&claim.mac.0) {
            watch.owner_answered = true;
        } else {
            watch.other_answered = Some(claim.mac);
        }
    }

    /// What to ask for now, each on its interface.
    pub fn poll(&mut self, now: Instant) -> Vec<(InterfaceName, Vip)> {
        while let Some(vip) = take_due(&mut self.answers, now) {
            if let Some(watch) = self.watched.get_mut(&vip) {
                watch.due = watch.judge(now);
                self.questions.insert((watch.due, vip));
            }
        }
        let mut asked = Vec::new();
        while self.free_at <= now
            && let Some(vip) = take_due(&mut self.questions, now)
        {
            if let Some(watch) = self.watched.get_mut(&vip) {
                self.free_at = now + self.pause;
                (watch.awaiting, watch.owner_answered, watch.other_answered) = (true, false, None);
                watch.due = now + PATIENCE;
                self.answers.insert((watch.due, vip));
                asked.push((watch.expected.iface.clone(), vip));
            }
        }
        asked
    }

    /// When to poll next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let question = self.questions.first().map(|(due, _)| (*due).max(self.free_at));
        let answer = self.answers.first().map(|(until, _)| *until);
        question.into_iter().chain(answer).min()
    }

    /// What the wire contradicts.
    pub fn contradictions(&self) -> impl Iterator<Item = (Vip, Contradiction)> + '_ {
        self.watched.iter().filter_map(|(vip, watch)| Some((*vip, watch.contradiction?)))
    }
}

/// The first of a queue, if its time has come.
fn take_due(queue: &mut BTreeSet<(Instant, Vip)>, now: Instant) -> Option<Vip> {
    if queue.first()?.0 > now {
        return None;
    }
    queue.pop_first().map(|(_, vip)| vip)
}

impl Watch {
    /// The time for answers is over. When to ask again.
    fn judge(&mut self, now: Instant) -> Instant {
        self.awaiting = false;
        let wrong = match (self.owner_answered, self.other_answered) {
            (true, None) => None,
            (_, Some(mac)) => Some(Contradiction::Other(mac)),
            (false, None) => Some(Contradiction::Silence),
        };
        if wrong.is_none() {
            (self.misses, self.contradiction) = (0, None);
            return now + RIGHT_AGAIN;
        }
        self.misses = self.misses.saturating_add(1);
        if self.misses < MISSES {
            return now;
        }
        self.contradiction = wrong;
        now + WRONG_AGAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0b]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x0c]);

    fn vip(n: u8) -> Vip {
        format!("10.99.0.{n}").parse().unwrap()
    }

    fn expected() -> Expected {
        Expected { iface: InterfaceName::new("eth0").unwrap(), macs: vec![OWNER.0] }
    }

    fn watching(vips: impl IntoIterator<Item = u8>) -> Resolver {
        let mut resolver = Resolver::new(10);
        resolver.set(Instant::ZERO, vips.into_iter().map(|n| (vip(n), expected())).collect());
        resolver
    }

    /// Runs until `seconds` have passed; each question is answered by those whom `answers` names, with their kind.
    fn run(resolver: &mut Resolver, seconds: u64, answers: impl Fn(Vip) -> Vec<(MacAddr, Kind)>) -> Vec<(u64, Vip)> {
        let mut asked = Vec::new();
        while let Some(now) = resolver.next_deadline().filter(|at| *at <= Instant::from_micros(seconds * 1_000_000)) {
            for (iface, vip) in resolver.poll(now) {
                asked.push((now.as_micros() / 1_000, vip));
                for (mac, kind) in answers(vip) {
                    resolver.heard(&Claim { iface: iface.clone(), vip, mac, kind });
                }
            }
        }
        asked
    }

    fn contradictions(resolver: &Resolver) -> Vec<(Vip, Contradiction)> {
        resolver.contradictions().collect()
    }

    #[test]
    fn a_vip_whose_owner_answers_is_asked_for_after_a_change_and_every_five_minutes() {
        let mut resolver = watching([7]);
        let asked = run(&mut resolver, 700, |_| vec![(OWNER, Kind::Answered)]);
        assert_eq!(asked, [(1_000, vip(7)), (302_000, vip(7)), (603_000, vip(7))]);
        assert_eq!(contradictions(&resolver), []);
    }

    #[test]
    fn a_vip_for_which_nobody_answers_is_told_of_after_three_questions_and_cleared_by_one_answer() {
        let mut resolver = watching([7]);
        let asked = run(&mut resolver, 3, |_| Vec::new());
        assert_eq!(asked, [(1_000, vip(7)), (2_000, vip(7)), (3_000, vip(7))]);
        assert_eq!(contradictions(&resolver), []);
        run(&mut resolver, 4, |_| Vec::new());
        assert_eq!(contradictions(&resolver), [(vip(7), Contradiction::Silence)]);
        let asked = run(&mut resolver, 20, |_| vec![(OWNER, Kind::Answered)]);
        assert_eq!(asked, [(14_000, vip(7))]);
        assert_eq!(contradictions(&resolver), []);
    }

    #[test]
    fn another_who_answers_is_named_whether_the_owner_answers_too_or_not() {
        for both in [false, true] {
            let mut resolver = watching([7]);
            run(&mut resolver, 4, |_| {
                let owner = both.then_some((OWNER, Kind::Answered));
                owner.into_iter().chain([(OTHER, Kind::Answered)]).collect()
            });
            assert_eq!(contradictions(&resolver), [(vip(7), Contradiction::Other(OTHER))]);
        }
    }

    #[test]
    fn an_announcement_is_no_answer() {
        let mut resolver = watching([7]);
        run(&mut resolver, 4, |_| vec![(OTHER, Kind::Announced), (OWNER, Kind::Announced)]);
        assert_eq!(contradictions(&resolver), [(vip(7), Contradiction::Silence)]);
    }

    #[test]
    fn a_hundred_vips_that_changed_are_asked_for_ten_a_second_each_once() {
        let mut resolver = watching(0..100);
        let asked = run(&mut resolver, 60, |_| vec![(OWNER, Kind::Answered)]);
        assert_eq!(asked.iter().map(|(_, vip)| *vip).collect::<BTreeSet<_>>().len(), 100);
        assert_eq!(asked.len(), 100);
        assert!(asked.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 100), "{asked:?}");
        assert!(asked[99].0 <= 12_000, "{asked:?}");
    }

    #[test]
    fn who_waits_for_a_turn_is_asked_for_in_the_order_of_becoming_due() {
        let mut resolver = Resolver::new(1);
        let set = |vips: &[u8]| -> BTreeMap<Vip, Expected> { vips.iter().map(|n| (vip(*n), expected())).collect() };
        resolver.set(Instant::ZERO, set(&[8, 9]));
        resolver.set(Instant::from_micros(500_000), set(&[7, 8, 9]));
        let asked = run(&mut resolver, 10, |_| vec![(OWNER, Kind::Answered)]);
        assert_eq!(asked, [(1_000, vip(8)), (2_000, vip(9)), (3_000, vip(7))]);
    }

    #[test]
    fn what_did_not_change_is_not_asked_for_again_and_what_is_gone_is_forgotten() {
        let mut resolver = watching([7, 8]);
        run(&mut resolver, 5, |_| Vec::new());
        assert_eq!(contradictions(&resolver).len(), 2);
        resolver.set(Instant::from_micros(5_000_000), [(vip(7), expected())].into());
        assert_eq!(contradictions(&resolver), [(vip(7), Contradiction::Silence)]);
        let moved = Expected { macs: vec![OTHER.0], ..expected() };
        resolver.set(Instant::from_micros(5_000_000), [(vip(7), moved)].into());
        assert_eq!(contradictions(&resolver), []);
        assert_eq!(run(&mut resolver, 60, |_| vec![(OTHER, Kind::Answered)]), [(6_000, vip(7))]);
    }
}
