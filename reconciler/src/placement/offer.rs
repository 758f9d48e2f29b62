//! What a node can carry right now, in its own words.
//!
//! In: the node's knowledge of itself. Out: [`Offer`], which travels whole in a heartbeat and by
//! digest in a view. Not here: how it comes about (`engine`), whom it makes owner (`placement`).

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::desired::Desired;
use crate::name::{CheckName, InterfaceName, PoolName};
use crate::vip::Vip;

/// What a node can carry. The empty offer means: not eligible for anything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Offer {
    /// Usable interfaces (up, with carrier, allowed) and the subnets on each.
    pub interfaces: BTreeMap<InterfaceName, BTreeSet<IpNet>>,
    /// Checks that fail at the moment.
    pub failing: BTreeSet<CheckName>,
    /// Pools that it takes only where nobody offers them in full (failback, damping, suspend).
    pub spare: BTreeSet<PoolName>,
    /// Single VIPs that it cannot have (a stranger holds them, the kernel refuses them).
    pub refused: BTreeSet<Vip>,
}

impl Offer {
    /// Is the node not eligible for anything?
    pub fn is_empty(&self) -> bool {
        self.interfaces.is_empty()
    }

    /// The offer of a node on which everything is as the repository assumes: each interface that a
    /// pool names is usable and has a subnet that holds any address. For plans made without a cluster.
    pub fn ideal(desired: &Desired) -> Self {
        let nets: BTreeSet<IpNet> = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into();
        let named = desired.pools.values().flat_map(|pool| pool.interfaces.iter().cloned());
        let any = InterfaceName::new("any").ok();
        let interfaces = named.chain(any).map(|name| (name, nets.clone())).collect();
        Self { interfaces, ..Self::default() }
    }

    /// Digest of the offer, by which a view names it.
    ///
    /// # Panics
    /// Never: an offer always serializes.
    pub fn digest(&self) -> Digest {
        Digest::of(&postcard::to_allocvec(self).expect("an offer serializes"))
    }
}
