//! From what a node knows to what people and programs read: one snapshot, status files, the scribe.
//!
//! In: records of the engine. Out: a [`snapshot::Snapshot`], file contents, the decision when to write.
//! Not here: writing anything (`agent`).

pub mod condition;
pub mod files;
pub mod message;
pub mod scribe;
pub mod snapshot;
pub mod wall;

#[cfg(test)]
mod samples;

pub use condition::{Condition, ConditionType, Truth};
pub use snapshot::Snapshot;
pub use wall::Wall;
