//! The page: what was promised and what came out, tables, plots, and how it was measured.
//!
//! In: the books of both benchmarks. Out: `benchmark.md`, with its plots beside the books in `benchmark/`.
//! Not here: measuring. No figure is left out or rounded to a promise's favour: a promise is held against all rounds.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::plot::{Section, Strip, lines, strips};
use crate::results::{Book, Row};

/// The rounds of `side-by-side`.
pub const ROUNDS: &str = "benchmark/rounds.tsv";
/// The measurements of `scale`.
pub const SCALE: &str = "benchmark/scale.tsv";

const CONTENDERS: [&str; 6] =
    ["rendezvip", "rendezvip, fast", "rendezvip, 20 ms", "keepalived, tuned", "keepalived", "ucarp"];
const OURS: &str = "rendezvip";
const FAST: &str = "rendezvip, fast";
const SHORT: &str = "rendezvip, 20 ms";
const PEER: &str = "keepalived, tuned";

/// Case, heading, what it is.
const FAULTS: [(&str, &str); 8] = [
    ("host death", "The power of a node goes: its cable is dead and its processes are gone in the same instant."),
    ("kill -9 of the daemon", "SIGKILL to the process that was started (all of them for ucarp)."),
    (
        "kill -9 of everything",
        "SIGKILL to every process of the node in one go; its kernel lives on, with its addresses.",
    ),
    ("SIGSTOP of everything", "Every process of the node stops; its kernel lives on, with its addresses."),
    ("cable out and back", "The node loses its carrier; mended after a second."),
    ("graceful stop", "SIGTERM, as a service manager stops it."),
    ("drain", "`rendezvip drain` on the node."),
    ("planned move", "A commit prefers another node for all VIPs."),
];

/// Writes the page and its plots to `folder`, or the page alone to stdout.
pub fn write(folder: Option<&Path>, measured: &Book) -> io::Result<()> {
    let Some(folder) = folder else {
        println!("{}", page(measured, measured));
        return Ok(());
    };
    let (rounds, scale) = (Book::read(folder, ROUNDS), Book::read(folder, SCALE));
    let plots = folder.join("benchmark");
    fs::create_dir_all(&plots)?;
    fs::write(plots.join("host-death.svg"), strips(&host_death(&rounds)))?;
    fs::write(plots.join("faults.svg"), strips(&faults(&rounds)))?;
    fs::write(plots.join("many.svg"), strips(&many(&rounds)))?;
    fs::write(plots.join("rest.svg"), lines(&rest(&rounds)))?;
    fs::write(folder.join("benchmark.md"), page(&rounds, &scale))
}

/// Figures of one name, ascending.
struct Sample(Vec<u64>);

impl Sample {
    fn of<'a>(rows: impl IntoIterator<Item = &'a Row>, figure: &str) -> Self {
        let mut found: Vec<u64> = rows.into_iter().filter_map(|row| row.figures.get(figure)).copied().collect();
        found.sort_unstable();
        Self(found)
    }

    /// The smallest figure that so many of a hundred do not exceed.
    fn percentile(&self, percent: usize) -> Option<u64> {
        self.0.get((self.0.len() * percent).div_ceil(100).saturating_sub(1)).copied()
    }

    fn median(&self) -> Option<u64> {
        self.percentile(50)
    }

    fn max(&self) -> Option<u64> {
        self.0.last().copied()
    }

    /// `median / max`, in ms.
    fn text(&self) -> String {
        match (self.median(), self.max()) {
            (Some(median), Some(max)) => format!("{} / {}", millis(median), millis(max)),
            _ => "–".to_owned(),
        }
    }
}

/// Whole milliseconds, but for what is less than ten.
fn millis(micros: u64) -> String {
    let value = micros as f64 / 1_000.0;
    if micros > 0 && value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn of<'a>(book: &'a Book, who: &str, case: &str) -> Vec<&'a Row> {
    book.rows.iter().filter(|row| row.who == who && row.case == case && row.vips <= 100).collect()
}

fn of_many<'a>(book: &'a Book, who: &str, family: &str) -> Vec<&'a Row> {
    let mine = |row: &&Row| row.who == who && row.case == "host death" && row.vips > 100 && row.family == family;
    book.rows.iter().filter(mine).collect()
}

fn sum(rows: &[&Row], figure: &str) -> u64 {
    rows.iter().filter_map(|row| row.figures.get(figure)).sum()
}

