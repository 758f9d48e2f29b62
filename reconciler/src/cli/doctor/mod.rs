//! `rendezvip doctor`: is this host fit, what is to be mended, and which heartbeat fits?
//!
//! In: the node's own file, the host. Out: findings for people or as JSON; exit 1 where something must be mended.
//! Not here: looking (`agent::doctor`), judging (`judge`).

mod judge;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::ask::{Node, node_file};
use super::exit::Exit;
use super::order::{Format, patience};
use super::paint::Paint;
use super::terminal;
use crate::agent::desk::Pace;
use crate::agent::doctor::{self as host, Facts, Peers, probe, pulse, trial};
use crate::agent::run::node_name;
use crate::agent::trips::Trip;
use crate::manifest::agent_file::{AgentFile, DEFAULT_PATH};
use crate::manifest::desired::Failover;
use judge::{Finding, Fits, State};

/// Look at this host: what must be mended before it serves, and which heartbeat fits
///
/// Looks at the kernel, the packet filter, the interfaces and their settings, rights and limits, files and their modes,
/// the clocks and the peers; measures for some seconds how late a thread comes here. Changes nothing. Runs without
/// rights, too, and says what it could not look at. Exits 1 where something must be mended.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The node's own file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// How long to measure how late a thread comes
    #[arg(long = "for", value_name = "SPAN", default_value = "5s", value_parser = patience)]
    span: Duration,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Doctor) -> Exit {
    let mut findings = Vec::new();
    let file = match node_file(&args.config) {
        Ok(file) => Some(file),
        Err(error) => {
            findings.push(of_file(&args.config, &error.to_string()));
            None
        }
    };
    let name = file.as_ref().and_then(|file| node_name(file).ok()).map(|name| name.to_string());
    let pace = file.as_ref().and_then(|file| Node::of(file).pace().ok());
    let desired = file.as_ref().and_then(host::desired);
    let declared = declared(pace.as_ref(), desired.as_ref().map(|desired| desired.cluster.failover));
    let facts = look(file.as_ref(), args.span, pace, || {
        let desired = desired.as_ref()?;
        let others = desired.nodes.iter().filter(|(node, _)| Some(node.as_str()) != name.as_deref());
        Some(others.map(|(node, it)| (node.clone(), it.address.ip())).collect())
    });
    let fits = judge::fits(&facts, declared);
    findings.extend(judge::judge(&facts, &fits));
    let text = match args.format {
        Format::Human => human(name.as_deref(), &facts, &findings, &fits, Paint(terminal::colour())),
        Format::Json => json(name.as_deref(), &facts, &findings, &fits),
    };
    terminal::print(&text);
    if findings.iter().any(|finding| finding.state == State::Mend) { Exit::Bad } else { Exit::Fine }
}

/// The heartbeat in force, or the one that will be.
fn declared(pace: Option<&Pace>, failover: Option<Failover>) -> Option<Failover> {
    let running = pace.and_then(|pace| pace.heartbeat_ms).map(Duration::from_millis);
    match (failover, running) {
        (Some(failover), Some(heartbeat)) => Some(Failover { heartbeat, ..failover }),
        (failover, _) => failover,
    }
}

fn of_file(path: &Path, error: &str) -> Finding {
    let mut lines = error.lines();
    let first = lines.next().unwrap_or_default();
    let help = lines.find_map(|line| line.trim_start().strip_prefix("= help: ")).unwrap_or_default();
    let code = first.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(code, _)| code.to_owned());
    let message = first.split_once("]: ").map_or(first, |(_, message)| message);
    let shown = path.display().to_string();
    let message = if message.contains(&shown) { message.to_owned() } else { format!("{shown}: {message}") };
    Finding { check: "file".to_owned(), state: State::Mend, code, message, help: Some(help.to_owned()) }
}

