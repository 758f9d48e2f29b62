//! The child of the binary that speaks git: one job a process, so that it can be killed at any time.
//!
//! In: a [`Request`] on standard input. Out: [`Line`]s on standard output.
//! Not here: limits of time (the parent kills), what to make of the answer (`source`, `status::scribe`).
//!
//! libgit2's time-outs are per read and name resolution has none, so nothing inside the process could keep
//! a promise about time. It ends by itself when its parent does: the end of standard input says so.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use git2::{
    CertificateCheckStatus, Cred, CredentialType, Direction, ErrorClass, ErrorCode, FetchOptions, ObjectType, Oid,
    ProxyOptions, RemoteCallbacks, Repository, TreeWalkMode, TreeWalkResult,
};

use super::protocol::{Answer, Job, Line, Pull, Remote, Request, TreeFile};
use super::{commit, history, verify};
use crate::manifest::{self, listing};
use crate::revision::CommitHash;
use crate::source::problem::{Code, Problem};

/// A server that sends nothing for so long is given up by libgit2 itself, with its own words.
const SILENCE_MS: i32 = 9_000;

/// Progress is told at most so often.
const PROGRESS: Duration = Duration::from_millis(500);

/// What [`main`] is started by: the parent's hidden command.
pub const COMMAND: &str = "__git";

/// Reads one request, does it, answers.
pub fn main() -> ExitCode {
    let mut line = String::new();
    if std::io::stdin().lock().read_line(&mut line).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(request) = serde_json::from_str::<Request>(&line) else { return ExitCode::FAILURE };
    std::thread::spawn(end_with_parent);
    let answer = prepare().and_then(|()| run(&request)).unwrap_or_else(Answer::Failed);
    say(&Line::Done(answer));
    ExitCode::SUCCESS
}

/// Waits for the end of standard input, which the parent holds open until it wants no answer any more.
fn end_with_parent() {
    let mut rest = String::new();
    while std::io::stdin().lock().read_line(&mut rest).is_ok_and(|read| read > 0) {
        rest.clear();
    }
    // Not `exit`: its handlers would run beside libgit2 and OpenSSL at work.
    let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
}

fn say(line: &Line) {
    if let Ok(text) = serde_json::to_string(line) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}");
        let _ = out.flush();
    }
}

/// Tells the parent, now and then, that something goes on.
pub(super) fn ticker() -> impl FnMut() {
    let mut last = Instant::now();
    move || {
        if last.elapsed() >= PROGRESS {
            last = Instant::now();
            say(&Line::Progress);
        }
    }
}

#[allow(unsafe_code)]
fn prepare() -> Result<(), Problem> {
    // SAFETY: these set libgit2's process-wide options, before any other thread of this process uses it; `nice`
    // takes and returns integers.
    unsafe {
        // A repository on this host belongs to whoever serves it; the node's own file names it explicitly.
        git2::opts::set_verify_owner_validation(false).map_err(problem)?;
        git2::opts::set_server_connect_timeout_in_milliseconds(SILENCE_MS).map_err(problem)?;
        git2::opts::set_server_timeout_in_milliseconds(SILENCE_MS).map_err(problem)?;
        // Unpacking a large repository must not take the processor from the daemon.
        libc::nice(10);
    }
    Ok(())
}

fn run(request: &Request) -> Result<Answer, Problem> {
    match &request.job {
        Job::Pull(pull) => do_pull(&mirror(&request.mirror)?, &request.remote, pull),
        Job::Descends { ancestor, descendant } => {
            let repository = mirror(&request.mirror)?;
            Ok(Answer::Descends(descends_from(&repository, oid(*descendant)?, ancestor)))
        }
        Job::History { commit, path, nodes } => {
            let repository = mirror(&request.mirror)?;
            Ok(Answer::History(history::walk(&repository, *commit, path, nodes)))
        }
        Job::Commit(job) => commit::commit(&mirror(&request.mirror)?, &request.remote, job),
        Job::Write { directory, snapshot } => commit::write(directory, snapshot),
    }
}

/// Opens the mirror, or lays a new one.
fn mirror(path: &Path) -> Result<Repository, Problem> {
    Repository::open_bare(path).or_else(|_| Repository::init_bare(path)).map_err(|error| {
        let message = format!("the mirror {} cannot be opened: {}", path.display(), error.message());
        Problem::new(Code::StateUnusable, message)
    })
}

pub(super) fn oid(commit: CommitHash) -> Result<Oid, Problem> {
    Oid::from_bytes(&commit.0).map_err(problem)
}

pub(super) fn hash(oid: Oid) -> CommitHash {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&oid.as_bytes()[..20]);
    CommitHash(bytes)
}

