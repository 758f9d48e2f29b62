//! Any bytes from the packet socket: answered and judged as the node does, within the bounds of both.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rendezvip::announce::conflict::{Claim, Conflicts};
use rendezvip::announce::frames::Port;
use rendezvip::announce::responder::answer;
use rendezvip::name::InterfaceName;
use rendezvip::time::Instant;
use rendezvip::wire::ethernet::MacAddr;
use rendezvip::wire::frame::Frame;

fuzz_target!(|bytes: &[u8]| {
    let Ok(frame) = Frame::parse(bytes) else { return };
    let port = Port { mac: MacAddr([2, 0, 0, 0, 0, 0x0a]), own: Vec::new(), router: false };
    if let Some(reply) = answer(&frame, &port, |_| true) {
        assert_eq!(Frame::parse(&reply.to_bytes()), Ok(reply));
    }
    let iface = InterfaceName::new("eth0").expect("a name");
    let mut conflicts = Conflicts::new();
    if let Some(claim) = Claim::of(&iface, &frame) {
        assert_eq!(conflicts.heard(Instant::ZERO, &claim, true).len(), 2);
        assert_eq!(conflicts.heard(Instant::ZERO, &claim, true).len(), 0);
    }
});
