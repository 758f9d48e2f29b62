//! From a snapshot to the status branch.

use std::time::Duration;

use rendezvip::agent::git::{Outcome, StatusTarget};
use rendezvip::digest::Digest;
use rendezvip::revision::Revision;
use rendezvip::status::scribe::Written;

use crate::port::{MANIFESTS, Port, Repository, git, remote, snapshot};

const BRANCH: &str = "rendezvip/status";

fn port(repository: &Repository) -> Port {
    let port = Port::new(&repository.bare().display().to_string());
    port.pull(None, None, None);
    port
}

fn parents(repository: &Repository) -> Vec<String> {
    repository.ask(&["log", "-1", "--format=%P", BRANCH])[0].split(' ').map(str::to_owned).collect()
}

/// Strangers and clocks aside: no two commits that follow each other have one tree.
fn assert_no_identical_trees(repository: &Repository) {
    let trees = repository.ask(&["log", "--first-parent", "--format=%T", BRANCH]);
    assert!(trees.windows(2).all(|pair| pair[0] != pair[1]), "{trees:?}");
}

#[test]
fn the_branch_differs_from_main_by_status_alone() {
    let repository = Repository::new();
    let main = repository.head("main");
    let port = port(&repository);
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed);
    assert_eq!(parents(&repository), [main.to_string()], "the first has the desired commit alone");
    let right = ["status/SUMMARY.md", "status/nodes/edge-a.yaml", "status/nodes/edge-b.yaml", "status/pools/web.yaml"];
    assert_eq!(repository.ask(&["diff", "--name-only", "main", BRANCH]), right);
    assert_eq!(repository.ask(&["diff", "--name-only", &format!("main...{BRANCH}")]), right);
    let first = repository.head(BRANCH);

    assert_eq!(port.tell(&snapshot(main, "edge-b", "edge-b")), Written::Committed);
    assert_eq!(parents(&repository), [first.to_string()], "the revision has not moved");
    let second = repository.head(BRANCH);

    let moved = repository.commit(&[("README.md", Some("more\n"))]);
    port.pull(None, None, None);
    assert_eq!(port.tell(&snapshot(moved, "edge-b", "edge-b")), Written::Committed);
    assert_eq!(parents(&repository), [second.to_string(), moved.to_string()]);
    assert_eq!(repository.ask(&["diff", "--name-only", "main", BRANCH]), right);
    assert_eq!(repository.ask(&["diff", "--name-only", &format!("main...{BRANCH}")]), right);
    let subjects = repository.ask(&["log", "--first-parent", "-3", "--format=%s", BRANCH]);
    assert_eq!(subjects[1], "edge-b took 10.99.0.100 and 1 more from edge-a [skip ci]");
    assert_eq!(repository.ask(&["log", "-1", "--format=%an <%ae>", BRANCH]), ["rendezvip <rendezvip@edge-a>"]);
    git(&repository.bare(), &["fsck", "--strict"]);
}

#[test]
fn what_the_branch_says_already_is_not_said_again() {
    let repository = Repository::new();
    let main = repository.head("main");
    let port = port(&repository);
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed);
    let head = repository.head(BRANCH);
    // Another node, with a mirror of its own, sees the same.
    let other = self::port(&repository);
    assert_eq!(other.tell(&snapshot(main, "edge-b", "edge-a")), Written::Unchanged);
    assert_eq!(repository.head(BRANCH), head);
}

#[test]
fn status_lies_below_the_path_and_a_merged_one_does_no_harm() {
    let repository = Repository::new();
    repository.commit(&[
        ("cluster.yaml", None),
        ("lab/all.yaml", Some(MANIFESTS)),
        ("lab/status/pools/old.yaml", Some("old")),
    ]);
    let main = repository.head("main");
    let port = Port::with(&repository.bare().display().to_string(), |config| {
        config.source.as_mut().unwrap().path = "lab".to_owned();
    });
    port.pull(None, None, None);
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed);
    let files = repository.ask(&["ls-tree", "-r", "--name-only", BRANCH]);
    assert_eq!(
        files,
        [
            "README.md",
            "lab/all.yaml",
            "lab/status/SUMMARY.md",
            "lab/status/nodes/edge-a.yaml",
            "lab/status/nodes/edge-b.yaml",
            "lab/status/pools/web.yaml"
        ]
    );
}