/// Does `commit` descend from, or is it, the commit whose hash begins like this? A full history is at hand, so
/// one that is not there at all is no ancestor.
pub(super) fn descends_from(repository: &Repository, commit: Oid, ancestor: &str) -> bool {
    let Ok(ancestor) = repository.find_commit_by_prefix(ancestor) else { return false };
    ancestor.id() == commit || repository.graph_descendant_of(commit, ancestor.id()).unwrap_or(false)
}

fn do_pull(repository: &Repository, remote: &Remote, pull: &Pull) -> Result<Answer, Problem> {
    // What is pinned and here already never changes.
    if let Some(pin) = pull.pin
        && pull.known == Some(pin)
        && repository.find_commit(oid(pin)?).is_ok()
    {
        return Ok(Answer::Unchanged);
    }
    let name = pull.reference.strip_prefix("refs/").unwrap_or(&pull.reference);
    let reference = format!("refs/rendezvip/source/{}", name.strip_prefix("heads/").unwrap_or(name));
    let fetched = fetch(repository, remote, &pull.reference, &reference, pull.known)?;
    let (kind, name) = name.split_once('/').unwrap_or(("heads", name));
    let kind = if kind == "tags" { "tag" } else { "branch" };
    let Some(tip) = fetched else {
        let message = format!("{} has no {kind} `{name}`", shown(&remote.url));
        return Err(Problem::new(Code::BranchMissing, message));
    };
    let head = match pull.pin {
        None => tip,
        Some(pin) if descends_from(repository, tip, &pin.to_string()) => oid(pin)?,
        Some(pin) => {
            let message = format!("{} has no commit {pin} in {kind} `{name}`", shown(&remote.url));
            return Err(Problem::new(Code::BranchMissing, message));
        }
    };
    if pull.known == Some(hash(head)) {
        return Ok(Answer::Unchanged);
    }
    let from_activated = pull.activated.is_none_or(|commit| descends_from(repository, head, &commit.to_string()));
    let from_accepted = pull.accepted.as_ref().is_some_and(|accepted| descends_from(repository, head, accepted));
    let verified = match &pull.signers {
        Some(signers) => verify::check(repository, head, pull.activated, signers),
        None => Ok(()),
    };
    let files = verified.and_then(|()| read(repository, head, &pull.path));
    Ok(Answer::Pulled { commit: hash(head), lineage: (from_activated, from_accepted), files })
}

/// Brings `wanted`, a branch or a tag of `remote`, to `reference` of the mirror, with its whole history. Returns the
/// commit where it stands; nothing where the remote has no such thing. Where it stands at `known`, nothing more is asked
/// for.
pub(super) fn fetch(
    repository: &Repository,
    remote: &Remote,
    wanted: &str,
    reference: &str,
    known: Option<CommitHash>,
) -> Result<Option<Oid>, Problem> {
    forget_lock(repository, reference);
    // libgit2 takes a path that is not there for a URL, and would speak of its protocol.
    if let Some(Err(error)) = super::commit::path_of(&remote.url).map(std::fs::metadata) {
        return Err(Problem::new(Code::FetchFailed, format!("{}: {error}", shown(&remote.url))));
    }
    let described = |error: git2::Error| describe(remote, &error, Code::FetchFailed);
    let mut connection = repository.remote_anonymous(&remote.url).map_err(described)?;
    let head = {
        let callbacks = callbacks(remote)?;
        let connection = connection
            .connect_auth(Direction::Fetch, Some(callbacks), Some(proxy(remote)))
            .map_err(|error| describe(remote, &error, Code::FetchFailed))?;
        let heads = connection.list().map_err(|error| describe(remote, &error, Code::FetchFailed))?;
        let at = |name: &str| heads.iter().find(|head| head.name() == name).map(git2::RemoteHead::oid);
        // An annotated tag is an object of its own; what it stands for is told beside it (gitprotocol-pack(5)).
        at(&format!("{wanted}^{{}}")).or_else(|| at(wanted))
    };
    let Some(head) = head else {
        if let Ok(mut stale) = repository.find_reference(reference) {
            let _ = stale.delete();
        }
        return Ok(None);
    };
    if known == Some(hash(head)) && repository.find_commit(head).is_ok() {
        return Ok(Some(head));
    }
    let mut options = FetchOptions::new();
    options.remote_callbacks(callbacks(remote)?);
    options.proxy_options(proxy(remote));
    options.download_tags(git2::AutotagOption::None);
    options.update_fetchhead(false);
    let refspec = format!("+{wanted}:{reference}");
    connection.fetch(&[refspec], Some(&mut options), None).map_err(described)?;
    let commit = repository.find_reference(reference).and_then(|it| it.peel_to_commit()).map_err(described)?;
    Ok(Some(commit.id()))
}

