//! `rendezvip import`: real configurations, what becomes of each line, and that every owner stays.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::run;

/// What the import says, the files that it wrote, and what the other commands make of them.
fn import(from: &str, arguments: &[&str]) -> String {
    let scratch = TempDir::new().expect("a scratch directory");
    let out = scratch.path().join("out");
    let dir = out.to_str().expect("a path of UTF-8");
    let mut all = vec!["import", from];
    let cases = format!("tests/cli/cases/{from}/");
    let paths: Vec<String> = arguments
        .iter()
        .map(
            |one| {
                if one.ends_with(".conf") || one.ends_with(".yaml") { cases.clone() + one } else { (*one).to_owned() }
            },
        )
        .collect();
    all.extend(paths.iter().map(String::as_str));
    all.extend(["--out", dir]);
    let mut shown = run(&all);
    let mut files = Vec::new();
    list(&out, &mut files);
    files.sort();
    for file in files {
        let text = fs::read_to_string(out.join(&file)).expect("a file that was just written");
        shown += &format!("\n----- {file} -----\n{text}");
        if file.starts_with("hosts/") && file.ends_with(".yaml") {
            let path = out.join(&file);
            assert!(run(&["validate", "--agent", path.to_str().unwrap()]).starts_with("exit: 0"), "{file}");
        }
    }
    if shown.starts_with("exit: 0") {
        let validated = run(&["validate", dir]);
        assert!(validated.starts_with("exit: 0"), "{validated}");
    }
    shown.replace(dir, "OUT").replace(&cases, "")
}

fn list(folder: &Path, files: &mut Vec<String>) {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                files.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
}

#[test]
fn a_pair_of_balancers_keeps_its_master() {
    insta::assert_snapshot!("keepalived-pair", import("keepalived", &["pair/lb1.conf", "pair/lb2.conf"]));
}

#[test]
fn instances_that_back_each_other_up_keep_their_masters_and_their_hosts() {
    let shown = import("keepalived", &["cross/web-1.conf", "cross/web-2.conf", "cross/web-3.conf"]);
    insta::assert_snapshot!("keepalived-cross", shown);
}

#[test]
fn a_sync_group_moves_as_one() {
    let nodes = ["sync/gw1.conf", "sync/gw2.conf", "--nodes", "gw1=192.0.2.11,gw2=192.0.2.12,witness=192.0.2.13"];
    insta::assert_snapshot!("keepalived-sync", import("keepalived", &nodes));
}

#[test]
fn both_families_are_carried_over_and_link_local_addresses_are_not() {
    insta::assert_snapshot!(
        "keepalived-dual",
        import("keepalived", &["dual/dns1.conf", "dual/dns2.conf", "dual/dns3.conf"])
    );
}

#[test]
fn scripts_become_checks_of_the_nodes_own_file_and_peers_become_nodes() {
    insta::assert_snapshot!("keepalived-script", import("keepalived", &["script/keepalived-api-1.conf"]));
}

#[test]
fn includes_and_definitions_are_followed() {
    let shown = import("keepalived", &["include/node-a/keepalived.conf", "include/node-b/keepalived.conf"]);
    insta::assert_snapshot!("keepalived-include", shown);
}

#[test]
fn a_file_with_conditions_stands_for_all_hosts_that_it_names() {
    insta::assert_snapshot!("keepalived-conditions", import("keepalived", &["conditions/keepalived.conf"]));
}

#[test]
fn metallbs_pools_keep_their_owners_and_the_addresses_in_use() {
    insta::assert_snapshot!("metallb-current", import("metallb", &["current.yaml", "cluster.yaml"]));
}

#[test]
fn metallb_without_its_cluster_needs_names_and_takes_whole_pools() {
    let nodes = "worker-1=10.0.0.2,worker-2=10.0.0.3,cp-1=10.0.0.1";
    insta::assert_snapshot!("metallb-pools", import("metallb", &["current.yaml", "--nodes", nodes]));
}

#[test]
fn metallbs_old_config_map_is_read_too() {
    let nodes = "a=192.168.1.10,b=192.168.1.11,c=192.168.1.12";
    insta::assert_snapshot!(
        "metallb-configmap",
        import("metallb", &["configmap.yaml", "--nodes", nodes, "--format", "json"])
    );
}

#[test]
fn what_cannot_be_imported_is_told_with_a_remedy() {
    insta::assert_snapshot!(import("metallb", &["configmap.yaml"]), @r#"
            exit: 1
            ----- stdout -----
            ----- stderr -----
            error[RV0651]: nothing says which nodes there are
              = help: name them: --nodes a=10.0.0.1,b=10.0.0.2, or give what `kubectl get nodes -o yaml` prints as a file too
            "#);
    insta::assert_snapshot!(import("keepalived", &["missing.conf"]), @r#"
            exit: 1
            ----- stdout -----
            ----- stderr -----
            error[RV0650]: cannot read missing.conf: No such file or directory (os error 2)
              = help: name the keepalived.conf of each host
            "#);
    insta::assert_snapshot!(run(&["import", "keepalived", "tests/cli/cases/keepalived/pair/lb1.conf", "--out", "tests"]), @r#"
            exit: 1
            ----- stdout -----
            ----- stderr -----
            error[RV0652]: tests is not empty
              = help: choose a directory that does not exist yet with --out
            "#);
    let scratch = TempDir::new().unwrap();
    fs::write(scratch.path().join("empty.conf"), "global_defs { router_id a }\n").unwrap();
    let (file, out) = (scratch.path().join("empty.conf"), scratch.path().join("out"));
    let arguments =
        ["import", "keepalived", file.to_str().unwrap(), "--nodes", "a=10.0.0.1", "--out", out.to_str().unwrap()];
    insta::assert_snapshot!(run(&arguments), @r#"
            exit: 1
            ----- stdout -----
            ----- stderr -----
            error[RV0653]: there is no address in these files that rendezvip could take over
              = help: name the files that declare the VIPs
            "#);
    let wrong = ["import", "keepalived", "x", "--nodes", "a", "--out", "y"];
    assert!(run(&wrong).starts_with("exit: 64"));
}
