//! Where every VIP of a repository would be, without asking a cluster.
//!
//! In: `Desired`, the names of nodes that count as alive. Out: [`Forecast`], and a [`Plan`] of two.
//! Not here: reading a repository (`plan`), what a plan looks like (`human`, `json`, `markdown`).
//!
//! Nothing is known of interfaces and checks, so a node that counts as alive can carry everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::manifest::desired::{Desired, Failback, Pool, Profile};
use crate::name::NodeName;
use crate::placement::offer::Offer;
use crate::placement::{Cause, Eligibility, Move, Placement, Ranking, State, eligibility, moves, place};
use crate::vip::Vip;

/// One repository and where its VIPs are.
#[derive(Debug)]
pub struct Forecast {
    /// What the repository declares.
    pub desired: Desired,
    /// The order of nodes.
    pub ranking: Ranking,
    /// Owners and backups.
    pub placement: Placement,
    offers: BTreeMap<NodeName, Arc<Offer>>,
    /// What placement makes of it, where `placement` is what a cluster really does.
    placed: Option<Placement>,
}

impl Forecast {
    /// With every declared node alive, or only those in `live`.
    pub fn new(desired: Desired, live: Option<&BTreeSet<NodeName>>) -> Self {
        Self::after(desired, live, None)
    }

    /// The same, with the help of the forecast that it is compared with: what did not change is not ranked again.
    pub fn after(desired: Desired, live: Option<&BTreeSet<NodeName>>, before: Option<&Self>) -> Self {
        let ideal = Arc::new(Offer::ideal(&desired));
        let alive = desired.nodes.keys().filter(|node| live.is_none_or(|live| live.contains(*node)));
        let offers = alive.map(|node| (node.clone(), Arc::clone(&ideal))).collect();
        let ranking = Ranking::after(&desired, before.map(|before| &before.ranking));
        let placement = place(&desired, &ranking, &offers);
        Self { desired, ranking, placement, offers, placed: None }
    }

    /// So many VIPs each node owns; nodes that own none are in it too.
    pub fn spread(&self) -> BTreeMap<&NodeName, usize> {
        let mut spread: BTreeMap<&NodeName, usize> = self.desired.nodes.keys().map(|node| (node, 0)).collect();
        for owner in (0..self.placement.len()).filter_map(|vip| self.placement.owner(vip)) {
            *spread.entry(owner).or_default() += 1;
        }
        spread
    }

    /// So many VIPs have no owner.
    pub fn unowned(&self) -> usize {
        (0..self.placement.len()).filter(|vip| self.placement.owner(*vip).is_none()).count()
    }

    /// Puts every VIP where it is, instead of where it should be; what is not told of stays as placed.
    pub fn as_it_is<'a>(&mut self, actual: impl Iterator<Item = (Vip, Option<&'a NodeName>)>) {
        self.placed = Some(self.placement.clone());
        for (vip, owner) in actual {
            let Some(index) = self.ranking.index_of(vip) else { continue };
            match owner {
                Some(owner) => self.placement.keep(index, owner),
                None => self.placement.vacate(index),
            }
        }
    }

    fn state(&self) -> State<'_> {
        State { desired: &self.desired, ranking: &self.ranking, offers: &self.offers, placement: &self.placement }
    }

    /// VIPs of suspended pools stay with the owner that they had, as long as it may have them.
    fn keep_suspended(&mut self, before: &Self) {
        for (vip, ranked) in self.ranking.vips().iter().enumerate() {
            // What really runs may be elsewhere than where it should, and a pool that is given back by hand stays there.
            let stays = |pool: &Pool| pool.suspend || (before.placed.is_some() && pool.failback == Failback::Manual);
            if !self.desired.pools.get(&ranked.pool).is_some_and(stays) {
                continue;
            }
            let owner = before.ranking.index_of(ranked.vip).and_then(|old| before.placement.owner(old));
            let able = |owner: &&NodeName| {
                let offer = self.offers.get(*owner).map(Arc::as_ref);
                eligibility(&self.desired, offer, owner, &ranked.pool, ranked.vip) == Eligibility::Eligible
            };
            if let Some(owner) = owner.filter(able) {
                self.placement.keep(vip, owner);
            }
        }
    }
}

