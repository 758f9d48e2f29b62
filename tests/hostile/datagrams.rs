//! Datagrams: forged, changed, cut, of other clusters and keys.

use proptest::prelude::*;
use rendezvip::name::{ClusterName, NodeName};
use rendezvip::wire::key::{Key, KeyRing};
use rendezvip::wire::seal::{Drop, GOODBYE, MAX_DATAGRAM, MAX_PAYLOAD, Opener, Sealer};

fn cluster(name: &str) -> ClusterName {
    ClusterName::new(name).unwrap()
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn sealer(key: u8, of: &str, sender: &str) -> Sealer {
    Sealer::new(&Key::new([key; 32]), &cluster(of), node(sender), [3; 16])
}

fn opener() -> Opener {
    Opener::new(KeyRing::new(Key::new([7; 32])), cluster("lab"))
}

#[test]
fn a_second_cluster_on_the_same_segment_is_not_heard() {
    let mut opener = opener();
    let of_other = sealer(7, "prod", "edge-a").seal(1, 1, b"heartbeat");
    assert_eq!(opener.open(&of_other), Err(Drop::OtherCluster));
    let with_other_key = sealer(8, "lab", "edge-a").seal(1, 1, b"heartbeat");
    assert_eq!(opener.open(&with_other_key), Err(Drop::UnknownKey(Key::new([8; 32]).id())));
}

#[test]
fn a_header_put_before_another_body_is_refused() {
    let mut by_a = sealer(7, "lab", "edge-a");
    let mut by_b = sealer(7, "lab", "edge-b");
    let mut opener = opener();
    let datagrams = [
        by_a.seal(1, 1, b"0123456789"),
        by_a.seal(1, 2, b"0123456789"),
        by_a.seal(2, 3, b"0123456789"),
        by_a.seal(2, GOODBYE, b"0123456789"),
        by_b.seal(1, 1, b"0123456789"),
    ];
    let header = datagrams[0].len() - 26;
    for (n, one) in datagrams.iter().enumerate() {
        for (m, other) in datagrams.iter().enumerate() {
            let mixed = [&one[..header], &other[header..]].concat();
            assert_eq!(opener.open(&mixed).is_ok(), n == m, "header {n}, body {m}");
        }
    }
}

#[test]
fn a_goodbye_cannot_be_made_of_a_heartbeat() {
    let mut datagram = sealer(7, "lab", "edge-a").seal(1, 1, b"");
    datagram[26..34].copy_from_slice(&GOODBYE.to_be_bytes());
    assert_eq!(opener().open(&datagram), Err(Drop::Forged));
}

#[test]
fn the_longest_payload_fits_and_one_byte_more_than_the_longest_datagram_is_not_looked_at() {
    let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    let datagram = sealer(7, "lab", &name).seal(1, 1, &vec![9; MAX_PAYLOAD]);
    assert_eq!(datagram.len(), MAX_DATAGRAM);
    assert_eq!(opener().open(&datagram).map(|opened| opened.payload.len()), Ok(MAX_PAYLOAD));
    assert_eq!(opener().open(&[datagram, vec![0]].concat()), Err(Drop::TooLong));
}

proptest! {
    #[test]
    fn any_bytes_are_dropped_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(opener().open(&bytes).is_err());
    }

    #[test]
    fn any_bytes_behind_a_good_beginning_are_dropped_without_harm(
        cut in 0_usize..80, bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let good = sealer(7, "lab", "edge-a").seal(1, 1, b"payload");
        prop_assume!(!bytes.starts_with(&good[cut.min(good.len())..]));
        let bytes = [&good[..cut.min(good.len())], &bytes].concat();
        prop_assert!(opener().open(&bytes).is_err());
    }

    #[test]
    fn a_changed_datagram_of_any_length_is_refused(
        payload in prop::collection::vec(any::<u8>(), 0..1400), at: prop::sample::Index, bit in 0_u8..8,
    ) {
        let mut datagram = sealer(7, "lab", "edge-a").seal(1, 1, &payload);
        let at = at.index(datagram.len());
        datagram[at] ^= 1 << bit;
        prop_assert!(opener().open(&datagram).is_err());
    }

    #[test]
    fn any_text_as_key_file_is_read_or_refused_and_never_repeated(text in "(rvkey1:)?[0-9a-f:# \\n\u{e9}]{0,160}") {
        if let Err(error) = KeyRing::parse(&text) {
            let said = format!("{error} {error:?} {}", error.report("gossip.key"));
            for word in text.split_whitespace().filter(|word| word.len() > 8) {
                prop_assert!(!said.contains(word), "{}", said);
            }
        }
    }
}