/// A child that was killed while it wrote a reference leaves its lock; a lane runs one child at a time, and no
/// two lanes write one reference, so a lock that is there is stale.
fn forget_lock(repository: &Repository, reference: &str) {
    let _ = std::fs::remove_file(repository.path().join(format!("{reference}.lock")));
}

/// The one that the node names, else the environment's `https_proxy` and `no_proxy`.
pub(super) fn proxy(remote: &Remote) -> ProxyOptions<'_> {
    let mut options = ProxyOptions::new();
    match &remote.proxy {
        Some(url) => options.url(url),
        None => options.auto(),
    };
    options
}

/// Credentials from the files that the node names, each tried once; strict checking of the other side.
pub(super) fn callbacks<'a>(remote: &Remote) -> Result<RemoteCallbacks<'a>, Problem> {
    if let Some(file) = &remote.ca_file {
        #[allow(unsafe_code)]
        // SAFETY: sets libgit2's list of certificate authorities while no connection is open in this process.
        unsafe { git2::opts::set_ssl_cert_file(file) }
            .map_err(|error| describe(remote, &error, Code::ServerNotTrusted))?;
    }
    let mut callbacks = RemoteCallbacks::new();
    let given = remote.clone();
    let mut tried = (false, false);
    callbacks.credentials(move |_, user, allowed| {
        let user = user.unwrap_or("git");
        if allowed.contains(CredentialType::USERNAME) {
            return Cred::username(user);
        }
        if allowed.contains(CredentialType::SSH_KEY) && !std::mem::replace(&mut tried.0, true) {
            let Some(key) = &given.ssh_key_file else { return Err(refusal("no `sshKeyFile` is given")) };
            // libgit2 would say nothing of a file that is not there.
            std::fs::File::open(key).map_err(|error| refusal(&format!("{}: {error}", key.display())))?;
            return Cred::ssh_key(user, None, key, None);
        }
        if allowed.contains(CredentialType::USER_PASS_PLAINTEXT) && !std::mem::replace(&mut tried.1, true) {
            let Some(file) = &given.credentials_file else {
                return Err(match &given.ssh_key_file {
                    Some(key) if tried.0 => refusal(&format!("the server refused the key {}", key.display())),
                    _ => refusal("no credentials are given"),
                });
            };
            let text =
                std::fs::read_to_string(file).map_err(|error| refusal(&format!("{}: {error}", file.display())))?;
            let line = text.lines().next().unwrap_or_default().trim();
            let (user, password) = line.split_once(':').unwrap_or((user, line));
            return Cred::userpass_plaintext(user, password);
        }
        match &given.ssh_key_file {
            Some(key) if tried.0 => Err(refusal(&format!("the server refused the key {}", key.display()))),
            _ => Err(refusal("the server refused the credentials")),
        }
    });
    // libgit2 and libssh2 check by themselves, against the system's authorities and `~/.ssh/known_hosts` (the
    // parent has set HOME so that this is the node's file); passing on keeps their verdict.
    callbacks.certificate_check(|_, _| Ok(CertificateCheckStatus::CertificatePassthrough));
    let mut tick = ticker();
    callbacks.transfer_progress(move |_| {
        tick();
        true
    });
    let mut tick = ticker();
    callbacks.sideband_progress(move |_| {
        tick();
        true
    });
    Ok(callbacks)
}

fn refusal(message: &str) -> git2::Error {
    git2::Error::new(ErrorCode::Auth, ErrorClass::Callback, message)
}

pub(super) fn problem(error: git2::Error) -> Problem {
    Problem::new(Code::StateUnusable, format!("the mirror: {}", error.message()))
}

/// The URL without what may be a secret in it.
pub(super) fn shown(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => match rest.split_once('/').unwrap_or((rest, "")) {
            (host, path) if host.contains('@') && scheme != "ssh" => {
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                format!("{scheme}://{host}/{path}")
            }
            _ => url.to_owned(),
        },
        None => url.to_owned(),
    }
}

