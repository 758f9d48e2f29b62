//! What users were promised of placement, as properties of random clusters.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::fixture::{Offers, cluster, everybody, offer, pool};
use super::{Eligibility, Placement, Ranking, Reason, cap, eligibility, interface_for, place};
use crate::digest::Digest;
use crate::manifest::desired::{Desired, PlacementMode};
use crate::name::{NodeName, PoolName};
use crate::placement::offer::Offer;
use crate::vip::Vip;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn owners(placement: &Placement) -> Vec<Option<NodeName>> {
    (0..placement.len()).map(|vip| placement.owner(vip).cloned()).collect()
}

/// Owners by address, of one pool.
fn owners_in(desired: &Desired, pool: &str, offers: &Offers) -> BTreeMap<Vip, Option<NodeName>> {
    let ranking = Ranking::new(desired);
    let placement = place(desired, &ranking, offers);
    let vips = ranking.vips().iter().enumerate().filter(|(_, ranked)| ranked.pool.as_str() == pool);
    vips.map(|(at, ranked)| (ranked.vip, placement.owner(at).cloned())).collect()
}

prop_compose! {
    /// 1 to 20 nodes of equal or mixed weight; two pools.
    fn clusters()(
        weights in prop_oneof![
            (1..20usize, 1..4u8).prop_map(|(count, weight)| vec![weight; count]),
            prop::collection::vec(0..=5u8, 1..20),
        ],
        web in 1..120u32,
        db in 0..40u32,
        rendezvous in any::<bool>(),
        salt in 0..1000u32,
    ) -> Desired {
        let nodes: Vec<String> = weights.iter().enumerate().map(|(at, w)| format!("n{salt}-{at}={w}")).collect();
        let mut desired = cluster(&nodes.iter().map(String::as_str).collect::<Vec<_>>());
        if rendezvous {
            desired.cluster.placement = PlacementMode::Rendezvous;
        }
        desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", web));
        desired.pools.insert("db".parse().unwrap(), pool("10.9.0.1", db));
        desired
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_failure_moves_only_the_dead_nodes_vips_and_a_return_brings_them_back(
        desired in clusters(), dead in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let ranking = Ranking::new(&desired);
        let mut offers = everybody(&desired);
        let before = owners(&place(&desired, &ranking, &offers));
        let mut state = before.clone();
        let nodes: Vec<NodeName> = desired.nodes.keys().cloned().collect();
        for dead in dead {
            let dead = dead.get(&nodes);
            let gone = offers.remove(dead);
            let after = owners(&place(&desired, &ranking, &offers));
            for (was, is) in state.iter().zip(&after) {
                prop_assert!(was == is || was.as_ref() == Some(dead), "{was:?} -> {is:?} when {dead} died");
                prop_assert!(is.as_ref() != Some(dead));
            }
            if let Some(gone) = gone {
                let mut back = offers.clone();
                back.insert(dead.clone(), gone);
                prop_assert_eq!(&owners(&place(&desired, &ranking, &back)), &state);
            }
            state = after;
        }
    }

    #[test]
    fn the_first_backup_takes_over_when_the_owner_dies(desired in clusters()) {
        let ranking = Ranking::new(&desired);
        let offers = everybody(&desired);
        let placement = place(&desired, &ranking, &offers);
        for vip in (0..placement.len()).step_by(7) {
            let Some(owner) = placement.owner(vip) else { continue };
            let mut without = offers.clone();
            without.remove(owner);
            let after = place(&desired, &ranking, &without);
            prop_assert_eq!(after.owner(vip), placement.backups(vip).next());
            prop_assert_eq!(after.backups(vip).next(), placement.backups(vip).nth(1));
        }
    }

    #[test]
    fn no_node_is_above_its_cap_in_a_balanced_pool(desired in clusters()) {
        let mut desired = desired;
        desired.cluster.placement = PlacementMode::Balanced;
        let ranking = Ranking::new(&desired);
        let total = desired.nodes.values().map(|node| u64::from(node.weight)).sum();
        for (pool_name, pool) in &desired.pools {
            let mut held: BTreeMap<&NodeName, u64> = BTreeMap::new();
            for (vip, _) in ranking.vips().iter().enumerate().filter(|(_, ranked)| ranked.pool == *pool_name) {
                if let Some(base) = ranking.base(vip) {
                    *held.entry(base).or_default() += 1;
                }
            }
            for (node, count) in held {
                let cap = cap(pool.addresses.len(), desired.nodes[node].weight, total);
                prop_assert!(count <= cap, "{node} has {count} of {} in {pool_name}, cap {cap}", pool.addresses.len());
            }
        }
    }

    #[test]
    fn a_change_of_addresses_touches_no_other_pool(desired in clusters(), more in 1..40u32) {
        let before = owners_in(&desired, "db", &everybody(&desired));
        let mut after = desired.clone();
        after.pools.insert("web".parse().unwrap(), pool("10.0.0.1", more));
        prop_assert_eq!(&owners_in(&after, "db", &everybody(&after)), &before);
        after.pools.remove("web");
        prop_assert_eq!(owners_in(&after, "db", &everybody(&after)), before);
    }

    #[test]
    fn rendezvous_at_equal_weights_is_metallbs_order(count in 1..40usize, weight in 1..=100u8, vips in 1..20u32) {
        let nodes: Vec<String> = (0..count).map(|at| format!("node-{at}.example={weight}")).collect();
        let mut desired = cluster(&nodes.iter().map(String::as_str).collect::<Vec<_>>());
        desired.cluster.placement = PlacementMode::Rendezvous;
        desired.pools.insert("web".parse().unwrap(), pool("192.0.2.1", vips));
        let ranking = Ranking::new(&desired);
        let placement = place(&desired, &ranking, &everybody(&desired));
        for (at, ranked) in ranking.vips().iter().enumerate() {
            // As speaker/layer2_controller.go does: sort by the bytes of sha256(node + "#" + ip).
            let mut line: Vec<&NodeName> = desired.nodes.keys().collect();
            line.sort_by_key(|node| Digest::of(format!("{node}#{}", ranked.vip).as_bytes()).0);
            let order: Vec<&NodeName> = ranking.order(at).iter().map(|n| &ranking.nodes()[usize::from(*n)]).collect();
            prop_assert_eq!(&order, &line);
            prop_assert_eq!(placement.owner(at), line.first().copied());
        }
    }

    #[test]
    fn the_head_of_an_order_is_the_beginning_of_the_whole(desired in clusters(), prefer in 0..6usize) {
        let mut desired = desired;
        let names: Vec<NodeName> = desired.nodes.keys().rev().take(prefer).cloned().collect();
        desired.pools.get_mut("web").unwrap().prefer = names;
        let ranking = Ranking::new(&desired);
        let lazy: Vec<Vec<u16>> = (0..ranking.vips().len()).map(|vip| ranking.succession(vip).collect()).collect();
        for (vip, lazy) in lazy.iter().enumerate() {
            let mut line: Vec<u16> = ranking.order(vip).to_vec();
            if let Some(base) = ranking.base(vip) {
                let base = ranking.nodes().iter().position(|node| node == base).unwrap() as u16;
                line.retain(|node| *node != base);
                line.insert(0, base);
            }
            prop_assert_eq!(lazy, &line);
        }
    }

    #[test]
    fn the_same_input_gives_the_same_placement(desired in clusters()) {
        let once = place(&desired, &Ranking::new(&desired), &everybody(&desired));
        let ranking = Ranking::new(&desired.clone());
        ranking.complete();
        prop_assert_eq!(once, place(&desired, &ranking, &everybody(&desired)));
    }

    #[test]
    fn a_heavier_node_gets_its_share(salt in 0..500u32) {
        let mut desired = cluster(&[&format!("a{salt}=3"), &format!("b{salt}=1")]);
        desired.cluster.placement = PlacementMode::Rendezvous;
        desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", 2000));
        let owners = owners_in(&desired, "web", &everybody(&desired));
        let heavy = owners.values().flatten().filter(|node| node.as_str().starts_with('a')).count();
        // 1,500 expected, standard deviation 19: eight of these.
        prop_assert!((1345..=1655).contains(&heavy), "{heavy} of 2000");
    }
}

#[test]
fn a_node_added_or_removed_moves_few_vips_in_a_balanced_pool() {
    let before = {
        let mut desired = cluster(&["a", "b", "c", "d"]);
        desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", 400));
        owners_in(&desired, "web", &everybody(&desired))
    };
    let mut desired = cluster(&["a", "b", "c", "d", "e"]);
    desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", 400));
    let after = owners_in(&desired, "web", &everybody(&desired));
    let moved = before.iter().filter(|(vip, owner)| after[*vip] != **owner).count();
    assert!((60..=120).contains(&moved), "{moved} of 400 moved, 80 is ideal");
}

fn eligible(desired: &Desired, offer: Option<&Offer>, node: &str) -> Eligibility {
    let vip = desired.pools.values().next().unwrap().addresses[0];
    eligibility(desired, offer, &name(node), &PoolName::new("web").unwrap(), vip)
}

#[test]
fn who_may_not_have_a_vip_is_told_why() {
    let mut desired = cluster(&["a", "b=0", "c", "d"]);
    desired.nodes.get_mut("a").unwrap().labels.insert("rack".into(), "r1".into());
    desired.nodes.get_mut("b").unwrap().labels.insert("rack".into(), "r1".into());
    desired.nodes.get_mut("c").unwrap().labels.insert("rack".into(), "r2".into());
    let mut web = pool("10.0.0.1", 1);
    web.selector.insert("rack".into(), "r1".into());
    web.health = vec!["https".parse().unwrap()];
    desired.pools.insert("web".parse().unwrap(), web);

    let good = offer(&["10.0.0.9/24"]);
    let told = |offer: Option<&Offer>, node: &str| eligible(&desired, offer, node).to_string();
    assert_eq!(told(Some(&good), "a"), "eligible");
    assert_eq!(told(Some(&good), "b"), "weight 0: a witness owns nothing");
    assert_eq!(told(Some(&good), "c"), "not selected: label rack=r1 wanted, it has rack=r2");
    assert_eq!(told(Some(&good), "d"), "not selected: label rack=r1 wanted");
    assert_eq!(told(None, "a"), "not a member of the view");
    assert_eq!(told(Some(&good), "e"), "not declared");
    assert_eq!(told(Some(&Offer::default()), "a"), "offers nothing: it drains or has just joined");
    let with = |change: fn(&mut Offer)| {
        let mut offer = good.clone();
        change(&mut offer);
        told(Some(&offer), "a")
    };
    assert_eq!(with(|offer| offer.failing.extend(["https".parse().unwrap()])), "check https fails");
    assert_eq!(with(|offer| offer.failing.extend(["smtp".parse().unwrap()])), "eligible");
    assert_eq!(
        with(|offer| offer.refused.extend(["10.0.0.1".parse::<Vip>().unwrap()])),
        "the node cannot have 10.0.0.1: its kernel or somebody on the wire refuses it"
    );
    assert_eq!(
        with(|offer| offer.spare.extend(["web".parse().unwrap()])),
        "spare: only while nobody else offers the pool"
    );
    assert_eq!(told(Some(&offer(&["10.1.0.9/24"])), "a"), "no usable interface in whose subnet 10.0.0.1 lies");

    desired.nodes.get_mut("a").unwrap().cordon = true;
    assert_eq!(eligible(&desired, Some(&good), "a"), Eligibility::No(Reason::Cordoned));

    desired.nodes.get_mut("a").unwrap().cordon = false;
    let told = |desired: &Desired, offer: &Offer| eligible(desired, Some(offer), "a").to_string();
    desired.pools.get_mut("web").unwrap().interfaces = vec!["eth0".parse().unwrap()];
    assert_eq!(told(&desired, &offer(&["10.1.0.9/24"])), "eligible");
    assert_eq!(told(&desired, &offer(&["fd00::9/64"])), "eth0 has no IPv4 address, so it cannot carry 10.0.0.1");
    desired.pools.get_mut("web").unwrap().interfaces = vec!["eth1".parse().unwrap(), "eth2".parse().unwrap()];
    assert_eq!(told(&desired, &good), "no usable interface: eth1 or eth2 wanted");
}

#[test]
fn the_interface_is_the_one_whose_subnet_holds_the_vip_most_narrowly() {
    let mut pool = pool("10.0.0.1", 1);
    let vip = pool.addresses[0];
    let mut offer = Offer::default();
    let mut add = |interface: &str, net: &str| {
        offer.interfaces.entry(interface.parse().unwrap()).or_default().insert(net.parse().unwrap());
    };
    add("eth0", "10.0.0.7/8");
    add("eth1", "10.0.0.8/24");
    add("eth2", "10.0.0.9/24");
    add("eth3", "192.0.2.1/24");
    assert_eq!(interface_for(&pool, &offer, vip).unwrap().as_str(), "eth1");
    pool.interfaces = vec!["eth9".parse().unwrap(), "eth3".parse().unwrap(), "eth2".parse().unwrap()];
    assert_eq!(interface_for(&pool, &offer, vip).unwrap().as_str(), "eth2");
    pool.interfaces.pop();
    assert_eq!(interface_for(&pool, &offer, vip).unwrap().as_str(), "eth3");
    assert_eq!(interface_for(&pool, &offer, "fd00::1".parse().unwrap()), None);
}

#[test]
fn a_spare_offer_counts_only_where_nobody_offers_in_full() {
    let mut desired = cluster(&["a", "b", "c"]);
    desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", 30));
    let ranking = Ranking::new(&desired);
    let mut offers = everybody(&desired);
    let full = Arc::clone(&offers["a"]);
    let mut spare = Offer::clone(&full);
    spare.spare.insert("web".parse().unwrap());
    offers.insert(name("a"), Arc::new(spare.clone()));
    let placement = place(&desired, &ranking, &offers);
    assert!((0..30).all(|vip| placement.owner(vip) != Some(&name("a"))));
    assert!((0..30).all(|vip| placement.backups(vip).nth(1) == Some(&name("a"))), "the spare one comes last");
    for node in ["b", "c"] {
        offers.insert(name(node), Arc::new(spare.clone()));
    }
    let placement = place(&desired, &ranking, &offers);
    assert_eq!(owners(&placement), owners(&place(&desired, &ranking, &everybody(&desired))));
}

#[test]
fn preferred_nodes_go_before_rank_and_cap_in_their_order() {
    let mut desired = cluster(&["a", "b", "c", "w=0"]);
    let mut web = pool("10.0.0.1", 30);
    web.prefer = vec![name("w"), name("c"), name("b")];
    desired.pools.insert("web".parse().unwrap(), web);
    let ranking = Ranking::new(&desired);
    let placement = place(&desired, &ranking, &everybody(&desired));
    for vip in 0..30 {
        assert_eq!(placement.owner(vip), Some(&name("c")));
        assert_eq!(placement.backups(vip).cloned().collect::<Vec<_>>(), [name("b"), name("a")]);
    }
}

#[test]
fn a_cordoned_node_gives_up_only_its_own_vips() {
    let mut desired = cluster(&["a", "b", "c"]);
    desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", 60));
    let before = owners_in(&desired, "web", &everybody(&desired));
    desired.nodes.get_mut("b").unwrap().cordon = true;
    for (vip, owner) in owners_in(&desired, "web", &everybody(&desired)) {
        assert_ne!(owner, Some(name("b")));
        assert!(owner == before[&vip] || before[&vip] == Some(name("b")));
    }
}

#[test]
fn a_pool_placed_together_has_one_owner_that_can_carry_it_all() {
    let mut desired = cluster(&["a", "b", "c"]);
    let mut web = pool("10.0.0.1", 3);
    web.addresses.push("fd00::1".parse().unwrap());
    web.together = true;
    desired.pools.insert("web".parse().unwrap(), web);
    let mut line: Vec<NodeName> = desired.nodes.keys().cloned().collect();
    line.sort_by_key(|node| Digest::of(format!("{node}#web").as_bytes()).0);

    let ranking = Ranking::new(&desired);
    let mut offers = everybody(&desired);
    let placement = place(&desired, &ranking, &offers);
    for vip in 0..4 {
        assert_eq!(placement.owner(vip), Some(&line[0]));
        assert_eq!(placement.backups(vip).cloned().collect::<Vec<_>>(), line[1..]);
    }

    // The first lost IPv6: the whole pool goes to the next.
    offers.insert(line[0].clone(), Arc::new(offer(&["10.0.0.9/24"])));
    let placement = place(&desired, &ranking, &offers);
    assert!((0..4).all(|vip| placement.owner(vip) == Some(&line[1])));
    assert_eq!(placement.backups(0).cloned().collect::<Vec<_>>(), [line[2].clone(), line[0].clone()]);
    assert_eq!(placement.backups(3).cloned().collect::<Vec<_>>(), [line[2].clone()]);

    // Nobody has it all: who has the most serves that, and nobody else serves the rest.
    offers.insert(line[1].clone(), Arc::new(offer(&["fd00::9/64"])));
    offers.insert(line[2].clone(), Arc::new(Offer::default()));
    let placement = place(&desired, &ranking, &offers);
    assert!((0..3).all(|vip| placement.owner(vip) == Some(&line[0])));
    assert_eq!(placement.owner(3), None);
    assert_eq!(placement.backups(3).cloned().collect::<Vec<_>>(), [line[1].clone()]);
}

#[test]
fn vips_are_listed_by_pool_and_address_and_found_by_address() {
    let mut desired = cluster(&["a"]);
    desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", 2));
    desired.pools.insert("db".parse().unwrap(), pool("10.0.1.1", 2));
    let ranking = Ranking::new(&desired);
    let listed: Vec<String> = ranking.vips().iter().map(|r| format!("{} {}", r.pool, r.vip)).collect();
    assert_eq!(listed, ["db 10.0.1.1", "db 10.0.1.2", "web 10.0.0.1", "web 10.0.0.2"]);
    for (at, ranked) in ranking.vips().iter().enumerate() {
        assert_eq!(ranking.index_of(ranked.vip), Some(at));
    }
    assert_eq!(ranking.index_of("10.0.0.3".parse().unwrap()), None);
}

#[test]
fn without_members_candidates_or_addresses_nobody_owns_anything() {
    let mut desired = cluster(&["w=0"]);
    desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", 2));
    let mut empty = pool("10.0.0.9", 0);
    empty.together = true;
    desired.pools.insert("empty".parse().unwrap(), empty);
    let ranking = Ranking::new(&desired);
    let placement = place(&desired, &ranking, &everybody(&desired));
    assert_eq!(owners(&placement), [None, None]);
    assert_eq!(ranking.base(0), None);
    assert!(ranking.order(0).is_empty() && ranking.order(7).is_empty());
    assert_eq!(placement.owner(7), None);
}

#[test]
fn threads_change_nothing_of_what_comes_out() {
    // One pool is above the size from which threads share it; its VIPs one by one are far below.
    let nodes: Vec<String> = (0..60).map(|at| format!("n{at}={}", at % 4)).collect();
    let mut desired = cluster(&nodes.iter().map(String::as_str).collect::<Vec<_>>());
    desired.cluster.placement = PlacementMode::Rendezvous;
    desired.pools.insert("web".parse().unwrap(), pool("10.0.0.1", 2000));
    let many = owners_in(&desired, "web", &everybody(&desired));
    for (vip, owner) in many.iter().step_by(97) {
        desired.pools.get_mut("web").unwrap().addresses = vec![*vip];
        assert_eq!(owners_in(&desired, "web", &everybody(&desired))[vip], *owner);
    }
}
