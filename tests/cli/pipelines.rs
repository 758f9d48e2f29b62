//! What others copy: the hook before a bare repository, and the comment of a pull request, as forges meet them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::top;

/// A bare repository with the hook, and a clone of somebody who pushes to it.
struct Forge {
    folder: TempDir,
}

impl Forge {
    fn new() -> Self {
        let forge = Self { folder: TempDir::new().expect("a scratch directory") };
        forge.git(".", &["init", "--quiet", "--bare", "--initial-branch=main", "vips.git"]);
        forge.git(".", &["clone", "--quiet", "vips.git", "work"]);
        let hook = forge.folder.path().join("vips.git/hooks/pre-receive");
        fs::copy(top().join("pipelines/hooks/pre-receive"), hook).expect("the hook is laid");
        forge.git("work", &["checkout", "--quiet", "-B", "main"]);
        for file in ["cluster.yaml", "nodes/edge-a.yaml", "nodes/edge-b.yaml", "nodes/edge-c.yaml", "pools/web.yaml"] {
            let text = fs::read_to_string(top().join("examples/minimal-lab").join(file)).expect("an example");
            forge.write(file, &text);
        }
        forge
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path("work").join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn pool(&self, spec: &str) {
        let pool = format!("apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: web}}\nspec: {spec}\n");
        self.write("pools/web.yaml", &pool);
    }

    /// What git says, and whether it did it.
    fn git(&self, folder: &str, arguments: &[&str]) -> (bool, String) {
        let binary = Path::new(env!("CARGO_BIN_EXE_rendezvip")).parent().expect("a folder").display().to_string();
        let path = format!("{binary}:{}", std::env::var("PATH").unwrap_or_default());
        let mut git = Command::new("git");
        for (name, value) in [("user.name", "somebody"), ("user.email", "somebody@example.org")] {
            git.arg("-c").arg(format!("{name}={value}"));
        }
        let output = git
            .args(arguments)
            .current_dir(self.path(folder))
            .env("PATH", path)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("LC_ALL", "C")
            .envs([("GIT_AUTHOR_DATE", "2026-01-05T08:00:00Z"), ("GIT_COMMITTER_DATE", "2026-01-05T08:00:00Z")])
            .output()
            .expect("git runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn commit(&self, message: &str) {
        self.git("work", &["add", "--all"]);
        assert!(self.git("work", &["commit", "--quiet", "--message", message]).0);
    }

    /// Pushes, and returns what the hook said to whoever pushed, without the padding of git's own.
    fn push(&self, arguments: &[&str]) -> (bool, String) {
        let (done, said) = self.git("work", &[&["push", "--quiet", "origin"], arguments].concat());
        let lines = said.lines().filter_map(|line| line.strip_prefix("remote: ").or(line.strip_prefix("remote:")));
        (done, lines.map(|line| format!("{}\n", line.trim_end())).collect())
    }

    fn head(&self) -> String {
        let output = Command::new("git").args(["rev-parse", "main"]).current_dir(self.path("vips.git")).output();
        String::from_utf8(output.expect("git runs").stdout).expect("a hash")
    }
}

#[test]
fn a_bare_repository_takes_no_commit_that_nodes_would_refuse() {
    let forge = Forge::new();
    forge.commit("first");
    let (done, said) = forge.push(&["main"]);
    assert!(done, "{said}");
    insta::assert_snapshot!("hook-first", said);

    forge.pool("{addresses: [10.99.0.100-10.99.0.104, 10.99.0.10], attach: bridge}");
    forge.commit("a slip");
    let before = forge.head();
    let (done, said) = forge.push(&["main"]);
    assert!(!done && forge.head() == before, "{said}");
    insta::assert_snapshot!("hook-refuses", said);

    forge.pool("{addresses: [10.99.0.100-10.99.0.106]}");
    forge.commit("mended");
    let (done, said) = forge.push(&["main"]);
    assert!(done && forge.head() != before, "{said}");
    insta::assert_snapshot!("hook-shows-moves", said);
}

#[test]
fn other_branches_pass_the_hook_and_the_followed_one_is_neither_deleted_nor_rewritten() {
    let forge = Forge::new();
    forge.commit("first");
    assert!(forge.push(&["main"]).0);
    forge.write("draft.yaml", "kind: Draft\n");
    forge.commit("a draft");
    let (done, said) = forge.push(&["HEAD:draft"]);
    assert!(done && said.is_empty(), "{said}");
    let before = forge.head();
    let (done, said) = forge.push(&["--delete", "main"]);
    assert!(!done && said.contains("is not deleted") && forge.head() == before, "{said}");
    forge.git("work", &["checkout", "--quiet", "--orphan", "other"]);
    forge.git("work", &["rm", "--quiet", "-f", "draft.yaml"]);
    forge.commit("another beginning");
    let (done, said) = forge.push(&["--force", "other:main"]);
    assert!(!done && said.contains("rewrites main") && forge.head() == before, "{said}");
    assert!(forge.git("vips.git", &["config", "rendezvip.allowRewrite", "true"]).0);
    let (done, said) = forge.push(&["--force", "other:main"]);
    assert!(done && forge.head() != before, "{said}");
}

/// What an attribute or a link in the commit could hide from somebody who unpacks it is judged as a node does.
#[test]
fn the_hook_reads_the_commit_as_a_node_does() {
    let forge = Forge::new();
    forge.write(".gitattributes", "pools/hidden.yaml export-ignore\n*.yaml text eol=crlf\n");
    forge.write("pools/hidden.yaml", "apiVersion: rendezvip/v1\nkind: VipPool\n");
    forge.commit("hidden from git archive");
    let (done, said) = forge.push(&["main"]);
    assert!(!done && said.contains("pools/hidden.yaml:1:1: error[RV0121]"), "{said}");
    fs::remove_file(forge.path("work/pools/hidden.yaml")).expect("it was there");
    std::os::unix::fs::symlink("web.yaml", forge.path("work/pools/link.yaml")).expect("a link");
    forge.commit("a link");
    let (done, said) = forge.push(&["main"]);
    assert!(!done && said.contains("pools/link.yaml:1:1: error[RV0115]"), "{said}");
}

/// A forge that keeps comments: those of others, and whatever comes.
#[derive(Default)]
struct Comments {
    bodies: BTreeMap<u64, String>,
    /// Method and path of each request that changes something.
    changes: Vec<String>,
}

/// Serves one forge's way of commenting on pull request 7 until the test ends.
fn serve(comments: Arc<Mutex<Comments>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(&stream, &comments);
        }
    });
    port
}

