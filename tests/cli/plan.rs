//! `rendezvip plan` and `rendezvip render`: a change from every side, through every format.

use std::fs;
use std::path::{Path, PathBuf};

use git2::{IndexAddOption, Repository, Signature};
use tempfile::TempDir;

use crate::{rendezvip, run};

/// A repository of three nodes and two pools, which `change` then changes; the first state is its commit `HEAD`.
struct Change {
    folder: TempDir,
}

impl Change {
    fn new() -> Self {
        let folder = TempDir::new().expect("a scratch directory");
        let change = Self { folder };
        change.write("vips/cluster.yaml", "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\n");
        for (at, node) in ["edge-a", "edge-b", "edge-c"].iter().enumerate() {
            change.node(node, &format!("address: 10.99.0.{}", 10 + at));
        }
        change.pool("web", "addresses: [10.99.0.100-10.99.0.105, \"fd99::100\"]");
        change.pool("db", "addresses: [10.99.0.110]\n  prefer: [edge-c]");
        let repository = Repository::init(change.folder.path()).expect("a repository");
        let mut index = repository.index().expect("an index");
        index.add_all(["*"], IndexAddOption::DEFAULT, None).expect("files are added");
        let tree = repository.find_tree(index.write_tree().expect("a tree")).expect("the tree");
        let somebody = Signature::now("somebody", "somebody@example.org").expect("a signature");
        repository.commit(Some("HEAD"), &somebody, &somebody, "first", &tree, &[]).expect("a commit");
        change
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn node(&self, name: &str, spec: &str) {
        let text = format!("apiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n");
        self.write(&format!("vips/nodes/{name}.yaml"), &text);
    }

    fn pool(&self, name: &str, spec: &str) {
        let text = format!("apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n");
        self.write(&format!("vips/pools/{name}.yaml"), &text);
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("vips")
    }

    /// What the command says; the scratch directory's own name is not in it.
    fn run(&self, command: &str, arguments: &[&str]) -> String {
        let dir = self.dir();
        let mut all = vec![command, dir.to_str().expect("a path of UTF-8")];
        all.extend(arguments);
        run(&all).replace(dir.to_str().expect("a path of UTF-8"), "DIR")
    }

    fn code(&self, arguments: &[&str]) -> Option<i32> {
        rendezvip().arg("plan").arg(self.dir()).args(arguments).output().expect("the binary runs").status.code()
    }
}

/// edge-a is drained, a pool comes, an address goes.
fn busy() -> Change {
    let change = Change::new();
    change.node("edge-a", "address: 10.99.0.10\n  cordon: true");
    change.pool("web", "addresses: [10.99.0.100-10.99.0.104, \"fd99::100\"]");
    change.pool("mail", "addresses: [10.99.0.25]\n  handover: {linger: 5m}");
    change
}

#[test]
fn a_change_is_shown_in_every_format_against_its_revision() {
    for format in ["human", "json", "markdown", "github"] {
        let shown = busy().run("plan", &["--base", "HEAD", "--format", format]);
        insta::assert_snapshot!(format!("busy-{format}"), shown);
    }
}

#[test]
fn without_a_base_nothing_moves() {
    insta::assert_snapshot!("owners", Change::new().run("plan", &[]));
}

#[test]
fn the_exit_code_tells_whether_anything_moves() {
    let change = Change::new();
    assert_eq!(change.code(&["--base", "HEAD", "--detailed-exitcode"]), Some(0));
    let change = busy();
    assert_eq!(change.code(&["--base", "HEAD", "--detailed-exitcode"]), Some(2));
    assert_eq!(change.code(&["--base", "HEAD"]), Some(0));
    assert_eq!(change.code(&["--base", "no-such-branch", "--detailed-exitcode"]), Some(1));
    change.write("vips/nodes/edge-a.yaml", "kind: Nod\n");
    assert_eq!(change.code(&["--base", "HEAD", "--detailed-exitcode"]), Some(1));
    assert_eq!(change.code(&["--bass"]), Some(64));
}

#[test]
fn a_base_may_be_a_directory() {
    let before = Change::new();
    let after = busy();
    let by_revision = after.run("plan", &["--base", "HEAD", "--format", "json"]);
    let by_directory = after.run("plan", &["--base", before.dir().to_str().unwrap(), "--format", "json"]);
    assert_eq!(by_revision, by_directory);
}

#[test]
fn with_live_alone_the_moves_are_what_the_others_absence_makes() {
    insta::assert_snapshot!("live", Change::new().run("plan", &["--live", "edge-a,edge-c"]));
}

#[test]
fn with_live_and_a_base_the_absent_are_absent_on_both_sides() {
    let shown = Change::new().run("plan", &["--live", "edge-a,edge-c", "--base", "HEAD"]);
    assert!(shown.contains("against HEAD: no VIP moves"), "{shown}");
}

#[test]
fn a_suspended_pool_keeps_its_owners_in_the_plan() {
    let change = Change::new();
    change.pool("web", "addresses: [10.99.0.100-10.99.0.105, \"fd99::100\"]\n  suspend: true\n  prefer: [edge-b]");
    let shown = change.run("plan", &["--base", "HEAD"]);
    assert!(shown.contains("no VIP moves"), "{shown}");
}

#[test]
fn a_base_without_manifests_declares_nothing() {
    let change = Change::new();
    let dir = change.folder.path().join("elsewhere");
    fs::rename(change.dir(), &dir).unwrap();
    let shown = run(&["plan", dir.to_str().unwrap(), "--base", "HEAD"]);
    assert!(shown.contains("against HEAD: 8 VIPs begin"), "{shown}");
}

#[test]
fn many_moves_are_grouped_in_a_comment() {
    let change = Change::new();
    change.pool("web", "addresses: [10.99.1.0/24]");
    let shown = change.run("plan", &["--base", "HEAD", "--format", "markdown"]);
    insta::assert_snapshot!("grouped-markdown", shown);
}

impl Change {
    /// Commits what lies in the scratch directory on top of HEAD, and returns its hash.
    fn commit(&self, branch: &str) -> String {
        let repository = Repository::open(self.folder.path()).expect("the repository");
        let mut index = repository.index().expect("an index");
        index.add_all(["*"], IndexAddOption::DEFAULT, None).expect("files are added");
        index.update_all(["*"], None).expect("files are removed");
        let tree = repository.find_tree(index.write_tree().expect("a tree")).expect("the tree");
        let somebody = Signature::now("somebody", "somebody@example.org").expect("a signature");
        let parent = repository.head().and_then(|it| it.peel_to_commit()).expect("HEAD");
        let reference = format!("refs/heads/{branch}");
        repository
            .commit(Some(&reference), &somebody, &somebody, "next", &tree, &[&parent])
            .expect("a commit")
            .to_string()
    }
}

#[test]
fn a_range_compares_two_revisions_whatever_lies_on_disk() {
    let change = busy();
    change.commit("feature");
    let on_disk = change.run("plan", &["--base", "HEAD", "--format", "json"]);
    change.write("vips/cluster.yaml", "kind: Nonsense\n");
    assert_eq!(change.run("plan", &["--base", "HEAD..feature", "--format", "json"]), on_disk);
    assert_eq!(change.run("plan", &["--base", "..feature", "--format", "json"]), on_disk);
    assert_eq!(change.run("plan", &["--base", "feature...feature", "--format", "json"]).matches("\"from\"").count(), 0);
    assert_eq!(change.run("plan", &["--revision", "feature", "--base", "HEAD", "--format", "json"]), on_disk);
    let missing = change.run("plan", &["--base", "HEAD...nowhere"]);
    assert!(missing.starts_with("exit: 1\n") && missing.contains("error[RV0641]"), "{missing}");
    assert!(change.run("validate", &["--revision", "feature"]).starts_with("exit: 0"));
    let broken = change.run("validate", &["--prefix", "vips"]);
    assert!(broken.contains("\nvips/cluster.yaml:1:1: error[RV0110]"), "{broken}");
}

#[test]
fn what_cannot_be_compared_is_told_with_a_remedy() {
    let change = Change::new();
    insta::assert_snapshot!(change.run("plan", &["--live", "edge-x"]), @r#"
            exit: 1
            ----- stdout -----
            ----- stderr -----
            error[RV0640]: --live names edge-x, which is no declared node
              = help: declared: edge-a, edge-b, edge-c
            "#);
    insta::assert_snapshot!(change.run("plan", &["--base", "no-such-branch"]), @r#"
            exit: 1
            ----- stdout -----
            ----- stderr -----
            error[RV0641]: `no-such-branch` is neither a directory nor a revision: revspec 'no-such-branch' not found
              = help: fetch the branch first, as in `git fetch origin main`, and name `origin/main`; a clone of depth 1 has no other revision
            "#);
    let nowhere = TempDir::new().unwrap();
    copy(&change.dir(), nowhere.path());
    let shown = run(&["plan", nowhere.path().to_str().unwrap(), "--base", "main"]);
    assert!(shown.starts_with("exit: 1") && shown.contains("error[RV0642]"), "{shown}");
    let broken = Change::new();
    broken.write("vips/cluster.yaml", "kind: Cluster\n");
    let dir = broken.dir();
    let shown = change.run("plan", &["--base", dir.to_str().unwrap()]).replace(dir.to_str().unwrap(), "BASE");
    insta::assert_snapshot!(shown, @r#"
            exit: 1
            ----- stdout -----
            ----- stderr -----
            error[RV0643]: the base `BASE` is not valid: cluster.yaml:1:1: error[RV0110]: this mapping has no `apiVersion`, so it is not a manifest
              = help: compare with a revision that is, such as the one that runs: `rendezvip status`
            "#);
    insta::assert_snapshot!(broken.run("plan", &["--base", "HEAD"]), @r#"
            exit: 1
            ----- stdout -----
            cluster.yaml:1:1: error[RV0110]: this mapping has no `apiVersion`, so it is not a manifest
             1 | kind: Cluster
               | ^^^^
               = help: begin it with `apiVersion: rendezvip/v1`

            1 error
            ----- stderr -----
            "#);
}

#[test]
fn the_lock_file_is_written_checked_and_found_stale() {
    let change = Change::new();
    insta::assert_snapshot!(change.run("render", &["--check"]), @r#"
            exit: 1
            ----- stdout -----
            placement.lock.yaml is missing
            run `rendezvip render DIR` and commit the file
            ----- stderr -----
            "#);
    insta::assert_snapshot!(change.run("render", &[]), @r#"
            exit: 0
            ----- stdout -----
            placement.lock.yaml written: 8 VIPs
            ----- stderr -----
            "#);
    insta::assert_snapshot!("lock", fs::read_to_string(change.dir().join("placement.lock.yaml")).unwrap());
    insta::assert_snapshot!(change.run("render", &["--check"]), @r#"
            exit: 0
            ----- stdout -----
            placement.lock.yaml is up to date: 8 VIPs
            ----- stderr -----
            "#);
    let windows = fs::read_to_string(change.dir().join("placement.lock.yaml")).unwrap().replace('\n', "\r\n");
    change.write("vips/placement.lock.yaml", &windows);
    assert!(change.run("render", &["--check"]).starts_with("exit: 0"));

    change.node("edge-c", "address: 10.99.0.12\n  cordon: true");
    insta::assert_snapshot!(change.run("render", &["--check"]), @r#"
            exit: 1
            ----- stdout -----
            placement.lock.yaml is stale: 6 VIPs differ
              10.99.0.100: {owner: edge-c, backup: edge-b} is now {owner: edge-b, backup: edge-a}
              10.99.0.101: {owner: edge-b, backup: edge-c} is now {owner: edge-b, backup: edge-a}
              10.99.0.103: {owner: edge-c, backup: edge-a} is now {owner: edge-a, backup: edge-b}
              10.99.0.104: {owner: edge-a, backup: edge-c} is now {owner: edge-a, backup: edge-b}
              10.99.0.105: {owner: edge-c, backup: edge-b} is now {owner: edge-b, backup: edge-a}
              10.99.0.110: {owner: edge-c, backup: edge-a} is now {owner: edge-a, backup: edge-b}
            run `rendezvip render DIR` and commit the file
            ----- stderr -----
            "#);
    insta::assert_snapshot!(change.run("render", &["--check", "--format", "json"]), @r#"
            exit: 1
            ----- stdout -----
            {"file":"placement.lock.yaml","fresh":false,"written":false,"differs":[{"vip":"10.99.0.100","found":"{owner: edge-c, backup: edge-b}","wanted":"{owner: edge-b, backup: edge-a}"},{"vip":"10.99.0.101","found":"{owner: edge-b, backup: edge-c}","wanted":"{owner: edge-b, backup: edge-a}"},{"vip":"10.99.0.103","found":"{owner: edge-c, backup: edge-a}","wanted":"{owner: edge-a, backup: edge-b}"},{"vip":"10.99.0.104","found":"{owner: edge-a, backup: edge-c}","wanted":"{owner: edge-a, backup: edge-b}"},{"vip":"10.99.0.105","found":"{owner: edge-c, backup: edge-b}","wanted":"{owner: edge-b, backup: edge-a}"},{"vip":"10.99.0.110","found":"{owner: edge-c, backup: edge-a}","wanted":"{owner: edge-a, backup: edge-b}"}]}
            ----- stderr -----
            "#);
    insta::assert_snapshot!(change.run("render", &[]), @r#"
            exit: 0
            ----- stdout -----
            placement.lock.yaml written: 8 VIPs, 6 VIPs differ from before
              10.99.0.100: {owner: edge-c, backup: edge-b} is now {owner: edge-b, backup: edge-a}
              10.99.0.101: {owner: edge-b, backup: edge-c} is now {owner: edge-b, backup: edge-a}
              10.99.0.103: {owner: edge-c, backup: edge-a} is now {owner: edge-a, backup: edge-b}
              10.99.0.104: {owner: edge-a, backup: edge-c} is now {owner: edge-a, backup: edge-b}
              10.99.0.105: {owner: edge-c, backup: edge-b} is now {owner: edge-b, backup: edge-a}
              10.99.0.110: {owner: edge-c, backup: edge-a} is now {owner: edge-a, backup: edge-b}
            ----- stderr -----
            "#);
    assert!(change.run("render", &["--check"]).starts_with("exit: 0"));
    // What render wrote is no manifest, and says nothing to validate.
    assert!(change.run("validate", &[]).starts_with("exit: 0"));
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
