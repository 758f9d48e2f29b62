//! Frames: whatever a stranger sends, it is dropped with a reason, or read, judged and answered within bounds.

use std::net::IpAddr;

use proptest::prelude::*;
use rendezvip::announce::conflict::{Claim, Conflicts, Verdict};
use rendezvip::announce::frames::Port;
use rendezvip::announce::responder::answer;
use rendezvip::name::InterfaceName;
use rendezvip::time::Instant;
use rendezvip::wire::ethernet::MacAddr;
use rendezvip::wire::frame::Frame;

fn port() -> Port {
    let own: [IpAddr; 2] = ["10.99.0.10".parse().unwrap(), "fe80::a".parse().unwrap()];
    Port { mac: MacAddr([2, 0, 0, 0, 0, 0x0a]), own: own.to_vec(), router: false }
}

/// The frames of `tests/vectors/frames.txt`.
fn vectors() -> Vec<Vec<u8>> {
    include_str!("../vectors/frames.txt")
        .lines()
        .filter(|line| line.len() > 80 && line.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(|hex| (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect())
        .collect()
}

/// A genuine frame of which some bytes were changed, and the end cut off.
fn mutants() -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(vectors()), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut frame, changes, cut, cuts)| {
            for (at, value) in changes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if cuts {
                frame.truncate(cut.index(frame.len()));
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_mutant_of_a_genuine_frame_does_no_harm_and_what_is_read_can_be_written(bytes in mutants()) {
        if let Ok(frame) = Frame::parse(&bytes) {
            prop_assert_eq!(Frame::parse(&frame.to_bytes()), Ok(frame));
            prop_assert!(!frame.to_string().contains('\n'));
            if let Some(reply) = answer(&frame, &port(), |_| true) {
                prop_assert_eq!(reply.source, port().mac);
                prop_assert_eq!(Frame::parse(&reply.to_bytes()), Ok(reply));
            }
        }
    }

    #[test]
    fn a_stranger_who_claims_anything_makes_us_speak_once_in_ten_seconds_for_a_vip(
        claims in prop::collection::vec((mutants(), 0_u64..3_000_000), 1..60),
    ) {
        let iface = InterfaceName::new("eth0").unwrap();
        let mut conflicts = Conflicts::new();
        let mut defences: Vec<(u64, Verdict)> = Vec::new();
        let mut now = 0;
        for (bytes, later) in claims {
            now += later;
            let at = Instant::from_micros(now);
            let mut verdicts = conflicts.poll(at);
            let claim = Frame::parse(&bytes).ok().and_then(|frame| Claim::of(&iface, &frame));
            verdicts.extend(claim.iter().flat_map(|claim| conflicts.heard(at, claim, true)));
            for verdict in verdicts.into_iter().filter(|verdict| matches!(verdict, Verdict::Defend { .. })) {
                let last = defences.iter().rev().find(|(_, other)| *other == verdict);
                prop_assert!(last.is_none_or(|(last, _)| now - last >= 10_000_000), "{verdict:?} at {now}");
                defences.push((now, verdict));
            }
        }
    }
}
