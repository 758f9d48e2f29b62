//! The daemon from start to stop: opens every port, starts the threads, and ends them in order.
//!
//! In: the node's own file. Out: an error with a code where it cannot start; otherwise it runs until it is told to stop.
//! Not here: what it does meanwhile (`beat`, `hands`, `office`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::beat::{Beat, inlet};
use super::checks::Checks;
use super::clock::{self, WallClock};
use super::control::SocketFile;
use super::desk::Desk;
use super::error::HostError;
use super::git::{GitConfig, GitPort};
use super::gossip::Gossip;
use super::hands::Hands;
use super::hooks::Hooks;
use super::keeper::Keeper;
use super::keyfile::KeyFile;
use super::manager::{self, Manager};
use super::netlink::{Monitor, Netlink, restore_settings};
use super::nft::Gate;
use super::office::{Message, Office};
use super::recorder::{Blank, Recorder, Written};
use super::state::State;
use super::watch::Watch;
use crate::engine::event::Event;
use crate::engine::recording::Birthday;
use crate::manifest::agent_file::{AgentFile, Source as SourceOf};
use crate::manifest::diagnostic::Diagnostic;
use crate::membership::protocol::Birth;
use crate::membership::timing::Timing;
use crate::membership::view::Sets;
use crate::name::NodeName;
use crate::source::problem::{Code, Problem};
use crate::source::{Config, Source};
use crate::status::scribe::Scribe;
use crate::wire::version::Versions;

/// A daemon that stops lingers so long at most.
const LINGER_AT_STOP: Duration = Duration::from_secs(2);
/// So long for the last hooks.
const HOOKS_AT_STOP: Duration = Duration::from_millis(300);
/// And waits so long for the others to take over.
const LEAVE_PATIENCE: Duration = Duration::from_millis(1500);

/// Why the daemon cannot start. Each prints as one or more lines that begin with `error[RV….]`.
#[derive(Debug)]
pub enum CannotRun {
    /// The node's own file is wrong.
    File(Vec<Diagnostic>),
    /// The host refuses something.
    Host(HostError),
    /// State or git.
    Problem(Problem),
    /// Anything else, already in words with its code.
    Told(String),
}

impl From<HostError> for CannotRun {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

impl From<Problem> for CannotRun {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl fmt::Display for CannotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(diagnostics) => diagnostics.iter().try_for_each(|it| {
                writeln!(f, "{it}")?;
                it.help.as_ref().map_or(Ok(()), |help| writeln!(f, "  = help: {help}"))
            }),
            Self::Host(error) => write!(f, "{error}\n  = help: {}", error.help()),
            Self::Problem(problem) => f.write_str(&problem.report()),
            Self::Told(text) => f.write_str(text),
        }
    }
}

/// This node's name: its own file's, else the host's in lower case.
pub fn node_name(file: &AgentFile) -> Result<NodeName, CannotRun> {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    file.node_name(&host).map_err(|error| {
        CannotRun::Told(format!(
            "error[RV0510]: the host name `{host}` cannot be a node's name: {error}\n  = help: set `node:` in the node's own file"
        ))
    })
}

