//! The repository through a proxy that is asked to CONNECT (RFC 9110, section 9.3.6), as those of companies are.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use rendezvip::agent::git::protocol::{Remote, Rule, Signers};
use rendezvip::agent::git::{GitConfig, Outcome};
use rendezvip::source::Seen;
use rendezvip::source::problem::Code;
use rendezvip::status::scribe::Written;

use crate::http::{certificate, serve, wrap};
use crate::port::{Port, Repository, failed, git, snapshot};
use crate::signed::{allow, key, signed, the_last_good_state_stays};

/// A proxy on this host that reaches `git.lab`, which nobody else does.
struct Proxy {
    url: String,
    /// What it was asked for, in order.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// One that answers with `status`, and connects where that is 200.
    fn new(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&log);
                std::thread::spawn(move || pass_on(stream, status, &log));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn pass_on(mut stream: TcpStream, status: &str, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let target = first.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    log.lock().unwrap().push(target.clone());
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    let Some(port) = target.strip_prefix("CONNECT git.lab:").filter(|_| status.starts_with("200")) else {
        return stream.write_all(answer.as_bytes()).ok();
    };
    let mut there = TcpStream::connect(("127.0.0.1", port.parse::<u16>().ok()?)).ok()?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    let (mut from_there, mut back) = (there.try_clone().ok()?, stream.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_there, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut reader, &mut there);
    there.shutdown(std::net::Shutdown::Both).ok()
}

/// A repository behind TLS: its port on this host, and the file of the authority that vouches for `git.lab` and 127.0.0.1.
fn behind_tls(repository: &Repository) -> (u16, std::path::PathBuf) {
    let inside = serve(repository.dir.path(), false);
    let port = inside.trim_start_matches("http://127.0.0.1:").split('/').next().unwrap().parse().unwrap();
    let (certificate, key) = certificate();
    let file = repository.dir.path().join("ca.pem");
    std::fs::write(&file, certificate.to_pem().unwrap()).unwrap();
    (wrap(&certificate, &key, port), file)
}

/// A port to `host` by way of `proxy`, or of what the environment names.
fn port(
    host: &str,
    outside: u16,
    ca: &std::path::Path,
    proxy: Option<&str>,
    change: impl FnOnce(&mut GitConfig),
) -> Port {
    let opens = |remote: &mut Remote| {
        remote.ca_file = Some(ca.to_owned());
        remote.proxy = proxy.map(str::to_owned);
    };
    Port::opening(&format!("https://{host}:{outside}/bare.git"), opens, change)
}

#[test]
fn what_is_read_and_what_is_pushed_goes_through_the_proxy() {
    let repository = Repository::new();
    let (outside, ca) = behind_tls(&repository);
    let proxy = Proxy::new("200 OK");
    let port = port("git.lab", outside, &ca, Some(&proxy.url), |_| {});
    assert!(matches!(port.pull(None, None, None), Seen::Revision { parsed: Ok(_), .. }));
    let read = proxy.asked().len();
    assert_eq!(port.tell(&snapshot(repository.head("main"), "edge-a", "edge-a")), Written::Committed);
    let asked = proxy.asked();
    assert!(read > 0 && asked.len() > read, "{asked:?}");
    assert!(asked.iter().all(|one| *one == format!("CONNECT git.lab:{outside}")), "{asked:?}");
    git(&repository.bare(), &["fsck", "--strict"]);
}

#[test]
fn a_proxy_does_not_make_a_server_trusted() {
    let repository = Repository::new();
    let (outside, ca) = behind_tls(&repository);
    let proxy = Proxy::new("200 OK");
    let port = port("git.lab", outside, &ca, Some(&proxy.url), |config| {
        config.source.as_mut().unwrap().remote.ca_file = None;
    });
    let (code, message) = failed(port.pull(None, None, None));
    // libgit2 1.9 closes the tunnel before what is inside it, and does not come back: the child is killed.
    assert!([Code::ServerNotTrusted, Code::TimedOut].contains(&code), "{message}");
}

#[test]
fn a_proxy_that_refuses_or_is_not_there_is_named() {
    let repository = Repository::new();
    let (outside, ca) = behind_tls(&repository);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for proxy in [Proxy::new("403 Forbidden").url, format!("http://{nobody}")] {
        let port = port("git.lab", outside, &ca, Some(&proxy), |_| {});
        let (code, message) = failed(port.pull(None, None, None));
        assert_eq!(code, Code::FetchFailed, "{message}");
        let names = format!("https://git.lab:{outside}/bare.git by way of the proxy {proxy}: ");
        assert!(message.starts_with(&names), "{message}");
        assert!(port.port.tell(snapshot(repository.head("main"), "edge-a", "edge-a")));
        let Outcome::Told(Written::Failed, Some(problem)) = port.next() else { panic!("nothing is there") };
        assert!(problem.message.starts_with(&names), "{problem}");
    }
}

/// Set in the run of a test that is started by itself, with an environment of its own.
const INNER: &str = "RENDEZVIP_TEST_URL";

/// The environment is a process's own, so this one runs itself again with another; what is inside reads and pushes.
#[test]
fn without_one_of_its_own_it_takes_the_environments_and_goes_around_it_where_that_says_so() {
    if let Ok(given) = std::env::var(INNER) {
        let [host, outside, ca]: [&str; 3] = given.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let port = port(host, outside.parse().unwrap(), ca.as_ref(), None, |_| {});
        let Seen::Revision { revision, .. } = port.pull(None, None, None) else { panic!("nothing was read") };
        assert_eq!(port.tell(&snapshot(revision.commit().unwrap(), "edge-a", host)), Written::Committed);
        return;
    }
    let repository = Repository::new();
    let (outside, ca) = behind_tls(&repository);
    let thread = std::thread::current();
    let again = |host: &str, proxy: &Proxy, around: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", thread.name().unwrap(), "--nocapture"])
            .env(INNER, format!("{host} {outside} {}", ca.display()))
            .env("https_proxy", &proxy.url)
            .env("no_proxy", around)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    };
    let proxy = Proxy::new("200 OK");
    again("git.lab", &proxy, "other.lab");
    assert!(proxy.asked().iter().all(|one| *one == format!("CONNECT git.lab:{outside}")) && !proxy.asked().is_empty());
    let proxy = Proxy::new("200 OK");
    again("127.0.0.1", &proxy, "other.lab,127.0.0.1");
    assert_eq!(proxy.asked(), [""; 0], "this one is not to be gone through");
}

#[test]
fn a_strangers_commit_that_comes_through_a_proxy_is_refused_and_what_ran_stays() {
    let repository = Repository::new();
    for who in ["alice", "mallory"] {
        key(&repository, who);
    }
    let signers = allow(&repository, &["alice"]);
    signed(&repository, "alice");
    let (outside, ca) = behind_tls(&repository);
    let proxy = Proxy::new("200 OK");
    let port = port("git.lab", outside, &ca, Some(&proxy.url), |config| {
        let signers = Signers { rule: Rule::Head, allowed_signers_file: Some(signers), keyring_file: None };
        config.source.as_mut().unwrap().signers = Some(signers);
    });
    the_last_good_state_stays(&repository, &port);
    assert!(!proxy.asked().is_empty());
}
