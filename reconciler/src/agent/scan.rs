//! What a directory of manifests looks like, without a byte of its files being read.
//!
//! In: a path, plain or a symbolic link that somebody swaps. Out: [`Scan`], equal to another as long as nothing
//! was changed, and the names whose change may lead the path elsewhere.
//! Not here: reading the files ([`super::directory`]), waiting for changes ([`super::watch`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::manifest::listing;
use crate::source::problem::{Code, Problem};

/// What tells one state of a file or folder from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(data: &Metadata) -> Self {
        Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        }
    }
}

/// How a directory looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Where the links lead.
    pub root: PathBuf,
    /// Folders that may hold manifests, each with its device and inode.
    pub folders: BTreeMap<PathBuf, (u64, u64)>,
    /// Files that may count; none for one that is gone or a link to nowhere.
    files: BTreeMap<PathBuf, Option<Stamp>>,
}

/// Looks at a directory.
pub fn scan(path: &Path) -> Result<Scan, Problem> {
    let missing = |error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::NotFound => "does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
            io::ErrorKind::NotADirectory => "is not a directory".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        Problem::new(Code::DirectoryMissing, format!("{} {what}", path.display()))
    };
    let root = fs::canonicalize(path).map_err(missing)?;
    let mut scan = Scan { root: root.clone(), folders: BTreeMap::new(), files: BTreeMap::new() };
    let mut todo = vec![root];
    while let Some(folder) = todo.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folder == scan.root => return Err(missing(error)),
            // Gone meanwhile, or unreadable, which whoever reads it will say.
            Err(_) => continue,
        };
        if let Ok(data) = fs::metadata(&folder) {
            scan.folders.insert(folder.clone(), (data.dev(), data.ino()));
        }
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if listing::is_input_folder(&name) {
                    todo.push(entry.path());
                }
            } else if listing::is_input(&name) || name == listing::IGNORE_FILE {
                let stamp = fs::metadata(entry.path()).ok().map(|data| Stamp::from(&data));
                scan.files.insert(entry.path(), stamp);
            }
        }
    }
    Ok(scan)
}

/// The names whose change may lead `path` elsewhere, each in the folder that it stands in: links on the way,
/// the last name itself, or the first that is missing.
pub fn turnings(path: &Path) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let mut turnings = BTreeMap::new();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    follow(&absolute, &mut turnings, 0);
    turnings
}

/// Adds the turnings of an absolute path.
fn follow(path: &Path, turnings: &mut BTreeMap<PathBuf, BTreeSet<PathBuf>>, links: usize) {
    // As many as the kernel follows (MAXSYMLINKS, include/linux/namei.h).
    if links > 40 {
        return;
    }
    let mut here = PathBuf::from("/");
    let mut parts = path.components().skip(1).peekable();
    while let Some(part) = parts.next() {
        let next = here.join(part);
        let data = fs::symlink_metadata(&next);
        let is_link = data.as_ref().is_ok_and(|data| data.file_type().is_symlink());
        if is_link || data.is_err() || parts.peek().is_none() {
            turnings.entry(here.clone()).or_default().insert(next.clone());
        }
        if data.is_err() {
            return;
        }
        if is_link {
            if let Ok(target) = fs::read_link(&next) {
                follow(&here.join(target), turnings, links + 1);
            }
            match fs::canonicalize(&next) {
                Ok(target) => here = target,
                Err(_) => return,
            }
        } else if part == std::path::Component::ParentDir {
            here = here.parent().map_or_else(|| "/".into(), Path::to_owned);
        } else {
            here = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_scan_changes_with_what_counts_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("pools")).unwrap();
        fs::create_dir_all(at(".git")).unwrap();
        fs::write(at("pools/a.yaml"), "a").unwrap();
        let first = scan(dir.path()).unwrap();
        for other in ["README.md", ".git/x.yaml", "pools/.a.yaml.swp"] {
            fs::write(at(other), "x").unwrap();
        }
        assert_eq!(scan(dir.path()).unwrap(), first);
        fs::write(at("pools/new"), "b").unwrap();
        fs::rename(at("pools/new"), at("pools/a.yaml")).unwrap();
        assert_ne!(scan(dir.path()).unwrap(), first);
    }

    #[test]
    fn what_is_not_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        assert_eq!(scan(&nowhere).unwrap_err().to_string(), format!("RV0431: {} does not exist", nowhere.display()));
        fs::write(&nowhere, "").unwrap();
        assert!(scan(&nowhere).unwrap_err().to_string().ends_with("is not a directory"));
    }

    #[test]
    fn every_link_on_the_way_is_a_turning() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("trees/1/lab")).unwrap();
        symlink("trees/1", dir.join("next")).unwrap();
        symlink("next", dir.join("current")).unwrap();
        let names: BTreeSet<PathBuf> = turnings(&dir.join("current/lab")).into_values().flatten().collect();
        let right = ["current", "next", "trees/1", "trees/1/lab"].map(|name| dir.join(name));
        assert_eq!(names, right.into());
        let names: BTreeSet<PathBuf> = turnings(&dir.join("current/gone/x")).into_values().flatten().collect();
        assert!(names.contains(&dir.join("trees/1/gone")), "{names:?}");
        symlink("loop", dir.join("loop")).unwrap();
        turnings(&dir.join("loop"));
    }
}
