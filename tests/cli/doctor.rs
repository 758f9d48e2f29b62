//! `rendezvip doctor` on whatever host this is: it ends, changes nothing, and its JSON holds together.

use std::os::unix::process::CommandExt as _;

use crate::rendezvip;

fn ask(arguments: &[&str], user: Option<u32>) -> (i32, serde_json::Value) {
    let mut command = rendezvip();
    command.args(["doctor", "--for", "200ms", "--format", "json"]).args(arguments);
    if let Some(user) = user {
        command.uid(user);
    }
    let output = command.output().expect("it runs");
    let json = serde_json::from_slice(&output.stdout).expect("JSON");
    (output.status.code().expect("it ends by itself"), json)
}

fn holds_together(code: i32, json: &serde_json::Value) {
    let findings = json["findings"].as_array().expect("findings");
    let mend = findings.iter().any(|finding| finding["state"] == "mend");
    let verdict = if mend { (1, "mend") } else { (0, "fine") };
    assert_eq!((code, json["verdict"].as_str().unwrap_or_default()), verdict);
    assert!(findings.iter().all(|finding| (finding["state"] == "mend") == finding["code"].is_string()), "{json}");
    for check in ["gate", "lateness", "clock", "memory"] {
        assert!(findings.iter().any(|finding| finding["check"] == check), "{check}: {json}");
    }
}

#[test]
fn a_host_without_a_nodes_own_file_is_looked_at_all_the_same() {
    let (code, json) = ask(&["--config", "/nonexistent/node.yaml"], None);
    holds_together(code, &json);
    assert_eq!(json["findings"][0]["code"], "RV0512");
}

#[test]
fn without_rights_it_says_what_it_could_not_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let (config, key) = (folder.path().join("node.yaml"), folder.path().join("gossip.key"));
    std::fs::write(&key, "").unwrap();
    let text = format!(
        "apiVersion: rendezvip/v1\nkind: Agent\nnode: edge-a\nsource: {{directory: {0}}}\nstateDir: {0}/state\nhttp: 127.0.0.1:1\n\
         gossip: {{bind: \"127.0.0.1:0\", keyFile: {1}}}\n",
        folder.path().display(),
        key.display()
    );
    std::fs::write(&config, text).unwrap();
    // As nobody, where this test may become somebody else; the folder is closed to it then.
    let user = is_root().then_some(65_534);
    let (code, json) = ask(&["--config", config.to_str().unwrap()], user);
    holds_together(code, &json);
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|text| text.contains("\nUid:\t0\t0\t0\t0\n"))
}
