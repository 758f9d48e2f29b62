//! Round trips to the peers, as the heartbeats themselves measure them.
//!
//! In: when a question left, and when its answer came. Out: [`Trip`] of each peer, of the last minute or so.
//! Not here: what they mean for the heartbeat (`doctor`). Nothing of the protocol rests on them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::NodeName;
use crate::time::{Instant, micros};

/// Round trips remembered of each peer.
const KEPT: usize = 512;
/// What is older says nothing of how it is now: of each pair one asks, and the other does only where something is amiss.
const RECENT: Duration = Duration::from_secs(60);
/// Questions to one peer whose answers may still come.
const OPEN: usize = 32;

/// How long answers of one peer took, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trip {
    /// The peer.
    pub node: NodeName,
    /// Half took no longer.
    pub p50: u64,
    /// 99 of 100 took no longer.
    pub p99: u64,
    /// The longest.
    pub max: u64,
    /// From one to the next, on average (RFC 3550, section 6.4.1, without its smoothing).
    pub jitter: u64,
    /// Out of so many.
    pub samples: usize,
    /// Questions that nobody answered.
    pub lost: usize,
}

impl Trip {
    /// What `samples`, in the order in which they were taken, come to.
    pub fn of(node: NodeName, samples: &[u64], lost: usize) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_unstable();
        let at = |per_mille: usize| sorted.get(sorted.len() * per_mille / 1000).copied().unwrap_or(0);
        let steps = samples.windows(2).map(|pair| pair[0].abs_diff(pair[1]));
        let jitter = steps.sum::<u64>().checked_div(samples.len().saturating_sub(1) as u64).unwrap_or(0);
        let max = sorted.last().copied().unwrap_or(0);
        Self { node, p50: at(500), p99: at(990), max, jitter, samples: samples.len(), lost }
    }
}

#[derive(Debug, Default)]
struct Peer {
    asked: VecDeque<(u64, Instant)>,
    /// Round trips, and questions that were given up; when that was known.
    took: VecDeque<(Instant, Option<u64>)>,
}

impl Peer {
    fn keep(&mut self, now: Instant, took: Option<u64>) {
        if self.took.len() == KEPT {
            self.took.pop_front();
        }
        self.took.push_back((now, took));
    }
}

/// Round trips to all peers. The beat writes, whoever asks over HTTP reads.
#[derive(Debug, Default)]
pub struct Trips(Mutex<BTreeMap<NodeName, Peer>>);

impl Trips {
    /// A question left that is to be answered at once.
    pub fn asked(&self, to: &NodeName, counter: u64, now: Instant) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peers.entry(to.clone()).or_default();
        if peer.asked.len() == OPEN {
            peer.asked.pop_front();
            peer.keep(now, None);
        }
        peer.asked.push_back((counter, now));
    }

    /// A peer says that this is the last it heard. An older question's answer was lost, or came late.
    pub fn answered(&self, from: &NodeName, counter: u64, now: Instant) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(peer) = peers.get_mut(from) else { return };
        let answered = peer.asked.iter().any(|(asked, _)| *asked == counter);
        let first = answered && peer.took.iter().all(|(_, took)| took.is_none());
        while let Some((asked, at)) = peer.asked.front().copied()
            && asked <= counter
        {
            peer.asked.pop_front();
            // Where the last it heard was no question, nobody can say how long its answer took.
            if answered {
                peer.keep(now, (asked == counter).then(|| micros(now.since(at))));
            }
        }
        if first {
            // It was not there before: nothing was lost on the way.
            peer.took.retain(|(_, took)| took.is_some());
        }
    }

    /// What was measured of each peer that was asked lately.
    pub fn summary(&self, now: Instant) -> Vec<Trip> {
        let peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let trip = |(name, peer): (&NodeName, &Peer)| {
            let recent = || peer.took.iter().filter(|(at, _)| now.since(*at) <= RECENT);
            let samples: Vec<u64> = recent().filter_map(|(_, took)| *took).collect();
            Trip::of(name.clone(), &samples, recent().count() - samples.len())
        };
        peers.iter().map(trip).filter(|trip| trip.samples + trip.lost > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_is_from_a_question_to_the_answer_that_names_it() {
        let (trips, peer) = (Trips::default(), NodeName::new("edge-b").unwrap());
        let at = |micros| Instant::from_micros(micros);
        trips.asked(&peer, 1, at(0));
        trips.asked(&peer, 2, at(100));
        trips.asked(&peer, 3, at(200));
        trips.answered(&peer, 1, at(40));
        trips.answered(&peer, 3, at(500));
        trips.answered(&peer, 3, at(900));
        let trip = trips.summary(at(900)).remove(0);
        assert_eq!((trip.p50, trip.max, trip.jitter, trip.samples, trip.lost), (300, 300, 260, 2, 1));
    }

    #[test]
    fn who_was_not_there_yet_or_not_asked_for_long_is_not_said_to_lose_anything() {
        let (trips, peer) = (Trips::default(), NodeName::new("edge-c").unwrap());
        let at = |seconds| Instant::from_micros(seconds * 1_000_000);
        for counter in 1..=40 {
            trips.asked(&peer, counter, at(counter));
        }
        assert_eq!(trips.summary(at(41)).remove(0).lost, 8, "nobody answers so far");
        trips.answered(&peer, 40, at(41));
        let trip = trips.summary(at(41)).remove(0);
        assert_eq!((trip.samples, trip.lost), (1, 0));
        trips.asked(&peer, 41, at(50));
        trips.asked(&peer, 42, at(51));
        trips.answered(&peer, 42, at(52));
        let trip = trips.summary(at(60)).remove(0);
        assert_eq!((trip.samples, trip.lost), (2, 1), "a question that got lost between two answers");
        assert_eq!(trips.summary(at(110)).remove(0).samples, 1);
        assert_eq!(trips.summary(at(113)), []);
    }
}
