//! Any bytes as ARP: what is read is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rendezvip::wire::arp::{LEN, Repr};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(repr) = Repr::parse(bytes) {
        let mut emitted = [0xa5; LEN];
        repr.emit(&mut emitted);
        assert_eq!(emitted, bytes[..LEN]);
        assert!(!repr.to_string().is_empty());
    }
});
