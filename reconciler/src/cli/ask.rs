//! Asking a node that runs: over HTTP what it knows, over its control socket to do something.
//!
//! In: the node's own file, which says where it listens. Out: its answers. Not here: what they mean (each command).

use std::io::{self, Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use crate::agent::clock;
use crate::agent::control::{self, Unanswered};
use crate::agent::desk::{Answer, Order, Pace, Why};
use crate::agent::run::CannotRun;
use crate::manifest::agent_file::{AgentFile, DEFAULT_PATH, parse_agent};
use crate::status::snapshot::Snapshot;
use crate::time::Instant;
use crate::vip::Vip;

/// A node on this host that does not take a connection by then is not there.
const CONNECT: Duration = Duration::from_secs(2);
/// An answer is whole by then.
const ANSWER: Duration = Duration::from_secs(10);
/// The status of 65,536 VIPs is a quarter of this.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Which node is asked.
#[derive(Debug, Args)]
pub struct Ask {
    /// The node's own file, which says where it can be asked
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

/// Reads a node's own file.
pub fn node_file(path: &Path) -> Result<AgentFile, CannotRun> {
    let shown = path.display().to_string();
    let text = std::fs::read(path).map_err(|error| {
        CannotRun::Told(format!(
            "error[RV0512]: {shown} cannot be read: {error}\n  = help: `--config FILE` names the node's own file"
        ))
    })?;
    parse_agent(&text, &shown).map_err(CannotRun::File)
}

/// A node that can be asked.
#[derive(Debug)]
pub struct Node {
    http: SocketAddr,
    control: PathBuf,
}

impl Ask {
    /// The node that the file describes.
    pub fn node(&self) -> Result<Node, CannotRun> {
        Ok(Node::of(&node_file(&self.config)?))
    }
}

/// Where to connect to reach who listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

impl Node {
    /// The node that the file describes.
    pub fn of(file: &AgentFile) -> Self {
        Self { http: reachable(file.http), control: file.control.clone() }
    }

    /// How well the node's beat keeps its time.
    pub fn pace(&self) -> Result<Pace, Failure> {
        serde_json::from_str(&self.get("/pace")?).map_err(|error| self.strange(&error.to_string()))
    }

    /// The snapshot that the node publishes, and its JSON as it came.
    pub fn status(&self) -> Result<(Snapshot, String), Failure> {
        let text = self.get("/status")?;
        let snapshot = serde_json::from_str(&text).map_err(|error| self.strange(&error.to_string()))?;
        Ok((snapshot, text))
    }

    /// Why a VIP is where it is, and its JSON as it came.
    pub fn why(&self, vip: Vip) -> Result<(Why, String), Failure> {
        let text = self.get(&format!("/why?vip={vip}"))?;
        let why = serde_json::from_str(&text).map_err(|error| self.strange(&error.to_string()))?;
        Ok((why, text))
    }

    /// Does the cluster run this revision, or one that descends from it? Nothing while the node does not know yet.
    pub fn runs(&self, revision: &str) -> Result<Option<bool>, Failure> {
        // Letters, digits and what is escaped go into a query; a branch's name can have anything.
        let escaped: String = revision
            .bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect();
        let text = self.get(&format!("/runs?revision={escaped}"))?;
        serde_json::from_str(&text).map_err(|error| self.strange(&error.to_string()))
    }

    /// What the node answers for `path`.
    pub fn get(&self, path: &str) -> Result<String, Failure> {
        let silent = |error: &dyn std::fmt::Display| {
            let help =
                "does it run? `systemctl status rendezvip`; `http:` in the node's own file says where it is asked";
            Failure::new("RV0605", format!("the node does not answer at http://{}: {error}", self.http), help)
        };
        let end = clock::now() + ANSWER;
        let stream = TcpStream::connect_timeout(&self.http, CONNECT).map_err(|error| silent(&error))?;
        let reply = exchange(stream, self.http, path, end).map_err(|error| silent(&error))?;
        match reply {
            Reply { code: 200, body } => Ok(body),
            Reply { code: 503, body } => {
                let help = "a node knows nothing in its first moments; ask again";
                Err(Failure::new("RV0606", format!("the node cannot say yet: {}", body.trim()), help))
            }
            // The one thing that is asked for by name is a VIP.
            Reply { code: 404, body } if body.starts_with("error[RV0609]: ") => {
                let message = body["error[RV0609]: ".len()..].trim();
                Err(Failure::new("RV0609", message, "`rendezvip status` lists all VIPs"))
            }
            Reply { code, .. } => Err(self.strange(&format!("HTTP {code}"))),
        }
    }

    fn strange(&self, what: &str) -> Failure {
        let message = format!("http://{} answers, but not as a node of this version does: {what}", self.http);
        Failure::new("RV0607", message, "`ss -ltnp` shows who listens there; `rendezvip --version` on both sides")
    }

    /// Orders something.
    pub fn order(&self, order: &Order) -> Result<Answer, Failure> {
        let path = self.control.display();
        control::order(&self.control, order, ANSWER).map_err(|error| {
            let (message, help) = match error {
                Unanswered::Connect(error) if error.kind() == io::ErrorKind::PermissionDenied => (
                    format!("you may not give orders at {path}"),
                    "orders are for root and the group of that socket".to_owned(),
                ),
                Unanswered::Connect(error) => (
                    format!("the node takes no orders at {path}: {error}"),
                    "does it run? `systemctl status rendezvip`".to_owned(),
                ),
                Unanswered::Talk(error) => (
                    format!("the node gave no answer at {path}: {error}"),
                    "it may have been taken all the same: see `rendezvip status` and its log".to_owned(),
                ),
            };
            Failure::new("RV0608", message, help)
        })
    }
}

struct Reply {
    code: u16,
    body: String,
}

fn exchange(mut stream: TcpStream, address: SocketAddr, path: &str, end: Instant) -> io::Result<Reply> {
    stream.set_write_timeout(Some(ANSWER))?;
    // HTTP/1.0: the answer ends where the connection does (RFC 1945, section 7.2.2), so that nothing need be counted.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let left = end.since(clock::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::other("the answer has no end"));
        }
    }
    understand(bytes)
}

