//! May this node have this VIP, and if not, why not, in words for the person who asks.
//!
//! In: `Desired`, a member's offer. Out: [`Eligibility`], and the interface that would carry the VIP.
//! Not here: who of the eligible gets it (`place`).

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::manifest::desired::{Desired, Node, Pool};
use crate::name::{CheckName, InterfaceName, NodeName, PoolName};
use crate::placement::offer::Offer;
use crate::vip::Vip;

/// May a node have a VIP?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Eligibility {
    /// Yes.
    Eligible,
    /// Only where nobody offers the pool in full.
    Spare,
    /// No.
    No(Reason),
}

/// Why a node may not have a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The repository declares no such node, pool or VIP in this pool.
    NotDeclared,
    /// Weight 0.
    Witness,
    /// The pool's selector wants a label that the node has not, or has with another value.
    NotSelected {
        /// The label's key.
        key: String,
        /// The value that the pool wants.
        wanted: String,
        /// The value that the node has.
        has: Option<String>,
    },
    /// `cordon: true`.
    Cordoned,
    /// Dead, left, or not yet joined.
    NotMember,
    /// The member offers nothing at all: it drains, or has just joined.
    OffersNothing,
    /// A check of the pool's `health` fails there.
    CheckFails(CheckName),
    /// The node said that it cannot have this very address.
    Refused(Vip),
    /// None of the interfaces that the pool names is usable.
    NoInterface(Vec<InterfaceName>),
    /// The named interfaces that are usable have no address of the VIP's family.
    NoFamily {
        /// The first of them.
        interface: InterfaceName,
        /// The VIP.
        vip: Vip,
    },
    /// No usable interface has a subnet that holds the VIP.
    NoSubnet(Vip),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDeclared => f.write_str("not declared"),
            Self::Witness => f.write_str("weight 0: a witness owns nothing"),
            Self::NotSelected { key, wanted, has: None } => write!(f, "not selected: label {key}={wanted} wanted"),
            Self::NotSelected { key, wanted, has: Some(has) } => {
                write!(f, "not selected: label {key}={wanted} wanted, it has {key}={has}")
            }
            Self::Cordoned => f.write_str("cordoned"),
            Self::NotMember => f.write_str("not a member of the view"),
            Self::OffersNothing => f.write_str("offers nothing: it drains or has just joined"),
            Self::CheckFails(check) => write!(f, "check {check} fails"),
            Self::Refused(vip) => {
                write!(f, "the node cannot have {vip}: its kernel or somebody on the wire refuses it")
            }
            Self::NoInterface(wanted) => {
                let wanted: Vec<&str> = wanted.iter().map(InterfaceName::as_str).collect();
                write!(f, "no usable interface: {} wanted", wanted.join(" or "))
            }
            Self::NoFamily { interface, vip } => {
                let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
                write!(f, "{interface} has no {family} address, so it cannot carry {vip}")
            }
            Self::NoSubnet(vip) => write!(f, "no usable interface in whose subnet {vip} lies"),
        }
    }
}

impl fmt::Display for Eligibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eligible => f.write_str("eligible"),
            Self::Spare => f.write_str("spare: only while nobody else offers the pool"),
            Self::No(reason) => reason.fmt(f),
        }
    }
}

/// May `node` have `vip` of `pool`? `offer` is what it offers as a member of the view, if it is one.
pub fn eligibility(
    desired: &Desired,
    offer: Option<&Offer>,
    node: &NodeName,
    pool: &PoolName,
    vip: Vip,
) -> Eligibility {
    let (Some(declared), Some(declared_pool)) = (desired.nodes.get(node), desired.pools.get(pool)) else {
        return Eligibility::No(Reason::NotDeclared);
    };
    if declared_pool.addresses.binary_search(&vip).is_err() {
        return Eligibility::No(Reason::NotDeclared);
    }
    match standing(declared, declared_pool, pool, offer) {
        Ok((offer, spare)) => match carries(declared_pool, offer, vip) {
            Ok(()) if spare => Eligibility::Spare,
            Ok(()) => Eligibility::Eligible,
            Err(reason) => Eligibility::No(reason),
        },
        Err(reason) => Eligibility::No(reason),
    }
}

