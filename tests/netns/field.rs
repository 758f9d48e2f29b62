//! What people who run such software have been hurt by: whole clusters, real kernels, the faults of the field.
//!
//! Each test is one report. Outages are held to twice the promise, because a machine that runs tests is busy; that
//! nobody ever claims a VIP beside its owner is held to the letter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rendezvip::lab::bystander::Seen;
use rendezvip::lab::cluster::Layout;
use rendezvip::lab::frame::{Asker, Form, announcement, question};
use rendezvip::lab::link::Mac;
use rendezvip::lab::now;
use rendezvip::lab::repository::STATUS;
use rendezvip::lab::segment::Segment;
use rendezvip::lab::stage::Stage;
use rendezvip::status::snapshot::{MemberState, VipState};
use rendezvip::time::Instant;

use crate::stages::{
    NODES, OUTAGE, PATIENCE, WEB, announced, on, on_node, owner_of_v6, settle, stage, survived, web, within,
};
use crate::{in_a_lab, in_a_patient_lab};

#[test]
fn an_interface_that_blinks_keeps_its_vips_and_announces_them_again() {
    in_a_lab(|| {
        let stage = &mut web();
        let owner = owner_of_v6(stage);
        let (mac, its) = (stage.mac(&owner), stage.vips_of(&owner));
        let mut moved = 0;
        for round in 0..6 {
            let (start, late) = (now(), stage.late_beats());
            on_node(stage, &owner, |links| links.down("eth0")).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            let up = now();
            on_node(stage, &owner, |links| links.up("eth0")).unwrap();
            let told = within(Duration::from_secs(2), || announced(stage, mac, up).is_superset(&its));
            // A node that gets no processor loses its lease, as it must; that is no matter of the interface.
            if !told && stage.late_beats() > late {
                settle(stage);
                continue;
            }
            assert!(told, "{round}: announced {:?} of {its:?}\n{}", announced(stage, mac, up), stage.logs());
            assert!(stage.client.answered(&its, Duration::from_secs(2)), "{round}: {:?}", stage.client.report());
            std::thread::sleep(Duration::from_millis(400));
            let claims = stage.bystander.claims(start).into_iter();
            if claims.filter(|one| its.contains(&one.claim.address)).any(|one| one.claim.mac != mac) {
                moved += 1;
                settle(stage);
            }
            assert_eq!(stage.overlaps(start), [""; 0]);
        }
        // The lease outlasts the link by some 15 ms at the worst, which a busy machine may take from it, once.
        assert!(moved <= 1, "its owner changed {moved} times of 6\n{}", stage.logs());
    });
}

#[test]
fn neighbours_are_told_again_when_somebody_lied() {
    in_a_lab(|| {
        let stage = &mut web();
        let owner = owner_of_v6(stage);
        let (mac, its) = (stage.mac(&owner), stage.vips_of(&owner));
        // One forged claim by a MAC that nobody has: the client believes it, until the owner speaks up.
        for vip in &its {
            let lie = now();
            stage.bystander.send(&announcement([2, 0, 0, 0, 0, 0x66], *vip)).unwrap();
            let told = within(Duration::from_secs(2), || announced(stage, mac, lie).contains(vip));
            assert!(told, "{vip} was not defended\n{}", stage.logs());
            assert!(stage.client.answered(&[*vip].into(), Duration::from_secs(2)));
        }
        assert_eq!(stage.name(stage.claimed()[its.first().unwrap()]), owner);
    });
}