/// Rounds in which a second one claimed a VIP: what the victim said after its successor spoke, or claims interleaved.
fn doubled(rows: &[&Row]) -> usize {
    let figure = |row: &Row, name: &str| row.figures.get(name).copied().unwrap_or_default();
    rows.iter().filter(|row| figure(row, "second_us") > 0 || figure(row, "overlaps") > 0).count()
}

fn second(rows: &[&Row]) -> String {
    let rounds = doubled(rows);
    if rows.is_empty() {
        return "–".to_owned();
    }
    if rounds == 0 {
        return "never".to_owned();
    }
    let longest = Sample::of(rows.iter().copied(), "second_us").max().unwrap_or_default();
    let lasts = sum(rows, "second_lasts");
    let how = if longest == 0 {
        "two successors by turns".to_owned()
    } else if lasts > 0 {
        format!("still when mended ({} ms)", millis(longest))
    } else {
        format!("for {} ms at most", millis(longest))
    };
    format!("**{rounds} of {}**, {how}", rows.len())
}

fn strip(who: &str, rows: &[&Row], figure: &str) -> Option<Strip> {
    let dots: Vec<f64> =
        rows.iter().filter_map(|row| row.figures.get(figure)).map(|one| *one as f64 / 1_000.0).collect();
    let sample = Sample::of(rows.iter().copied(), figure);
    let doubled = doubled(rows);
    let twice = if doubled > 0 { format!(", two owners in {doubled}") } else { String::new() };
    let note = format!("{} ms{twice}", sample.text());
    (!dots.is_empty()).then(|| Strip { who: who.to_owned(), dots, note })
}

fn section(book: &Book, title: &str, case: &str, figure: &str) -> Section {
    let strips = CONTENDERS.iter().filter_map(|who| strip(who, &of(book, who, case), figure)).collect();
    Section { title: title.to_owned(), strips }
}

fn host_death(book: &Book) -> Vec<Section> {
    vec![
        section(book, "Host death: the client's outage", "host death", "outage_us"),
        section(
            book,
            "Host death: take-over, from the fault to the successor's first announcement",
            "host death",
            "takeover_us",
        ),
    ]
}

fn faults(book: &Book) -> Vec<Section> {
    let titled = |(case, _): &(&str, &str)| section(book, &format!("{case}: take-over"), case, "takeover_us");
    FAULTS.iter().skip(1).map(titled).filter(|section| !section.strips.is_empty()).collect()
}

fn many(book: &Book) -> Vec<Section> {
    let mut sections = Vec::new();
    for family in ["IPv4", "IPv6"] {
        for (what, figure) in [
            ("first", "takeover_first_us"),
            ("last", "takeover_us"),
            ("last one answers the client again", "outage_us"),
        ] {
            let title = format!(
                "500 VIPs, {family}, host death: {what}{}",
                if figure == "outage_us" { "" } else { " VIP announced" }
            );
            let strips = CONTENDERS.iter().filter_map(|who| strip(who, &of_many(book, who, family), figure)).collect();
            sections.push(Section { title, strips });
        }
    }
    sections.retain(|section| !section.strips.is_empty());
    sections
}

fn rate(row: &Row) -> f64 {
    let figure = |name: &str| row.figures.get(name).copied().unwrap_or_default() as f64;
    figure("frames") / figure("seconds").max(1.0)
}

fn rest(book: &Book) -> Vec<(String, Vec<(f64, f64)>)> {
    let points = |who: &&str| {
        let rows = book.rows.iter().filter(|row| row.who == *who && row.case == "at rest");
        (who.to_string(), rows.map(|row| (row.vips as f64, rate(row))).collect::<Vec<_>>())
    };
    CONTENDERS.iter().map(points).filter(|(_, points)| !points.is_empty()).collect()
}

/// A promise, what came out, and whether it was kept; None where nothing was measured.
struct Promise {
    what: &'static str,
    promised: &'static str,
    measured: String,
    met: Option<bool>,
    rounds: usize,
}

impl Promise {
    fn verdict(&self) -> String {
        /// A promise is not kept because two rounds went well.
        const ENOUGH: usize = 3;
        match self.met {
            Some(true) if self.rounds < ENOUGH => "met, in too few rounds".to_owned(),
            Some(true) => "met".to_owned(),
            Some(false) => "**not met**".to_owned(),
            None if self.promised.starts_with("(none)") => String::new(),
            None => "not measured".to_owned(),
        }
    }
}

