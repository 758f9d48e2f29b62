//! A directory that somebody else keeps up to date, as git-sync and editors do.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rendezvip::agent::watch::Watch;
use rendezvip::source::Seen;
use rendezvip::source::problem::Code;

use crate::port::MANIFESTS;

/// A set must be live by then: well before the slow poll, on a machine with other things to do.
const SOON: Duration = Duration::from_secs(2);

struct Watched {
    _watch: Watch,
    seen: Receiver<Seen>,
}

impl Watched {
    fn new(path: &Path) -> Self {
        let (sender, seen) = channel();
        let watch = Watch::new(path, move |what| drop(sender.send(what))).unwrap();
        Self { _watch: watch, seen }
    }

    /// How many VIPs the next valid set declares, and that it came soon.
    fn vips(&self) -> usize {
        match self.seen.recv_timeout(SOON) {
            Ok(Seen::Revision { parsed: Ok(desired), .. }) => {
                desired.pools.values().map(|pool| pool.addresses.len()).sum()
            }
            other => panic!("{other:?}"),
        }
    }

    fn quiet(&self, for_so_long: Duration) {
        if let Ok(seen) = self.seen.recv_timeout(for_so_long) {
            panic!("{seen:?}");
        }
    }
}

/// Writes a set of two files that fit only each other: a pool of `n` VIPs that prefers the node `n`.
fn set(folder: &Path, n: usize) {
    std::fs::create_dir_all(folder.join("pools")).unwrap();
    let node = format!("apiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: n{n}}}\nspec: {{address: 10.0.0.1}}\n");
    let cluster = "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\n---\n";
    std::fs::write(folder.join("cluster.yaml"), format!("{cluster}{node}")).unwrap();
    std::fs::write(folder.join("pools/web.yaml"), pool(n)).unwrap();
}

fn pool(n: usize) -> String {
    format!(
        "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: web}}\n\
         spec: {{addresses: [10.1.0.1-10.1.0.{n}], prefer: [n{n}]}}\n"
    )
}

/// Puts the link `name` to `target` in place by rename, as git-sync does.
fn swap(dir: &Path, name: &str, target: &Path) {
    let beside = dir.join("link.new");
    symlink(target, &beside).unwrap();
    std::fs::rename(beside, dir.join(name)).unwrap();
}

#[test]
fn a_swapped_link_gives_each_set_whole_and_soon() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    set(&at("worktrees/1"), 1);
    swap(dir.path(), "current", Path::new("worktrees/1"));
    let watched = Watched::new(&at("current"));
    assert_eq!(watched.vips(), 1);
    for n in 2..=5 {
        set(&at(&format!("worktrees/{n}")), n);
        swap(dir.path(), "current", Path::new(&format!("worktrees/{n}")));
        std::fs::remove_dir_all(at(&format!("worktrees/{}", n - 1))).unwrap();
        assert_eq!(watched.vips(), n);
    }
    watched.quiet(Duration::from_millis(300));
}

#[test]
fn a_link_above_the_path_may_be_swapped_too() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    set(&at("worktrees/1/lab"), 1);
    set(&at("worktrees/2/lab"), 2);
    swap(dir.path(), "current", Path::new("worktrees/1"));
    let watched = Watched::new(&at("current/lab"));
    assert_eq!(watched.vips(), 1);
    swap(dir.path(), "current", &at("worktrees/2"));
    assert_eq!(watched.vips(), 2);
}

#[test]
fn sets_swapped_as_fast_as_can_be_are_never_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let worktree = |n: usize| at(&format!("worktrees/{n}"));
    set(&worktree(1), 1);
    swap(dir.path(), "current", &worktree(1));
    let watched = Watched::new(&at("current"));
    assert_eq!(watched.vips(), 1);
    let start = Instant::now();
    let mut n = 1;
    while start.elapsed() < Duration::from_secs(2) {
        let old = worktree(n);
        n = n % 200 + 1;
        set(&worktree(n), n);
        swap(dir.path(), "current", &worktree(n));
        std::fs::remove_dir_all(old).unwrap();
    }
    // A mixture would prefer a node that its set does not declare, and so be invalid.
    let mut last = 0;
    while let Ok(seen) = watched.seen.recv_timeout(SOON) {
        match seen {
            Seen::Revision { parsed: Ok(desired), .. } => last = desired.pools.values().next().unwrap().addresses.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(last, n);
}

#[test]
fn an_editor_that_renames_over_a_file_is_seen_and_its_helpers_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    set(dir.path(), 3);
    let watched = Watched::new(dir.path());
    assert_eq!(watched.vips(), 3);
    std::fs::write(at("pools/.web.yaml.swp"), "x").unwrap();
    symlink("somebody@host.1234", at("pools/.#web.yaml")).unwrap();
    watched.quiet(Duration::from_millis(400));
    std::fs::write(at("pools/web.yaml~"), pool(4).replace("prefer: [n4]", "prefer: []")).unwrap();
    std::fs::rename(at("pools/web.yaml~"), at("pools/web.yaml")).unwrap();
    assert_eq!(watched.vips(), 4);
}

#[test]
fn a_folder_that_is_new_is_read_and_watched() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    set(dir.path(), 3);
    let watched = Watched::new(dir.path());
    assert_eq!(watched.vips(), 3);
    let more = |address: &str| {
        format!("apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: db}}\nspec: {{addresses: [{address}]}}\n")
    };
    std::fs::create_dir_all(at("new/deep")).unwrap();
    std::fs::write(at("new/deep/db.yaml"), more("10.2.0.1")).unwrap();
    assert_eq!(watched.vips(), 4);
    std::fs::write(at("new/deep/db.yaml"), more("10.2.0.1-10.2.0.2")).unwrap();
    assert_eq!(watched.vips(), 5);
}

#[test]
fn a_missing_target_is_told_and_the_next_one_is_live_soon() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    set(&at("set"), 1);
    symlink("set", at("current")).unwrap();
    let watched = Watched::new(&at("current"));
    assert_eq!(watched.vips(), 1);
    std::fs::rename(at("set"), at("away")).unwrap();
    watched.quiet(Duration::from_millis(700));
    match watched.seen.recv_timeout(Duration::from_secs(2)) {
        Ok(Seen::Failed(problem)) => assert_eq!(problem.code, Code::DirectoryMissing, "{problem}"),
        other => panic!("{other:?}"),
    }
    std::fs::rename(at("away"), at("set")).unwrap();
    assert!(matches!(watched.seen.recv_timeout(SOON), Ok(Seen::Unchanged)));
    std::fs::remove_dir_all(at("set")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    set(&at("set"), 2);
    assert_eq!(watched.vips(), 2);
}

#[test]
fn a_bad_set_is_told_once_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("all.yaml"), MANIFESTS.replace("10.99.0.100-", "127.0.0.1-")).unwrap();
    let watched = Watched::new(dir.path());
    match watched.seen.recv_timeout(SOON) {
        Ok(Seen::Revision { parsed: Err(problem), .. }) => {
            assert!(problem.message.starts_with("all.yaml:18:"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    watched.quiet(Duration::from_millis(300));
}
