//! `rendezvip validate`: one broken repository through every format, and every way to end.

use crate::{rendezvip, run};

const BROKEN: &str = "tests/cli/cases/broken";

#[test]
fn every_format_shows_the_same_findings() {
    for format in ["human", "json", "github", "gitlab", "sarif", "markdown"] {
        insta::assert_snapshot!(format!("broken-{format}"), run(&["validate", BROKEN, "--format", format]));
    }
}

#[test]
fn a_sound_repository_is_one_line_and_exit_0() {
    insta::assert_snapshot!(run(&["validate", "examples/minimal-lab"]), @r#"
        exit: 0
        ----- stdout -----
        fine: cluster lab, 3 nodes, 1 pool, 6 VIPs (sha256:3889b4e99917)
        ----- stderr -----
        "#);
    insta::assert_snapshot!(run(&["validate", "examples/minimal-lab", "--format", "json"]), @r#"
        exit: 0
        ----- stdout -----
        {
          "diagnostics": []
        }
        ----- stderr -----
        "#);
}

#[test]
fn a_directory_that_is_not_there_exits_1_and_says_so_on_stdout() {
    insta::assert_snapshot!(run(&["validate", "no/such/directory"]), @r#"
        exit: 1
        ----- stdout -----
        .:1:1: error[RV0108]: cannot read no/such/directory: No such file or directory (os error 2)
           = help: name a directory that exists and may be read

        1 error
        ----- stderr -----
        "#);
    insta::assert_snapshot!(run(&["validate", "no/such/directory", "--format", "json"]), @r#"
        exit: 1
        ----- stdout -----
        {
          "diagnostics": [
            {
              "code": "RV0108",
              "severity": "error",
              "file": ".",
              "line": 1,
              "column": 1,
              "message": "cannot read no/such/directory: No such file or directory (os error 2)",
              "help": "name a directory that exists and may be read"
            }
          ]
        }
        ----- stderr -----
        "#);
}

#[test]
fn a_wrong_command_line_exits_64() {
    for arguments in
        [&["validate"][..], &["validate", "--format", "xml", "."], &["validate", ".", "--agent", "x"], &["frobnicate"]]
    {
        assert!(
            run(arguments).starts_with("exit: 64\n----- stdout -----\n----- stderr -----\nerror: "),
            "{arguments:?}"
        );
    }
}

#[test]
fn a_nodes_own_file_is_checked_by_agent() {
    insta::assert_snapshot!(run(&["validate", "--agent", "examples/node.yaml"]), @r#"
        exit: 0
        ----- stdout -----
        fine: node edge-a follows main of ssh://git@git.example/vips.git
        ----- stderr -----
        "#);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("node.yaml");
    std::fs::write(
        &file,
        "apiVersion: rendezvip/v1\nkind: Agent\nnode: edge-a\nsource:\n  git:\n    url: http://u:secret@git.example/vips.git\n    poll: 15\nhtpp: 127.0.0.1:9747\n",
    )
    .expect("it is written");
    let output =
        rendezvip().args(["validate", "--agent", "node.yaml"]).current_dir(dir.path()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout), @r#"
        node.yaml:6:10: error[RV0508]: url cannot be `http://git.example/vips.git`
         6 |     url: http://u:secret@git.example/vips.git
           |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
           = help: this travels unprotected: use ssh or https

        node.yaml:7:11: error[RV0126]: poll `15` has no unit
         7 |     poll: 15
           |           ^^
           = help: write `15s` or `15ms`

        node.yaml:8:1: error[RV0120]: unknown key `htpp` in an Agent
         8 | htpp: 127.0.0.1:9747
           | ^^^^
           = help: did you mean `http`?

        3 errors
        "#);
}

#[test]
fn a_repository_that_holds_a_nodes_own_file_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::copy(crate::top().join("examples/node.yaml"), dir.path().join("node.yaml")).expect("it is copied");
    let output = rendezvip().args(["validate", "."]).current_dir(dir.path()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout), @r#"
        node.yaml:5:7: error[RV0113]: an Agent is a node's own file and is never taken from git
         5 | kind: Agent
           |       ^^^^^
           = help: keep it on the node as /etc/rendezvip/node.yaml, and check it by `rendezvip validate --agent FILE`

        1 error
        "#);
}
