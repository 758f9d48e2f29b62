//! The repository over ssh: Debian's sshd on a port of its own, as whoever runs the tests.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rendezvip::agent::git::protocol::{Remote, Rule, Signers};
use rendezvip::agent::git::{GitConfig, Outcome};
use rendezvip::source::Seen;
use rendezvip::source::problem::Code;
use rendezvip::status::scribe::Written;

use crate::port::{Port, Repository, failed, git, snapshot};
use crate::signed::{allow, key, signed, the_last_good_state_stays};

/// What a forge does with a deploy key: git and nothing else, and where `ro` is, no push.
const FORGE: &str = r#"#!/bin/sh
case "$SSH_ORIGINAL_COMMAND" in
git-upload-pack\ *) ;;
git-receive-pack\ *) [ -z "$1" ] || { echo "ERROR: The key you are authenticating with has been marked as read only." >&2; exit 1; } ;;
*) exit 1 ;;
esac
exec git-shell -c "$SSH_ORIGINAL_COMMAND"
"#;

/// An sshd that serves the folder of a repository, and the files that open it.
struct Server {
    daemon: Child,
    url: String,
    /// The repository's folder: its keys, the server's and its log lie there too.
    repository: Repository,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Server {
    /// One that takes the keys `deploy`, for all, and `reader`, which may not push.
    fn new() -> Self {
        let repository = Repository::new();
        let path = |name: &str| repository.dir.path().join(name);
        for name in ["host", "deploy", "reader"] {
            key(&repository, name);
        }
        fs::write(path("forge"), FORGE).unwrap();
        fs::set_permissions(path("forge"), fs::Permissions::from_mode(0o755)).unwrap();
        let line = |name: &str, how: &str| {
            let public = fs::read_to_string(path(&format!("{name}.pub"))).unwrap();
            format!("restrict,command=\"{}{how}\" {public}", path("forge").display())
        };
        fs::write(path("authorized_keys"), line("deploy", "") + &line("reader", " ro")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nLogLevel VERBOSE\n",
            path("host").display(),
            path("authorized_keys").display(),
        );
        fs::write(path("sshd_config"), settings).unwrap();
        // As root it wants an empty folder below /run, which nobody outside of its namespace needs to see.
        let sshd =
            format!("exec /usr/sbin/sshd -D -e -f {} 2>>{}", path("sshd_config").display(), path("sshd.log").display());
        let mut command = if nix::unistd::geteuid().is_root() {
            let mut command = Command::new("unshare");
            let prepare = format!("mount -t tmpfs -o mode=755 tmpfs /run && mkdir -m 755 /run/sshd && {sshd}");
            command.args(["--mount", "sh", "-c", &prepare]);
            command
        } else {
            let mut command = Command::new("sh");
            command.args(["-c", &sshd]);
            command
        };
        let daemon = command.stdin(Stdio::null()).spawn().expect("a shell starts");
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().expect("a user with a name").name;
        let url = format!("ssh://{user}@127.0.0.1:{port}{}", repository.bare().display());
        let server = Self { daemon, url, repository };
        server.know("known_hosts", "host");
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "sshd (Debian's openssh-server) does not start: {}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.repository.dir.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("sshd.log")).unwrap_or_default()
    }

    /// A file that says that this server has that host key.
    fn know(&self, file: &str, host_key: &str) -> PathBuf {
        let (_, rest) = self.url.split_once('@').unwrap();
        let port = rest.split(['/', ':']).nth(1).unwrap();
        let public = fs::read_to_string(self.path(&format!("{host_key}.pub"))).unwrap();
        fs::write(self.path(file), format!("[127.0.0.1]:{port} {public}")).unwrap();
        self.path(file)
    }

    /// A port with this key, that knows these hosts.
    fn port(&self, key: &str, known_hosts: &str, change: impl FnOnce(&mut GitConfig)) -> Port {
        let opens = |remote: &mut Remote| {
            remote.ssh_key_file = Some(self.path(key));
            remote.known_hosts_file = Some(self.path(known_hosts));
        };
        Port::opening(&self.url, opens, change)
    }
}

#[test]
fn a_deploy_key_reads_and_pushes_over_ssh() {
    let server = Server::new();
    let port = server.port("deploy", "known_hosts", |_| {});
    assert!(matches!(port.pull(None, None, None), Seen::Revision { parsed: Ok(_), .. }), "{}", server.log());
    let main = server.repository.head("main");
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed, "{}", server.log());
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-b")), Written::Committed, "{}", server.log());
    let status = server.repository.ask(&["log", "--first-parent", "--format=%s", "main..rendezvip/status"]);
    assert_eq!(status.len(), 2, "{status:?}");
    assert!(matches!(port.pull(Some(main), Some(main), None), Seen::Unchanged));
    git(&server.repository.bare(), &["fsck", "--strict"]);
}

