//! Who may change what runs: signed commits, tags and pinned commits; and whose name the status bears.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rendezvip::agent::git::protocol::{Author, Rule, Signers};
use rendezvip::agent::git::{GitConfig, Outcome, StatusTarget};
use rendezvip::revision::{CommitHash, Revision};
use rendezvip::source::problem::Code;
use rendezvip::source::{Config, Seen, Source};
use rendezvip::status::scribe::Written;
use rendezvip::time::Instant;

use crate::port::{Port, Repository, git, snapshot};

/// A key of somebody, as ssh-keygen makes it.
pub fn key(repository: &Repository, who: &str) -> PathBuf {
    let path = repository.dir.path().join(who);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", who, "-f"]).arg(&path).status();
    assert!(made.expect("ssh-keygen runs").success());
    path
}

/// The file that lets these people sign.
pub fn allow(repository: &Repository, who: &[&str]) -> PathBuf {
    let path = repository.dir.path().join("allowed_signers");
    let line = |who: &&str| {
        let public = fs::read_to_string(repository.dir.path().join(format!("{who}.pub"))).unwrap();
        format!("{who}@example.org {public}")
    };
    fs::write(&path, who.iter().map(line).collect::<String>()).unwrap();
    path
}

/// A commit on `main` that somebody signed.
pub fn signed(repository: &Repository, who: &str) -> CommitHash {
    let key = repository.dir.path().join(who).display().to_string();
    let settings = ["-c", "gpg.format=ssh", "-c", &format!("user.signingkey={key}")];
    git(&repository.work(), &[&settings[..], &["commit", "-q", "-S", "--allow-empty", "-m", "signed"]].concat());
    git(&repository.work(), &["push", "-q", "-f", "origin", "HEAD:main"]);
    repository.head("main")
}

fn port(repository: &Repository, rule: Rule, signers: PathBuf) -> Port {
    Port::with(&repository.bare().display().to_string(), |config| {
        source(config).signers = Some(Signers { rule, allowed_signers_file: Some(signers), keyring_file: None });
    })
}

fn source(config: &mut GitConfig) -> &mut rendezvip::agent::git::GitSource {
    config.source.as_mut().unwrap()
}

/// The commit that was seen, and whether it may run.
fn judged(seen: Seen) -> (CommitHash, Result<usize, String>) {
    match seen {
        Seen::Revision { revision, parsed, .. } => {
            let parsed = parsed.map(|desired| desired.nodes.len()).map_err(|problem| {
                assert_eq!(problem.code, Code::NotVerified);
                problem.message
            });
            (revision.commit().unwrap(), parsed)
        }
        other => panic!("{other:?}"),
    }
}

/// Makes the next commit ask for one more address.
fn change(repository: &Repository, address: &str) {
    let pool =
        format!("apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: db}}\nspec: {{addresses: [{address}]}}\n");
    fs::write(repository.work().join("db.yaml"), pool).unwrap();
    git(&repository.work(), &["add", "db.yaml"]);
}

/// Alice's commit, at which the repository stands, runs; what Mallory makes of it is refused, and named; Alice's next one runs.
pub fn the_last_good_state_stays(repository: &Repository, port: &Port) {
    let mut now = Instant::from_micros(1);
    let mut source = Source::new(Config::git(Duration::from_secs(1)), 1, None, now);
    let mut look = |source: &mut Source| {
        now = now + Duration::from_secs(2);
        let attempt = source.poll(now).expect("a look is due");
        let seen = port.attempt(attempt.clone());
        let load = source.observe(now, attempt.id, seen);
        load.map(|load| source.activated(load.desired.digest).expect("it is new").commit().unwrap())
    };
    let good = repository.head("main");
    assert_eq!(look(&mut source), Some(good));
    change(repository, "10.99.0.102");
    let strange = signed(repository, "mallory");
    assert_eq!(look(&mut source), None);
    assert_eq!(source.running().unwrap().commit(), Some(good));
    assert_eq!(source.attempted().unwrap().commit(), Some(strange));
    let problem = source.problem().unwrap();
    assert_eq!(problem.code, Code::NotVerified);
    let names = format!("commit {} is not trusted", &strange.to_string()[..12]);
    assert!(
        problem.message.starts_with(&names) && problem.message.ends_with("is not in the allowed signers file"),
        "{problem}"
    );
    assert_eq!(look(&mut source), None, "a second look is no other");
    change(repository, "10.99.0.103");
    let better = signed(repository, "alice");
    assert_eq!(look(&mut source), Some(better));
    assert_eq!(source.problem().map(|problem| problem.code), None);
}

