//! The office: one thread for everything that may wait, so that the beat never does.
//!
//! In: reports of the beat, outcomes of git, notices of the directory, orders of people. Out: generations for the
//! engine, the status branch, what readers see at the desk. Not here: which revision counts (`source`), when to write
//! (`status::scribe`), git itself (`git`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::beat::Inlet;
use super::clock;
use super::descent::Descent;
use super::desk::{Answer, Desk, Moved, Order, Published};
use super::git::protocol::History;
use super::git::{GitPort, Outcome};
use super::keyfile::KeyFile;
use super::netlink::Setting;
use super::state::State;
use super::watch::Watch;
use crate::digest::Digest;
use crate::engine::event::{Event, Told};
use crate::engine::generation::Generation;
use crate::engine::report::Report;
use crate::manifest::desired::Desired;
use crate::membership::protocol::Forming;
use crate::name::{CheckName, NodeName, PoolName};
use crate::revision::Revision;
use crate::source::problem::{Code, Problem};
use crate::source::{Load, Seen, Source, UNASKED, undeclared};
use crate::status::condition::{Condition, ConditionType, Truth, carry_over};
use crate::status::scribe::{Scribe, Written, elect};
use crate::status::snapshot::{MemberState, Note, Snapshot};
use crate::status::wall::Wall;
use crate::time::Instant;
use crate::vip::Vip;
use crate::wire::version::Skew;

/// The last moves of a VIP that are remembered.
const MOVES: usize = 8;
/// A node whose push failed is not asked to write for so long.
const PUSH_PAUSE: Duration = Duration::from_secs(60);
/// A failure is told for so long: where nobody can push, each node tries again before, and otherwise another one writes.
const PUSH_PROBLEM: Duration = Duration::from_secs(600);

/// What others say to the office.
#[derive(Debug)]
pub enum Message {
    /// The beat's report.
    Report(Box<Report>),
    /// The identity grew.
    Epoch(u64),
    /// Builds of these peers are too far from this one's.
    Skewed(Vec<Skew>),
    /// Settings of the kernel were changed.
    Settings(Vec<Setting>),
    /// Until when pools are not to be given back to this node again, by the wall clock in milliseconds.
    Damped(BTreeMap<PoolName, u64>),
    /// A peer has a generation that this node lacks.
    PeerHas(Digest),
    /// A job of git ended.
    Git(Outcome),
    /// The directory was read.
    Directory(Seen),
    /// A person wants something.
    Order(Order, Sender<Answer>),
    /// Somebody waits for a revision: does the cluster run it, or one that descends from it?
    Runs(String, Sender<Option<bool>>),
    /// Stop: everything that is held has been given away.
    Stop,
}

/// All that the office works with.
pub struct Office {
    pub(super) me: NodeName,
    pub(super) source: Source,
    pub(super) scribe: Scribe,
    pub(super) git: Option<GitPort>,
    pub(super) watch: Option<Watch>,
    pub(super) writes_status: bool,
    pub(super) state: Arc<State>,
    pub(super) keys: KeyFile,
    pub(super) inlet: Inlet,
    pub(super) desk: Desk,
    pub(super) inbox: Receiver<Message>,
    /// The checks that the node's own file defines.
    pub(super) checks: BTreeSet<CheckName>,
    /// What the disk had, to be kept again when it runs.
    pub(super) last_good: Option<(Revision, Arc<Desired>)>,
}

/// What the office remembers.
#[derive(Default)]
struct Memory {
    loads: VecDeque<(Revision, Arc<Desired>)>,
    report: Option<Arc<Report>>,
    running: Option<Digest>,
    asked_history: BTreeSet<NodeName>,
    told: Told,
    push_pause_until: Instant,
    /// Why the status could not be written, and until when that is told.
    push_problem: Option<(Problem, Instant)>,
    conditions: Vec<Condition>,
    since: BTreeMap<Vip, (Option<NodeName>, Wall)>,
    last_owner: BTreeMap<Vip, NodeName>,
    member_since: BTreeMap<NodeName, (MemberState, Wall)>,
    moves: BTreeMap<Vip, Vec<Moved>>,
    descent: Descent,
    skewed: Vec<Skew>,
}

