//! Attacks: faults in the order and at the distance at which a missing rule of the protocol would show.
//!
//! In: draws, how many nodes. Out: [`Strike`]s with the time of each. Not here: carrying them out (`world`),
//! faults that are drawn one by one (`faults`).
//!
//! Each attack is the counter-example to one rule, in real time: who is cut off from whom and when, so that two
//! nodes would answer if that rule were not kept. Roles and times are drawn, so that each run of it is another.
//! Times are for the default profile (L 165 ms, D 168 ms); others see them as mere weather.

use std::collections::BTreeSet;
use std::time::Duration;

use super::random::Random;

/// One thing that an attack does.
#[derive(Debug, Clone)]
pub(super) enum Strike {
    /// From the one nothing reaches the other.
    Cut(usize, usize),
    /// It does again.
    Mend(usize, usize),
    /// The machine dies and comes back.
    KillHost { node: usize, down: Duration },
    /// The machine dies and comes back with an empty disk.
    Reinstall { node: usize, down: Duration },
    /// A planned stop; it is started again later.
    Leave(usize),
    /// Drained, or no longer.
    Drain { node: usize, on: bool },
    /// The kernel refuses it another VIP that it holds.
    Refuse(usize),
    /// A revision that declares these; these load it, within so many milliseconds.
    Declare { names: BTreeSet<usize>, by: BTreeSet<usize>, within: u64 },
    /// It tells everybody how it stands, out of turn.
    Speak(usize),
    /// It cannot reach its git server, or can again.
    GitAway { node: usize, on: bool },
    /// When this node next writes sets of an odd phase (or of an even one) to disk, before it tells anybody.
    WhenItWrites { node: usize, odd: bool, then: Vec<Strike> },
}

/// An attack, named after what would be believed wrongly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// A node that was cut off is heard again before it hears: it could go on where it stopped.
    DeafReturn,
    /// Two drains in a row, and a node that sees only the second.
    SkippedView,
    /// A planned stop.
    PlannedStop,
    /// A node that said of another that it is gone, and hears it again at once.
    HeardAgain,
    /// The same; it is heard again by the one that went on without it.
    AckedFromOutside,
    /// The same; it is taken back at once, while a third still believes what was said before.
    TakenBackAtOnce,
    /// Two changes of the set, each begun by nodes that do not hear the other.
    TwoChanges,
    /// The set shrinks to one node; it is cut off from the others, which restart.
    LeftBehind,
    /// The set grows by a majority, and who was there before does not hear that it is done.
    Outgrown,
    /// The set changes while the lease of a node rests on those that leave it.
    LeaseOfTheOldSet,
    /// All but one restart at once, while that one is cut off and still holds its lease.
    QuickRestart,
    /// All names are replaced, the new ones do not hear the old.
    AllReplaced,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::DeafReturn,
        Self::SkippedView,
        Self::PlannedStop,
        Self::HeardAgain,
        Self::AckedFromOutside,
        Self::TakenBackAtOnce,
        Self::TwoChanges,
        Self::LeftBehind,
        Self::Outgrown,
        Self::LeaseOfTheOldSet,
        Self::QuickRestart,
        Self::AllReplaced,
    ];

    /// How many nodes it takes at least.
    pub const fn nodes(self) -> usize {
        match self {
            Self::TakenBackAtOnce => 5,
            Self::AllReplaced => 6,
            Self::Outgrown | Self::LeaseOfTheOldSet => 7,
            _ => 3,
        }
    }

    /// What is done, each at so many milliseconds from the beginning.
    pub(super) fn strikes(self, random: &mut Random, nodes: usize) -> Vec<(Duration, Strike)> {
        let mut plan = Plan { strikes: Vec::new(), nodes };
        // Three nodes in drawn roles, the others stand by.
        let mut roles: Vec<usize> = (0..nodes).collect();
        for at in (1..nodes).rev() {
            roles.swap(at, random.pick(at + 1));
        }
        match self {
            Self::DeafReturn => deaf_return(&mut plan, random, roles[0]),
            Self::SkippedView => skipped_view(&mut plan, random, &roles),
            Self::PlannedStop => plan.at(random.below(100), Strike::Leave(roles[0])),
            Self::HeardAgain => heard_again(&mut plan, random, &roles),
            Self::AckedFromOutside => acked_from_outside(&mut plan, random, &roles),
            Self::TakenBackAtOnce => taken_back_at_once(&mut plan, random),
            Self::TwoChanges => two_changes(&mut plan, random, nodes),
            Self::LeftBehind => left_behind(&mut plan, random, roles[0]),
            Self::Outgrown => outgrown(&mut plan, random, &roles),
            Self::LeaseOfTheOldSet => lease_of_the_old_set(&mut plan, random, &roles),
            Self::QuickRestart => quick_restart(&mut plan, random, roles[0]),
            Self::AllReplaced => all_replaced(&mut plan, random),
        }
        plan.strikes.sort_by_key(|(at, _)| *at);
        plan.strikes
    }
}

