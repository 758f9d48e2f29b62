//! From a branch to what it asks for.

use std::io::Read as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rendezvip::agent::git::Outcome;
use rendezvip::agent::git::protocol::History;
use rendezvip::revision::{CommitHash, Revision};
use rendezvip::source::problem::Code;
use rendezvip::source::{Lineage, Seen};

use crate::port::{MANIFESTS, Port, Repository, failed, git, names};

fn pulled(seen: Seen) -> (Revision, Lineage, Result<usize, Code>) {
    match seen {
        Seen::Revision { revision, lineage, parsed } => {
            (revision, lineage, parsed.map(|desired| desired.nodes.len()).map_err(|problem| problem.code))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_branch_is_read_over_a_path_and_over_a_file_url() {
    let repository = Repository::new();
    let head = repository.head("main");
    let path = repository.bare().display().to_string();
    for url in [format!("file://{path}"), path] {
        let port = Port::new(&url);
        assert_eq!(pulled(port.pull(None, None, None)), (Revision::git("main", head), Lineage::NONE, Ok(2)));
        assert!(matches!(port.pull(Some(head), Some(head), None), Seen::Unchanged));
    }
}

#[test]
fn only_manifests_below_the_path_are_read() {
    let repository = Repository::new();
    repository.commit(&[
        ("cluster.yaml", None),
        ("lab/all.yaml", Some(MANIFESTS)),
        ("other/broken.yaml", Some("{")),
        ("lab/status/pools/web.yaml", Some("{")),
        ("lab/charts/.rendezvipignore", Some("")),
        ("lab/charts/t/x.yaml", Some("{")),
        ("lab/.github/x.yaml", Some("{")),
    ]);
    let port = Port::with(&repository.bare().display().to_string(), |config| {
        config.source.as_mut().unwrap().path = "lab".to_owned();
    });
    assert_eq!(pulled(port.pull(None, None, None)).2, Ok(2));
}

#[test]
fn a_bad_commit_is_told_with_file_line_and_column() {
    let repository = Repository::new();
    repository.commit(&[(
        "pools/db.yaml",
        Some("apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: db}\nspec: {addresses: [127.0.0.1]}\n"),
    )]);
    let port = Port::new(&repository.bare().display().to_string());
    let Seen::Revision { parsed: Err(problem), .. } = port.pull(None, None, None) else { panic!("it is bad") };
    assert_eq!(problem.code, Code::InvalidManifests);
    assert!(problem.message.starts_with("pools/db.yaml:4:20: error[RV"), "{}", problem.message);
}

#[test]
fn a_rewritten_branch_does_not_descend_from_what_runs() {
    let repository = Repository::new();
    let first = repository.head("main");
    let second = repository.commit(&[("more.md", Some("x"))]);
    let port = Port::new(&repository.bare().display().to_string());
    assert_eq!(pulled(port.pull(None, Some(first), None)).1, Lineage { activated: true, accepted: false });
    git(&repository.work(), &["reset", "-q", "--hard", "HEAD^"]);
    let rewritten = repository.commit(&[("less.md", Some("x"))]);
    let descends = |seen| pulled(seen).1;
    assert_eq!(descends(port.pull(None, Some(second), None)), Lineage { activated: false, accepted: false });
    assert_eq!(descends(port.pull(None, Some(first), None)), Lineage { activated: true, accepted: false });
    let prefix = &rewritten.to_string()[..10];
    assert_eq!(descends(port.pull(None, Some(second), Some(prefix))), Lineage { activated: false, accepted: true });
    assert!(!descends(port.pull(None, Some(CommitHash([7; 20])), None)).activated, "one that is nowhere");
}

#[test]
fn whether_one_commit_descends_from_another_can_be_asked() {
    let repository = Repository::new();
    let first = repository.head("main");
    let second = repository.commit(&[]);
    let port = Port::new(&repository.bare().display().to_string());
    port.pull(None, None, None);
    for (ancestor, descendant, right) in [(first, second, true), (second, first, false), (second, second, true)] {
        assert!(port.port.descends(3, ancestor.to_string()[..8].to_owned(), descendant));
        match port.next() {
            Outcome::Descends(3, Ok(descends)) => assert_eq!(descends, right),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_history_that_declared_other_nodes_is_noticed() {
    let repository = Repository::new();
    let path = repository.bare().display().to_string();
    let history = |nodes: &[&str]| {
        let port = Port::new(&path);
        port.pull(None, None, None);
        assert!(port.port.history(repository.head("main"), names(nodes)));
        match port.next() {
            Outcome::History(asked, Ok(history)) if asked == names(nodes) => history,
            other => panic!("{other:?}"),
        }
    };
    repository.commit(&[("README.md", Some("changed"))]);
    assert_eq!(history(&["edge-a", "edge-b"]), History::Same);
    let node = "apiVersion: rendezvip/v1\nkind: Node\nmetadata: {name: edge-c}\nspec: {address: 10.99.0.12}\n";
    let added = repository.commit(&[("c.yaml", Some(node))]);
    repository.commit(&[("c.yaml", None)]);
    assert_eq!(history(&["edge-a", "edge-b"]), History::Other(added));
    // Two of the three that were declared then are a majority without the one that is declared now.
    assert_eq!(history(&["edge-a", "edge-x"]), History::Replaced(added));
    let repository = Repository::new();
    repository.commit(&[("c.yaml", Some("kind: [Node"))]);
    repository.commit(&[("c.yaml", None)]);
    let port = Port::new(&repository.bare().display().to_string());
    port.pull(None, None, None);
    assert!(port.port.history(repository.head("main"), names(&["edge-a", "edge-b"])));
    assert!(matches!(port.next(), Outcome::History(_, Ok(History::Doubt(_)))));
}

#[test]
fn a_missing_repository_or_branch_is_told_and_recovered_from() {
    let repository = Repository::new();
    let path = repository.bare().display().to_string();
    let (code, message) = failed(Port::new(&format!("{path}/nowhere")).pull(None, None, None));
    assert_eq!(code, Code::FetchFailed, "{message}");
    let port = Port::with(&path, |config| config.source.as_mut().unwrap().branch = "release".to_owned());
    let (code, message) = failed(port.pull(None, None, None));
    assert_eq!((code, message), (Code::BranchMissing, format!("{path} has no branch `release`")));
    git(&repository.bare(), &["branch", "release", "main"]);
    assert_eq!(pulled(port.pull(None, None, None)).2, Ok(2));
    git(&repository.bare(), &["branch", "-D", "release"]);
    assert_eq!(failed(port.pull(None, None, None)).0, Code::BranchMissing);
}

#[test]
fn a_lock_that_a_killed_child_left_does_no_harm() {
    let repository = Repository::new();
    let port = Port::new(&repository.bare().display().to_string());
    port.pull(None, None, None);
    std::fs::write(port.state.path().join("mirror.git/refs/rendezvip/source/main.lock"), "").unwrap();
    let head = repository.commit(&[]);
    assert_eq!(pulled(port.pull(None, None, None)).0, Revision::git("main", head));
}

/// A server that accepts and never answers.
fn mute() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut byte = [0; 256];
                while stream.read(&mut byte).is_ok_and(|read| read > 0) {}
            });
        }
    });
    port
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    let port = mute();
    for url in [format!("http://127.0.0.1:{port}/vips.git"), format!("ssh://git@127.0.0.1:{port}/vips.git")] {
        let port = Port::with(&url, |config| config.silence = Duration::from_secs(2));
        let start = Instant::now();
        let (code, message) = failed(port.pull(None, None, None));
        assert_eq!(code, Code::TimedOut, "{message}");
        assert!(message.contains("127.0.0.1"), "{message}");
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    }
}

