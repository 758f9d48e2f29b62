//! Somebody else on the segment: a stranger with a VIP's address, and another cluster.

use std::net::IpAddr;
use std::time::Duration;

use rendezvip::lab::cluster::Layout;
use rendezvip::lab::frame::{Form, announcement};
use rendezvip::lab::link::Mac;
use rendezvip::lab::now;
use rendezvip::lab::stage::Stage;
use rendezvip::status::snapshot::VipState;

use crate::in_a_patient_lab;
use crate::stages::{PATIENCE, WEB, on_node, owner_of_v6, settle, web, within};

const STRANGER: Mac = [2, 0, 0, 0, 0, 0x77];

fn state(stage: &Stage, vip: IpAddr) -> Option<VipState> {
    let status = stage.cluster.status("edge-a").ok()?;
    status.vips.iter().find(|one| one.vip.address() == vip).map(|one| one.state)
}

#[test]
fn a_claim_is_defended_once_in_ten_seconds_and_forgotten_within_a_minute_of_its_end() {
    in_a_patient_lab(|| {
        let stage = &mut web();
        let vip = *stage.vips().first().unwrap();
        let (owner, others) = (stage.wanted()[&vip], stage.wanted().clone());
        // The rounds of the start are over.
        std::thread::sleep(Duration::from_secs(5));
        let start = now();
        for _ in 0..25 {
            stage.bystander.send(&announcement(STRANGER, vip)).unwrap();
            std::thread::sleep(Duration::from_secs(1));
        }
        assert_eq!(state(stage, vip), Some(VipState::Conflict), "{}", stage.logs());
        let told = stage.bystander.claims(start).into_iter();
        let told = told.filter(|one| one.claim.form == Form::Announcement && one.claim.mac == owner);
        let mut defences: Vec<(IpAddr, u64)> =
            told.map(|one| (one.claim.address, one.at.since(start).as_millis() as u64)).collect();
        assert!(defences.iter().all(|(address, _)| *address == vip), "other VIPs are left alone: {defences:?}");
        // The request and the reply of one defence go out together.
        defences.dedup_by_key(|(_, at)| *at / 500);
        let gaps: Vec<u64> = defences.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
        assert!((2..=3).contains(&defences.len()), "defended at {defences:?}");
        assert!(gaps.iter().all(|gap| *gap >= 9_900), "defended too often: {defences:?}");
        let cleared = within(Duration::from_secs(60), || {
            std::thread::sleep(Duration::from_millis(500));
            state(stage, vip) == Some(VipState::Held)
        });
        assert!(cleared, "{:?}\n{}", state(stage, vip), stage.logs());
        let moved = stage.bystander.claims(start).into_iter();
        let moved = moved.filter(|one| one.claim.mac != STRANGER && others[&one.claim.address] != one.claim.mac);
        assert_eq!(moved.count(), 0, "a VIP moved");
    });
}

