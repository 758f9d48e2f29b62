//! The manual of errors, as the tests that run it read it: sections, and their fenced blocks.
//!
//! A block whose info string begins with `yaml` or `sh` is an example; the block of `text` after it is what it prints.

use std::path::Path;

/// One error: `## RVnnnn: title`.
#[derive(Debug, Default)]
pub struct Section {
    pub heading: String,
    /// Info string and text of each fenced block.
    blocks: Vec<(String, String)>,
}

/// One example of a section: the kind of block that it is, what is done, and what is printed then.
#[derive(Debug)]
pub struct Example {
    pub heading: String,
    pub kind: String,
    pub input: String,
    pub output: String,
}

impl Section {
    /// The stable code.
    pub fn code(&self) -> &str {
        self.heading.split(':').next().unwrap_or_default()
    }

    /// Its examples; whoever writes one says what it prints.
    pub fn examples(&self) -> Vec<Example> {
        let is_example = |kind: &str| kind.starts_with("yaml") || kind.starts_with("sh");
        let inputs = self.blocks.iter().enumerate().filter(|(_, (kind, _))| is_example(kind));
        let example = |(at, (kind, input)): (usize, &(String, String))| {
            let output = self.blocks.get(at + 1).filter(|(kind, _)| kind == "text");
            let (_, output) = output.unwrap_or_else(|| panic!("{}: the output follows the input", self.heading));
            assert!(output.contains(self.code()), "{}: the example shows another code", self.heading);
            let [heading, kind, input, output] = [&self.heading, kind, input, output].map(Clone::clone);
            Example { heading, kind, input, output }
        };
        inputs.map(example).collect()
    }
}

/// The sections of docs/errors.md, in its order.
pub fn sections() -> Vec<Section> {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let manual = std::fs::read_to_string(manual).expect("docs/errors.md");
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

/// Copies a folder and all that is in it.
pub fn copy(from: &Path, to: &Path) {
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
