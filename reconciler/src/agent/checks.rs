//! Health checks of the node's own file: can what stands behind the VIPs be reached on this host?
//!
//! In: the checks. Out: an event when one changes. Not here: what a failing check costs (`engine::offer`), which pools
//! name it (`manifest`). All run in one thread of their own, and none waits for another.
//!
//! A check fails until it passed for the first time, so that a node whose service is down takes nothing at boot; its
//! first result counts at once, later ones by `fall` and `rise`.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::engine::event::Event;
use crate::manifest::agent_file::{Check, Probe};
use crate::name::CheckName;

/// An answer's first line is no longer than this.
const STATUS_LINE: u64 = 1024;

/// The thread that checks. Dropping it ends what it runs.
#[derive(Debug)]
pub struct Checks {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Checks {
    /// Starts checking. `deliver` is called from its thread.
    pub fn start(
        checks: impl IntoIterator<Item = (CheckName, Check)>,
        deliver: impl Fn(Event) + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let checks: Vec<_> = checks.into_iter().collect();
        for (name, _) in &checks {
            deliver(Event::Check { check: name.clone(), passes: false });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            runtime.block_on(async move {
                for (name, check) in checks {
                    tokio::spawn(watch(name, check, deliver.clone()));
                }
                // Whether somebody says it or is gone: it is over.
                let _ = stopped.await;
            });
            // A file that hangs is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("checks".to_owned()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What results in a row make of a check.
#[derive(Debug, Default)]
struct Verdict {
    passes: Option<bool>,
    /// So many results in a row spoke against it.
    against: u32,
}

impl Verdict {
    /// Takes a result; returns whether it passes now, where that changed.
    fn take(&mut self, good: bool, fall: u32, rise: u32) -> Option<bool> {
        if self.passes == Some(good) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = if good { rise } else { fall };
        if self.passes.is_some() && self.against < enough {
            return None;
        }
        *self = Self { passes: Some(good), against: 0 };
        Some(good)
    }
}

async fn watch(name: CheckName, check: Check, deliver: impl Fn(Event)) {
    let mut verdict = Verdict::default();
    let mut ticks = interval(check.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looking = None;
    loop {
        ticks.tick().await;
        let result = probe(&check.probe, check.timeout, &mut looking).await;
        let changed = verdict.take(result.is_ok(), check.fall, check.rise);
        let Some(passes) = changed else { continue };
        match result {
            Ok(()) => tracing::info!(check = %name, "passes"),
            Err(why) => tracing::warn!(check = %name, reason = %why, "fails"),
        }
        deliver(Event::Check { check: name.clone(), passes });
    }
}

/// A look at files that may hang, as on a server that is gone; there is never more than one.
type Look = Option<JoinHandle<Result<(), String>>>;

/// One try: why it failed, in words.
async fn probe(probe: &Probe, patience: Duration, looking: &mut Look) -> Result<(), String> {
    let late = |_| format!("no answer within {} ms", patience.as_millis());
    match probe {
        Probe::Tcp(address) => match timeout(patience, TcpStream::connect(address)).await.map_err(late)? {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
        Probe::Http { address, host, path } => {
            timeout(patience, http(*address, host, path)).await.map_err(late)?.unwrap_or_else(|it| Err(it.to_string()))
        }
        Probe::Exec(words) => exec(words, patience).await,
        Probe::File(path) => {
            let path = path.clone();
            look(looking, patience, move || match std::fs::metadata(&path) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            })
            .await
        }
        Probe::Process(name) => {
            let name = name.clone();
            look(looking, patience, move || runs(Path::new("/proc"), &name)).await
        }
    }
}

async fn look(
    looking: &mut Look,
    patience: Duration,
    at: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    let mut under_way = looking.take().unwrap_or_else(|| tokio::task::spawn_blocking(at));
    match timeout(patience, &mut under_way).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            *looking = Some(under_way);
            Err(format!("no answer within {} ms", patience.as_millis()))
        }
    }
}

async fn http(address: std::net::SocketAddr, host: &str, path: &str) -> io::Result<Result<(), String>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rendezvip/{}\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut line = stream.take(STATUS_LINE);
    while !answer.contains(&b'\n') && line.read_buf(&mut answer).await? > 0 {}
    let text = String::from_utf8_lossy(&answer);
    let code = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse::<u16>().ok());
    Ok(match code {
        Some(200..=399) => Ok(()),
        Some(code) => Err(format!("HTTP {code}")),
        None => Err("what came is no answer in HTTP".to_owned()),
    })
}

/// Runs a program, without a shell, in a process group of its own that ends with it.
async fn exec(words: &[String], patience: Duration) -> Result<(), String> {
    let [program, arguments @ ..] = words else { return Err("no program".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{program}: {error}"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    match timeout(patience, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(match (status.code(), status.signal()) {
            (Some(code), _) => format!("{program} exits with {code}"),
            (None, signal) => format!("{program} is ended by signal {}", signal.unwrap_or_default()),
        }),
        Ok(Err(error)) => Err(format!("{program}: {error}")),
        Err(_) => {
            // Before the leader is waited for, its number cannot be anybody else's.
            let _ = group.map(|group| killpg(group, Signal::SIGKILL));
            let _ = child.wait().await;
            Err(format!("{program} is not done within {} ms", patience.as_millis()))
        }
    }
}