fn look(
    file: Option<&AgentFile>,
    span: Duration,
    pace: Option<Pace>,
    others: impl FnOnce() -> Option<Vec<(crate::name::NodeName, std::net::IpAddr)>>,
) -> Facts {
    let daemon = file.and_then(host::daemon);
    let runs = pace.is_some() || daemon.is_some();
    // The gate first: its process must not stand beside a thread that is measured.
    let gate = trial::run();
    let (pulse, clock) = pulse::feel(span);
    let peers = match pace {
        Some(Pace { peers, latest_us, .. }) => {
            let others = others().unwrap_or_default().into_iter().map(|(node, _)| node);
            let unasked = others.filter(|node| peers.iter().all(|trip| trip.node != *node)).collect();
            Peers::Daemon { trips: peers, latest_us, unasked }
        }
        None => match others() {
            None => {
                Peers::Unknown("no daemon answers, and no desired state can be read here that names peers".to_owned())
            }
            Some(others) => probe::ask(&others).map_or_else(Peers::Unknown, Peers::Probed),
        },
    };
    Facts {
        kernel: host::kernel(),
        gate,
        rights: host::rights(daemon),
        pulse,
        clock,
        interfaces: host::interfaces(file),
        absent: file.map(host::absent).unwrap_or_default(),
        files: file.map(host::files).unwrap_or_default(),
        state: file.map(host::state).unwrap_or_else(|| host::State { path: String::new(), volatile: None }),
        port: file.filter(|_| !runs).map(host::port),
        peers,
        rivals: host::rivals(),
    }
}

#[derive(Serialize)]
struct Told<'a> {
    node: Option<&'a str>,
    verdict: &'static str,
    kernel: &'a str,
    findings: &'a [Finding],
    heartbeat: &'a Fits,
    pulse: Lateness,
    peers: &'a [Trip],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Lateness {
    real_time: bool,
    span_ms: u64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

fn trips(facts: &Facts) -> &[Trip] {
    match &facts.peers {
        Peers::Daemon { trips, .. } | Peers::Probed(trips) => trips,
        Peers::Unknown(_) => &[],
    }
}

fn json(node: Option<&str>, facts: &Facts, findings: &[Finding], fits: &Fits) -> String {
    let mend = findings.iter().any(|finding| finding.state == State::Mend);
    let pulse = facts.pulse;
    let told = Told {
        node,
        verdict: if mend { "mend" } else { "fine" },
        kernel: &facts.kernel,
        findings,
        heartbeat: fits,
        pulse: Lateness {
            real_time: pulse.real_time,
            span_ms: pulse.span_ms,
            p50_us: pulse.p50,
            p99_us: pulse.p99,
            max_us: pulse.max,
        },
        peers: trips(facts),
    };
    serde_json::to_string(&told).unwrap_or_default() + "\n"
}

fn human(node: Option<&str>, facts: &Facts, findings: &[Finding], fits: &Fits, paint: Paint) -> String {
    let mut text = String::new();
    let who = node.map_or_else(|| "this host".to_owned(), str::to_owned);
    let _ = writeln!(text, "{}\n", paint.strong(&format!("{who}, Linux {}", facts.kernel)));
    let widest = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0);
    for finding in findings {
        let state = format!("{:<6}", finding.state.word());
        let state = match finding.state {
            State::Fine => paint.good(&state),
            State::Note | State::Unseen => paint.fair(&state),
            State::Mend => paint.bad(&state),
        };
        let code = finding.code.as_ref().map_or_else(String::new, |code| format!("{code}: "));
        let _ = writeln!(text, "{state}  {:<widest$}  {code}{}", finding.check, finding.message);
        if let Some(help) = finding.help.as_ref().filter(|help| !help.is_empty()) {
            let _ = writeln!(text, "{:8}{:widest$}  = help: {help}", "", "");
        }
    }
    let count = |state: State| findings.iter().filter(|finding| finding.state == state).count();
    let things = |count: usize| if count == 1 { "1 thing".to_owned() } else { format!("{count} things") };
    let (mend, note, unseen) = (count(State::Mend), count(State::Note), count(State::Unseen));
    text.push('\n');
    let verdict = if mend == 0 {
        paint.good("nothing must be mended")
    } else {
        paint.bad(&format!("{} must be mended", things(mend)))
    };
    let _ = write!(text, "{verdict}");
    if note > 0 {
        let _ = write!(text, "; {} worth knowing", things(note));
    }
    if unseen > 0 {
        let _ = write!(text, "; {} could not be looked at", things(unseen));
    }
    let _ = writeln!(text, "\n{}", fits.sentence());
    text
}

#[cfg(test)]
mod tests;
