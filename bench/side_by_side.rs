//! Side by side: rendezvip and keepalived on the same segment, under the same faults, before the same client.
//!
//! In: `cargo bench --bench side-by-side [-- --rounds N --only NAME --out FILE]`; keepalived in PATH. Out: a markdown
//! table of outages, second claimants and frames a second (docs/benchmark.md).
//! Not here: how faults are made and measured (`rendezvip::lab`).

mod contender;
mod report;

use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use rendezvip::lab::{LabError, namespace, now};

use contender::{Contender, Fault, Runner};
use report::{Cell, Column};

/// How long a fault is watched after the service is back: a second claimant would show in that time.
const WATCH: Duration = Duration::from_secs(1);

/// The longest that anybody may take; keepalived's defaults need 3 s.
const PATIENCE: Duration = Duration::from_secs(15);

struct Options {
    rounds: usize,
    only: Option<String>,
    out: Option<String>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\nusage: side-by-side [--rounds N] [--only NAME] [--out FILE]");
            return ExitCode::from(64);
        }
    };
    if !namespace::inside() {
        return outside();
    }
    match bench(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { rounds: 10, only: None, out: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--rounds" => options.rounds = value()?.parse().map_err(|_| "--rounds needs a number".to_owned())?,
            "--only" => options.only = Some(value()?),
            "--out" => options.out = Some(value()?),
            // What cargo hands to every benchmark.
            "--bench" => {}
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

/// Runs this program inside a lab.
fn outside() -> ExitCode {
    let inner = std::env::current_exe().and_then(|program| {
        Command::new(env!("CARGO_BIN_EXE_rendezvip"))
            .args(["lab-enter", "--"])
            .arg(program)
            .args(std::env::args_os().skip(1))
            .status()
    });
    match inner {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the lab did not start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> Result<(), LabError> {
    let mut columns = Vec::new();
    for contender in Contender::ALL {
        if options.only.as_deref().is_some_and(|only| !contender.name().contains(only)) {
            continue;
        }
        if !contender.is_here() {
            eprintln!("{}: left out, its program is not in PATH", contender.name());
            continue;
        }
        columns.push(measure(contender, options.rounds)?);
    }
    let page = report::page(&columns, options.rounds);
    println!("{page}");
    if let Some(path) = &options.out {
        std::fs::write(path, &page).map_err(|source| LabError::Step { what: format!("write {path}"), source })?;
    }
    Ok(())
}

fn measure(contender: Contender, rounds: usize) -> Result<Column, LabError> {
    eprintln!("{}:", contender.name());
    let mut runner = Runner::new(contender)?;
    let mut column = Column { contender: contender.name(), frames: 0, cells: Vec::new() };
    if !runner.settle(PATIENCE * 2) {
        eprintln!("  never served all VIPs\n{}", runner.log_tails());
        return Ok(column);
    }
    column.frames = runner.frames_a_second(Duration::from_secs(5))?;
    eprintln!("  frames a second a node, at rest: {}", column.frames);
    for fault in Fault::ALL {
        let mut cell = Cell { fault, outages: Vec::new(), doubled: 0, never: 0 };
        for _ in 0..rounds {
            let victim = runner.busiest();
            let hit = runner.vips_of(victim);
            runner.client.mark();
            let start = now();
            runner.strike(fault, victim)?;
            let back = runner.moved(&hit, victim, PATIENCE);
            thread::sleep(WATCH);
            if back {
                let report = runner.client.report();
                let longest = hit.iter().filter_map(|vip| report.get(vip)).map(|one| one.longest).max();
                cell.outages.push(longest.unwrap_or_default());
            } else {
                cell.never += 1;
            }
            cell.doubled += usize::from(!runner.bystander.overlaps(start).is_empty());
            runner.mend(fault, victim)?;
            if !runner.settle(PATIENCE * 2) {
                eprintln!("  after {}: not all VIPs came back\n{}", fault.name(), runner.log_tails());
                cell.never += 1;
                break;
            }
        }
        eprintln!("  {}", cell.line());
        column.cells.push(cell);
    }
    Ok(column)
}
