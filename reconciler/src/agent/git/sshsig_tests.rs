//! What reading and making ssh signatures promises; the vectors are ssh-keygen's.

use proptest::prelude::*;

use super::*;

macro_rules! vector {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/vectors/signatures/", $name))
    };
}

const CONTENT: &str = vector!("content");
/// When the commit of the vectors was made.
const THEN: i64 = 1_767_600_000;

fn judged(armour: &str, content: &str, time: i64) -> Result<String, String> {
    verify(armour, content.as_bytes(), time, &allowed_signers(vector!("allowed_signers")).unwrap())
}

#[test]
fn signatures_of_allowed_signers_count() {
    for (armour, who) in [
        (vector!("ed25519.sig"), "ed@example.org"),
        (vector!("ecdsa.sig"), "ec@example.org,*@ops.example.org"),
        (vector!("p384.sig"), "p384@example.org"),
        (vector!("rsa.sig"), "rsa@example.org"),
    ] {
        assert_eq!(judged(armour, CONTENT, THEN).as_deref(), Ok(who));
    }
}

#[test]
fn every_other_signature_is_refused_with_its_reason() {
    let refused = |armour: &str| judged(armour, CONTENT, THEN).unwrap_err();
    insta::assert_snapshot!(refused(vector!("for-file.sig")), @"it was signed for `file`, not for git");
    insta::assert_snapshot!(refused(vector!("short.sig")), @"the signature by the key of short@example.org does not fit the content");
    let stranger = refused(vector!("stranger.sig"));
    assert!(
        stranger.starts_with("key SHA256:") && stranger.ends_with(" is not in the allowed signers file"),
        "{stranger}"
    );
    let other = judged(vector!("ed25519.sig"), "other", THEN).unwrap_err();
    insta::assert_snapshot!(other, @"the signature by the key of ed@example.org does not fit the content");
    let early = judged(vector!("ecdsa.sig"), CONTENT, THEN - 365 * 86_400).unwrap_err();
    insta::assert_snapshot!(early, @"the key of ec@example.org,*@ops.example.org was not valid at that time");
    assert!(judged(vector!("ecdsa.sig"), CONTENT, THEN + 365 * 86_400).is_err());
    insta::assert_snapshot!(refused("hello"), @"the signature is no ssh signature");
    insta::assert_snapshot!(refused("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----"), @"the signature cannot be read");
}

#[test]
fn no_changed_bit_goes_unnoticed() {
    let signers = allowed_signers(vector!("allowed_signers")).unwrap();
    let blob = unarmoured(vector!("ed25519.sig"), BEGIN, END).unwrap();
    for at in 0..blob.len() {
        for bit in 0..8 {
            let mut changed = blob.clone();
            changed[at] ^= 1 << bit;
            let armour = format!("{BEGIN}\n{}\n{END}", encode_block(&changed));
            assert!(verify(&armour, CONTENT.as_bytes(), THEN, &signers).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_line_that_is_not_understood_is_told_and_not_skipped() {
    let error = |text: &str| allowed_signers(text).unwrap_err();
    insta::assert_snapshot!(error("# x\nsomebody"), @"line 2: expected principals, options if any, a key type and a key");
    insta::assert_snapshot!(error("a no-touch-required ssh-ed25519 AAAA"), @"line 1: option `no-touch-required` is not known");
    insta::assert_snapshot!(error("a ssh-ed25519 !"), @"line 1: the key is no base64");
    insta::assert_snapshot!(error("a valid-after=2026 ssh-ed25519 AAAA"), @"line 1: `2026` is no time: write YYYYMMDD or YYYYMMDDHHMM[SS]");
    assert_eq!(
        allowed_signers("a namespaces=\"file\" ssh-ed25519 AAAA\nb cert-authority ssh-ed25519 AAAA\n"),
        Ok(vec![])
    );
    assert_eq!(moment("20260105080000Z"), Ok(THEN));
    assert_eq!(moment("202601050800"), Ok(THEN));
}

const SIGNATURE: &str = "\
-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgov3Yg4+OFNPPqEjhgK89t7kvt7
IbfffAWxMCsU445rAAAAADZ2l0AAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1NTE5
AAAAQOyCJ78Tvo/QEKulAWwlRySQb294ZyQb1kBJpmibWG0CZjV7Z/sW1SJfO9xRIctppf
RDbR6FeGyBgSX8bjdBNAM=
-----END SSH SIGNATURE-----
";

/// A key that was made for this test alone.
const KEY: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACCi/diDj44U08+oSOGArz23uS+3sht998BbEwKxTjjmsAAAAIh394dod/eH
aAAAAAtzc2gtZWQyNTUxOQAAACCi/diDj44U08+oSOGArz23uS+3sht998BbEwKxTjjmsA
AAAEAjafRRC3ZFcpnNYlw0ydgntbAx4g6zlmgJAgea9KYr/6L92IOPjhTTz6hI4YCvPbe5
L7eyG333wFsTArFOOOawAAAAAAECAwQF
-----END OPENSSH PRIVATE KEY-----
";

#[test]
fn what_a_node_signs_is_what_ssh_keygen_signs() {
    let key = SigningKey::parse(KEY).unwrap();
    let allowed =
        Allowed { principals: "edge-a".into(), key: key.public.clone(), valid_after: None, valid_before: None };
    let signature = key.sign(b"content").unwrap();
    assert_eq!(verify(&signature, b"content", 0, &[allowed]).as_deref(), Ok("edge-a"));
    // Ed25519 is deterministic, so that of ssh-keygen is the same to the byte.
    assert_eq!(signature, SIGNATURE);
}

#[test]
fn a_key_that_cannot_sign_says_why() {
    let why = |text: &str| SigningKey::parse(text).err().unwrap();
    insta::assert_snapshot!(why("ssh-ed25519 AAAA"), @"it is no OpenSSH private key");
    insta::assert_snapshot!(why(LOCKED), @"it has a passphrase, and nobody is there to type it");
    let cut = format!("{BEGIN_KEY}\nb3BlbnNzaC1rZXktdjEA\n{END_KEY}");
    insta::assert_snapshot!(why(&cut), @"it cannot be read");
}

const LOCKED: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABCy85VtGf
CP5/FJguSZN9pAAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIJygeYdvMbvtWNjg
Ozcv0juC2hli4DctSsR1ZI5/fGuOAAAAkG3/Gnzl092nvSExNHmTki8UOi1WbancP/CGgi
OmXAPc/7MOKldLivoUOiPE2aOiiPNMKgfrelrSEYHzDBRoiksqAeDIllpYMjduvBvsuZZj
95AuzGvDU6gFZBct795wmMpAiGTryr5tgyDjzjqgkYSBaZi61vGKRRlZk3ecJOZUFLe8FN
miNavR9d7INruHXQ==
-----END OPENSSH PRIVATE KEY-----
";

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), text in ".*") {
        let armour = format!("{BEGIN}\n{}\n{END}", encode_block(&bytes));
        let _ = judged(&armour, &text, 0);
        let mut blob = MAGIC.to_vec();
        blob.extend_from_slice(&[0, 0, 0, 1]);
        blob.extend_from_slice(&bytes);
        let _ = judged(&format!("{BEGIN}\n{}\n{END}", encode_block(&blob)), &text, 0);
        let _ = holds(&bytes, &bytes, b"");
        let _ = allowed_signers(&text);
        let _ = SigningKey::parse(&format!("{BEGIN_KEY}\n{}\n{END_KEY}", encode_block(&bytes)));
    }
}
