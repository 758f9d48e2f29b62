//! What was measured: one line a round, kept as text beside the page, so that anybody can reckon anew.
//!
//! In: rows as they are measured. Out: a file of tab-separated lines under a few `# fact: value` lines.
//! Not here: what they mean (`report`).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const HEADER: &str = "who\tcase\tvips\tfamily\tround\tload\tfigures";

/// One measurement.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Who was measured.
    pub who: String,
    /// What happened, or what was looked at.
    pub case: String,
    /// How many VIPs there were.
    pub vips: usize,
    /// Of which family.
    pub family: String,
    /// Counted from 1.
    pub round: usize,
    /// The machine's load average over the minute before.
    pub load: String,
    /// Integers with their unit in the name: `outage_us`, `frames`.
    pub figures: BTreeMap<String, u64>,
}

impl Row {
    /// A row without figures, at this moment's load.
    pub fn new(who: &str, case: &str, vips: usize, family: &str, round: usize) -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or_default().to_owned();
        let figures = BTreeMap::new();
        Self { who: who.to_owned(), case: case.to_owned(), vips, family: family.to_owned(), round, load, figures }
    }

    /// The same with one figure more.
    pub fn with(mut self, name: &str, value: u64) -> Self {
        self.figures.insert(name.to_owned(), value);
        self
    }

    fn line(&self) -> String {
        let figures: Vec<String> = self.figures.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let Self { who, case, vips, family, round, load, .. } = self;
        format!("{who}\t{case}\t{vips}\t{family}\t{round}\t{load}\t{}", figures.join(" "))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split('\t');
        let mut word = || words.next().map(str::to_owned);
        let (who, case, vips, family) = (word()?, word()?, word()?.parse().ok()?, word()?);
        let (round, load) = (word()?.parse().ok()?, word()?);
        let figures = word()?;
        let figures = figures.split_whitespace().filter_map(|one| one.split_once('='));
        let figures = figures.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect();
        Some(Self { who, case, vips, family, round, load, figures })
    }
}

/// A folder as the user of `cargo bench` means it: cargo runs benchmarks in the package's own folder.
pub fn folder(path: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).join(path)
}

/// All rows of one program, and what it ran on.
#[derive(Debug, Default)]
pub struct Book {
    path: Option<PathBuf>,
    /// Machine, versions, times.
    pub facts: BTreeMap<String, String>,
    /// The rows, in the order in which they were measured.
    pub rows: Vec<Row>,
}

impl Book {
    /// What `folder` holds under `name`; an empty book where there is none.
    pub fn read(folder: &Path, name: &str) -> Self {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let facts = text.lines().filter_map(|line| line.strip_prefix("# ")?.split_once(": "));
        let facts = facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let rows = text.lines().filter_map(Row::parse).collect();
        Self { path: Some(path), facts, rows }
    }

    /// Forgets the rows of which `again` is true: they are measured anew.
    pub fn forget(&mut self, again: impl Fn(&Row) -> bool) -> io::Result<()> {
        self.rows.retain(|row| !again(row));
        self.save()
    }

    /// States a fact.
    pub fn fact(&mut self, name: &str, value: impl Into<String>) -> io::Result<()> {
        self.facts.insert(name.to_owned(), value.into());
        self.save()
    }

    /// Adds a row, on the disk too: a run that ends half-way has not been in vain.
    pub fn add(&mut self, row: Row) -> io::Result<()> {
        eprintln!("  {}", row.line().replace('\t', "  "));
        if let Some(path) = &self.path {
            writeln!(File::options().append(true).open(path)?, "{}", row.line())?;
        }
        self.rows.push(row);
        Ok(())
    }

    fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut text = String::new();
        for (name, value) in &self.facts {
            let _ = writeln!(text, "# {name}: {value}");
        }
        let _ = writeln!(text, "{HEADER}");
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.line());
        }
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        fs::write(path, text)
    }

    /// States the machine, the kernel and the day.
    pub fn machine(&mut self) -> io::Result<()> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (processor, kernel) = (read("/proc/cpuinfo"), read("/proc/sys/kernel/osrelease"));
        let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or_else(|| "unknown processor".to_owned(), |(_, model)| model.trim().to_owned());
        let guest = if processor.contains(" hypervisor") { ", a virtual machine" } else { "" };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = read("/proc/meminfo");
        let memory: Option<u64> = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        let memory = memory.unwrap_or_default() / 1_048_576;
        self.fact("machine", format!("{model}, {cores} cores, {memory} GiB{guest}"))?;
        let kernel = kernel.trim();
        self.fact("kernel", format!("Linux {}", kernel.split_once('-').map_or(kernel, |(version, _)| version)))?;
        let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
        self.fact("measured", day)
    }
}