/// A repository, what it is compared with, and what moves.
#[derive(Debug)]
pub struct Plan {
    /// What the owners would be.
    pub after: Forecast,
    /// What is compared with, and what the user called it.
    pub base: Option<(Forecast, String)>,
    /// What moves, in order of pool and address; nothing without a base.
    pub moves: Vec<Move>,
}

impl Plan {
    /// The plan of `after` against a base.
    pub fn new(mut after: Forecast, base: Option<(Forecast, String)>) -> Self {
        let moves = match &base {
            Some((before, _)) => {
                after.keep_suspended(before);
                let mut moves = moves(before.state(), after.state());
                for one in &mut moves {
                    // Nothing that is declared moves it: it is on its way already.
                    let placed = before.placed.as_ref().zip(before.ranking.index_of(one.vip));
                    if let (Some((placed, index)), Some(to)) = (placed, &one.to)
                        && placed.owner(index) == Some(to)
                    {
                        one.cause = Cause::Due(to.clone());
                    }
                }
                moves
            }
            None => Vec::new(),
        };
        Self { after, base, moves }
    }

    /// What the clients of a VIP that moves are in for.
    pub fn interruption(&self, one: &Move) -> Interruption {
        match (&one.from, &one.to) {
            (None, _) => Interruption::Begins,
            (Some(_), None) if self.after.ranking.index_of(one.vip).is_some() => Interruption::Unserved,
            (Some(_), None) => Interruption::Ends,
            _ if one.is_planned() => Interruption::None,
            _ => Interruption::takeover(&self.after.desired),
        }
    }

    /// `2 VIPs move, 1 begins, 3 end`.
    pub fn headline(&self) -> String {
        let count = |wanted: &dyn Fn(&Move, Interruption) -> bool| {
            self.moves.iter().filter(|one| wanted(one, self.interruption(one))).count()
        };
        let move_ = count(&|one, _| one.from.is_some() && one.to.is_some());
        let begin = count(&|_, what| what == Interruption::Begins);
        let end = count(&|_, what| what == Interruption::Ends);
        let lost = count(&|_, what| what == Interruption::Unserved);
        let mut parts = Vec::new();
        for (count, one, many) in [
            (move_, "moves", "move"),
            (begin, "begins", "begin"),
            (end, "ends", "end"),
            (lost, "loses its last owner", "lose their last owner"),
        ] {
            if count > 0 {
                parts.push((count, if count == 1 { one } else { many }));
            }
        }
        match &parts[..] {
            [] => "no VIP moves".to_owned(),
            [(count, verb), rest @ ..] => {
                let first = format!("{} {verb}", vips(*count));
                rest.iter().fold(first, |text, (count, verb)| format!("{text}, {count} {verb}"))
            }
        }
    }
}

/// `1 VIP`, `2 VIPs`.
pub fn vips(count: usize) -> String {
    if count == 1 { "1 VIP".to_owned() } else { format!("{count} VIPs") }
}

/// What clients notice of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interruption {
    /// Handed over, make before break.
    None,
    /// Served for the first time.
    Begins,
    /// Taken over from a node that is not there: typically and at most.
    Takeover(Duration, Duration),
    /// No longer declared.
    Ends,
    /// Declared, and no node can have it.
    Unserved,
}

impl Interruption {
    /// What the numbers of the manual promise at this heartbeat: the median and the 99th percentile.
    fn takeover(desired: &Desired) -> Self {
        let heartbeat = desired.cluster.failover.heartbeat;
        let (typical, most) = match desired.cluster.failover.profile {
            Profile::Default => (14, 22),
            Profile::Fast => (10, 17),
        };
        Self::Takeover(heartbeat * typical / 10, heartbeat * most / 10)
    }
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Begins => f.write_str("begins"),
            Self::Takeover(typical, most) => {
                write!(f, "{} ms, at most {} ms", typical.as_millis(), most.as_millis())
            }
            Self::Ends => f.write_str("ends"),
            Self::Unserved => f.write_str("not served any more"),
        }
    }
}
