//! A directory as the source: each new set is read whole, soon after it stands.
//!
//! In: a path, and what the kernel tells of changes (inotify, by `notify`). Out: what was seen, handed to the
//! function given to [`Watch::new`]. Not here: reading files ([`super::directory`]), what is loaded (`source`).
//!
//! Never half of one set and half of the next: links are followed once, everything is read below their target,
//! and how it looked before is compared with how it looks after. A set that moved meanwhile is read again.
//!
//! The kernel's word is only a hint to look: links on the way are watched by the folder that they stand in, and
//! a slow poll finds what no event told (another file system below a link, a lost event).

#![expect(clippy::disallowed_methods, reason = "the shell reads clocks")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use super::directory::{self, Listing};
use super::git::judge;
use super::scan::{Scan, scan, turnings};
use crate::digest::Digest;
use crate::revision::Revision;
use crate::source::problem::{Code, Problem};
use crate::source::{Lineage, Seen};

/// A change is looked at once nothing more happened for so long: files of one set are written one by one.
const QUIET: Duration = Duration::from_millis(50);

/// But not later than this after the first: a set is live within 500 ms.
const PATIENCE: Duration = Duration::from_millis(250);

/// Between two looks that nothing asked for.
const POLL: Duration = Duration::from_secs(5);

/// Between two looks at a directory that is missing, or that the kernel would not watch.
const RETRY: Duration = Duration::from_millis(200);

/// A directory that is missing for less is being swapped.
const GRACE: Duration = Duration::from_secs(1);

/// Something that the thread waits for.
enum Wake {
    Changed,
    Look,
    Stop,
}

