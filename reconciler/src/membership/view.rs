//! Views: who is a member, on which generation, and by which sets a majority is counted.
//!
//! In: names, epochs, offers. Out: [`View`] with its [`ViewId`], [`Sets`] and what a majority of them is.
//! Not here: when a view is accepted or proposed (`protocol`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::name::NodeName;

/// A life of a node: its name and an epoch that grows at each boot and each lapse.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The node.
    pub name: NodeName,
    /// Which of its lives.
    pub epoch: u64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.epoch)
    }
}

/// By whose names a majority is counted. Even phases have one set, odd ones the old and the new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sets {
    /// Which change of the set this is; grows by one from one set to two, and by one to the new alone.
    pub phase: u64,
    /// The names of set k.
    pub current: Arc<BTreeSet<NodeName>>,
    /// The names of set k+1, in odd phases.
    pub next: Option<Arc<BTreeSet<NodeName>>>,
}

impl Sets {
    /// The sets of a cluster that forms with these names.
    pub fn first(names: BTreeSet<NodeName>) -> Self {
        Self { phase: 0, current: Arc::new(names), next: None }
    }

    /// The odd phase that leads to `names`.
    pub fn towards(&self, names: BTreeSet<NodeName>) -> Self {
        Self { phase: self.phase + 1, current: self.current.clone(), next: Some(Arc::new(names)) }
    }

    /// The even phase in which the new names alone count; nothing where no change is under way.
    pub fn completed(&self) -> Option<Self> {
        let next = self.next.clone()?;
        Some(Self { phase: self.phase + 1, current: next, next: None })
    }

    /// Is the name in one of the sets?
    pub fn contains(&self, name: &NodeName) -> bool {
        self.current.contains(name) || self.next.as_ref().is_some_and(|next| next.contains(name))
    }

    /// All names of the sets, ascending.
    pub fn names(&self) -> BTreeSet<NodeName> {
        let mut names = (*self.current).clone();
        names.extend(self.next.iter().flat_map(|next| next.iter().cloned()));
        names
    }

    /// Do more than half of each set satisfy `holds`?
    pub fn majority(&self, mut holds: impl FnMut(&NodeName) -> bool) -> bool {
        let mut of = |set: &BTreeSet<NodeName>| set.iter().filter(|name| holds(name)).count() * 2 > set.len();
        of(&self.current) && self.next.as_ref().is_none_or(|next| of(next))
    }

    /// May these sets follow from the wire: non-empty, two of them exactly in odd phases?
    pub fn is_sound(&self) -> bool {
        let two = self.next.is_some();
        two == (self.phase % 2 == 1)
            && !self.current.is_empty()
            && self.next.as_ref().is_none_or(|next| !next.is_empty())
    }
}

/// A member of a view: which life of the node, and what it offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The epoch of the member's identity.
    pub epoch: u64,
    /// Digest of its offer.
    pub offer: Digest,
}

/// The name of a view: its number, then a digest of all else. Ordered so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ViewId {
    /// Grows with each proposal.
    pub number: u64,
    /// The first half of the SHA-256 of the rest.
    pub tag: [u8; 16],
}

impl fmt::Debug for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02x}{:02x}", self.number, self.tag[0], self.tag[1])
    }
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02x}{:02x}", self.number, self.tag[0], self.tag[1])
    }
}

/// What a view says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewBody {
    /// Grows with each proposal.
    pub number: u64,
    /// By whose names a majority is counted.
    pub sets: Sets,
    /// Digest of the desired state that is in force.
    pub generation: Digest,
    /// Who is in, under which epoch, with which offer.
    pub members: BTreeMap<NodeName, Member>,
}

/// A view and its name.
#[derive(Clone, PartialEq, Eq)]
pub struct View {
    id: ViewId,
    body: ViewBody,
}

impl View {
    /// Names the body.
    ///
    /// # Panics
    /// Never: a body always serializes.
    pub fn new(body: ViewBody) -> Self {
        let digest = Digest::of(&postcard::to_allocvec(&body).expect("a view serializes"));
        let mut tag = [0; 16];
        tag.copy_from_slice(&digest.0[..16]);
        Self { id: ViewId { number: body.number, tag }, body }
    }

    /// The view's name.
    pub const fn id(&self) -> ViewId {
        self.id
    }

    /// What it says.
    pub const fn body(&self) -> &ViewBody {
        &self.body
    }

    /// The sets by which it counts.
    pub const fn sets(&self) -> &Sets {
        &self.body.sets
    }

    /// The members.
    pub const fn members(&self) -> &BTreeMap<NodeName, Member> {
        &self.body.members
    }

    /// Is this very identity a member?
    pub fn has(&self, name: &NodeName, epoch: u64) -> bool {
        self.body.members.get(name).is_some_and(|member| member.epoch == epoch)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {} phase {} of", self.id, self.body.sets.phase)?;
        self.body.members.iter().try_for_each(|(name, member)| write!(f, " {name}@{}", member.epoch))
    }
}

impl Serialize for View {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.body.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for View {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let body = ViewBody::deserialize(deserializer)?;
        if !body.sets.is_sound() {
            return Err(serde::de::Error::custom("sets do not fit the phase"));
        }
        Ok(Self::new(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> BTreeSet<NodeName> {
        text.split(' ').map(|name| NodeName::new(name).unwrap()).collect()
    }

    #[test]
    fn while_the_set_changes_a_majority_is_one_of_each_set() {
        let sets = Sets::first(names("a b c")).towards(names("c d e"));
        let is = |text: &str| {
            let present = names(text);
            sets.majority(|name| present.contains(name))
        };
        assert!(is("b c d"));
        assert!(!is("a b c"), "a majority of the old set alone");
        assert!(!is("c d e"), "a majority of the new set alone");
    }

    #[test]
    fn half_is_no_majority() {
        let sets = Sets::first(names("a b c d"));
        assert!(!sets.majority(|name| name.as_str() < "c"));
        assert!(sets.majority(|name| name.as_str() < "d"));
    }

    #[test]
    fn those_who_propose_the_same_propose_one_view() {
        let body = |number| ViewBody {
            number,
            sets: Sets::first(names("a b")),
            generation: Digest::of(b"g"),
            members: names("a b").into_iter().map(|n| (n, Member { epoch: 1, offer: Digest::of(b"") })).collect(),
        };
        assert_eq!(View::new(body(1)).id(), View::new(body(1)).id());
        assert!(View::new(body(2)).id() > View::new(body(1)).id());
    }
}
