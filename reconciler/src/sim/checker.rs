//! The judges outside the nodes: one answering node a VIP at every instant, and none unanswered after healing.
//!
//! In: what each simulated kernel lets pass. Out: violations. Not here: the nodes' own opinion.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Violation;
use crate::time::Instant;
use crate::vip::Vip;

/// What one node's kernel answers for: these, until then.
#[derive(Debug, Clone, Default)]
pub(super) struct Kernel {
    pub held: BTreeSet<Vip>,
    /// The end of the lease on the world's clock.
    pub until: Instant,
}

impl Kernel {
    pub fn answers(&self, now: Instant, vip: Vip) -> bool {
        now < self.until && self.held.contains(&vip)
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
    pub fn judge(&mut self, now: Instant, node: usize, kernels: &[Kernel]) {
        let mine = &kernels[node];
        if now >= mine.until {
            return;
        }
        for (other, kernel) in kernels.iter().enumerate() {
            if other == node || now >= kernel.until {
                continue;
            }
            if let Some(vip) = mine.held.intersection(&kernel.held).next() {
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
