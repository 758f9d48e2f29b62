//! Where the desired state comes from, and where the status goes: a directory that is swapped, other writers of the branch.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Oid, Repository as Git, Signature};
use rendezvip::lab::cluster::Layout;
use rendezvip::lab::link::Mac;
use rendezvip::lab::now;
use rendezvip::lab::repository::STATUS;
use rendezvip::lab::stage::Stage;

use crate::in_a_patient_lab;
use crate::stages::{NODES, PATIENCE, WEB, on, settle, web, within};

fn pool(addresses: &str) -> String {
    format!("apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: web}}\nspec: {{addresses: [{addresses}]}}\n")
}

/// A folder with a whole set.
fn write_set(stage: &Stage, folder: &Path, pool: &str) {
    std::fs::create_dir_all(folder.join("nodes")).unwrap();
    for (path, text) in stage.cluster.base_manifests() {
        std::fs::write(folder.join(path), text).unwrap();
    }
    std::fs::write(folder.join("pool.yaml"), pool).unwrap();
}

/// Puts the link in place by rename, as git-sync does.
fn swap(link: &Path, target: &Path) {
    let beside = link.with_extension("new");
    symlink(target, &beside).unwrap();
    std::fs::rename(beside, link).unwrap();
}

#[test]
fn a_swapped_directory_is_live_soon_and_never_half_of_two_sets() {
    in_a_patient_lab(|| {
        let mut stage = Stage::new(&NODES, Layout::default(), &[("pool.yaml", &pool("10.99.0.100"))]).unwrap();
        let root: PathBuf = stage.cluster.repository.clone_dir().parent().unwrap().join("swapped");
        let (link, folder) = (root.join("current"), |n: usize| root.join(format!("set-{n}")));
        let address = |n: usize| -> IpAddr { format!("10.99.0.{}", 100 + n).parse().unwrap() };
        write_set(&stage, &folder(0), &pool("10.99.0.100"));
        swap(&link, &folder(0));
        for name in NODES {
            let file = std::fs::read_to_string(stage.cluster.config(name)).unwrap();
            let (before, after) = file.split_once("source: {").unwrap();
            let (_, after) = after.split_once("}}\n").unwrap();
            let file = format!("{before}source: {{directory: {}}}\n{after}", link.display());
            std::fs::write(stage.cluster.config(name), file).unwrap();
        }
        stage.start_all().unwrap();
        stage.bystander.watch(&(0..10).map(address).collect());
        let only = |stage: &Stage, n: usize, limit: Duration| -> Option<Duration> {
            let asked = now();
            stage.bystander.wait(limit, |who: &BTreeMap<IpAddr, Mac>| who.contains_key(&address(n)))?;
            Some(now().since(asked))
        };
        assert!(only(&stage, 0, PATIENCE).is_some(), "{}", stage.logs());
        // Each set has one VIP of its own, so two of them at once would be a mixture. The promise is 500 ms to be live and
        // a moment for asking whether somebody has the address; twice that here.
        let live = Duration::from_millis(1_200);
        for n in 1..=3 {
            write_set(&stage, &folder(n), &pool(&address(n).to_string()));
            swap(&link, &folder(n));
            std::fs::remove_dir_all(folder(n - 1)).unwrap();
            let took = only(&stage, n, PATIENCE);
            assert!(took.is_some_and(|took| took <= live), "set {n}: {took:?}\n{}", stage.logs());
            std::thread::sleep(Duration::from_millis(500));
            let fresh = now().before(Duration::from_millis(200));
            assert_eq!(stage.bystander.claimants(fresh).into_keys().collect::<Vec<_>>(), [address(n)]);
        }
        // An editor saves by renaming over the file.
        let file = folder(3).join("pool.yaml");
        std::fs::write(file.with_extension("swp"), pool(&address(4).to_string())).unwrap();
        std::fs::rename(file.with_extension("swp"), &file).unwrap();
        let took = only(&stage, 4, PATIENCE);
        assert!(took.is_some_and(|took| took <= live), "an editor's save: {took:?}\n{}", stage.logs());
        // The target is missing for 2 s: the last good state goes on.
        std::fs::rename(folder(3), folder(9)).unwrap();
        let missing = now();
        std::thread::sleep(Duration::from_secs(2));
        let silent = stage.bystander.claims(missing).into_iter().filter(|one| one.claim.address == address(4)).count();
        assert!(silent > 20, "it was not served while the target was missing\n{}", stage.logs());
        std::fs::write(folder(9).join("pool.yaml"), pool(&address(5).to_string())).unwrap();
        std::fs::rename(folder(9), folder(3)).unwrap();
        let took = only(&stage, 5, PATIENCE);
        assert!(took.is_some_and(|took| took <= live), "back again: {took:?}\n{}", stage.logs());
    });
}