#[test]
fn an_address_that_somebody_takes_off_an_interface_is_back_at_once() {
    in_a_lab(|| {
        let stage = &mut web();
        let owner = owner_of_v6(stage);
        let (mac, its) = (stage.mac(&owner), stage.vips_of(&owner));
        let take_off = |stage: &Stage| {
            let gone = its.clone();
            on_node(stage, &owner, move |links| {
                // In the midst of the rounds one may not be back yet.
                gone.iter().filter(|vip| links.delete_address("eth0", IpNet::from(**vip)).is_ok()).count()
            })
        };
        let back = |stage: &mut Stage, since: Instant, what: &str| {
            let back = within(Duration::from_secs(2), || {
                stage.cluster.on_interface(&owner, &its).unwrap() == its && announced(stage, mac, since) == its
            });
            let there = stage.cluster.on_interface(&owner, &its).unwrap();
            let told = announced(stage, mac, since);
            assert!(back, "{what}: {there:?} stand, {told:?} announced, of {its:?}\n{}", stage.logs());
        };
        let start = now();
        assert_eq!(take_off(stage), its.len(), "each of them stood there\n{}", stage.logs());
        back(stage, start, "once");
        let told = stage.cluster.wait_status("edge-a", Duration::from_secs(2), |status| {
            let note = status.members.iter().find(|one| one.node.as_str() == owner).and_then(|one| one.note.as_ref());
            note.is_some_and(|note| its.iter().all(|vip| note.message.contains(&vip.to_string())))
        });
        assert!(told.is_some(), "{:?}\n{}", stage.cluster.status("edge-a").map(|it| it.members), stage.logs());
        assert!(stage.cluster.log_tail(&owner).contains("somebody removed a VIP"), "{}", stage.logs());
        let mut last = now();
        for _ in 0..10 {
            std::thread::sleep(Duration::from_millis(200));
            last = now();
            take_off(stage);
        }
        back(stage, last, "ten times");
        settle(stage);
        let others = stage.bystander.claims(start).into_iter().filter(|one| its.contains(&one.claim.address));
        assert!(others.into_iter().all(|one| one.claim.mac == mac), "its owner changed\n{}", stage.logs());
    });
}

#[test]
fn a_vip_that_the_kernel_takes_no_more_goes_to_another_node() {
    in_a_lab(|| {
        let stage = &mut web();
        let owner = owner_of_v6(stage);
        let (mac, its) = (stage.mac(&owner), stage.vips_of(&owner));
        let (v6, v4): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = its.into_iter().partition(IpAddr::is_ipv6);
        stage.client.mark();
        let start = now();
        let place = stage.cluster.segment.node(&owner).place();
        place.run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1")).unwrap();
        let elsewhere =
            |who: &BTreeMap<IpAddr, Mac>| v6.iter().all(|vip| who.get(vip).is_some_and(|taker| *taker != mac));
        let moved = stage.bystander.wait(Duration::from_secs(4), elsewhere);
        assert!(moved.is_some(), "{:?}\n{}", stage.claimed(), stage.logs());
        let actual = stage.cluster.wait_status("edge-a", Duration::from_secs(2), |status| {
            let of = |vip: &IpAddr| status.vips.iter().find(|one| one.vip.address() == *vip);
            v6.iter().all(|vip| of(vip).and_then(|one| one.actual.as_ref()).is_some_and(|at| at.as_str() != owner))
        });
        assert!(actual.is_some(), "{:?}", stage.cluster.status("edge-a").map(|it| it.vips));
        stage.watch();
        let claimed = stage.claimed();
        assert!(v4.iter().all(|vip| claimed.get(vip) == Some(&mac)), "its IPv4 VIPs moved\n{}", stage.logs());
        assert_eq!(stage.overlaps(start), [""; 0]);
    });
}

#[test]
fn a_node_whose_service_network_is_cut_stays_a_member_and_hands_its_vips_over() {
    in_a_lab(|| {
        let layout = Layout { gossip_network: true, ..Layout::default() };
        let mut stage = stage(layout, &[("pools/web.yaml", WEB)]);
        let damage = stage.strike("edge-a", PATIENCE, |cluster| cluster.segment.pull_cable("edge-a")).unwrap();
        survived(&mut stage, &damage, OUTAGE);
        let status = stage.cluster.status("edge-b").unwrap();
        let state = status.members.iter().find(|one| one.node.as_str() == "edge-a").map(|one| one.state);
        assert_eq!(state, Some(MemberState::Alive));
        stage.cluster.segment.plug_cable("edge-a").unwrap();
        settle(&mut stage);
    });
}

