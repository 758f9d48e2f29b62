//! What a node knows at one moment, handed out whole: the source of every snapshot and of `why`.
//!
//! In: the engine. Out: [`Report`], cheap to clone, and the [`Snapshot`] made of it. Not here: rendering (`status`, `cli`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Engine;
use super::alone::ServedAlone;
use super::generation::Generation;
use super::offer::KEPT;
use crate::announce::conflict::Foreign;
use crate::membership::list::Standing;
use crate::membership::record::NodeRecord;
use crate::membership::view::View;
use crate::name::NodeName;
use crate::placement::offer::Offer;
use crate::placement::{Eligibility, Placement, Reason, explain};
use crate::status::condition::{Condition, ConditionType, Truth};
use crate::status::snapshot::{MemberState, MemberStatus, Note, Snapshot, ViewStatus, VipState, VipStatus};
use crate::status::wall::Wall;
use crate::time::Instant;
use crate::vip::Vip;

/// The reason, for programs, why nobody can say that there is but one owner.
pub const SERVED_ALONE: &str = "ServedAlone";
/// The reason, for programs, why a VIP is answered for though its checks fail.
pub const ALL_CHECKS_FAILING: &str = "AllChecksFailing";
/// What [`SERVED_ALONE`] is for people.
const ALONE: &str = "served alone, without quorum: two owners are possible";

/// What is known of one node.
#[derive(Debug, Clone)]
pub struct Known {
    /// How it is.
    pub state: MemberState,
    /// Its record, if it told one.
    pub record: Option<Arc<NodeRecord>>,
    /// What it offers as a member of the view.
    pub offer: Option<Arc<Offer>>,
    /// What it says that it could carry, member or not.
    pub says: Option<Arc<Offer>>,
}

/// What a node knows at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// Who says so.
    pub node: NodeName,
    /// The view accepted.
    pub view: Option<Arc<View>>,
    /// Is it established, as far as this node can tell?
    pub established: bool,
    /// Is it settled?
    pub settled: bool,
    /// Does this node have a lease?
    pub lease: bool,
    /// Does it drain?
    pub draining: bool,
    /// The generation in force.
    pub generation: Option<Arc<Generation>>,
    /// The newest generation loaded.
    pub newest: Option<Arc<Generation>>,
    /// Owners in the view.
    pub placement: Option<Arc<Placement>>,
    /// Owners in the view before it, with the generation that it had.
    pub before: Option<(Arc<Generation>, Arc<Placement>)>,
    /// VIPs that stand on this host and are answered for.
    pub attached: Arc<BTreeSet<Vip>>,
    /// Among whom VIPs are served alone, while this node has no view.
    pub alone: Option<ServedAlone>,
    /// VIPs that are held and by no view.
    pub held_alone: Arc<BTreeSet<Vip>>,
    /// Every node that is declared or a member.
    pub nodes: BTreeMap<NodeName, Known>,
    /// Declared nodes that are not heard.
    pub missing: Vec<NodeName>,
    /// Strangers that claim VIPs.
    pub foreign: BTreeMap<Vip, Foreign>,
    /// VIPs that this node's kernel refused, and why.
    pub refused: BTreeMap<Vip, String>,
    /// Datagrams dropped as stale or from strangers.
    pub unheard: u64,
    /// How often this node lost its lease.
    pub lapses: u64,
}

impl Engine {
    /// What this node knows now.
    pub fn report(&self, now: Instant) -> Report {
        let protocol = &self.protocol;
        let view = protocol.accepted().cloned();
        let mut names: BTreeSet<NodeName> = protocol.peers().cloned().collect();
        names.extend(self.newest.iter().flat_map(|generation| generation.desired.nodes.keys().cloned()));
        names.extend(view.iter().flat_map(|view| view.members().keys().cloned()));
        names.insert(protocol.me().clone());
        let nodes: BTreeMap<NodeName, Known> = names
            .into_iter()
            .map(|name| {
                let member = view.as_ref().and_then(|view| view.members().get(&name));
                let me = name == *protocol.me();
                let hears = me || protocol.hears(now, &name);
                let left = if me { protocol.said_goodbye() } else { protocol.has_left(&name) };
                let suspect = self.list.standing(&name) == Some(Standing::Suspect);
                let state = match (member.is_some(), hears) {
                    _ if left => MemberState::Left,
                    (true, true) if suspect => MemberState::Suspect,
                    (true, true) => MemberState::Alive,
                    (true, false) => MemberState::Suspect,
                    (false, _) => MemberState::Dead,
                };
                let record = if me { Some(protocol.record()) } else { protocol.record_of(&name) };
                let offer = member.and_then(|member| protocol.offer_body(&member.offer));
                let says =
                    if me { Some(protocol.own_offer()) } else { protocol.peer_now(&name).and_then(|(_, it)| it) };
                let known = Known { state, record: record.cloned(), offer: offer.cloned(), says: says.cloned() };
                (name, known)
            })
            .collect();
        let missing = self
            .newest
            .iter()
            .flat_map(|generation| generation.desired.nodes.keys())
            .filter(|name| *name != protocol.me() && !protocol.hears(now, name))
            .cloned()
            .collect();
        let before = protocol.before().and_then(|before| {
            let generation = self.generations.get(&before.body().generation)?;
            Some((generation.clone(), self.placements.get(&before.id())?.clone()))
        });
        Report {
            node: protocol.me().clone(),
            established: protocol.is_established(now),
            settled: protocol.is_settled(),
            lease: protocol.lease().is_some(),
            draining: protocol.is_draining(),
            generation: self.in_force().cloned(),
            newest: self.newest.clone(),
            placement: view.as_ref().and_then(|view| self.placements.get(&view.id())).cloned(),
            before,
            view,
            attached: self.attached.clone(),
            alone: self.alone.report(),
            held_alone: self.alone.held().clone(),
            nodes,
            missing,
            foreign: self.voice.foreigners().collect(),
            refused: self
                .own
                .forbidden
                .iter()
                .map(|(vip, reason)| (*vip, reason.clone()))
                .chain(self.own.refused.iter().map(|(vip, (reason, _))| (*vip, reason.clone())))
                .collect(),
            unheard: self.unheard.values().sum(),
            lapses: protocol.lapses(),
        }
    }
}

