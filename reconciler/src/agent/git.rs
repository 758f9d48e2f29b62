//! The port to git: jobs go to a child of the binary, answers come back by a function, nobody waits.
//!
//! In: jobs. Out: [`Outcome`]s, handed to the function given to [`GitPort::new`], from a thread of the port.
//! Not here: libgit2 ([`child`]), when to look or to write (`source`, `status::scribe`).
//!
//! ```text
//!  run loop ──submit──▶ lane `source` ──▶ child per job ──▶ server
//!      ▲                lane `status` ──▶ child per job ──▶ server
//!      └────deliver──────┴── one thread each, a few jobs wait, a child is killed after its limit
//! ```
//!
//! Two lanes, so that a server that hangs for one does not hold up the other. A lane that has too many jobs
//! waiting refuses more: nothing grows while a server hangs.

#![expect(clippy::disallowed_methods, reason = "the shell reads clocks")]

pub mod child;
mod commit;
mod history;
mod openpgp;
pub mod protocol;
mod sshsig;
mod verify;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::manifest::agent_file::{self, VerifyMode};
use crate::manifest::desired::Desired;
use crate::manifest::{Loaded, SourceFile, load};
use crate::name::NodeName;
use crate::revision::{CommitHash, Revision};
use crate::source::problem::{Code, Problem};
use crate::source::{Attempt, Lineage, Seen};
use crate::status::Snapshot;
use crate::status::scribe::Written;
use protocol::{Answer, Author, Commit, History, Job, Line, Pull, Remote, Request, Rule, Signers, TreeFile};

/// Jobs that wait in a lane, beside the one at work.
const WAITING: usize = 4;

/// Diagnostics of a bad revision that are told; `validate` shows them all.
const TOLD: usize = 5;

/// A line from a child may be as large as all manifests, escaped.
const LONGEST_LINE: usize = 512 << 20;

/// Where the port finds things, and how long it waits.
#[derive(Debug, Clone)]
pub struct GitConfig {
    /// The program that has the hidden command; by default the running binary, whatever lies at its path now.
    pub program: PathBuf,
    /// The state directory: the mirror and the child's home lie in it.
    pub state_dir: PathBuf,
    /// Where desired state comes from; nothing with a directory source.
    pub source: Option<GitSource>,
    /// Where the status goes.
    pub status: Option<StatusTarget>,
    /// A job is killed after so long.
    pub limit: Duration,
    /// A job of which nothing was heard for so long is killed earlier.
    pub silence: Duration,
}

/// A branch to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// The repository.
    pub remote: Remote,
    /// The branch, or the tag: the label of revisions.
    pub branch: String,
    /// Is it a tag?
    pub is_tag: bool,
    /// The commit of the branch to stay at.
    pub pin: Option<CommitHash>,
    /// Whose signatures count, where any has to be there.
    pub signers: Option<Signers>,
    /// Folder of the manifests; empty is all of it.
    pub path: String,
}

impl GitSource {
    fn reference(&self) -> String {
        format!("refs/{}/{}", if self.is_tag { "tags" } else { "heads" }, self.branch)
    }
}

/// Where the status goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum StatusTarget {
    /// A branch.
    Git {
        /// The repository.
        remote: Remote,
        /// The branch.
        branch: String,
        /// Whose name commits bear.
        author: Author,
        /// The key that signs them.
        signing_key_file: Option<PathBuf>,
    },
    /// A directory; files go below `status/` in it.
    Directory(PathBuf),
}