/// Strikes as they are put down, by their time in milliseconds.
struct Plan {
    strikes: Vec<(Duration, Strike)>,
    nodes: usize,
}

impl Plan {
    fn at(&mut self, millis: u64, strike: Strike) {
        self.at_micros(millis * 1000, strike);
    }

    fn at_micros(&mut self, micros: u64, strike: Strike) {
        self.strikes.push((Duration::from_micros(micros), strike));
    }

    fn others(&self, node: usize) -> Vec<usize> {
        (0..self.nodes).filter(|other| *other != node).collect()
    }

    fn deafen(&mut self, millis: u64, node: usize) {
        self.others(node).into_iter().for_each(|other| self.at(millis, Strike::Cut(other, node)));
    }

    fn mute(&mut self, millis: u64, node: usize) {
        self.others(node).into_iter().for_each(|other| self.at(millis, Strike::Cut(node, other)));
    }

    fn hears_again(&mut self, millis: u64, node: usize) {
        self.others(node).into_iter().for_each(|other| self.at(millis, Strike::Mend(other, node)));
    }

    fn is_heard_again(&mut self, millis: u64, node: usize) {
        self.others(node).into_iter().for_each(|other| self.at(millis, Strike::Mend(node, other)));
    }

    fn declare(&mut self, millis: u64, names: &[usize], by: impl IntoIterator<Item = usize>, within: u64) {
        let names = names.iter().copied().collect();
        self.at(millis, Strike::Declare { names, by: by.into_iter().collect(), within });
    }
}

/// Cut off until its lease is over, then heard for long enough to be taken in again, and only then hearing.
fn deaf_return(plan: &mut Plan, random: &mut Random, node: usize) {
    plan.deafen(0, node);
    plan.mute(0, node);
    let heard = random.between(170, 500);
    plan.is_heard_again(heard, node);
    plan.hears_again(heard + random.between(2000, 5000), node);
}

/// `owner` drains and its VIPs go to `next`, which drains at once and does not hear that they went on to `last`;
/// `last` saw nothing of the view in between.
fn skipped_view(plan: &mut Plan, random: &mut Random, roles: &[usize]) {
    let (owner, next, last) = (roles[0], roles[1], roles[2]);
    plan.deafen(0, last);
    plan.at(1, Strike::Drain { node: owner, on: true });
    let second = random.between(2, 9);
    plan.at(second, Strike::Drain { node: next, on: true });
    let deaf = second * 1000 + random.below(150);
    for other in plan.others(next) {
        plan.at_micros(deaf, Strike::Cut(other, next));
    }
    plan.hears_again(second, last);
    plan.hears_again(second + 400, next);
}

/// The beginning of two attacks: `third` finds `owner` silent, says so, and hears it again; then `voter` finds it
/// silent too, and believes that both do. Returns when `voter` proposes to go on without it, in milliseconds.
fn verdict_taken_back(plan: &mut Plan, gap: u64, roles: &[usize]) -> u64 {
    let (owner, voter, third) = (roles[0], roles[1], roles[2]);
    plan.at(0, Strike::Speak(owner));
    plan.at(1, Strike::Cut(owner, third));
    plan.at(gap, Strike::Speak(owner));
    plan.at(gap + 1, Strike::Cut(owner, voter));
    // D later, and a bit for clocks that are slow.
    let verdict = 168 + 2;
    plan.at(verdict, Strike::Cut(third, voter));
    plan.at(verdict, Strike::Mend(owner, third));
    plan.at(verdict, Strike::Speak(owner));
    plan.at(verdict + 1, Strike::Speak(third));
    let out = gap + verdict;
    plan.at(out + 1, Strike::Mend(third, voter));
    out
}

