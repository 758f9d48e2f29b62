//! The manifests of a revision, read from the repository that holds a directory, at the directory's place.
//!
//! In: a directory, a revision as git writes it. Out: files. Not here: which files count (`manifest::listing`),
//! what they say (`manifest`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Repository, Tree, TreeWalkMode, TreeWalkResult};

use super::failure::Failure;
use crate::manifest::{MOST_BYTES, MOST_FILES, SourceFile, listing};

/// The manifests that `revision` has where `dir` is: none if it has no such folder.
pub fn read(dir: &Path, revision: &str) -> Result<Vec<SourceFile>, Failure> {
    let repository = Repository::discover(dir).map_err(|error| {
        let message = format!("{} is in no git repository that can be read: {}", dir.display(), error.message());
        Failure::new("RV0642", message, "a revision is read in the repository that holds DIR; else name a directory")
    })?;
    let tree = repository.revparse_single(revision).and_then(|object| object.peel_to_tree()).map_err(|error| {
        let message = format!("`{revision}` is neither a directory nor a revision: {}", error.message());
        let help = "fetch the branch first, as in `git fetch origin main`, and name `origin/main`; a clone of depth 1 has \
                    no other revision";
        Failure::new("RV0641", message, help)
    })?;
    let git = |error: git2::Error| {
        let message = format!("the repository of {} cannot be read: {}", dir.display(), error.message());
        Failure::new("RV0644", message, "see `git fsck`")
    };
    match place(&repository, dir)?.components().next() {
        None => files(&repository, &tree).map_err(git),
        Some(_) => match tree.get_path(&place(&repository, dir)?) {
            Ok(entry) if entry.kind() == Some(ObjectType::Tree) => {
                let object = entry.to_object(&repository).map_err(git)?;
                files(&repository, &object.peel_to_tree().map_err(git)?).map_err(git)
            }
            // Not there yet, or a file or a submodule: nothing of ours stood there.
            Ok(_) | Err(_) => Ok(Vec::new()),
        },
    }
}

/// Where the directory lies in its repository.
pub(super) fn place(repository: &Repository, dir: &Path) -> Result<PathBuf, Failure> {
    let unplaced = || {
        let message = format!("{} is not in the work tree of its git repository", dir.display());
        Failure::new("RV0642", message, "a revision is read at DIR's place in a work tree; else name a directory")
    };
    let (Some(root), Ok(dir)) = (repository.workdir(), dir.canonicalize()) else { return Err(unplaced()) };
    let root = root.canonicalize().map_err(|_| unplaced())?;
    dir.strip_prefix(root).map(Path::to_path_buf).map_err(|_| unplaced())
}

pub(super) fn files(repository: &Repository, tree: &Tree<'_>) -> Result<Vec<SourceFile>, git2::Error> {
    let mut blobs = BTreeMap::new();
    tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
        // What is not UTF-8 counts no more than on disk; a link or a submodule is no file.
        let Ok(name) = entry.name() else { return TreeWalkResult::Skip };
        match entry.kind() {
            Some(ObjectType::Tree) if !listing::is_input_folder(name) => TreeWalkResult::Skip,
            Some(ObjectType::Blob) if entry.filemode() != 0o120_000 => {
                blobs.insert(format!("{folder}{name}"), entry.id());
                TreeWalkResult::Ok
            }
            _ => TreeWalkResult::Ok,
        }
    })?;
    let odb = repository.odb()?;
    let mut files = Vec::new();
    let mut bytes = 0;
    for path in listing::select(blobs.keys().map(String::as_str)) {
        let Some(id) = blobs.get(path) else { continue };
        bytes += odb.read_header(*id)?.0;
        if bytes > MOST_BYTES || files.len() >= MOST_FILES {
            return Err(git2::Error::from_str("the revision has more manifests than rendezvip reads"));
        }
        files.push(SourceFile { path: path.to_owned(), text: repository.find_blob(*id)?.content().to_vec() });
    }
    Ok(files)
}