/// One place of a VIP's ranking, for `why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rank {
    /// The node.
    pub node: NodeName,
    /// May it have the VIP?
    pub eligible: bool,
    /// Why, or why not.
    pub reason: String,
}

impl Report {
    /// Who really has the VIP, as the owner's own record or kernel says: nobody, where it does not say so.
    pub fn actual(&self, index: usize, vip: Vip) -> Option<NodeName> {
        if self.held_alone.contains(&vip) {
            return self.attached.contains(&vip).then(|| self.node.clone());
        }
        if let Some(alone) = self.alone_for(vip) {
            let owner = alone.owner(vip).filter(|owner| **owner != self.node)?;
            let record = self.nodes.get(owner)?.record.as_ref()?;
            return (!record.exceptions.contains_key(&vip)).then(|| owner.clone());
        }
        let owner = self.placement.as_ref()?.owner(index)?;
        if *owner == self.node {
            return self.attached.contains(&vip).then(|| owner.clone());
        }
        let view = self.view.as_ref()?.id();
        let known = self.nodes.get(owner)?;
        let record = known.record.as_ref()?;
        let serves = record.started == Some(view) && !record.exceptions.contains_key(&vip);
        (serves && matches!(known.state, MemberState::Alive | MemberState::Suspect)).then(|| owner.clone())
    }

    /// Is it a VIP that is served by those who are alone?
    pub fn alone_for(&self, vip: Vip) -> Option<&ServedAlone> {
        self.alone.as_ref().filter(|alone| alone.allowed.contains(&vip))
    }

    /// The ranking of a VIP over every declared node.
    pub fn ranking(&self, vip: Vip) -> Vec<Rank> {
        let alone = self.alone_for(vip);
        let by = alone.map(|alone| &alone.generation).or(self.generation.as_ref()).or(self.newest.as_ref());
        let Some(generation) = by else { return Vec::new() };
        let Some(index) = generation.ranking.index_of(vip) else { return Vec::new() };
        let offer = |name: &NodeName, known: &Known| match alone {
            Some(alone) => {
                known.says.clone().filter(|_| alone.nodes.contains(name) && !(self.draining && *name == self.node))
            }
            None => known.offer.clone(),
        };
        let offers: BTreeMap<NodeName, Arc<Offer>> =
            self.nodes.iter().filter_map(|(name, known)| Some((name.clone(), offer(name, known)?))).collect();
        explain(&generation.desired, &generation.ranking, &offers, index)
            .into_iter()
            .map(|candidate| {
                let record = self.nodes.get(&candidate.node).and_then(|known| known.record.as_ref());
                let reason = match (&candidate.eligibility, record.and_then(|record| record.exceptions.get(&vip))) {
                    // The node itself knows better than its offer tells.
                    (Eligibility::No(Reason::Refused(_)), Some(reason)) => reason.clone(),
                    _ => candidate.to_string(),
                };
                Rank { eligible: candidate.is_eligible(), node: candidate.node, reason }
            })
            .collect()
    }

    /// Says in `conditions` that this node serves without a view, where it does.
    pub fn tell_alone(&self, conditions: &mut [Condition]) {
        let Some(alone) = &self.alone else { return };
        let names: Vec<&str> = alone.nodes.iter().map(NodeName::as_str).collect();
        let message = format!(
            "there is no view: {} served by {}, without quorum; two owners are possible",
            match alone.allowed.len() {
                1 => "1 VIP of `available` pools is".to_owned(),
                vips => format!("{vips} VIPs of `available` pools are"),
            },
            names.join(", ")
        );
        // What is refused is the worse news.
        let fine = |it: &Condition| it.status == Truth::True || it.reason == "NothingActivated";
        for ready in conditions.iter_mut().filter(|it| it.kind == ConditionType::Ready && fine(it)) {
            (ready.status, ready.reason, ready.message) = (Truth::False, SERVED_ALONE.to_owned(), message.clone());
        }
    }

