//! The state directory: what outlives a restart.
//!
//! In: the last good state, the phase and the epoch. Out: the same after a restart, or an error with a code;
//! never half of a file. Not here: what the phase means (`membership`), the git mirror (`git`).
//!
//! ```text
//!  stateDir/lock           held by the one daemon that runs with it
//!           desired        the last good state: revision and Desired
//!           phase          bytes of the engine; on disk before it is told to anybody
//!           epoch          the highest epoch used
//!           settings       what the kernel's settings were before this program changed them
//!           damped         until when pools are not to be given back to this node again
//!           mirror.git/    the git port's
//!           home/          the git port's
//! ```
//!
//! A file is written beside its place, flushed, put in place by rename, and the directory is flushed: after a
//! power cut there is the old one or the new one. Each begins with the digest of what follows.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::desired::Desired;
use crate::name::PoolName;
use crate::revision::Revision;
use crate::source::problem::{Code, Problem};

/// The format of `desired`: a program that writes another one bumps it.
const FORMAT: u32 = 1;

/// The last good state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastGood {
    format: u32,
    /// The label under which it was activated.
    pub revision: Revision,
    /// What it asks for.
    pub desired: Desired,
}

/// A state directory that nobody else has.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    /// Held as long as this lives; the kernel lets go of it however the process ends.
    _lock: Flock<File>,
}

/// The last good state of whoever runs with this directory, if it may be read.
pub fn peek(path: &Path) -> Option<LastGood> {
    let bytes = fs::read(path.join("desired")).ok()?;
    let (digest, content) = bytes.split_at_checked(32)?;
    let good: LastGood = serde_json::from_slice(content).ok()?;
    (Digest::of(content).0 == digest && good.format == FORMAT).then_some(good)
}

impl State {
    /// Opens a state directory, made if need be, for this process alone.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let failed = |error: io::Error| unusable(path, "opened", &error);
        fs::DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(failed)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(path.join("lock"))
            .map_err(failed)?;
        let mut holder = String::new();
        let _ = lock.read_to_string(&mut holder);
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                // For the person who meets the lock; nothing rests on it.
                let _ = held.set_len(0);
                let _ = io::Seek::rewind(&mut *held);
                let _ = write!(held, "{}", std::process::id());
                Ok(Self { path: path.to_owned(), _lock: held })
            }
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
                let who = if holder.is_empty() { String::new() } else { format!(" (process {})", holder.trim()) };
                let message = format!("another rendezvip{who} runs with {}", path.display());
                Err(Problem::new(Code::StateLocked, message))
            }
            Err((_, errno)) => Err(unusable(path, "locked", &errno.into())),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last good state; nothing before the first.
    pub fn last_good(&self) -> Result<Option<LastGood>, Problem> {
        let Some(bytes) = self.read("desired")? else { return Ok(None) };
        match serde_json::from_slice::<LastGood>(&bytes) {
            Ok(good) if good.format == FORMAT => Ok(Some(good)),
            // Another version's: as good as none, since the source has it too.
            _ => Ok(None),
        }
    }

    /// Keeps a state that was activated.
    pub fn keep_last_good(&self, revision: &Revision, desired: &Desired) -> Result<(), Problem> {
        let good = LastGood { format: FORMAT, revision: revision.clone(), desired: desired.clone() };
        let bytes = serde_json::to_vec(&good).map_err(|error| unusable(&self.path, "written", &error.into()))?;
        self.write("desired", &bytes)
    }

    /// The phase, as the engine wrote it; nothing before the first. A damaged one is an error: a node that
    /// forgot its phase has to come back as a new one, and only a person can say so.
    pub fn phase(&self) -> Result<Option<Vec<u8>>, Problem> {
        self.read("phase")
    }

    /// Keeps the phase. When this returns it is on the disk, and may be told.
    pub fn keep_phase(&self, bytes: &[u8]) -> Result<(), Problem> {
        self.write("phase", bytes)
    }

    /// The highest epoch that was used here; nothing before the first, or where the file is damaged: the wall
    /// clock and the peers know a bound, too.
    pub fn epoch(&self) -> Result<Option<u64>, Problem> {
        match self.read("epoch") {
            Ok(bytes) => Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes)),
            Err(problem) if problem.code == Code::StateDamaged => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Keeps an epoch, before it is used.
    pub fn keep_epoch(&self, epoch: u64) -> Result<(), Problem> {
        self.write("epoch", &epoch.to_be_bytes())
    }

    /// The kernel's settings that this program changed: path, and what it was and became. None where the file is damaged.
    pub fn settings(&self) -> BTreeMap<String, (String, String)> {
        let bytes = self.read("settings").ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Keeps settings that were changed. What is kept already stays: that was before the first change.
    pub fn keep_settings(&self, changed: BTreeMap<String, (String, String)>) -> Result<(), Problem> {
        let mut kept = changed;
        kept.extend(self.settings());
        let bytes = serde_json::to_vec(&kept).map_err(|error| unusable(&self.path, "written", &error.into()))?;
        self.write("settings", &bytes)
    }

    /// They were put back.
    pub fn forget_settings(&self) {
        let _ = fs::remove_file(self.path.join("settings"));
    }

    /// Until when pools are not to be given back to this node again, by the wall clock in milliseconds; none where the
    /// file is damaged: it only delays.
    pub fn damped(&self) -> Result<BTreeMap<PoolName, u64>, Problem> {
        match self.read("damped") {
            Ok(bytes) => Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()),
            Err(problem) if problem.code == Code::StateDamaged => Ok(BTreeMap::new()),
            Err(problem) => Err(problem),
        }
    }

    /// Keeps that.
    pub fn keep_damped(&self, damped: &BTreeMap<PoolName, u64>) -> Result<(), Problem> {
        let bytes = serde_json::to_vec(damped).map_err(|error| unusable(&self.path, "written", &error.into()))?;
        self.write("damped", &bytes)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Problem> {
        let path = self.path.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unusable(&path, "read", &error)),
        };
        match bytes.split_at_checked(32) {
            Some((digest, content)) if Digest::of(content).0 == digest => Ok(Some(content.to_vec())),
            _ => {
                let message = format!("{} is damaged: its digest does not match what it holds", path.display());
                Err(Problem::new(Code::StateDamaged, message))
            }
        }
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), Problem> {
        let path = self.path.join(name);
        let beside = self.path.join(format!("{name}.new"));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&beside)?;
            file.write_all(&Digest::of(content).0)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(&self.path)?.sync_all()
        })();
        written.map_err(|error| unusable(&path, "written", &error))
    }
}

