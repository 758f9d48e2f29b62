//! Any bytes as a repository of one file, and as the node's own file: checked values or problems, never neither.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rendezvip::manifest::agent_file::parse_agent;
use rendezvip::manifest::{SourceFile, load};

fuzz_target!(|bytes: &[u8]| {
    let file = SourceFile { path: "pools.yaml".to_owned(), text: bytes.to_vec() };
    let loaded = load(std::slice::from_ref(&file));
    let errors = loaded.diagnostics.iter().any(|diagnostic| diagnostic.is_error());
    assert_ne!(loaded.desired.is_some(), errors, "either it is desired, or something is wrong");
    assert_eq!(load(&[file]), loaded, "the same bytes, the same answer");
    if let Err(problems) = parse_agent(bytes, "node.yaml") {
        assert!(!problems.is_empty());
    }
});
