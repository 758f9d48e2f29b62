//! The story of a change, from a branch to the wire and back into git, with real nodes: it writes docs/story.md.
//!
//! Everything is typed as a person would type it, in a clone with an ordinary git and in shells on the nodes. What is
//! said is compared with the page, word for word; `INSTA_UPDATE=always` writes the page anew.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rendezvip::lab::cluster::{Cluster, Layout};
use rendezvip::lab::namespace::{BINARY, ROOT};
use rendezvip::status::snapshot::{MemberState, Snapshot, VipState};

use crate::in_a_lab;

const PATIENCE: Duration = Duration::from_secs(60);

/// The page as it is told.
struct Tale {
    cluster: Cluster,
    page: String,
    /// Each commit is made a minute after the one before, so that hashes are the same in every telling.
    minutes: u32,
}

impl Tale {
    fn new() -> Self {
        let cluster = Cluster::new(&["edge-a", "edge-b", "edge-c"], Layout::default()).unwrap();
        Self { cluster, page: String::new(), minutes: 0 }
    }

    fn prose(&mut self, text: &str) {
        self.page += text.trim();
        self.page += "\n\n";
    }

    /// What a shell in the clone says to a line.
    fn run(&mut self, line: &str) -> (Option<i32>, String) {
        if line.contains("git commit") || line.contains("git revert") {
            self.minutes += 1;
        }
        let date = format!("2026-01-05T08:{:02}:00Z", self.minutes);
        let folder = Path::new(BINARY).parent().unwrap().display().to_string();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
        let output = Command::new("sh")
            .args(["-c", &format!("exec 2>&1\n{line}")])
            .current_dir(self.cluster.repository.clone_dir())
            .env("PATH", path)
            .env("LC_ALL", "C")
            .env("GIT_PAGER", "cat")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .envs([("GIT_AUTHOR_DATE", &date), ("GIT_COMMITTER_DATE", &date)])
            .output()
            .expect("a shell");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs lines in the clone and shows them with what is said.
    fn types(&mut self, lines: &[&str]) {
        self.page += "```console\n";
        for line in lines {
            let (code, said) = self.run(line);
            self.shows("$", line, code, &said);
        }
        self.page += "```\n\n";
    }

    fn shows(&mut self, prompt: &str, line: &str, code: Option<i32>, said: &str) {
        self.page += &format!("{prompt} {line}\n");
        for line in said.replace(ROOT, "/srv").lines() {
            // How old a report is when it is looked at is another thing each time.
            match line.split_once("last report is ").and_then(|(head, rest)| Some((head, rest.split_once(" old")?.1))) {
                Some((head, tail)) => self.page += &format!("{head}last report is 2s old{tail}"),
                None => self.page += line.trim_end(),
            }
            self.page.push('\n');
        }
        if code != Some(0) {
            self.page += &format!("[exit {}]\n", code.unwrap_or(-1));
        }
    }

    /// Runs a command of ours in a shell on a node and shows it.
    fn types_on(&mut self, node: &str, arguments: &str) {
        let words: Vec<&str> = arguments.split(' ').collect();
        let output = self.cluster.ask(node, &words).unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        self.page += "```console\n";
        self.shows(&format!("{node}#"), &format!("rendezvip {arguments}"), output.status.code(), &said);
        self.page += "```\n\n";
    }

    fn writes(&self, path: &str, text: &str) {
        let path = self.cluster.repository.clone_dir().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn pool(&self, name: &str, spec: &str) {
        let text = format!("apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n");
        self.writes(&format!("pools/{name}.yaml"), &text);
    }

    fn waits(&self, node: &str, what: &str, right: impl Fn(&Snapshot) -> bool) {
        if self.cluster.wait_status(node, PATIENCE, right).is_none() {
            let logs = ["edge-a", "edge-b", "edge-c"].map(|node| self.cluster.log_tail(node)).join("\n");
            panic!("{what}: {:#?}\n{logs}\n{}", self.cluster.status(node), self.page);
        }
    }

    fn head(&mut self) -> String {
        self.run("git rev-parse --short=12 HEAD").1.trim().to_owned()
    }
}

fn settled(status: &Snapshot) -> bool {
    status.members.len() == 3
        && status.members.iter().all(|member| member.state == MemberState::Alive)
        && status.vips.iter().all(|vip| vip.state == VipState::Held)
}

/// Waits until the branch tells that all is well: the report of a move comes a moment after it.
fn quiet(tale: &mut Tale) {
    for _ in 0..120 {
        if tale.run("rendezvip diff --repo . --fetch").0 == Some(0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("the branch never says that all is well: {}", tale.run("rendezvip diff --repo .").1);
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/story.md")
}

#[test]
fn a_change_is_reviewed_merged_waited_for_and_told_of_as_the_manual_shows() {
    in_a_lab(|| {
        let mut tale = Tale::new();
        tale.prose(
            "# The story of a change\n\nThree nodes, one repository behind a bare `vips.git`, and somebody with a clone. A test plays this \
             page on real nodes and compares every word, so it shows what this version says.\n\n## The beginning",
        );
        for (path, text) in tale.cluster.base_manifests() {
            tale.writes(&path, &text);
        }
        tale.pool("web", "addresses: [10.99.0.100-10.99.0.105, \"fd99::100\"]");
        let hook = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("pipelines/hooks/pre-receive");
        fs::copy(hook, tale.cluster.repository.bare().join("hooks/pre-receive")).unwrap();
        tale.run("git config user.name 'A. Operator'; git config user.email operator@lab.example");
        tale.run("git add . && git commit --quiet -m 'Nodes and a pool for the web'");
        tale.prose("The repository has the [hook](pipelines.md) that lets nothing in which the nodes would refuse.");
        tale.types(&["ls *", "git push --quiet origin main"]);
        for node in ["edge-a", "edge-b", "edge-c"] {
            tale.cluster.start(node).unwrap();
        }
        tale.waits("edge-a", "the cluster forms", settled);
        quiet(&mut tale);
        let first = tale.head();
        tale.prose(
            "Once the nodes run, their report is on a branch of its own. Nobody needs a way to the nodes to read it.",
        );
        tale.types(&[&format!("rendezvip wait --repo . --revision {first} --timeout 2m"), "rendezvip diff --repo ."]);

        tale.prose(
            "## A branch, and what a reviewer sees\n\nMore addresses for the web, and `edge-c` is to be worked on.",
        );
        tale.run("git checkout --quiet -b maintenance");
        tale.pool("web", "addresses: [10.99.0.100-10.99.0.106, \"fd99::100\"]");
        let (_, node) = tale.run("cat nodes/edge-c.yaml");
        tale.writes("nodes/edge-c.yaml", &node.replace("7847\"}", "7847\", cordon: true}"));
        tale.run("git add .");
        tale.types(&[
            "git commit --quiet -m 'Drain edge-c; one more address'",
            "git diff --unified=0 main | grep '^[-+]'",
        ]);
        tale.prose("The pipeline keeps this as the one comment of the pull request:");
        let (code, plan) = tale.run("rendezvip plan . --base main --format markdown");
        assert_eq!(code, Some(0), "{plan}");
        for line in plan.lines() {
            tale.page += format!("> {line}").trim_end();
            tale.page.push('\n');
        }
        tale.page.push('\n');
        tale.prose("And if `edge-a` died in the meantime? Against what really runs, with its death in mind:");
        tale.types(&["rendezvip plan . --running --live edge-b,edge-c --moves-only"]);

        tale.prose(
            "## Merged\n\nThe hook says once more what comes. Then the pipeline waits until the cluster runs it.",
        );
        tale.run("git checkout --quiet main && git merge --quiet --ff-only maintenance");
        tale.types(&["git push --quiet origin main"]);
        tale.cluster.tell("edge-a", &["reconcile"]).unwrap();
        let merged = tale.head();
        tale.types(&[&format!("rendezvip wait --repo . --revision {merged} --timeout 2m")]);
        tale.waits("edge-a", "the moves are over", settled);
        quiet(&mut tale);
        tale.prose(
            "## What git shows after\n\nThe status branch is what runs, plus `status/`. So a diff shows the status alone, and who has a VIP \
             is a line of a file. Times are left out here.",
        );
        tale.types(&[
            "git diff --name-only main...origin/rendezvip/status",
            "git show origin/rendezvip/status:status/pools/web.yaml | grep -v -i time | sed 's/, since: [^}]*//; /since:/d'",
        ]);

        tale.prose("## A bad commit\n\nA slip: the address of `edge-a` among the VIPs. The hook does not let it in.");
        tale.pool("web", "addresses: [10.99.0.100-10.99.0.106, \"fd99::100\", 10.99.0.10]");
        tale.run("git add . && git commit --quiet -m 'One more'");
        tale.types(&["git push --quiet origin main"]);
        tale.prose("Without the hook it gets in, and nothing happens: the nodes stay with what they run, and say why.");
        let bad = tale.head();
        fs::rename(
            tale.cluster.repository.bare().join("hooks/pre-receive"),
            tale.cluster.repository.bare().join("held"),
        )
        .unwrap();
        tale.types(&["git push --quiet origin main"]);
        fs::rename(
            tale.cluster.repository.bare().join("held"),
            tale.cluster.repository.bare().join("hooks/pre-receive"),
        )
        .unwrap();
        tale.cluster.tell("edge-b", &["reconcile"]).unwrap();
        let saw = |tale: &Tale, node: &str, commit: &str| {
            let commit = commit.to_owned();
            tale.waits(node, "the commit is seen", move |status| {
                status.attempted.as_ref().is_some_and(|attempted| attempted.matches(&commit))
            });
        };
        saw(&tale, "edge-b", &bad);
        tale.types_on("edge-b", &format!("wait --revision {bad} --timeout 2m"));
        tale.types_on("edge-b", "diff");
        tale.prose("A revert is an ordinary commit.");
        tale.run("git revert --no-edit HEAD");
        tale.types(&["git log --oneline", "git push --quiet origin main"]);
        tale.cluster.tell("edge-b", &["reconcile"]).unwrap();
        let reverted = tale.head();
        tale.types(&[&format!("rendezvip wait --repo . --revision {reverted} --timeout 2m")]);

        tale.prose(
            "## History rewritten\n\nSomebody wants the slip out of the history. What nodes run only ever moves forward, so it takes the \
             owner of the repository, and then somebody on a node.",
        );
        tale.run(&format!(
            "git reset --quiet --hard {merged} && git commit --quiet --allow-empty -m 'As if nothing had been'"
        ));
        tale.types(&["git push --quiet --force origin main"]);
        tale.run(&format!("git -C {} config rendezvip.allowRewrite true", tale.cluster.repository.bare().display()));
        tale.types(&["git push --quiet --force origin main  # after: git config rendezvip.allowRewrite true"]);
        for node in ["edge-a", "edge-b", "edge-c"] {
            tale.cluster.tell(node, &["reconcile"]).unwrap();
        }
        let rewritten = tale.head();
        for node in ["edge-a", "edge-b", "edge-c"] {
            saw(&tale, node, &rewritten);
        }
        tale.types_on("edge-c", &format!("wait --revision {rewritten} --timeout 1s"));
        tale.prose("One node is told, and the others hear it from there.");
        tale.types_on("edge-c", &format!("reconcile --accept-history {rewritten}"));
        tale.types(&[&format!("rendezvip wait --repo . --revision {rewritten} --timeout 2m")]);
        quiet(&mut tale);
        tale.types(&["rendezvip diff --repo ."]);

        let page_text = format!("{}\n", tale.page.trim_end());
        if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
            fs::write(page(), &page_text).unwrap();
        }
        let expected = fs::read_to_string(page()).unwrap_or_default();
        for (number, (told, wanted)) in (1..).zip(page_text.lines().zip(expected.lines())) {
            assert_eq!(told, wanted, "docs/story.md:{number}; the whole of what was told:\n{page_text}");
        }
        assert_eq!(page_text.lines().count(), expected.lines().count(), "{page_text}");
    });
}
