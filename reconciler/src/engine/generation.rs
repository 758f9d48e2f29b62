//! A generation: a desired state that may be in force, with what is worked out of it once.
//!
//! In: `Desired` and the label of its revision. Out: [`Generation`]. Not here: which one is in force (`membership`).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;
use crate::manifest::desired::Desired;
use crate::name::NodeName;
use crate::placement::Ranking;
use crate::vip::Vip;

/// A desired state, the label of the revision it came from, and its ranking.
#[derive(Debug)]
pub struct Generation {
    /// What is desired.
    pub desired: Arc<Desired>,
    /// `main@sha1:…`, for people; the digest decides.
    pub revision: String,
    /// The order of the nodes for each VIP.
    pub ranking: Ranking,
}

impl Generation {
    /// Works out the ranking.
    pub fn new(desired: Arc<Desired>, revision: String) -> Self {
        let ranking = Ranking::new(&desired);
        Self { desired, revision, ranking }
    }

    /// Its name among nodes.
    pub fn digest(&self) -> Digest {
        self.desired.digest
    }

    /// The declared nodes.
    pub fn names(&self) -> BTreeSet<NodeName> {
        self.desired.nodes.keys().cloned().collect()
    }

    /// Does any pool declare the VIP?
    pub fn declares(&self, vip: Vip) -> bool {
        self.ranking.index_of(vip).is_some()
    }
}

impl Serialize for Generation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.desired, &self.revision).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Generation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (desired, revision) = Deserialize::deserialize(deserializer)?;
        Ok(Self::new(Arc::new(desired), revision))
    }
}
