//! The control socket: how people order a running node, and what they hear back.
//!
//! In: a path; one line of JSON a connection, an [`Order`]. Out: one line of JSON, the [`Answer`]. Root and the group of
//! the socket's file may connect, since its mode says so (unix(7)): nobody else is asked who they are. Not here: what an
//! order does (`office`), words for a terminal (`cli`).

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::stat::{Mode, fchmod};
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::desk::{Answer, Desk, Order};
use super::run::CannotRun;

/// An order is no longer than this: `form` with a few thousand names.
const MOST: u64 = 256 * 1024;
/// So many at a time; the next waits until one is done.
const CONNECTIONS: usize = 8;
/// An order that is connected has to be said by then.
const SPEAK: Duration = Duration::from_secs(5);

/// What goes back over the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    /// It was taken: a line for the person.
    Done(String),
    /// It was not: an error with its code.
    Error(String),
}

impl From<Answer> for Line {
    fn from(answer: Answer) -> Self {
        answer.map_or_else(Self::Error, Self::Done)
    }
}

/// The socket's file, which goes with the daemon.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Makes the socket. One that a dead daemon left behind is replaced; one that somebody listens on is not.
pub fn bind(path: &Path) -> Result<(UnixListener, SocketFile), CannotRun> {
    let cannot = |what: &dyn fmt::Display| {
        CannotRun::Told(format!(
            "error[RV0603]: the control socket {} cannot be made: {what}\n  = help: `control:` in the node's own file \
             names it, relative to stateDir; at most 107 bytes in all (unix(7))",
            path.display()
        ))
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(cannot(&"a file that is no socket is in its place")),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(cannot(&"another program listens on it")),
        Ok(_) => std::fs::remove_file(path).map_err(|error| cannot(&error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot(&error)),
    }
    let listen = || -> io::Result<UnixListener> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // The file is born with the mode of the socket less the umask, so that at no moment anybody else can connect.
        fchmod(socket.as_fd(), Mode::from_bits_truncate(0o660))?;
        socket.bind(&SockAddr::unix(path)?)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        socket.listen(i32::try_from(CONNECTIONS).unwrap_or(8))?;
        socket.set_nonblocking(true)?;
        Ok(UnixListener::from(std::os::fd::OwnedFd::from(socket)))
    };
    let listener = listen().map_err(|error| cannot(&error))?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// Takes orders until the runtime ends.
pub async fn serve(listener: tokio::net::UnixListener, desk: Desk) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = desk.clone();
                tokio::spawn(async move {
                    // Whoever does not speak or listen in time is not waited for.
                    let _ = timeout(SPEAK * 2, converse(stream, desk)).await;
                    drop(permit);
                });
            }
            // Out of descriptors, most likely: some become free.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse(stream: tokio::net::UnixStream, desk: Desk) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut text = Vec::new();
    let mut reader = tokio::io::BufReader::new(read.take(MOST));
    timeout(SPEAK, reader.read_until(b'\n', &mut text)).await.map_err(io::Error::from)??;
    let line = match understand(&text) {
        Ok(order) => {
            let taken = tokio::task::spawn_blocking(move || desk.order(order)).await;
            taken.unwrap_or_else(|_| Err("error[RV0601]: the node is stopping".to_owned())).into()
        }
        Err(why) => Line::Error(why),
    };
    let mut answer = serde_json::to_vec(&line).map_err(io::Error::other)?;
    answer.push(b'\n');
    write.write_all(&answer).await?;
    write.shutdown().await
}

fn understand(text: &[u8]) -> Result<Order, String> {
    let whole = text
        .strip_suffix(b"\n")
        .ok_or_else(|| format!("error[RV0604]: the order is not one line of at most {} KiB of JSON", MOST / 1024))?;
    serde_json::from_slice(whole).map_err(|error| {
        format!("error[RV0604]: the order is not understood: {error}\n  = help: is `rendezvip` here of the version that runs?")
    })
}

/// Why an order got no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// Nobody listens, or the file is not there, or this user may not.
    Connect(io::Error),
    /// The connection broke, or the answer did not come in time.
    Talk(io::Error),
}

/// Orders something of the node that listens at `path`, and waits for its answer.
pub fn order(path: &Path, order: &Order, patience: Duration) -> Result<Answer, Unanswered> {
    let stream = UnixStream::connect(path).map_err(Unanswered::Connect)?;
    talk(stream, order, patience).map_err(Unanswered::Talk)
}

fn talk(mut stream: UnixStream, order: &Order, patience: Duration) -> io::Result<Answer> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).take(MOST).read_line(&mut answer)?;
    Ok(match serde_json::from_str(&answer)? {
        Line::Done(text) => Ok(text),
        Line::Error(text) => Err(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::office::Message;

    /// A desk whose office takes every order, and the socket before it.
    fn served(path: &Path) -> SocketFile {
        let (desk, inbox) = Desk::new();
        std::thread::spawn(move || {
            while let Ok(message) = inbox.recv() {
                if let Message::Order(order, reply) = message {
                    let answer = match order {
                        Order::Drain => Ok("draining".to_owned()),
                        other => Err(format!("error[RV0402]: {other:?}")),
                    };
                    let _ = reply.send(answer);
                }
            }
        });
        let (listener, file) = bind(path).unwrap_or_else(|error| panic!("{error}"));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { serve(tokio::net::UnixListener::from_std(listener).unwrap(), desk).await });
        });
        file
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn an_order_is_answered_and_a_refusal_keeps_its_code() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _file = served(&path);
        assert_eq!(order(&path, &Order::Drain, PATIENCE).unwrap(), Ok("draining".to_owned()));
        let refused = order(&path, &Order::Reconcile { accept_history: Some("abc".into()) }, PATIENCE).unwrap();
        assert_eq!(refused, Err("error[RV0402]: Reconcile { accept_history: Some(\"abc\") }".to_owned()));
    }

    #[test]
    fn only_root_and_the_group_can_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/control.sock");
        let _bound = bind(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
    }

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the file of a dead daemon stays");
        let (_listener, _file) = bind(&path).unwrap_or_else(|error| panic!("{error}"));
        let refused = bind(&path).map(drop).unwrap_err().to_string();
        assert!(refused.contains("RV0603") && refused.contains("another program listens"), "{refused}");
    }

    #[test]
    fn a_file_of_somebody_else_is_never_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(bind(&path).map(drop).unwrap_err().to_string().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn the_file_goes_with_the_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        drop(bind(&path).map(|(_, file)| file).unwrap_or_else(|error| panic!("{error}")));
        assert!(!path.exists());
        assert!(matches!(order(&path, &Order::Drain, PATIENCE), Err(Unanswered::Connect(_))));
    }

    #[test]
    fn what_is_no_order_is_refused_and_hurts_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let _file = served(&path);
        for text in ["", "\n", "{}\n", "{\"order\":\"drain\"}", "\u{0}\u{1}\n", "[[[[[[[[\n"] {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("error[RV0604]"), "{text:?}: {answer}");
        }
        // Without an end: cut, not kept.
        let mut stream = UnixStream::connect(&path).unwrap();
        let _ = stream.write_all(&vec![b'x'; usize::try_from(MOST).unwrap() + 10_000]);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(order(&path, &Order::Drain, PATIENCE).is_ok());
    }
}
