//! Scale: what no peer is needed for. Ten thousand VIPs, the way of a commit, plans, the simulator.
//!
//! In: `cargo bench --bench scale [-- OPTION…]`, see [`USAGE`]. Out: a line a measurement, and their part of the page.
//! Not here: faults beside others (`side_by_side`), what is made of it (`report`).

mod lab;
mod plot;
mod report;
mod results;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use rendezvip::lab::bystander::Bystander;
use rendezvip::lab::cluster::{Cluster, Layout};
use rendezvip::lab::link::Mac;
use rendezvip::lab::namespace::{BINARY, ROOT};
use rendezvip::lab::{LabError, now};
use rendezvip::time::Instant;

use lab::step;
use results::{Book, Row};

const USAGE: &str = "\
usage: scale [--rounds N] [--parts LIST] [--out FOLDER] [--keep]
  --rounds N    rounds of cold start and death (3); of everything short, three times as many
  --parts LIST  of many,commit,plan,simulate,report; all of them unless told (report alone measures nothing)
  --out FOLDER  writes the page and the measurements there (`docs`, seen from the workspace); else to stdout
  --keep        adds to the measurements that are there";

const NODES: [&str; 3] = ["edge-a", "edge-b", "edge-c"];

/// VIPs of `many` and `plan`.
const MANY: usize = 10_000;

/// Nodes of `plan`.
const PLANNED: usize = 100;

/// The longest that anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

struct Options {
    rounds: usize,
    parts: String,
    out: Option<PathBuf>,
    keep: bool,
}