/// Runs until `stop` says so, speaks these versions of the protocol, and writes down what its engine is told where `record`
/// names a file.
pub fn run(
    file: &AgentFile,
    versions: Versions,
    record: Option<&Path>,
    serve: impl FnOnce(Desk) -> Result<Server, CannotRun>,
) -> Result<(), CannotRun> {
    let me = node_name(file)?;
    let state = Arc::new(State::open(&file.state_dir)?);
    let blank = record.map(Blank::new).transpose()?;
    let keys = KeyFile::new(&file.gossip.key_file);
    let ring = keys.read()?;
    let git_config = GitConfig::new(file, &me)?;

    // A booting node stops whatever its kernel still answers before it sends anything.
    let gate = Gate::open()?;
    let mut netlink = Netlink::open()?;
    let mut leftovers = Vec::new();
    netlink.leftovers(&mut leftovers)?;
    if !leftovers.is_empty() {
        tracing::warn!(count = leftovers.len(), "addresses of an earlier life are taken away");
        for (_, error) in netlink.apply(&leftovers) {
            tracing::warn!(%error, "the kernel refused");
        }
    }

    let now = clock::now();
    let wall = clock::realtime_ns(now) / 1_000_000;
    let epoch = wall.max(state.epoch()?.map_or(0, |kept| kept + 1));
    state.keep_epoch(epoch)?;
    let disk = match state.phase()? {
        None => None,
        Some(bytes) => Some(postcard::from_bytes::<Sets>(&bytes).map_err(|_| {
            Problem::new(Code::StateDamaged, format!("{}: the sets on disk cannot be read", state.path().display()))
        })?),
    };
    let last_good = state.last_good()?;
    let last = last_good.as_ref().map(|good| (good.revision.clone(), good.desired.digest));
    let seed = epoch ^ u64::from(std::process::id());

    let (desk, inbox) = Desk::new();
    let gossip = Gossip::open(file.gossip.bind, me.clone(), ring, versions, desk.counters.clone())?;
    let server = serve(desk.clone())?;
    let keeper = Keeper::spawn()?;
    let monitor = Monitor::open()?;
    let wall_clock = WallClock::watch()?;
    let (inlet, outlet) = inlet()?;
    let (hooks, hooks_ended) = Hooks::start(file.hooks.clone()).map_err(|error| no_thread(&error))?;
    let damped = state.damped()?.into_iter().map(|(pool, until)| {
        let left = Duration::from_millis(until.saturating_sub(wall));
        (pool, now + left)
    });
    inlet.put(Event::Damped(damped.collect()));
    let hands = {
        let inlet = inlet.clone();
        Hands::start(netlink, hooks, move |event| inlet.put(event)).map_err(|error| no_thread(&error))?
    };

    let say = {
        let desk = desk.clone();
        move |outcome| desk.say(Message::Git(outcome))
    };
    let needs_git = git_config.source.is_some() || git_config.status.is_some();
    let writes_status = git_config.status.is_some();
    let git = needs_git.then(|| GitPort::new(git_config, say)).transpose()?;
    let (config, watch) = match &file.source {
        SourceOf::Git(git) => (Config::git(git.poll), None),
        SourceOf::Directory(path) => {
            let desk = desk.clone();
            let watch = Watch::new(path, move |seen| desk.say(Message::Directory(seen)))?;
            (Config::directory(), Some(watch))
        }
    };
    let office = Office {
        me: me.clone(),
        source: Source::new(config, seed, last, now),
        scribe: Scribe::new(seed),
        git,
        watch,
        writes_status,
        state: state.clone(),
        keys,
        inlet: inlet.clone(),
        desk: desk.clone(),
        inbox,
        checks: file.checks.keys().cloned().collect(),
        last_good: last_good.map(|good| (good.revision, Arc::new(good.desired))),
    };

    let birthday = Birthday {
        build: env!("CARGO_PKG_VERSION").to_owned(),
        wall_ms: wall,
        birth: Birth { me: me.clone(), epoch, disk, at: clock::now(), without: Vec::new() },
        timing: Timing::default(),
        rates: (file.announce.rate, file.announce.refresh),
    };
    let recording = blank.map(|blank| blank.begin(&birthday, desk.counters.clone())).transpose()?;
    let (recorder, recorded) = recording.unzip();
    let beat = Beat {
        engine: birthday.engine(),
        gossip,
        gate,
        monitor,
        hands,
        keeper,
        state: state.clone(),
        allow: file.allow.clone(),
        desk: desk.clone(),
        inlet: inlet.clone(),
        outlet,
        clock: wall_clock,
        recorder,
    };
    tracing::info!(node = %me, epoch, "started");

    let office = std::thread::Builder::new()
        .name("office".to_owned())
        .spawn(move || office.run())
        .map_err(|error| no_thread(&error))?;
    let checks = {
        let inlet = inlet.clone();
        Checks::start(file.checks.clone(), move |event| inlet.put(event)).map_err(|error| no_thread(&error))?
    };
    let (ended, wait) = channel();
    let beating = std::thread::Builder::new()
        .name("beat".to_owned())
        .spawn(move || {
            super::priority::raise();
            let beat = beat.run();
            let _ = ended.send(());
            beat
        })
        .map_err(|error| no_thread(&error))?;

    // Whatever ends the beat by itself is told by it; a signal asks it to leave.
    server.wait_for_stop(&wait, &mut Manager::ready(desk.clone()));
    manager::stopping();
    inlet.put(Event::Leave);
    let left = wait.recv_timeout(LEAVE_PATIENCE).is_ok();
    if !left {
        tracing::warn!("the others did not take over in time; this node stops all the same");
        inlet.put(Event::Abandon);
    }
    let beat = beating.join();
    let Ok(mut beat) = beat else {
        // What killed it is in the recording.
        recorded.iter().for_each(Written::wait);
        std::process::abort()
    };
    beat.recorder.take().into_iter().for_each(Recorder::stop);
    linger_and_clean(beat, file);
    drop(checks);
    desk.say(Message::Stop);
    let _ = office.join();
    recorded.iter().for_each(Written::wait);
    let settings = state.settings();
    restore_settings(settings.iter().map(|(path, (old, new))| (path.as_str(), old.as_str(), new.as_str())));
    state.forget_settings();
    // A hook that goes on for longer does so without us.
    let _ = hooks_ended.recv_timeout(HOOKS_AT_STOP);
    tracing::info!("stopped");
    Ok(())
}

