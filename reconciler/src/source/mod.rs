//! Which revision becomes the desired state: fast-forward only, digests, back-off.
//!
//! In: what the shell saw at the source ([`Seen`]), what peers and people say, `now`.
//! Out: when to look again ([`Attempt`]), what to load ([`Load`]), and the conditions that tell of it.
//! Not here: git itself and files (`agent`), YAML (`manifest`), going over to a generation (`engine`).
//!
//! Order of calls: [`Source::poll`] when [`Source::next_deadline`] has come; what it returns is carried
//! out by the shell, which answers with [`Source::observe`] under the attempt's number. A directory is
//! watched instead: its sets arrive by [`Source::observe`] unasked, numbered [`UNASKED`].
//!
//! I20: what is loaded descends from what was last activated, or from what a person named by hand.
//! I21: a fetch that fails, hangs or brings something bad changes nothing that runs.

pub mod problem;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::digest::Digest;
use crate::manifest::desired::Desired;
use crate::name::NodeName;
use crate::revision::{CommitHash, Revision};
use crate::status::{Condition, ConditionType, Truth, Wall};
use crate::time::{Instant, micros};
use problem::{Code, Problem};

/// The number of an observation that no attempt asked for.
pub const UNASKED: u64 = 0;

/// A failed attempt is followed by the next after at most this, or the poll interval where that is longer:
/// with an attempt's own limit it keeps the delay after a server's return below 30 s.
const BACKOFF_MOST: Duration = Duration::from_secs(15);

/// After the first failure.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Labels of generations that are remembered: of what was loaded and may yet be activated.
const LABELS: usize = 16;

/// A peer's record may tell a new digest a moment before the revision that it belongs to.
const SETTLED: Duration = Duration::from_secs(1);

/// Hints of peers that were followed are remembered, so that each makes one fetch.
const HINTS: usize = 16;

/// How a source is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Between two looks; `None` where the shell watches a directory.
    pub poll: Option<Duration>,
    /// An attempt that has not answered by then is dropped.
    pub limit: Duration,
}

impl Config {
    /// A git repository that is looked at each `poll`; an attempt is dropped after 30 s.
    pub const fn git(poll: Duration) -> Self {
        Self { poll: Some(poll), limit: Duration::from_secs(30) }
    }

    /// A directory, which is watched.
    pub const fn directory() -> Self {
        Self { poll: None, limit: Duration::from_secs(30) }
    }
}

/// What the shell is asked to do: fetch, compare, and read the tree unless it is the known one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// To be given back with the answer.
    pub id: u64,
    /// Nothing needs to be read where the branch still stands here.
    pub known: Option<CommitHash>,
    /// What was last activated.
    pub activated: Option<CommitHash>,
    /// What a person said may take its place: a hash or the first digits of one.
    pub accepted: Option<String>,
}

/// What the shell saw.
#[derive(Debug, Clone)]
pub enum Seen {
    /// The branch stands where [`Attempt::known`] says.
    Unchanged,
    /// A revision.
    Revision {
        /// Its label.
        revision: Revision,
        /// Does it descend from what runs?
        lineage: Lineage,
        /// What it asks for, or why it asks for nothing valid.
        parsed: Result<Arc<Desired>, Problem>,
    },
    /// Nothing: why.
    Failed(Problem),
}

/// Does a revision descend from those that an [`Attempt`] named? A revision descends from itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// From the one last activated; true where there is none.
    pub activated: bool,
    /// From the one that a person accepted by hand; false where there is none.
    pub accepted: bool,
}

impl Lineage {
    /// Of something that has no history, as a directory.
    pub const NONE: Self = Self { activated: true, accepted: false };
}

/// A revision that may be activated.
#[derive(Debug, Clone)]
pub struct Load {
    /// Its label.
    pub revision: Revision,
    /// What it asks for.
    pub desired: Arc<Desired>,
    /// True where its history was accepted by hand: to be logged.
    pub by_hand: bool,
}

/// Follows one source of desired state.
#[derive(Debug)]
pub struct Source {
    config: Config,
    rng: ChaCha8Rng,
    next_id: u64,
    /// The attempt under way and when it is dropped.
    under_way: Option<(u64, Instant)>,
    /// Somebody wants another look as soon as the one under way is over.
    again: bool,
    due: Instant,
    failures: u32,
    /// Why the last attempt brought nothing.
    trouble: Option<Problem>,
    attempted: Option<Revision>,
    /// Why `attempted` may not be loaded.
    refusal: Option<Problem>,
    /// What a peer's digest of a revision says against ours, for as long as it does.
    contradiction: Option<Problem>,
    contradicted: Option<Instant>,
    loaded: Option<(Revision, Digest)>,
    activated: Option<(Revision, Digest)>,
    /// Set once `activated` was: its history was accepted by hand.
    rewritten_to: Option<Revision>,
    labels: VecDeque<(Digest, Revision)>,
    hints: VecDeque<Revision>,
    accepted: Option<String>,
}