/// One more commit on the status branch, by somebody else: its parent is what is there, and it adds a file.
fn stranger_pushes(bare: &Path, n: usize) -> Option<Oid> {
    let git = Git::open_bare(bare).unwrap();
    let tip = git.find_reference(&format!("refs/heads/{STATUS}")).unwrap().target()?;
    let parent = git.find_commit(tip).unwrap();
    let blob = git.blob(format!("{n}\n").as_bytes()).unwrap();
    let mut tree = git.treebuilder(Some(&parent.tree().unwrap())).unwrap();
    tree.insert(format!("note-{n}"), blob, 0o100_644).unwrap();
    let tree = git.find_tree(tree.write().unwrap()).unwrap();
    let author = Signature::now("A. Stranger", "stranger@lab.example").unwrap();
    let commit = git.commit(None, &author, &author, "A note of mine", &tree, &[&parent]).unwrap();
    // As a server does it: only if nobody was faster.
    git.reference_matching(&format!("refs/heads/{STATUS}"), commit, true, tip, "push").ok().map(|_| commit)
}

/// When each commit of the cluster's that is above `from` was made, and whether one has its parent's tree.
fn reports(bare: &Path, from: Oid) -> (Vec<i64>, bool) {
    let git = Git::open_bare(bare).unwrap();
    let mut commit = git.find_reference(&format!("refs/heads/{STATUS}")).unwrap().peel_to_commit().unwrap();
    let (mut times, mut idle) = (Vec::new(), false);
    while commit.id() != from {
        let parent = commit.parent(0).unwrap();
        if commit.author().email() != Ok("stranger@lab.example") {
            times.push(commit.time().seconds());
            idle |= commit.tree_id() == parent.tree_id();
        }
        commit = parent;
    }
    (times, idle)
}

#[test]
fn a_strangers_commits_on_the_status_branch_are_kept_and_answered_at_a_measured_pace() {
    in_a_patient_lab(|| {
        let stage = &mut web();
        std::thread::sleep(Duration::from_secs(12));
        let bare = stage.cluster.repository.bare().to_owned();
        let from = stage.cluster.repository.tip(STATUS).expect("a first report");
        let start = now();
        stage.client.mark();
        // Half a minute of the report's minute; a partition makes somebody else the scribe meanwhile.
        let mut pushed = Vec::new();
        for n in 0..6 {
            let mut done = None;
            for _ in 0..50 {
                done = stranger_pushes(&bare, n);
                if done.is_some() {
                    break;
                }
            }
            pushed.push(done.expect("the stranger's push goes through in the end"));
            if n == 1 {
                stage.cluster.segment.partition(&["edge-a"], &["edge-b", "edge-c"]).unwrap();
            }
            if n == 3 {
                stage.cluster.segment.heal().unwrap();
            }
            std::thread::sleep(Duration::from_secs(5));
        }
        settle(stage);
        // A minute of quiet is promised for the last word.
        let right = |stage: &Stage| {
            let files = stage.cluster.repository.files(STATUS);
            let web = files.get("status/pools/web.yaml").map(|text| String::from_utf8_lossy(text).into_owned());
            let all = web.unwrap_or_default().replace('\'', "");
            let told = stage.wanted().iter().all(|(vip, mac)| {
                let owner = stage.name(*mac);
                let after = all.split(&format!("vip: {vip}\n")).nth(1).unwrap_or_default();
                let entry = after.split("- vip:").next().unwrap_or_default();
                entry.contains(&format!("actual: {owner}"))
            });
            told && files.keys().all(|path| !path.starts_with("note-"))
        };
        let told = within(Duration::from_secs(60), || {
            std::thread::sleep(Duration::from_millis(500));
            right(stage)
        });
        let files = stage.cluster.repository.files(STATUS);
        let text = files.get("status/pools/web.yaml").map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(told, "{:?}\n{}\n{}", files.keys().collect::<Vec<_>>(), text.unwrap_or_default(), stage.logs());
        let git = Git::open_bare(&bare).unwrap();
        let tip = stage.cluster.repository.tip(STATUS).unwrap();
        for commit in pushed {
            assert!(git.graph_descendant_of(tip, commit).unwrap(), "a stranger's commit was lost");
        }
        assert!(git.graph_descendant_of(tip, from).unwrap(), "the branch was forced");
        let (times, idle) = reports(&bare, from);
        assert!(!idle, "a commit without a change");
        let busiest = times.iter().map(|at| times.iter().filter(|other| (*at..at + 60).contains(*other)).count()).max();
        assert!(busiest.unwrap_or_default() <= 8, "{busiest:?} reports in a minute");
        assert_eq!(stage.overlaps(start), [""; 0]);
    });
}

/// Threads and open files of a node's daemon, as its own host sees them.
fn resources(stage: &Stage, name: &str) -> (usize, usize) {
    stage.cluster.segment.node(name).place().run(|| {
        let count = |path: &Path| std::fs::read_dir(path).map_or(0, Iterator::count);
        let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let daemons = all
            .filter(|path| std::fs::read_to_string(path.join("cmdline")).is_ok_and(|it| it.contains("run\0--config")));
        // Its helpers have other arguments, or one thread.
        daemons.map(|path| (count(&path.join("task")), count(&path.join("fd")))).max().unwrap_or_default()
    })
}