fn no_thread(error: &std::io::Error) -> CannotRun {
    CannotRun::Told(format!("error[RV0310]: no thread could be started: {error}"))
}

/// The last steps: traffic is accepted for a moment, then nothing of ours is left on the host.
fn linger_and_clean(beat: Beat, file: &AgentFile) {
    beat.hands.finish();
    if beat.engine.lingers() {
        std::thread::sleep(LINGER_AT_STOP);
    }
    drop(beat.hands);
    let cleaned = Netlink::open().and_then(|mut netlink| {
        let mut edits = Vec::new();
        netlink.leftovers(&mut edits)?;
        Ok(netlink.apply(&edits))
    });
    match cleaned {
        Ok(refused) => refused.iter().for_each(|(_, error)| tracing::warn!(%error, "the kernel refused")),
        Err(error) => tracing::error!(%error, "addresses may be left behind"),
    }
    if let Err(error) = beat.gate.remove() {
        tracing::warn!(%error, state = %file.state_dir.display(), "the gate is left behind, closed");
    }
    if let Err(error) = beat.keeper.dismiss() {
        tracing::warn!(%error, "the keeper did not take its leave");
    }
}

/// What serves people while the daemon runs, and hears the signals that end it.
pub struct Server {
    stop: std::sync::mpsc::Receiver<()>,
    /// Goes when the daemon ends.
    _control: SocketFile,
}

impl Server {
    /// A server that says on `stop` when a signal came.
    pub const fn new(stop: std::sync::mpsc::Receiver<()>, control: SocketFile) -> Self {
        Self { stop, _control: control }
    }

    /// Waits for a signal, or for the beat to end by itself.
    fn wait_for_stop(&self, ended: &std::sync::mpsc::Receiver<()>, manager: &mut Manager) {
        loop {
            manager.attend();
            if self.stop.recv_timeout(Duration::from_millis(50)).is_ok() {
                return;
            }
            match ended.try_recv() {
                Err(std::sync::mpsc::TryRecvError::Empty) => {}
                Ok(()) | Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
            }
        }
    }
}
