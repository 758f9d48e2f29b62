//! One status commit: the observed tree and `status/`, pushed only if nobody was faster.
//!
//! In: a [`Commit`] job. Out: a commit on the status branch, or why there is none.
//! Not here: when to write (`status::scribe`), what the files hold (`status::files`).
//!
//! On a path libgit2's push would force the reference, so there the objects are copied and the reference
//! is exchanged if it still has its old value. Over a network the push is without force: the server takes it
//! only if the branch still stands where it told us.

use std::path::Path;
use std::time::{Duration, SystemTime};

use git2::{ErrorCode, ObjectType, Oid, PushOptions, Repository, Signature, Time, TreeWalkMode, TreeWalkResult};

use super::child::{callbacks, describe, fetch, hash, oid, problem, proxy, shown, ticker};
use super::protocol::{Answer, Commit, Remote};
use super::sshsig::SigningKey;
use crate::manifest::listing::STATUS_FOLDER;
use crate::revision::Revision;
use crate::source::problem::{Code, Problem};
use crate::status::files::{self, Files};
use crate::status::{Snapshot, Wall, message, scribe};

/// Tries within one job: as many pushes may be lost to somebody else.
const TRIES: u32 = 4;

/// Commits of the branch that are looked at to learn what it told last, and how often.
const RECENT: usize = 500;

/// What the bucket looks back at: four refills and the time that two clocks may differ.
const WINDOW: Duration = Duration::from_secs(120);

/// A file of a status branch that is larger is not ours.
const LARGEST: usize = 64 << 20;

/// Why a push did not come through.
enum Refused {
    /// Somebody was faster.
    Lost,
    /// Something else.
    Because(Problem),
}

/// Renders, commits and pushes; tries again with what somebody else pushed in the meantime.
pub fn commit(repository: &Repository, remote: &Remote, job: &Commit) -> Result<Answer, Problem> {
    let reference = format!("refs/rendezvip/status/{}", job.branch);
    let key = job.signing_key_file.as_deref().map(signing_key).transpose()?;
    for attempt in 0..TRIES {
        if attempt > 0 {
            std::thread::sleep(jitter(attempt));
        }
        let base = fetch(repository, remote, &format!("refs/heads/{}", job.branch), &reference, None)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let told = base.map(|base| recent(repository, base, now)).transpose().map_err(problem)?.unwrap_or_default();
        let folder =
            if job.path.is_empty() { STATUS_FOLDER.to_owned() } else { format!("{}/{STATUS_FOLDER}", job.path) };
        let previous = match base {
            Some(base) => read_files(repository, base, &folder).map_err(problem)?,
            None => Files::new(),
        };
        let files = files::render(&job.snapshot, &previous);
        let desired = match &job.snapshot.revision {
            Some(Revision::Git { commit, .. }) => Some(oid(*commit)?),
            _ => None,
        };
        let tree = tree(repository, desired, &folder, &files)?;
        if let Some(base) = base
            && repository.find_commit(base).and_then(|base| base.tree()).map_err(problem)?.id() == tree
        {
            return Ok(Answer::Same);
        }
        if let Err(wait) = scribe::bucket(told.times, Wall::from_millis(millis(now))) {
            return Ok(Answer::Paced(wait));
        }
        let parents = parents(repository, base, desired, told.revision.as_ref(), &job.snapshot).map_err(problem)?;
        let time = Time::new(i64::try_from(now.as_secs()).unwrap_or(0), 0);
        let author = Signature::new(&job.author.name, &job.author.email, &time).map_err(problem)?;
        let made = (|| {
            let parents = parents.iter().map(|id| repository.find_commit(*id)).collect::<Result<Vec<_>, _>>()?;
            let parents: Vec<&git2::Commit<'_>> = parents.iter().collect();
            let text = message::message(&previous, &job.snapshot);
            let tree = repository.find_tree(tree)?;
            match &key {
                None => repository.commit(None, &author, &author, &text, &tree, &parents),
                Some(key) => {
                    let content = repository.commit_create_buffer(&author, &author, &text, &tree, &parents)?;
                    let content = String::from_utf8_lossy(&content).into_owned();
                    let signature = key.sign(content.as_bytes());
                    let signature = signature.map_err(|error| git2::Error::from_str(&error.to_string()))?;
                    repository.commit_signed(&content, &signature, None)
                }
            }
        })()
        .map_err(problem)?;
        let pushed = match path_of(&remote.url) {
            Some(path) => exchange(repository, &path, &job.branch, base, made, remote),
            None => push(repository, remote, &job.branch, made),
        };
        match pushed {
            Ok(()) => {
                let _ = repository.reference(&reference, made, true, "status pushed");
                return Ok(Answer::Committed(hash(made)));
            }
            Err(Refused::Lost) => {}
            Err(Refused::Because(problem)) => return Err(problem),
        }
    }
    Ok(Answer::Lost)
}

