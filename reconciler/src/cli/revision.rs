//! The manifests of a directory as they lie on disk, or as a revision of the repository that holds it has them.
//!
//! In: a directory, a revision as git writes it. Out: files. Not here: which files count (`manifest::listing`),
//! what they say (`manifest`).
//!
//! A revision is read as a node reads it: plain blobs, without filters and attributes. In a bare repository DIR is the
//! place in its tree, so that a hook can judge what is pushed before anybody has it on disk.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use git2::{ObjectType, Repository, Tree, TreeWalkMode, TreeWalkResult};

use super::failure::Failure;
use crate::agent::directory::{self, Listing};
use crate::manifest::diagnostic::{Code, Diagnostic, Span};
use crate::manifest::{MOST_BYTES, MOST_FILES, SourceFile, listing};

/// What lies in `dir`, or what `revision` has there; every path begins with `prefix`.
pub fn listing(dir: &Path, revision: Option<&str>, prefix: Option<&str>) -> Result<Listing, Failure> {
    let mut listing = match revision {
        None => directory::read(dir),
        Some(revision) => read(dir, revision)?,
    };
    if let Some(prefix) =
        prefix.map(|it| it.trim_start_matches("./").trim_end_matches('/')).filter(|it| *it != "." && !it.is_empty())
    {
        for file in &mut listing.files {
            file.path = format!("{prefix}/{}", file.path);
        }
        for diagnostic in &mut listing.diagnostics {
            diagnostic.place.file = format!("{prefix}/{}", diagnostic.place.file).into();
        }
    }
    Ok(listing)
}

/// The repository that holds `dir`. Inside a hook that is the one that is pushed to, with what is not let in yet
/// (git-receive-pack(1), QUARANTINE ENVIRONMENT).
fn repository(dir: &Path) -> Result<Repository, Failure> {
    let found = match std::env::var_os("GIT_QUARANTINE_PATH") {
        Some(_) => Repository::open_from_env(),
        None => Repository::discover(dir).or_else(|error| {
            // In a bare repository DIR is a place in its tree.
            let bare = Repository::discover(".").ok().filter(Repository::is_bare);
            bare.filter(|_| !dir.exists()).ok_or(error)
        }),
    };
    found.map_err(|error| {
        let message = format!("{} is in no git repository that can be read: {}", dir.display(), error.message());
        Failure::new("RV0642", message, "a revision is read in the repository that holds DIR; else name a directory")
    })
}

/// The two ends of a range as git writes it: `A..B`, or `A...B` from where the two parted.
pub fn range(dir: &Path, text: &str) -> Result<Option<(String, String)>, Failure> {
    let or_head = |text: &str| if text.is_empty() { "HEAD".to_owned() } else { text.to_owned() };
    if let Some((from, to)) = text.split_once("...") {
        let (from, to) = (or_head(from), or_head(to));
        let repository = repository(dir)?;
        let commit = |name: &str| repository.revparse_single(name).and_then(|it| it.peel_to_commit()).map(|it| it.id());
        let base = commit(&from).and_then(|from| repository.merge_base(from, commit(&to)?));
        let base = base.map_err(|error| unknown(text, &error))?;
        return Ok(Some((base.to_string(), to)));
    }
    Ok(text.split_once("..").map(|(from, to)| (or_head(from), or_head(to))))
}

fn unknown(revision: &str, error: &git2::Error) -> Failure {
    let message = format!("`{revision}` is neither a directory nor a revision: {}", error.message());
    let help = "fetch the branch first, as in `git fetch origin main`, and name `origin/main`; a clone of depth 1 has \
                no other revision";
    Failure::new("RV0641", message, help)
}

/// The manifests that `revision` has where `dir` is: none if it has no such folder.
pub fn read(dir: &Path, revision: &str) -> Result<Listing, Failure> {
    let repository = repository(dir)?;
    let tree = repository
        .revparse_single(revision)
        .and_then(|object| object.peel_to_tree())
        .map_err(|error| unknown(revision, &error))?;
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
            Ok(_) | Err(_) => Ok(Listing::default()),
        },
    }
}

/// Where the directory lies in its repository.
pub(super) fn place(repository: &Repository, dir: &Path) -> Result<PathBuf, Failure> {
    let unplaced = || {
        let message = format!("{} is not in the work tree of its git repository", dir.display());
        Failure::new("RV0642", message, "a revision is read at DIR's place in a work tree; else name a directory")
    };
    if repository.is_bare() {
        let plain = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let place: PathBuf = dir.components().filter(|part| *part != Component::CurDir).collect();
        return if dir.components().all(|part| plain(&part)) { Ok(place) } else { Err(unplaced()) };
    }
    let (Some(root), Ok(dir)) = (repository.workdir(), dir.canonicalize()) else { return Err(unplaced()) };
    let root = root.canonicalize().map_err(|_| unplaced())?;
    dir.strip_prefix(root).map(Path::to_path_buf).map_err(|_| unplaced())
}

pub(super) fn files(repository: &Repository, tree: &Tree<'_>) -> Result<Listing, git2::Error> {
    let mut blobs = BTreeMap::new();
    tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
        // What is not UTF-8 counts no more than on disk.
        let Ok(name) = entry.name() else { return TreeWalkResult::Skip };
        if entry.kind() == Some(ObjectType::Tree) {
            return if listing::is_input_folder(name) { TreeWalkResult::Ok } else { TreeWalkResult::Skip };
        }
        // 0100644 and 0100755 are files; 0120000 is a symbolic link, 0160000 a submodule.
        let plain = entry.filemode() & 0o170_000 == 0o100_000;
        blobs.insert(format!("{folder}{name}"), (entry.id(), plain));
        TreeWalkResult::Ok
    })?;
    let odb = repository.odb()?;
    let mut listing = Listing::default();
    let mut bytes = 0;
    for path in listing::select(blobs.keys().map(String::as_str)) {
        let Some((id, plain)) = blobs.get(path) else { continue };
        if !plain {
            let message = "a node takes plain files from a commit, and this is a symbolic link or a submodule";
            let link = Diagnostic::new(Code::Link, &Arc::from(path), Span::FIRST, message);
            listing.diagnostics.push(link.help("commit the file itself"));
            continue;
        }
        bytes += odb.read_header(*id)?.0;
        if bytes > MOST_BYTES || listing.files.len() >= MOST_FILES {
            return Err(git2::Error::from_str("the revision has more manifests than rendezvip reads"));
        }
        listing.files.push(SourceFile { path: path.to_owned(), text: repository.find_blob(*id)?.content().to_vec() });
    }
    Ok(listing)
}
