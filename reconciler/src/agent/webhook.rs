//! A forge says that something was pushed, and the node looks at its source now and not at the next poll.
//!
//! In: POSTs, signed as GitHub, Gitea, Forgejo and Bitbucket sign them (HMAC-SHA256 of the body), or with GitLab's token.
//! Out: the order to look. Not here: what there is to see (`source`). Off unless the node's own file asks for it; all it
//! can do is one fetch after the other, so a message that is sent again does no harm.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::desk::{Desk, Order};
use super::run::CannotRun;
use crate::manifest::agent_file::Webhook;

/// A body is held in memory until its signature is known. GitHub's are larger for thousands of commits alone.
const MOST: usize = 2 << 20;
/// Shorter secrets can be guessed.
const SHORTEST: usize = 16;

/// Where forges post to, once the address is taken.
#[derive(Debug)]
pub struct Hook {
    /// Listens.
    pub listener: TcpListener,
    secret: Vec<u8>,
}

/// Takes the address, and reads the secret.
pub fn open(webhook: &Webhook) -> Result<Hook, CannotRun> {
    let secret = secret(&webhook.secret_file)?;
    let bind = |address: SocketAddr| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listener = bind(webhook.bind).map_err(|error: std::io::Error| {
        CannotRun::Told(format!(
            "error[RV0602]: webhook {} cannot be served: {error}\n  = help: `source.git.webhook.bind` in the node's own file sets address and port; `ss -ltnp` shows who has it",
            webhook.bind
        ))
    })?;
    Ok(Hook { listener, secret })
}

fn secret(path: &Path) -> Result<Vec<u8>, CannotRun> {
    use std::os::unix::fs::PermissionsExt as _;

    let shown = path.display();
    let refused = |what: String| {
        CannotRun::Told(format!(
            "error[RV0615]: the webhook's secret {shown} cannot be used: {what}\n  = help: put one line of at least {SHORTEST} random characters into it, mode 0600, and give it to the forge too: `openssl rand -hex 32`"
        ))
    };
    let mode = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(refused(format!("others can read it (mode {:04o})", mode & 0o7777)));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.len() < SHORTEST {
        return Err(refused(format!("it has {} characters", line.len())));
    }
    Ok(line.as_bytes().to_vec())
}

/// What the handler works with.
#[derive(Debug)]
struct Gate {
    desk: Desk,
    secret: Vec<u8>,
}

/// What is served: any path takes a POST, and nothing else is there.
pub fn router(hook: &Hook, desk: Desk) -> Router {
    let gate = Arc::new(Gate { desk, secret: hook.secret.clone() });
    Router::new()
        .route("/", post(receive))
        .route("/{*path}", post(receive))
        .layer(DefaultBodyLimit::max(MOST))
        .with_state(gate)
}

async fn receive(State(gate): State<Arc<Gate>>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    if !is_signed(&gate.secret, &headers, &body) {
        return (StatusCode::FORBIDDEN, "not signed by the secret that this node has\n");
    }
    tracing::info!("a webhook asks to look at the source");
    let desk = gate.desk.clone();
    tokio::task::spawn_blocking(move || desk.order(Order::Reconcile { accept_history: None }));
    (StatusCode::ACCEPTED, "looking\n")
}

/// Did somebody send this who has the secret?
fn is_signed(secret: &[u8], headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mac = |content: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(content);
        Some(mac)
    };
    let signature = ["x-hub-signature-256", "x-hub-signature"].into_iter().find_map(text);
    let signature = signature.and_then(|value| value.strip_prefix("sha256=")).or_else(|| text("x-gitea-signature"));
    if let Some(signature) = signature {
        return bytes(signature).zip(mac(body)).is_some_and(|(given, mac)| mac.verify_slice(&given).is_ok());
    }
    // GitLab sends the secret itself. Both are hashed first, so that the time of comparing tells nothing.
    let token = text("x-gitlab-token").and_then(|token| Some((mac(token.as_bytes())?, mac(secret)?)));
    token.is_some_and(|(given, own)| given.verify(&own.finalize().into_bytes()).is_ok())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|digit| digit.to_digit(16).and_then(|it| u8::try_from(it).ok())).collect();
    let digits = digits.filter(|digits| digits.len() == 64)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"It's a Secret to Everybody";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// GitHub's own example, from "Validating webhook deliveries".
    #[test]
    fn a_body_is_taken_from_who_has_the_secret_alone() {
        let right = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed = |name, value: &str, body: &[u8]| is_signed(SECRET, &headers(&[(name, value)]), body);
        assert!(signed("x-hub-signature-256", &format!("sha256={right}"), b"Hello, World!"));
        assert!(signed("x-hub-signature", &format!("sha256={right}"), b"Hello, World!"));
        assert!(signed("x-gitea-signature", right, b"Hello, World!"));
        assert!(!signed("x-hub-signature-256", &format!("sha256={right}"), b"Hello, World?"));
        assert!(!signed("x-hub-signature-256", right, b"Hello, World!"));
        assert!(!signed("x-hub-signature", "sha1=e3", b"Hello, World!"));
        for wrong in ["", "sha256=", "sha256=zz", &format!("sha256={}0", &right[..63]), &format!("sha256={right}00")] {
            assert!(!signed("x-hub-signature-256", wrong, b"Hello, World!"), "{wrong}");
        }
        assert!(!is_signed(SECRET, &headers(&[]), b"Hello, World!"));
    }

    #[test]
    fn gitlabs_token_is_the_secret() {
        assert!(is_signed(SECRET, &headers(&[("x-gitlab-token", "It's a Secret to Everybody")]), b"{}"));
        assert!(!is_signed(SECRET, &headers(&[("x-gitlab-token", "It's a Secret to Everybod")]), b"{}"));
        assert!(!is_signed(SECRET, &headers(&[("x-gitlab-token", "")]), b"{}"));
    }

    #[test]
    fn a_signed_post_orders_a_look_and_anything_else_does_not() {
        use std::io::{Read as _, Write as _};
        use std::net::TcpStream;

        use crate::agent::office::Message;

        let (desk, inbox) = Desk::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let hook = Hook { listener, secret: SECRET.to_vec() };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let router = router(&hook, desk);
                let listener = tokio::net::TcpListener::from_std(hook.listener).unwrap();
                axum::serve(listener, router).await.unwrap();
            });
        });
        let post = |head: &str, body: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            let text = format!("{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
            let right = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
            write!(stream, "{text}X-Hub-Signature-256: sha256={right}\r\n\r\n{body}").unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            answer.split(' ').nth(1).unwrap_or_default().to_owned()
        };
        assert_eq!(post("POST /hook", "Hello, World?"), "403");
        assert_eq!(post("GET /", "Hello, World!"), "405");
        assert!(inbox.try_recv().is_err(), "nothing was ordered");
        assert_eq!(post("POST /", "Hello, World!"), "202");
        let order = inbox.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
        assert!(matches!(order, Message::Order(Order::Reconcile { accept_history: None }, _)));
    }

    #[test]
    fn a_short_secret_or_one_that_others_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let written = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            secret(&path).map_err(|error| error.to_string())
        };
        assert_eq!(written("0123456789abcdef\nsecond line\n", 0o600).unwrap(), b"0123456789abcdef");
        assert!(written("short\n", 0o600).unwrap_err().contains("it has 5 characters"));
        assert!(written("0123456789abcdef\n", 0o644).unwrap_err().contains("others can read it (mode 0644)"));
        std::fs::remove_file(&path).unwrap();
        assert!(secret(&path).unwrap_err().to_string().contains("No such file"));
    }
}