impl GitConfig {
    /// What a node's own file says; `node` signs status commits.
    pub fn new(file: &agent_file::AgentFile, node: &NodeName) -> Result<Self, Problem> {
        let source = match &file.source {
            agent_file::Source::Directory(_) => None,
            agent_file::Source::Git(git) => {
                let signers = |rule| Signers {
                    rule,
                    allowed_signers_file: git.verify.allowed_signers_file.clone(),
                    keyring_file: git.verify.keyring_file.clone(),
                };
                Some(GitSource {
                    remote: Remote {
                        url: git.url.clone(),
                        ssh_key_file: Some(git.ssh_key_file.clone()),
                        known_hosts_file: Some(git.known_hosts_file.clone()),
                        credentials_file: git.credentials_file.clone(),
                        ca_file: git.ca_file.clone(),
                        proxy: git.proxy.clone(),
                    },
                    branch: git.tag.clone().unwrap_or_else(|| git.branch.clone()),
                    is_tag: git.tag.is_some(),
                    pin: git.commit.as_ref().and_then(|commit| commit.parse().ok()),
                    signers: match git.verify.mode {
                        VerifyMode::None => None,
                        VerifyMode::Head => Some(signers(Rule::Head)),
                        VerifyMode::Strict => Some(signers(Rule::Strict)),
                    },
                    path: git.path.clone(),
                })
            }
        };
        let status = file.status.as_ref().map(|status| match status {
            agent_file::StatusTarget::Directory(path) => StatusTarget::Directory(path.clone()),
            agent_file::StatusTarget::Git {
                url,
                branch,
                ssh_key_file,
                known_hosts_file,
                credentials_file,
                ca_file,
                proxy,
                author,
                signing_key_file,
            } => StatusTarget::Git {
                remote: Remote {
                    url: url.clone(),
                    ssh_key_file: Some(ssh_key_file.clone()),
                    known_hosts_file: Some(known_hosts_file.clone()),
                    credentials_file: credentials_file.clone(),
                    ca_file: ca_file.clone(),
                    proxy: proxy.clone(),
                },
                branch: branch.clone(),
                author: author.as_ref().map_or_else(
                    || Author { name: "rendezvip".to_owned(), email: format!("rendezvip@{node}") },
                    |author| Author { name: author.name.clone(), email: author.email.clone() },
                ),
                signing_key_file: signing_key_file.clone(),
            },
        });
        Ok(Self {
            program: "/proc/self/exe".into(),
            state_dir: file.state_dir.clone(),
            source,
            status,
            limit: Duration::from_secs(29),
            silence: Duration::from_secs(10),
        })
    }
}

/// How a job ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// To [`GitPort::pull`], under the attempt's number: for `Source::observe`.
    Pulled(u64, Seen),
    /// To [`GitPort::tell`]: for `Scribe::done`; the problem is for the log and the node's note.
    Told(Written, Option<Problem>),
    /// To [`GitPort::descends`], under the number given there.
    Descends(u64, Result<bool, Problem>),
    /// To [`GitPort::history`].
    History(BTreeSet<NodeName>, Result<History, Problem>),
}

/// What a lane does next.
enum Task {
    Pull(Attempt),
    Tell(Box<Snapshot>),
    Descends(u64, String, CommitHash),
    History(CommitHash, BTreeSet<NodeName>),
}

/// The port. Dropping it kills what runs and ends its threads at once.
#[derive(Debug)]
pub struct GitPort {
    source: Lane,
    status: Lane,
}

impl GitPort {
    /// Starts the lanes. `deliver` is called from their threads and should only pass the outcome on.
    pub fn new(config: GitConfig, deliver: impl Fn(Outcome) + Send + Sync + 'static) -> Result<Self, Problem> {
        lay_home(&config)?;
        let (config, deliver): (_, Arc<dyn Fn(Outcome) + Send + Sync>) = (Arc::new(config), Arc::new(deliver));
        let lane = |name: &str| Lane::start(name, Arc::clone(&config), Arc::clone(&deliver));
        Ok(Self { source: lane("git-source")?, status: lane("git-status")? })
    }

    /// Looks at the source. False: too much is waiting; the attempt runs out by itself.
    pub fn pull(&self, attempt: Attempt) -> bool {
        self.source.submit(Task::Pull(attempt))
    }

    /// Writes the status. False: a write is under way.
    pub fn tell(&self, snapshot: Snapshot) -> bool {
        self.status.submit(Task::Tell(Box::new(snapshot)))
    }

