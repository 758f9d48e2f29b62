//! The manual of errors runs: each section's input gives the output that is shown there.
//!
//! A block of `yaml` is files beside `examples/minimal-lab`, each after a comment with its path; `yaml alone` is all
//! there is; `yaml agent` is a node's own file; `sh` is a script in a copy of `examples/minimal-lab`. The next block
//! of `text` is what is printed. In `sh recordings`
//! there are recordings, too: of a node of a simulated cluster, and of one whose engine decided otherwise. What needs a
//! daemon or a kernel is run by `tests/netns/errors.rs`.

use std::path::Path;
use std::process::Command;

use rendezvip::manifest::diagnostic::Code;

use crate::replay::{of_another_engine, recording};
use crate::sections::{Section, copy, sections};
use crate::top;

/// The kinds of example that `tests/netns/errors.rs` runs, on hosts of their own.
const ON_HOSTS: [&str; 2] = ["sh host", "sh cluster"];

/// Codes that no test can provoke, and why.
const NOT_PROVOKED: [(&str, &str); 5] = [
    ("RV0305", "the kernel has to have no nf_tables"),
    ("RV0323", "the host's wall clock, which no namespace has for itself, would have to be set years back"),
    ("RV0601", "an order has to come in the very moment in which the daemon ends"),
    ("RV0612", "a hand-over has to be slower than the wait for it"),
    ("RV0706", "a seccomp filter has to refuse random bytes"),
];

/// Writes the files of a block: each begins with a comment that is its path.
fn write(root: &Path, block: &str) {
    let path_of = |line: &str| {
        let path = line.strip_prefix("# ")?;
        (path.ends_with(".yaml") && !path.contains(' ')).then(|| path.to_owned())
    };
    let mut files: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        if let Some(path) = path_of(line) {
            files.push((path, String::new()));
        }
        let (_, text) = files.last_mut().expect("a block of files begins with a path");
        text.push_str(line);
        text.push('\n');
    }
    for (path, text) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("it is written");
    }
}

fn output(info: &str, block: &str) -> String {
    let root = tempfile::tempdir().expect("a folder");
    if info != "yaml alone" {
        copy(&top().join("examples/minimal-lab"), root.path());
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_rendezvip"));
    let mut command = Command::new(binary);
    match info {
        "yaml" | "yaml alone" => {
            write(root.path(), block);
            command.args(["validate", "."]);
        }
        "yaml agent" => {
            std::fs::write(root.path().join("node.yaml"), block).expect("it is written");
            command.args(["validate", "--agent", "node.yaml"]);
        }
        "sh" | "sh recordings" => {
            if info == "sh recordings" {
                std::fs::write(root.path().join("edge-b.recording"), recording()).expect("it is written");
                std::fs::write(root.path().join("another.recording"), of_another_engine()).expect("it is written");
            }
            let path = std::env::var("PATH").unwrap_or_default();
            let folder = binary.parent().expect("a folder").display().to_string();
            command = Command::new("sh");
            command.args(["-c", block]).env("PATH", format!("{folder}:{path}"));
        }
        _ => panic!("a block of `{info}` is not run"),
    }
    let output = command.current_dir(root.path()).output().expect("it runs");
    String::from_utf8(output.stdout).expect("stdout is UTF-8")
}

#[test]
fn every_example_of_the_manual_of_errors_says_what_is_shown() {
    let (mut ran, mut wrong) = (0, Vec::new());
    for example in sections().iter().flat_map(Section::examples).filter(|example| !ON_HOSTS.contains(&&*example.kind)) {
        let found = output(&example.kind, &example.input);
        if found != example.output {
            wrong.push(format!("## {}\n{found}", example.heading));
        }
        ran += 1;
    }
    assert!(wrong.is_empty(), "docs/errors.md shows something else than\n{}", wrong.join("\n"));
    assert!(ran >= Code::ALL.len());
}

#[test]
fn every_section_has_an_example_or_a_reason_why_there_is_none() {
    let without: Vec<String> = sections()
        .iter()
        .filter(|section| section.examples().is_empty())
        .map(|section| section.code().to_owned())
        .collect();
    assert_eq!(without, NOT_PROVOKED.map(|(code, _)| code));
}

#[test]
fn every_code_of_the_manifests_has_its_section_in_order() {
    let headings: Vec<String> = sections().iter().map(|section| section.heading.clone()).collect();
    for code in Code::ALL {
        let heading = format!("{code}: {}", code.title());
        assert!(headings.contains(&heading), "docs/errors.md has no section `## {heading}`");
    }
    assert!(headings.is_sorted(), "sections are in order of their codes");
}
