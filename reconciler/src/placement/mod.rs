//! Who owns each VIP: a pure function of what is desired and of what the members of a view offer.
//!
//! In: `Desired`, offers. Out: owner and backups of each VIP, why a node may not have one, and what
//! moves between two states. Integers only: all nodes compute the same bits.
//! Not here: who is a member (`membership`), moving a VIP (`engine`).
//!
//! ```text
//! Desired ──▶ Ranking (once a generation) ──▶ place(offers of the view) ──▶ Placement ──▶ moves
//!              order of nodes and base          first eligible by succession
//! ```
//!
//! History never enters: two nodes with the same view compute the same owners. What has to do with
//! the past is said by the nodes through their offers. Failback, damping and `suspend` make a node
//! offer a pool as *spare*. "All checks fail everywhere, the last owner keeps the VIP" is the last
//! owner leaving that check out of its `failing` while it knows of no offer that could have the pool.

mod eligibility;
mod explain;
mod hash;
mod moves;
pub mod offer;
mod place;
mod ranking;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod vectors;

pub use eligibility::{Eligibility, Reason, eligibility, interface_for, is_able};
pub use explain::{Candidate, Standing, explain};
pub use moves::{Cause, Move, State, moves};
pub use place::{Placement, place};
pub use ranking::{RankedVip, Ranking, cap};
