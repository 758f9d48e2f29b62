//! What tells two states of the cluster apart: all that can make a difference later, and nothing else.
//!
//! In: whatever serializes. Out: a hash, in which an instant counts by how long ago it is, up to an age after which no rule
//! asks any more, and a counter by its place among those that anybody can still mention. So a cluster at rest comes back to
//! the same state with each heartbeat, and the search comes to an end by itself. Not here: the states (`cluster`).

use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};

use rendezvip::membership::protocol::Protocol;
use rendezvip::time::Instant;
use serde::ser::{self, Serialize};

use super::cluster::{Datagram, NODES, index};

/// How old each instant may be and still be told from an older one, in microseconds; by the field that it stands in.
pub struct Ages {
    /// L.
    pub lease: u64,
    /// D.
    pub silence: u64,
    /// One heartbeat.
    pub heartbeat: u64,
    /// A stall, or L, whichever is longer.
    pub stall: u64,
    /// Three heartbeats, or `settle`, whichever is longer.
    pub spreading: u64,
    /// `join`, or 2 D, whichever is longer.
    pub steady: u64,
    /// What the last by rank waits longer than the first, and a step before it.
    pub ranks: u64,
    /// The longest that any rule looks back.
    pub longest: u64,
}

/// Counters that somebody can still mention, of each node, ascending.
pub type Mentioned = [Vec<u64>; NODES];

/// Walks values and hashes them.
pub struct Walk<'a> {
    hasher: DefaultHasher,
    now: Instant,
    ages: &'a Ages,
    mentioned: Mentioned,
    /// The first walk only looks for counters.
    gathers: bool,
    /// Whose state this is.
    me: usize,
    /// From whom to whom, where this is a datagram on its way.
    on_its_way: Option<(usize, usize)>,
    /// Of this node are counters in the value being walked.
    of: usize,
    /// The last name walked: the key of a map, where its value comes next.
    last: usize,
    oldest: u64,
    mode: Mode,
}

/// What to do with what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Hash it.
    All,
    /// Of a map only the keys.
    Keys,
    /// It is an instant.
    Instant,
    /// It is a counter of node `of`.
    Counter,
    /// Counters of node `me`, each with the instant at which it was sent, while anybody can mention it.
    Sent,
    /// An instant that belongs to a counter that nobody can mention.
    Nothing,
}

/// The hash of a cluster's protocols, the datagrams on their way, and whatever `all_else` adds.
pub fn fingerprint(
    now: Instant,
    ages: &Ages,
    protocols: &[Option<&Protocol>; NODES],
    on_their_way: &[&Datagram],
    all_else: impl FnOnce(&mut DefaultHasher, &dyn Fn(Instant) -> i64),
) -> u64 {
    let hasher = DefaultHasher::new();
    let (mentioned, mode) = (Mentioned::default(), Mode::All);
    let mut walk =
        Walk { hasher, now, ages, mentioned, gathers: true, me: 0, on_its_way: None, of: 0, last: 0, oldest: 0, mode };
    for protocol in protocols.iter().flatten() {
        protocol.serialize(&mut walk).expect("walking does not fail");
    }
    for datagram in on_their_way {
        walk.mentioned[datagram.from].push(datagram.outgoing.counter);
        for report in &datagram.outgoing.heartbeat.peers {
            walk.mentioned[index(report.name.as_str())].push(report.counter);
        }
    }
    for mentioned in &mut walk.mentioned {
        mentioned.sort_unstable();
        mentioned.dedup();
    }
    walk.gathers = false;
    for (node, protocol) in protocols.iter().enumerate() {
        walk.me = node;
        walk.put(protocol.is_some());
        if let Some(protocol) = protocol {
            protocol.serialize(&mut walk).expect("walking does not fail");
        }
    }
    walk.put(on_their_way.len());
    for datagram in on_their_way {
        walk.on_its_way = Some((datagram.from, datagram.to));
        walk.put((datagram.from, datagram.to));
        datagram.outgoing.serialize(&mut walk).expect("walking does not fail");
    }
    let longest = ages.longest as i64;
    all_else(&mut walk.hasher, &|at| (now.as_micros() as i64).wrapping_sub(at.as_micros() as i64).min(longest));
    walk.hasher.finish()
}

impl Walk<'_> {
    fn put(&mut self, value: impl Hash) {
        if self.gathers {
            return;
        }
        value.hash(&mut self.hasher);
    }

    fn instant(&mut self, at: u64) {
        if at == u64::MAX {
            return i64::MAX.hash(&mut self.hasher);
        }
        if self.gathers {
            return;
        }
        let age = self.now.as_micros() as i64 - at as i64;
        age.min(self.oldest as i64).hash(&mut self.hasher);
    }

    /// The place of a counter of `of`; nothing where nobody can mention it any more.
    fn place(&self, of: usize, counter: u64) -> Option<usize> {
        self.mentioned[of].binary_search(&counter).ok()
    }

    /// What a field of a structure is worth; false where it is told by other fields, or never read.
    fn enter(&mut self, name: &'static str, key: &'static str) -> bool {
        if self.gathers {
            return matches!((name, key), ("Protocol", "peers") | ("Peer", "counter"));
        }
        self.oldest = match key {
            "ack_until" => 0,
            "beat_at" | "silent_since" | "asked_at" => self.ages.heartbeat,
            "echo_sent" | "sent" => self.ages.lease,
            "heard_at" | "stall_end" => self.ages.silence,
            "due" => self.ages.stall + 1,
            "member_since" => self.ages.silence + 1,
            "accepted_at" | "offer_changed_at" => self.ages.spreading,
            "steady_since" => self.ages.steady,
            "calm_since" | "blocked_since" => self.ages.ranks,
            _ => self.ages.longest,
        };
        match (name, key) {
            // The same for all states, or only counted.
            (
                "Protocol",
                "me" | "timing" | "without" | "lapses" | "declared" | "forming" | "record" | "empty_offer",
            ) => false,
            // Nobody is ever alone here.
            ("Protocol", "may_be_alone" | "company_at" | "had_company" | "alone" | "gossip") => false,
            // Its digest stands beside it; and the next counter is above all others.
            ("Protocol", "offer" | "counter") => false,
            ("Peer", "record" | "record_version") => false,
            _ => true,
        }
    }
}