/// May `node` have any VIP of `pool`, if nobody else could?
pub fn is_able(desired: &Desired, offer: &Offer, node: &NodeName, pool: &PoolName) -> bool {
    let (Some(declared), Some(declared_pool)) = (desired.nodes.get(node), desired.pools.get(pool)) else {
        return false;
    };
    standing(declared, declared_pool, pool, Some(offer))
        .is_ok_and(|(offer, _)| declared_pool.addresses.iter().any(|vip| carries(declared_pool, offer, *vip).is_ok()))
}

/// What holds for all VIPs of a pool alike: the offer, and whether it is a spare one.
pub(super) fn standing<'a>(
    node: &Node,
    pool: &Pool,
    name: &PoolName,
    offer: Option<&'a Offer>,
) -> Result<(&'a Offer, bool), Reason> {
    if node.weight == 0 {
        return Err(Reason::Witness);
    }
    let wanted = |(key, value): &(&String, &String)| node.labels.get(*key) != Some(*value);
    if let Some((key, value)) = pool.selector.iter().find(wanted) {
        let has = node.labels.get(key).cloned();
        return Err(Reason::NotSelected { key: key.clone(), wanted: value.clone(), has });
    }
    if node.cordon {
        return Err(Reason::Cordoned);
    }
    let offer = offer.ok_or(Reason::NotMember)?;
    if offer.is_empty() {
        return Err(Reason::OffersNothing);
    }
    if let Some(check) = pool.health.iter().find(|check| offer.failing.contains(*check)) {
        return Err(Reason::CheckFails(check.clone()));
    }
    Ok((offer, offer.spare.contains(name)))
}

/// What holds for one VIP: can this offer carry it?
pub(super) fn carries(pool: &Pool, offer: &Offer, vip: Vip) -> Result<(), Reason> {
    if offer.refused.contains(&vip) {
        return Err(Reason::Refused(vip));
    }
    if interface_for(pool, offer, vip).is_some() {
        return Ok(());
    }
    Err(match pool.interfaces.iter().find(|name| offer.interfaces.contains_key(*name)) {
        Some(interface) => Reason::NoFamily { interface: interface.clone(), vip },
        None if pool.interfaces.is_empty() => Reason::NoSubnet(vip),
        None => Reason::NoInterface(pool.interfaces.clone()),
    })
}

/// The interface that carries a VIP.
///
/// Where the pool names interfaces: the first of these that the node offers and in whose subnet the
/// VIP lies, else the first that has a prefix of the VIP's family at all (IPv6 link-local counts: a
/// segment needs no more). Where it names none: the interface with the longest prefix that holds the
/// VIP, of equals the first by name.
pub fn interface_for<'a>(pool: &Pool, offer: &'a Offer, vip: Vip) -> Option<&'a InterfaceName> {
    let holds = |net: &IpNet| net.contains(&vip.address());
    if pool.interfaces.is_empty() {
        let mut best: Option<(u8, &InterfaceName)> = None;
        for (name, nets) in &offer.interfaces {
            if let Some(length) = nets.iter().filter(|net| holds(net)).map(IpNet::prefix_len).max()
                && best.is_none_or(|(longest, _)| length > longest)
            {
                best = Some((length, name));
            }
        }
        return best.map(|(_, name)| name);
    }
    let offered = || pool.interfaces.iter().filter_map(|name| offer.interfaces.get_key_value(name));
    let family = |net: &IpNet| net.addr().is_ipv4() == vip.is_ipv4();
    let inside = offered().find(|(_, nets)| nets.iter().any(holds));
    inside.or_else(|| offered().find(|(_, nets)| nets.iter().any(family))).map(|(name, _)| name)
}
