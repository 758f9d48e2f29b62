//! The rules of the protocol that can be taken out one at a time, to prove that the simulator notices.
//!
//! In: nothing. Out: [`Rule`]. Not here: the rules themselves (`protocol`). A running node keeps them all:
//! only `sim` builds a protocol without one.

use serde::{Deserialize, Serialize};

/// A rule that a mutant lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// A node is silent only after D > L.
    SilenceOutlastsLease,
    /// A lease that passed unrenewed is never renewed.
    LapseIsFinal,
    /// The fast start wants a majority that came straight from the view before.
    StraightAfter,
    /// Goodbye only once nothing is held.
    GoodbyeHoldsNothing,
    /// The highest phase and its sets outlive a crash.
    PhaseOnDisk,
    /// A phase on disk is not accepted with other sets.
    OneSetsPerPhase,
    /// Only members of the accepted view are acknowledged.
    AckMembersOnly,
    /// A member is acknowledged only D after it was first seen in the accepted view.
    AckAfterSilence,
    /// While the set changes, a majority of each set is needed.
    BothMajorities,
    /// After boot nothing is accepted for D.
    WaitAfterBoot,
    /// A lease is reckoned anew for the sets of the view just accepted.
    LeaseFollowsSets,
    /// A view is accepted only if those it leaves out are gone.
    LeftOutAreGone,
    /// Establishing counts only what echoes a question of the last L.
    EvidenceIsFresh,
    /// A VIP is started only when its last owner is out or clean.
    HandedNeverAssumed,
    /// An identity is named only once a majority has heard it steadily.
    NamedWhenSteady,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::SilenceOutlastsLease,
        Self::LapseIsFinal,
        Self::StraightAfter,
        Self::GoodbyeHoldsNothing,
        Self::PhaseOnDisk,
        Self::OneSetsPerPhase,
        Self::AckMembersOnly,
        Self::AckAfterSilence,
        Self::BothMajorities,
        Self::WaitAfterBoot,
        Self::LeaseFollowsSets,
        Self::LeftOutAreGone,
        Self::EvidenceIsFresh,
        Self::HandedNeverAssumed,
        Self::NamedWhenSteady,
    ];
}