    /// Asks whether `descendant` descends from the commit that `ancestor` begins; `id` comes back.
    pub fn descends(&self, id: u64, ancestor: String, descendant: CommitHash) -> bool {
        self.source.submit(Task::Descends(id, ancestor, descendant))
    }

    /// Asks whether the history of `commit` ever declared other nodes than these.
    pub fn history(&self, commit: CommitHash, nodes: BTreeSet<NodeName>) -> bool {
        self.source.submit(Task::History(commit, nodes))
    }
}

/// libssh2 reads `~/.ssh/known_hosts`: the child gets a home in which that is the node's own file, so that
/// checking is strict, and nobody's `~/.gitconfig` has a say.
fn lay_home(config: &GitConfig) -> Result<(), Problem> {
    let remotes = [
        config.source.as_ref().map(|source| ("source", &source.remote)),
        match &config.status {
            Some(StatusTarget::Git { remote, .. }) => Some(("status", remote)),
            _ => None,
        },
    ];
    for (name, remote) in remotes.into_iter().flatten() {
        let ssh = home(config, name).join(".ssh");
        let failed = |error: std::io::Error| {
            Problem::new(Code::StateUnusable, format!("{} cannot be made: {error}", ssh.display()))
        };
        std::fs::create_dir_all(&ssh).map_err(failed)?;
        let link = ssh.join("known_hosts");
        if let Err(error) = std::fs::remove_file(&link)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(failed(error));
        }
        if let Some(hosts) = &remote.known_hosts_file {
            std::os::unix::fs::symlink(hosts, &link).map_err(failed)?;
        }
    }
    Ok(())
}

fn home(config: &GitConfig, name: &str) -> PathBuf {
    config.state_dir.join("home").join(name)
}

/// The child at work, shared so that whoever ends the port can kill it.
#[derive(Debug, Default)]
struct AtWork {
    stop: AtomicBool,
    child: Mutex<Option<Child>>,
}

impl AtWork {
    fn kill(&self) {
        if let Some(child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let _ = child.kill();
        }
    }
}

/// One thread and the jobs that wait for it.
#[derive(Debug)]
struct Lane {
    jobs: Option<SyncSender<Task>>,
    at_work: Arc<AtWork>,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    fn start(name: &str, config: Arc<GitConfig>, deliver: Arc<dyn Fn(Outcome) + Send + Sync>) -> Result<Self, Problem> {
        let (jobs, waiting) = sync_channel(WAITING);
        let at_work = Arc::new(AtWork::default());
        let worker = Worker { config, at_work: Arc::clone(&at_work) };
        let thread =
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || worker.run(&waiting, &*deliver))
                .map_err(|error| Problem::new(Code::HelperFailed, format!("no thread could be started: {error}")))?;
        Ok(Self { jobs: Some(jobs), at_work, thread: Some(thread) })
    }

    fn submit(&self, task: Task) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(task).is_ok())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.at_work.stop.store(true, Ordering::SeqCst);
        self.jobs = None;
        self.at_work.kill();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    config: Arc<GitConfig>,
    at_work: Arc<AtWork>,
}

impl Worker {
    fn run(&self, waiting: &Receiver<Task>, deliver: &dyn Fn(Outcome)) {
        while let Ok(task) = waiting.recv() {
            if self.at_work.stop.load(Ordering::SeqCst) {
                return;
            }
            let outcome = self.carry_out(task);
            if self.at_work.stop.load(Ordering::SeqCst) {
                return;
            }
            deliver(outcome);
        }
    }