impl Office {
    /// Works until it is told to stop.
    pub fn run(mut self) {
        let mut memory = Memory::default();
        if let Some((revision, desired)) = self.last_good.take() {
            memory.loads.push_back((revision.clone(), desired.clone()));
            self.miss_itself(&revision, &desired);
            self.miss_checks(&desired);
            self.inlet.put(Event::Loaded(Arc::new(Generation::new(desired, revision.to_string()))));
        }
        self.tell(&mut memory);
        loop {
            let now = clock::now();
            let due = self.source.next_deadline().min(self.scribe.next_deadline());
            let patience = due.since(now).min(Duration::from_secs(5));
            match self.inbox.recv_timeout(patience) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(message) => self.take(&mut memory, message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.attend(&mut memory);
        }
    }

    fn take(&mut self, memory: &mut Memory, message: Message) {
        let now = clock::now();
        match message {
            Message::Report(report) => self.reported(memory, *report),
            Message::Epoch(epoch) => {
                if let Err(problem) = self.state.keep_epoch(epoch) {
                    tracing::warn!(%problem, "the epoch cannot be kept");
                }
            }
            Message::Skewed(skewed) => {
                for skew in &skewed {
                    tracing::error!("{skew}");
                }
                memory.skewed = skewed;
            }
            Message::Settings(changed) => {
                let changed = changed.into_iter().map(|it| (it.path, (it.old, it.new.to_owned()))).collect();
                if let Err(problem) = self.state.keep_settings(changed) {
                    tracing::warn!(%problem, "what the kernel's settings were cannot be kept");
                }
            }
            Message::Damped(damped) => {
                if let Err(problem) = self.state.keep_damped(&damped) {
                    tracing::warn!(%problem, "until when pools are not to be given back cannot be kept");
                }
            }
            Message::PeerHas(_) => self.source.reconcile(now),
            Message::Git(Outcome::Pulled(id, seen)) => {
                let load = self.source.observe(now, id, seen);
                self.loaded(memory, load);
            }
            Message::Directory(seen) => {
                let load = self.source.observe(now, UNASKED, seen);
                self.loaded(memory, load);
            }
            Message::Git(Outcome::Told(written, problem)) => {
                if let Some(problem) = &problem {
                    tracing::warn!(%problem, "the status cannot be written");
                }
                memory.push_problem = problem.map(|problem| (problem, now + PUSH_PROBLEM));
                if written == Written::Failed {
                    memory.push_pause_until = now + PUSH_PAUSE;
                }
                self.scribe.done(now, written);
            }
            Message::Git(Outcome::History(names, history)) => self.may_form(names, history),
            Message::Git(Outcome::Descends(id, descends)) => memory.descent.answered(now, id, descends.ok()),
            Message::Runs(revision, reply) => {
                let _ = reply.send(self.runs(memory, now, &revision));
            }
            Message::Stop => {}
            Message::Order(order, reply) => {
                let _ = reply.send(self.order(order));
            }
        }
        self.tell(memory);
    }

    fn order(&mut self, order: Order) -> Answer {
        let now = clock::now();
        match order {
            Order::Drain => {
                self.inlet.put(Event::Drain);
                Ok("draining: what this node holds goes to others, and it takes nothing new".to_owned())
            }
            Order::Resume => {
                self.inlet.put(Event::Resume);
                Ok("resumed: this node takes its share again".to_owned())
            }
            Order::Reconcile { accept_history: None } => {
                self.source.reconcile(now);
                if let Some(watch) = &self.watch {
                    watch.look();
                }
                Ok("looking at the source now".to_owned())
            }
            Order::Reconcile { accept_history: Some(revision) } => {
                tracing::warn!(revision, "a rewritten history is accepted by hand");
                match self.source.accept_history(now, &revision) {
                    Ok(()) => Ok(format!("a history that holds {revision} is accepted")),
                    Err(problem) => Err(problem.report()),
                }
            }
            Order::Reload => {
                let ring = self.keys.read().map_err(|error| error.to_string())?;
                let answer = ring.to_string();
                tracing::info!("the keys were read again: {answer}");
                self.inlet.change_keys(ring);
                Ok(answer)
            }
            Order::Form { nodes } => {
                tracing::warn!(?nodes, "the cluster is formed anew by hand");
                let names: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
                let answer = format!("forming anew with {}", names.join(", "));
                self.inlet.put(Event::Form(nodes.into_iter().collect()));
                Ok(answer)
            }
        }
    }

    fn runs(&self, memory: &mut Memory, now: Instant, revision: &str) -> Option<bool> {
        let Some(running) = self.desk.published().and_then(|it| it.snapshot.revision.clone()) else {
            return Some(false);
        };
        if running.matches(revision) {
            return Some(true);
        }
        let (Some(commit), Some(ancestor), Some(git)) = (running.commit(), running.prefix(revision), &self.git) else {
            return Some(false);
        };
        memory.descent.ask(now, ancestor, commit, |id, ancestor| git.descends(id, ancestor, commit))
    }

    fn loaded(&mut self, memory: &mut Memory, load: Option<Load>) {
        let Some(load) = load else {
            if let Some(problem) = self.source.problem() {
                tracing::warn!(%problem, "the last good state stays in force");
            }
            return;
        };
        tracing::info!(revision = %load.revision, generation = ?load.desired.digest, "loaded");
        self.miss_itself(&load.revision, &load.desired);
        memory.loads.push_back((load.revision.clone(), load.desired.clone()));
        while memory.loads.len() > 16 {
            memory.loads.pop_front();
        }
        self.ask_who_may_form(memory, &load);
        self.miss_checks(&load.desired);
        self.inlet.put(Event::Loaded(Arc::new(Generation::new(load.desired, load.revision.to_string()))));
    }

    /// Who may form a cluster that never was rests on the branch's whole history; a directory has none to ask.
    fn ask_who_may_form(&self, memory: &mut Memory, load: &Load) {
        let names: BTreeSet<NodeName> = load.desired.nodes.keys().cloned().collect();
        if memory.asked_history == names {
            return;
        }
        match (load.revision.commit(), &self.git) {
            (Some(commit), Some(git)) => {
                if git.history(commit, names.clone()) {
                    memory.asked_history = names;
                }
            }
            _ => {
                memory.asked_history = names.clone();
                self.inlet.put(Event::MayForm(names, Forming::All));
            }
        }
    }

    fn may_form(&self, names: BTreeSet<NodeName>, history: Result<History, Problem>) {
        let forming = match history {
            Ok(History::Same) => Forming::Majority,
            Ok(History::Replaced(commit)) => {
                tracing::warn!(
                    %commit,
                    "a revision of before declares nodes that are a majority without the present ones and may be at \
                     work: unless a cluster is formed already, this node waits to be named by them, or for \
                     `rendezvip form`"
                );
                Forming::ByHand
            }
            other => {
                tracing::info!(?other, "all declared nodes must be heard to form");
                Forming::All
            }
        };
        self.inlet.put(Event::MayForm(names, forming));
    }

    fn miss_itself(&self, revision: &Revision, desired: &Desired) {
        if let Some(problem) = undeclared(&self.me, revision, desired) {
            tracing::warn!(%problem, "commit a Node of this name, or name another in `node` of the node's own file");
        }
    }

    /// A check that pools name and this node's own file does not define cannot pass here.
    fn miss_checks(&self, desired: &Desired) {
        let named = desired.pools.values().flat_map(|pool| &pool.health);
        let missing: BTreeSet<&CheckName> = named.filter(|check| !self.checks.contains(*check)).collect();
        for check in missing {
            tracing::warn!(%check, "pools name a check that this node's own file does not define; it counts as failing");
            self.inlet.put(Event::Check { check: check.clone(), passes: false });
        }
    }

    fn attend(&mut self, memory: &mut Memory) {
        let now = clock::now();
        if let Some(attempt) = self.source.poll(now)
            && let Some(git) = &self.git
        {
            git.pull(attempt);
            self.tell(memory);
        }
        if self.scribe.poll(now) {
            let published = self.desk.published();
            let told = published.zip(self.git.as_ref()).is_some_and(|(it, git)| git.tell((*it.snapshot).clone()));
            if !told {
                self.scribe.done(now, Written::Failed);
            }
        }
    }

    /// What peers are to know of this node beside what the engine knows.
    fn tell(&self, memory: &mut Memory) {
        let label = |revision: Option<&Revision>| revision.map(ToString::to_string).unwrap_or_default();
        let unwritten = memory.push_problem.as_ref().filter(|(_, until)| clock::now() < *until);
        let unwritten = unwritten.map(|(problem, _)| cut(format!("status not written: {problem}")));
        let told = Told {
            build: env!("CARGO_PKG_VERSION").to_owned(),
            revision: label(self.source.loaded().map(|(revision, _)| revision)),
            attempted: label(self.source.attempted()),
            problem: self.source.problem().map(|problem| cut(problem.to_string())).or(unwritten).unwrap_or_default(),
            can_push: self.writes_status && clock::now() >= memory.push_pause_until,
            accepted_history: self.source.accepted().unwrap_or_default().to_owned(),
        };
        if told != memory.told {
            memory.told = told.clone();
            self.inlet.put(Event::Told(Box::new(told)));
        }
    }

    fn reported(&mut self, memory: &mut Memory, report: Report) {
        let now = clock::now();
        if let Some(generation) = &report.generation
            && memory.running != Some(generation.digest())
        {
            memory.running = Some(generation.digest());
        }
        if let Some(digest) = memory.running
            && let Some(label) = self.source.activated(digest)
            && let Some((_, desired)) = memory.loads.iter().find(|(_, desired)| desired.digest == digest)
        {
            tracing::info!(revision = %label, "activated");
            if let Err(problem) = self.state.keep_last_good(&label, desired) {
                tracing::warn!(%problem, "the last good state cannot be kept");
            }
        }
        self.hear_peers(now, &report);
        let wall = Wall::from_millis(clock::realtime_ns(now) / 1_000_000);
        let report = Arc::new(report);
        let snapshot = self.snapshot(memory, wall, &report);
        let candidates = report.nodes.iter().filter(|(_, known)| {
            known.state == MemberState::Alive && known.record.as_ref().is_some_and(|record| record.can_push)
        });
        let scribe = snapshot.cluster.as_ref().and_then(|cluster| {
            elect(cluster, report.established, candidates.map(|(name, _)| name)).map(|name| *name == self.me)
        });
        self.scribe.observe(now, &snapshot, scribe == Some(true));
        self.accept_as_peers_do(&report);
        memory.report = Some(report.clone());
        let moves = Arc::new(memory.moves.clone());
        self.desk.publish(Published { snapshot: Arc::new(snapshot), report, moves });
    }

    /// What the others have loaded, as their records say.
    fn hear_peers(&mut self, now: Instant, report: &Report) {
        let others = report.nodes.iter().filter(|(name, known)| known.state == MemberState::Alive && **name != self.me);
        let loaded: Vec<(Revision, Digest)> = others
            .filter_map(|(_, known)| {
                let record = known.record.as_ref()?;
                Some((record.revision.parse().ok()?, record.generation))
            })
            .collect();
        let before = self.source.problem().cloned();
        self.source.peers_name(now, loaded.iter().map(|(revision, digest)| (revision, *digest)));
        if let Some(problem) = self.source.problem().filter(|problem| before.as_ref() != Some(problem)) {
            tracing::error!(%problem, "a peer contradicts this node");
        }
    }

    /// A rewritten history is accepted by a person on one node; the others, who refuse it, hear of it from that node's
    /// record. Only while it is refused: an acceptance that has done its work binds nobody later.
    fn accept_as_peers_do(&mut self, report: &Report) {
        let refused = self.source.problem().is_some_and(|problem| problem.code == Code::HistoryRewritten);
        if !refused || self.source.accepted().is_some() {
            return;
        }
        let accepted = report.nodes.iter().find_map(|(name, known)| {
            let record = known.record.as_ref().filter(|_| known.state == MemberState::Alive && *name != self.me)?;
            (!record.accepted_history.is_empty()).then_some((name, &record.accepted_history))
        });
        if let Some((peer, revision)) = accepted {
            tracing::warn!(%peer, revision, "a rewritten history was accepted by hand at a peer");
            if let Err(problem) = self.source.accept_history(clock::now(), revision) {
                tracing::warn!(%problem, "what the peer accepted cannot be accepted");
            }
        }
    }

    /// Says in `conditions` that the newest revision has no part for this node.
    fn tell_undeclared(&self, report: &Report, conditions: &mut [Condition]) {
        let revision = self.source.loaded().map(|(revision, _)| revision);
        let Some((revision, newest)) = revision.zip(report.newest.as_ref()) else { return };
        let Some(problem) = undeclared(&self.me, revision, &newest.desired) else { return };
        let fine = |it: &Condition| it.status == Truth::True || it.reason == "NothingActivated";
        for ready in conditions.iter_mut().filter(|it| it.kind == ConditionType::Ready && fine(it)) {
            (ready.status, ready.reason, ready.message) =
                (Truth::False, problem.code.reason().to_owned(), problem.to_string());
        }
    }

    fn snapshot(&self, memory: &mut Memory, wall: Wall, report: &Report) -> Snapshot {
        let mut conditions = self.source.conditions(wall);
        report.tell_alone(&mut conditions);
        report.tell_failing(&mut conditions);
        self.tell_undeclared(report, &mut conditions);
        carry_over(&memory.conditions, &mut conditions);
        memory.conditions.clone_from(&conditions);
        let mut snapshot = report.snapshot(wall, conditions);
        snapshot.attempted = self.source.attempted().cloned();
        // Another commit that asks for the same is the same generation under a newer label.
        if snapshot.digest.is_some() && snapshot.digest == memory.running {
            snapshot.revision = self.source.running().cloned().or(snapshot.revision);
        }
        for member in &mut snapshot.members {
            let known = memory.member_since.entry(member.node.clone()).or_insert((member.state, wall));
            if known.0 != member.state {
                *known = (member.state, wall);
            }
            member.since = known.1;
            if let Some(skew) = memory.skewed.iter().find(|skew| skew.peer == member.node) {
                member.note = Some(Note::new("ProtocolSkew", skew.to_string()));
            }
        }
        for vip in &mut snapshot.vips {
            let known = memory.since.entry(vip.vip).or_insert((vip.actual.clone(), wall));
            if known.0 != vip.actual {
                *known = (vip.actual.clone(), wall);
            }
            vip.since = known.1;
            let Some(owner) = &vip.actual else { continue };
            let before = memory.last_owner.insert(vip.vip, owner.clone());
            if before.as_ref() != Some(owner) {
                let cause = cause(report, memory.report.as_deref(), before.as_ref(), vip.vip);
                let moves = memory.moves.entry(vip.vip).or_default();
                moves.push(Moved { at: wall, from: before, to: Some(owner.clone()), cause });
                if moves.len() > MOVES {
                    moves.remove(0);
                }
            }
        }
        let declared = |vip: &Vip| {
            let in_force = report.generation.as_ref().is_none_or(|generation| generation.declares(*vip));
            in_force || report.alone_for(*vip).is_some()
        };
        memory.since.retain(|vip, _| declared(vip));
        memory.moves.retain(|vip, _| declared(vip));
        snapshot
    }
}

/// Why a VIP is where it is now, as far as this node saw it.
fn cause(report: &Report, last: Option<&Report>, from: Option<&NodeName>, vip: Vip) -> String {
    let alone = |report: &Report| report.alone_for(vip).is_some();
    if alone(report) {
        return "there is no view: it is served alone, and two owners are possible".to_owned();
    }
    if last.is_some_and(alone) {
        return "there is a view again".to_owned();
    }
    let Some(from) = from else { return "nobody had it".to_owned() };
    let state = report.nodes.get(from).map(|known| known.state);
    match state {
        Some(MemberState::Left) => return format!("{from} left"),
        Some(MemberState::Dead | MemberState::Suspect) => return format!("{from} is dead"),
        Some(MemberState::Alive) | None => {}
    }
    let ranking = report.ranking(vip);
    if let Some(rank) = ranking.iter().find(|rank| rank.node == *from && !rank.eligible) {
        return format!("{from}: {}", rank.reason);
    }
    let generation = |report: &Report| report.generation.as_ref().map(|generation| generation.digest());
    if let (Some(last), Some(now)) = (last, &report.generation)
        && generation(last) != Some(now.digest())
    {
        return format!("{} asks for it", now.revision);
    }
    "it goes back to the node that comes first for it".to_owned()
}

/// A problem travels in every datagram that carries a record: only its first line, and not all of a long one.
fn cut(text: String) -> String {
    const MOST: usize = 300;
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}