#[test]
fn the_port_ends_at_once_while_a_server_hangs_and_leaves_no_child() {
    let url = format!("http://127.0.0.1:{}/vips.git", mute());
    let port = Port::new(&url);
    assert!(port.port.pull(rendezvip::source::Attempt { id: 1, known: None, activated: None, accepted: None }));
    let marker = port.state.path().display().to_string();
    while children(&marker) == 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let start = Instant::now();
    drop(port.port);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(children(&marker), 0);
}

/// Processes whose environment names this state directory.
fn children(marker: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let environment = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("environ")).unwrap_or_default();
    processes.map(environment).filter(|text| String::from_utf8_lossy(text).contains(marker)).count()
}

#[test]
fn a_hanging_server_makes_neither_threads_nor_descriptors_grow() {
    let url = format!("http://127.0.0.1:{}/vips.git", mute());
    let port = Port::with(&url, |config| config.silence = Duration::from_millis(200));
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    port.pull(None, None, None);
    let before = descriptors();
    for _ in 0..5 {
        assert_eq!(failed(port.pull(None, None, None)).0, Code::TimedOut);
    }
    // Other tests of this process come and go beside it.
    assert!(descriptors() < before + 40, "{before} and then {}", descriptors());
    let refused = (0..40)
        .filter(|id| {
            !port.port.pull(rendezvip::source::Attempt { id: *id, known: None, activated: None, accepted: None })
        })
        .count();
    assert!(refused >= 34, "what waits is bounded: {refused}");
}

#[test]
fn a_server_without_a_known_host_key_is_not_spoken_to() {
    // No sshd is at hand: that nothing is listening has to be told apart, at the least.
    let (code, message) = failed(Port::new("ssh://git@127.0.0.1:1/vips.git").pull(None, None, None));
    assert_eq!(code, Code::FetchFailed, "{message}");
}
