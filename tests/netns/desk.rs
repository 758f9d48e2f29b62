//! A cluster of one node, and everything that a person can ask of it or order.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Duration;

use rendezvip::lab::cluster::{Cluster, Layout};
use rendezvip::lab::now;
use rendezvip::status::snapshot::{Snapshot, VipState};

use crate::stages::{web, within};
use crate::{in_a_lab, in_a_patient_lab};

const SOON: Duration = Duration::from_secs(20);
const POOL: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec: {addresses: [10.99.0.100-10.99.0.101, \"fd99::100\"]}\n";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn started() -> (Cluster, String) {
    started_with(POOL, String::new())
}

fn started_with(pool: &str, agent: String) -> (Cluster, String) {
    let mut cluster = Cluster::new(&["edge-a"], Layout { agent, ..Layout::default() }).unwrap();
    let mut files = cluster.base_manifests();
    files.push(("web.yaml".to_owned(), pool.to_owned()));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let commit = cluster.repository.push("first", &files).unwrap();
    cluster.start("edge-a").unwrap();
    (cluster, commit.to_string())
}

fn held(snapshot: &Snapshot) -> bool {
    snapshot.vips.len() == 3 && snapshot.vips.iter().all(|vip| vip.state == VipState::Held)
}

fn wait(cluster: &Cluster, what: &str, right: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let found = cluster.wait_status("edge-a", SOON, right);
    found.unwrap_or_else(|| panic!("{what}: {}\n{:?}", cluster.log_tail("edge-a"), cluster.status("edge-a")))
}

/// What the node's HTTP answers to a request, head and all.
fn http(cluster: &Cluster, request: &'static str) -> String {
    cluster.segment.node("edge-a").place().run(move || {
        let mut stream = TcpStream::connect("127.0.0.1:9747").unwrap();
        stream.write_all(format!("{request} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    })
}

#[test]
fn a_node_tells_what_it_has_and_why_and_obeys() {
    in_a_lab(|| {
        let (cluster, commit) = started();
        let ask = |arguments: &[&str]| cluster.ask("edge-a", arguments).unwrap();
        let snapshot = wait(&cluster, "held", held);
        assert_eq!(snapshot.node.as_str(), "edge-a");

        let output = ask(&["wait", "--revision", &commit[..9], "--timeout", "20s"]);
        assert!(output.status.success(), "{}", said(&output));
        let output = ask(&["wait", "--revision", "0123456789", "--timeout", "500ms"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("error[RV0613]"), "{}", said(&output));
        let output = ask(&["diff"]);
        assert!(output.status.success(), "{}", said(&output));

        let why: serde_json::Value =
            serde_json::from_str(&cluster.tell("edge-a", &["why", "10.99.0.100", "--format", "json"]).unwrap())
                .unwrap();
        assert_eq!(why["vip"], "10.99.0.100");
        assert_eq!((&why["actual"], &why["desired"]), (&"edge-a".into(), &"edge-a".into()));
        assert_eq!(why["ranking"][0]["node"], "edge-a");
        assert_eq!(why["ranking"][0]["eligible"], true);
        assert_eq!(why["moves"][0]["to"], "edge-a");
        let output = ask(&["why", "10.99.0.99"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("error[RV0609]"), "{}", said(&output));

        let page = http(&cluster, "GET /");
        assert!(page.starts_with("HTTP/1.0 200") && page.contains("<title>rendezvip</title>"), "{page}");
        assert!(http(&cluster, "GET /healthz").starts_with("HTTP/1.0 200"));
        assert!(http(&cluster, "GET /readyz").starts_with("HTTP/1.0 200"));
        assert!(http(&cluster, "GET /why?vip=nonsense").starts_with("HTTP/1.0 404"));
        assert!(http(&cluster, "GET /why").starts_with("HTTP/1.0 400"));
        assert!(http(&cluster, "POST /status").starts_with("HTTP/1.0 405"));
        let metrics = http(&cluster, "GET /metrics");
        for line in [
            "rendezvip_vips_held 3\n",
            "rendezvip_lease_held 1\n",
            "rendezvip_view_established 1\n",
            "rendezvip_members{state=\"alive\"} 1\n",
            "rendezvip_vips{pool=\"web\",state=\"held\"} 3\n",
            "rendezvip_vips{pool=\"web\",state=\"unowned\"} 0\n",
            "rendezvip_condition{type=\"Ready\"} 1\n",
            &format!("rendezvip_generation_info{{revision=\"main@sha1:{commit}\""),
            "# EOF\n",
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }

        // A drained node holds nothing, even where nobody takes over.
        let output = ask(&["drain", "--wait", "--timeout", "20s"]);
        assert!(output.status.success(), "{}\n{}", said(&output), cluster.log_tail("edge-a"));
        let snapshot = cluster.status("edge-a").unwrap();
        assert!(snapshot.vips.iter().all(|vip| vip.actual.is_none()), "{snapshot:?}");
        assert_eq!(ask(&["diff"]).status.code(), Some(1));
        assert!(ask(&["resume"]).status.success());
        wait(&cluster, "held again", held);
    });
}

#[test]
fn a_commit_is_fetched_at_once_when_asked_and_its_ancestors_count_as_run() {
    in_a_lab(|| {
        let (cluster, first) = started();
        wait(&cluster, "held", held);
        // Far within the poll, which is 15 s.
        let more = POOL
            .replace("web", "more")
            .replace("10.99.0.100-10.99.0.101", "10.99.0.110")
            .replace("fd99::100", "fd99::110");
        let second = cluster.repository.push("second", &[("more.yaml", more.as_str())]).unwrap();
        let start = now();
        assert!(cluster.ask("edge-a", &["reconcile"]).unwrap().status.success());
        for revision in [second.to_string(), first.to_string()] {
            let output = cluster.ask("edge-a", &["wait", "--revision", &revision[..12], "--timeout", "10s"]).unwrap();
            assert!(output.status.success(), "{}\n{}", said(&output), cluster.log_tail("edge-a"));
        }
        assert!(now().since(start) < Duration::from_secs(12));
        let unforced = cluster.ask("edge-a", &["form", "--nodes", "edge-a"]).unwrap();
        assert!(said(&unforced).contains("error[RV0611]"), "{}", said(&unforced));
    });
}

#[test]
fn a_failing_check_shows_in_why_and_hooks_are_told_of_what_came_and_went() {
    in_a_lab(|| {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let hook = |word: &str| {
            let text = format!("#!/bin/sh\necho {word} \"$@\" >> {}\n", at("log").display());
            std::fs::write(at(word), text).unwrap();
            std::fs::set_permissions(at(word), std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        hook("acquired");
        hook("released");
        let agent = format!(
            "checks: {{ready: {{file: {}, interval: 100ms, fall: 1, rise: 1}}}}\nhooks: {{acquired: [{}], released: [{}]}}\n",
            at("ready").display(),
            at("acquired").display(),
            at("released").display()
        );
        let (mut cluster, _) = started_with(&POOL.replace("\"fd99::100\"]", "\"fd99::100\"], health: [ready]"), agent);
        let why = || cluster.tell("edge-a", &["why", "10.99.0.100"]).unwrap_or_default();
        let start = now();
        while !why().contains("check ready fails") && now().since(start) < SOON {
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(why().contains("check ready fails"), "{}\n{}", why(), cluster.log_tail("edge-a"));
        std::fs::write(at("ready"), "").unwrap();
        wait(&cluster, "held once the check passes", held);
        assert!(why().contains("edge-a  yes       first by rank"), "{}", why());
        assert!(cluster.stop_daemon("edge-a").unwrap().success());
        let log = std::fs::read_to_string(at("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.last(), Some(&"released 10.99.0.100 10.99.0.101 fd99::100"), "{log}");
        let acquired: usize =
            lines.iter().filter(|it| it.starts_with("acquired")).map(|it| it.split(' ').count() - 1).sum();
        assert_eq!(acquired, 3, "{log}");
    });
}

#[test]
fn a_doctor_asks_the_running_node_how_far_its_peers_are_and_how_well_it_keeps_time() {
    in_a_patient_lab(|| {
        let mut stage = web();
        let pace = || -> serde_json::Value {
            let answer = http(&stage.cluster, "GET /pace");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.contains("200 OK") && head.contains("application/json"), "{head}");
            serde_json::from_str(body).expect("JSON")
        };
        // Of each pair one asks in calm: of these edge-a asks edge-b.
        let answered = |pace: &serde_json::Value| {
            let peers = pace["peers"].as_array().expect("peers");
            peers.iter().any(|peer| peer["node"] == "edge-b" && peer["samples"].as_u64() > Some(20))
        };
        assert!(within(SOON, || answered(&pace())), "{}", pace());
        let told = pace();
        assert_eq!(told["heartbeatMs"], 100, "{told}");
        assert!(told["late"].is_u64() && told["latestUs"].is_u64(), "{told}");
        for peer in told["peers"].as_array().unwrap().iter().filter(|peer| peer["samples"].as_u64() > Some(0)) {
            assert!(["edge-b", "edge-c"].contains(&peer["node"].as_str().unwrap()), "{peer}");
            let [p50, p99, max] = ["p50", "p99", "max"].map(|key| peer[key].as_u64().unwrap());
            assert!(0 < p50 && p50 <= p99 && p99 <= max, "{peer}");
        }

        let doctor = || -> serde_json::Value {
            let output = stage.cluster.ask("edge-a", &["doctor", "--for", "200ms", "--format", "json"]).unwrap();
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&output)))
        };
        let found = doctor();
        let names = |peers: &serde_json::Value| -> Vec<String> {
            peers.as_array().unwrap().iter().map(|peer| peer["node"].as_str().unwrap().to_owned()).collect()
        };
        assert!(names(&found["peers"]).contains(&"edge-b".to_owned()), "{found}");
        // In calm no peer is said to lose anything, neither the one that is asked nor the one that was not there at first.
        let wrong = |found: &serde_json::Value| -> Vec<serde_json::Value> {
            let findings = found["findings"].as_array().unwrap();
            findings.iter().filter(|finding| finding["code"] == "RV0324").cloned().collect()
        };
        assert_eq!(wrong(&found), [] as [serde_json::Value; 0], "{}", pace());
        let of_peers = |found: &serde_json::Value| -> serde_json::Value {
            let findings = found["findings"].as_array().unwrap();
            findings.iter().find(|finding| finding["check"] == "peers").expect("a finding").clone()
        };
        let finding = of_peers(&found);
        assert!(finding["message"].as_str().unwrap().contains("heartbeats"), "{finding}");

        // Without the daemon it asks the peers itself, as far as the last good state names them.
        stage.cluster.stop_daemon("edge-a").unwrap();
        let output = stage.cluster.ask("edge-a", &["doctor", "--for", "200ms", "--format", "json"]).unwrap();
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let finding = of_peers(&found);
        assert!(finding["message"].as_str().unwrap().contains("echo request"), "{finding}");
    });
}