/// All of these are true; None when one of them is unknown.
fn all(of: &[Option<bool>]) -> Option<bool> {
    of.iter().copied().try_fold(true, |sum, one| Some(sum && one?))
}

fn at_most(figure: Option<u64>, millis: u64) -> Option<bool> {
    figure.map(|figure| figure <= millis * 1_000)
}

/// Nobody claimed what another had; None where there are no rounds.
fn single(rows: &[&Row]) -> Option<bool> {
    (!rows.is_empty()).then(|| doubled(rows) == 0 && sum(rows, "never") == 0)
}

fn promises(rounds: &Book, scale: &Book) -> Vec<Promise> {
    let mut all_of_them = against_peers(rounds);
    all_of_them.extend(alone(scale));
    all_of_them
}

fn against_peers(book: &Book) -> Vec<Promise> {
    let sample = |who: &str, case: &str, figure: &str| Sample::of(of(book, who, case), figure);
    let mut found = Vec::new();

    let (ours, fast, short, peer) = (
        sample(OURS, "host death", "outage_us"),
        sample(FAST, "host death", "outage_us"),
        sample(SHORT, "host death", "outage_us"),
        sample(PEER, "host death", "outage_us"),
    );
    let three = |one: &Sample| {
        let text = |figure: Option<u64>| figure.map_or_else(|| "–".to_owned(), millis);
        format!("p50 {}, p99 {}, max {} ms", text(one.median()), text(one.percentile(99)), text(one.max()))
    };
    let ratio = |one: &Sample| Some(one.median()? as f64 / peer.median()? as f64);
    let said = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    found.push(Promise {
        what: "host death, client's outage",
        promised: "p50 <= 140 ms, p99 <= 220 ms",
        measured: three(&ours),
        met: all(&[at_most(ours.median(), 140), at_most(ours.percentile(99), 220)]),
        rounds: ours.0.len(),
    });
    found.push(Promise {
        what: "the same beside keepalived, tuned",
        promised: "<= 0.9 of its median",
        measured: format!("{} ({})", said(ratio(&ours)), three(&peer)),
        met: ratio(&ours).map(|ratio| ratio <= 0.9),
        rounds: ours.0.len(),
    });
    found.push(Promise {
        what: "the same, `profile: fast`",
        promised: "p50 <= 100 ms",
        measured: three(&fast),
        met: at_most(fast.median(), 100),
        rounds: fast.0.len(),
    });
    found.push(Promise {
        what: "`fast` beside keepalived, tuned",
        promised: "<= 0.7 of its median",
        measured: said(ratio(&fast)),
        met: ratio(&fast).map(|ratio| ratio <= 0.7),
        rounds: fast.0.len(),
    });
    found.push(Promise {
        what: "the same, `heartbeat: 20ms`",
        promised: "p50 <= 40 ms",
        measured: three(&short),
        met: at_most(short.median(), 40),
        rounds: short.0.len(),
    });

    let points = rest(book).into_iter().find(|(who, _)| who == OURS).map(|(_, points)| points).unwrap_or_default();
    let most = points.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let told: Vec<String> = points.iter().map(|(vips, rate)| format!("{rate:.1} at {vips:.0} VIPs")).collect();
    found.push(Promise {
        what: "frames a second sent by a node at rest",
        promised: "<= 25, whatever the number of VIPs",
        measured: told.join(", "),
        // Few VIPs alone say nothing of how it grows.
        met: (most > 25.0 || points.iter().any(|(vips, _)| *vips >= 500.0)).then_some(most <= 25.0),
        rounds: points.len(),
    });

    let rows = of(book, OURS, "kill -9 of the daemon");
    let until = Sample::of(rows.iter().copied(), "second_until_us").max();
    let outage = Sample::of(rows.iter().copied(), "outage_us");
    found.push(Promise {
        what: "`kill -9` of the daemon",
        promised: "outage <= 50 ms or none, no second claimant after 100 ms",
        measured: format!("{} ms, second claimant: {}", outage.text(), second(&rows)),
        met: all(&[at_most(outage.max(), 50), Some(until.unwrap_or_default() <= 100_000)]),
        rounds: rows.len(),
    });
    for (case, what) in
        [("kill -9 of everything", "`kill -9` of everything"), ("SIGSTOP of everything", "SIGSTOP of everything")]
    {
        let rows = of(book, OURS, case);
        let taken = Sample::of(rows.iter().copied(), "takeover_us");
        let outage = Sample::of(rows.iter().copied(), "outage_us");
        found.push(Promise {
            what,
            promised: "<= 300 ms, never a second claimant",
            measured: format!(
                "take-over {} ms, outage {} ms, second claimant: {}",
                taken.text(),
                outage.text(),
                second(&rows)
            ),
            met: all(&[at_most(taken.max(), 300), at_most(outage.max(), 300), single(&rows)]),
            rounds: rows.len(),
        });
    }
    for (case, what) in [("graceful stop", "graceful stop"), ("drain", "drain"), ("planned move", "planned move")] {
        let rows = of(book, OURS, case);
        found.push(Promise {
            what,
            promised: "no probe lost at 5 ms",
            measured: format!(
                "{} lost in {} rounds, second claimant: {}",
                sum(&rows, "lost"),
                rows.len(),
                second(&rows)
            ),
            met: all(&[(!rows.is_empty()).then(|| sum(&rows, "lost") == 0), single(&rows)]),
            rounds: rows.len(),
        });
    }
    let (four, six) = (of_many(book, OURS, "IPv4"), of_many(book, OURS, "IPv6"));
    let figures = |rows: &[&Row]| {
        let first = Sample::of(rows.iter().copied(), "takeover_first_us");
        let last = Sample::of(rows.iter().copied(), "takeover_us");
        let outage = Sample::of(rows.iter().copied(), "outage_us");
        (format!("first announced {}, last {}, outage {}", first.text(), last.text(), outage.text()), outage)
    };
    let ((four, v4), (six, v6)) = (figures(&four), figures(&six));
    found.push(Promise {
        what: "host death, `attach: interface`, 500 VIPs, IPv4",
        promised: "as with few: p50 <= 140 ms, p99 <= 220 ms",
        measured: format!("{four} ms"),
        met: all(&[at_most(v4.median(), 140), at_most(v4.percentile(99), 220)]),
        rounds: v4.0.len(),
    });
    found.push(Promise {
        what: "the same, IPv6",
        promised: "as IPv4",
        measured: format!("{six} ms"),
        met: all(&[at_most(v6.median(), 140), at_most(v6.percentile(99), 220)]),
        rounds: v6.0.len(),
    });
    let rows = of(book, OURS, "cable out and back");
    let (outage, back) = (Sample::of(rows.iter().copied(), "outage_us"), Sample::of(rows.iter().copied(), "back_us"));
    found.push(Promise {
        what: "cable out / back",
        promised: "p50 <= 140 ms / announced again <= 1 s",
        measured: format!(
            "outage {} ms / announced again {} ms, in {} of {} rounds",
            outage.text(),
            back.text(),
            back.0.len(),
            rows.len()
        ),
        met: all(&[
            at_most(outage.median(), 140),
            (!rows.is_empty()).then(|| back.0.len() == rows.len() && back.max().is_some_and(|max| max <= 1_000_000)),
        ]),
        rounds: rows.len(),
    });
    let rows = of(book, OURS, "switch restarts");
    let back = Sample::of(rows.iter().copied(), "back_us");
    found.push(Promise {
        what: "every cable out for 2 s / back",
        promised: "(none) every VIP claimed and answering again",
        measured: format!("{} ms", back.text()),
        met: None,
        rounds: rows.len(),
    });
    found
}

