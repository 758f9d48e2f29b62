//! Who tells of the cluster: a node that runs, or the status branch of a clone.
//!
//! In: `--config FILE` or `--repo DIR`. Out: a snapshot, why a VIP is where it is, whether a revision runs. Not here: the
//! way to a node (`ask`), what is printed (each command).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use git2::{Commit, ObjectType, Oid, Repository, Tree, TreeWalkMode, TreeWalkResult};

use super::ask::{Ask, Node};
use super::failure::Failure;
use super::revision;
use super::status::age;
use crate::agent::clock;
use crate::agent::desk::{Moved, Why};
use crate::agent::directory::Listing;
use crate::agent::run::CannotRun;
use crate::engine::report::Rank;
use crate::manifest;
use crate::manifest::desired::Desired;
use crate::manifest::diagnostic::printable;
use crate::name::NodeName;
use crate::placement::offer::Offer;
use crate::placement::{Ranking, explain};
use crate::status::files::{self, Files};
use crate::status::message;
use crate::status::snapshot::{MemberState, Snapshot};
use crate::status::wall::Wall;
use crate::vip::Vip;

/// So far back in the branch's history is looked for moves of a VIP.
const HISTORY: usize = 64;
/// So many of them are told.
const MOVES: usize = 8;

/// Who is to tell.
#[derive(Debug, Args)]
pub struct Teller {
    #[command(flatten)]
    ask: Ask,
    /// Read the status branch of this clone instead of asking a node; fetch it first
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    repo: Option<PathBuf>,
    /// The status branch of that clone
    #[arg(long, value_name = "BRANCH", default_value = STATUS_BRANCH, requires = "repo")]
    status_branch: String,
    /// Fetch that branch first, by `git fetch origin`; `wait` always does, where there is an origin
    #[arg(long, requires = "repo")]
    fetch: bool,
}

/// Where a cluster writes what it does, unless its nodes' own files say otherwise.
pub const STATUS_BRANCH: &str = "rendezvip/status";

/// Somebody who can tell.
pub enum Told {
    /// A node.
    Node(Node),
    /// A clone.
    Clone(Clone),
}

impl Teller {
    /// Finds who is to tell.
    pub fn find(&self) -> Result<Told, CannotRun> {
        match &self.repo {
            None => self.ask.node().map(Told::Node),
            Some(dir) => Clone::open(dir, &self.status_branch)
                .and_then(|clone| if self.fetch { clone.fetch().map(|()| clone) } else { Ok(clone) })
                .map(Told::Clone)
                .map_err(|failure| CannotRun::Told(failure.to_string())),
        }
    }
}

impl Told {
    /// What is known of the cluster, and its JSON.
    pub fn status(&self) -> Result<(Snapshot, String), Failure> {
        match self {
            Self::Node(node) => node.status(),
            Self::Clone(clone) => {
                let snapshot = clone.snapshot()?;
                let json = snapshot.to_json();
                Ok((snapshot, json))
            }
        }
    }

    /// Ages are counted up to here: a node's clock for what it says, ours for a branch that lies still.
    pub fn now(&self, snapshot: &Snapshot) -> Wall {
        match self {
            Self::Node(_) => snapshot.at,
            Self::Clone(_) => Wall::from_millis(clock::realtime_ns(clock::now()) / 1_000_000),
        }
    }

    /// How old a branch's report is, for people: one that lies still tells nothing of a cluster that died since.
    pub fn age(&self, snapshot: &Snapshot) -> Option<String> {
        match self {
            Self::Node(_) => None,
            Self::Clone(_) => Some(format!(
                "the branch's last report is {} old; a cluster at rest writes none, and neither does a dead one\n",
                age(self.now(snapshot), snapshot.at)
            )),
        }
    }

    /// Why a VIP is where it is, and its JSON.
    pub fn why(&self, vip: Vip) -> Result<(Why, String), Failure> {
        match self {
            Self::Node(node) => node.why(vip),
            Self::Clone(clone) => {
                let why = clone.why(vip)?;
                let json = serde_json::to_string(&why).unwrap_or_default();
                Ok((why, json))
            }
        }
    }

    /// Does the cluster run this revision, or one that descends from it? Nothing while nobody knows yet.
    pub fn runs(&self, revision: &str) -> Result<Option<bool>, Failure> {
        match self {
            Self::Node(node) => node.runs(revision),
            Self::Clone(clone) => clone.runs(revision).map(Some),
        }
    }
}

/// A clone with a status branch.
pub struct Clone {
    repository: Repository,
    dir: PathBuf,
    branch: String,
    /// Where in the tree `status/` lies, once it was found.
    folder: RefCell<Option<PathBuf>>,
}

impl Clone {
    /// The clone that holds `dir`.
    pub fn open(dir: &Path, branch: &str) -> Result<Self, Failure> {
        let repository = Repository::discover(dir).map_err(|error| {
            let message = format!("{} is in no git repository that can be read: {}", dir.display(), error.message());
            Failure::new("RV0610", message, "`--repo DIR` names a clone of the repository that the cluster follows")
        })?;
        Ok(Self { repository, dir: dir.to_owned(), branch: branch.to_owned(), folder: RefCell::default() })
    }

