//! Addresses, local routes and settings, and what the kernel tells of them.

use std::net::IpAddr;

use rendezvip::agent::error::HostCode;
use rendezvip::agent::netlink::{Change, Edit, Monitor, Netlink, PROTOCOL, prepare_interface};
use rendezvip::name::InterfaceName;
use rendezvip::wire::ethernet::MacAddr;

use crate::namespace::{ip, veth, vip, vips, within};

#[test]
fn vips_are_never_a_source_and_carry_our_mark() {
    within("host::vips_are_never_a_source_and_carry_our_mark", || {
        let interface = veth();
        let mut netlink = Netlink::open().unwrap();
        let edits = ["10.99.0.100", "fd99::100"].map(|text| Edit::Add { vip: vip(text), interface });
        assert_eq!(netlink.apply(&edits), []);
        assert_eq!(netlink.apply(&edits), [], "what stands already, and is ours, is fine");
        let snapshot = netlink.snapshot().unwrap();
        let ours: Vec<String> = snapshot
            .ours()
            .map(|(_, a)| format!("{}/{} scope {} flags {:#x}", a.address, a.prefix, a.scope, a.flags))
            .collect();
        // IPv4: host scope, permanent. IPv6: nodad, deprecated, permanent.
        assert_eq!(ours, ["10.99.0.100/32 scope 254 flags 0x80", "fd99::100/128 scope 0 flags 0xa2"]);
        assert!(snapshot.ours().all(|(index, address)| index == interface && address.protocol == PROTOCOL));
    });
}

#[test]
fn what_somebody_else_put_there_is_refused_and_never_removed() {
    within("host::what_somebody_else_put_there_is_refused_and_never_removed", || {
        let interface = veth();
        ip("addr add 10.99.0.100/32 dev va");
        ip("addr add fd99::100/128 dev va nodad");
        ip("addr add 10.99.0.101/16 dev va");
        let mut netlink = Netlink::open().unwrap();
        let refused = netlink.apply(&["10.99.0.100", "fd99::100"].map(|text| Edit::Add { vip: vip(text), interface }));
        assert_eq!(refused.len(), 2);
        assert!(refused.iter().all(|(_, error)| error.errno == Some(17)), "{refused:?}");
        let mut leftovers = Vec::new();
        netlink.leftovers(&mut leftovers).unwrap();
        assert_eq!(leftovers, []);
        assert_eq!(netlink.apply(&[Edit::Remove { vip: vip("10.99.0.101"), interface }]), []);
        let stands: Vec<IpAddr> =
            netlink.snapshot().unwrap().interfaces[&interface].addresses.keys().map(|k| k.0).collect();
        assert!(stands.contains(&vip("10.99.0.101").address()), "the /16 is not ours");
    });
}

#[test]
fn each_refused_edit_is_named_and_the_others_are_done() {
    within("host::each_refused_edit_is_named_and_the_others_are_done", || {
        let interface = veth();
        let mut netlink = Netlink::open().unwrap();
        let mut edits: Vec<Edit> = vips(1000).map(|vip| Edit::Add { vip, interface }).collect();
        edits[500] = Edit::Add { vip: vip("10.99.0.100"), interface: 4_000 };
        let refused = netlink.apply(&edits);
        assert_eq!(refused.len(), 1);
        assert_eq!((refused[0].0, refused[0].1.code), (edits[500], HostCode::InterfaceMissing));
        assert_eq!(netlink.snapshot().unwrap().ours().count(), 999);
        std::fs::write("/proc/sys/net/ipv6/conf/va/disable_ipv6", "1").unwrap();
        let refused = netlink.apply(&[Edit::Add { vip: vip("fd99::1"), interface }]);
        assert_eq!(refused[0].1.code, HostCode::Ipv6Disabled);
    });
}

#[test]
fn leftovers_of_an_earlier_life_are_found_and_taken_away() {
    within("host::leftovers_of_an_earlier_life_are_found_and_taken_away", || {
        let interface = veth();
        let mut netlink = Netlink::open().unwrap();
        let (a, b) = (vip("10.99.0.100"), vip("fd99::100"));
        let put = |vip| Edit::Add { vip, interface };
        assert_eq!(netlink.apply(&[put(a), put(b), Edit::Linger(a), Edit::Linger(b), Edit::Linger(a)]), []);
        drop(netlink);
        let mut netlink = Netlink::open().unwrap();
        let mut leftovers = Vec::new();
        netlink.leftovers(&mut leftovers).unwrap();
        leftovers.sort_unstable();
        let remove = |vip| Edit::Remove { vip, interface };
        assert_eq!(leftovers, [remove(a), remove(b), Edit::StopLingering(a), Edit::StopLingering(b)]);
        assert_eq!(netlink.apply(&leftovers), []);
        assert_eq!(netlink.apply(&leftovers), [], "what is gone is gone");
        netlink.leftovers(&mut leftovers).unwrap();
        assert_eq!(leftovers, []);
    });
}