#[test]
fn unusual_questions_get_the_owners_answer_in_every_attach_mode() {
    in_a_lab(|| {
        let pool = |attach: &str, v4: &str, v6: &str| {
            format!(
                "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: {attach}}}\nspec:\n  addresses: \
                 [\"{v4}\", \"{v6}\"]\n  attach: {attach}\n"
            )
        };
        let pools = [
            pool("interface", "10.99.0.100", "fd99::100"),
            pool("loopback", "10.99.0.110", "fd99::110"),
            pool("none", "10.99.0.120", "fd99::120"),
        ];
        let files = [("a.yaml", pools[0].as_str()), ("b.yaml", pools[1].as_str()), ("c.yaml", pools[2].as_str())];
        let mut stage = Stage::new(&NODES, Layout::default(), &files).unwrap();
        stage.start_all().unwrap();
        // Nothing terminates a VIP of `none`, so the wire alone shows who has it.
        let wanted = stage.wanted().clone();
        assert!(stage.bystander.wait(PATIENCE, |who| *who == wanted).is_some(), "{}", stage.logs());
        stage.bystander.pause(true);
        stage.client.pause(true);
        // The rounds of the start are over after 3 s.
        std::thread::sleep(Duration::from_secs(4));
        let mac = Segment::bystander_mac();
        let on_loopback: BTreeSet<IpAddr> = ["10.99.0.110".parse().unwrap(), "fd99::110".parse().unwrap()].into();
        for name in NODES {
            assert_eq!(on(&stage, name, "lo"), on_loopback, "{name}\n{}", stage.logs());
        }
        // Somebody takes them away from one that answers and from two that do not.
        for name in NODES {
            let gone = on_loopback.clone();
            on_node(&stage, name, move |links| {
                gone.iter().try_for_each(|vip| links.delete_address("lo", IpNet::from(*vip)))
            })
            .unwrap();
            let back = within(Duration::from_secs(2), || on(&stage, name, "lo") == on_loopback);
            assert!(back, "{name}\n{}", stage.logs());
        }
        // And what is put back is announced again.
        std::thread::sleep(Duration::from_secs(4));
        for (vip, owner) in &wanted {
            let global = stage.cluster.segment.bystander_addresses()[usize::from(vip.is_ipv6())];
            let nobody: IpAddr = if vip.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
            let cases = [(nobody, None, (false, true)), (global, Some(*owner), (true, true))];
            for (from, to, flags) in cases {
                let start = now();
                let frame = question(Asker { mac, address: from }, *vip, to).unwrap();
                stage.bystander.send(&frame).unwrap();
                std::thread::sleep(Duration::from_millis(300));
                let answers: Vec<Seen> =
                    stage.bystander.claims(start).into_iter().filter(|one| one.claim.address == *vip).collect();
                let [answer] = answers[..] else {
                    panic!("{vip} asked from {from}: {answers:?}\n{}", stage.logs());
                };
                assert_eq!(answer.claim.mac, *owner, "{vip} asked from {from}");
                assert!(answer.at.since(start) < Duration::from_millis(100), "{vip} asked from {from}: late");
                if vip.is_ipv6() {
                    assert_eq!(answer.claim.flags, flags, "{vip} asked from {from}: S and O");
                }
            }
        }
    });
}

#[test]
fn a_stranger_that_claims_a_vip_is_named_and_moves_nothing() {
    in_a_lab(|| {
        let stage = &mut web();
        let vip = *stage.vips().first().unwrap();
        let stranger: Mac = [2, 0, 0, 0, 0, 0x77];
        let told = vip.to_string();
        // The owner sees it on the wire; the others read it in the owner's next record.
        let named = |stage: &Stage, node: &str, question: &[&str]| {
            stage.bystander.send(&announcement(stranger, vip)).unwrap();
            std::thread::sleep(Duration::from_millis(500));
            let said = stage.command(node, question).unwrap();
            said.to_lowercase().contains("02:00:00:00:00:77") && said.contains(&told)
        };
        for (node, question) in [("edge-a", ["status", "--format", "json"].as_slice()), ("edge-b", &["why", &told])] {
            let seen = within(Duration::from_secs(6), || named(stage, node, question));
            assert!(seen, "{node} does not name it\n{}", stage.logs());
        }
        let mac = stage.wanted()[&vip];
        assert!(stage.bystander.wait(PATIENCE, |who| who.get(&vip) == Some(&mac)).is_some(), "it moved");
    });
}

