//! A recording: all that one engine was told from its birth on, and what it decided, so that it can be told again.
//!
//! In: how it was born, each event with its time, the actions that came of it. Out: bytes for a file, and what bytes of
//! a file hold. Not here: the file itself (`agent`, `cli`), playing it again (`replay`).
//!
//! ```text
//!  rendezvip recording 1⏎            the format, readable by anybody
//!  frame: Birthday                   what the engine is made of
//!  frame: Entry::Step, again and again
//!  frame: Entry::End                 missing where the daemon was killed, or the file was cut
//!
//!  frame = length (u32, little endian) | check (8 bytes) | that many bytes of postcard
//!  check = first half of SHA-256(check of the frame before | bytes), so that none is changed, left out or moved
//! ```
//!
//! An engine has no clock and draws no chance, so this is all that its decisions rest on. Of an action the file holds a
//! line for people and a check, not the action. No key is in it: what comes in was opened before, what goes out is not
//! sealed yet.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Engine;
use super::action::Action;
use super::event::Event;
use crate::membership::protocol::Birth;
use crate::membership::timing::Timing;
use crate::time::{Instant, micros};
use crate::vip::Vip;

/// What the first line says before the number of the format.
const TITLE: &str = "rendezvip recording ";
/// The format: a program that writes an event, a birth or an entry in another way raises it.
pub const FORMAT: u32 = 1;
/// The first line is not longer.
const TITLE_LONGEST: usize = 64;
/// A frame is not longer: a set of 65,536 VIPs takes less than 2 MiB.
const FRAME_LONGEST: u32 = 16 << 20;

/// What an engine is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Birthday {
    /// The build that recorded.
    pub build: String,
    /// When, in milliseconds since 1970: for people.
    pub wall_ms: u64,
    /// The node's life.
    pub birth: Birth,
    /// The times before the first desired state is loaded.
    pub timing: Timing,
    /// First announcements and all later ones, a second and an interface.
    pub rates: (u32, u32),
}

impl Birthday {
    /// The engine, newly born.
    pub fn engine(&self) -> Engine {
        Engine::new(self.birth.clone(), self.timing).announcing(self.rates.0, self.rates.1)
    }
}

/// What follows the birth.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Entry {
    /// One call of `step`.
    Step {
        /// Microseconds since the one before it, or since birth.
        after: u64,
        /// What it was told.
        event: Event,
        /// What it decided; nothing where the daemon died of it.
        decided: Option<Vec<Decided>>,
    },
    /// Nothing follows.
    End(Ending),
}

/// Why a recording ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The daemon stopped.
    Stopped,
    /// It grew as long as it may.
    Full,
    /// It could not be written as fast as things happened.
    Overrun,
    /// The daemon died.
    Died,
}

/// An action, as a recording holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// For people.
    pub words: String,
    /// The first bytes of the SHA-256 of all of it.
    pub check: [u8; 4],
}

/// Actions as a recording holds them. Notes are for the log: what they tell of is in the other actions.
pub fn decided(now: Instant, actions: &[Action]) -> Vec<Decided> {
    let told = actions.iter().filter(|action| !matches!(action, Action::Note(_)));
    told.map(|action| {
        let hash = Sha256::digest(bytes_of(action));
        Decided { words: in_words(now, action), check: [hash[0], hash[1], hash[2], hash[3]] }
    })
    .collect()
}

fn bytes_of(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("what a recording is made of serializes")
}

fn in_words(now: Instant, action: &Action) -> String {
    match action {
        Action::Stop(stopped) => format!("stop {}", some(stopped.iter().map(|one| one.vip))),
        Action::Persist(sets) => format!("write phase {} to disk", sets.phase),
        Action::Lease(None) => "no lease".to_owned(),
        Action::Lease(Some(until)) => {
            let left = micros(until.since(now));
            format!("lease for {}.{:03} ms", left / 1000, left % 1000)
        }
        Action::Send(datagram) => format!("send {} datagram {}", datagram.to, datagram.counter),
        Action::Start(started) => format!("start {}", some(started.iter().map(|one| one.vip))),
        Action::Guard(vips) => format!("guard {} VIPs", vips.len()),
        Action::OnLoopback(vips) => format!("{} VIPs on lo", vips.len()),
        Action::Transmit(frames) => format!("transmit {} frames", frames.len()),
        Action::EndLinger(vips) => format!("end linger of {}", some(vips.iter().copied())),
        Action::Fetch(digest) => format!("fetch {}", digest.short()),
        Action::Epoch(epoch) => format!("epoch {epoch}"),
        Action::Damped(damped) => format!("{} pools are not to be given back for a while", damped.len()),
        Action::Left => "left".to_owned(),
        Action::Note(note) => format!("note {note:?}"),
        Action::Alone(None) => "nothing alone".to_owned(),
        Action::Alone(Some(until)) => {
            let left = micros(until.since(now));
            format!("alone for {}.{:03} ms", left / 1000, left % 1000)
        }
        Action::MayBeAlone(vips) => format!("{} VIPs may be served alone", vips.len()),
    }
}

