//! The status over a network: git's own server behind a small HTTP listener.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rendezvip::agent::git::Outcome;
use rendezvip::source::Seen;
use rendezvip::source::problem::Code;
use rendezvip::status::scribe::Written;

use crate::port::{Port, Repository, git, snapshot};

/// Serves every repository below `root`, with `user:secret` where `guarded`.
fn serve(root: &Path, guarded: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/bare.git", listener.local_addr().unwrap());
    let root = root.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let root = root.clone();
            std::thread::spawn(move || while answer(&stream, &root, guarded).is_some() {});
        }
    });
    url
}

/// One request through `git http-backend`, as CGI (RFC 3875).
fn answer(stream: &TcpStream, root: &PathBuf, guarded: bool) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut words = first.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut kind, mut chunked, mut allowed) = (0, String::new(), false, !guarded);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "content-type" => kind = value.to_owned(),
            "transfer-encoding" => chunked = value == "chunked",
            // user:secret
            "authorization" => allowed |= value == "Basic dXNlcjpzZWNyZXQ=",
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..size]);
        chunked = size > 0;
    }
    let mut stream = stream;
    if !allowed {
        let refusal = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"\r\nContent-Length: 0\r\n\r\n";
        return stream.write_all(refusal.as_bytes()).ok();
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut backend = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", kind)
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("REMOTE_USER", "user")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = backend.stdin.take()?;
    std::thread::spawn(move || drop(input.write_all(&body)));
    let output = backend.wait_with_output().ok()?.stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK");
    let body = &output[end + 4..];
    let head: Vec<&str> = head.lines().filter(|line| !line.starts_with("Status:")).collect();
    let head = format!("HTTP/1.1 {status}\r\n{}\r\nContent-Length: {}\r\n\r\n", head.join("\r\n"), body.len());
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()
}

#[test]
fn a_server_is_read_and_pushed_to_without_force() {
    let repository = Repository::new();
    let url = serve(repository.dir.path(), false);
    let port = Port::new(&url);
    assert!(matches!(port.pull(None, None, None), Seen::Revision { parsed: Ok(_), .. }));
    let main = repository.head("main");
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed);
    let first = repository.head("rendezvip/status");
    let other = Port::new(&url);
    other.pull(None, None, None);
    assert_eq!(other.tell(&snapshot(main, "edge-b", "edge-b")), Written::Committed);
    assert_eq!(repository.ask(&["log", "-1", "--format=%P", "rendezvip/status"]), [first.to_string()]);
    git(&repository.bare(), &["fsck", "--strict"]);
}

#[test]
fn two_scribes_that_race_over_a_network_lose_nothing() {
    let repository = Repository::new();
    let url = serve(repository.dir.path(), false);
    let main = repository.head("main");
    let ports = [Port::new(&url), Port::new(&url)];
    for port in &ports {
        port.pull(None, None, None);
    }
    for (port, owner) in ports.iter().zip(["edge-a", "edge-b"]) {
        assert!(port.port.tell(snapshot(main, owner, owner)));
    }
    for port in &ports {
        assert!(matches!(port.next(), Outcome::Told(Written::Committed, None)));
    }
    assert_eq!(repository.ask(&["log", "--first-parent", "--format=%s", "main..rendezvip/status"]).len(), 2);
}

#[test]
fn credentials_come_from_a_file_and_a_refusal_has_its_code() {
    let repository = Repository::new();
    let url = serve(repository.dir.path(), true);
    match Port::new(&url).pull(None, None, None) {
        Seen::Failed(problem) => assert_eq!(problem.code, Code::NotAuthorized, "{problem}"),
        other => panic!("{other:?}"),
    }
    let file = repository.dir.path().join("credentials");
    for (text, works) in [("user:wrong\n", false), ("user:secret\n", true)] {
        std::fs::write(&file, text).unwrap();
        let port = Port::with(&url, |config| {
            config.source.as_mut().unwrap().remote.credentials_file = Some(file.clone());
        });
        match port.pull(None, None, None) {
            Seen::Revision { .. } => assert!(works),
            Seen::Failed(problem) => assert!(!works && problem.code == Code::NotAuthorized, "{problem}"),
            Seen::Unchanged => panic!("nothing was known"),
        }
    }
}
