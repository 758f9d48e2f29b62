//! What the engine is told, written to a file while it runs: `rendezvip run --record FILE`.
//!
//! In: steps of the beat. Out: a recording, and a count of its bytes. Not here: its form (`engine::recording`), playing
//! it again (`cli`).
//!
//! The beat never waits for a disk: a thread of its own writes, behind a queue with an end. Where that is full, or the
//! disk refuses, or the file is as long as it may be, the recording ends loudly and the daemon goes on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use super::clock;
use super::desk::Counters;
use super::run::CannotRun;
use crate::engine::Engine;
use crate::engine::action::Action;
use crate::engine::event::Event;
use crate::engine::recording::{Birthday, Ending, Tape, Writer, is_one};
use crate::time::Instant;

/// A recording ends when it has grown so long: at 100 ms that is more than a day of three nodes.
const LONGEST: u64 = 1 << 30;
/// Entries that wait for the disk: at three nodes as many as come in minutes.
const WAITING: usize = 8192;
/// What the daemon leaves behind when it is killed is not older than this.
const FLUSH_EVERY: Duration = Duration::from_millis(250);
/// A daemon that ends waits so long for the last bytes.
const PATIENCE: Duration = Duration::from_secs(1);

enum Said {
    Entry(Vec<u8>),
    Stopped,
}

/// The beat's end of a recording.
#[derive(Debug)]
pub struct Recorder {
    tape: Tape,
    /// Gone once it has ended.
    queue: Option<SyncSender<Said>>,
    overrun: Arc<AtomicBool>,
}

/// What says that a recording is whole on its way to the disk.
#[derive(Debug)]
pub struct Written(Receiver<()>);

impl Written {
    /// Waits for that, for a moment.
    pub fn wait(&self) {
        let _ = self.0.recv_timeout(PATIENCE);
    }
}

/// A file to record to, and nothing in it yet.
#[derive(Debug)]
pub struct Blank {
    path: PathBuf,
    file: File,
}

impl Blank {
    /// Makes it. A recording that is there is put aside.
    pub fn new(path: &Path) -> Result<Self, CannotRun> {
        let file = create(path).map_err(|error| refused(path, &error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Begins the recording of the engine that is born so.
    pub fn begin(self, birthday: &Birthday, counters: Arc<Counters>) -> Result<(Recorder, Written), CannotRun> {
        let Self { path, file } = self;
        let begun = Writer::begin(BufWriter::new(file), birthday).and_then(|mut writer| {
            writer.flush()?;
            Ok(writer)
        });
        let writer = begun.map_err(|error| refused(&path, &error))?;
        let (queue, entries) = sync_channel(WAITING);
        let (done, written) = channel();
        let overrun = Arc::new(AtomicBool::new(false));
        tracing::warn!(path = %path.display(), "everything that the engine is told is recorded");
        let scribe = Scribe { path: path.clone(), writer, longest: LONGEST, overrun: overrun.clone(), counters };
        std::thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || {
                scribe.run(&entries);
                let _ = done.send(());
            })
            .map_err(|error| refused(&path, &error))?;
        Ok((Recorder { tape: Tape::new(birthday), queue: Some(queue), overrun }, Written(written)))
    }
}

fn refused(path: &Path, error: &io::Error) -> CannotRun {
    CannotRun::Told(format!(
        "error[RV0616]: {} cannot be recorded to: {error}\n  = help: name a file that does not exist yet, in a folder that this user may write to",
        path.display()
    ))
}

impl Recorder {
    /// Steps the engine, and has it written down.
    pub fn step(&mut self, engine: &mut Engine, now: Instant, event: Event) -> Vec<Action> {
        let Some(queue) = &self.queue else { return engine.step(now, event) };
        let mut refused = None;
        let actions = self.tape.step(engine, now, event, |entry| refused = queue.try_send(Said::Entry(entry)).err());
        if let Some(error) = refused {
            self.overrun.store(matches!(error, TrySendError::Full(_)), Ordering::Relaxed);
            self.queue = None;
        }
        actions
    }

    /// The daemon stopped: nothing follows.
    pub fn stop(mut self) {
        if let Some(queue) = self.queue.take() {
            let _ = queue.send(Said::Stopped);
        }
    }
}

/// A new file that nobody else can read. A recording that is there is put aside, anything else is left alone.
fn create(path: &Path) -> io::Result<File> {
    let new = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match new() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut begin = Vec::new();
            let plain = fs::symlink_metadata(path)?.is_file();
            if plain {
                File::open(path)?.take(64).read_to_end(&mut begin)?;
            }
            if !plain || !(begin.is_empty() || is_one(&begin)) {
                return Err(io::Error::other("there is something else that is no recording"));
            }
            if begin.is_empty() {
                // Of a start that came to nothing: what was put aside is worth more.
                fs::remove_file(path)?;
            } else {
                fs::rename(path, aside(path))?;
            }
            new()
        }
        result => result,
    }
}

