//! Conditions, as kstatus and its readers know them: Ready, Reconciling, Stalled.
//!
//! In: what a room found. Out: [`Condition`]s in a fixed order; their transition time outlives a change
//! of wording. Not here: what makes one true (`source`, `engine`, [`super::files`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::wall::Wall;

/// What a condition is about, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionType {
    /// What is declared is what is served.
    Ready,
    /// Work towards it is under way, and goes on by itself.
    Reconciling,
    /// It does not go on until somebody does something.
    Stalled,
}

/// Does a condition hold?
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Truth {
    /// Yes.
    True,
    /// No.
    False,
    /// Nobody can say.
    Unknown,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: Truth,
    /// Why, as one CamelCase word for programs.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when it has this `status`.
    #[serde(rename = "lastTransitionTime")]
    pub since: Wall,
}

impl Condition {
    /// A condition that is new at `since`.
    pub fn new(kind: ConditionType, status: Truth, reason: &str, message: impl Into<String>, since: Wall) -> Self {
        Self { kind, status, reason: reason.to_owned(), message: message.into(), since }
    }
}

/// Gives the conditions in `fresh` the transition time of those in `previous` that have the same status
/// (Kubernetes API conventions: the time changes with the status alone), and puts them in order.
pub fn carry_over(previous: &[Condition], fresh: &mut [Condition]) {
    for condition in fresh.iter_mut() {
        if let Some(before) = previous.iter().find(|b| b.kind == condition.kind && b.status == condition.status) {
            condition.since = before.since;
        }
    }
    fresh.sort_by_key(|condition| condition.kind);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_time_changes_with_the_status_alone() {
        let (old, new) = (Wall::from_millis(1000), Wall::from_millis(2000));
        let before = [
            Condition::new(ConditionType::Ready, Truth::True, "Running", "a", old),
            Condition::new(ConditionType::Stalled, Truth::False, "Fine", "", old),
        ];
        let mut after = [
            Condition::new(ConditionType::Stalled, Truth::True, "InvalidManifests", "", new),
            Condition::new(ConditionType::Ready, Truth::True, "Running", "b", new),
        ];
        carry_over(&before, &mut after);
        assert_eq!(
            after.iter().map(|c| (c.kind, c.since)).collect::<Vec<_>>(),
            [(ConditionType::Ready, old), (ConditionType::Stalled, new)]
        );
        assert_eq!(
            serde_json::to_string(&after[1]).unwrap(),
            r#"{"type":"Stalled","status":"True","reason":"InvalidManifests","message":"","lastTransitionTime":"1970-01-01T00:00:02Z"}"#
        );
    }
}
