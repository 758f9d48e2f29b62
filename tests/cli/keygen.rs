//! `rendezvip keygen`.

use rendezvip::wire::key::KeyRing;

use crate::{rendezvip, run};

fn printed() -> String {
    let output = rendezvip().arg("keygen").output().expect("the binary runs");
    assert!(output.status.success() && output.stderr.is_empty());
    String::from_utf8(output.stdout).expect("a key is text")
}

#[test]
fn each_run_prints_another_key_which_is_a_key_file_by_itself() {
    let (one, other) = (printed(), printed());
    assert_ne!(one, other);
    for text in [&one, &other] {
        assert_eq!(text.lines().count(), 1);
        assert_eq!(KeyRing::parse(text).expect("it is a key file").ids().count(), 1);
    }
    assert!(KeyRing::parse(&(one + &other)).is_ok(), "and appended to one");
}

#[test]
fn a_key_that_cannot_be_written_is_not_said_to_be_fine() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let output = rendezvip().arg("keygen").stdout(full).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("an error is text");
    let manual = include_str!("../../docs/errors.md");
    let (_, section) = manual.split_once("## RV0707").expect("the code is in the manual");
    assert!(section.contains(&said), "{said}");
}

#[test]
fn keygen_says_how_a_key_is_rotated() {
    assert!(run(&["keygen", "--help"]).contains("rotate without a gap"));
    assert!(run(&["keygen", "extra"]).starts_with("exit: 64"));
}
