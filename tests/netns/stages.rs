//! What the end-to-end tests of whole clusters share: stages, how to wait, and what has to be so afterwards.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rendezvip::lab::cluster::Layout;
use rendezvip::lab::frame::Form;
use rendezvip::lab::link::{Links, Mac};
use rendezvip::lab::now;
use rendezvip::lab::stage::{Damage, Stage};
use rendezvip::time::Instant;

pub const NODES: [&str; 3] = ["edge-a", "edge-b", "edge-c"];

/// The pool of the reports.
pub const WEB: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec:\n  addresses: \
                   [10.99.0.100-10.99.0.105, \"fd99::100\"]\n  failback: {after: 1s}\n";

/// Twice the promise of 300 ms.
pub const OUTAGE: Duration = Duration::from_millis(600);

/// Longer than anything that ends well.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn stage(layout: Layout, pools: &[(&str, &str)]) -> Stage {
    let mut stage = Stage::new(&NODES, layout, pools).unwrap();
    stage.start_all().unwrap();
    settle(&mut stage);
    stage
}

pub fn web() -> Stage {
    stage(Layout::default(), &[("pools/web.yaml", WEB)])
}

#[track_caller]
pub fn settle(stage: &mut Stage) {
    if let Err(wrong) = stage.settle(PATIENCE) {
        panic!("{wrong}\n{}", stage.logs());
    }
}

#[track_caller]
pub fn survived(stage: &mut Stage, damage: &Damage, outage: Duration) {
    assert!(damage.taken_over, "nobody took over\n{}", stage.logs());
    assert!(damage.outage <= outage, "{damage:?}\n{}", stage.logs());
    assert_eq!(damage.overlaps, [], "{}", stage.logs());
    assert_eq!(damage.others_lost, 0, "the others' VIPs were touched\n{}", stage.logs());
}

/// Waits until `right`, at most `limit`.
pub fn within(limit: Duration, mut right: impl FnMut() -> bool) -> bool {
    let start = now();
    while !right() {
        if now().since(start) > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

pub fn announced(stage: &Stage, by: Mac, since: Instant) -> BTreeSet<IpAddr> {
    let claims = stage.bystander.claims(since);
    let told = claims.iter().filter(|one| one.claim.form == Form::Announcement && one.claim.mac == by);
    told.map(|one| one.claim.address).collect()
}

/// A node that has an IPv4 and, where there is one, the IPv6 VIP.
pub fn owner_of_v6(stage: &Stage) -> String {
    let v6 = stage.wanted().iter().find(|(vip, _)| vip.is_ipv6()).expect("the pool has an IPv6 VIP");
    stage.name(*v6.1)
}

pub fn on_node<T: Send + 'static>(stage: &Stage, name: &str, work: impl FnOnce(&mut Links) -> T + Send + 'static) -> T {
    stage.cluster.segment.node(name).place().run(move || work(&mut Links::open().unwrap()))
}

/// The addresses of the lab's VIP ranges that a node's kernel has on an interface.
pub fn on(stage: &Stage, name: &str, interface: &'static str) -> BTreeSet<IpAddr> {
    let found = stage.cluster.segment.node(name).place().run(move || -> Vec<IpAddr> {
        let addresses = nix::ifaddrs::getifaddrs().unwrap().filter(|one| one.interface_name == interface);
        let address = |one: nix::ifaddrs::InterfaceAddress| {
            let address = one.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        };
        addresses.filter_map(address).collect()
    });
    let vip = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.octets()[..2] == [10, 99],
        IpAddr::V6(v6) => v6.segments()[0] == 0xfd99,
    };
    found.into_iter().filter(vip).collect()
}