#[test]
fn a_second_cluster_on_the_same_segment_changes_nothing_and_serves_its_own() {
    in_a_patient_lab(|| {
        const THEIRS: [&str; 3] = ["other-1", "other-2", "other-3"];
        let names = ["edge-a", "edge-b", "edge-c", "other-1", "other-2", "other-3"];
        let gone = THEIRS.map(|name| format!("nodes/{name}.yaml"));
        let mut files = vec![("pools/web.yaml", WEB)];
        files.extend(gone.iter().map(|path| (path.as_str(), "")));
        let stage = &mut Stage::new(&names, Layout::default(), &files).unwrap();
        for name in ["edge-a", "edge-b", "edge-c"] {
            stage.cluster.start(name).unwrap();
        }
        let wanted = stage.wanted().clone();
        assert!(stage.bystander.wait(PATIENCE, |who| *who == wanted).is_some(), "{}", stage.logs());

        // Another name, another key, another repository; one VIP of theirs is ours.
        let mut manifests = "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: other}\n---\napiVersion: \
                             rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec: {addresses: [10.99.0.100, \
                             10.99.0.200]}\n"
            .to_owned();
        let folder = stage.cluster.segment.node("other-1").disk().parent().unwrap().join("theirs");
        std::fs::create_dir_all(&folder).unwrap();
        let key = std::process::Command::new(rendezvip::lab::namespace::BINARY).arg("keygen").output().unwrap();
        for name in THEIRS {
            let node = stage.cluster.segment.node(name);
            manifests.push_str(&format!(
                "---\napiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{address: {}}}\n",
                node.seat().v4()
            ));
            std::fs::write(node.disk().join("gossip.key"), &key.stdout).unwrap();
            let file = std::fs::read_to_string(stage.cluster.config(name)).unwrap();
            let (before, after) = file.split_once("source: {").unwrap();
            let (_, after) = after.split_once("}}\n").unwrap();
            let file = format!("{before}source: {{directory: {}}}\n{after}", folder.display());
            std::fs::write(stage.cluster.config(name), file).unwrap();
        }
        std::fs::write(folder.join("all.yaml"), manifests).unwrap();
        let (ours, own): (IpAddr, IpAddr) = ("10.99.0.100".parse().unwrap(), "10.99.0.200".parse().unwrap());
        let mut watched = stage.vips();
        watched.insert(own);
        stage.bystander.watch(&watched);
        stage.client.mark();
        let start = now();
        for name in THEIRS {
            stage.cluster.start(name).unwrap();
        }
        let theirs = THEIRS.map(|name| stage.mac(name));
        let serves =
            |who: &std::collections::BTreeMap<IpAddr, Mac>| who.get(&own).is_some_and(|mac| theirs.contains(mac));
        assert!(stage.bystander.wait(PATIENCE, serves).is_some(), "their own is not served\n{}", stage.logs());
        std::thread::sleep(Duration::from_secs(5));
        let claims = stage.bystander.claims(start);
        let wrong = claims.iter().find(|one| one.claim.address != own && wanted[&one.claim.address] != one.claim.mac);
        assert_eq!(wrong, None, "somebody else spoke for a VIP of the first cluster\n{}", stage.logs());
        assert_eq!(stage.overlaps(start), [""; 0]);
        let status = stage.cluster.status("edge-a").unwrap();
        assert_eq!(status.members.len(), 3);
        // Theirs knows why it does not have ours.
        let status = stage.cluster.status("other-1").unwrap();
        let vip = status.vips.iter().find(|one| one.vip.address() == ours).unwrap();
        assert_eq!((vip.actual.as_ref(), vip.state == VipState::Held), (None, false), "{vip:?}");
    });
}

#[test]
fn a_vip_that_somebody_put_on_its_node_by_hand_goes_elsewhere_and_is_never_removed() {
    in_a_patient_lab(|| {
        let stage = &mut web();
        let owner = owner_of_v6(stage);
        let (mac, its) = (stage.mac(&owner), stage.vips_of(&owner));
        let start = now();
        for vip in its.clone() {
            on_node(stage, &owner, move |links| {
                // In the moment between, the daemon may put it back: then it is tried again.
                for _ in 0..50 {
                    let _ = links.delete_address("eth0", vip.into());
                    if links.add_address("eth0", vip.into()).is_ok() {
                        return;
                    }
                }
                panic!("the address cannot be had");
            });
        }
        // The kernel there goes on answering for what is not ours, beside the VIP's new owner: a conflict that only a person
        // can end.
        let elsewhere = || {
            let claims = stage.bystander.claims(start);
            its.iter().all(|vip| claims.iter().any(|one| one.claim.address == *vip && one.claim.mac != mac))
        };
        assert!(within(Duration::from_secs(10), elsewhere), "{:?}\n{}", stage.claimed(), stage.logs());
        assert_eq!(stage.cluster.on_interface(&owner, &its).unwrap(), its, "a stranger's address was removed");
        for vip in its.clone() {
            on_node(stage, &owner, move |links| links.delete_address("eth0", vip.into())).unwrap();
        }
        settle(stage);
    });
}