/// Names that matter, for the function that takes the kernel's events.
#[derive(Default)]
struct Interest {
    /// Everything below these.
    folders: BTreeSet<PathBuf>,
    /// These alone.
    names: BTreeSet<PathBuf>,
}

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Watch {
    wake: Sender<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch `path`. `deliver` is called from a thread of its own, first with what is there now.
    pub fn new(path: &Path, deliver: impl Fn(Seen) + Send + 'static) -> Result<Self, Problem> {
        let path = path.to_owned();
        let (wake, woken) = channel();
        let events = wake.clone();
        let thread = std::thread::Builder::new()
            .name("directory".to_owned())
            .spawn(move || Watcher::new(path, events).run(&woken, &deliver))
            .map_err(|error| Problem::new(Code::HelperFailed, format!("no thread could be started: {error}")))?;
        Ok(Self { wake, thread: Some(thread) })
    }

    /// Looks now.
    pub fn look(&self) {
        let _ = self.wake.send(Wake::Look);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.wake.send(Wake::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Watcher {
    path: PathBuf,
    notify: Option<RecommendedWatcher>,
    interest: Arc<Mutex<Interest>>,
    /// What the kernel watches, with device and inode: a folder made anew needs a new watch.
    armed: BTreeMap<PathBuf, (u64, u64)>,
    /// The kernel refused a watch.
    blind: bool,
    /// What was read last, by its bytes and by its looks.
    told: Option<Digest>,
    looks: Option<Scan>,
    /// Since when nothing can be read, and whether that was told.
    missing: Option<(Instant, bool)>,
}

impl Watcher {
    fn new(path: PathBuf, events: Sender<Wake>) -> Self {
        let interest = Arc::new(Mutex::new(Interest::default()));
        let matters = Arc::clone(&interest);
        let notify = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let matters = matters.lock().unwrap_or_else(PoisonError::into_inner);
            let relevant = event.as_ref().map_or(true, |event| {
                let named = |path: &PathBuf| {
                    matters.names.contains(path) || path.ancestors().any(|above| matters.folders.contains(above))
                };
                event.need_rescan() || !event.kind.is_access() && event.paths.iter().any(named)
            });
            if relevant {
                let _ = events.send(Wake::Changed);
            }
        })
        .ok();
        Self {
            path,
            blind: notify.is_none(),
            notify,
            interest,
            armed: BTreeMap::new(),
            told: None,
            looks: None,
            missing: None,
        }
    }

    fn run(mut self, woken: &Receiver<Wake>, deliver: &dyn Fn(Seen)) {
        self.look(deliver);
        loop {
            let pause = if self.missing.is_some() || self.blind { RETRY } else { POLL };
            match woken.recv_timeout(pause) {
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Wake::Changed) => {
                    if !settle(woken) {
                        return;
                    }
                }
                Ok(Wake::Look) => self.looks = None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look(deliver);
        }
    }

    /// Reads the set that stands now, if it is another one, and says so.
    fn look(&mut self, deliver: &dyn Fn(Seen)) {
        match self.read() {
            Ok(None) => {}
            Ok(Some(set)) => {
                let digest = content(&set);
                let missed = self.missing.take().is_some_and(|(_, told)| told);
                if self.told != Some(digest) {
                    self.told = Some(digest);
                    deliver(seen(&set, digest));
                } else if missed {
                    deliver(Seen::Unchanged);
                }
            }
            Err(problem) => {
                self.looks = None;
                let (since, told) = self.missing.get_or_insert((Instant::now(), false));
                if !*told && since.elapsed() >= GRACE {
                    *told = true;
                    deliver(Seen::Failed(problem));
                }
            }
        }
    }

    /// The set, unless all looks as before. What is watched is set before anything is read, so that no change
    /// falls between.
    fn read(&mut self) -> Result<Option<Listing>, Problem> {
        for attempt in 0..20 {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
            let before = match scan(&self.path) {
                Ok(before) => before,
                Err(problem) => {
                    self.arm(None);
                    return Err(problem);
                }
            };
            self.arm(Some(&before));
            if self.looks.as_ref() == Some(&before) {
                return Ok(None);
            }
            let set = directory::read(&before.root);
            if scan(&self.path).is_ok_and(|after| after == before) {
                self.looks = Some(before);
                return Ok(Some(set));
            }
        }
        let message = format!("{} changes faster than it can be read", self.path.display());
        Err(Problem::new(Code::DirectoryUnsettled, message))
    }

    /// Has the kernel watch the folders of `scan`, and every folder in which a name leads there.
    fn arm(&mut self, scan: Option<&Scan>) {
        let turnings = turnings(&self.path);
        let folders = scan.map(|scan| scan.folders.clone()).unwrap_or_default();
        {
            let mut interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
            interest.folders = folders.keys().cloned().collect();
            interest.names = turnings.values().flatten().cloned().collect();
        }
        let mut wanted = folders;
        for folder in turnings.into_keys() {
            use std::os::unix::fs::MetadataExt as _;
            if let Ok(data) = std::fs::metadata(&folder) {
                wanted.insert(folder, (data.dev(), data.ino()));
            }
        }
        let Some(notify) = &mut self.notify else { return };
        for (folder, number) in &self.armed {
            if wanted.get(folder) != Some(number) {
                // Fails where the folder is gone, and its watch with it.
                let _ = notify.unwatch(folder);
            }
        }
        let mut blind = false;
        for (folder, number) in &wanted {
            if self.armed.get(folder) != Some(number) {
                blind |= notify.watch(folder, RecursiveMode::NonRecursive).is_err();
            }
        }
        self.armed = if blind { BTreeMap::new() } else { wanted };
        self.blind = blind;
    }
}

/// Waits until nothing more happens. False: it is time to stop.
fn settle(woken: &Receiver<Wake>) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match woken.recv_timeout(QUIET.min(left)) {
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Wake::Changed | Wake::Look) if left.is_zero() => return true,
            Ok(Wake::Changed | Wake::Look) => {}
        }
    }
}

fn content(set: &Listing) -> Digest {
    let parts: Vec<(&str, Digest)> =
        set.files.iter().map(|file| (file.path.as_str(), Digest::of(&file.text))).collect();
    let refused: Vec<String> = set.diagnostics.iter().map(ToString::to_string).collect();
    Digest::of(&postcard::to_allocvec(&(parts, refused)).expect("names and digests serialize"))
}

/// A set of files as a revision: named by what it asks for, or where that is nothing valid, by its bytes.
fn seen(set: &Listing, digest: Digest) -> Seen {
    let parsed = judge(set.load());
    let digest = parsed.as_ref().map_or(digest, |desired| desired.digest);
    Seen::Revision { revision: Revision::Directory(digest), lineage: Lineage::NONE, parsed }
}