fn alone(book: &Book) -> Vec<Promise> {
    let rows = |case: &str| book.rows.iter().filter(|row| row.case == case).collect::<Vec<&Row>>();
    let sample = |case: &str, figure: &str| Sample::of(rows(case), figure);
    let kept = |case: &str, figure: &str, most: u64| {
        let none_missed = sum(&rows(case), "never") == 0;
        sample(case, figure).max().map(|max| none_missed && max <= most)
    };
    let shown = |case: &str, figure: &str| format!("{} ms", sample(case, figure).text());
    let mut found = vec![
        Promise {
            what: "10,000 VIPs on 3 nodes: cold start",
            promised: "<= 10 s",
            measured: shown("cold start", "last_us"),
            met: kept("cold start", "last_us", 10_000_000),
            rounds: rows("cold start").len(),
        },
        Promise {
            what: "10,000 VIPs: death of a node with 3,333, the last one announced",
            promised: "<= 1 s",
            measured: format!("{} (the first: {})", shown("death", "last_us"), shown("death", "first_us")),
            met: kept("death", "last_us", 1_000_000),
            rounds: rows("death").len(),
        },
    ];
    let memory = sample("memory", "daemon_kib").max();
    let mebi = |kib: Option<u64>| kib.map_or_else(|| "–".to_owned(), |kib| format!("{:.0} MiB", kib as f64 / 1_024.0));
    found.push(Promise {
        what: "10,000 VIPs: resident memory of the daemon",
        promised: "<= 60 MiB",
        measured: format!(
            "{} (peak {}; with its children {})",
            mebi(memory),
            mebi(sample("memory", "daemon_peak_kib").max()),
            mebi(sample("memory", "all_kib").max())
        ),
        met: memory.map(|kib| kib <= 60 * 1_024),
        rounds: rows("memory").len(),
    });
    let idle = rows("idle");
    let share = |row: &&Row| {
        let figure = |name: &str| row.figures.get(name).copied().unwrap_or_default() as f64;
        figure("cpu_us") / 10_000.0 / figure("seconds").max(1.0)
    };
    let share = idle.iter().map(share).fold(0.0, f64::max);
    found.push(Promise {
        what: "10,000 VIPs: processor at rest, daemon and children",
        promised: "<= 2 % of a core",
        measured: format!("{share:.2} %"),
        met: (!idle.is_empty()).then_some(share <= 2.0),
        rounds: idle.len(),
    });
    let most = rows("at rest").iter().filter(|row| row.who == OURS).map(|row| rate(row)).fold(0.0, f64::max);
    found.push(Promise {
        what: "10,000 VIPs: frames a second sent by a node, half a minute after the cold start",
        promised: "(none) the later announcements, 15 a second at most, go on for some twenty minutes",
        measured: format!("{most:.1}"),
        met: None,
        rounds: rows("at rest").len(),
    });
    for (case, what, promised, most) in [
        ("commit to wire, directory", "a file to the wire, `directory`", "<= 500 ms", 500_000),
        ("commit to wire, git", "commit to wire, git, one node told to fetch", "<= 2 s", 2_000_000),
    ] {
        found.push(Promise {
            what,
            promised,
            measured: shown(case, "wire_us"),
            met: kept(case, "wire_us", most),
            rounds: rows(case).len(),
        });
    }
    found.push(Promise {
        what: "`plan`, 10,000 VIPs x 100 nodes, the process whole",
        promised: "<= 100 ms",
        measured: shown("plan", "took_us"),
        met: all(&[at_most(sample("plan", "took_us").max(), 100), Some(sum(&rows("plan"), "failed") == 0)]),
        rounds: rows("plan").len(),
    });
    let speed = sample("simulate", "speedup").max();
    found.push(Promise {
        what: "simulation, 3 nodes, faults and all",
        promised: ">= 1,500 times real time, no violation",
        measured: format!("{} times, {} violations", speed.unwrap_or_default(), sum(&rows("simulate"), "violations")),
        met: all(&[speed.map(|speed| speed >= 1_500), Some(sum(&rows("simulate"), "violations") == 0)]),
        // Hours of it, not rounds.
        rounds: 5,
    });
    // The simulator has pauses, cuts and crashes beside the loss, so this is not the hour that was promised.
    let lossy = rows("simulate, 5 % loss");
    found.push(Promise {
        what: "5 % loss, an hour",
        promised: "no false take-over",
        measured: format!(
            "not on its own; simulated, with pauses, cuts and crashes too: {} false, {} violations",
            sum(&lossy, "false_takeovers"),
            sum(&lossy, "violations")
        ),
        met: None,
        rounds: lossy.len(),
    });
    found
}

