//! What is known of the accepted view: established, clean, settled, and how a VIP may be started in it.
//!
//! In: what peers accepted and are clean in. Out: [`Start`]. Not here: accepting (`accept`), VIPs (`engine`).

use std::sync::Arc;

use super::Protocol;
use crate::membership::heartbeat::Heartbeat;
use crate::membership::rule::Rule;
use crate::membership::view::View;
use crate::name::NodeName;
use crate::time::Instant;

/// What may be started in the accepted view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Nothing yet.
    Nothing,
    /// All that this node owns: every member is clean, so nobody else holds it.
    All,
    /// What was owned, in this earlier settled view, by nobody, by an identity that is out, or by one that is clean.
    After(Arc<View>),
}

impl Protocol {
    /// Has a majority accepted the accepted view, by what each said in answer to a question of the last L?
    pub fn is_established(&self, now: Instant) -> bool {
        let Some(view) = self.accepted.as_ref().filter(|view| view.has(&self.me, self.epoch)) else { return false };
        self.majority(view.sets(), |name| {
            if *name == self.me {
                return true;
            }
            let (Some(peer), Some(member)) = (self.peers.get(name), view.members().get(name)) else { return false };
            let fresh = peer.echo_sent.is_some_and(|sent| now < sent + self.timing.lease);
            peer.epoch == member.epoch
                && peer.accepted == Some(view.id())
                && (fresh || !self.keeps(Rule::EvidenceIsFresh))
        })
    }

    /// Is this node clean in the accepted view?
    pub fn is_clean(&self) -> bool {
        self.accepted.as_ref().is_some_and(|view| self.clean == Some(view.id()))
    }

    /// The view is established and this node has stopped what it does not own in it.
    pub fn mark_clean(&mut self) {
        let Some(view) = &self.accepted else { return };
        if self.clean == Some(view.id()) {
            return;
        }
        self.clean = Some(view.id());
        if view.has(&self.me, self.epoch) {
            self.known_clean.insert(self.me.clone());
        }
        self.note_settled();
        self.tell_all();
    }

    /// Is every member of the accepted view known to be clean?
    pub fn is_settled(&self) -> bool {
        self.accepted.as_ref().is_some_and(|view| self.settled.contains(&view.id()))
    }

    /// Is this member known to be clean in the accepted view?
    pub fn is_known_clean(&self, name: &NodeName) -> bool {
        self.known_clean.contains(name)
    }

    pub(super) fn hear_of_clean(&mut self, from: &NodeName, epoch: u64, heartbeat: &Heartbeat) {
        let Some(view) = &self.accepted else { return };
        if heartbeat.clean == Some(view.id()) && view.has(from, epoch) {
            self.known_clean.insert(from.clone());
        }
        if heartbeat.accepted == Some(view.id()) {
            let members = heartbeat.known_clean.iter().filter(|name| view.members().contains_key(*name));
            self.known_clean.extend(members.cloned());
        }
        self.note_settled();
    }

    /// After an accept: what peers said before of the view just accepted.
    pub(super) fn hear_of_clean_again(&mut self) {
        let Some(view) = &self.accepted else { return };
        for (name, peer) in &self.peers {
            if peer.clean == Some(view.id()) && view.has(name, peer.epoch) {
                self.known_clean.insert(name.clone());
            }
        }
        self.note_settled();
    }

    fn note_settled(&mut self) {
        if let Some(view) = &self.accepted
            && view.members().keys().all(|name| self.known_clean.contains(name))
        {
            self.settled.insert(view.id());
        }
    }

    /// What may be started at this very instant.
    pub fn may_start(&self, now: Instant) -> Start {
        let Some(view) = &self.accepted else { return Start::Nothing };
        if self.goodbye || self.lease.is_none_or(|until| now >= until) || !self.is_established(now) {
            return Start::Nothing;
        }
        if self.settled.contains(&view.id()) || !self.keeps(Rule::HandedNeverAssumed) {
            return Start::All;
        }
        let Some(before) = &self.before else { return Start::Nothing };
        let narrowed = view.members().iter().all(|(name, member)| before.has(name, member.epoch));
        if view.sets().phase != before.sets().phase || !narrowed || !self.settled.contains(&before.id()) {
            return Start::Nothing;
        }
        let straight = |name: &NodeName| {
            let Some(member) = view.members().get(name) else { return false };
            if !before.has(name, member.epoch) {
                return false;
            }
            if *name == self.me {
                return true;
            }
            let Some(peer) = self.peers.get(name) else { return false };
            let came = peer.before == Some(before.id()) || !self.keeps(Rule::StraightAfter);
            peer.epoch == member.epoch && peer.accepted == Some(view.id()) && came
        };
        if self.majority(view.sets(), straight) { Start::After(before.clone()) } else { Start::Nothing }
    }
}
