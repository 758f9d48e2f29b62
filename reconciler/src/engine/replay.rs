//! Replay: does an engine that is told the same decide the same?
//!
//! In: a recording. Out: each step with what was decided then and now. Not here: the form of a recording (`recording`),
//! what is printed of it (`cli`).

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::Engine;
use super::action::Action;
use super::recording::{Birthday, Decided, Ending, Entry, Reader, Unreadable, decided, told};
use crate::time::Instant;

/// No node lives that long, 140,000 years of a host's clock: what comes later was made up, and time must not end.
const FAR: Instant = Instant::from_micros(1 << 62);
/// Nor does one beat faster.
const SHORTEST: Duration = Duration::from_millis(1);

/// Plays a recording, a step at a time.
#[derive(Debug)]
pub struct Player<R> {
    reader: Reader<R>,
    birthday: Birthday,
    engine: Engine,
    now: Instant,
    steps: u64,
}

/// A step that was played.
#[derive(Debug)]
pub struct Played {
    /// Which, counted from 1.
    pub number: u64,
    /// When, since the birth of the engine.
    pub at: Duration,
    /// What it was told, in a few words.
    pub told: String,
    /// What it decided then; nothing where the daemon died of it.
    pub then: Option<Vec<Decided>>,
    /// What it decides now; nothing where it panics.
    pub now: Option<Vec<Decided>>,
    /// All of that, the notes for the log too.
    pub actions: Vec<Action>,
}

impl Played {
    /// Is it the same as then? That an engine dies of the same event again is the same, too.
    pub fn is_same(&self) -> bool {
        self.then == self.now
    }
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// A step.
    Step(Box<Played>),
    /// Nothing.
    End(Ending),
}

impl<R: Read> Player<R> {
    /// Reads the beginning, and lets the engine be born.
    pub fn open(from: R) -> Result<Self, Unreadable> {
        let (reader, birthday) = Reader::open(from)?;
        // What a stranger wrote may hold values that no node has.
        let made_up = || Unreadable::Damaged(reader.place());
        if birthday.birth.at > FAR || birthday.timing.heartbeat < SHORTEST {
            return Err(made_up());
        }
        let engine = catch_unwind(|| birthday.engine()).map_err(|_| made_up())?;
        Ok(Self { reader, now: birthday.birth.at, birthday, engine, steps: 0 })
    }

    /// What the engine was made of.
    pub const fn birthday(&self) -> &Birthday {
        &self.birthday
    }

    /// How many steps were played.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// How long the engine has lived.
    pub fn span(&self) -> Duration {
        self.now.since(self.birthday.birth.at)
    }

    /// Plays the next step. Once an engine panicked it is not to be asked again.
    pub fn play(&mut self) -> Result<Next, Unreadable> {
        let (after, event, then) = match self.reader.entry()? {
            Entry::End(ending) => return Ok(Next::End(ending)),
            Entry::Step { after, event, decided } => (after, event, decided),
        };
        self.now = self.now + Duration::from_micros(after);
        if self.now > FAR {
            return Err(Unreadable::Damaged(self.reader.place()));
        }
        self.steps += 1;
        let told = told(&event);
        let actions = catch_unwind(AssertUnwindSafe(|| self.engine.step(self.now, event))).ok();
        Ok(Next::Step(Box::new(Played {
            number: self.steps,
            at: self.span(),
            told,
            then,
            now: actions.as_ref().map(|actions| decided(self.now, actions)),
            actions: actions.unwrap_or_default(),
        })))
    }
}