fn page(rounds: &Book, scale: &Book) -> String {
    let mut page = String::from("# Benchmarks\n\n");
    page.push_str(
        "rendezvip beside keepalived and ucarp on the same segment, under the same faults, before the same client; then what\n\
         no peer is needed for. Both parts of this page, its plots and the rounds behind them are written by\n\n\
         \x20   cargo bench --bench side-by-side -- --out docs\n    cargo bench --bench scale -- --out docs\n\n\
         It needs no root; keepalived and ucarp must be installed. Every round is a line of\n\
         [benchmark/rounds.tsv](benchmark/rounds.tsv) and [benchmark/scale.tsv](benchmark/scale.tsv);\n\
         `--parts report` makes the page of them again.\n\n## Where it ran\n\n",
    );
    facts(&mut page, rounds, scale);
    page.push_str(
        "\n## What was promised\n\n| what | promised | measured | rounds | |\n| --- | --- | --- | --- | --- |\n",
    );
    for promise in promises(rounds, scale) {
        let verdict = promise.verdict();
        let Promise { what, promised, measured, rounds, .. } = promise;
        let _ = writeln!(page, "| {what} | {promised} | {measured} | {rounds} | {verdict} |");
    }
    page.push_str(
        "\nTwo figures together are *median / worst*, over all rounds. A promise about a worst case is held against the worst\n\
         round; where it names p50 and p99, against these.\n\n## Host death\n\n![Host death](benchmark/host-death.svg)\n\n",
    );
    for (number, (case, what)) in FAULTS.iter().enumerate() {
        if number == 1 {
            page.push_str("## Other faults\n\n![Other faults](benchmark/faults.svg)\n\n");
        }
        table(&mut page, rounds, case, what);
    }
    dark(&mut page, rounds);
    at_rest(&mut page, rounds);
    five_hundred(&mut page, rounds);
    page.push_str(METHOD);
    page
}

