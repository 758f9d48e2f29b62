//! The manual of errors runs: each section's input gives the output that is shown there.
//!
//! A block of `yaml` is files beside `examples/minimal-lab`, each after a comment with its path; `yaml alone` is all
//! there is; `yaml agent` is a node's own file; `sh` is a script in a copy of `examples/minimal-lab`. The next block
//! of `text` is what is printed.

use std::path::Path;
use std::process::Command;

use rendezvip::manifest::diagnostic::Code;

use crate::top;

#[derive(Debug, Default)]
struct Section {
    heading: String,
    /// Info string and text of each fenced block.
    blocks: Vec<(String, String)>,
}

fn sections() -> Vec<Section> {
    let manual = std::fs::read_to_string(top().join("docs/errors.md")).expect("docs/errors.md");
    let mut sections: Vec<Section> = Vec::new();
    let mut fence: Option<(String, String)> = None;
    for line in manual.lines() {
        match (&mut fence, line.strip_prefix("```")) {
            (Some(_), Some("")) => {
                let block = fence.take().expect("it is open");
                sections.last_mut().expect("a block stands in a section").blocks.push(block);
            }
            (Some((_, text)), _) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, Some(info)) => fence = Some((info.to_owned(), String::new())),
            (None, None) => {
                if let Some(heading) = line.strip_prefix("## ") {
                    sections.push(Section { heading: heading.to_owned(), ..Section::default() });
                }
            }
        }
    }
    sections
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("it is copied");
        }
    }
}

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
        "sh" => {
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
    let mut ran = 0;
    for section in sections() {
        for pair in section.blocks.windows(2) {
            let ((info, input), (kind, expected)) = (&pair[0], &pair[1]);
            if !(info.starts_with("yaml") || info == "sh") {
                continue;
            }
            assert_eq!(kind, "text", "{}: the output follows the input", section.heading);
            let found = output(info, input);
            assert_eq!(&found, expected, "{}", section.heading);
            let code = section.heading.split(':').next().unwrap_or_default();
            assert!(found.contains(code), "{}: the example shows another code", section.heading);
            ran += 1;
        }
    }
    assert!(ran >= Code::ALL.len());
}

#[test]
fn every_code_of_the_manifests_has_its_section_in_order() {
    let headings: Vec<String> = sections().into_iter().map(|section| section.heading).collect();
    for code in Code::ALL {
        let heading = format!("{code}: {}", code.title());
        assert!(headings.contains(&heading), "docs/errors.md has no section `## {heading}`");
    }
    assert!(headings.is_sorted(), "sections are in order of their codes");
}