/// The first three, and how many more.
fn some(mut vips: impl ExactSizeIterator<Item = Vip>) -> String {
    let first: Vec<String> = vips.by_ref().take(3).map(|vip| vip.to_string()).collect();
    let more = match vips.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    first.join(", ") + &more
}

/// Turns what happens to one engine into entries.
#[derive(Debug)]
pub struct Tape {
    last: Instant,
}

impl Tape {
    /// For an engine of this birth that was not stepped yet.
    pub const fn new(birthday: &Birthday) -> Self {
        Self { last: birthday.birth.at }
    }

    /// Steps the engine, and hands the bytes of the entry to `keep`; also where the engine panics.
    pub fn step(&mut self, engine: &mut Engine, now: Instant, event: Event, keep: impl FnOnce(Vec<u8>)) -> Vec<Action> {
        // An `Entry::Step` piece by piece, as the engine takes the event away.
        let mut entry = bytes_of(&(0_u8, micros(now.since(self.last)), &event));
        self.last = now;
        entry.reserve(64);
        let mut guard = Kept { entry, decided: None, keep: Some(keep) };
        let actions = engine.step(now, event);
        guard.decided = Some(decided(now, &actions));
        drop(guard);
        actions
    }
}

/// Keeps an entry when it goes, whatever makes it go.
struct Kept<F: FnOnce(Vec<u8>)> {
    entry: Vec<u8>,
    decided: Option<Vec<Decided>>,
    keep: Option<F>,
}

impl<F: FnOnce(Vec<u8>)> Drop for Kept<F> {
    fn drop(&mut self) {
        if let Some(keep) = self.keep.take() {
            self.entry.extend(bytes_of(&self.decided));
            keep(std::mem::take(&mut self.entry));
        }
    }
}

fn chained(before: [u8; 8], bytes: &[u8]) -> [u8; 8] {
    let hash = Sha256::new().chain_update(before).chain_update(bytes).finalize();
    std::array::from_fn(|at| hash[at])
}

/// Writes a recording.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
    check: [u8; 8],
    length: u64,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub fn begin(mut to: W, birthday: &Birthday) -> io::Result<Self> {
        let title = format!("{TITLE}{FORMAT}\n");
        to.write_all(title.as_bytes())?;
        let mut writer = Self { to, check: [0; 8], length: title.len() as u64 };
        writer.entry(&bytes_of(birthday))?;
        Ok(writer)
    }

    /// The bytes of an entry, as [`Tape`] makes them.
    pub fn entry(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= FRAME_LONGEST);
        let length = length.ok_or_else(|| io::Error::other("an event too long for a recording"))?;
        self.check = chained(self.check, bytes);
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(&self.check)?;
        self.to.write_all(bytes)?;
        self.length += 12 + u64::from(length);
        Ok(())
    }

    /// Writes the end, and gives back what was written to.
    pub fn end(mut self, ending: Ending) -> io::Result<W> {
        self.entry(&bytes_of(&Entry::End(ending)))?;
        self.to.flush()?;
        Ok(self.to)
    }

    /// Bytes written so far.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Hands on what is held back.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Why bytes are not a recording that can be read on.
#[derive(Debug)]
pub enum Unreadable {
    /// It does not begin as one.
    NotOne,
    /// One of this format.
    Format(u32),
    /// It ends before its end.
    Cut,
    /// What stands at this byte is not what was written.
    Damaged(u64),
    /// It cannot be read.
    Io(io::Error),
}

/// Reads a recording, and believes nothing in it.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    check: [u8; 8],
    at: u64,
}

