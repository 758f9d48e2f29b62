//! A node records what its engine is told while its cluster forms, loses a node and follows a commit; it plays again.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rendezvip::lab::cluster::Layout;
use rendezvip::lab::stage::Stage;

use crate::in_a_lab;
use crate::stages::{NODES, OUTAGE, PATIENCE, WEB, settle, survived, within};

fn play(recording: &Path, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rendezvip"));
    command.arg("simulate").arg("--replay").arg(recording).args(more);
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

/// A metric of a node, as text.
fn metric(stage: &Stage, name: &str, metric: &str) -> Option<String> {
    let said = stage.cluster.segment.node(name).place().run(|| {
        let mut stream = TcpStream::connect("127.0.0.1:9747").unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    said.lines().find_map(|line| line.strip_prefix(metric)).map(|value| value.trim().to_owned())
}

#[test]
fn what_a_node_was_told_plays_again_to_what_it_did() {
    in_a_lab(|| {
        let mut stage = Stage::new(&NODES, Layout::default(), &[("pools/web.yaml", WEB)]).unwrap();
        let disk = stage.cluster.segment.node("edge-a").disk().to_path_buf();
        let (file, old) = (disk.join("recording"), disk.join("recording.old"));
        let record = ["--record", file.to_str().unwrap()];
        stage.cluster.start_with("edge-a", &record).unwrap();
        stage.cluster.start("edge-b").unwrap();
        stage.cluster.start("edge-c").unwrap();
        settle(&mut stage);
        assert_eq!(metric(&stage, "edge-a", "rendezvip_recording ").as_deref(), Some("1"));

        let damage = stage.strike("edge-b", PATIENCE, |cluster| cluster.kill_daemon("edge-b")).unwrap();
        survived(&mut stage, &damage, OUTAGE);
        stage.cluster.start("edge-b").unwrap();
        settle(&mut stage);
        let pool = WEB
            .replace("name: web", "name: more")
            .replace("100-10.99.0.105", "110-10.99.0.114")
            .replace(":100", ":110");
        stage.push("Another pool", &[("pools/more.yaml", &pool)], "edge-c").unwrap();
        settle(&mut stage);
        stage.cluster.stop_daemon("edge-a").unwrap();

        let (code, said) = play(&file, &[]);
        assert_eq!(code, Some(0), "{said}\n{}", stage.logs());
        assert!(said.starts_with("edge-a@") && said.contains(" actions: all the same\n"), "{said}");
        let found: serde_json::Value = serde_json::from_str(&play(&file, &["--format", "json"]).1).unwrap();
        assert_eq!((&found["node"], &found["ended"]), (&"edge-a".into(), &"stopped".into()));
        let (events, span) = (found["events"].as_u64().unwrap(), found["span_ms"].as_u64().unwrap());
        assert!(events > 100 && span > 3000, "{found}");
        let (_, explained) = play(&file, &["--explain"]);
        assert!(explained.contains("Took {"), "{explained}");

        // Nobody else may read it, and the key is not in it, in no form.
        let bytes = fs::read(&file).unwrap();
        println!("{} bytes for {events} events over {span} ms", bytes.len());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let line = fs::read_to_string(disk.join("gossip.key")).unwrap();
        let hex = line.trim().rsplit(':').next().unwrap();
        let raw: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        for secret in [hex.as_bytes(), &raw[..], &raw[..16], &raw[16..]] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "the key is in it");
        }

        // Started again, it puts the recording before aside; killed, it leaves one that holds up to there.
        stage.cluster.start_with("edge-a", &record).unwrap();
        settle(&mut stage);
        assert!(within(PATIENCE, || fs::metadata(&file).is_ok_and(|file| file.len() > 20_000)));
        assert_eq!(fs::read(&old).unwrap(), bytes);
        stage.cluster.kill_daemon("edge-a").unwrap();
        let (code, said) = play(&file, &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(" all the same\n") && said.contains("error[RV0664]"), "{said}");

        // What is no recording is not touched.
        let key = disk.join("gossip.key");
        stage.cluster.start_with("edge-a", &["--record", key.to_str().unwrap()]).unwrap();
        assert!(within(PATIENCE, || stage.cluster.ended("edge-a").is_some()), "{}", stage.logs());
        assert!(stage.cluster.log_tail("edge-a").contains("error[RV0616]"), "{}", stage.logs());
        assert_eq!(fs::read_to_string(&key).unwrap(), line);
    });
}