fn facts(page: &mut String, rounds: &Book, scale: &Book) {
    page.push_str("| | |\n| --- | --- |\n");
    let mut told = BTreeSet::new();
    for (name, value) in rounds.facts.iter().chain(&scale.facts) {
        if told.insert((name, value)) {
            let _ = writeln!(page, "| {name} | {value} |");
        }
    }
    for (name, book) in [("side by side", rounds), ("scale", scale)] {
        let mut loads: Vec<f64> = book.rows.iter().filter_map(|row| row.load.parse().ok()).collect();
        loads.sort_by(f64::total_cmp);
        if let (Some(first), Some(last)) = (loads.first(), loads.last()) {
            let middle = loads[loads.len() / 2];
            let _ = writeln!(
                page,
                "| load average during {name} ({} rows) | {first:.1} to {last:.1}, median {middle:.1} |",
                loads.len()
            );
        }
    }
    page.push_str(
        "\nThe nodes, the client and the bystander share these cores, and the load is that of the whole machine: what others\n\
         ran on it beside the benchmark is in every contender's figures alike, as they take turns.\n",
    );
}

fn table(page: &mut String, book: &Book, case: &str, what: &str) {
    let _ = writeln!(page, "**{case}.** {what}\n");
    page.push_str("| | rounds | take-over, ms | outage, ms | probes lost | a second claimant |\n");
    page.push_str("| --- | --- | --- | --- | --- | --- |\n");
    for who in CONTENDERS {
        let rows = of(book, who, case);
        if rows.is_empty() {
            continue;
        }
        let figure = |name: &str| Sample::of(rows.iter().copied(), name);
        let never = sum(&rows, "never");
        let missed = if never > 0 { format!(", **nobody took over in {never}**") } else { String::new() };
        let _ = writeln!(
            page,
            "| {who} | {}{missed} | {} | {} | {} | {} |",
            rows.len(),
            figure("takeover_us").text(),
            figure("outage_us").text(),
            sum(&rows, "lost"),
            second(&rows)
        );
    }
    let spoilt = book.rows.iter().filter(|row| row.case == "not well again");
    for row in spoilt.filter(|row| row.figures.contains_key(&case.replace(' ', "-"))) {
        let _ = writeln!(page, "\n{}, round {}: not well again within 30 s.", row.who, row.round);
    }
    page.push('\n');
}

fn dark(page: &mut String, book: &Book) {
    page.push_str("**switch restarts.** Every cable is out for two seconds; how long from its return until every VIP is claimed and\nanswers the client.\n\n");
    page.push_str("| | rounds | back, ms | a second claimant |\n| --- | --- | --- | --- |\n");
    for who in CONTENDERS {
        let rows = of(book, who, "switch restarts");
        if !rows.is_empty() {
            let back = Sample::of(rows.iter().copied(), "back_us").text();
            let _ = writeln!(page, "| {who} | {} | {back} | {} |", rows.len(), second(&rows));
        }
    }
    page.push_str(
        "\n**cable back.** From the plug until each VIP that the node had is announced, by whoever has it.\n\n",
    );
    page.push_str("| | rounds | announced, ms |\n| --- | --- | --- |\n");
    for who in CONTENDERS {
        let rows = of(book, who, "cable out and back");
        if !rows.is_empty() {
            let back = Sample::of(rows.iter().copied(), "back_us");
            let _ = writeln!(page, "| {who} | {} of {} | {} |", back.0.len(), rows.len(), back.text());
        }
    }
}

