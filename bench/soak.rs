//! Soak: a cluster on a bad network, for long. Nobody dies, so whatever moves, moves for no reason.
//!
//! In: `cargo bench --bench soak [-- OPTION…]`, see [`USAGE`]. Out: a line a minute, a summary; exit code 1 where a VIP
//! was claimed by another node than its owner, or by two. Not here: faults and how long they take (`side_by_side`).

mod lab;

use std::net::IpAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rendezvip::lab::cluster::Layout;
use rendezvip::lab::faults::{Direction, Frames};
use rendezvip::lab::stage::Stage;
use rendezvip::lab::{LabError, now};
use rendezvip::time::Instant;

use lab::step;

const USAGE: &str = "\
usage: soak [--minutes N] [--loss PERCENT] [--nodes N] [--profile default|fast]
  --minutes N     so long (60)
  --loss PERCENT  of all frames that reach a node are lost, each node's on their own (5)
  --nodes N       2 to 9 (3)
  --profile NAME  of the cluster (default)";

const NAMES: [&str; 9] = ["edge-a", "edge-b", "edge-c", "edge-d", "edge-e", "edge-f", "edge-g", "edge-h", "edge-i"];

const POOL: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec:\n  addresses: \
                    [10.99.0.100-10.99.0.105, \"fd99::100-fd99::102\"]\n";

/// The bystander asks for each VIP so often: each answer is a claim that is looked at.
const PACE: Duration = Duration::from_millis(100);

/// Lost frames delay the start, too.
const PATIENCE: Duration = Duration::from_secs(60);

struct Options {
    minutes: u64,
    loss: u8,
    nodes: usize,
    fast: bool,
}

fn main() -> ExitCode {
    lab::main(USAGE, options, soak)
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut options = Options { minutes: 60, loss: 5, nodes: 3, fast: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = |most: u64| match value.parse::<u64>() {
            Ok(number) if number <= most => Ok(number),
            _ => Err(format!("{word} needs a number up to {most}, not `{value}`")),
        };
        match word.as_str() {
            "--minutes" => options.minutes = number(10_000)?,
            "--loss" => options.loss = u8::try_from(number(50)?).unwrap_or_default(),
            "--nodes" => options.nodes = usize::try_from(number(NAMES.len() as u64)?).unwrap_or_default().max(2),
            "--profile" if ["default", "fast"].contains(&value.as_str()) => options.fast = value == "fast",
            "--profile" => return Err(format!("no profile `{value}`")),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(options)
}

/// What the nodes count, all together.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    lapses: u64,
    late: u64,
    sent: u64,
}

impl Counts {
    fn of(stage: &Stage) -> Self {
        Self {
            lapses: stage.total("rendezvip_lapses_total"),
            late: stage.late_beats(),
            sent: stage.total("rendezvip_datagrams_sent_total"),
        }
    }
}

fn soak(options: Options) -> Result<(), LabError> {
    let names = &NAMES[..options.nodes];
    let layout = Layout { fast: options.fast, ..Layout::default() };
    let mut stage = Stage::new(names, layout, &[("pools/web.yaml", POOL)])?;
    stage.start_all()?;
    stage.bystander.pace(PACE);
    stage.settle(PATIENCE).map_err(|wrong| failed("serve all VIPs", &wrong))?;
    for name in names {
        step("lose frames", stage.cluster.segment.lose(name, Direction::In, Frames::All, options.loss))?;
    }
    stage.client.mark();
    let (began, first) = (now(), Counts::of(&stage));
    let (mut last, mut wrong) = (began, Vec::new());
    for minute in 1..=options.minutes {
        let until = began + Duration::from_secs(60) * u32::try_from(minute).unwrap_or(u32::MAX);
        thread::sleep(until.since(now()));
        let at = now();
        wrong.extend(claims_of_others(&stage, began, last, at));
        last = at;
        let counts = Counts::of(&stage);
        println!(
            "minute {minute}: {} claims by another than the owner, {} leases lost, {} late beats",
            wrong.len(),
            counts.lapses - first.lapses,
            counts.late - first.late
        );
    }
    let counts = Counts::of(&stage);
    let overlaps = stage.overlaps(began);
    let seconds = now().since(began).as_secs_f64();
    let silence = stage.client.report().into_iter().max_by_key(|(_, one)| one.longest);
    println!(
        "\n{} nodes, profile {}, {} % of the frames to each lost, {:.1} min",
        names.len(),
        if options.fast { "fast" } else { "default" },
        options.loss,
        seconds / 60.0
    );
    println!("claims by another than the owner   {}", wrong.len());
    println!("claims in the midst of another's   {}", overlaps.len());
    println!("leases lost                        {}", counts.lapses - first.lapses);
    if let Some((vip, one)) = silence {
        let (silent, share) = (one.longest.as_millis(), one.lost as f64 * 100.0 / one.sent.max(1) as f64);
        println!("longest silence for the client     {silent} ms ({vip}; {share:.1} % of its probes got lost)");
    }
    let rate = (counts.sent - first.sent) as f64 / seconds / names.len() as f64;
    println!("datagrams a node sends, a second   {rate:.1}");
    println!("beats more than 5 ms late          {}", counts.late - first.late);
    if wrong.is_empty() && overlaps.is_empty() {
        return Ok(());
    }
    for line in wrong.iter().chain(&overlaps).take(20) {
        println!("  {line}");
    }
    Err(failed("keep every VIP where it is", &stage.logs()))
}

/// Claims between two instants by anybody but the planned owner, in words.
fn claims_of_others(stage: &Stage, began: Instant, from: Instant, until: Instant) -> Vec<String> {
    let wanted = stage.wanted();
    let claims = stage.bystander.claims(from);
    let others = claims.iter().filter(|one| one.at < until && wanted.get(&one.claim.address) != Some(&one.claim.mac));
    let told = |vip: IpAddr, at: Instant, who: String| format!("{vip} by {who}, {} ms in", at.since(began).as_millis());
    others.map(|one| told(one.claim.address, one.at, stage.name(one.claim.mac))).collect()
}

fn failed(what: &str, why: &str) -> LabError {
    LabError::Step { what: what.to_owned(), source: std::io::Error::other(why.to_owned()) }
}