fn understand(bytes: Vec<u8>) -> io::Result<Reply> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "what came is no answer in HTTP");
    let text = String::from_utf8(bytes).map_err(|_| bad())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(bad)?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).ok_or_else(bad)?;
    Ok(Reply { code: status.parse().map_err(|_| bad())?, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// A node whose HTTP says `answer` to whoever connects.
    fn saying(answer: &'static [u8]) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let http = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let mut request = [0; 1024];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(answer);
            }
        });
        Node { http, control: PathBuf::from("/nonexistent/control.sock") }
    }

    #[test]
    fn an_answer_is_what_follows_the_head() {
        assert_eq!(saying(b"HTTP/1.1 200 OK\r\na: b\r\n\r\nhello\r\n\r\nx").get("/").unwrap(), "hello\r\n\r\nx");
    }

    #[test]
    fn whatever_else_answers_is_told_apart() {
        let code = |answer| saying(answer).get("/").unwrap_err().code;
        assert_eq!(code(b"HTTP/1.1 503 Service Unavailable\r\n\r\nstarting\n"), "RV0606");
        assert_eq!(code(b"HTTP/1.1 404 Not Found\r\n\r\nerror[RV0609]: no VIP\n"), "RV0609");
        assert_eq!(code(b"HTTP/1.1 404 Not Found\r\n\r\n"), "RV0607");
        assert_eq!(code(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "RV0605");
        assert_eq!(code(b"HTTP/1.\xff"), "RV0605");
        assert_eq!(code(b""), "RV0605");
        assert_eq!(saying(b"HTTP/1.1 200 OK\r\n\r\n{}").status().unwrap_err().code, "RV0607");
    }

    #[test]
    fn a_node_that_does_not_run_is_said_not_to() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let node = Node { http: listener.local_addr().unwrap(), control: PathBuf::from("/nonexistent/control.sock") };
        drop(listener);
        assert_eq!(node.get("/status").unwrap_err().code, "RV0605");
        assert_eq!(node.order(&Order::Drain).unwrap_err().code, "RV0608");
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listens, asked) in
            [("0.0.0.0:9747", "127.0.0.1:9747"), ("[::]:1", "[::1]:1"), ("10.99.0.10:9747", "10.99.0.10:9747")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
