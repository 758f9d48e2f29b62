//! The lab's git server and the clone that its operator works in.
//!
//! In: files and a message. Out: a commit on `main` of a bare repository, as a push leaves it; and what stands on a
//! branch. Not here: how nodes follow it (`source`, `agent`).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository as Git, RepositoryInitOptions, Signature, Tree, TreeWalkMode, TreeWalkResult};

use super::{LabError, Step};

/// The branch that nodes follow.
pub const MAIN: &str = "main";
/// The branch that they report on.
pub const STATUS: &str = "rendezvip/status";

/// A bare repository, and a clone of it with files to edit.
pub struct Repository {
    bare: PathBuf,
    clone: PathBuf,
}

impl Repository {
    /// An empty one below `root`.
    pub fn new(root: &Path) -> Result<Self, LabError> {
        let made = Self { bare: root.join("vips.git"), clone: root.join("vips") };
        let init = |path: &Path, bare: bool| {
            Git::init_opts(path, RepositoryInitOptions::new().bare(bare).initial_head(MAIN)).map_err(io::Error::other)
        };
        init(&made.bare, true).step(|| "make a git repository".to_owned())?;
        let clone = init(&made.clone, false).step(|| "make a clone".to_owned())?;
        let url = made.bare.to_string_lossy().into_owned();
        clone.remote("origin", &url).map_err(io::Error::other).step(|| "name the clone's origin".to_owned())?;
        Ok(made)
    }

    /// Where nodes fetch from.
    pub fn bare(&self) -> &Path {
        &self.bare
    }

    /// Where the operator's files are.
    pub fn clone_dir(&self) -> &Path {
        &self.clone
    }

    /// Writes these files in the clone (an empty text deletes one), commits everything and pushes `main`.
    pub fn push(&self, message: &str, files: &[(&str, &str)]) -> Result<Oid, LabError> {
        for (path, text) in files {
            let path = self.clone.join(path);
            let written = if text.is_empty() {
                fs::remove_file(&path)
            } else {
                fs::create_dir_all(path.parent().unwrap_or(&self.clone)).and_then(|()| fs::write(&path, text))
            };
            written.step(|| format!("write {}", path.display()))?;
        }
        self.commit(message).map_err(io::Error::other).step(|| format!("commit and push \"{message}\""))
    }

    fn commit(&self, message: &str) -> Result<Oid, git2::Error> {
        let git = Git::open(&self.clone)?;
        let mut index = git.index()?;
        index.add_all(["*"], git2::IndexAddOption::DEFAULT, None)?;
        index.update_all(["*"], None)?;
        index.write()?;
        let tree = git.find_tree(index.write_tree()?)?;
        let author = Signature::now("A. Operator", "operator@lab.example")?;
        let parent = git.head().ok().and_then(|head| head.peel_to_commit().ok());
        let parents: Vec<_> = parent.iter().collect();
        let commit = git.commit(Some("HEAD"), &author, &author, message, &tree, &parents)?;
        git.find_remote("origin")?.push(&[format!("refs/heads/{MAIN}:refs/heads/{MAIN}")], None)?;
        Ok(commit)
    }

    /// The commit at the tip of a branch of the bare repository, where there is one.
    pub fn tip(&self, branch: &str) -> Option<Oid> {
        let git = Git::open_bare(&self.bare).ok()?;
        git.find_reference(&format!("refs/heads/{branch}")).ok()?.target()
    }

    /// The subjects of a branch's commits by first parent, newest first.
    pub fn log(&self, branch: &str) -> Vec<String> {
        let read = || -> Option<Vec<String>> {
            let git = Git::open_bare(&self.bare).ok()?;
            let mut commit = git.find_commit(self.tip(branch)?).ok()?;
            let mut subjects = Vec::new();
            loop {
                // A status branch begins at a commit of `main`, whose log is another story.
                if self.tip(MAIN).is_some_and(|main| git.graph_descendant_of(main, commit.id()).unwrap_or(false)) {
                    return Some(subjects);
                }
                subjects.push(commit.summary().ok().flatten().unwrap_or_default().to_owned());
                match commit.parent(0) {
                    Ok(parent) => commit = parent,
                    Err(_) => return Some(subjects),
                }
            }
        };
        read().unwrap_or_default()
    }

    /// The files of a branch's tip, by path.
    pub fn files(&self, branch: &str) -> BTreeMap<String, Vec<u8>> {
        let read = || -> Option<BTreeMap<String, Vec<u8>>> {
            let git = Git::open_bare(&self.bare).ok()?;
            let tree = git.find_commit(self.tip(branch)?).ok()?.tree().ok()?;
            Some(files(&git, &tree))
        };
        read().unwrap_or_default()
    }
}

fn files(git: &Git, tree: &Tree<'_>) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    // The walk itself cannot fail: its objects were just read.
    let _ = tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
        if let (Ok(blob), Ok(name)) = (git.find_blob(entry.id()), entry.name()) {
            found.insert(format!("{folder}{name}"), blob.content().to_vec());
        }
        TreeWalkResult::Ok
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_what_nodes_can_fetch() {
        let root = tempfile::tempdir().unwrap();
        let repository = Repository::new(root.path()).unwrap();
        let first = repository.push("First", &[("a.yaml", "a"), ("pools/b.yaml", "b")]).unwrap();
        assert_eq!(repository.tip(MAIN), Some(first));
        repository.push("Second", &[("a.yaml", ""), ("pools/b.yaml", "c")]).unwrap();
        assert_eq!(repository.files(MAIN), [("pools/b.yaml".to_owned(), b"c".to_vec())].into());
        assert_eq!(repository.tip(STATUS), None);
    }
}
