//! Any bytes at the gossip's port: dropped, and never opened. What is sealed around them opens and comes back whole.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rendezvip::name::{ClusterName, NodeName};
use rendezvip::wire::key::{Key, KeyRing};
use rendezvip::wire::seal::{MAX_PAYLOAD, Opener, Sealer};

fuzz_target!(|bytes: &[u8]| {
    let (key, cluster) = (Key::new([7; 32]), ClusterName::new("lab").expect("a name"));
    let mut opener = Opener::new(KeyRing::new(key.clone()), cluster.clone());
    assert!(opener.open(bytes).is_err(), "opened without the key");
    if bytes.len() <= MAX_PAYLOAD {
        let sender = NodeName::new("edge-a").expect("a name");
        let mut datagram = Sealer::new(&key, &cluster, sender, [9; 16]).seal(1, 1, bytes);
        assert_eq!(opener.open(&datagram).expect("sealed by us").payload, bytes);
        // The input chooses a place to change, too.
        let at = bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>() % datagram.len();
        datagram[at] ^= 1;
        assert!(opener.open(&datagram).is_err(), "changed, and opened");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = KeyRing::parse(text);
    }
});
