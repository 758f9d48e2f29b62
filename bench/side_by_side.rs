//! Side by side: rendezvip, keepalived and ucarp on the same segment, under the same faults, before the same client.
//!
//! In: `cargo bench --bench side-by-side [-- OPTION…]`, see [`USAGE`]; keepalived and ucarp in PATH. Out: a line a
//! round, and the page with its plots. Contenders take turns, each time on a segment made anew, so that whatever else
//! the machine does hits all alike.
//! Not here: how faults are made and measured (`rendezvip::lab`, `round`), what is made of it (`report`).

mod contender;
mod lab;
mod plot;
mod report;
mod results;
mod round;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rendezvip::lab::LabError;

use contender::{Contender, Family, Fault, Runner};
use results::{Book, Row};
use round::PATIENCE;

const USAGE: &str = "\
usage: side-by-side [--rounds N] [--others N] [--many N] [--parts LIST] [--only NAME] [--out FOLDER] [--keep]
  --rounds N    rounds of host death for each contender (20)
  --others N    rounds of every other fault (half of these)
  --many N      rounds of host death with 500 VIPs (a quarter)
  --parts LIST  of death,others,rest,many,report; all of them unless told (report alone measures nothing)
  --only NAME   contenders whose name begins so
  --out FOLDER  writes the page and the rounds there (`docs`, seen from the workspace); else the page goes to stdout
  --keep        adds to the rounds that are there";

/// Rounds on one segment, so that the start of a cluster costs less than what is measured.
const TURN: usize = 2;

/// The same with many VIPs, which take longer to set up.
const LONG_TURN: usize = 5;

/// VIPs of the rounds.
const FEW: usize = 6;

/// VIPs of `many`.
const MANY: usize = 500;

struct Options {
    rounds: usize,
    others: Option<usize>,
    many: Option<usize>,
    parts: String,
    only: String,
    out: Option<PathBuf>,
    keep: bool,
}

impl Options {
    fn has(&self, part: &str) -> bool {
        self.parts.split(',').any(|one| one == part)
    }
}

fn main() -> ExitCode {
    lab::main(USAGE, options, bench)
}

