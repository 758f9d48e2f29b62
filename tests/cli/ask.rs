//! `rendezvip status`, `why`, `diff`, `wait` and the orders, of a node whose answers are canned and of a clone.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::run;

const STATUS: &str = include_str!("canned/status.json");
const WHY: &str = include_str!("canned/why.json");

/// A node that answers over HTTP with what is canned, and its own file.
struct Canned {
    folder: TempDir,
}

impl Canned {
    fn new(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 4096];
                let count = stream.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..count]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let reply = match answer(path) {
                    Some(body) => format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
                    None => "HTTP/1.1 404 Not Found\r\n\r\nerror[RV0609]: no pool declares 10.99.0.99\n".to_owned(),
                };
                let _ = stream.write_all(reply.as_bytes());
            }
        });
        let state = folder.path().display();
        let text = format!(
            "apiVersion: rendezvip/v1\nkind: Agent\nsource: {{directory: /srv/pools}}\nhttp: {address}\nstateDir: {state}\n"
        );
        std::fs::write(folder.path().join("node.yaml"), text).unwrap();
        Self { folder }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("node.yaml")
    }

    fn run(&self, arguments: &[&str]) -> String {
        let config = self.config();
        let mut all = arguments.to_vec();
        all.extend(["--config", config.to_str().unwrap()]);
        run(&all).replace(self.folder.path().to_str().unwrap(), "/var/lib/rendezvip")
    }
}

fn node() -> Canned {
    Canned::new(|path| match path {
        "/status" => Some(STATUS.to_owned()),
        "/why?vip=10.99.0.101" => Some(WHY.to_owned()),
        "/runs?revision=0101" => Some("true".to_owned()),
        path if path.starts_with("/runs") => Some("null".to_owned()),
        _ => None,
    })
}

/// The same with everything where it should be.
fn calm() -> String {
    let mut status: serde_json::Value = serde_json::from_str(STATUS).unwrap();
    status["attemptedRevision"] = status["revision"].clone();
    for condition in status["conditions"].as_array_mut().unwrap() {
        condition["status"] = if condition["type"] == "Ready" { "True" } else { "False" }.into();
    }
    for vip in status["vips"].as_array_mut().unwrap() {
        vip["actual"] = "edge-a".into();
        vip["desired"] = "edge-a".into();
        vip["state"] = "held".into();
        vip["note"] = serde_json::Value::Null;
    }
    status.to_string()
}

#[test]
fn status_shows_at_a_glance_what_is_amiss() {
    insta::assert_snapshot!(node().run(&["status"]));
}

#[test]
fn status_as_json_is_what_the_node_says() {
    let shown = node().run(&["status", "--format", "json"]);
    assert_eq!(shown, format!("exit: 0\n----- stdout -----\n{}\n----- stderr -----\n", STATUS.trim_end()));
}

#[test]
fn why_tells_of_every_node_and_every_move() {
    insta::assert_snapshot!(node().run(&["why", "10.99.0.101"]));
    let json = node().run(&["why", "10.99.0.101", "--format", "json"]);
    assert!(json.contains(WHY.trim_end()), "{json}");
}

#[test]
fn a_vip_that_nobody_declares_is_said_to_be_none() {
    insta::assert_snapshot!(node().run(&["why", "10.99.0.99"]));
    assert!(node().run(&["why", "web"]).starts_with("exit: 64"));
}

#[test]
fn diff_shows_what_is_not_as_declared_and_ends_with_1() {
    insta::assert_snapshot!(node().run(&["diff"]));
    insta::assert_snapshot!(node().run(&["diff", "--format", "json"]));
}

#[test]
fn diff_of_a_calm_cluster_ends_with_0() {
    let calm = Canned::new(|_| Some(calm()));
    insta::assert_snapshot!(calm.run(&["diff"]));
    assert!(calm.run(&["diff", "--format", "json"]).contains("{\"vips\":[]}"));
}

#[test]
fn wait_ends_when_the_revision_runs_and_explains_when_it_does_not() {
    insta::assert_snapshot!(node().run(&["wait", "--revision", "0101"]));
    insta::assert_snapshot!(node().run(&["wait", "--revision", "2f3e4d5c", "--timeout", "10ms"]));
    assert!(node().run(&["wait", "--revision", "main"]).starts_with("exit: 64"));
    assert!(node().run(&["wait", "--revision", "0101", "--timeout", "60"]).starts_with("exit: 64"));
}

#[test]
fn orders_to_a_node_that_takes_none_are_refused() {
    insta::assert_snapshot!(node().run(&["drain"]));
    insta::assert_snapshot!(node().run(&["form", "--nodes", "edge-a,edge-b"]));
    for arguments in [
        &["form"][..],
        &["form", "--nodes", "Edge_A"],
        &["drain", "--timeout", "60s"],
        &["resume", "--repo", "."],
        &["status", "--repo", ".", "--config", "x"],
    ] {
        assert!(run(arguments).starts_with("exit: 64"), "{arguments:?}");
    }
}

#[test]
fn a_node_that_does_not_run_is_told_apart_from_a_file_that_is_not_there() {
    let gone = node();
    let text = std::fs::read_to_string(gone.config()).unwrap();
    // Port 9 of the loopback: nobody listens there.
    let line = text.lines().find(|line| line.starts_with("http")).unwrap();
    std::fs::write(gone.config(), text.replace(line, "http: 127.0.0.1:9")).unwrap();
    insta::assert_snapshot!(gone.run(&["status"]));
    insta::assert_snapshot!(run(&["status", "--config", "/nonexistent/node.yaml"]));
    std::fs::write(gone.config(), text.replace("http", "htp")).unwrap();
    assert!(gone.run(&["status"]).contains("error[RV"));
}