#[test]
fn a_server_whose_host_key_is_another_or_unknown_is_told_nothing() {
    let server = Server::new();
    key(&server.repository, "another");
    server.know("wrong_hosts", "another");
    fs::write(server.path("no_hosts"), "").unwrap();
    for file in ["wrong_hosts", "no_hosts", "missing_hosts"] {
        let (code, message) = failed(server.port("deploy", file, |_| {}).pull(None, None, None));
        assert_eq!(code, Code::ServerNotTrusted, "{file}: {message}");
        assert!(message.starts_with(&server.url), "{message}");
        let main = server.repository.head("main");
        let port = server.port("deploy", file, |_| {});
        assert!(port.port.tell(snapshot(main, "edge-a", "edge-a")));
        let Outcome::Told(Written::Failed, Some(problem)) = port.next() else { panic!("{file}: it was told") };
        assert_eq!(problem.code, Code::ServerNotTrusted, "{file}: {problem}");
    }
    // Who we are was not said either: the server never saw a key, nor a user.
    let log = server.log();
    assert!(!log.contains("publickey") && !log.contains("Accepted") && log.contains("preauth"), "{log}");
    // The same server is spoken to once its key is the one that is expected.
    assert!(matches!(server.port("deploy", "known_hosts", |_| {}).pull(None, None, None), Seen::Revision { .. }));
}

#[test]
fn a_key_that_the_server_does_not_take_is_named() {
    let server = Server::new();
    key(&server.repository, "stranger");
    let (code, message) = failed(server.port("stranger", "known_hosts", |_| {}).pull(None, None, None));
    assert_eq!(code, Code::NotAuthorized, "{message}");
    assert!(message.contains(&server.path("stranger").display().to_string()), "{message}");
    let (code, message) = failed(server.port("missing", "known_hosts", |_| {}).pull(None, None, None));
    assert_eq!(code, Code::NotAuthorized, "{message}");
    assert!(message.ends_with("missing: No such file or directory (os error 2)"), "{message}");
}

#[test]
fn a_deploy_key_that_may_only_read_serves_all_but_the_status() {
    let server = Server::new();
    let port = server.port("reader", "known_hosts", |_| {});
    assert!(matches!(port.pull(None, None, None), Seen::Revision { parsed: Ok(_), .. }));
    let main = server.repository.head("main");
    assert!(port.port.tell(snapshot(main, "edge-a", "edge-a")));
    let Outcome::Told(Written::Failed, Some(problem)) = port.next() else { panic!("it may not push") };
    assert_eq!(problem.code, Code::NotAuthorized, "{problem}");
    assert!(
        problem.message.ends_with("ERROR: The key you are authenticating with has been marked as read only"),
        "{problem}"
    );
    assert!(matches!(port.pull(Some(main), Some(main), None), Seen::Unchanged));
}

#[test]
fn a_strangers_commit_that_comes_over_ssh_is_refused_and_what_ran_stays() {
    let server = Server::new();
    for who in ["alice", "mallory"] {
        key(&server.repository, who);
    }
    let signers = allow(&server.repository, &["alice"]);
    signed(&server.repository, "alice");
    let port = server.port("deploy", "known_hosts", |config| {
        let signers = Signers { rule: Rule::Head, allowed_signers_file: Some(signers), keyring_file: None };
        config.source.as_mut().unwrap().signers = Some(signers);
    });
    the_last_good_state_stays(&server.repository, &port);
}