#[test]
fn a_host_without_any_address_has_no_leftovers() {
    within("host::a_host_without_any_address_has_no_leftovers", || {
        let mut leftovers = Vec::new();
        Netlink::open().unwrap().leftovers(&mut leftovers).unwrap();
        assert_eq!(leftovers, []);
    });
}

#[test]
fn the_monitor_tells_what_others_do() {
    within("host::the_monitor_tells_what_others_do", || {
        let interface = veth();
        let mut monitor = Monitor::open().unwrap();
        let mut changes = Vec::new();
        ip("link set va mtu 1400");
        monitor.read(&mut changes).unwrap();
        // Duplicate address detection may end just now; nothing that is of interest changed on the link.
        assert!(!changes.contains(&Change::Link(interface)), "{changes:?}");
        ip("addr add 10.99.0.7/32 dev va");
        ip("addr del 10.99.0.7/32 dev va");
        ip("link set va address 02:00:00:00:00:99");
        ip("link set vb down");
        ip("link del va");
        monitor.read(&mut changes).unwrap();
        let mine = |address: &rendezvip::agent::netlink::Address| address.address == vip("10.99.0.7").address();
        assert!(changes.iter().any(|c| matches!(c, Change::Address(index, a) if *index == interface && mine(a))));
        assert!(changes.iter().any(|c| matches!(c, Change::AddressGone(index, a) if *index == interface && mine(a))));
        assert!(changes.contains(&Change::Link(interface)));
        let gone = changes.iter().find_map(|change| match change {
            Change::LinkGone(gone) if gone.index == interface => Some(gone),
            _ => None,
        });
        assert_eq!(gone.map(|gone| (gone.mac, gone.running)), Some((Some(MacAddr([2, 0, 0, 0, 0, 0x99])), false)));
        assert!(monitor.snapshot().named("va").is_none());
    });
}

#[test]
fn a_flood_of_notices_loses_nothing() {
    within("host::a_flood_of_notices_loses_nothing", || {
        let interface = veth();
        let mut monitor = Monitor::open().unwrap();
        let mut netlink = Netlink::open().unwrap();
        // More than an unprivileged buffer holds: the kernel drops notices and says ENOBUFS.
        let adds: Vec<Edit> = vips(2000).map(|vip| Edit::Add { vip, interface }).collect();
        let removes: Vec<Edit> = vips(1500).map(|vip| Edit::Remove { vip, interface }).collect();
        assert_eq!(netlink.apply(&adds), []);
        assert_eq!(netlink.apply(&removes), []);
        let mut changes = Vec::new();
        monitor.read(&mut changes).unwrap();
        assert_eq!(monitor.snapshot().ours().count(), 500);
        assert_eq!(*monitor.snapshot(), netlink.snapshot().unwrap());
    });
}

#[test]
fn a_neighbour_that_was_asked_for_in_vain_is_asked_for_anew_and_a_known_one_is_kept() {
    within("host::a_neighbour_that_was_asked_for_in_vain_is_asked_for_anew_and_a_known_one_is_kept", || {
        veth();
        let mut monitor = Monitor::open().unwrap();
        ip("neigh add 10.99.0.98 lladdr 02:00:00:00:00:98 nud reachable dev va");
        ip("neigh add fd99::98 lladdr 02:00:00:00:00:98 nud reachable dev va");
        for (nobody, somebody) in [("10.99.0.99", "10.99.0.98"), ("fd99::99", "fd99::98")] {
            let (nobody, somebody): (IpAddr, IpAddr) = (nobody.parse().unwrap(), somebody.parse().unwrap());
            assert!(!monitor.resolve_anew(nobody), "nobody was asked for yet");
            let socket = std::net::UdpSocket::bind(if nobody.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.send_to(b"?", (nobody, 7847)).unwrap();
            assert!(monitor.resolve_anew(nobody), "the kernel waits for {nobody}");
            assert!(!monitor.resolve_anew(nobody), "{nobody} is forgotten");
            assert!(!monitor.resolve_anew(somebody), "{somebody} is known");
        }
        let known = std::process::Command::new("ip").args(["neigh", "show", "dev", "va"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&known.stdout).matches("02:00:00:00:00:98").count(), 2);
    });
}

#[test]
fn an_interface_is_prepared_once_and_only_made_stricter() {
    within("host::an_interface_is_prepared_once_and_only_made_stricter", || {
        veth();
        let va = InterfaceName::new("va").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/va/arp_ignore", "2").unwrap();
        let names: Vec<String> =
            prepare_interface(&va, true).unwrap().into_iter().map(|setting| setting.name).collect();
        assert_eq!(names, ["net.ipv4.conf.va.arp_announce", "net.ipv6.conf.va.keep_addr_on_down"]);
        assert_eq!(prepare_interface(&va, true).unwrap(), []);
        let missing = prepare_interface(&InterfaceName::new("nope").unwrap(), false).unwrap_err();
        assert_eq!(missing.code, HostCode::InterfaceMissing);
    });
}
