//! The status over a network: git's own server behind a small HTTP listener.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use rendezvip::agent::git::Outcome;
use rendezvip::source::Seen;
use rendezvip::source::problem::Code;
use rendezvip::status::scribe::Written;

use crate::port::{Port, Repository, git, snapshot};

/// Serves every repository below `root`, with `user:secret` where `guarded`.
pub fn serve(root: &Path, guarded: bool) -> String {
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

/// Takes TLS off whatever comes to the port that is returned, and passes it on to `port`, both on this host.
pub fn wrap(certificate: &X509, key: &PKey<Private>, port: u16) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
    acceptor.set_private_key(key).unwrap();
    acceptor.set_certificate(certificate).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let acceptor = acceptor.clone();
            std::thread::spawn(move || {
                // Whoever does not trust us goes away in the middle of the handshake.
                let Ok(mut secret) = acceptor.accept(stream) else { return };
                let Ok(mut plain) = TcpStream::connect(("127.0.0.1", port)) else { return };
                let short = Some(std::time::Duration::from_millis(5));
                if secret.get_ref().set_read_timeout(short).and(plain.set_read_timeout(short)).is_err() {
                    return;
                }
                while pass(&mut secret, &mut plain) && pass(&mut plain, &mut secret) {}
            });
        }
    });
    outside
}

/// Passes on what has come; false once the other side is gone.
fn pass(from: &mut impl Read, to: &mut impl Write) -> bool {
    let mut bytes = [0; 16 * 1024];
    match from.read(&mut bytes) {
        Ok(0) => false,
        Ok(count) => to.write_all(&bytes[..count]).is_ok(),
        Err(error) => matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

/// A certificate for 127.0.0.1 and `git.lab` that vouches for itself, and its key.
pub fn certificate() -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "git.lab").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    let context = builder.x509v3_context(None, None);
    let address = SubjectAlternativeName::new().ip("127.0.0.1").dns("git.lab").build(&context).unwrap();
    builder.append_extension(address).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}

#[test]
fn an_authority_of_ones_own_is_trusted_by_its_file_and_not_without() {
    let repository = Repository::new();
    let inside = serve(repository.dir.path(), false);
    let port: u16 = inside.trim_start_matches("http://127.0.0.1:").split('/').next().unwrap().parse().unwrap();
    let (certificate, key) = certificate();
    let url = format!("https://127.0.0.1:{}/bare.git", wrap(&certificate, &key, port));
    match Port::new(&url).pull(None, None, None) {
        Seen::Failed(problem) => assert_eq!(problem.code, Code::ServerNotTrusted, "{problem}"),
        other => panic!("{other:?}"),
    }
    let file = repository.dir.path().join("ca.pem");
    std::fs::write(&file, certificate.to_pem().unwrap()).unwrap();
    let trusting = Port::with(&url, |config| config.source.as_mut().unwrap().remote.ca_file = Some(file));
    match trusting.pull(None, None, None) {
        Seen::Revision { parsed: Ok(_), .. } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_protected_branch_is_survived_and_named() {
    use std::os::unix::fs::PermissionsExt as _;

    let repository = Repository::new();
    let hook = repository.bare().join("hooks/update");
    std::fs::write(&hook, "#!/bin/sh\necho \"$1 is protected\"\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = serve(repository.dir.path(), false);
    let port = Port::new(&url);
    port.pull(None, None, None);
    let main = repository.head("main");
    assert!(port.port.tell(snapshot(main, "edge-a", "edge-a")));
    let Outcome::Told(Written::Failed, Some(problem)) = port.next() else { panic!("it is protected") };
    assert_eq!(problem.code, Code::PushFailed);
    assert!(problem.message.contains("refused the push to `rendezvip/status`: hook declined"), "{problem}");
    // What may be read is read as ever.
    assert!(matches!(port.pull(Some(main), Some(main), None), Seen::Unchanged));
    std::fs::remove_file(&hook).unwrap();
    assert_eq!(port.tell(&snapshot(main, "edge-a", "edge-a")), Written::Committed);
}