fn unusable(path: &Path, what: &str, error: &io::Error) -> Problem {
    Problem::new(Code::StateUnusable, format!("{} cannot be {what}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, SourceFile};

    fn desired() -> Desired {
        let text = "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\n---\napiVersion: rendezvip/v1\n\
                    kind: Node\nmetadata: {name: a}\nspec: {address: 10.0.0.1}\n---\napiVersion: rendezvip/v1\n\
                    kind: VipPool\nmetadata: {name: web}\nspec: {addresses: [10.0.0.2, 'fd00::1']}\n";
        let file = SourceFile { path: "a.yaml".to_owned(), text: text.into() };
        manifest::load(&[file]).desired.expect("valid")
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let revision = Revision::Directory(Digest::of(b"x"));
        let damped = BTreeMap::from([(PoolName::new("web").unwrap(), 1_777_896_000_000)]);
        {
            let state = State::open(&path).unwrap();
            assert_eq!((state.last_good(), state.phase(), state.epoch()), (Ok(None), Ok(None), Ok(None)));
            state.keep_phase(b"one").unwrap();
            state.keep_phase(b"two").unwrap();
            state.keep_epoch(1_777_896_000_000).unwrap();
            state.keep_damped(&damped).unwrap();
            state.keep_last_good(&revision, &desired()).unwrap();
        }
        let state = State::open(&path).unwrap();
        assert_eq!(state.phase(), Ok(Some(b"two".to_vec())));
        assert_eq!(state.epoch(), Ok(Some(1_777_896_000_000)));
        assert_eq!(state.damped(), Ok(damped));
        let good = state.last_good().unwrap().unwrap();
        assert_eq!((good.revision, good.desired), (revision, desired()));
    }

    #[test]
    fn a_setting_is_remembered_as_it_was_before_the_first_change() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        let change = |path: &str, old: &str| BTreeMap::from([(path.to_owned(), (old.to_owned(), "2".to_owned()))]);
        state.keep_settings(change("eth0", "0")).unwrap();
        // Killed and started again: what is found now is our own doing.
        state.keep_settings(change("eth0", "1")).unwrap();
        state.keep_settings(change("eth1", "1")).unwrap();
        let kept: Vec<(String, String)> = state.settings().into_iter().map(|(path, (old, _))| (path, old)).collect();
        assert_eq!(kept, [("eth0".to_owned(), "0".to_owned()), ("eth1".to_owned(), "1".to_owned())]);
        state.forget_settings();
        assert!(state.settings().is_empty());
    }

    #[test]
    fn two_daemons_never_share_a_state_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::open(dir.path()).unwrap();
        let problem = State::open(dir.path()).unwrap_err();
        assert_eq!(problem.code, Code::StateLocked);
        assert!(problem.message.contains(&format!("process {}", std::process::id())), "{problem}");
        drop(first);
        State::open(dir.path()).unwrap();
    }

    #[test]
    fn a_damaged_phase_is_an_error_and_a_damaged_epoch_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.keep_phase(b"phase").unwrap();
        state.keep_epoch(7).unwrap();
        for name in ["phase", "epoch"] {
            let mut bytes = fs::read(dir.path().join(name)).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        assert_eq!(state.phase().unwrap_err().code, Code::StateDamaged);
        assert_eq!(state.epoch(), Ok(None));
        fs::write(dir.path().join("phase"), "short").unwrap();
        assert_eq!(state.phase().unwrap_err().code, Code::StateDamaged);
    }

    #[test]
    fn a_write_that_was_cut_off_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        state.keep_phase(b"old").unwrap();
        fs::write(dir.path().join("phase.new"), "half").unwrap();
        assert_eq!(state.phase(), Ok(Some(b"old".to_vec())));
        state.keep_phase(b"new").unwrap();
        assert_eq!(state.phase(), Ok(Some(b"new".to_vec())));
    }
}