    /// Can it fetch? A clone without an origin tells what lies in it.
    pub fn has_origin(&self) -> bool {
        self.repository.find_remote("origin").is_ok()
    }

    /// Brings the branch here by the git of this user, who has the credentials.
    pub fn fetch(&self) -> Result<(), Failure> {
        let refspec = format!("+refs/heads/{0}:refs/remotes/origin/{0}", self.branch);
        let mut git = std::process::Command::new("git");
        git.arg("-C").arg(&self.dir).args(["fetch", "--quiet", "--no-tags", "origin", &refspec]);
        let ended = git.stdin(std::process::Stdio::null()).output();
        let why = match ended {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().to_owned(),
            Err(error) => error.to_string(),
        };
        let message =
            format!("the branch {} cannot be fetched into {}: {}", self.branch, self.dir.display(), printable(&why));
        let help = format!("does `git -C {} fetch origin {}` work?", self.dir.display(), self.branch);
        Err(Failure::new("RV0614", message, help))
    }

    /// What is declared at the revision that runs, and what is known of it.
    pub fn running(&self) -> Result<(Desired, Snapshot), Failure> {
        let tree = self.head()?.tree().map_err(|error| self.git(&error))?;
        let loaded = manifest::load(&self.declared(tree)?.files);
        match loaded.desired {
            Some(desired) => Ok((desired, self.snapshot()?)),
            None => Err(self.failure("its manifests are not valid for this version")),
        }
    }

    fn declared(&self, tree: Tree<'_>) -> Result<Listing, Failure> {
        let folder = self.folder(&tree)?;
        let declared = if folder.as_os_str().is_empty() {
            Ok(tree)
        } else {
            tree.get_path(&folder).and_then(|entry| entry.to_object(&self.repository)?.peel_to_tree())
        };
        declared.and_then(|tree| revision::files(&self.repository, &tree)).map_err(|it| self.git(&it))
    }

    fn failure(&self, what: &str) -> Failure {
        let message = format!("the branch {} of {} cannot be read: {what}", self.branch, self.dir.display());
        let (dir, branch) = (self.dir.display(), &self.branch);
        let help = format!("`git -C {dir} fetch origin {branch}:refs/remotes/origin/{branch}` brings it");
        Failure::new("RV0610", message, help)
    }

    fn git(&self, error: &git2::Error) -> Failure {
        self.failure(error.message())
    }