#[test]
fn a_strangers_commit_becomes_the_parent_and_its_files_do_not_stay() {
    let repository = Repository::new();
    let main = repository.head("main");
    let port = port(&repository);
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed);
    let work = repository.work();
    git(&work, &["fetch", "-q", "origin"]);
    git(&work, &["checkout", "-q", "-B", "stranger", "origin/rendezvip/status"]);
    std::fs::write(work.join("stranger.txt"), "x").unwrap();
    std::fs::write(work.join("status/pools/web.yaml"), "x").unwrap();
    git(&work, &["add", "-A"]);
    git(&work, &["commit", "-q", "-m", "strange"]);
    git(&work, &["push", "-q", "origin", "HEAD:rendezvip/status"]);
    let stranger = repository.head(BRANCH);
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed);
    assert_eq!(parents(&repository), [stranger.to_string()]);
    assert!(!repository.ask(&["ls-tree", "-r", "--name-only", BRANCH]).contains(&"stranger.txt".to_owned()));
    let right = ["status/SUMMARY.md", "status/nodes/edge-a.yaml", "status/nodes/edge-b.yaml", "status/pools/web.yaml"];
    assert_eq!(repository.ask(&["diff", "--name-only", "main", BRANCH]), right);
}

#[test]
fn the_bucket_is_counted_from_the_branch_whoever_writes() {
    let repository = Repository::new();
    let main = repository.head("main");
    let ports = [port(&repository), port(&repository)];
    let mut written = 0;
    let mut paced = None;
    for turn in 0..10 {
        let owner = if turn % 2 == 0 { "edge-a" } else { "edge-b" };
        match ports[turn % 2].tell(&snapshot(main, "edge-a", owner)) {
            Written::Committed => written += 1,
            Written::Paced(wait) => {
                paced = Some(wait);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((4..=5).contains(&written), "{written}");
    assert!(paced.is_some_and(|wait| wait <= Duration::from_secs(15)), "{paced:?}");
}

#[test]
fn two_scribes_that_race_lose_nothing_and_force_nothing() {
    let repository = Repository::new();
    let main = repository.head("main");
    let ports = [port(&repository), port(&repository)];
    let mut commits = Vec::new();
    for round in 0..2 {
        for (port, owner) in ports.iter().zip(["edge-a", "edge-b"]) {
            let mut told = snapshot(main, owner, owner);
            told.members[0].version = Some(round.to_string());
            assert!(port.port.tell(told));
        }
        for port in &ports {
            match port.next() {
                Outcome::Told(Written::Committed, None) => commits.push(repository.head(BRANCH)),
                Outcome::Told(Written::Paced(_), None) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let line = repository.ask(&["log", "--first-parent", "--format=%H", BRANCH]);
    assert!(commits.iter().all(|commit| line.contains(&commit.to_string())), "{commits:?} {line:?}");
    assert_no_identical_trees(&repository);
}

#[test]
fn a_directory_source_reports_status_alone() {
    let repository = Repository::new();
    let port = Port::with(&repository.bare().display().to_string(), |config| config.source = None);
    let mut told = snapshot(repository.head("main"), "edge-a", "edge-a");
    told.revision = Some(Revision::Directory(Digest::of(b"one")));
    assert_eq!(port.tell(&told), Written::Committed);
    let files = repository.ask(&["ls-tree", "-r", "--name-only", BRANCH]);
    assert!(files.iter().all(|path| path.starts_with("status/")), "{files:?}");
    assert_eq!(repository.ask(&["rev-list", "--count", BRANCH]), ["1"]);
    let text = repository.ask(&["show", &format!("{BRANCH}:status/pools/web.yaml")]).join("\n");
    assert!(text.contains(&format!("observedRevision: directory@{}", Digest::of(b"one"))), "{text}");
}

#[test]
fn a_status_repository_of_its_own_gets_the_history_too() {
    let (source, target) = (Repository::new(), Repository::new());
    let main = source.head("main");
    let port = Port::with(&source.bare().display().to_string(), |config| {
        if let Some(StatusTarget::Git { remote: there, .. }) = &mut config.status {
            *there = remote(&target.bare().display().to_string());
        }
    });
    port.pull(None, None, None);
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed);
    assert_eq!(parents(&target), [main.to_string()]);
    git(&target.bare(), &["fsck", "--strict"]);
}

#[test]
fn a_directory_gets_whole_files_and_loses_those_of_what_is_no_more() {
    let repository = Repository::new();
    let main = repository.head("main");
    let place = tempfile::TempDir::new().unwrap();
    let port = Port::with("/nowhere", |config| {
        config.status = Some(StatusTarget::Directory(place.path().to_owned()));
    });
    let mut told = snapshot(main, "edge-a", "edge-a");
    assert_eq!(port.tell(&told), Written::Committed);
    assert_eq!(port.tell(&told), Written::Unchanged);
    assert!(place.path().join("status/pools/web.yaml").exists());
    told.vips.clear();
    assert_eq!(port.tell(&told), Written::Committed);
    assert!(!place.path().join("status/pools/web.yaml").exists());
    assert!(place.path().join("status/SUMMARY.md").exists());
}