#[test]
fn head_asks_that_the_commit_that_is_to_run_is_signed_by_somebody_who_may() {
    let repository = Repository::new();
    let unsigned = repository.head("main");
    for who in ["alice", "mallory"] {
        key(&repository, who);
    }
    let port = port(&repository, Rule::Head, allow(&repository, &["alice"]));
    let refused = format!("commit {} is not trusted: it is not signed", &unsigned.to_string()[..12]);
    assert_eq!(judged(port.pull(None, None, None)), (unsigned, Err(refused)));
    let good = signed(&repository, "alice");
    assert_eq!(judged(port.pull(None, None, None)), (good, Ok(2)));
    let strange = signed(&repository, "mallory");
    let (seen, verdict) = judged(port.pull(None, Some(good), None));
    assert!(seen == strange && verdict.unwrap_err().ends_with("is not in the allowed signers file"));
    // What lies below it does not matter to `head`.
    let good = signed(&repository, "alice");
    assert_eq!(judged(port.pull(None, None, None)), (good, Ok(2)));
}

#[test]
fn strict_asks_it_of_every_commit_since_the_one_that_runs() {
    let repository = Repository::new();
    for who in ["alice", "mallory"] {
        key(&repository, who);
    }
    let port = port(&repository, Rule::Strict, allow(&repository, &["alice"]));
    let first = signed(&repository, "alice");
    assert_eq!(
        judged(port.pull(None, None, None)),
        (first, Ok(2)),
        "at the first start there is nothing to count from"
    );
    let second = signed(&repository, "alice");
    assert_eq!(judged(port.pull(None, Some(first), None)), (second, Ok(2)));
    let bad = signed(&repository, "mallory");
    let head = signed(&repository, "alice");
    let (seen, verdict) = judged(port.pull(None, Some(second), None));
    assert_eq!(seen, head);
    assert!(verdict.unwrap_err().starts_with(&format!("commit {} is not trusted", &bad.to_string()[..12])));
    // A merge brings in what was made aside, too.
    git(&repository.work(), &["reset", "-q", "--hard", &second.to_string()]);
    git(&repository.work(), &["checkout", "-q", "-b", "aside"]);
    git(&repository.work(), &["commit", "-q", "--allow-empty", "-m", "aside"]);
    let aside: CommitHash = git(&repository.work(), &["rev-parse", "HEAD"]).parse().unwrap();
    git(&repository.work(), &["checkout", "-q", "main"]);
    git(&repository.work(), &["merge", "-q", "--no-ff", "--no-commit", "aside"]);
    signed(&repository, "alice");
    let (_, verdict) = judged(port.pull(None, Some(second), None));
    assert!(verdict.unwrap_err().contains(&aside.to_string()[..12]));
}

#[test]
fn a_file_of_signers_that_cannot_be_used_lets_nothing_pass() {
    let repository = Repository::new();
    key(&repository, "alice");
    signed(&repository, "alice");
    let missing = repository.dir.path().join("missing");
    let told = judged(port(&repository, Rule::Head, missing).pull(None, None, None)).1.unwrap_err();
    assert!(
        told.ends_with("missing says who may sign, and cannot be used: No such file or directory (os error 2)"),
        "{told}"
    );
    let broken = repository.dir.path().join("broken");
    fs::write(&broken, "alice\n").unwrap();
    let told = judged(port(&repository, Rule::Head, broken).pull(None, None, None)).1.unwrap_err();
    assert!(told.contains("line 1: expected principals"), "{told}");
}