/// Where the recording before is put, so that a daemon that is started again at once does not write over its own death.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    PathBuf::from(name)
}

struct Scribe {
    path: PathBuf,
    writer: Writer<BufWriter<File>>,
    longest: u64,
    overrun: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl Scribe {
    fn run(mut self, entries: &Receiver<Said>) {
        let counters = self.counters.clone();
        counters.recording.store(true, Ordering::Relaxed);
        counters.recorded.store(self.writer.length(), Ordering::Relaxed);
        let (path, bytes) = (self.path.clone(), self.longest);
        let result = self.write(entries).and_then(|ending| self.writer.end(ending).map(|_| ending));
        counters.recording.store(false, Ordering::Relaxed);
        let path = path.display();
        match result {
            Ok(Ending::Stopped) => tracing::info!(%path, "the recording is whole"),
            Ok(Ending::Full) => {
                tracing::error!(%path, bytes, "RV0617: the recording ended: it is as long as it may be");
            }
            Ok(Ending::Overrun) => {
                tracing::error!(%path, "RV0617: the recording ended: the disk is slower than what happens here");
            }
            Ok(Ending::Died) => tracing::error!(%path, "RV0617: the recording ended: the beat died"),
            Err(error) => tracing::error!(%path, %error, "RV0617: the recording ended: it cannot be written"),
        }
    }

    /// Writes until something ends it.
    fn write(&mut self, entries: &Receiver<Said>) -> io::Result<Ending> {
        let mut flushed = clock::now();
        loop {
            match entries.recv_timeout(FLUSH_EVERY) {
                Ok(Said::Entry(entry)) => self.writer.entry(&entry)?,
                Ok(Said::Stopped) => return Ok(Ending::Stopped),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(if self.overrun.load(Ordering::Relaxed) { Ending::Overrun } else { Ending::Died });
                }
            }
            self.counters.recorded.store(self.writer.length(), Ordering::Relaxed);
            if self.writer.length() >= self.longest {
                return Ok(Ending::Full);
            }
            let now = clock::now();
            if now.since(flushed) >= FLUSH_EVERY {
                self.writer.flush()?;
                flushed = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::replay::{Next, Player};
    use crate::membership::protocol::Birth;
    use crate::membership::timing::Timing;
    use crate::name::NodeName;

    fn birthday() -> Birthday {
        let me = NodeName::new("edge-a").unwrap();
        let birth = Birth { me, epoch: 7, disk: None, at: Instant::ZERO, without: Vec::new() };
        Birthday { build: "0.1.0".to_owned(), wall_ms: 0, birth, timing: Timing::default(), rates: (10_000, 15) }
    }

    /// A daemon's engine for `seconds`.
    fn live(recorder: &mut Recorder, seconds: u64) {
        let mut engine = birthday().engine();
        for second in 0..seconds {
            recorder.step(&mut engine, Instant::from_micros(second * 1_000_000), Event::Tick);
        }
    }

    fn played(path: &Path) -> (u64, Ending) {
        let mut player = Player::open(File::open(path).unwrap()).unwrap();
        loop {
            match player.play().unwrap() {
                Next::Step(played) => assert!(played.is_same(), "{played:?}"),
                Next::End(ending) => return (player.steps(), ending),
            }
        }
    }

    fn scribe(path: &Path, longest: u64) -> Scribe {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
        let writer = Writer::begin(BufWriter::with_capacity(64, file), &birthday());
        let writer = writer.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Scribe { path: path.to_owned(), writer, longest, overrun: Arc::default(), counters: Arc::default() }
    }

    #[test]
    fn a_recording_is_whole_when_its_daemon_stops_and_makes_room_for_the_next_life() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let counters = Arc::<Counters>::default();
        for seconds in [3, 5] {
            let (mut recorder, written) = Blank::new(&path)
                .unwrap()
                .begin(&birthday(), counters.clone())
                .unwrap_or_else(|error| panic!("{error}"));
            live(&mut recorder, seconds);
            recorder.stop();
            written.wait();
            assert_eq!(played(&path), (seconds, Ending::Stopped));
            assert!(counters.recorded.load(Ordering::Relaxed) > 20);
            // A start that came to nothing leaves a blank, which pushes nothing out.
            drop((seconds == 5).then(|| Blank::new(&path).unwrap()));
        }
        assert_eq!(played(&aside(&path)), (5, Ending::Stopped));
        drop(Blank::new(&path).unwrap());
        assert_eq!(played(&aside(&path)), (5, Ending::Stopped));
        assert!(!counters.recording.load(Ordering::Relaxed));
    }

    #[test]
    fn nothing_but_a_recording_is_put_aside_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (text, link, nowhere) =
            (folder.path().join("text"), folder.path().join("link"), folder.path().join("none"));
        fs::write(&text, "rendezvous").unwrap();
        std::os::unix::fs::symlink(&nowhere, &link).unwrap();
        for path in [&text, &link, folder.path()] {
            let refused = Blank::new(path).unwrap_err().to_string();
            assert!(refused.starts_with("error[RV0616]: "), "{refused}");
        }
        assert_eq!((fs::read_to_string(&text).unwrap().as_str(), nowhere.exists()), ("rendezvous", false));
    }

    #[test]
    fn a_disk_that_is_too_slow_ends_the_recording_and_not_the_daemon() {
        let (queue, entries) = sync_channel(2);
        let overrun = Arc::<AtomicBool>::default();
        let mut recorder = Recorder { tape: Tape::new(&birthday()), queue: Some(queue), overrun: overrun.clone() };
        live(&mut recorder, 10);
        assert!(recorder.queue.is_none() && overrun.load(Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        Scribe { overrun, ..scribe(&path, LONGEST) }.run(&entries);
        assert_eq!(played(&path), (2, Ending::Overrun));
    }

    /// What waits for a scribe after `seconds` of a daemon.
    fn waiting(seconds: u64) -> (Recorder, Receiver<Said>) {
        let (queue, entries) = sync_channel(100);
        let mut recorder = Recorder { tape: Tape::new(&birthday()), queue: Some(queue), overrun: Arc::default() };
        live(&mut recorder, seconds);
        (recorder, entries)
    }

    #[test]
    fn a_recording_that_is_as_long_as_it_may_be_ends_and_the_daemon_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recording");
        let (mut recorder, entries) = waiting(50);
        scribe(&path, 300).run(&entries);
        let (steps, ending) = played(&path);
        assert!(steps < 50 && ending == Ending::Full, "{steps}");
        drop(entries);
        live(&mut recorder, 3);
        assert!(recorder.queue.is_none());
    }

    #[test]
    fn a_full_disk_ends_the_recording_and_says_so() {
        let (mut recorder, entries) = waiting(50);
        let scribe = Scribe { path: PathBuf::from("/dev/full"), ..scribe(Path::new("/dev/null"), LONGEST) };
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        // The beginning stays in its buffer until more comes.
        let writer = Writer::begin(BufWriter::new(file), &birthday()).unwrap();
        let (scribe, counters) = (Scribe { writer, ..scribe }, Arc::<Counters>::default());
        let scribe = Scribe { counters: counters.clone(), ..scribe };
        recorder.queue.take().unwrap().send(Said::Stopped).unwrap();
        scribe.run(&entries);
        assert!(counters.recorded.load(Ordering::Relaxed) > 0 && !counters.recording.load(Ordering::Relaxed));
        drop(entries);
        live(&mut recorder, 3);
    }
}
