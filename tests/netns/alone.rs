//! Two nodes, no witness, a pool of each kind: `available` goes on with one of them, `strict` does not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use rendezvip::lab::cluster::Layout;
use rendezvip::lab::link::Mac;
use rendezvip::lab::now;
use rendezvip::lab::stage::Stage;
use rendezvip::status::condition::ConditionType;

use crate::in_a_lab;
use crate::stages::{PATIENCE, settle, within};

const PAIR: [&str; 2] = ["edge-a", "edge-b"];
const RELAY: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: relay}\nspec:\n  addresses: \
                     [10.99.0.100-10.99.0.105, \"fd99::100\"]\n  partition: available\n  failback: {after: 1s}\n";
const WEB: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec:\n  addresses: \
                   [10.99.0.110-10.99.0.113]\n  failback: {after: 1s}\n";

fn pair() -> Stage {
    let pools = [("pools/relay.yaml", RELAY), ("pools/web.yaml", WEB)];
    let mut stage = Stage::new(&PAIR, Layout::default(), &pools).unwrap();
    stage.start_all().unwrap();
    settle(&mut stage);
    stage
}

fn is_strict(vip: &IpAddr) -> bool {
    matches!(vip, IpAddr::V4(v4) if v4.octets()[3] >= 110)
}

fn available(vips: impl IntoIterator<Item = IpAddr>) -> BTreeSet<IpAddr> {
    vips.into_iter().filter(|vip| !is_strict(vip)).collect()
}

#[test]
fn when_one_of_two_dies_the_other_serves_what_is_available_and_gives_it_back() {
    in_a_lab(|| {
        let mut stage = pair();
        let (start, survivor) = (now(), stage.mac("edge-a"));
        let (own, hit) = (available(stage.vips_of("edge-a")), available(stage.vips_of("edge-b")));
        assert!(!own.is_empty() && !hit.is_empty(), "{own:?} {hit:?}");
        stage.client.mark();
        stage.cluster.segment.power_off("edge-b").unwrap();
        let served = |who: &BTreeMap<IpAddr, Mac>| hit.iter().all(|vip| who.get(vip) == Some(&survivor));
        assert!(stage.bystander.wait(PATIENCE, served).is_some() && stage.client.answered(&hit, PATIENCE));
        let report = stage.client.report();
        let outage = hit.iter().map(|vip| report[vip].longest).max().unwrap();
        assert!(outage <= Duration::from_millis(1_200), "{outage:?}\n{}", stage.logs());
        assert_eq!(
            own.iter().map(|vip| report[vip].lost).sum::<u64>(),
            0,
            "what it had it goes on with\n{}",
            stage.logs()
        );
        // Until its lease ended it answered for these rightly.
        std::thread::sleep(Duration::from_millis(500));
        assert!(stage.bystander.claimants(now().before(Duration::from_millis(300))).keys().all(|vip| !is_strict(vip)));

        let told = stage.cluster.wait_status("edge-a", PATIENCE, |status| {
            let ready = status.conditions.iter().find(|it| it.kind == ConditionType::Ready);
            let alone =
                status.vips.iter().filter(|it| it.note.as_ref().is_some_and(|note| note.reason == "ServedAlone"));
            ready.is_some_and(|it| it.reason == "ServedAlone") && alone.count() == 7
        });
        assert!(told.is_some(), "{:?}", stage.cluster.status("edge-a"));
        assert_eq!(stage.total("rendezvip_vips_served_alone"), 7);
        let why = stage.command("edge-a", &["why", &hit.first().unwrap().to_string()]).unwrap();
        assert!(why.contains("there is no view: it is served alone, and two owners are possible"), "{why}");

        stage.cluster.segment.power_on("edge-b").unwrap();
        stage.cluster.start("edge-b").unwrap();
        settle(&mut stage);
        assert_eq!(stage.overlaps(start), Vec::<String>::new(), "{}", stage.logs());
    });
}

#[test]
fn two_halves_both_serve_what_is_available_and_one_of_them_does_once_they_meet() {
    in_a_lab(|| {
        let mut stage = pair();
        let vips = available(stage.vips());
        let macs = PAIR.map(|name| stage.mac(name));
        let cut = now();
        stage.cluster.segment.partition(&["edge-a"], &["edge-b"]).unwrap();
        let both = || {
            let claims = stage.bystander.claims(cut);
            let claimed =
                |vip: &IpAddr, mac: Mac| claims.iter().any(|one| one.claim.address == *vip && one.claim.mac == mac);
            vips.iter().all(|vip| macs.iter().all(|mac| claimed(vip, *mac)))
        };
        assert!(within(PATIENCE, both), "two owners while the cut lasts, as in VRRP");
        std::thread::sleep(Duration::from_secs(2));
        let strict = stage.bystander.claims(now().before(Duration::from_secs(1)));
        assert!(strict.iter().all(|one| !is_strict(&one.claim.address)), "a strict pool never");

        stage.cluster.segment.heal().unwrap();
        std::thread::sleep(Duration::from_secs(2));
        let healed = now();
        stage.client.mark();
        std::thread::sleep(Duration::from_secs(2));
        let owners = |vip: &IpAddr| {
            let claims = stage.bystander.claims(healed);
            claims.iter().filter(|one| one.claim.address == *vip).map(|one| one.claim.mac).collect::<BTreeSet<_>>()
        };
        let twice: Vec<&IpAddr> = vips.iter().filter(|vip| owners(vip).len() != 1).collect();
        assert!(twice.is_empty(), "{twice:?}\n{}", stage.logs());
        let report = stage.client.report();
        let lost: u64 = vips.iter().map(|vip| report[vip].lost).sum();
        assert_eq!(lost, 0, "neighbours were told who has them\n{}", stage.logs());
        settle(&mut stage);
    });
}
