//! `rendezvip simulate`: many nodes on a simulated LAN and clock, with every fault that a seed draws.
//!
//! In: numbers and a seed. Out: what was found, as text or JSON. Not here: the simulation (`sim`).

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::exit::Exit;
use super::{replay, terminal};
use crate::digest::Digest;
use crate::manifest::desired::Profile;
use crate::sim::{Faults, Options, Outage, Report, run as simulate};

/// Simulate a cluster under faults, with the engine that runs on the nodes
///
/// Machines crash, hang, lose memory and restart; datagrams are lost, doubled and late; links are cut one way and
/// both; the desired state and the set of nodes change; clocks run 1 % apart. Judges outside the nodes see to it
/// that never two of them answer for one VIP, and that after healing every VIP is answered. The same arguments
/// give the same trace. Exits 1 when a promise was broken.
#[derive(Debug, Args)]
pub struct Simulate {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    nodes: u16,
    /// How many VIPs
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    vips: u16,
    /// For how long, in simulated hours
    #[arg(long, default_value = "1", value_parser = hours)]
    hours: Span,
    /// All is drawn from it; decimal or 0x
    #[arg(long, default_value = "1", value_parser = number)]
    seed: u64,
    /// Loss in per cent, one decimal; drawn for each episode where it is not given
    #[arg(long, value_name = "PCT", value_parser = per_mille)]
    loss: Option<u32>,
    /// Which faults
    #[arg(long, value_enum, default_value_t = Kind::All)]
    faults: Kind,
    /// Detection times
    #[arg(long, value_enum, default_value_t = Speed::Default)]
    profile: Speed,
    /// Go no further than this instant, in simulated seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    until: Option<Duration>,
    /// Print what each node decides
    #[arg(long)]
    explain: bool,
    /// Play what a node recorded with `rendezvip run --record FILE`, and say whether it decides the same
    ///
    /// Nothing else is simulated then: the engine of one node is told again all that it was told, at the same times.
    /// Exits 1 at the first event that leads to other actions, and where the file is not whole.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nodes", "vips", "hours", "seed", "loss", "faults", "profile", "until"])]
    replay: Option<PathBuf>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// A span in hours, as it was written.
#[derive(Debug, Clone)]
struct Span {
    hours: serde_json::Number,
    span: Duration,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Every kind, uniform and aimed, and attacks
    All,
    /// The counter-examples to the protocol's rules, one after the other
    Attacks,
    /// One machine at a time dies while all else is well
    Crashes,
    /// One node at a time leaves as planned
    Leaves,
    /// Only the loss
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Speed {
    Default,
    Fast,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Human,
    Json,
}

/// A decimal with at most six places, in millionths.
fn millionths(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a number such as 2 or 0.5");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if part.is_empty() || part.len() > 6 || !part.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000).and_then(|whole| whole.checked_add(part)).ok_or_else(wrong)
}

fn hours(text: &str) -> Result<Span, String> {
    let micros = millionths(text)?.checked_mul(3600).filter(|micros| *micros > 0 && *micros <= 1 << 56);
    let span = Duration::from_micros(micros.ok_or("more than 0 hours, and fewer than a million")?);
    Ok(Span { hours: text.parse().map_err(|_| format!("`{text}` is not a number"))?, span })
}

fn seconds(text: &str) -> Result<Duration, String> {
    millionths(text.trim_end_matches('s')).map(Duration::from_micros)
}

fn per_mille(text: &str) -> Result<u32, String> {
    let per_mille = millionths(text)? / 100_000;
    u32::try_from(per_mille).ok().filter(|loss| *loss <= 1000).ok_or_else(|| "a loss is 0 to 100".to_owned())
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("a seed is a whole number: {error}"))
}

/// What scripts read; the names are pinned.
#[derive(Serialize)]
struct Found {
    seed: u64,
    hours: serde_json::Number,
    violations: usize,
    unanswered: usize,
    takeovers: u64,
    false_takeovers: u64,
    outage_ms: Percentiles,
    packets_per_node_s: serde_json::Number,
    trace: Digest,
    speedup: u64,
}

#[derive(Serialize)]
struct Percentiles {
    p50: u64,
    p99: u64,
    max: u64,
}

impl From<Outage> for Percentiles {
    fn from(outage: Outage) -> Self {
        Self { p50: outage.p50, p99: outage.p99, max: outage.max }
    }
}

/// Runs it and prints what was found.
#[expect(clippy::disallowed_methods, reason = "how fast it ran is told to a person, and no part of the simulation")]
pub fn run(args: &Simulate) -> Exit {
    if let Some(recording) = &args.replay {
        return replay::run(recording, args.explain, matches!(args.format, Format::Json));
    }
    let options = Options {
        nodes: usize::from(args.nodes),
        vips: usize::from(args.vips),
        span: args.until.unwrap_or(args.hours.span).min(args.hours.span),
        seed: args.seed,
        loss: args.loss,
        available: None,
        faults: match args.faults {
            Kind::All => Faults::All,
            Kind::Attacks => Faults::Attacks(None),
            Kind::Crashes => Faults::Crashes,
            Kind::Leaves => Faults::Leaves,
            Kind::None => Faults::None,
        },
        profile: match args.profile {
            Speed::Default => Profile::Default,
            Speed::Fast => Profile::Fast,
        },
        without: Vec::new(),
        stop_at_violation: true,
        explain: args.explain,
        record: None,
    };
    let started = std::time::Instant::now();
    let report = simulate(&options);
    let took = started.elapsed().as_micros().max(1);
    let found = Found {
        seed: args.seed,
        hours: args.hours.hours.clone(),
        violations: report.violations.len(),
        unanswered: report.unanswered.len(),
        takeovers: report.takeovers,
        false_takeovers: report.false_takeovers,
        outage_ms: report.outage().into(),
        packets_per_node_s: hundredths(report.packets_per_node_centi()),
        trace: report.trace,
        speedup: (report.span.as_micros() / took) as u64,
    };
    let text = match args.format {
        Format::Json => serde_json::to_string_pretty(&found).unwrap_or_default() + "\n",
        Format::Human => human(args, &report, &found),
    };
    if let Err(failure) = terminal::hand_over(&text) {
        eprintln!("{failure}");
        return Exit::Bad;
    }
    if report.is_clean() { Exit::Fine } else { Exit::Bad }
}

fn hundredths(value: u64) -> serde_json::Number {
    format!("{}.{:02}", value / 100, value % 100).parse().unwrap_or_else(|_| 0.into())
}

fn human(args: &Simulate, report: &Report, found: &Found) -> String {
    use std::fmt::Write as _;

    let mut text = String::new();
    let _ = writeln!(
        text,
        "seed {:#x}: {} nodes, {} VIPs, {} h in {} episodes, {} times faster than real time",
        args.seed, args.nodes, args.vips, found.hours, report.episodes, found.speedup
    );
    let verdict = |count: usize| if count == 0 { "never".to_owned() } else { format!("BROKEN, {count} times") };
    let _ = writeln!(text, "two nodes answered for one VIP     {}", verdict(report.violations.len()));
    let _ = writeln!(text, "a VIP unanswered after healing     {}", verdict(report.unanswered.len()));
    let outage = &found.outage_ms;
    let _ = writeln!(
        text,
        "VIPs taken over from dead owners   {} (outage p50 {} ms, p99 {} ms, max {} ms)",
        report.takeovers, outage.p50, outage.p99, outage.max
    );
    let _ = writeln!(text, "leases lost for no reason          {}", report.false_takeovers);
    let _ = writeln!(text, "datagrams a node sends, a second   {}", found.packets_per_node_s);
    let _ = writeln!(text, "trace                              {}", found.trace);
    for broken in report.violations.iter().chain(&report.unanswered).take(5) {
        let seconds = broken.at.as_micros() / 1_000_000;
        let what = if broken.nodes[0] == broken.nodes[1] {
            format!("nobody answers for {}", broken.vip)
        } else {
            let [one, other] = broken.nodes.map(|node| char::from(b'a' + node as u8));
            format!("nodes {one} and {other} both answer for {}", broken.vip)
        };
        let _ = writeln!(
            text,
            "at {seconds} s: {what}\n  replay: rendezvip simulate --nodes {} --vips {} --hours {} --seed {:#x}{}{} --until {} --explain",
            args.nodes,
            args.vips,
            found.hours,
            args.seed,
            args.loss.map_or(String::new(), |loss| format!(" --loss {}.{}", loss / 10, loss % 10)),
            if matches!(args.profile, Speed::Fast) { " --profile fast" } else { "" },
            seconds + 1
        );
    }
    text
}
