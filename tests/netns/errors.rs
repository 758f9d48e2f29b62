//! The examples of the manual of errors that need a host: a daemon that runs, a kernel that refuses.
//!
//! A block of `sh host` is a script of root's on edge-a, one of the three hosts of a segment of its own. All have
//! `examples/minimal-lab` as one repository in /srv/vips.git, and each a clone of it in /srv/vips, where the script
//! starts, a node's own file that follows it, and the gossip key; no daemon runs. For `sh cluster` one runs on each, logs to /run/log, and
//! edge-a has its VIP already. `ssh HOST COMMAND` runs a command on another host. The next block of `text` is what is
//! printed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use rendezvip::lab::namespace::{BINARY, ROOT};
use rendezvip::lab::now;
use rendezvip::lab::segment::Segment;

use crate::in_a_patient_lab;
use crate::sections::{Example, copy, sections};
use crate::stages::NODES;

/// The kinds of example that are run here.
const HOST: &str = "sh host";
const CLUSTER: &str = "sh cluster";

/// A script that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// So many scripts run at once; most of their time they wait.
const AT_ONCE: usize = 4;

/// Folders that each host has for itself, empty at first, beside an /etc in which /etc/rendezvip can be made.
const OWN: [&str; 2] = ["/srv", "/var/lib"];

/// Where the binary is on a host.
const BIN: &str = "/run/bin";

/// Where the rest of /etc stays in view.
const ETC: &str = "/run/etc";

fn tmpfs(path: &str) {
    mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).expect("a tmpfs");
}

/// Gives the host that this thread is in folders of its own.
fn furnish() {
    fs::create_dir(ETC).expect("a folder");
    let none: Option<&str> = None;
    mount(Some("/etc"), ETC, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).expect("/etc is bound");
    tmpfs("/etc");
    for entry in fs::read_dir(ETC).expect("a folder").flatten() {
        if entry.file_name() != "rendezvip" {
            symlink(entry.path(), Path::new("/etc").join(entry.file_name())).expect("a link");
        }
    }
    OWN.into_iter().for_each(tmpfs);
    // On a host like any other nothing tells that this is a lab.
    let binary = Path::new(BIN).join("rendezvip");
    fs::create_dir(BIN).expect("a folder");
    File::create(&binary).expect("a file");
    mount(Some(BINARY), &binary, none, MsFlags::MS_BIND, none).expect("the binary is bound");
    tmpfs(Path::new(BINARY).parent().and_then(Path::to_str).expect("a folder"));
}

/// A script of a segment, with what all of them take for granted.
fn script(segment: &Path, text: &str) -> Command {
    let mut command = Command::new("sh");
    let path = std::env::var("PATH").unwrap_or_default();
    command.args(["-ec", text]).env("PATH", format!("{}:{BIN}:{path}", segment.display()));
    command.env("SEGMENT", segment).stdin(Stdio::null());
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "A. Person").env(format!("GIT_{role}_EMAIL"), "person@lab.example");
        command.env(format!("GIT_{role}_DATE"), "2026-01-01T00:00:00Z");
    }
    command
}

/// What a host starts with.
const BEGIN: &str = r#"
umask 077
mkdir /etc/rendezvip
cp "$SEGMENT/gossip.key" /etc/rendezvip
umask 022
cat > /etc/rendezvip/node.yaml <<END
apiVersion: rendezvip/v1
kind: Agent
source: {git: {url: /srv/vips.git}}
END
mkdir /srv/vips.git
mount --bind "$SEGMENT/vips.git" /srv/vips.git
git clone -q /srv/vips.git /srv/vips
"#;

/// Makes the repository that all hosts of a segment have in /srv/vips.git.
const SERVE: &str = r#"
cd "$SEGMENT"
git init -q --bare -b main vips.git
git init -q -b main manifests
cd manifests
git add . && git commit -qm 'The lab' && git push -q ../vips.git main
"#;

/// Starts a host's daemon.
const START: &str = "rendezvip run 2> /run/log &";

/// Waits until edge-a has a VIP.
const SETTLE: &str = "until grep -q took /run/log; do sleep 0.05; done";