fn options(words: &[String]) -> Result<Options, String> {
    let parts = "death,others,rest,many".to_owned();
    let mut options =
        Options { rounds: 20, others: None, many: None, parts, only: String::new(), out: None, keep: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |value: &String| value.parse().map_err(|_| format!("{word} needs a number, not `{value}`"));
        match word.as_str() {
            "--rounds" => options.rounds = number(value()?)?,
            "--others" => options.others = Some(number(value()?)?),
            "--many" => options.many = Some(number(value()?)?),
            "--parts" => options.parts.clone_from(value()?),
            "--only" => options.only.clone_from(value()?),
            "--out" => options.out = Some(results::folder(value()?)),
            "--keep" => options.keep = true,
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

/// A bench in progress.
struct Bench {
    options: Options,
    contenders: Vec<Contender>,
    book: Book,
}

fn bench(options: Options) -> Result<(), LabError> {
    let mut book = options.out.as_deref().map_or_else(Book::default, |out| Book::read(out, report::ROUNDS));
    if !options.has("report") {
        if !options.keep {
            lab::step("begin the book", book.forget(|_| true))?;
        }
        lab::step("write the book", book.machine())?;
        let mut contenders = Vec::new();
        for contender in Contender::ALL {
            if !contender.name().starts_with(&options.only) {
                continue;
            }
            let Some(version) = contender.version() else {
                eprintln!("{}: left out, its program is not in PATH", contender.name());
                continue;
            };
            lab::step("write the book", book.fact(contender.name(), version))?;
            contenders.push(contender);
        }
        let mut bench = Bench { options, contenders, book };
        bench.measure()?;
        return lab::step("write the page", report::write(bench.options.out.as_deref(), &bench.book));
    }
    lab::step("write the page", report::write(options.out.as_deref(), &book))
}

impl Bench {
    fn measure(&mut self) -> Result<(), LabError> {
        let rounds = self.options.rounds;
        let others = self.options.others.unwrap_or(rounds.div_ceil(2));
        let many = self.options.many.unwrap_or(rounds.div_ceil(4));
        if self.options.has("death") {
            for turn in 0..rounds.div_ceil(TURN) {
                let numbers = turn * TURN..((turn + 1) * TURN).min(rounds);
                let blows: Vec<(Fault, usize)> = numbers.map(|number| (Fault::HostDeath, number + 1)).collect();
                self.turn(turn, FEW, Family::V4, &blows)?;
            }
        }
        if self.options.has("rest") {
            self.rest()?;
        }
        if self.options.has("many") {
            let blows: Vec<(Fault, usize)> = (0..many).map(|number| (Fault::HostDeath, number + 1)).collect();
            for family in [Family::V4, Family::V6] {
                for (turn, blows) in blows.chunks(LONG_TURN).enumerate() {
                    self.turn(turn, MANY, family, blows)?;
                }
            }
        }
        if self.options.has("others") {
            for turn in 0..others {
                let faults = Fault::ALL.into_iter().filter(|fault| *fault != Fault::HostDeath);
                let blows: Vec<(Fault, usize)> = faults.map(|fault| (fault, turn + 1)).collect();
                let everybody = self.contenders.clone();
                if turn % 2 == 1 {
                    // What takes seconds each time is known well enough from every other turn.
                    self.contenders.retain(|one| !one.is_slow());
                }
                self.turn(turn, FEW, Family::V4, &blows)?;
                self.contenders = everybody;
            }
        }
        Ok(())
    }

    /// These faults for every contender, each on a segment of its own; whoever begins is another one each time.
    fn turn(&mut self, turn: usize, vips: usize, family: Family, blows: &[(Fault, usize)]) -> Result<(), LabError> {
        let mut contenders = self.contenders.clone();
        if vips > FEW {
            // The defaults of the slow ones do not change with the VIPs.
            contenders.retain(|one| !one.is_slow());
        }
        if contenders.is_empty() {
            return Ok(());
        }
        let first = turn % contenders.len();
        contenders.rotate_left(first);
        for contender in contenders {
            let mut runner = self.settled(contender, vips, family)?;
            for (fault, number) in blows.iter().filter(|(fault, _)| fault.strikes(contender)) {
                let Some(well) = &mut runner else { break };
                let (row, is_well) = round::round(well, *fault, *number)?;
                self.add(row)?;
                if !is_well {
                    eprintln!("  after {}: not well again\n{}", fault.name(), well.log_tails());
                    let row = Row::new(contender.name(), "not well again", vips, family.name(), *number);
                    self.add(row.with(&fault.name().replace(' ', "-"), 1))?;
                    runner = self.settled(contender, vips, family)?;
                }
            }
        }
        Ok(())
    }

    fn settled(&mut self, contender: Contender, vips: usize, family: Family) -> Result<Option<Runner>, LabError> {
        let runner = Runner::new(contender, vips, family)?;
        if runner.settle(PATIENCE * 2) {
            return Ok(Some(runner));
        }
        eprintln!("  {}: never served all {vips} VIPs\n{}", contender.name(), runner.log_tails());
        self.add(Row::new(contender.name(), "never served", vips, family.name(), 1))?;
        Ok(None)
    }

    /// Frames that a node sends at rest, by the number of VIPs.
    fn rest(&mut self) -> Result<(), LabError> {
        /// Adverts of a second are counted to a few percent, and one refresh of the switches' tables is in it as a rule.
        const OVER: Duration = Duration::from_secs(20);
        for vips in [1, FEW, 100, MANY] {
            for contender in self.contenders.clone() {
                let counts = match contender {
                    Contender::Rendezvip | Contender::KeepalivedTuned => vips != FEW,
                    // A process a VIP a node.
                    Contender::Ucarp => vips != FEW && vips <= 100,
                    Contender::RendezvipFast | Contender::RendezvipShort | Contender::Keepalived => vips == FEW,
                };
                if !counts {
                    continue;
                }
                if let Some(runner) = self.settled(contender, vips, Family::V4)? {
                    let frames = runner.frames(OVER)?;
                    let row = Row::new(contender.name(), "at rest", vips, Family::V4.name(), 1);
                    self.add(row.with("frames", frames).with("seconds", OVER.as_secs()))?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, row: Row) -> Result<(), LabError> {
        lab::step("write a round", self.book.add(row))
    }
}