#[test]
fn a_tag_is_followed_and_a_commit_is_stayed_at() {
    let repository = Repository::new();
    let first = repository.head("main");
    git(&repository.work(), &["tag", "light"]);
    git(&repository.work(), &["tag", "-a", "-m", "a release", "v1"]);
    git(&repository.work(), &["push", "-q", "origin", "light", "v1"]);
    let second = repository.commit(&[("README.md", Some("changed"))]);
    let url = repository.bare().display().to_string();
    for tag in ["light", "v1"] {
        let port = Port::with(&url, |config| {
            source(config).branch = tag.to_owned();
            source(config).is_tag = true;
        });
        let Seen::Revision { revision, .. } = port.pull(None, None, None) else { panic!("{tag}") };
        assert_eq!(revision, Revision::git(tag, first));
        assert!(matches!(port.pull(Some(first), Some(first), None), Seen::Unchanged));
        git(&repository.work(), &["tag", "-f", tag]);
        git(&repository.work(), &["push", "-q", "-f", "origin", tag]);
        assert_eq!(judged(port.pull(Some(first), Some(first), None)).0, second, "a tag that is moved is followed");
    }
    let pinned = Port::with(&url, |config| source(config).pin = Some(first));
    assert_eq!(judged(pinned.pull(None, None, None)).0, first);
    repository.commit(&[("README.md", Some("changed again"))]);
    assert!(matches!(pinned.pull(Some(first), Some(first), None), Seen::Unchanged));
    let nowhere = Port::with(&url, |config| source(config).pin = Some(CommitHash([7; 20])));
    let Seen::Failed(problem) = nowhere.pull(None, None, None) else { panic!("it is nowhere") };
    assert_eq!(problem.code, Code::BranchMissing);
    let no_tag = Port::with(&url, |config| source(config).is_tag = true);
    let Seen::Failed(problem) = no_tag.pull(None, None, None) else { panic!("it is no tag") };
    assert!(problem.message.ends_with("has no tag `main`"), "{}", problem.message);
}

#[test]
fn status_commits_bear_the_name_and_the_signature_that_they_are_given() {
    const BRANCH: &str = "rendezvip/status";
    let repository = Repository::new();
    let main = repository.head("main");
    let scribe = key(&repository, "scribe");
    let port = Port::with(&repository.bare().display().to_string(), |config| {
        if let Some(StatusTarget::Git { author, signing_key_file, .. }) = &mut config.status {
            *author = Author { name: "VIP bot".to_owned(), email: "bot@example.org".to_owned() };
            *signing_key_file = Some(scribe);
        }
    });
    port.pull(None, None, None);
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed);
    assert_eq!(repository.ask(&["log", "-1", "--format=%an <%ae>", BRANCH]), ["VIP bot <bot@example.org>"]);
    assert!(repository.ask(&["log", "-1", "--format=%s", BRANCH])[0].ends_with("[skip ci]"));
    // git itself says whether the signature holds.
    let signers = allow(&repository, &["scribe"]).display().to_string();
    let signers = format!("gpg.ssh.allowedSignersFile={signers}");
    git(&repository.bare(), &["-c", &signers, "verify-commit", BRANCH]);
    let log = repository.ask(&["-c", &signers, "log", "-1", "--format=%G? %GS", BRANCH]);
    assert_eq!(log, ["G scribe@example.org"]);
    git(&repository.bare(), &["fsck", "--strict"]);
}

#[test]
fn a_key_that_cannot_sign_the_status_is_named() {
    let repository = Repository::new();
    let main = repository.head("main");
    let port = Port::with(&repository.bare().display().to_string(), |config| {
        if let Some(StatusTarget::Git { signing_key_file, .. }) = &mut config.status {
            *signing_key_file = Some("/nonexistent/key".into());
        }
    });
    port.pull(None, None, None);
    assert!(port.port.tell(snapshot(main, "edge-a", "edge-a")));
    let Outcome::Told(Written::Failed, Some(problem)) = port.next() else { panic!("it has no key") };
    assert_eq!(problem.code, Code::PushFailed);
    assert!(problem.message.starts_with("/nonexistent/key is to sign the status, and cannot: "), "{problem}");
}