fn answer(stream: &TcpStream, comments: &Mutex<Comments>) {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    let _ = reader.read_line(&mut first);
    let mut length = 0;
    let mut authorized = false;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
            break;
        }
        let line = line.trim().to_ascii_lowercase();
        authorized |= line == "authorization: token secret" || line == "private-token: secret";
        length = line.strip_prefix("content-length: ").map_or(length, |it| it.parse().expect("a number"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let words: Vec<&str> = first.split(' ').collect();
    let (method, path) = (words[0], words[1]);
    let mut comments = comments.lock().expect("nobody panics with it");
    let body = serde_json::from_slice::<Value>(&body).ok().and_then(|it| it["body"].as_str().map(str::to_owned));
    let (code, answer) = match (authorized, method) {
        (false, _) => ("403 Forbidden", json!({"message": "no"})),
        (_, "GET") if path.ends_with("page=1") => {
            let all = comments.bodies.iter().map(|(id, body)| json!({"id": id, "body": body})).collect();
            ("200 OK", Value::Array(all))
        }
        (_, "GET") => ("200 OK", json!([])),
        (_, _) => {
            comments.changes.push(format!("{method} {path}"));
            let given = path.rsplit('/').next().and_then(|last| last.parse().ok());
            let id = given.filter(|id| comments.bodies.contains_key(id)).unwrap_or(41);
            comments.bodies.insert(id, body.unwrap_or_default());
            ("200 OK", json!({"id": id}))
        }
    };
    let text = answer.to_string();
    let mut stream = stream;
    let _ = write!(stream, "HTTP/1.1 {code}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
}

fn comment(environment: &[(&str, &str)], text: &str) -> String {
    let mut child = Command::new("python3")
        .arg(top().join("pipelines/comment.py"))
        .arg("vips")
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    format!("{} {}{}", output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_pull_request_has_one_comment_that_is_kept_up_to_date_on_every_forge() {
    let scratch = TempDir::new().expect("a scratch directory");
    let event = scratch.path().join("event.json");
    fs::write(&event, r#"{"pull_request": {"number": 7}}"#).expect("a file");
    for (gitlab, created, changed) in [
        (false, "POST /repos/net/vips/issues/7/comments", "PATCH /repos/net/vips/issues/comments/41"),
        (true, "POST /projects/12/merge_requests/7/notes", "PUT /projects/12/merge_requests/7/notes/41"),
    ] {
        let others = BTreeMap::from([(1, "looks good".to_owned()), (2, "<!-- rendezvip plan of db -->\nx".to_owned())]);
        let comments = Arc::new(Mutex::new(Comments { bodies: others.clone(), changes: Vec::new() }));
        let api = format!("http://127.0.0.1:{}", serve(Arc::clone(&comments)));
        let environment: Vec<(&str, &str)> = if gitlab {
            vec![
                ("CI_API_V4_URL", &api),
                ("CI_PROJECT_ID", "12"),
                ("CI_MERGE_REQUEST_IID", "7"),
                ("GITLAB_TOKEN", "secret"),
            ]
        } else {
            vec![
                ("GITHUB_API_URL", &api),
                ("GITHUB_REPOSITORY", "net/vips"),
                ("GITHUB_EVENT_PATH", event.to_str().expect("UTF-8")),
                ("GITHUB_TOKEN", "secret"),
            ]
        };
        assert_eq!(comment(&environment, "2 VIPs move\n"), "0 comment written");
        assert_eq!(comment(&environment, "2 VIPs move\n"), "0 comment is up to date");
        assert_eq!(comment(&environment, "3 VIPs move\n"), "0 comment brought up to date");
        let comments = comments.lock().expect("nobody panics with it");
        assert_eq!(comments.changes, [created, changed]);
        assert_eq!(comments.bodies[&41], "<!-- rendezvip plan of vips -->\n3 VIPs move\n");
        assert!(others.iter().all(|(id, body)| comments.bodies[id] == *body), "a stranger's comment stays");
        drop(comments);
        let mut stranger = environment.clone();
        stranger.last_mut().expect("a token").1 = "guess";
        let refused = comment(&stranger, "4 VIPs move\n");
        assert!(refused.starts_with("0 comment.py: the token may not comment here (403"), "{refused}");
    }
    assert!(comment(&[], "x").starts_with("1 comment.py: "));
}