    fn carry_out(&self, task: Task) -> Outcome {
        let source = self.config.source.as_ref();
        let no_source = || Problem::new(Code::Unsupported, "the source is no git repository");
        let path = source.map(|source| source.path.clone()).unwrap_or_default();
        match task {
            Task::Pull(attempt) => {
                let id = attempt.id;
                let Some(source) = source else { return Outcome::Pulled(id, Seen::Failed(no_source())) };
                let job = Job::Pull(Pull {
                    reference: source.reference(),
                    pin: source.pin,
                    signers: source.signers.clone(),
                    path,
                    known: attempt.known,
                    activated: attempt.activated,
                    accepted: attempt.accepted,
                });
                Outcome::Pulled(id, seen(self.ask("source", &source.remote, job), &source.branch))
            }
            Task::Descends(id, ancestor, descendant) => {
                let Some(source) = source else { return Outcome::Descends(id, Err(no_source())) };
                let answer = self.ask("source", &source.remote, Job::Descends { ancestor, descendant });
                Outcome::Descends(
                    id,
                    match answer {
                        Answer::Descends(descends) => Ok(descends),
                        other => Err(unexpected(other)),
                    },
                )
            }
            Task::History(commit, nodes) => {
                let Some(source) = source else { return Outcome::History(nodes, Err(no_source())) };
                match self.ask("source", &source.remote, Job::History { commit, path, nodes: nodes.clone() }) {
                    Answer::History(history) => Outcome::History(nodes, Ok(history)),
                    other => Outcome::History(nodes, Err(unexpected(other))),
                }
            }
            Task::Tell(snapshot) => self.tell(snapshot, path),
        }
    }

    fn tell(&self, snapshot: Box<Snapshot>, path: String) -> Outcome {
        let answer = match &self.config.status {
            None => return Outcome::Told(Written::Unchanged, None),
            Some(StatusTarget::Directory(directory)) => {
                let job = Job::Write { directory: directory.clone(), snapshot };
                let nowhere = Remote {
                    url: String::new(),
                    ssh_key_file: None,
                    known_hosts_file: None,
                    credentials_file: None,
                    ca_file: None,
                    proxy: None,
                };
                self.ask("status", &nowhere, job)
            }
            Some(StatusTarget::Git { remote, branch, author, signing_key_file }) => {
                let job = Commit {
                    branch: branch.clone(),
                    path,
                    snapshot: *snapshot,
                    author: author.clone(),
                    signing_key_file: signing_key_file.clone(),
                };
                self.ask("status", remote, Job::Commit(Box::new(job)))
            }
        };
        match answer {
            Answer::Committed(_) | Answer::Wrote => Outcome::Told(Written::Committed, None),
            Answer::Same => Outcome::Told(Written::Unchanged, None),
            Answer::Paced(wait) => Outcome::Told(Written::Paced(wait), None),
            Answer::Lost => {
                let problem = Problem::new(Code::PushFailed, "others pushed to the status branch faster");
                Outcome::Told(Written::Failed, Some(problem))
            }
            other => Outcome::Told(Written::Failed, Some(unexpected(other))),
        }
    }