/// Nothing here fails; the trait wants an error all the same.
#[derive(Debug)]
pub struct Never;

impl Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("never")
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// The fields of one structure.
pub struct Fields<'w, 'a> {
    walk: &'w mut Walk<'a>,
    name: &'static str,
}

macro_rules! plain {
    ($($name:ident: $type:ty),*) => { $(fn $name(self, value: $type) -> Result<(), Never> { self.put(value); Ok(()) })* };
}

impl<'w, 'a> ser::Serializer for &'w mut Walk<'a> {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Fields<'w, 'a>;
    type SerializeStructVariant = Fields<'w, 'a>;

    plain! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_char: char,
        serialize_bytes: &[u8]
    }

    fn serialize_u64(self, value: u64) -> Result<(), Never> {
        match self.mode {
            Mode::All | Mode::Keys => self.put(value),
            Mode::Instant => self.instant(value),
            Mode::Counter if self.gathers => self.mentioned[self.of].push(value),
            Mode::Counter => {
                let place = self.place(self.of, value);
                self.put(place);
            }
            Mode::Sent => {
                let place = self.place(self.me, value);
                self.put(place);
                self.mode = if place.is_some() { Mode::Sent } else { Mode::Nothing };
            }
            Mode::Nothing => self.mode = Mode::Sent,
        }
        Ok(())
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_f32(self, _: f32) -> Result<(), Never> {
        Err(Never)
    }

    fn serialize_f64(self, _: f64) -> Result<(), Never> {
        Err(Never)
    }

    fn serialize_str(self, text: &str) -> Result<(), Never> {
        self.last = index(text);
        self.put(text);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Never> {
        self.put(0u8);
        Ok(())
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Never> {
        self.put(1u8);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Never> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Never> {
        self.put(index);
        Ok(())
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, name: &'static str, value: &T) -> Result<(), Never> {
        let mode = self.mode;
        match (name, mode) {
            ("Instant", Mode::Nothing) => self.mode = Mode::Sent,
            ("Instant", _) => {
                self.mode = Mode::Instant;
                value.serialize(&mut *self)?;
                self.mode = mode;
            }
            _ => value.serialize(&mut *self)?,
        }
        Ok(())
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        self.put(index);
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self, Never> {
        if self.mode != Mode::Sent {
            self.put(len);
        }
        Ok(self)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Never> {
        Ok(self)
    }

    fn serialize_tuple_variant(self, _: &'static str, index: u32, _: &'static str, _: usize) -> Result<Self, Never> {
        self.put(index);
        Ok(self)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self, Never> {
        self.put(len);
        Ok(self)
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields<'w, 'a>, Never> {
        if name == "Peer" {
            self.of = self.last;
        }
        Ok(Fields { walk: self, name })
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Fields<'w, 'a>, Never> {
        self.put(index);
        Ok(Fields { walk: self, name })
    }
}

macro_rules! elements {
    ($($trait:ident $method:ident),*) => { $(
        impl ser::$trait for &mut Walk<'_> {
            type Ok = ();
            type Error = Never;

            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Never> {
                value.serialize(&mut **self)
            }

            fn end(self) -> Result<(), Never> {
                Ok(())
            }
        }
    )* };
}

elements!(
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field
);

impl ser::SerializeMap for &mut Walk<'_> {
    type Ok = ();
    type Error = Never;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Never> {
        key.serialize(&mut **self)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Never> {
        if self.mode == Mode::Keys {
            return Ok(());
        }
        value.serialize(&mut **self)
    }

    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl Fields<'_, '_> {
    fn field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), Never> {
        let walk = &mut *self.walk;
        if !walk.enter(self.name, key) {
            return Ok(());
        }
        walk.mode = match (self.name, key) {
            ("Peer", "counter") => Mode::Counter,
            ("Outgoing", "counter") => {
                walk.of = walk.on_its_way.expect("only datagrams on their way are walked").0;
                Mode::Counter
            }
            // What is said of a receiver's counters it reads when it hears it, and never again.
            ("PeerReport", "counter") => match walk.on_its_way {
                Some((_, to)) if walk.last == to => {
                    walk.of = to;
                    Mode::Counter
                }
                _ => return Ok(()),
            },
            // Their digests are the keys.
            ("Protocol", "views" | "offers") => Mode::Keys,
            ("Protocol", "sent") => Mode::Sent,
            _ => Mode::All,
        };
        let walked = value.serialize(&mut *walk);
        walk.mode = Mode::All;
        walked
    }
}

impl ser::SerializeStruct for Fields<'_, '_> {
    type Ok = ();
    type Error = Never;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), Never> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Fields<'_, '_> {
    type Ok = ();
    type Error = Never;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), Never> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}