/// 10 ms were enough to lose it: the node came back with nothing, and waited for git.
#[test]
fn a_node_that_ends_as_soon_as_it_serves_comes_back_to_what_it_served() {
    in_a_patient_lab(|| {
        let mut stage = Stage::new(&NODES, Layout::default(), &[("pools/web.yaml", WEB)]).unwrap();
        stage.start_all().unwrap();
        // The others take over within some milliseconds, so the node ends as soon as it began.
        let vips = stage.vips();
        assert!(within(PATIENCE, || !on(&stage, "edge-b", "eth0").is_disjoint(&vips)), "{}", stage.logs());
        assert!(stage.cluster.stop_daemon("edge-b").unwrap().success(), "{}", stage.logs());
        let config = stage.cluster.config("edge-b");
        let bare = stage.cluster.repository.bare().display().to_string();
        let file = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, file.replace(&bare, "/nowhere/vips.git")).unwrap();
        stage.cluster.start("edge-b").unwrap();
        settle(&mut stage);
    });
}

#[test]
fn a_hanging_git_server_costs_the_vips_nothing_and_is_told_of() {
    in_a_patient_lab(|| {
        let stage = &mut web();
        // A listener that accepts and never answers takes the server's place for one node, which starts on what it has.
        let place = stage.cluster.segment.bystander();
        let listener = place.run(|| std::net::TcpListener::bind("10.99.0.241:3000").unwrap());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            held.extend(listener.incoming().flatten());
        });
        let config = stage.cluster.config("edge-b");
        let good = std::fs::read_to_string(&config).unwrap();
        let bare = stage.cluster.repository.bare().display().to_string();
        std::fs::write(&config, good.replace(&bare, "https://10.99.0.241:3000/vips.git")).unwrap();
        let ended = stage.cluster.stop_daemon("edge-b").unwrap();
        assert!(ended.success(), "{ended}\n{}", stage.logs());
        stage.cluster.start("edge-b").unwrap();
        settle(stage);
        stage.client.mark();
        let (start, late) = (now(), stage.late_beats());
        std::thread::sleep(Duration::from_secs(10));
        let before = resources(stage, "edge-b");
        assert!(before.0 > 1, "{before:?}");
        let told = stage.cluster.wait_status("edge-b", Duration::from_secs(60), |status| {
            status.conditions.iter().any(|one| format!("{one:?}").contains("RV04"))
        });
        assert!(told.is_some(), "{:?}\n{}", stage.cluster.status("edge-b").map(|it| it.conditions), stage.logs());
        let asked = now();
        stage.cluster.status("edge-b").unwrap();
        assert!(now().since(asked) < Duration::from_secs(1), "status took {:?}", now().since(asked));
        let after = resources(stage, "edge-b");
        assert!(after.0 <= before.0 + 2 && after.1 <= before.1 + 6, "it grows: {before:?}, then {after:?}");
        if stage.late_beats() == late {
            assert_eq!(stage.lost(), 0, "{:?}\n{}", stage.losses(start), stage.logs());
        }
        // A commit waits; the others go over to it within 65 s, it shows as behind, and no VIP is ownerless for that.
        let wider = WEB.replace("10.99.0.105", "10.99.0.106");
        stage.push("One more", &[("pools/web.yaml", &wider)], "edge-a").unwrap();
        let vip: IpAddr = "10.99.0.106".parse().unwrap();
        stage.client.mark();
        let (pushed, late) = (now(), stage.late_beats());
        let live = stage.bystander.wait(Duration::from_secs(100), |who| who.contains_key(&vip));
        assert!(live.is_some(), "{}", stage.logs());
        let took = now().since(pushed);
        let (served, others) = (stage.client.report(), stage.vips().into_iter().filter(|one| *one != vip));
        let gap = others.filter_map(|one| served.get(&one)).map(|one| one.longest).max().unwrap_or_default();
        if stage.late_beats() == late {
            assert!(took <= Duration::from_secs(70), "the others went over to it after {took:?}");
            assert!(gap <= Duration::from_millis(100), "a VIP had nobody for {gap:?}\n{}", stage.logs());
        }
        let told = stage.cluster.wait_status("edge-a", Duration::from_secs(10), |status| {
            let edge_b = status.members.iter().find(|one| one.node.as_str() == "edge-b");
            edge_b.and_then(|one| one.note.as_ref()).is_some_and(|note| note.reason == "Behind")
        });
        assert!(told.is_some(), "{:?}\n{}", stage.cluster.status("edge-a").map(|it| it.members), stage.logs());
        assert_eq!(stage.overlaps(start), [""; 0]);
        let stopping = now();
        let ended = stage.cluster.stop_daemon("edge-b").unwrap();
        assert!(ended.success(), "{ended}");
        assert!(now().since(stopping) < Duration::from_secs(5), "SIGTERM took {:?}", now().since(stopping));
        std::fs::write(&config, good).unwrap();
        stage.cluster.start("edge-b").unwrap();
        settle(stage);
    });
}