fn signing_key(path: &Path) -> Result<SigningKey, Problem> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let key = text.and_then(|text| SigningKey::parse(&text).map_err(str::to_owned));
    key.map_err(|what| {
        Problem::new(Code::PushFailed, format!("{} is to sign the status, and cannot: {what}", path.display()))
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Some time before the next try, more for later ones: two scribes that met shall not meet again.
fn jitter(attempt: u32) -> Duration {
    let mut byte = [0; 2];
    let _ = getrandom::fill(&mut byte);
    Duration::from_millis(u64::from(u16::from_ne_bytes(byte)) % (150 * u64::from(attempt)) + 20)
}

/// What the branch's own commits tell.
#[derive(Default)]
struct Told {
    /// When they were made, of those that the bucket counts.
    times: Vec<Wall>,
    /// The revision that the last of them reports on.
    revision: Option<Revision>,
}

fn recent(repository: &Repository, base: Oid, now: Duration) -> Result<Told, git2::Error> {
    let mut told = Told::default();
    let mut next = Some(repository.find_commit(base)?);
    for _ in 0..RECENT {
        let Some(commit) = next else { break };
        let text = String::from_utf8_lossy(commit.message_bytes()).into_owned();
        if message::scribe_of(&text).is_some() {
            let seconds = u64::try_from(commit.time().seconds()).unwrap_or(0);
            if told.revision.is_none() {
                told.revision = message::revision_of(&text);
            }
            if Duration::from_secs(seconds) + WINDOW < now {
                break;
            }
            told.times.push(Wall::from_millis(seconds.saturating_mul(1000)));
        }
        next = commit.parent(0).ok();
    }
    Ok(told)
}

/// The previous status commit, and the desired one when the revision moved; the first has the desired one alone.
fn parents(
    repository: &Repository,
    base: Option<Oid>,
    desired: Option<Oid>,
    told: Option<&Revision>,
    snapshot: &Snapshot,
) -> Result<Vec<Oid>, git2::Error> {
    let (Some(base), Some(desired)) = (base, desired) else { return Ok(base.or(desired).into_iter().collect()) };
    let moved = told.and_then(Revision::commit) != snapshot.revision.as_ref().and_then(Revision::commit);
    let parents = if base != desired && (moved || !repository.graph_descendant_of(base, desired)?) {
        vec![base, desired]
    } else {
        vec![base]
    };
    Ok(parents)
}

/// The files below `folder` in the tree of `commit`.
fn read_files(repository: &Repository, commit: Oid, folder: &str) -> Result<Files, git2::Error> {
    let mut files = Files::new();
    let Some(tree) = super::child::tree_at(repository, commit, folder)? else { return Ok(files) };
    let mut found = Vec::new();
    tree.walk(TreeWalkMode::PreOrder, |parent, entry| {
        if entry.kind() == Some(ObjectType::Blob)
            && let Ok(name) = entry.name()
        {
            found.push((format!("{parent}{name}"), entry.id()));
        }
        TreeWalkResult::Ok
    })?;
    let odb = repository.odb()?;
    for (path, id) in found {
        if odb.read_header(id)?.0 <= LARGEST
            && let Ok(text) = String::from_utf8(odb.read(id)?.data().to_vec())
        {
            files.insert(path, text);
        }
    }
    Ok(files)
}

/// The desired tree, or an empty one, with our files and nothing else at `folder`.
fn tree(repository: &Repository, desired: Option<Oid>, folder: &str, files: &Files) -> Result<Oid, Problem> {
    let root = match desired {
        None => None,
        Some(desired) => {
            let found = repository.find_commit(desired).and_then(|commit| commit.tree());
            Some(found.map_err(|error| {
                let message = format!("the mirror has no commit {desired}, which runs: {}", error.message());
                Problem::new(Code::PushFailed, message)
            })?)
        }
    };
    let ours = folder_tree(repository, files).map_err(problem)?;
    let parts: Vec<&str> = folder.split('/').collect();
    graft(repository, root.as_ref(), &parts, ours).map_err(problem)
}

/// Writes files as a tree.
fn folder_tree(repository: &Repository, files: &Files) -> Result<Oid, git2::Error> {
    let mut builder = repository.treebuilder(None)?;
    let mut folders: std::collections::BTreeMap<&str, Files> = std::collections::BTreeMap::new();
    for (path, text) in files {
        match path.split_once('/') {
            None => {
                builder.insert(path, repository.blob(text.as_bytes())?, 0o100_644)?;
            }
            Some((folder, rest)) => {
                folders.entry(folder).or_default().insert(rest.to_owned(), text.clone());
            }
        }
    }
    for (folder, files) in folders {
        builder.insert(folder, folder_tree(repository, &files)?, 0o040_000)?;
    }
    builder.write()
}

/// `root` with the tree `ours` at the place `parts`.
fn graft(
    repository: &Repository,
    root: Option<&git2::Tree<'_>>,
    parts: &[&str],
    ours: Oid,
) -> Result<Oid, git2::Error> {
    let [name, rest @ ..] = parts else { return Ok(ours) };
    let below = match root.and_then(|root| root.get_name(name)) {
        Some(entry) if entry.kind() == Some(ObjectType::Tree) => Some(repository.find_tree(entry.id())?),
        _ => None,
    };
    let mut builder = repository.treebuilder(root)?;
    builder.insert(name, graft(repository, below.as_ref(), rest, ours)?, 0o040_000)?;
    builder.write()
}

/// The path of a repository on this host.
pub(super) fn path_of(url: &str) -> Option<std::path::PathBuf> {
    if let Some(path) = url.strip_prefix("file://") {
        return Some(path.into());
    }
    // `host:path` is ssh in short, as git has it.
    let ssh = url.find(':').is_some_and(|colon| url.find('/').is_none_or(|slash| colon < slash));
    (!ssh && !url.contains("://")).then(|| url.into())
}

/// Puts `made` into the repository at `path` and the branch to it, if the branch still stands at `base`.
fn exchange(
    repository: &Repository,
    path: &Path,
    branch: &str,
    base: Option<Oid>,
    made: Oid,
    remote: &Remote,
) -> Result<(), Refused> {
    let because = |error: git2::Error| Refused::Because(describe(remote, &error, Code::PushFailed));
    let there = Repository::open(path).map_err(because)?;
    copy(repository, &there, made).map_err(because)?;
    let name = format!("refs/heads/{branch}");
    let set = match base {
        Some(base) => there.reference_matching(&name, made, true, base, "rendezvip status"),
        None => there.reference(&name, made, false, "rendezvip status"),
    };
    match set {
        Ok(_) => Ok(()),
        Err(error) if [ErrorCode::Modified, ErrorCode::Exists, ErrorCode::Locked].contains(&error.code()) => {
            Err(Refused::Lost)
        }
        // The branch was deleted in the meantime.
        Err(error) if error.code() == ErrorCode::NotFound => Err(Refused::Lost),
        Err(error) => Err(because(error)),
    }
}

/// Copies what `commit` needs and `to` lacks. What `to` has, it has whole: git keeps it so.
fn copy(from: &Repository, to: &Repository, commit: Oid) -> Result<(), git2::Error> {
    let (source, target) = (from.odb()?, to.odb()?);
    let mut order = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut todo = vec![commit];
    while let Some(id) = todo.pop() {
        if !seen.insert(id) || target.exists(id) {
            continue;
        }
        order.push(id);
        match source.read_header(id)?.1 {
            ObjectType::Commit => {
                let commit = from.find_commit(id)?;
                todo.push(commit.tree_id());
                todo.extend(commit.parent_ids());
            }
            ObjectType::Tree => {
                let tree = from.find_tree(id)?;
                // A submodule's commit lives elsewhere.
                todo.extend(tree.iter().filter(|e| e.kind() != Some(ObjectType::Commit)).map(|e| e.id()));
            }
            _ => {}
        }
    }
    // What is pointed at goes first, so that a half-done copy leaves nothing that dangles.
    for id in order.into_iter().rev() {
        let object = source.read(id)?;
        target.write(object.kind(), object.data())?;
    }
    Ok(())
}

/// Pushes without force.
fn push(repository: &Repository, remote: &Remote, branch: &str, made: Oid) -> Result<(), Refused> {
    let because = |error: git2::Error| Refused::Because(describe(remote, &error, Code::PushFailed));
    let local = format!("refs/rendezvip/push/{branch}");
    repository.reference(&local, made, true, "to be pushed").map_err(because)?;
    let refused = std::cell::RefCell::new(None);
    let pushed = {
        let mut callbacks = callbacks(remote).map_err(Refused::Because)?;
        callbacks.push_update_reference(|_, status| {
            *refused.borrow_mut() = status.map(str::to_owned);
            Ok(())
        });
        let mut tick = ticker();
        callbacks.push_transfer_progress(move |_, _, _| tick());
        let mut options = PushOptions::new();
        options.proxy_options(proxy(remote));
        options.remote_callbacks(callbacks);
        let mut connection = repository.remote_anonymous(&remote.url).map_err(because)?;
        connection.push(&[format!("{local}:refs/heads/{branch}")], Some(&mut options))
    };
    match (pushed, refused.into_inner()) {
        (Ok(()), None) => Ok(()),
        (Err(error), _) if error.code() == ErrorCode::NotFastForward => Err(Refused::Lost),
        (Err(error), _) => Err(because(error)),
        (Ok(()), Some(why)) => {
            // What git's own receive-pack says when the branch moved between its advertisement and the push.
            let race = ["non-fast-forward", "fetch first", "failed to update ref", "lock", "already exists", "stale"];
            if race.iter().any(|word| why.contains(word)) {
                return Err(Refused::Lost);
            }
            let message = format!("{} refused the push to `{branch}`: {why}", shown(&remote.url));
            Err(Refused::Because(Problem::new(Code::PushFailed, message)))
        }
    }
}

/// Writes the files below `status/` in `directory`, each whole or not at all, and takes away those that tell of
/// what is no more.
pub fn write(directory: &Path, snapshot: &Snapshot) -> Result<Answer, Problem> {
    let root = directory.join(STATUS_FOLDER);
    let failed = |path: &Path, error: &std::io::Error| {
        Problem::new(Code::PushFailed, format!("{} cannot be written: {error}", path.display()))
    };
    let mut previous = Files::new();
    for folder in ["", "pools", "nodes"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                previous.insert(path, text);
            }
        }
    }
    let files = files::render(snapshot, &previous);
    if files == previous {
        return Ok(Answer::Same);
    }
    for (path, text) in &files {
        if previous.get(path) == Some(text) {
            continue;
        }
        let path = root.join(path);
        let parent = path.parent().unwrap_or(&root);
        std::fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = parent.join(format!(".{name}.new"));
        std::fs::write(&temporary, text).map_err(|error| failed(&temporary, &error))?;
        std::fs::rename(&temporary, &path).map_err(|error| failed(&path, &error))?;
    }
    for path in previous.keys().filter(|path| path.ends_with(".yaml") && !files.contains_key(*path)) {
        let _ = std::fs::remove_file(root.join(path));
    }
    Ok(Answer::Wrote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_a_server() {
        for (url, path) in [
            ("/srv/vips.git", Some("/srv/vips.git")),
            ("file:///srv/vips.git", Some("/srv/vips.git")),
            ("./a:b", Some("./a:b")),
            ("git@git.example:vips.git", None),
            ("ssh://git@git.example/vips.git", None),
            ("https://git.example/vips.git", None),
        ] {
            assert_eq!(path_of(url), path.map(Into::into), "{url}");
        }
    }
}
