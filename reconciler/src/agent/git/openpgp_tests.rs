//! What reading OpenPGP signatures promises; the vectors are gpg's.

use proptest::prelude::*;

use super::*;

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/vectors/signatures/", $name))
    };
}

const CONTENT: &[u8] = vector!("content");

fn keys() -> Vec<Key> {
    keyring(vector!("keyring.asc")).unwrap()
}

fn judged(armour: &[u8], content: &[u8]) -> Result<String, String> {
    verify(std::str::from_utf8(armour).unwrap(), content, &keys())
}

#[test]
fn signatures_of_keys_in_the_ring_count() {
    assert_eq!(judged(vector!("alice.asc"), CONTENT).unwrap(), "Alice <alice@example.org>");
    assert_eq!(judged(vector!("bob.asc"), CONTENT).unwrap(), "Bob <bob@example.org>");
    assert_eq!(judged(vector!("carol.asc"), CONTENT).unwrap(), "Carol <carol@example.org>");
    assert_eq!(judged(vector!("erin-in-time.asc"), CONTENT).unwrap(), "Erin <erin@example.org>");
    let binary = keyring(vector!("keyring.gpg")).unwrap();
    let bob = std::str::from_utf8(vector!("bob.asc")).unwrap();
    assert_eq!(verify(bob, CONTENT, &binary).unwrap(), "Bob <bob@example.org>");
}

#[test]
fn every_other_signature_is_refused_with_its_reason() {
    let refused = |armour: &[u8]| judged(armour, CONTENT).unwrap_err();
    let mallory = refused(vector!("mallory.asc"));
    assert!(mallory.starts_with("key ") && mallory.ends_with(" is not in the keyring file"), "{mallory}");
    insta::assert_snapshot!(refused(vector!("alice-sha1.asc")), @"the signature's hash is not supported");
    insta::assert_snapshot!(refused(vector!("dave.asc")), @"the key of Dave <dave@example.org> is revoked, or not one that may sign");
    insta::assert_snapshot!(refused(vector!("erin-late.asc")), @"the key of Erin <erin@example.org> was not valid at that time, or the signature expires");
    insta::assert_snapshot!(judged(vector!("alice.asc"), b"other content").unwrap_err(), @"the signature by the key of Alice <alice@example.org> does not fit the content");
    insta::assert_snapshot!(refused(b"-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"), @"the signature cannot be read");
    insta::assert_snapshot!(refused(b"hello"), @"the signature is no OpenPGP signature");
    insta::assert_snapshot!(keyring(b"").unwrap_err(), @"it holds no key of version 4");
    insta::assert_snapshot!(keyring(vector!("alice.asc")).unwrap_err(), @"it holds no key of version 4");
}

/// Of every bit of a signature that is changed, none makes it hold for other content, and nothing panics.
#[test]
fn no_changed_bit_of_what_is_signed_goes_unnoticed() {
    let block = blocks(std::str::from_utf8(vector!("alice.asc")).unwrap(), "SIGNATURE").unwrap().remove(0);
    let keys = keys();
    let original = packet(&mut Bytes(&block)).unwrap().1;
    let hashed = 6 + usize::from(original[4]) * 256 + usize::from(original[5]);
    for at in 0..original.len() {
        for bit in 0..8 {
            let mut changed = original.to_vec();
            changed[at] ^= 1 << bit;
            let holds = signature(&changed).is_some_and(|it| judge(&it, CONTENT, &keys).is_ok());
            // What is outside of the signed part is a hint alone, and the lengths of integers are in bits.
            assert!(!holds || at >= hashed, "byte {at}, bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = keyring(&bytes);
        let _ = signature(&bytes).map(|it| judge(&it, CONTENT, &keys()));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let _ = verify(&format!("-----BEGIN PGP SIGNATURE-----\n\n{text}\n-----END PGP SIGNATURE-----"), b"", &[]);
    }

    #[test]
    fn no_damaged_ring_panics(at in 0usize..2800, byte: u8) {
        let mut ring = vector!("keyring.gpg").to_vec();
        ring[at] = byte;
        let _ = keyring(&ring);
    }
}