/// What went wrong between us and a server, with the code that says whose turn it is.
pub(super) fn describe(remote: &Remote, error: &git2::Error, otherwise: Code) -> Problem {
    let text = error.message().trim_end().trim_end_matches('.');
    let lower = text.to_ascii_lowercase();
    let code = match (error.code(), error.class()) {
        // What a proxy says is not the server's word.
        _ if lower.starts_with("proxy") => otherwise,
        (ErrorCode::Auth, _) => Code::NotAuthorized,
        (ErrorCode::Certificate, _) => Code::ServerNotTrusted,
        (ErrorCode::Timeout, _) => Code::TimedOut,
        (_, ErrorClass::Ssh) if lower.contains("hostkey") => Code::ServerNotTrusted,
        (_, ErrorClass::Ssh) if lower.contains("authenticat") => Code::NotAuthorized,
        (_, ErrorClass::Http) if lower.contains("401") || lower.contains("403") => Code::NotAuthorized,
        (_, ErrorClass::Ssl) if lower.contains("certificate") => Code::ServerNotTrusted,
        _ if lower.contains("timed out") || lower.contains("timeout") => Code::TimedOut,
        // What OpenSSL makes of a read that timed out.
        _ if lower.contains("temporarily unavailable") => {
            let seconds = SILENCE_MS / 1000;
            return Problem::new(Code::TimedOut, format!("{} said nothing for {seconds} s", shown(&remote.url)));
        }
        _ => otherwise,
    };
    let way = match &remote.proxy {
        Some(proxy) if remote.url.starts_with("https://") => format!(" by way of the proxy {proxy}"),
        _ => String::new(),
    };
    Problem::new(code, format!("{}{way}: {text}", shown(&remote.url)))
}

/// The tree of `commit` at `path`.
pub(super) fn tree_at<'r>(
    repository: &'r Repository,
    commit: Oid,
    path: &str,
) -> Result<Option<git2::Tree<'r>>, git2::Error> {
    let root = repository.find_commit(commit)?.tree()?;
    if path.is_empty() {
        return Ok(Some(root));
    }
    match root.get_path(Path::new(path)) {
        Ok(entry) if entry.kind() == Some(ObjectType::Tree) => repository.find_tree(entry.id()).map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The manifests of a tree: path, object, and whether it is a plain file.
pub(super) fn manifests(tree: &git2::Tree<'_>) -> Result<Vec<(String, Oid, bool)>, git2::Error> {
    let mut entries = std::collections::BTreeMap::new();
    tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
        let Ok(name) = entry.name() else { return TreeWalkResult::Ok };
        if entry.kind() == Some(ObjectType::Tree) {
            return if listing::is_input_folder(name) { TreeWalkResult::Ok } else { TreeWalkResult::Skip };
        }
        if name == listing::IGNORE_FILE || listing::is_input(name) {
            // 0100644 and 0100755 are files; 0120000 is a symbolic link, 0160000 a submodule.
            let plain = entry.filemode() & 0o170_000 == 0o100_000;
            entries.insert(format!("{folder}{name}"), (entry.id(), plain));
        }
        TreeWalkResult::Ok
    })?;
    let chosen = listing::select(entries.keys().map(String::as_str));
    Ok(chosen.into_iter().map(|path| (path.to_owned(), entries[path].0, entries[path].1)).collect())
}

fn read(repository: &Repository, commit: Oid, path: &str) -> Result<Vec<TreeFile>, Problem> {
    let Some(tree) = tree_at(repository, commit, path).map_err(problem)? else {
        return Err(Problem::new(Code::BranchMissing, format!("the commit has no folder `{path}`")));
    };
    let unusable = |message: String| Problem::new(Code::TreeUnusable, message);
    let chosen = manifests(&tree).map_err(problem)?;
    if chosen.len() > manifest::MOST_FILES {
        return Err(unusable(format!("{} manifests; at most {} are read", chosen.len(), manifest::MOST_FILES)));
    }
    let odb = repository.odb().map_err(problem)?;
    let (mut files, mut total) = (Vec::with_capacity(chosen.len()), 0);
    for (path, id, plain) in chosen {
        if !plain {
            return Err(unusable(format!("{path} is a symbolic link or submodule; manifests are plain files")));
        }
        // The size first: a blob is not unpacked to learn that it is too large.
        total += odb.read_header(id).map_err(problem)?.0;
        if total > manifest::MOST_BYTES {
            return Err(unusable(format!("the manifests are larger than {} MiB", manifest::MOST_BYTES >> 20)));
        }
        let object = odb.read(id).map_err(problem)?;
        let (text, bytes) = match std::str::from_utf8(object.data()) {
            Ok(text) => (Some(text.to_owned()), None),
            Err(_) => (None, Some(object.data().to_vec())),
        };
        files.push(TreeFile { path, text, bytes });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_never_shown() {
        assert_eq!(shown("https://user:secret@git.example/vips.git"), "https://git.example/vips.git");
        assert_eq!(shown("https://token@git.example"), "https://git.example/");
        for plain in
            ["ssh://git@git.example/vips.git", "/srv/vips.git", "file:///srv/vips.git", "https://git.example/x"]
        {
            assert_eq!(shown(plain), plain);
        }
    }
}