#[test]
fn a_commit_that_is_about_others_touches_no_frame_of_a_pool() {
    in_a_lab(|| {
        const DB: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: db}\nspec:\n  addresses: \
                          [10.99.0.130-10.99.0.132]\n";
        let stage = &mut stage(Layout::default(), &[("pools/web.yaml", WEB), ("pools/db.yaml", DB)]);
        let web: BTreeSet<IpAddr> =
            stage.vips().into_iter().filter(|vip| !vip.to_string().starts_with("10.99.0.13")).collect();
        // The rounds of the start are over after 3 s.
        std::thread::sleep(Duration::from_secs(5));
        let (start, before) = (now(), stage.wanted().clone());
        stage.client.mark();
        stage.push("Remove pool db", &[("pools/db.yaml", "")], "edge-a").unwrap();
        let db: BTreeSet<IpAddr> = before.keys().filter(|vip| !web.contains(vip)).copied().collect();
        let gone = |name: &&str| stage.cluster.on_interface(name, &db).unwrap().is_empty();
        assert!(within(Duration::from_secs(5), || NODES.iter().all(gone)), "{}", stage.logs());
        let renamed = WEB.replace("name: web", "name: shop");
        stage.push("Rename web", &[("pools/web.yaml", ""), ("shop/shop.yaml", &renamed)], "edge-a").unwrap();
        let follows = stage.cluster.wait_status("edge-a", PATIENCE, |status| {
            status.vips.len() == web.len() && status.vips.iter().all(|vip| vip.pool.as_str() == "shop")
        });
        assert!(follows.is_some(), "{}", stage.logs());
        stage.watch();
        assert_eq!(stage.lost(), 0, "{}", stage.logs());
        let told: Vec<Seen> = stage
            .bystander
            .claims(start)
            .into_iter()
            .filter(|one| one.claim.form == Form::Announcement && web.contains(&one.claim.address))
            .collect();
        assert_eq!(told, [], "announced without a reason");
        assert!(web.iter().all(|vip| stage.claimed().get(vip) == before.get(vip)), "an owner changed");
    });
}

#[test]
fn a_gateways_and_a_networks_own_addresses_are_refused_and_the_others_are_served() {
    in_a_lab(|| {
        const POOL: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec:\n  addresses: \
                            [10.99.0.0, 10.99.0.1, 10.99.0.100, 10.99.255.255]\n";
        let mut stage = Stage::new(&NODES, Layout::default(), &[("pools/web.yaml", POOL)]).unwrap();
        for name in NODES {
            let mut route = std::process::Command::new("ip");
            route.args(["route", "add", "default", "via", "10.99.0.1"]);
            let output = stage.cluster.segment.node(name).place().output(route).unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        stage.start_all().unwrap();
        let served: IpAddr = "10.99.0.100".parse().unwrap();
        let owner = stage.wanted()[&served];
        assert!(stage.bystander.wait(PATIENCE, |who| who.get(&served) == Some(&owner)).is_some(), "{}", stage.logs());
        let expected = [("10.99.0.0", "network address"), ("10.99.0.1", "gateway"), ("10.99.255.255", "broadcast")];
        let refused = stage.cluster.wait_status("edge-a", Duration::from_secs(10), |status| {
            expected.iter().all(|(address, why)| {
                let vip = status.vips.iter().find(|one| one.vip.to_string() == *address);
                vip.is_some_and(|one| {
                    one.state == VipState::Refused
                        && one.actual.is_none()
                        && one.note.as_ref().is_some_and(|note| format!("{note:?}").contains(why))
                })
            })
        });
        assert!(refused.is_some(), "{:?}\n{}", stage.cluster.status("edge-a"), stage.logs());
        stage.watch();
        assert_eq!(stage.claimed().into_keys().collect::<Vec<_>>(), [served]);
    });
}

#[test]
fn at_rest_nothing_is_committed_for_a_full_minute() {
    in_a_patient_lab(|| {
        let mut stage = web();
        // The first reports are paced; then nothing changes.
        std::thread::sleep(Duration::from_secs(20));
        let before = stage.cluster.repository.log(STATUS);
        assert!(!before.is_empty(), "no report\n{}", stage.logs());
        std::thread::sleep(Duration::from_secs(60));
        assert_eq!(stage.cluster.repository.log(STATUS), before, "a commit at rest\n{}", stage.logs());
    });
}

#[test]
fn without_git_a_node_restarts_on_its_last_good_state() {
    in_a_lab(|| {
        let mut stage = web();
        let bare = stage.cluster.repository.bare().to_owned();
        let away = bare.with_extension("away");
        std::fs::rename(&bare, &away).unwrap();
        let start = now();
        let damage = stage.strike("edge-a", PATIENCE, |cluster| cluster.kill_daemon("edge-a")).unwrap();
        survived(&mut stage, &damage, OUTAGE);
        stage.cluster.start("edge-a").unwrap();
        settle(&mut stage);
        std::fs::rename(&away, &bare).unwrap();
        assert_eq!(stage.overlaps(start), [""; 0]);
    });
}