/// Asks for a command on another host, and waits for its end.
const SSH: &str = r#"#!/bin/sh
asked=$(mktemp -d "$SEGMENT/ssh.XXXXXX")
printf %s "$1" > "$asked/host"
printf %s "$2" > "$asked/command"
mv "$asked" "$asked.asked"
until [ -e "$asked.asked/ended" ]; do sleep 0.02; done
cat "$asked.asked/out"
"#;

/// Starts what was asked for by [`SSH`] since the last time, and tells of what has ended.
fn answer(segment: &Segment, folder: &Path, started: &mut BTreeMap<PathBuf, Child>) {
    for asked in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
        if asked.extension().is_some_and(|it| it == "asked") && !started.contains_key(&asked) {
            let read = |name: &str| fs::read_to_string(asked.join(name)).unwrap();
            let mut command = script(folder, &read("command"));
            command.current_dir("/srv/vips").stdout(File::create(asked.join("out")).unwrap());
            let child = segment.node(&read("host")).place().spawn(command).unwrap();
            started.insert(asked, child);
        }
    }
    for (asked, child) in started {
        if child.try_wait().unwrap().is_some() {
            File::create(asked.join("ended")).unwrap();
        }
    }
}

/// Runs an example on a segment of its own, and says what it printed; what it complained of comes last.
fn output(example: &Example, number: usize) -> String {
    let folder = Path::new(ROOT).join("manual").join(number.to_string());
    let ssh = folder.join("ssh");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/minimal-lab"), &folder.join("manifests"));
    fs::write(folder.join("gossip.key"), Command::new(BINARY).arg("keygen").output().unwrap().stdout).unwrap();
    fs::write(&ssh, SSH).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(script(&folder, SERVE).status().unwrap().success());
    let segment = Segment::new(&NODES, false).unwrap();
    for node in segment.nodes() {
        node.place().run(furnish);
        let began = node.place().output(script(&folder, BEGIN)).unwrap();
        assert!(began.status.success(), "{}: {}", node.name(), String::from_utf8_lossy(&began.stderr));
    }
    if example.kind == CLUSTER {
        for node in segment.nodes() {
            node.place().spawn(script(&folder, START)).unwrap().wait().unwrap();
        }
        let settled = segment.node("edge-a").place().output(script(&folder, SETTLE)).unwrap();
        assert!(settled.status.success());
    }
    let (out, err) = (folder.join("out"), folder.join("err"));
    let mut command = script(&folder, &example.input);
    // Files, not pipes: a daemon that the script leaves running would hold a pipe open.
    command.current_dir("/srv/vips").stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut child = segment.node("edge-a").place().spawn(command).unwrap();
    let (start, mut started) = (now(), BTreeMap::new());
    let mut ended = None;
    while ended.is_none() && now().since(start) < LIMIT {
        std::thread::sleep(Duration::from_millis(20));
        answer(&segment, &folder, &mut started);
        ended = child.try_wait().unwrap();
    }
    segment.nodes().iter().for_each(|node| node.place().power_off().unwrap());
    child.wait().unwrap();
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let (said, complained) = (read(&out), read(&err));
    let took = now().since(start).as_millis();
    println!("{} took {took} ms", example.heading);
    match ended {
        None => format!("{said}{complained}[it does not end]\n"),
        Some(_) => format!("{said}{complained}"),
    }
}

#[test]
fn every_example_that_needs_a_host_says_what_is_shown() {
    in_a_patient_lab(|| {
        let examples = sections().into_iter().flat_map(|section| section.examples());
        let examples: Vec<Example> = examples.filter(|example| [HOST, CLUSTER].contains(&&*example.kind)).collect();
        let waiting = Mutex::new(examples.iter().enumerate());
        let next = || waiting.lock().unwrap().next();
        let wrong = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some((number, example)) = next() {
                        let found = output(example, number);
                        if found != example.output {
                            wrong.lock().unwrap().push(format!("## {}\n{found}", example.heading));
                        }
                    }
                });
            }
        });
        let wrong = wrong.into_inner().unwrap();
        assert!(wrong.is_empty(), "docs/errors.md shows something else than\n{}", wrong.join("\n"));
    });
}