fn main() -> ExitCode {
    lab::main(USAGE, options, bench)
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut options = Options { rounds: 3, parts: "many,commit,plan,simulate".to_owned(), out: None, keep: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => options.rounds = value()?.parse().map_err(|_| "--rounds needs a number".to_owned())?,
            "--parts" => options.parts.clone_from(value()?),
            "--out" => options.out = Some(results::folder(value()?)),
            "--keep" => options.keep = true,
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

fn bench(options: Options) -> Result<(), LabError> {
    let has = |part: &str| options.parts.split(',').any(|one| one == part);
    let mut book = options.out.as_deref().map_or_else(Book::default, |out| Book::read(out, report::SCALE));
    if !has("report") {
        if !options.keep {
            step("begin the book", book.forget(|_| true))?;
        }
        step("write the book", book.machine())?;
        for round in 1..=options.rounds {
            if has("many") {
                many(&mut book, round)?;
            }
        }
        for (directory, case) in [(true, "commit to wire, directory"), (false, "commit to wire, git")] {
            if has("commit") {
                commit(&mut book, directory, case, options.rounds * 3)?;
            }
        }
        if has("plan") {
            plan(&mut book, options.rounds * 3)?;
        }
        if has("simulate") {
            simulate(&mut book)?;
        }
    }
    step("write the page", report::write(options.out.as_deref(), &book))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn add(book: &mut Book, row: Row) -> Result<(), LabError> {
    step("write a measurement", book.add(row))
}

fn vip(number: usize) -> IpAddr {
    let first = Ipv4Addr::new(10, 99, 32, 0).to_bits();
    Ipv4Addr::from_bits(first + u32::try_from(number).unwrap_or_default()).into()
}

fn pool(name: &str, first: usize, count: usize) -> String {
    let last = vip(first + count - 1);
    format!(
        "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: {name}}}\nspec:\n  \
         addresses: [\"{}-{last}\"]\n  failback: manual\n",
        vip(first)
    )
}

/// A cluster that nothing was started of, with one pool.
fn cluster(layout: Layout, vips: usize) -> Result<Cluster, LabError> {
    let cluster = Cluster::new(&NODES, layout)?;
    let mut files = cluster.base_manifests();
    files.push(("pools/web.yaml".to_owned(), pool("web", 0, vips)));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    cluster.repository.push("The VIPs", &files)?;
    Ok(cluster)
}

/// When each VIP was first claimed since `since`, by anybody but `but`.
fn firsts(bystander: &Bystander, since: Instant, but: Option<Mac>) -> BTreeMap<IpAddr, (Instant, Mac)> {
    let mut firsts = BTreeMap::new();
    for one in bystander.claims(since) {
        if Some(one.claim.mac) != but {
            firsts.entry(one.claim.address).or_insert((one.at, one.claim.mac));
        }
    }
    firsts
}

/// Waits until each of `vips` was claimed since `since`, by anybody but `but`; when the last of them was.
///
/// The kernel's queues between the hosts of a lab hold a thousand frames, so some announcements of ten thousand are
/// lost on their way to the bystander. It asks for what it missed once nothing more comes, and its answer counts.
fn all_claimed(bystander: &Bystander, vips: &BTreeSet<IpAddr>, since: Instant, but: Option<Mac>) -> Option<Instant> {
    const QUIET: Duration = Duration::from_millis(100);
    const AT_ONCE: usize = 200;
    let mut last = (0, now());
    while now().since(since) < PATIENCE {
        let firsts = firsts(bystander, since, but);
        let missing: Vec<IpAddr> = vips.iter().copied().filter(|vip| !firsts.contains_key(vip)).collect();
        if missing.is_empty() {
            return vips.iter().filter_map(|vip| firsts.get(vip)).map(|(at, _)| *at).max();
        }
        if missing.len() != last.0 {
            last = (missing.len(), now());
        } else if missing.len() < vips.len() / 2 && now().since(last.1) > QUIET {
            bystander.ask(missing.into_iter().take(AT_ONCE));
        }
        thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Ten thousand VIPs: cold start, memory, time of the processor, frames at rest, death of a node.
fn many(book: &mut Book, round: usize) -> Result<(), LabError> {
    /// The daemons have nothing to do by then.
    const CALM: Duration = Duration::from_secs(10);
    const OVER: Duration = Duration::from_secs(20);
    let row = |case: &str| Row::new("rendezvip", case, MANY, "IPv4", round);
    let mut cluster = cluster(Layout::default(), MANY)?;
    let bystander = Bystander::start(cluster.segment.bystander(), "eth0", cluster.segment.bystander_addresses())?;
    let vips: BTreeSet<IpAddr> = (0..MANY).map(vip).collect();
    // It listens alone: what it asked would be work for those who start.
    bystander.pause(true);
    bystander.watch(&vips);
    let start = now();
    for name in NODES {
        cluster.start(name)?;
    }
    let Some(last) = all_claimed(&bystander, &vips, start, None) else {
        let claimed = u64::try_from(firsts(&bystander, start, None).len()).unwrap_or_default();
        for name in NODES {
            eprintln!("-- {name}\n{}", cluster.log_tail(name));
        }
        return add(book, row("cold start").with("never", 1).with("claimed", claimed));
    };
    add(book, row("cold start").with("last_us", micros(last.since(start))))?;
    thread::sleep(CALM);

    // Each of them is asked once.
    let asked = now();
    bystander.pace(Duration::from_secs(3));
    bystander.pause(false);
    let answered = all_claimed(&bystander, &vips, asked, None);
    bystander.pause(true);
    let owners = firsts(&bystander, asked, None);
    add(book, row("answers").with("vips", u64::try_from(owners.len()).unwrap_or_default()))?;
    if answered.is_none() {
        return Ok(());
    }
    thread::sleep(CALM);

    let processes: Vec<Vec<u32>> = NODES.iter().filter_map(|name| cluster.process(name).map(family)).collect();
    let frames = || -> io::Result<Vec<u64>> {
        NODES.iter().map(|name| cluster.segment.counters(name).map(|counters| counters.sent)).collect()
    };
    let (before, sent) = (processes.iter().map(|one| ran(one)).collect::<Vec<u64>>(), step("count frames", frames())?);
    thread::sleep(OVER);
    let after: Vec<u64> = processes.iter().map(|one| ran(one)).collect();
    let used = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before)).max();
    add(book, row("idle").with("cpu_us", used.unwrap_or_default() / 1_000).with("seconds", OVER.as_secs()))?;
    let sent = sent.iter().zip(step("count frames", frames())?).map(|(before, after)| after - before).max();
    add(book, row("at rest").with("frames", sent.unwrap_or_default()).with("seconds", OVER.as_secs()))?;
    let memory = |field: &str| {
        let daemon = processes.iter().filter_map(|one| one.first()).map(|process| resident(*process, field)).max();
        let all = processes.iter().map(|one| one.iter().map(|process| resident(*process, field)).sum::<u64>()).max();
        (daemon.unwrap_or_default(), all.unwrap_or_default())
    };
    let ((daemon, all), (peak, _)) = (memory("VmRSS:"), memory("VmHWM:"));
    add(book, row("memory").with("daemon_kib", daemon).with("all_kib", all).with("daemon_peak_kib", peak))?;

    let victim = NODES[round % NODES.len()];
    let mac = cluster.segment.node(victim).seat().mac();
    let hit: BTreeSet<IpAddr> = owners.iter().filter(|(_, (_, owner))| *owner == mac).map(|(vip, _)| *vip).collect();
    let struck = now();
    step("strike", cluster.segment.power_off(victim))?;
    let row = row("death").with("hit", u64::try_from(hit.len()).unwrap_or_default());
    let Some(last) = all_claimed(&bystander, &hit, struck, Some(mac)) else {
        return add(book, row.with("never", 1));
    };
    let first = firsts(&bystander, struck, Some(mac));
    let first = hit.iter().filter_map(|vip| first.get(vip)).map(|(at, _)| *at).min().unwrap_or(last);
    add(book, row.with("first_us", micros(first.since(struck))).with("last_us", micros(last.since(struck))))
}

/// A process and all that it started, itself first.
fn family(process: u32) -> Vec<u32> {
    let mut found = vec![process];
    let parent = |process: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name may hold anything, and ends at the last parenthesis (proc_pid_stat(5)).
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    };
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut all: Vec<u32> = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    for one in all {
        if parent(one).is_some_and(|parent| found.contains(&parent)) {
            found.push(one);
        }
    }
    found
}

/// Nanoseconds that the threads of these processes ran (proc(5), schedstat).
fn ran(processes: &[u32]) -> u64 {
    let threads =
        processes.iter().flat_map(|process| fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten());
    let spent = threads.flatten().filter_map(|thread| {
        fs::read_to_string(thread.path().join("schedstat")).ok()?.split_whitespace().next()?.parse::<u64>().ok()
    });
    spent.sum()
}

/// A field of a process's status, in KiB.
fn resident(process: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// A pool comes by a commit (or a file): when is its VIP claimed on the wire?
fn commit(book: &mut Book, directory: bool, case: &str, rounds: usize) -> Result<(), LabError> {
    const VIPS: usize = 6;
    let mut cluster = cluster(Layout { directory, ..Layout::default() }, VIPS)?;
    let bystander = Bystander::start(cluster.segment.bystander(), "eth0", cluster.segment.bystander_addresses())?;
    bystander.watch(&(0..VIPS + rounds).map(vip).collect());
    let start = now();
    for name in NODES {
        cluster.start(name)?;
    }
    if all_claimed(&bystander, &(0..VIPS).map(vip).collect(), start, None).is_none() {
        return add(book, Row::new("rendezvip", case, VIPS, "IPv4", 0).with("never", 1));
    }
    for round in 1..=rounds {
        // Longer than anything that a change before it may still have to do.
        thread::sleep(Duration::from_secs(3));
        let row = Row::new("rendezvip", case, VIPS + round, "IPv4", round);
        let added = VIPS + round - 1;
        let (name, text) = (format!("pools/more-{round}.yaml"), pool(&format!("more-{round}"), added, 1));
        let start = if directory {
            // As an editor does it: beside, then in place.
            let (beside, place) =
                (cluster.repository.clone_dir().join(".new"), cluster.repository.clone_dir().join(&name));
            step("write a pool", fs::write(&beside, text))?;
            let start = now();
            step("put a pool in place", fs::rename(beside, place))?;
            start
        } else {
            cluster.repository.push("One more", &[(&name, &text)])?;
            let start = now();
            // As a web hook does.
            step("tell a node to fetch", cluster.tell(NODES[0], &["reconcile"]).map(drop))?;
            start
        };
        let claimed = all_claimed(&bystander, &[vip(added)].into(), start, None);
        let row = match claimed {
            Some(at) => row.with("wire_us", micros(at.since(start))),
            None => row.with("never", 1),
        };
        add(book, row)?;
    }
    Ok(())
}

/// `rendezvip plan` over ten thousand VIPs and a hundred nodes, the start of the process included.
fn plan(book: &mut Book, rounds: usize) -> Result<(), LabError> {
    let folder = Path::new(ROOT).join("plan");
    let write = || -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        fs::write(
            folder.join("cluster.yaml"),
            "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\nspec: {}\n",
        )?;
        for node in 0..PLANNED {
            let text = format!(
                "apiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: node-{node:03}}}\nspec: {{address: \"10.98.0.{}:7847\"}}\n",
                node + 1
            );
            fs::write(folder.join(format!("node-{node:03}.yaml")), text)?;
        }
        fs::write(folder.join("pool.yaml"), pool("web", 0, MANY))
    };
    step("write a large repository", write())?;
    for round in 1..=rounds {
        let mut command = Command::new(BINARY);
        command.arg("plan").arg(&folder).args(["--format", "json"]);
        let start = now();
        let output = step("run `rendezvip plan`", command.output())?;
        let took = micros(now().since(start));
        let row = Row::new("rendezvip", "plan", MANY, "IPv4", round).with("took_us", took);
        let bytes = u64::try_from(output.stdout.len()).unwrap_or_default();
        add(book, row.with("bytes", bytes).with("failed", u64::from(!output.status.success())))?;
    }
    Ok(())
}

/// The simulator's speed, and an hour at 5 % loss in it.
fn simulate(book: &mut Book) -> Result<(), LabError> {
    for (case, more) in [
        ("simulate", ["--hours", "5", "--seed", "7"].as_slice()),
        ("simulate, 5 % loss", &["--hours", "1", "--loss", "5", "--seed", "8"]),
    ] {
        let mut command = Command::new(BINARY);
        command.args(["simulate", "--nodes", "3", "--vips", "6", "--format", "json"]).args(more);
        let output = step("run `rendezvip simulate`", command.output())?;
        let said: serde_json::Value = step(
            "read what `rendezvip simulate` says",
            serde_json::from_slice(&output.stdout).map_err(io::Error::other),
        )?;
        let number = |name: &str| said[name].as_f64().unwrap_or_default().round() as u64;
        let mut row = Row::new("rendezvip", case, 6, "IPv4", 1);
        for name in ["violations", "takeovers", "false_takeovers", "speedup"] {
            row = row.with(name, number(name));
        }
        add(book, row)?;
    }
    Ok(())
}
