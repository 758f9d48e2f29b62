//! A repository, a port to it, and a snapshot to tell.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rendezvip::agent::git::protocol::{Author, Remote};
use rendezvip::agent::git::{GitConfig, GitPort, GitSource, Outcome, StatusTarget};
use rendezvip::digest::Digest;
use rendezvip::name::{ClusterName, NodeName, PoolName};
use rendezvip::revision::{CommitHash, Revision};
use rendezvip::source::problem::Code;
use rendezvip::source::{Attempt, Seen};
use rendezvip::status::scribe::Written;
use rendezvip::status::snapshot::{MemberState, MemberStatus, Snapshot, VipState, VipStatus};
use rendezvip::status::{Condition, ConditionType, Truth, Wall};
use tempfile::TempDir;

pub const MANIFESTS: &str = "apiVersion: rendezvip/v1
kind: Cluster
metadata: {name: lab}
---
apiVersion: rendezvip/v1
kind: Node
metadata: {name: edge-a}
spec: {address: 10.99.0.10}
---
apiVersion: rendezvip/v1
kind: Node
metadata: {name: edge-b}
spec: {address: 10.99.0.11}
---
apiVersion: rendezvip/v1
kind: VipPool
metadata: {name: web}
spec: {addresses: [10.99.0.100-10.99.0.101]}
";

/// A bare repository and a clone to commit in.
pub struct Repository {
    pub dir: TempDir,
}

impl Repository {
    /// With one commit of [`MANIFESTS`] on `main`.
    pub fn new() -> Self {
        let repository = Self { dir: TempDir::new().unwrap() };
        let dir = repository.dir.path();
        git(dir, &["init", "-q", "--bare", "-b", "main", "bare.git"]);
        git(dir, &["init", "-q", "-b", "main", "work"]);
        git(&repository.work(), &["remote", "add", "origin", "../bare.git"]);
        repository.commit(&[("cluster.yaml", Some(MANIFESTS)), ("README.md", Some("vips\n"))]);
        repository
    }

    pub fn bare(&self) -> PathBuf {
        self.dir.path().join("bare.git")
    }

    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Commits and pushes `main`: files with their contents, or none to take one away.
    pub fn commit(&self, files: &[(&str, Option<&str>)]) -> CommitHash {
        for (path, text) in files {
            let path = self.work().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
        }
        git(&self.work(), &["add", "-A"]);
        git(&self.work(), &["commit", "-q", "--allow-empty", "-m", "change"]);
        git(&self.work(), &["push", "-q", "-f", "origin", "HEAD:main"]);
        self.head("main")
    }

    pub fn head(&self, branch: &str) -> CommitHash {
        git(&self.bare(), &["rev-parse", branch]).parse().unwrap()
    }

    /// Runs git in the bare repository and returns the lines that it prints.
    pub fn ask(&self, args: &[&str]) -> Vec<String> {
        git(&self.bare(), args).lines().map(str::to_owned).collect()
    }
}

/// Runs git, away from anybody's settings.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .args(["-c", "user.name=somebody", "-c", "user.email=somebody@example.net"])
        .args(args)
        .output()
        .expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

pub fn remote(url: &str) -> Remote {
    Remote {
        url: url.to_owned(),
        ssh_key_file: None,
        known_hosts_file: None,
        credentials_file: None,
        ca_file: None,
        proxy: None,
    }
}

/// A port whose outcomes are waited for.
pub struct Port {
    pub port: GitPort,
    outcomes: Receiver<Outcome>,
    pub state: TempDir,
}

pub fn failed(seen: Seen) -> (Code, String) {
    match seen {
        Seen::Failed(problem) => (problem.code, problem.message),
        other => panic!("{other:?}"),
    }
}

impl Port {
    pub fn new(url: &str) -> Self {
        Self::with(url, |_| {})
    }

    pub fn with(url: &str, change: impl FnOnce(&mut GitConfig)) -> Self {
        let state = TempDir::new().unwrap();
        let author = Author { name: "rendezvip".to_owned(), email: "rendezvip@edge-a".to_owned() };
        let branch = "rendezvip/status".to_owned();
        let mut config = GitConfig {
            program: env!("CARGO_BIN_EXE_rendezvip").into(),
            state_dir: state.path().to_owned(),
            source: Some(GitSource {
                remote: remote(url),
                branch: "main".to_owned(),
                is_tag: false,
                pin: None,
                signers: None,
                path: String::new(),
            }),
            status: Some(StatusTarget::Git { remote: remote(url), branch, author, signing_key_file: None }),
            limit: Duration::from_secs(29),
            silence: Duration::from_secs(10),
        };
        change(&mut config);
        let (sender, outcomes) = channel();
        let port = GitPort::new(config, move |outcome| drop(sender.send(outcome))).unwrap();
        Self { port, outcomes, state }
    }

    /// Source and status are opened alike.
    pub fn opening(url: &str, opens: impl Fn(&mut Remote), change: impl FnOnce(&mut GitConfig)) -> Self {
        Self::with(url, |config| {
            config.source.iter_mut().for_each(|source| opens(&mut source.remote));
            if let Some(StatusTarget::Git { remote, .. }) = &mut config.status {
                opens(remote);
            }
            change(config);
        })
    }

    pub fn next(&self) -> Outcome {
        self.outcomes.recv_timeout(Duration::from_secs(60)).expect("an outcome")
    }

    pub fn pull(&self, known: Option<CommitHash>, activated: Option<CommitHash>, accepted: Option<&str>) -> Seen {
        self.attempt(Attempt { id: 7, known, activated, accepted: accepted.map(str::to_owned) })
    }

    pub fn attempt(&self, attempt: Attempt) -> Seen {
        let asked = attempt.id;
        assert!(self.port.pull(attempt));
        match self.next() {
            Outcome::Pulled(id, seen) if id == asked => seen,
            other => panic!("{other:?}"),
        }
    }

    pub fn tell(&self, snapshot: &Snapshot) -> Written {
        assert!(self.port.tell(snapshot.clone()));
        match self.next() {
            Outcome::Told(written, None) => written,
            other => panic!("{other:?}"),
        }
    }
}

pub fn names(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|name| NodeName::new(name).unwrap()).collect()
}

/// `main` at `commit` runs, and `owner` has both VIPs.
pub fn snapshot(commit: CommitHash, scribe: &str, owner: &str) -> Snapshot {
    let (at, revision) = (Wall::from_millis(1_777_896_000_000), Revision::git("main", commit));
    let node = |name: &str| NodeName::new(name).unwrap();
    let member = |name: &str| MemberStatus {
        node: node(name),
        state: MemberState::Alive,
        since: at,
        version: None,
        revision: Some(revision.clone()),
        attempted: Some(revision.clone()),
        digest: Some(Digest::of(b"one")),
        note: None,
    };
    let vip = |address: &str| VipStatus {
        vip: address.parse().unwrap(),
        pool: PoolName::new("web").unwrap(),
        desired: Some(node(owner)),
        actual: Some(node(owner)),
        state: VipState::Held,
        since: at,
        note: None,
    };
    Snapshot {
        node: node(scribe),
        cluster: Some(ClusterName::new("lab").unwrap()),
        revision: Some(revision.clone()),
        attempted: Some(revision.clone()),
        digest: Some(Digest::of(b"one")),
        at,
        view: None,
        members: vec![member("edge-a"), member("edge-b")],
        vips: vec![vip("10.99.0.100"), vip("10.99.0.101")],
        conditions: vec![Condition::new(ConditionType::Ready, Truth::True, "Running", "it runs", at)],
    }
}
