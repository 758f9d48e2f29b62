//! Which versions of the protocol does a node speak, and to whom which?
//!
//! In: the newest version of a build, what peers say of theirs. Out: the version of the next datagram to a peer, or why two
//! builds do not understand one another. Not here: the envelope that carries both numbers ([`seal`](super::seal)).
//!
//! A build speaks its newest version and the one before it. So of two builds that follow one another the newer speaks as
//! the older does, and a cluster is upgraded one node after the other. To whom it has not heard it speaks its newest; the
//! envelope says how far each can go, and is the same in all versions, so that a stranger can be named.

use std::collections::BTreeMap;
use std::fmt;

use crate::name::NodeName;

/// The newest version of this build. It counts up with each change of what a heartbeat's bytes mean.
pub const NEWEST: u8 = 1;

/// The versions that a node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    newest: u8,
}

impl Versions {
    /// Those of this build.
    pub const fn of_this_build() -> Self {
        Self { newest: NEWEST }
    }

    /// Those of a build whose newest version is this one, 1 or more.
    pub const fn up_to(newest: u8) -> Self {
        Self { newest: if newest == 0 { 1 } else { newest } }
    }

    /// The newest.
    pub const fn newest(self) -> u8 {
        self.newest
    }

    /// The oldest that is still understood.
    pub const fn oldest(self) -> u8 {
        if self.newest > 1 { self.newest - 1 } else { 1 }
    }

    /// Is a datagram of this version understood?
    pub const fn understands(self, version: u8) -> bool {
        self.oldest() <= version && version <= self.newest
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.oldest(), self.newest) {
            (oldest, newest) if oldest == newest => write!(f, "version {newest}"),
            (oldest, newest) => write!(f, "versions {oldest} and {newest}"),
        }
    }
}

/// Two builds that do not understand one another, RV0710.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skew {
    /// The other node.
    pub peer: NodeName,
    /// What it speaks.
    pub theirs: Versions,
    /// What this node speaks.
    pub ours: Versions,
}

impl Skew {
    /// The stable code that a person can look up.
    pub const CODE: &'static str = "RV0710";
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, theirs, ours } = self;
        let behind = if theirs.newest < ours.newest { "that node" } else { "this one" };
        write!(
            f,
            "error[{}]: {peer} speaks {theirs} of the protocol and this node {ours}: upgrade {behind} first, by way of \
             the version between",
            Self::CODE
        )
    }
}

/// What each peer speaks, as far as it was heard.
#[derive(Debug)]
pub struct Tongues {
    ours: Versions,
    heard: BTreeMap<NodeName, Versions>,
    skewed: BTreeMap<NodeName, Skew>,
    changed: bool,
}

impl Tongues {
    /// Nobody was heard yet.
    pub const fn new(ours: Versions) -> Self {
        Self { ours, heard: BTreeMap::new(), skewed: BTreeMap::new(), changed: false }
    }

    /// A peer's genuine datagram of `version` came, and says that it speaks up to `newest`. Is it understood?
    pub fn heard(&mut self, peer: &NodeName, version: u8, newest: u8) -> bool {
        let theirs = Versions::up_to(newest);
        self.heard.insert(peer.clone(), theirs);
        let apart = theirs.oldest() > self.ours.newest || theirs.newest < self.ours.oldest();
        if apart != self.skewed.contains_key(peer) {
            self.changed = true;
        }
        if apart {
            self.skewed.insert(peer.clone(), Skew { peer: peer.clone(), theirs, ours: self.ours });
        } else {
            self.skewed.remove(peer);
        }
        // One that has not heard yet how far this node can go may begin too high: it is not understood, and hears it.
        self.ours.understands(version)
    }

    /// The version of the next datagram to this peer.
    pub fn to(&self, peer: &NodeName) -> u8 {
        let theirs = self.heard.get(peer).map_or(self.ours.newest, |theirs| theirs.newest);
        theirs.clamp(self.ours.oldest(), self.ours.newest)
    }

    /// How far this node can go.
    pub const fn newest(&self) -> u8 {
        self.ours.newest
    }

    /// Those who are not understood, where that changed since it was asked last.
    pub fn skewed_anew(&mut self) -> Option<&BTreeMap<NodeName, Skew>> {
        std::mem::take(&mut self.changed).then_some(&self.skewed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    /// Two builds that talk until each has heard the other: what they speak then, and whether each is understood.
    fn talk(a: u8, b: u8) -> [Option<u8>; 2] {
        let names = [node("a"), node("b")];
        let mut builds = [Tongues::new(Versions::up_to(a)), Tongues::new(Versions::up_to(b))];
        let mut understood = [None; 2];
        for turn in 0..4 {
            let (from, to) = (turn % 2, 1 - turn % 2);
            let (version, newest) = (builds[from].to(&names[to]), builds[from].newest());
            understood[from] = builds[to].heard(&names[from], version, newest).then_some(version);
        }
        understood
    }

    #[test]
    fn builds_that_follow_one_another_settle_on_the_older_ones_version() {
        for newest in 1..10 {
            assert_eq!(talk(newest, newest), [Some(newest); 2]);
            assert_eq!(talk(newest, newest + 1), [Some(newest); 2]);
            assert_eq!(talk(newest + 1, newest), [Some(newest); 2]);
        }
    }

    #[test]
    fn a_node_that_was_upgraded_is_spoken_to_in_the_new_version_again() {
        let (old, new) = (Versions::up_to(4), Versions::up_to(5));
        let (peer, mut here) = (node("b"), Tongues::new(new));
        here.heard(&peer, 4, old.newest());
        assert_eq!(here.to(&peer), 4);
        here.heard(&peer, 5, new.newest());
        assert_eq!(here.to(&peer), 5);
        assert!(here.skewed_anew().is_none());
    }

    #[test]
    fn builds_further_apart_are_named_with_what_to_do_and_forgotten_once_they_meet() {
        assert_eq!(talk(1, 3), [None; 2].map(|_: Option<u8>| None));
        let (peer, mut here) = (node("edge-c"), Tongues::new(Versions::up_to(1)));
        assert!(!here.heard(&peer, 2, 3));
        let skewed = here.skewed_anew().expect("news").clone();
        insta::assert_snapshot!(
            skewed[&peer],
            @"error[RV0710]: edge-c speaks versions 2 and 3 of the protocol and this node version 1: upgrade this one first, by way of the version between"
        );
        assert!(!here.heard(&peer, 2, 3) && here.skewed_anew().is_none(), "said once");
        assert!(here.heard(&peer, 1, 2));
        assert_eq!(here.skewed_anew().map(BTreeMap::len), Some(0));
    }

    #[test]
    fn whatever_a_peer_claims_is_no_reason_to_panic() {
        for ours in [0, 1, 2, 254, 255] {
            for theirs in [0, 1, 2, 254, 255] {
                let mut here = Tongues::new(Versions::up_to(ours));
                here.heard(&node("a"), theirs, theirs);
                assert!(here.ours.understands(here.to(&node("a"))));
            }
        }
    }
}
