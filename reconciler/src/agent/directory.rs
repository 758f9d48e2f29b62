//! A directory of manifests as it lies on disk.
//!
//! In: its path. Out: the files that [`listing`] chooses, with what they hold, and what could not be read.
//! Not here: what the files say (`manifest`), noticing changes (`watch`).
//!
//! The root may be a symbolic link that is swapped under us (git-sync): it is resolved once, so that one reading
//! is of one target. Below it, links to files are followed as long as they stay inside (a mounted ConfigMap is made
//! of such links); links to folders are not, as a git tree has none.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use crate::manifest::diagnostic::{Code, Diagnostic, Span};
use crate::manifest::listing;
use crate::manifest::tree::LONGEST_FILE;
use crate::manifest::{Loaded, MOST_BYTES, MOST_FILES, SourceFile, load, load_within};

/// What lies in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The files that count, in order of path.
    pub files: Vec<SourceFile>,
    /// What could not be read.
    pub diagnostics: Vec<Diagnostic>,
}

impl Listing {
    /// What the files say; nothing is desired if one of them could not be read.
    pub fn load(&self) -> Loaded {
        self.load_within(None)
    }

    /// The same with warnings of what no node's own file allows, where that is known.
    pub fn load_within(&self, allowed: Option<&[IpNet]>) -> Loaded {
        if self.diagnostics.is_empty() {
            return load_within(&self.files, allowed);
        }
        // What was not read may hold the Cluster or a node: say nothing about what seems to be missing.
        let missing =
            |code| matches!(code, Code::NoCluster | Code::NoNodes | Code::SelectsNobody | Code::PreferUndeclared);
        let mut diagnostics = load(&self.files).diagnostics;
        diagnostics.retain(|diagnostic| !missing(diagnostic.code));
        diagnostics.extend(self.diagnostics.iter().cloned());
        diagnostics.sort_by(|a, b| (&a.place, a.code).cmp(&(&b.place, b.code)));
        Loaded { desired: None, diagnostics }
    }
}

/// Reads a directory.
pub fn read(directory: &Path) -> Listing {
    let mut listing = Listing::default();
    let unreadable = |path: &str, what: String| Diagnostic::new(Code::Unreadable, &Arc::from(path), Span::FIRST, what);
    let root = match directory.canonicalize() {
        Ok(root) => root,
        Err(error) => {
            let message = format!("cannot read {}: {error}", directory.display());
            listing.diagnostics.push(unreadable(".", message).help("name a directory that exists and may be read"));
            return listing;
        }
    };
    let found = walk(&root, &mut listing.diagnostics);
    let mut bytes = 0;
    for path in listing::select(found.keys().map(String::as_str)) {
        if listing.files.len() > MOST_FILES || bytes > MOST_BYTES {
            // One more than is read: `load` says so, with its place.
            break;
        }
        match read_file(&root, &found[path]) {
            Ok(text) => {
                bytes += text.len();
                listing.files.push(SourceFile { path: path.to_owned(), text });
            }
            Err(Refusal::Outside(target)) => {
                let message = format!("a symbolic link leads out of the directory, to {}", target.display());
                let help = "put the file itself here; what lies elsewhere is not under the repository's control";
                listing
                    .diagnostics
                    .push(Diagnostic::new(Code::Link, &Arc::from(path), Span::FIRST, message).help(help));
            }
            Err(Refusal::Io(message)) => listing.diagnostics.push(unreadable(path, message)),
        }
    }
    listing
}

/// Every file below `root` that is not under a folder which never counts, by its path relative to it.
fn walk(root: &Path, diagnostics: &mut Vec<Diagnostic>) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(String::new(), root.to_path_buf())];
    while let Some((prefix, folder)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                let path = if prefix.is_empty() { "." } else { prefix.trim_end_matches('/') };
                let message = format!("cannot read this folder: {error}");
                diagnostics.push(Diagnostic::new(Code::Unreadable, &Arc::from(path), Span::FIRST, message));
                continue;
            }
        };
        let mut below = Vec::new();
        let mut ignored = false;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            ignored |= name == listing::IGNORE_FILE;
            let path = format!("{prefix}{name}");
            // `file_type` does not follow links, so a loop of links is no loop here.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => {
                    if listing::is_input_folder(&name) {
                        below.push((format!("{path}/"), entry.path()));
                    }
                }
                // A link to a folder may be called `x.yaml` too.
                Ok(kind) if kind.is_symlink() && entry.path().is_dir() => {}
                _ => {
                    found.insert(path, entry.path());
                }
            }
        }
        if !ignored {
            folders.extend(below);
        }
    }
    found
}

enum Refusal {
    Outside(PathBuf),
    Io(String),
}

fn read_file(root: &Path, path: &Path) -> Result<Vec<u8>, Refusal> {
    let io = |error: std::io::Error| Refusal::Io(format!("cannot read this file: {error}"));
    let target = path.canonicalize().map_err(io)?;
    if !target.starts_with(root) {
        return Err(Refusal::Outside(target));
    }
    // A pipe or a device would keep us waiting for ever.
    if !fs::metadata(&target).map_err(io)?.is_file() {
        return Err(Refusal::Io("this is not a regular file".into()));
    }
    let mut text = Vec::new();
    let limit = LONGEST_FILE as u64 + 1;
    fs::File::open(&target).map_err(io)?.take(limit).read_to_end(&mut text).map_err(io)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn paths(listing: &Listing) -> Vec<&str> {
        listing.files.iter().map(|file| file.path.as_str()).collect()
    }

    #[test]
    fn a_link_stays_inside_or_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "secret.yaml", "a: 1");
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "..data/real.yaml", "apiVersion: v1");
        write(root.path(), "pools/a.yaml", "apiVersion: v1");
        symlink("..data/real.yaml", root.path().join("inside.yaml")).unwrap();
        symlink(outside.path().join("secret.yaml"), root.path().join("out.yaml")).unwrap();
        symlink("nowhere", root.path().join("dangling.yml")).unwrap();
        symlink(root.path(), root.path().join("loop")).unwrap();
        symlink("loop.yaml", root.path().join("loop.yaml")).unwrap();
        let listing = read(root.path());
        assert_eq!(paths(&listing), ["inside.yaml", "pools/a.yaml"]);
        let codes: Vec<_> = listing.diagnostics.iter().map(|d| (d.place.file.as_ref(), d.code)).collect();
        assert_eq!(
            codes,
            [("dangling.yml", Code::Unreadable), ("loop.yaml", Code::Unreadable), ("out.yaml", Code::Link)]
        );
        assert_eq!(listing.load().desired, None);
    }

    #[test]
    fn a_pipe_that_is_called_yaml_keeps_nobody_waiting() {
        let root = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&root.path().join("pipe.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(root.path()).diagnostics[0].code, Code::Unreadable);
    }

    #[test]
    fn the_root_may_be_a_link_and_ignored_folders_are_not_even_entered() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "set-1/a.yaml", "apiVersion: v1");
        write(root.path(), "set-1/charts/.rendezvipignore", "");
        write(root.path(), "set-1/charts/deep/x.yaml", "{{ x }}");
        write(root.path(), "set-1/status/pools/x.yaml", "{{ x }}");
        symlink("set-1", root.path().join("current")).unwrap();
        let listing = read(&root.path().join("current"));
        assert_eq!(paths(&listing), ["a.yaml"]);
        assert_eq!(listing.diagnostics, []);
    }

    #[test]
    fn a_directory_that_is_not_there_is_a_finding() {
        let listing = read(Path::new("/nonexistent/vips"));
        assert_eq!(listing.diagnostics[0].code, Code::Unreadable);
    }
}