/// `third` hears `owner` again, and is then offered the view without it.
fn heard_again(plan: &mut Plan, random: &mut Random, roles: &[usize]) {
    verdict_taken_back(plan, random.between(8, 95), roles);
}

/// `voter` hears `owner` again after it went on without it, just when `third` hears it no longer.
fn acked_from_outside(plan: &mut Plan, random: &mut Random, roles: &[usize]) {
    let (owner, voter, third) = (roles[0], roles[1], roles[2]);
    let gap = random.between(45, 95);
    let out = verdict_taken_back(plan, gap, roles);
    plan.at(170 + 3, Strike::Cut(owner, third));
    plan.at(170 + 3, Strike::Cut(voter, third));
    plan.at(out + 2, Strike::Mend(owner, voter));
    plan.at(out + 2, Strike::Speak(owner));
    plan.at(out + 3, Strike::Speak(voter));
    plan.at(out + random.between(60, 95), Strike::Mend(voter, third));
}

/// `b` and `c` go on without `a`, because `e` had said too that it is silent; `a` overbids and they take it back, and
/// `e`, which heard `a` in between, finds it silent again and acts on what they said before.
fn taken_back_at_once(plan: &mut Plan, random: &mut Random) {
    // By name: who is overbid waits longer the later its name comes.
    let [a, b, c, d, e] = [0, 1, 2, 3, 4];
    plan.at(0, Strike::Speak(a));
    plan.at(1, Strike::Cut(a, e));
    let gap = random.between(25, 90);
    plan.at(gap, Strike::Speak(a));
    plan.at(gap + 1, Strike::Cut(a, b));
    plan.at(gap + 1, Strike::Cut(a, c));
    // `e` is heard no more by those that believe what it said last, and gives `a` some time more.
    plan.at(gap + 149, Strike::Cut(e, b));
    plan.at(gap + 149, Strike::Cut(e, c));
    plan.at(gap + 149, Strike::Mend(a, e));
    plan.at(gap + 150, Strike::Speak(a));
    plan.at(gap + 151, Strike::Cut(a, e));
    plan.at(gap + 151, Strike::Speak(e));
    // `b` and `c` have gone on.
    for (from, to) in [(e, b), (e, c), (a, b), (a, c)] {
        plan.at(gap + 171, Strike::Mend(from, to));
    }
    // `a` is about to overbid.
    for from in [b, c, d] {
        plan.at(gap + random.between(215, 226), Strike::Cut(from, e));
    }
    plan.is_heard_again(gap + 500, a);
    plan.hears_again(gap + 500, e);
}

/// The first change is known to one node only, which goes on changing its view while nobody hears it; the others
/// begin and complete the second one. Then those that the second one left behind meet the first one.
fn two_changes(plan: &mut Plan, random: &mut Random, nodes: usize) {
    let all: Vec<usize> = (0..nodes).collect();
    // The first by name proposes first.
    let first = 0;
    let kept = 1 + random.pick(nodes - 1);
    let rest: Vec<usize> = all.iter().copied().filter(|node| *node != kept).collect();
    let second = Strike::Declare { names: [kept].into(), by: plan.others(first).into_iter().collect(), within: 10 };
    let mut then: Vec<Strike> = plan.others(first).into_iter().map(|other| Strike::Cut(first, other)).collect();
    then.extend(plan.others(first).into_iter().map(|other| Strike::Cut(other, first)));
    then.push(second);
    plan.at(0, Strike::WhenItWrites { node: first, odd: true, then });
    plan.declare(0, &rest, all.clone(), 1);
    for step in 0..4 {
        plan.at(random.between(30, 60) + step * 15, Strike::Refuse(first));
    }
    let apart = 5000 + random.below(2000);
    plan.mute(apart, kept);
    plan.deafen(apart, kept);
    for other in rest.iter().copied().filter(|other| *other != first) {
        plan.at(apart, Strike::Mend(first, other));
        plan.at(apart, Strike::Mend(other, first));
    }
    plan.declare(apart + 10, &all, 0..nodes, 30);
    plan.hears_again(apart + 8000, kept);
    plan.is_heard_again(apart + 8000, kept);
}