    /// Has a child do one job; whatever happens, there is an answer by the limit.
    fn ask(&self, home_of: &str, remote: &Remote, job: Job) -> Answer {
        let end = Instant::now() + self.config.limit;
        let request = Request { mirror: self.config.state_dir.join("mirror.git"), remote: remote.clone(), job };
        let result = self.start(home_of).and_then(|(input, output)| {
            let mut line = serde_json::to_vec(&request).map_err(|error| helper(&error))?;
            line.push(b'\n');
            self.converse(remote, &input, output, &line, end)
        });
        self.at_work.kill();
        if let Some(mut child) = self.at_work.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.wait();
        }
        result.unwrap_or_else(Answer::Failed)
    }

    fn start(&self, home_of: &str) -> Result<(OwnedFd, OwnedFd), Problem> {
        let mut command = Command::new(&self.config.program);
        command.arg(child::COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env_clear().env("HOME", home(&self.config, home_of)).current_dir("/");
        for name in ["https_proxy", "http_proxy", "no_proxy", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        let mut held = self.at_work.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock: whoever stops the port sets it before it kills.
        if self.at_work.stop.load(Ordering::SeqCst) {
            return Err(Problem::new(Code::HelperFailed, "the daemon ends"));
        }
        let mut child = command.spawn().map_err(|error| helper(&error))?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        *held = Some(child);
        let (input, output) = pipes.ok_or_else(|| helper(&"no pipes"))?;
        for pipe in [input.as_fd(), output.as_fd()] {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| helper(&error))?;
        }
        Ok((input.into(), output.into()))
    }

    /// Writes the request and reads until the answer. `input` stays open meanwhile: its end ends the child.
    fn converse(
        &self,
        remote: &Remote,
        input: &OwnedFd,
        output: OwnedFd,
        request: &[u8],
        end: Instant,
    ) -> Result<Answer, Problem> {
        let late = |heard: Instant, now: Instant| {
            let seconds = if now >= end { self.config.limit } else { now - heard }.as_secs();
            let what = if now >= end { "was not done" } else { "did not answer" };
            Problem::new(Code::TimedOut, format!("{} {what} within {seconds} s", child::shown(&remote.url)))
        };
        let mut written = 0;
        let mut reader = std::fs::File::from(output);
        let (mut line, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
        let mut heard = Instant::now();
        loop {
            let now = Instant::now();
            let until = end.min(heard + self.config.silence);
            if now >= until {
                return Err(late(heard, now));
            }
            let mut waits = vec![PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            if written < request.len() {
                waits.push(PollFd::new(input.as_fd(), PollFlags::POLLOUT));
            }
            let wait = PollTimeout::try_from(until - now + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut waits, wait) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(helper(&error)),
            }
            if written < request.len() {
                match nix::unistd::write(input, &request[written..]) {
                    Ok(count) => written += count,
                    Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(error) => return Err(helper(&error)),
                }
            }
            let count = match reader.read(&mut chunk) {
                Ok(0) => return Err(helper(&"it ended without an answer")),
                Ok(count) => count,
                Err(error)
                    if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                Err(error) => return Err(helper(&error)),
            };
            heard = Instant::now();
            for byte in &chunk[..count] {
                if *byte != b'\n' {
                    line.push(*byte);
                    continue;
                }
                match serde_json::from_slice(&line).map_err(|error| helper(&error))? {
                    Line::Progress => line.clear(),
                    Line::Done(answer) => return Ok(answer),
                }
            }
            if line.len() > LONGEST_LINE {
                return Err(helper(&"its answer is too long"));
            }
        }
    }
}

fn helper(error: &dyn std::fmt::Display) -> Problem {
    Problem::new(Code::HelperFailed, format!("the git helper: {error}"))
}

fn unexpected(answer: Answer) -> Problem {
    match answer {
        Answer::Failed(problem) => problem,
        _ => helper(&"it answered another question"),
    }
}

fn seen(answer: Answer, branch: &str) -> Seen {
    match answer {
        Answer::Unchanged => Seen::Unchanged,
        Answer::Pulled { commit, lineage, files } => Seen::Revision {
            revision: Revision::git(branch, commit),
            lineage: Lineage::from(lineage),
            parsed: files.and_then(|files| judge(load(&files.into_iter().map(SourceFile::from).collect::<Vec<_>>()))),
        },
        other => Seen::Failed(unexpected(other)),
    }
}

impl From<TreeFile> for SourceFile {
    fn from(file: TreeFile) -> Self {
        let text = file.text.map(String::into_bytes).or(file.bytes).unwrap_or_default();
        Self { path: file.path, text }
    }
}

/// What files ask for, or the first of their problems as people read them: `file:line:col: error[RVnnnn]: …`.
pub fn judge(loaded: Loaded) -> Result<Arc<Desired>, Problem> {
    let errors: Vec<_> = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).collect();
    match loaded.desired {
        Some(desired) if errors.is_empty() => Ok(Arc::new(desired)),
        _ => {
            let mut lines: Vec<String> = errors.iter().take(TOLD).map(ToString::to_string).collect();
            if errors.len() > TOLD {
                lines.push(format!("and {} more: `rendezvip validate` shows them all", errors.len() - TOLD));
            }
            Err(Problem::new(Code::InvalidManifests, lines.join("; ")))
        }
    }
}