fn git(dir: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    let at = "2026-05-04T12:00:00Z";
    command.args(["-c", "user.name=edge-b", "-c", "user.email=rendezvip@edge-b"]).args(arguments).current_dir(dir);
    command.env("GIT_AUTHOR_DATE", at).env("GIT_COMMITTER_DATE", at).env("GIT_CONFIG_GLOBAL", "/dev/null");
    let output = command.output().expect("git runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A clone with a status branch, as the scribe writes it; and the commit that it reports on.
fn clone() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let write = |path: &str, text: &str| {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    git(dir, &["init", "-q", "-b", "main"]);
    write("vips/cluster.yaml", "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\n");
    for (at, name) in ["edge-a", "edge-b"].iter().enumerate() {
        let node = format!(
            "apiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{address: \"10.99.0.1{at}:7847\"}}\n"
        );
        write(&format!("vips/nodes/{name}.yaml"), &node);
    }
    write(
        "vips/web.yaml",
        "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec: {addresses: [10.99.0.100]}\n",
    );
    git(dir, &["add", "-A"]);
    git(dir, &["commit", "-qm", "Declare web"]);
    let commit = git(dir, &["rev-parse", "HEAD"]);
    git(dir, &["checkout", "-qb", "rendezvip/status"]);
    for (owner, subject) in [("edge-a", "10.99.0.100 is on edge-a"), ("edge-b", "10.99.0.100 went to edge-b")] {
        let shared = format!(
            "observedRevision: main@sha1:{commit}\n  attemptedRevision: main@sha1:{commit}\n  observedDigest: null\n  conditions: []\n"
        );
        write(
            "vips/status/pools/web.yaml",
            &format!(
                "apiVersion: rendezvip/v1\nkind: PoolStatus\nmetadata: {{name: web}}\nstatus:\n  {shared}  vips: [{{vip: 10.99.0.100, desired: {owner}, actual: {owner}, since: '2026-05-04T12:00:00Z'}}]\n"
            ),
        );
        for node in ["edge-a", "edge-b"] {
            let state = if node == "edge-a" && owner == "edge-b" { "dead" } else { "alive" };
            write(
                &format!("vips/status/nodes/{node}.yaml"),
                &format!(
                    "apiVersion: rendezvip/v1\nkind: NodeStatus\nmetadata: {{name: {node}}}\nstatus:\n  {shared}  state: {state}\n  holds: 0\n"
                ),
            );
        }
        write("vips/status/SUMMARY.md", "# lab\n");
        git(dir, &["add", "-A"]);
        let message = format!("{subject}\n\nRendezvip-Revision: main@sha1:{commit}\nRendezvip-Scribe: edge-b\n");
        git(dir, &["commit", "-qm", &message]);
    }
    git(dir, &["checkout", "-q", "main"]);
    (folder, commit)
}

#[test]
fn a_clone_tells_the_same_as_a_node() {
    let (folder, commit) = clone();
    // At the top, and at the place where the manifests lie.
    for dir in [folder.path().to_owned(), folder.path().join("vips")] {
        let dir = dir.to_str().unwrap();
        let ask = |arguments: &[&str]| {
            let mut all = arguments.to_vec();
            all.extend(["--repo", dir]);
            run(&all)
        };
        let status = ask(&["status", "--format", "json"]);
        let json: serde_json::Value = serde_json::from_str(status.lines().nth(2).unwrap()).expect(&status);
        assert_eq!(json["node"], "edge-b");
        assert_eq!(json["revision"], format!("main@sha1:{commit}"));
        assert_eq!(json["members"][0]["state"], "dead");
        assert_eq!(json["vips"][0]["actual"], "edge-b");
        assert!(ask(&["status"]).contains("10.99.0.100"));

        let why = ask(&["why", "10.99.0.100", "--format", "json"]);
        let json: serde_json::Value = serde_json::from_str(why.lines().nth(2).unwrap()).expect(&why);
        let ranking: Vec<_> =
            json["ranking"].as_array().unwrap().iter().map(|rank| (&rank["node"], &rank["eligible"])).collect();
        assert_eq!(ranking.len(), 2, "{why}");
        assert!(ranking.contains(&(&"edge-a".into(), &false.into())), "{why}");
        assert!(ranking.contains(&(&"edge-b".into(), &true.into())), "{why}");
        let moves = json["moves"].as_array().unwrap();
        assert_eq!(moves.len(), 2, "{why}");
        assert_eq!((&moves[1]["from"], &moves[1]["to"]), (&"edge-a".into(), &"edge-b".into()));
        assert_eq!(moves[1]["cause"], "10.99.0.100 went to edge-b");

        assert!(ask(&["diff"]).starts_with("exit: 0"), "{}", ask(&["diff"]));
        assert!(ask(&["wait", "--revision", &commit[..8]]).starts_with("exit: 0"));
        let other = ask(&["wait", "--revision", "0123456789", "--timeout", "10ms"]);
        assert!(other.starts_with("exit: 1") && other.contains("RV0613"), "{other}");
    }
}

#[test]
fn a_clone_without_a_status_branch_says_how_to_get_it() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    assert!(run(&["status", "--repo", dir]).contains("error[RV0610]"));
    git(folder.path(), &["init", "-q"]);
    insta::assert_snapshot!(run(&["status", "--repo", dir]).replace(dir, "vips"));
}