fn at_rest(page: &mut String, book: &Book) {
    page.push_str("\n## At rest\n\n![Frames a second](benchmark/rest.svg)\n\nFrames a second that the busiest node sends while nobody asks anything, by the number of VIPs.\n\n");
    let counts: BTreeSet<usize> = book.rows.iter().filter(|row| row.case == "at rest").map(|row| row.vips).collect();
    let heads: Vec<String> = counts.iter().map(|vips| format!("{vips} VIPs")).collect();
    let _ = writeln!(page, "| | {} |\n| --- |{}", heads.join(" | "), " --- |".repeat(counts.len()));
    for (who, points) in rest(book) {
        let cell = |vips: &usize| {
            let found = points.iter().find(|(at, _)| *at as usize == *vips);
            found.map_or_else(|| "–".to_owned(), |(_, rate)| format!("{rate:.1}"))
        };
        let _ = writeln!(page, "| {who} | {} |", counts.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    page.push_str(
        "\nucarp is a process and an advert a VIP; keepalived sends for an instance, which may hold many VIPs.\n",
    );
}

fn five_hundred(page: &mut String, book: &Book) {
    page.push_str("\n## Death of a node with a third of 500 VIPs\n\n![500 VIPs](benchmark/many.svg)\n\n");
    page.push_str("| | rounds | first announced, ms | last announced, ms | outage of the worst, ms | a second claimant |\n| --- | --- | --- | --- | --- | --- |\n");
    for family in ["IPv4", "IPv6"] {
        for who in CONTENDERS {
            let rows = of_many(book, who, family);
            if rows.is_empty() {
                continue;
            }
            let figure = |name: &str| Sample::of(rows.iter().copied(), name).text();
            let _ = writeln!(
                page,
                "| {who}, {family} | {} | {} | {} | {} | {} |",
                rows.len(),
                figure("takeover_first_us"),
                figure("takeover_us"),
                figure("outage_us"),
                second(&rows)
            );
        }
    }
}

const METHOD: &str = "
## How it is measured

- Three nodes, a client and a bystander on one bridge, each in namespaces of its own, one clock for all. Six IPv4 VIPs, two a
  node, unless another number is named. A fault strikes the node that has most of them.
  rendezvip's spread may give it three, and a round's figure is that of the worst.
- *Outage*: the client asks every VIP each 5 ms by ICMP, through its own kernel's neighbour table; the longest gap between two
  answers, of the worst VIP of that node. With 500 VIPs it asks those of the struck node, each 20 ms.
- *Take-over*: from the fault to the first claim (announcement or answer) of the last of these VIPs by another node, by the
  kernel's time stamp at the bystander. Where the old owner's kernel goes on answering, the client notices nothing, and an
  outage of 0 beside a second claimant is no virtue.
- *A second claimant*: the bystander asks by ARP (or neighbour solicitation) who has each VIP, each 20 ms (80 ms with 500);
  counted is each round in which the old owner spoke for a VIP after its successor had, or two spoke by turns.
- *Frames a second* are counted by the bridge's ports over 20 s, after nine seconds in which nobody asked anything.
- Contenders take turns, on a segment made anew for each turn; who begins changes from turn to turn. Those that take seconds
  (the defaults of keepalived and ucarp) sit out every other turn of the faults that are not host death.
- *keepalived, tuned*: one VRRPv3 instance a node, priorities 50 apart, adverts each 50 ms, real-time priority, memory locked.
  *keepalived*: the same with VRRPv2, adverts each second. *ucarp*: a process a VIP, its defaults (adverts each second, dead
  ratio 3), `--preempt`, `--shutdown`, skew 0, 50 and 100. rendezvip's fail-back is manual, so that its rounds need not wait.
- A cgroup that is frozen is the same to a node as SIGSTOP of everything in it, and not measured apart.
- Ten thousand VIPs: the bystander listens, and asks once for each after the cold start. Memory is VmRSS of the daemon with
  its memory locked; the processor's time is that of all threads of the daemon and its children over 20 s.
";
