//! Leftovers: stubs, tests that are switched off, and paths of somebody's machine never land.

use regex::Regex;

use crate::{files, none, sources};

#[test]
fn no_stub_and_no_test_that_is_switched_off() {
    // Put together here, so that this file does not find itself.
    let words = ["todo!", "unimplemented!", "dbg!", r"#\[ignore", "TODO", "FIXME", r"\bXXX\b"];
    let stub = Regex::new(&words.map(|word| format!("(?:{word})")).join("|")).unwrap();
    let mut found = Vec::new();
    for file in ["reconciler", "tests", "bench", "fuzz"].into_iter().flat_map(sources) {
        for (at, line) in file.text.lines().enumerate() {
            if stub.is_match(line) && file.path != "tests/tidy/leftovers.rs" {
                found.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    none(&found, "what is to be finished before it lands");
}

#[test]
fn no_path_of_a_machine() {
    let path = Regex::new(&format!("(?:^|[^a-z./])/(?:{})/[a-z.]", ["work", "root", "home"].join("|"))).unwrap();
    assert!(path.is_match(&format!("cd /{}/me", "home")) && !path.is_match("https://git.example/work/vips.git"));
    let mut found = Vec::new();
    for file in files("") {
        for (at, line) in file.text.lines().enumerate() {
            if path.is_match(line) {
                found.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    none(&found, "paths that exist on one machine alone");
}
