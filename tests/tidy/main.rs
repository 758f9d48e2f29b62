//! The tree keeps its own rules: what `ARCHITECTURE.md` and the manual say of it is looked up in it.
//!
//! `rooms`: headers, imports, what the pure rooms must not touch. `manual`: codes, paths, names of tests and fields.
//! `leftovers`: what is never to land.

mod leftovers;
mod manual;
mod rooms;

use std::path::{Path, PathBuf};

/// A text file of the tree.
pub struct File {
    /// Its path from the top of the repository, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// The top of the repository.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace").to_path_buf()
}

/// The text of one file.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file below `folder` (from the top; empty for all), in order of path, without what tools leave behind.
pub fn files(folder: &str) -> Vec<File> {
    let mut found = Vec::new();
    collect(&top().join(folder), &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!found.is_empty(), "nothing lies in `{folder}`");
    found
}

fn collect(folder: &Path, found: &mut Vec<File>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            // A worktree's own `.git` is a file; both kinds are not ours to read.
            if !["target", ".git", "corpus", "artifacts"].contains(&name.as_str()) {
                collect(&path, found);
            }
        } else if name != ".git"
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            let path = path.strip_prefix(top()).expect("below the top").to_string_lossy().replace('\\', "/");
            found.push(File { path, text });
        }
    }
}

/// The Rust files below `folder`.
pub fn sources(folder: &str) -> Vec<File> {
    files(folder).into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Fails with all that was found, a line each.
pub fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}
