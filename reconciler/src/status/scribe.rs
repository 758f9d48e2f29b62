//! When is the status written, and by whom?
//!
//! In: snapshots, who is live and can push, `now`, how the last write ended. Out: "write now".
//! Not here: the files ([`super::files`]), git (`agent`).
//!
//! One commit a settled change: after a second of quiet, or after five. Never more than the branch's own
//! commits leave in the [`bucket`]: the cluster's rate is bounded though scribes change or are two.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::snapshot::Snapshot;
use super::wall::Wall;
use crate::digest::Digest;
use crate::name::{ClusterName, NodeName};
use crate::time::Instant;

/// Nothing changed for so long: the change is settled.
const QUIET: Duration = Duration::from_secs(1);

/// A change that does not settle is written all the same after so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// The scribe looks whether the branch still says what it should: a stranger, or a second scribe that a
/// partition made, may have written since.
const LOOK: Duration = Duration::from_secs(30);

/// After a failure, at most.
const BACKOFF_MOST: Duration = Duration::from_secs(15);

/// Commits at once.
const BUCKET: u64 = 4;

/// One more each.
const REFILL_MS: u64 = 15_000;

/// Which of `candidates`, the live nodes that can push, writes for all: the first by rendezvous order. Nobody
/// without an established view, where another half may have a scribe of its own.
pub fn elect<'a>(
    cluster: &ClusterName,
    established: bool,
    candidates: impl IntoIterator<Item = &'a NodeName>,
) -> Option<&'a NodeName> {
    let rank = |node: &&NodeName| (Digest::of(format!("{node}#status of {cluster}").as_bytes()), (*node).clone());
    candidates.into_iter().filter(|_| established).min_by_key(rank)
}

/// May the cluster commit once more at `now`, given when it did before? If not: how long until it may.
///
/// A bucket of 4 that gains one each 15 s, reckoned in whole seconds, which is what git keeps. Times that lie
/// ahead (another machine's clock) count as now.
pub fn bucket(commits: impl IntoIterator<Item = Wall>, now: Wall) -> Result<(), Duration> {
    let now = now.whole_second().as_millis();
    let mut times: Vec<u64> = commits.into_iter().map(|at| at.whole_second().as_millis().min(now)).collect();
    times.sort_unstable();
    // What is in the bucket, in milliseconds of refill.
    let full = BUCKET * REFILL_MS;
    let (mut level, mut last) = (full, 0);
    for at in times {
        level = (level + (at - last)).min(full).saturating_sub(REFILL_MS);
        last = at;
    }
    level = (level + (now - last)).min(full);
    if level >= REFILL_MS { Ok(()) } else { Err(Duration::from_millis(REFILL_MS - level)) }
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// The branch now says so.
    Committed,
    /// It said so already.
    Unchanged,
    /// The bucket is empty for so long.
    Paced(Duration),
    /// Somebody else was faster, again and again; or the server could not be reached or refused it.
    Failed,
}

/// Decides when this node writes.
#[derive(Debug)]
pub struct Scribe {
    rng: ChaCha8Rng,
    /// What the snapshot last seen tells.
    seen: Option<Digest>,
    /// When it last changed, and when it first did since it was last written.
    changed: Instant,
    first: Instant,
    dirty: bool,
    elected: bool,
    /// What is being written.
    writing: Option<Digest>,
    not_before: Instant,
    /// When to look at the branch again.
    look: Instant,
    failures: u32,
}

impl Scribe {
    /// A scribe that has written nothing yet.
    pub fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            seen: None,
            changed: Instant::ZERO,
            first: Instant::ZERO,
            dirty: false,
            elected: false,
            writing: None,
            not_before: Instant::ZERO,
            look: Instant::NEVER,
            failures: 0,
        }
    }

    /// Takes the snapshot of `now`, and whether this node is the one to write.
    pub fn observe(&mut self, now: Instant, snapshot: &Snapshot, elected: bool) {
        let told = told(snapshot);
        let begins = elected && !self.elected;
        self.elected = elected;
        if self.seen != Some(told) || begins {
            self.seen = Some(told);
            self.changed = now;
            if !self.dirty || begins {
                self.first = now;
            }
            self.dirty = true;
        }
    }

    /// When to call [`Self::poll`] next.
    pub fn next_deadline(&self) -> Instant {
        if !self.elected || self.writing.is_some() {
            return Instant::NEVER;
        }
        let settled = (self.changed + QUIET).min(self.first + PATIENCE);
        let due = if self.dirty { settled.min(self.look) } else { self.look };
        due.max(self.not_before)
    }

    /// True: write the present snapshot now, and say by [`Self::done`] how it ended.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = now >= self.next_deadline() && self.seen.is_some();
        if due {
            self.writing = self.seen;
            self.dirty = false;
        }
        due
    }

    /// How the write ended.
    pub fn done(&mut self, now: Instant, written: Written) {
        let Some(_) = self.writing.take() else { return };
        match written {
            Written::Committed | Written::Unchanged => {
                self.failures = 0;
                self.look = now + LOOK;
            }
            Written::Paced(wait) => self.again(now, wait),
            Written::Failed => {
                self.failures = self.failures.saturating_add(1);
                let step = QUIET.saturating_mul(1 << self.failures.min(8)).min(BACKOFF_MOST);
                self.again(now, step / 2);
            }
        }
    }

    /// The same again after `wait` and as much again by chance, so that two scribes do not meet for ever.
    fn again(&mut self, now: Instant, wait: Duration) {
        let jitter = wait.min(BACKOFF_MOST / 2).max(QUIET / 2);
        let jitter = Duration::from_micros(self.rng.next_u64() % crate::time::micros(jitter));
        self.not_before = now + wait + jitter;
        self.look = self.not_before;
    }
}

/// The digest of all that the files tell: times, the writer and its view are not among it.
fn told(snapshot: &Snapshot) -> Digest {
    let members: Vec<_> = snapshot
        .members
        .iter()
        .map(|m| (&m.node, m.state, &m.version, &m.revision, &m.attempted, m.digest, &m.note))
        .collect();
    let vips: Vec<_> =
        snapshot.vips.iter().map(|v| (v.vip, &v.pool, &v.desired, &v.actual, v.state, &v.note)).collect();
    let conditions: BTreeSet<_> =
        snapshot.conditions.iter().map(|c| (c.kind, c.status, &c.reason, &c.message)).collect();
    let whole = (&snapshot.cluster, &snapshot.revision, &snapshot.attempted, snapshot.digest);
    Digest::of(&postcard::to_allocvec(&(whole, members, vips, conditions)).expect("a snapshot serializes"))
}

#[cfg(test)]
#[path = "scribe_tests.rs"]
mod tests;