    /// The branch's last commit: what was fetched goes before what lies here since the clone was made.
    fn head(&self) -> Result<Commit<'_>, Failure> {
        let places = [format!("refs/remotes/origin/{}", self.branch), format!("refs/heads/{}", self.branch)];
        let found = places.iter().find_map(|name| self.repository.find_reference(name).ok());
        let reference = found.ok_or_else(|| self.failure("there is no such branch"))?;
        reference.peel_to_commit().map_err(|error| self.git(&error))
    }

    /// Where the tree has `status/`: where DIR is, at the top, or else the first place that there is.
    fn folder(&self, tree: &Tree<'_>) -> Result<PathBuf, Failure> {
        if let Some(folder) = self.folder.borrow().as_ref() {
            return Ok(folder.clone());
        }
        let has = |folder: &Path| tree.get_path(&folder.join("status/SUMMARY.md")).is_ok();
        let here = revision::place(&self.repository, &self.dir).ok();
        let mut folder = here.into_iter().chain([PathBuf::new()]).find(|folder| has(folder));
        if folder.is_none() {
            // The walk ends at the first that is found, which git reports as an error of ours.
            let _ = tree.walk(TreeWalkMode::PreOrder, |parent, entry| {
                if entry.kind() == Some(ObjectType::Tree) && entry.name() == Ok("status") && has(Path::new(parent)) {
                    folder = Some(PathBuf::from(parent));
                    return TreeWalkResult::Abort;
                }
                TreeWalkResult::Ok
            });
        }
        let folder = folder.ok_or_else(|| self.failure("it has no folder `status`"))?;
        *self.folder.borrow_mut() = Some(folder.clone());
        Ok(folder)
    }

    fn files(&self, tree: &Tree<'_>, wanted: impl Fn(&str) -> bool) -> Result<Files, Failure> {
        let folder = self.folder(tree)?.join("status");
        let entry = tree.get_path(&folder).map_err(|error| self.git(&error))?;
        let status = entry.to_object(&self.repository).and_then(|it| it.peel_to_tree()).map_err(|it| self.git(&it))?;
        let mut files = Files::new();
        let walked = status.walk(TreeWalkMode::PreOrder, |parent, entry| {
            let path = format!("{parent}{}", entry.name().unwrap_or_default());
            if entry.kind() == Some(ObjectType::Blob)
                && wanted(&path)
                && let Ok(blob) = self.repository.find_blob(entry.id())
                && let Ok(text) = std::str::from_utf8(blob.content())
            {
                files.insert(path, text.to_owned());
            }
            TreeWalkResult::Ok
        });
        walked.map_err(|error| self.git(&error))?;
        Ok(files)
    }

    fn snapshot(&self) -> Result<Snapshot, Failure> {
        let head = self.head()?;
        let tree = head.tree().map_err(|error| self.git(&error))?;
        let files = self.files(&tree, |_| true)?;
        let node = scribe(&head).ok_or_else(|| self.failure("no commit of a node is in it"))?;
        if let Some(path) = files::damaged(&files) {
            return Err(self.failure(&format!("{path} is not as a node wrote it")));
        }
        let mut snapshot = files::parse(&files, node, time(&head));
        snapshot.cluster = manifest::load(&self.declared(tree)?.files).desired.map(|desired| desired.cluster.name);
        Ok(snapshot)
    }

    fn why(&self, vip: Vip) -> Result<Why, Failure> {
        let snapshot = self.snapshot()?;
        let Some(status) = snapshot.vips.iter().find(|status| status.vip == vip).cloned() else {
            let message = format!("the status branch knows no {vip}");
            return Err(Failure::new("RV0609", message, "`rendezvip status --repo DIR` lists all VIPs"));
        };
        let tree = self.head()?.tree().map_err(|error| self.git(&error))?;
        let sources = self.declared(tree)?;
        let ranking = manifest::load(&sources.files).desired.map_or_else(Vec::new, |desired| {
            // Interfaces and checks are not in the branch: whoever is alive is taken to be able.
            let ideal = Arc::new(Offer::ideal(&desired));
            let alive = snapshot.members.iter().filter(|member| member.state == MemberState::Alive);
            let offers: BTreeMap<_, _> = alive.map(|member| (member.node.clone(), ideal.clone())).collect();
            let ranking = Ranking::new(&desired);
            let index = ranking.index_of(vip).unwrap_or(usize::MAX);
            let candidates = explain(&desired, &ranking, &offers, index).into_iter();
            candidates.map(|it| Rank { eligible: it.is_eligible(), reason: it.to_string(), node: it.node }).collect()
        });
        Ok(Why {
            vip,
            moves: self.moves(vip, &format!("pools/{}.yaml", status.pool))?,
            pool: status.pool,
            desired: status.desired,
            actual: status.actual,
            state: status.state,
            since: status.since,
            note: status.note,
            ranking,
            at: snapshot.at,
        })
    }

    /// What the branch's history tells of a VIP, the latest last.
    fn moves(&self, vip: Vip, file: &str) -> Result<Vec<Moved>, Failure> {
        let owner = |commit: &Commit<'_>| -> Option<Option<NodeName>> {
            let files = self.files(&commit.tree().ok()?, |path| path == file).ok()?;
            let snapshot = files::parse(&files, NodeName::new("nobody").ok()?, Wall::default());
            snapshot.vips.into_iter().find(|status| status.vip == vip).map(|status| status.actual)
        };
        let mut commit = self.head()?;
        let mut moves = Vec::new();
        for _ in 0..HISTORY {
            let Ok(parent) = commit.parent(0) else { break };
            // A revision that is reported on for the first time has no status.
            let (after, before) = (owner(&commit), owner(&parent).flatten());
            if let Some(after) = after
                && after != before
            {
                let cause = commit.summary().ok().flatten().unwrap_or_default().to_owned();
                moves.push(Moved { at: time(&commit), from: before, to: after, cause });
            }
            if moves.len() >= MOVES || scribe(&parent).is_none() {
                break;
            }
            commit = parent;
        }
        moves.reverse();
        Ok(moves)
    }

    fn runs(&self, revision: &str) -> Result<bool, Failure> {
        let Some(running) = self.snapshot()?.revision else { return Ok(false) };
        if running.matches(revision) {
            return Ok(true);
        }
        let (Some(commit), Some(prefix)) = (running.commit(), running.prefix(revision)) else { return Ok(false) };
        let Ok(ancestor) = self.repository.find_commit_by_prefix(&prefix) else { return Ok(false) };
        let commit = Oid::from_bytes(&commit.0).map_err(|error| self.git(&error))?;
        Ok(self.repository.graph_descendant_of(commit, ancestor.id()).unwrap_or(false))
    }
}

fn time(commit: &Commit<'_>) -> Wall {
    Wall::from_millis(u64::try_from(commit.time().seconds()).unwrap_or(0).saturating_mul(1000))
}

/// The node that wrote a status commit; of a stranger's, the one before it.
fn scribe(commit: &Commit<'_>) -> Option<NodeName> {
    let mut commit = commit.clone();
    for _ in 0..HISTORY {
        if let Some(name) = message::scribe_of(&String::from_utf8_lossy(commit.message_bytes())) {
            return Some(name);
        }
        commit = commit.parent(0).ok()?;
    }
    None
}