/// The set becomes `kept` alone; then it is cut off, the others restart, and all are declared again.
fn left_behind(plan: &mut Plan, random: &mut Random, kept: usize) {
    let all: Vec<usize> = (0..plan.nodes).collect();
    plan.declare(0, &[kept], all.clone(), 50);
    let apart = random.between(300, 4000);
    plan.mute(apart, kept);
    plan.deafen(apart, kept);
    plan.declare(apart + 10, &all, all.clone(), 50);
    for node in plan.others(kept) {
        let down = Duration::from_millis(random.between(50, 300));
        plan.at(apart + 100, Strike::KillHost { node, down });
    }
    plan.hears_again(apart + 8000, kept);
    plan.is_heard_again(apart + 8000, kept);
}

/// Four join three and are a majority without them. They agree to the change without being heard; once the new set
/// alone counts for them, they hear the three no more, which still count by the old one.
fn outgrown(plan: &mut Plan, random: &mut Random, roles: &[usize]) {
    let (old, new) = (&roles[..3], &roles[3..7]);
    plan.declare(0, old, 0..plan.nodes, 50);
    for new in new {
        let mute = old.iter().map(|old| Strike::Cut(*new, *old)).collect();
        plan.at(8000, Strike::WhenItWrites { node: *new, odd: true, then: mute });
        let deaf = old.iter().map(|old| Strike::Cut(*old, *new)).collect();
        plan.at(8000, Strike::WhenItWrites { node: *new, odd: false, then: deaf });
    }
    plan.declare(9000, &roles[..7], 0..plan.nodes, 50);
    let end = random.between(12_500, 15_000);
    for new in new {
        plan.hears_again(end, *new);
        plan.is_heard_again(end, *new);
    }
}

/// Four join three and are a majority without them. Only one of the three hears `owner` still, and is the
/// last to load the change, so that this comes when it hurts.
fn lease_of_the_old_set(plan: &mut Plan, random: &mut Random, roles: &[usize]) {
    // The first by name proposes first; the owner would propose last.
    let mut roles = roles[..7].to_vec();
    roles.sort_unstable();
    let (last, new, owner) = (roles[1], &roles[2..6], roles[6]);
    plan.declare(0, &[roles[0], last, owner], 0..plan.nodes, 50);
    plan.at(8000, Strike::GitAway { node: last, on: true });
    plan.declare(9000, &roles, 0..plan.nodes, 50);
    let cut = 13_000 + random.below(100);
    let change = cut + random.between(10, 165);
    plan.at(change, Strike::GitAway { node: last, on: false });
    for other in new.iter().chain(&roles[..1]) {
        plan.at(cut, Strike::Cut(owner, *other));
        plan.at(change + 2500, Strike::Mend(owner, *other));
    }
}

/// Everybody but `holder` has forgotten what it promised, while the holder's lease goes on.
fn quick_restart(plan: &mut Plan, random: &mut Random, holder: usize) {
    let at = random.between(100, 200);
    plan.mute(at, holder);
    plan.deafen(at, holder);
    for node in plan.others(holder) {
        let down = Duration::from_millis(random.between(5, 30));
        plan.at(at + random.below(6), Strike::KillHost { node, down });
    }
    plan.hears_again(at + 1500, holder);
    plan.is_heard_again(at + 1500, holder);
}

/// Half of the names are the cluster; then the other half, which never heard it, is declared in their place.
fn all_replaced(plan: &mut Plan, random: &mut Random) {
    let half = plan.nodes / 2;
    let (old, new): (Vec<usize>, Vec<usize>) = ((0..half).collect(), (half..plan.nodes).collect());
    plan.declare(0, &old, 0..plan.nodes, 50);
    for node in &new {
        plan.at(12_000, Strike::Reinstall { node: *node, down: Duration::from_millis(500) });
        for other in &old {
            plan.at(12_000, Strike::Cut(*node, *other));
            plan.at(12_000, Strike::Cut(*other, *node));
        }
    }
    let told = if random.below(2) == 0 { new.clone() } else { (0..plan.nodes).collect() };
    plan.declare(12_100, &new, told, 50);
    for node in &new {
        for other in &old {
            plan.at(25_000, Strike::Mend(*node, *other));
            plan.at(25_000, Strike::Mend(*other, *node));
        }
    }
    plan.declare(25_000, &new, 0..plan.nodes, 50);
}
