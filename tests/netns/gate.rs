//! The gate: what its table withstands.

use std::process::Command;
use std::time::Duration;

use rendezvip::agent::clock;
use rendezvip::agent::error::HostCode;
use rendezvip::agent::nft::{Gate, GuardedInterface, Keeping};
use rendezvip::name::InterfaceName;

use crate::namespace::{veth, vip, vips, within};

fn guarded(name: &str, own6: Option<&str>) -> GuardedInterface {
    GuardedInterface { name: InterfaceName::new(name).unwrap(), own6: own6.map(|own| own.parse().unwrap()) }
}

#[test]
fn another_process_cannot_take_a_living_ones_gate_and_inherits_a_dead_ones() {
    within("gate::another_process_cannot_take_a_living_ones_gate_and_inherits_a_dead_ones", || {
        veth();
        let both = [vip("10.99.0.100"), vip("fd99::100")];
        let mut gate = Gate::open().unwrap();
        assert_eq!(gate.keeping(), Keeping::Owned);
        gate.interfaces(&[guarded("va", Some("fe80::1")), guarded("vb", None)]).unwrap();
        gate.guard(&both, &[]).unwrap();
        gate.hold(&both, &[]).unwrap();
        gate.lease(clock::lease_end(clock::now() + Duration::from_secs(60))).unwrap();
        assert_eq!(Gate::open().unwrap_err().code, HostCode::GateOwned);
        drop(gate);
        let gate = Gate::open().unwrap();
        assert!(gate.guarded().iter().eq(&both), "what was guarded stays guarded");
        assert!(gate.held().is_empty());
        gate.remove().unwrap();
        assert!(Gate::open().unwrap().guarded().is_empty());
    });
}

#[test]
fn ten_thousand_vips_come_and_go() {
    within("gate::ten_thousand_vips_come_and_go", || {
        veth();
        let mut gate = Gate::open().unwrap();
        gate.interfaces(&[guarded("va", None)]).unwrap();
        let all: Vec<_> = vips(10_000).collect();
        gate.guard(&all, &[]).unwrap();
        gate.hold(&all, &[]).unwrap();
        gate.rebuild().unwrap();
        gate.hold(&[], &all[5_000..]).unwrap();
        gate.guard(&[], &all[..1]).unwrap();
        drop(gate);
        let gate = Gate::open().unwrap();
        assert!(gate.guarded().iter().eq(&all[1..]));
    });
}

#[test]
fn interfaces_change_while_the_gate_stands() {
    within("gate::interfaces_change_while_the_gate_stands", || {
        veth();
        let mut gate = Gate::open().unwrap();
        for wanted in [
            vec![guarded("va", None)],
            vec![guarded("va", Some("fe80::1")), guarded("vb", None)],
            vec![guarded("vb", Some("fe80::2"))],
            vec![],
            vec![guarded("va", None)],
        ] {
            gate.interfaces(&wanted).unwrap();
        }
    });
}

#[test]
fn who_flushes_the_ruleset_leaves_the_gate_standing() {
    within("gate::who_flushes_the_ruleset_leaves_the_gate_standing", || {
        veth();
        let mut gate = Gate::open().unwrap();
        gate.guard(&[vip("10.99.0.100")], &[]).unwrap();
        let Ok(flushed) = Command::new("nft").args(["flush", "ruleset"]).output() else {
            println!("skipped: nft is not installed");
            return;
        };
        assert!(flushed.status.success(), "{flushed:?}");
        let deleted = Command::new("nft").args(["delete", "table", "netdev", "rendezvip"]).output().unwrap();
        assert!(!deleted.status.success());
        // The set is still there: deleting from it is fine, from nothing it would not be.
        gate.guard(&[], &[vip("10.99.0.100")]).unwrap();
    });
}

#[test]
fn an_ordinary_table_is_watched_and_made_again() {
    within("gate::an_ordinary_table_is_watched_and_made_again", || {
        veth();
        let mut gate = Gate::open_as(Keeping::Ordinary).unwrap();
        let mut watch = gate.watch().unwrap();
        gate.interfaces(&[guarded("va", None)]).unwrap();
        gate.guard(&[vip("10.99.0.100")], &[]).unwrap();
        gate.lease(clock::lease_end(clock::now() + Duration::from_secs(60))).unwrap();
        assert!(!watch.touched(), "our own changes are none of somebody else's");
        let Ok(flushed) = Command::new("nft").args(["flush", "ruleset"]).output() else {
            println!("skipped: nft is not installed");
            return;
        };
        assert!(flushed.status.success(), "{flushed:?}");
        assert!(watch.touched());
        gate.rebuild().unwrap();
        let listed = Command::new("nft").args(["list", "table", "netdev", "rendezvip"]).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout);
        for part in ["10.99.0.100", "egress-va", "expires"] {
            assert!(listed.contains(part), "{part} is missing:\n{listed}");
        }
        // A change that meets a flushed table makes it again too; nobody has to look first.
        Command::new("nft").args(["flush", "ruleset"]).output().unwrap();
        gate.lease(clock::lease_end(clock::now() + Duration::from_secs(60))).unwrap();
        assert!(watch.touched());
        drop(gate);
        // A newer daemon makes an owned one out of it, and keeps what it guards.
        let gate = Gate::open().unwrap();
        assert_eq!((gate.keeping(), gate.guarded().len()), (Keeping::Owned, 1));
    });
}

fn timed(what: &str, work: impl FnOnce()) {
    let start = std::time::Instant::now();
    work();
    println!("{what}: {:?}", start.elapsed());
}

#[test]
fn a_renewal_is_quick() {
    within("gate::a_renewal_is_quick", || {
        veth();
        let mut gate = Gate::open().unwrap();
        let all: Vec<_> = vips(10_000).collect();
        timed("put on an interface", || gate.interfaces(&[guarded("va", Some("fe80::1"))]).unwrap());
        timed("guard 10,000", || gate.guard(&all, &[]).unwrap());
        timed("hold 3,333", || gate.hold(&all[..3_333], &[]).unwrap());
        let mut times: Vec<Duration> = (0..1_000)
            .map(|_| {
                let start = std::time::Instant::now();
                gate.lease(clock::lease_end(clock::now() + Duration::from_millis(160))).unwrap();
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        println!("renewal: p50 {:?}, p99 {:?}, max {:?}", times[500], times[990], times[999]);
        assert!(times[500] < Duration::from_millis(5), "{:?}", times[500]);
        timed("rebuild", || gate.rebuild().unwrap());
        timed("release 3,333", || gate.hold(&[], &all[..3_333]).unwrap());
    });
}
