//! The judges outside the nodes: one answering node a VIP at every instant, and none unanswered after healing. Of a pool of
//! `partition: available` two may answer, but not once all is well again.
//!
//! In: what each simulated kernel lets pass. Out: violations. Not here: the nodes' own opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::report::Violation;
use crate::time::Instant;
use crate::vip::Vip;

/// What one node's kernel answers for: these, until then.
#[derive(Debug, Clone, Default)]
pub(super) struct Kernel {
    pub held: BTreeSet<Vip>,
    /// The end of the lease on the world's clock.
    pub until: Instant,
    /// These may be answered for alone, and until when.
    pub may_be_alone: Arc<BTreeSet<Vip>>,
    pub alone_until: Instant,
}

impl Kernel {
    pub fn answers(&self, now: Instant, vip: Vip) -> bool {
        let leased = now < self.until || now < self.alone_until && self.may_be_alone.contains(&vip);
        leased && self.held.contains(&vip)
    }

    fn answers_nothing(&self, now: Instant) -> bool {
        self.held.is_empty() || now >= self.until.max(self.alone_until)
    }
}

/// Judges every change of a kernel against all the others.
#[derive(Debug, Default)]
pub(super) struct Checker {
    /// Since when nobody answers for a VIP, and whom it lost.
    unanswered: BTreeMap<Vip, Instant>,
    pub violations: Vec<Violation>,
}

impl Checker {
    /// The kernel of `node` has just changed: does it answer for something that another answers for?
    /// Two answer at one instant exactly if at such a change both hold the VIP with a lease that lasts.
    /// `excused` are those for which two may answer at this time.
    pub fn judge(&mut self, now: Instant, node: usize, kernels: &[Kernel], excused: impl Fn(Vip) -> bool) {
        let mine = &kernels[node];
        if mine.answers_nothing(now) {
            return;
        }
        for (other, kernel) in kernels.iter().enumerate() {
            if other == node || kernel.answers_nothing(now) {
                continue;
            }
            let both = |vip: &&Vip| mine.answers(now, **vip) && kernel.answers(now, **vip) && !excused(**vip);
            if let Some(vip) = mine.held.intersection(&kernel.held).find(both) {
                self.violations.push(Violation { at: now, vip: *vip, nodes: [node.min(other), node.max(other)] });
            }
        }
    }

    /// VIPs of `wanted` that no kernel answers for.
    pub fn unanswered(&self, now: Instant, wanted: &[Vip], kernels: &[Kernel]) -> Vec<Vip> {
        wanted.iter().copied().filter(|vip| !kernels.iter().any(|kernel| kernel.answers(now, *vip))).collect()
    }

    /// A VIP lost its owner by a crash.
    pub fn lost(&mut self, now: Instant, vip: Vip) {
        self.unanswered.entry(vip).or_insert(now);
    }

    /// Somebody answers for it: how long was it without?
    pub fn found(&mut self, now: Instant, vip: Vip) -> Option<std::time::Duration> {
        self.unanswered.remove(&vip).map(|since| now.since(since))
    }

    /// What was lost counts no more (other faults came in between).
    pub fn forget(&mut self) {
        self.unanswered.clear();
    }
}
