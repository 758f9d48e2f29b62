//! What a node says it holds is asked for on the wire by the node that would take it.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use rendezvip::lab::now;
use rendezvip::status::snapshot::{Snapshot, VipState};

use crate::in_a_lab;
use crate::stages::{PATIENCE, web};

fn note(status: &Snapshot, vip: IpAddr) -> Option<(VipState, String, String)> {
    let vip = status.vips.iter().find(|one| one.vip.address() == vip)?;
    let note = vip.note.as_ref()?;
    Some((vip.state, note.reason.clone(), note.message.clone()))
}

#[test]
fn a_vip_that_its_owners_kernel_does_not_answer_for_is_told_by_the_next_node_and_cleared_when_it_does() {
    in_a_lab(|| {
        let stage = &mut web();
        let (vip, mac) = stage.wanted().iter().find(|(vip, _)| vip.is_ipv4()).map(|(vip, mac)| (*vip, *mac)).unwrap();
        let owner = stage.name(mac);
        let set = |value: &str| {
            let mut echo = Command::new("sh");
            echo.args(["-c", &format!("echo {value} > /proc/sys/net/ipv4/conf/all/arp_ignore")]);
            let output = stage.cluster.segment.node(&owner).place().output(echo).unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        // Everything is asked for once after the start, and everything is right.
        std::thread::sleep(Duration::from_secs(6));
        let status = stage.cluster.status("edge-a").unwrap();
        assert!(status.vips.iter().all(|one| one.note.is_none() && one.state == VipState::Held), "{status:?}");

        // It comes back to a kernel that answers for nothing any more (Linux, ip-sysctl: arp_ignore 8).
        stage.command(&owner, &["drain"]).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        set("8");
        let start = now();
        stage.command(&owner, &["resume"]).unwrap();
        let told = |status: &Snapshot| {
            note(status, vip)
                .is_some_and(|(_, reason, said)| reason == "Unresolved" && said.ends_with("nobody answered"))
        };
        let seen = stage.cluster.wait_status(&owner, PATIENCE, told);
        assert!(seen.is_some(), "{:?} after {:?}\n{}", stage.cluster.status(&owner), now().since(start), stage.logs());
        set("1");
        let cleared = stage.cluster.wait_status(&owner, PATIENCE, |status| note(status, vip).is_none());
        assert!(cleared.is_some(), "{:?}\n{}", stage.cluster.status(&owner), stage.logs());
    });
}