/// Does a process of this name run?
fn runs(proc: &Path, name: &str) -> Result<(), String> {
    let entries = std::fs::read_dir(proc).map_err(|error| error.to_string())?;
    let found = entries.flatten().any(|entry| {
        let is_process = entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        is_process
            && std::fs::read(entry.path().join("comm")).is_ok_and(|comm| comm.trim_ascii_end() == name.as_bytes())
    });
    if found { Ok(()) } else { Err(format!("no process `{name}` runs")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn try_once(it: &Probe, patience: Duration) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(async { probe(it, patience, &mut None).await });
        runtime.shutdown_background();
        result
    }

    fn exec_of(words: &[&str]) -> Probe {
        Probe::Exec(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn the_first_result_counts_at_once_and_later_ones_by_fall_and_rise() {
        let mut verdict = Verdict::default();
        let results = [true, true, false, true, false, false, false, true, true, false, true, true, true];
        let changes: Vec<_> = results.iter().map(|good| verdict.take(*good, 2, 3)).collect();
        let mut expected = vec![None; results.len()];
        (expected[0], expected[5], expected[12]) = (Some(true), Some(false), Some(true));
        assert_eq!(changes, expected);
        assert_eq!(Verdict::default().take(false, 5, 5), Some(false));
    }

    #[test]
    fn a_port_passes_while_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(try_once(&Probe::Tcp(address), PATIENCE), Ok(()));
        drop(listener);
        assert!(try_once(&Probe::Tcp(address), PATIENCE).is_err());
    }

    #[test]
    fn http_passes_from_200_to_399() {
        for (answer, passes) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.0 302 Found\r\n\r\n", true),
            ("HTTP/1.1 404 Not Found\r\n\r\n", false),
            ("HTTP/1.1 503\r\n", false),
            ("SSH-2.0-x\r\n", false),
            ("", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let count = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8_lossy(&request[..count]).into_owned()
            });
            let it = Probe::Http { address, host: "vip.example".to_owned(), path: "/health?x=1".to_owned() };
            assert_eq!(try_once(&it, PATIENCE).is_ok(), passes, "{answer}");
            let request = server.join().unwrap();
            assert!(request.starts_with("GET /health?x=1 HTTP/1.1\r\nHost: vip.example\r\n"), "{request}");
        }
    }

    #[test]
    fn a_program_passes_by_its_exit_code_and_no_shell_reads_its_arguments() {
        assert_eq!(try_once(&exec_of(&["/bin/true"]), PATIENCE), Ok(()));
        assert_eq!(try_once(&exec_of(&["/bin/false"]), PATIENCE), Err("/bin/false exits with 1".to_owned()));
        assert!(try_once(&exec_of(&["/nonexistent/program"]), PATIENCE).is_err());
        assert_eq!(try_once(&exec_of(&["/usr/bin/test", "$HOME", "=", "$HOME"]), PATIENCE), Ok(()));
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("made");
        let _ = try_once(&exec_of(&["/bin/echo", &format!("; touch {}", made.display())]), PATIENCE);
        assert!(!made.exists());
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let (pid, late) = (folder.path().join("pid"), folder.path().join("late"));
        let script = format!("echo $$ > {}; (sleep 3; touch {}) & sleep 60", pid.display(), late.display());
        let result = try_once(&exec_of(&["/bin/sh", "-c", &script]), Duration::from_secs(1));
        assert_eq!(result, Err("/bin/sh is not done within 1000 ms".to_owned()));
        let pid = std::fs::read_to_string(pid).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "{pid}");
        std::thread::sleep(Duration::from_secs(3));
        assert!(!late.exists(), "what it started lived on");
    }

    #[test]
    fn a_file_and_a_process_pass_while_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        assert!(try_once(&Probe::File(path.clone()), PATIENCE).is_err());
        std::fs::write(&path, "").unwrap();
        assert_eq!(try_once(&Probe::File(path), PATIENCE), Ok(()));
        let me = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(try_once(&Probe::Process(me.trim().to_owned()), PATIENCE), Ok(()));
        assert!(try_once(&Probe::Process("no-such-process".to_owned()), PATIENCE).is_err());
    }

    #[test]
    fn a_check_fails_until_it_passed_and_tells_only_of_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready");
        std::fs::write(&path, "").unwrap();
        let check = Check {
            probe: Probe::File(path.clone()),
            interval: Duration::from_millis(10),
            timeout: PATIENCE,
            fall: 2,
            rise: 3,
        };
        let (told, hear) = channel();
        let checks = Checks::start([("ready".parse().unwrap(), check)], move |event| {
            let Event::Check { passes, .. } = event else { return };
            let _ = told.send(passes);
        })
        .unwrap();
        let next = || hear.recv_timeout(PATIENCE).unwrap();
        assert!(!next());
        assert!(next());
        std::fs::remove_file(&path).unwrap();
        assert!(!next());
        std::fs::write(&path, "").unwrap();
        assert!(next());
        assert!(hear.recv_timeout(Duration::from_millis(200)).is_err(), "told without a change");
        drop(checks);
        assert!(hear.recv_timeout(PATIENCE).is_err(), "it goes on after its end");
    }
}