    /// Says in `conditions` where a pool stays at an owner whose checks fail, as they do everywhere.
    pub fn tell_failing(&self, conditions: &mut [Condition]) {
        let live = self.nodes.iter().filter(|(_, known)| known.state == MemberState::Alive);
        let kept = live.filter_map(|(name, known)| {
            let problem = &known.record.as_ref()?.problem;
            problem.starts_with(KEPT).then(|| format!("{name}: {problem}"))
        });
        let Some(message) = kept.reduce(|all, one| format!("{all}; {one}")) else { return };
        for ready in conditions.iter_mut().filter(|it| it.kind == ConditionType::Ready && it.status == Truth::True) {
            (ready.status, ready.reason, ready.message) =
                (Truth::False, ALL_CHECKS_FAILING.to_owned(), message.clone());
        }
    }

    /// The snapshot that every report is read from. `since` and the conditions are the office's to remember.
    pub fn snapshot(&self, at: Wall, conditions: Vec<Condition>) -> Snapshot {
        let generation = self.generation.as_ref();
        let mut vips = generation.map_or_else(Vec::new, |generation| {
            let vips = generation.ranking.vips().iter().enumerate();
            vips.map(|(index, ranked)| self.vip(at, index, ranked.pool.clone(), ranked.vip)).collect()
        });
        // What is in force in no view has no place in one, and may be served alone all the same.
        if let Some(alone) = &self.alone {
            let more = alone.generation.ranking.vips().iter();
            let more = more.filter(|ranked| generation.is_none_or(|generation| !generation.declares(ranked.vip)));
            vips.extend(more.map(|ranked| self.vip(at, usize::MAX, ranked.pool.clone(), ranked.vip)));
        }
        let members = self
            .nodes
            .iter()
            .map(|(name, known)| {
                let record = known.record.as_ref();
                let problem = record.map(|record| record.problem.as_str()).filter(|problem| !problem.is_empty());
                MemberStatus {
                    node: name.clone(),
                    state: known.state,
                    since: at,
                    version: record.map(|record| record.build.clone()),
                    revision: record.and_then(|record| record.revision.parse().ok()),
                    attempted: record.and_then(|record| record.attempted.parse().ok()),
                    digest: record.map(|record| record.generation),
                    note: problem.map(|problem| {
                        let reason = match problem {
                            _ if problem.starts_with(KEPT) => ALL_CHECKS_FAILING,
                            _ if problem.starts_with("not offered") => "NotOffered",
                            _ if problem.starts_with("behind: ") => "Behind",
                            _ if problem.starts_with("removed from outside") => "RemovedFromOutside",
                            _ if problem.starts_with("status not written") => "StatusNotWritten",
                            _ => "Stalled",
                        };
                        Note::new(reason, problem)
                    }),
                }
            })
            .collect();
        let mut snapshot = Snapshot {
            node: self.node.clone(),
            cluster: self.newest.as_ref().map(|newest| newest.desired.cluster.name.clone()),
            revision: generation.and_then(|generation| generation.revision.parse().ok()),
            attempted: None,
            digest: generation.map(|generation| generation.digest()),
            at,
            view: self.view.as_ref().map(|view| ViewStatus {
                number: view.id().number,
                phase: view.sets().phase,
                established: self.established,
                members: view.members().iter().map(|(name, member)| format!("{name}@{}", member.epoch)).collect(),
                missing: self.missing.clone(),
            }),
            members,
            vips,
            conditions,
        };
        snapshot.sort();
        snapshot
    }

    fn vip(&self, at: Wall, index: usize, pool: crate::name::PoolName, vip: Vip) -> VipStatus {
        let alone = self.alone_for(vip);
        let desired = match alone {
            Some(alone) => alone.owner(vip),
            None => self.placement.as_ref().and_then(|placement| placement.owner(index)),
        }
        .cloned();
        let actual = self.actual(index, vip);
        let foreign = self.foreign.get(&vip);
        let refused = self.nodes.iter().find_map(|(node, known)| {
            let reason = known.record.as_ref()?.exceptions.get(&vip)?;
            Some(format!("{node}: {reason}"))
        });
        let contradicted = self.nodes.iter().find_map(|(node, known)| {
            let said = known.record.as_ref()?.contradicted.get(&vip)?;
            Some(Note::new("Unresolved", format!("{node} asked for it on the wire: {said}")))
        });
        let (state, note) = if let Some(foreign) = foreign {
            let text = format!("{} claims it on {}", foreign.mac, foreign.iface);
            (VipState::Conflict, Some(Note::new("ForeignClaim", text)))
        } else if let Some(refused) = refused {
            (VipState::Refused, Some(Note::new("Refused", refused)))
        } else if desired.is_none() {
            (VipState::Unowned, None)
        } else if desired == actual {
            (VipState::Held, alone.map(|_| Note::new(SERVED_ALONE, ALONE)).or(contradicted))
        } else {
            (VipState::Moving, None)
        };
        VipStatus { vip, pool, desired, actual, state, since: at, note }
    }
}
