//! The page: one table, a column a contender, and what stands behind the figures.
//!
//! In: outages and counts. Out: markdown. Not here: measuring (`main`).

use std::fmt::Write as _;
use std::time::Duration;

use crate::contender::Fault;

/// What a contender did under one fault.
pub struct Cell {
    /// The fault.
    pub fault: Fault,
    /// The client's outage in each round: the worst of the victim's VIPs.
    pub outages: Vec<Duration>,
    /// Rounds in which two claimed a VIP at once.
    pub doubled: usize,
    /// Rounds in which nobody took over.
    pub never: usize,
}

impl Cell {
    /// `p50 / max ms`, and how often two claimed.
    pub fn line(&self) -> String {
        let rounds = self.outages.len() + self.never;
        format!("{}: {}, two claimants in {} of {rounds}", self.fault.name(), self.figures(), self.doubled)
    }

    fn figures(&self) -> String {
        let mut sorted = self.outages.clone();
        sorted.sort();
        let Some(last) = sorted.last() else { return "nobody took over".to_owned() };
        let millis = |duration: &Duration| duration.as_millis();
        let middle = sorted.get(sorted.len() / 2).unwrap_or(last);
        let never = if self.never > 0 { format!(", nobody took over in {}", self.never) } else { String::new() };
        format!("{} / {} ms{never}", millis(middle), millis(last))
    }

    fn text(&self) -> String {
        let rounds = self.outages.len() + self.never;
        let doubled =
            if self.doubled > 0 { format!("; **two owners in {} of {rounds}**", self.doubled) } else { String::new() };
        self.figures() + &doubled
    }
}

/// One contender.
pub struct Column {
    /// Its name.
    pub contender: &'static str,
    /// Frames a second that a node sends at rest.
    pub frames: u64,
    /// A cell a fault.
    pub cells: Vec<Cell>,
}

/// The whole page.
pub fn page(columns: &[Column], rounds: usize) -> String {
    let mut page = String::from("# Side by side with keepalived\n\n");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let _ = write!(
        page,
        "Three nodes, six IPv4 VIPs and a client on one bridge in network namespaces; each fault strikes the node that has most\n\
         VIPs, {rounds} times. The client asks every VIP each 5 ms through its own kernel's neighbour table; a figure is the\n\
         longest gap between two answers, the worst VIP of the node, *p50 / max* over the rounds. A bystander asks each 20 ms\n\
         by ARP who has each VIP: *two owners* means that a second MAC answered or announced in the midst of the first\n\
         one's answers. Linux {}, {cores} cores; all contenders in one run of `cargo bench --bench side-by-side`.\n\n",
        kernel.trim()
    );
    let _ = writeln!(page, "| | {} |", columns.iter().map(|one| one.contender).collect::<Vec<_>>().join(" | "));
    let _ = writeln!(page, "| --- |{}", " --- |".repeat(columns.len()));
    let frames: Vec<String> = columns.iter().map(|one| one.frames.to_string()).collect();
    let _ = writeln!(page, "| frames a second a node sends at rest, at most | {} |", frames.join(" | "));
    for fault in Fault::ALL {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| {
                column.cells.iter().find(|cell| cell.fault == fault).map_or_else(|| "–".to_owned(), Cell::text)
            })
            .collect();
        let _ = writeln!(page, "| {} | {} |", fault.name(), cells.join(" | "));
    }
    page.push_str(
        "\n*keepalived, tuned* is one VRRPv3 instance a node with priorities 50 apart and adverts each 50 ms; *keepalived* is\n\
         the same with VRRPv2 and adverts each second. An outage of 0 ms beside two owners is no virtue: the hung or killed owner's\n\
         kernel goes on answering while its successor does too.\n",
    );
    page
}