impl<R: Read> Reader<R> {
    /// Reads how the engine was born.
    pub fn open(mut from: R) -> Result<(Self, Birthday), Unreadable> {
        let title = first_line(&mut from)?;
        let format = title.strip_prefix(TITLE).and_then(|format| format.parse().ok()).ok_or(Unreadable::NotOne)?;
        if format != FORMAT {
            return Err(Unreadable::Format(format));
        }
        let mut reader = Self { from, check: [0; 8], at: title.len() as u64 + 1 };
        let birthday = reader.frame()?.ok_or(Unreadable::Cut)?;
        Ok((reader, birthday))
    }

    /// How many bytes were read.
    pub const fn place(&self) -> u64 {
        self.at
    }

    /// The next entry. After an [`Entry::End`] nothing may follow.
    pub fn entry(&mut self) -> Result<Entry, Unreadable> {
        let entry = self.frame()?.ok_or(Unreadable::Cut)?;
        if matches!(entry, Entry::End(_)) && !self.some_bytes(1)?.is_empty() {
            return Err(Unreadable::Damaged(self.at));
        }
        Ok(entry)
    }

    /// What one frame holds; nothing where none begins.
    fn frame<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, Unreadable> {
        let begins = self.at;
        let head = self.some_bytes(12)?;
        let Some((length, check)) = head.split_first_chunk::<4>() else {
            return if head.is_empty() { Ok(None) } else { Err(Unreadable::Cut) };
        };
        let length = u32::from_le_bytes(*length);
        if check.len() < 8 {
            return Err(Unreadable::Cut);
        }
        if length > FRAME_LONGEST {
            return Err(Unreadable::Damaged(begins));
        }
        let bytes = self.some_bytes(u64::from(length))?;
        if bytes.len() < length as usize {
            return Err(Unreadable::Cut);
        }
        self.check = chained(self.check, &bytes);
        self.at += 12 + u64::from(length);
        if self.check != check {
            return Err(Unreadable::Damaged(begins));
        }
        match postcard::take_from_bytes(&bytes) {
            Ok((value, [])) => Ok(Some(value)),
            _ => Err(Unreadable::Damaged(begins)),
        }
    }

    /// As many bytes as there are, at most so many.
    fn some_bytes(&mut self, length: u64) -> Result<Vec<u8>, Unreadable> {
        let mut bytes = Vec::new();
        self.from.by_ref().take(length).read_to_end(&mut bytes).map_err(Unreadable::Io)?;
        Ok(bytes)
    }
}

/// The first line, without its end.
fn first_line(from: &mut impl Read) -> Result<String, Unreadable> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < TITLE_LONGEST {
        match from.read(&mut byte) {
            Ok(0) if !line.is_empty() && TITLE.as_bytes().starts_with(&line[..line.len().min(TITLE.len())]) => {
                return Err(Unreadable::Cut);
            }
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => return String::from_utf8(line).map_err(|_| Unreadable::NotOne),
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unreadable::Io(error)),
        }
    }
    Err(Unreadable::NotOne)
}

/// Do these first bytes of a file say that it is a recording, of whatever format?
pub fn is_one(begin: &[u8]) -> bool {
    begin.starts_with(TITLE.as_bytes())
}