impl Source {
    /// A source whose last good state, where the disk has one, is `last`.
    pub fn new(config: Config, seed: u64, last: Option<(Revision, Digest)>, now: Instant) -> Self {
        let labels = last.iter().map(|(revision, digest)| (*digest, revision.clone())).collect();
        Self {
            config,
            rng: ChaCha8Rng::seed_from_u64(seed),
            next_id: UNASKED + 1,
            under_way: None,
            again: false,
            due: if config.poll.is_some() { now } else { Instant::NEVER },
            failures: 0,
            trouble: None,
            attempted: None,
            refusal: None,
            contradiction: None,
            contradicted: None,
            loaded: last.clone(),
            activated: last,
            rewritten_to: None,
            labels,
            hints: VecDeque::new(),
            accepted: None,
        }
    }

    /// When to call [`Self::poll`] next.
    pub fn next_deadline(&self) -> Instant {
        self.under_way.map_or(self.due, |(_, end)| end)
    }

    /// Drops an attempt that took too long, and begins one that is due.
    pub fn poll(&mut self, now: Instant) -> Option<Attempt> {
        if let Some((_, end)) = self.under_way {
            if now < end {
                return None;
            }
            let limit = self.config.limit.as_secs();
            self.failed(now, Problem::new(Code::TimedOut, format!("the source did not answer within {limit} s")));
        }
        if now < self.due || self.config.poll.is_none() {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.under_way = Some((id, now + self.config.limit));
        self.again = false;
        Some(Attempt {
            id,
            known: self.attempted.as_ref().and_then(Revision::commit).filter(|_| !self.may_change_its_mind()),
            activated: self.activated.as_ref().and_then(|(revision, _)| revision.commit()),
            accepted: self.accepted.clone(),
        })
    }

    /// Who may sign stands in files of the node: what was refused for its signature is looked at again, though the branch
    /// stands where it stood.
    fn may_change_its_mind(&self) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.code == Code::NotVerified)
    }

    /// Takes what the shell saw; `id` is that of the attempt, or [`UNASKED`]. A late answer counts for nothing.
    pub fn observe(&mut self, now: Instant, id: u64, seen: Seen) -> Option<Load> {
        if id != UNASKED {
            match self.under_way {
                Some((current, _)) if current == id => self.under_way = None,
                _ => return None,
            }
        }
        match seen {
            Seen::Failed(problem) => {
                self.failed(now, problem);
                None
            }
            Seen::Unchanged => {
                self.reached(now);
                None
            }
            Seen::Revision { revision, lineage, parsed } => {
                self.reached(now);
                self.judge(revision, lineage, parsed)
            }
        }
    }

    /// The source answered: trouble is over, and the next look is due after the poll interval.
    fn reached(&mut self, now: Instant) {
        self.trouble = None;
        self.failures = 0;
        self.due = match self.config.poll {
            None => Instant::NEVER,
            Some(_) if self.again => now,
            // Up to a tenth early, so that nodes started together do not go on asking together.
            Some(poll) => now + (poll - self.up_to(poll / 10)),
        };
    }

    fn failed(&mut self, now: Instant, problem: Problem) {
        self.under_way = None;
        self.failures = self.failures.saturating_add(1);
        let most = self.config.poll.unwrap_or(BACKOFF_MOST).max(BACKOFF_MOST);
        let step = BACKOFF_FIRST.saturating_mul(1 << (self.failures - 1).min(16)).min(most);
        self.due = match self.config.poll {
            None => Instant::NEVER,
            Some(_) if self.again => now,
            Some(_) => now + (step - self.up_to(step / 2)),
        };
        self.again = false;
        self.trouble = Some(problem);
    }

    /// A random duration below `most`.
    fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.rng.next_u64() % micros(most).max(1))
    }

    fn judge(&mut self, revision: Revision, lineage: Lineage, parsed: Result<Arc<Desired>, Problem>) -> Option<Load> {
        self.attempted = Some(revision.clone());
        let by_hand = !lineage.activated;
        if by_hand && !lineage.accepted {
            let runs = self.activated.as_ref().map_or_else(String::new, |(runs, _)| runs.short());
            self.refusal = Some(Problem::new(
                Code::HistoryRewritten,
                format!(
                    "{} does not descend from {runs}, which runs: the branch was rewritten; if that was meant, run \
                     `rendezvip reconcile --accept-history {}` on a node",
                    revision.short(),
                    &revision.hex()[..12]
                ),
            ));
            return None;
        }
        let desired = match parsed {
            Ok(desired) => desired,
            Err(problem) => {
                self.refusal = Some(problem);
                return None;
            }
        };
        if let Some(digest) = self.other_digest(&revision, desired.digest) {
            self.refusal = Some(mismatch(&revision, digest, desired.digest, "here"));
            return None;
        }
        self.refusal = None;
        if by_hand {
            self.rewritten_to = Some(revision.clone());
        }
        self.labels.retain(|(digest, _)| *digest != desired.digest);
        self.labels.push_front((desired.digest, revision.clone()));
        self.labels.truncate(LABELS);
        self.loaded = Some((revision.clone(), desired.digest));
        // Another commit that asks for the same is the running generation under a newer label.
        if self.activated.as_ref().is_some_and(|(_, digest)| *digest == desired.digest) {
            self.activate(revision.clone(), desired.digest);
        }
        Some(Load { revision, desired, by_hand })
    }

    /// The digest under which this very revision is already known, where it is another one.
    fn other_digest(&self, revision: &Revision, digest: Digest) -> Option<Digest> {
        let known = [&self.loaded, &self.activated];
        let known =
            known.into_iter().flatten().find(|(known, known_digest)| known == revision && *known_digest != digest);
        known.map(|(_, digest)| *digest)
    }

    fn activate(&mut self, revision: Revision, digest: Digest) {
        // An acceptance has done its work once what it allowed runs.
        if self.rewritten_to.is_some() {
            self.accepted = None;
        }
        self.activated = Some((revision, digest));
    }

    /// The view has gone over to the generation `digest`. Returns the label that now runs, if it is a new one:
    /// what the disk is to keep.
    pub fn activated(&mut self, digest: Digest) -> Option<Revision> {
        let label = self.labels.iter().find(|(known, _)| *known == digest).map(|(_, revision)| revision.clone())?;
        if self.activated.as_ref().is_some_and(|(revision, _)| *revision == label) {
            return None;
        }
        self.activate(label.clone(), digest);
        Some(label)
    }

    /// The peers say which revision each has loaded, and which digest it asks for. One we lack makes one fetch at once; one
    /// that we know with another digest is told of for as long as a peer names it.
    pub fn peers_name<'a>(&mut self, now: Instant, loaded: impl Iterator<Item = (&'a Revision, Digest)>) {
        let mut found = None;
        for (revision, digest) in loaded {
            match self.other_digest(revision, digest) {
                Some(ours) => found = Some(mismatch(revision, ours, digest, "at a peer")),
                None => self.peer_names(now, revision),
            }
        }
        self.contradicted = found.as_ref().map(|_| self.contradicted.unwrap_or(now));
        self.contradiction = found.filter(|_| self.contradicted.is_some_and(|since| now.since(since) >= SETTLED));
    }

    fn peer_names(&mut self, now: Instant, revision: &Revision) {
        let known = [self.loaded.as_ref(), self.activated.as_ref()].into_iter().flatten().map(|(known, _)| known);
        let known = known.chain(self.labels.iter().map(|(_, known)| known));
        if known.chain(&self.attempted).chain(&self.hints).any(|known| known == revision) {
            return;
        }
        self.hints.push_front(revision.clone());
        self.hints.truncate(HINTS);
        self.look_now(now);
    }

    /// A person wants the source looked at now.
    pub fn reconcile(&mut self, now: Instant) {
        self.failures = 0;
        self.look_now(now);
    }

    /// A person, here or at a peer, accepts that the branch was rewritten, if it holds `revision` (a hash, the
    /// first digits of one, or a label with either) or a descendant of it.
    pub fn accept_history(&mut self, now: Instant, revision: &str) -> Result<(), Problem> {
        let hash = revision.rsplit_once('@').map_or(revision, |(_, hash)| hash);
        let hash = hash.strip_prefix("sha1:").unwrap_or(hash).to_ascii_lowercase();
        if !(7..=40).contains(&hash.len()) || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            let message = format!("`{revision}` is not a commit: give at least the first 7 digits of its hash");
            return Err(Problem::new(Code::Unsupported, message));
        }
        self.accepted = Some(hash);
        if self.refusal.as_ref().is_some_and(|refusal| refusal.code == Code::HistoryRewritten) {
            // It has to be read again, though the branch has not moved.
            self.attempted = None;
        }
        self.reconcile(now);
        Ok(())
    }

    fn look_now(&mut self, now: Instant) {
        if self.under_way.is_some() {
            self.again = true;
        } else if self.config.poll.is_some() {
            self.due = now;
        }
    }

    /// The label of what runs.
    pub fn running(&self) -> Option<&Revision> {
        self.activated.as_ref().map(|(revision, _)| revision)
    }

    /// The newest revision that may be activated, and its generation.
    pub fn loaded(&self) -> Option<&(Revision, Digest)> {
        self.loaded.as_ref()
    }

    /// What was last seen, good or bad; before anything was: what the disk had.
    pub fn attempted(&self) -> Option<&Revision> {
        self.attempted.as_ref().or_else(|| self.running())
    }

    /// What a person accepted by hand and did not take effect yet: to be told to peers.
    pub fn accepted(&self) -> Option<&str> {
        self.accepted.as_deref()
    }

    /// Why the newest revision is refused, or else why the source cannot be reached.
    pub fn problem(&self) -> Option<&Problem> {
        self.refused_for().or(self.trouble.as_ref())
    }

    fn refused_for(&self) -> Option<&Problem> {
        self.refusal.as_ref().or(self.contradiction.as_ref())
    }

    /// Ready, Reconciling and Stalled, as new at `wall` (see [`crate::status::condition::carry_over`]).
    pub fn conditions(&self, wall: Wall) -> Vec<Condition> {
        let runs = match self.running() {
            Some(revision) => format!("{revision} runs"),
            None => "nothing was activated yet".to_owned(),
        };
        let accepted = match &self.rewritten_to {
            Some(revision) if Some(revision) == self.running() => "; its rewritten history was accepted by hand",
            _ => "",
        };
        let ready = match (self.refused_for(), &self.activated) {
            (Some(refusal), _) => (Truth::False, refusal.code.reason(), format!("{runs}; {}", self.refused(refusal))),
            (None, None) => (Truth::False, "NothingActivated", runs.clone()),
            (None, Some(_)) => (Truth::True, "Running", format!("{runs}{accepted}")),
        };
        let reconciling = match (&self.trouble, &self.loaded) {
            (Some(trouble), _) => (Truth::True, trouble.code.reason(), format!("{trouble}; it is tried again")),
            (None, None) if self.refused_for().is_some() => {
                (Truth::False, "Waiting", "for a valid revision".to_owned())
            }
            (None, None) => (Truth::True, "Fetching", "nothing was read from the source yet".to_owned()),
            (None, Some((loaded, digest))) => match &self.activated {
                Some((_, running)) if running == digest => (Truth::False, "UpToDate", runs),
                _ => (Truth::True, "Activating", format!("{loaded} is loaded; it runs once every member has it")),
            },
        };
        let stalled = match self.refused_for() {
            Some(refusal) => (Truth::True, refusal.code.reason(), self.refused(refusal)),
            None => (Truth::False, "NotStalled", "nothing is refused".to_owned()),
        };
        [(ConditionType::Ready, ready), (ConditionType::Reconciling, reconciling), (ConditionType::Stalled, stalled)]
            .into_iter()
            .map(|(kind, (status, reason, message))| Condition::new(kind, status, reason, message, wall))
            .collect()
    }

    fn refused(&self, refusal: &Problem) -> String {
        match &self.attempted {
            Some(attempted) => format!("{attempted} is refused: {refusal}"),
            None => refusal.to_string(),
        }
    }
}

/// Why this node has no part in what a revision declares, where it declares others only.
pub fn undeclared(me: &NodeName, revision: &Revision, desired: &Desired) -> Option<Problem> {
    const SHOWN: usize = 5;
    if desired.nodes.contains_key(me) {
        return None;
    }
    let names: Vec<&str> = desired.nodes.keys().map(NodeName::as_str).collect();
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    let names = names[..names.len().min(SHOWN)].join(", ");
    let text = format!("{} does not declare this node, {me} (but {names}{more}): it holds nothing", revision.short());
    Some(Problem::new(Code::NotDeclared, text))
}

fn mismatch(revision: &Revision, ours: Digest, theirs: Digest, place: &str) -> Problem {
    Problem::new(
        Code::DigestMismatch,
        format!(
            "{} is known with digest sha256:{}, and now {place} with sha256:{}: give every node the same \
             version of rendezvip and the same `source.git.path`, or commit anew",
            revision.short(),
            ours.short(),
            theirs.short()
        ),
    )
}

#[cfg(test)]
mod tests;