/// What happened, in a few words.
pub fn told(event: &Event) -> String {
    match event {
        Event::Tick => "a deadline came".to_owned(),
        Event::Heartbeat { from, epoch, counter, .. } => format!("heartbeat {counter} of {from}@{epoch}"),
        Event::Loaded(generation) => format!("loaded {} as {}", generation.revision, generation.digest().short()),
        Event::MayForm(names, forming) => format!("{} nodes may form a cluster: {forming:?}", names.len()),
        Event::Interfaces(interfaces) => {
            let usable = interfaces.iter().filter(|(_, interface)| interface.usable).map(|(name, _)| name.as_str());
            format!("interfaces that are usable: {}", usable.collect::<Vec<_>>().join(", "))
        }
        Event::Foreign(vips) => format!("{} addresses of others on this host", vips.len()),
        Event::Limits(limits) => format!("limits, {} addresses reserved", limits.reserved.len()),
        Event::Frame { interface, bytes } => format!("frame of {} bytes on {interface}", bytes.len()),
        Event::Told(told) => format!("told of revision {}", told.attempted),
        Event::Attached(vips) => format!("attached {}", some(vips.iter().copied())),
        Event::Refused(vips) => format!("the kernel refused {}", some(vips.iter().map(|(vip, _)| *vip))),
        Event::Removed(vips) => format!("somebody removed {}", some(vips.iter().copied())),
        Event::Check { check, passes } => format!("check {check} {}", if *passes { "passes" } else { "fails" }),
        Event::Drain => "drain".to_owned(),
        Event::Resume => "resume".to_owned(),
        Event::Leave => "leave".to_owned(),
        Event::Abandon => "abandon".to_owned(),
        Event::Form(names) => format!("form anew with {} nodes", names.len()),
        Event::Damped(damped) => format!("{} pools are not to be given back yet", damped.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use super::super::event::{Limits, LocalInterface, Told};
    use super::super::generation::Generation;
    use super::*;
    use crate::digest::Digest;
    use crate::manifest::{SourceFile, load};
    use crate::membership::heartbeat::{Flags, Heartbeat, PeerReport, Says};
    use crate::membership::protocol::Forming;
    use crate::membership::record::NodeRecord;
    use crate::membership::rule::Rule;
    use crate::membership::view::{Sets, ViewId};
    use crate::name::{CheckName, InterfaceName, NodeName, PoolName};
    use crate::placement::offer::Offer;

    /// A repository in which nothing has its default.
    const REPOSITORY: &str = "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\nspec:\n  placement: rendezvous\n  \
        failover: {heartbeat: 50ms, profile: fast}\n---\napiVersion: rendezvip/v1\nkind: Node\nmetadata: {name: edge-a, labels: {rack: r1}}\n\
        spec: {address: \"10.99.0.10:7847\", weight: 3, cordon: true}\n---\napiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\n\
        spec:\n  addresses: [10.99.0.100-10.99.0.102, \"fd99::100\"]\n  interfaces: [eth0]\n  nodeSelector: {matchLabels: {rack: r1}}\n  \
        prefer: [edge-a]\n  attach: loopback\n  together: true\n  failback: manual\n  handover: {linger: 5s}\n  \
        partition: available\n  health: [https]\n  suspend: true\n";

    fn heartbeat() -> Heartbeat {
        let me = NodeName::new("edge-a").unwrap();
        let view = ViewId { number: 7, tag: [7; 16] };
        let offer = Offer {
            interfaces: [(InterfaceName::new("eth0").unwrap(), ["10.99.0.0/16".parse().unwrap()].into())].into(),
            ..Offer::default()
        };
        let sets = Sets::first([me.clone()].into());
        Heartbeat {
            flags: Flags::ANSWER_ME,
            loaded: vec![Digest::of(b"1")],
            disk: Some((1, [1; 8])),
            accepted: Some(view),
            before: None,
            clean: Some(view),
            known_clean: vec![me.clone()],
            settled: vec![view],
            offer: Digest::of(b"2"),
            peers: vec![PeerReport { name: me.clone(), epoch: 1, counter: 2, says: Says::ACK }],
            offers: vec![Arc::new(offer)],
            views: Vec::new(),
            sets: Some(sets.towards([me].into())),
            want_views: vec![view],
            want_offers: vec![Digest::of(b"3")],
            gossip: vec![vec![1, 2, 3]],
            record_version: 1,
            record: Some(Arc::new(NodeRecord { macs: vec![[2, 0, 0, 0, 0, 1]], ..NodeRecord::default() })),
        }
    }

    /// One of each kind, with a value of each form in it.
    fn every_event() -> Vec<Event> {
        let me = NodeName::new("edge-a").unwrap();
        let eth0 = InterfaceName::new("eth0").unwrap();
        let vips: Vec<Vip> = ["10.99.0.100", "fd99::100"].iter().map(|vip| vip.parse().unwrap()).collect();
        let desired = load(&[SourceFile { path: "all.yaml".to_owned(), text: REPOSITORY.into() }]).desired.unwrap();
        let interface = LocalInterface {
            usable: true,
            mac: [2, 0, 0, 0, 0, 1],
            subnets: ["10.99.0.0/16".parse().unwrap(), "fd99::/64".parse().unwrap()].into(),
            own: vec!["10.99.0.10".parse().unwrap(), "fe80::1".parse().unwrap()],
            router: true,
        };
        let limits = Limits {
            prefixes: Some(vec!["10.99.0.0/16".parse().unwrap()]),
            reserved: BTreeMap::from([("10.99.0.1".parse().unwrap(), "the default gateway".to_owned())]),
        };
        vec![
            Event::Tick,
            Event::Heartbeat { from: me.clone(), epoch: 1, counter: 2, heartbeat: Arc::new(heartbeat()) },
            Event::Loaded(Arc::new(Generation::new(Arc::new(desired), "main@sha1:1".to_owned()))),
            Event::MayForm([me.clone()].into(), Forming::ByHand),
            Event::Interfaces(BTreeMap::from([(eth0.clone(), interface)])),
            Event::Foreign(vips.iter().copied().collect()),
            Event::Limits(limits),
            Event::Frame { interface: eth0, bytes: vec![0xff; 42] },
            Event::Told(Box::new(Told { build: "0.1.0".to_owned(), can_push: true, ..Told::default() })),
            Event::Attached(vips.clone()),
            Event::Refused(vec![(vips[0], "no".to_owned())]),
            Event::Removed(vips),
            Event::Check { check: CheckName::new("https").unwrap(), passes: true },
            Event::Drain,
            Event::Resume,
            Event::Leave,
            Event::Abandon,
            Event::Form(BTreeSet::from([me])),
            Event::Damped(BTreeMap::from([(PoolName::new("web").unwrap(), Instant::from_micros(7))])),
        ]
    }

    fn birthday() -> Birthday {
        let me = NodeName::new("edge-a").unwrap();
        let disk = Some(Sets::first([me.clone()].into()));
        let birth = Birth { me, epoch: 7, disk, at: Instant::from_micros(5), without: vec![Rule::LapseIsFinal] };
        Birthday { build: "0.1.0".to_owned(), wall_ms: 9, birth, timing: Timing::default(), rates: (10, 1) }
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        for event in every_event() {
            let entry = Entry::Step { after: 3, event, decided: Some(Vec::new()) };
            let read: Entry = postcard::from_bytes(&bytes_of(&entry)).unwrap();
            assert_eq!(format!("{read:?}"), format!("{entry:?}"));
        }
        let read: Birthday = postcard::from_bytes(&bytes_of(&birthday())).unwrap();
        assert_eq!(format!("{read:?}"), format!("{:?}", birthday()));
    }

    #[test]
    fn what_a_tape_makes_piece_by_piece_is_an_entry() {
        let birthday = birthday();
        let (mut tape, mut engine) = (Tape::new(&birthday), birthday.engine());
        for event in every_event() {
            let told = format!("{event:?}");
            let mut kept = None;
            let now = tape.last + std::time::Duration::from_micros(200);
            let actions = tape.step(&mut engine, now, event, |entry| kept = Some(entry));
            let entry: Entry = postcard::from_bytes(&kept.unwrap()).unwrap();
            let Entry::Step { after, event, decided: told_then } = entry else { panic!("a step: {entry:?}") };
            assert_eq!((after, format!("{event:?}")), (200, told));
            assert_eq!(told_then, Some(decided(now, &actions)));
        }
    }

    #[test]
    fn what_an_engine_died_of_is_the_last_that_is_kept() {
        let mut kept = None;
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = Kept {
                entry: bytes_of(&(0_u8, 1_u64, &Event::Drain)),
                decided: None,
                keep: Some(|entry| kept = Some(entry)),
            };
            std::panic::resume_unwind(Box::new("a bug"));
        }));
        assert!(died.is_err());
        let entry: Entry = postcard::from_bytes(&kept.unwrap()).unwrap();
        assert!(matches!(entry, Entry::Step { after: 1, event: Event::Drain, decided: None }), "{entry:?}");
    }

    /// Where this changes, recordings of before cannot be read any more: [`FORMAT`] has to grow with it.
    #[test]
    fn the_bytes_of_format_1_stay_as_they_are() {
        let line = |name: &str, bytes: &[u8]| format!("{name}: {} bytes, {}\n", bytes.len(), Digest::of(bytes).short());
        let mut lines = line("birthday", &bytes_of(&birthday()));
        for event in every_event() {
            let name = format!("{event:?}");
            let name = name.split([' ', '(']).next().unwrap_or_default();
            lines.push_str(&line(name, &bytes_of(&Entry::Step { after: 3, event, decided: None })));
        }
        for ending in [Ending::Stopped, Ending::Full, Ending::Overrun, Ending::Died] {
            lines.push_str(&line(&format!("{ending:?}"), &bytes_of(&Entry::End(ending))));
        }
        assert_eq!(FORMAT, 1);
        insta::assert_snapshot!(lines);
    }
}
