//! The screen: the same cluster as in the story, live, with the faults under one's own fingers.
//!
//! In: keys. Out: a page refreshed in place: nodes, VIPs, who answers for each, the last silence, what happened.
//! Not here: the script (`story`), putting the terminal back after a crash (whoever entered the lab).

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};

use super::cluster::Layout;
use super::stage::Stage;
use super::story::{API, NODES, WEB, span};
use super::{LabError, Step, now};
use crate::time::Instant;

/// How often the page is drawn.
const FRAME: u16 = 200;

/// A claim older than this is not an owner's any more: three questions went unanswered.
const FRESH: Duration = Duration::from_millis(80);

/// Events kept on the page.
const EVENTS: usize = 12;

/// The first column everywhere: `clear screen, cursor home`, and their opposites.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";

/// What puts a terminal right again, after however the screen ended.
pub const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What the person at the keys did to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    Up,
    Killed,
    Hung,
    Cut,
    Off,
    Drained,
}

impl Health {
    const fn text(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Killed => "its daemon is gone",
            Self::Hung => "everything on it hangs (SIGSTOP)",
            Self::Cut => "its cable is out",
            Self::Off => "its power is off",
            Self::Drained => "drained",
        }
    }
}

/// One row of the page.
#[derive(Debug, Clone)]
struct Row {
    vip: IpAddr,
    owner: String,
    silence: Duration,
    lasts: bool,
}

/// What the page shows.
#[derive(Debug)]
struct Page {
    nodes: Vec<(&'static str, Health)>,
    chosen: usize,
    rows: Vec<Row>,
    events: VecDeque<(Duration, String)>,
}

impl Page {
    fn lines(&self) -> Vec<String> {
        let mut lines = vec!["rendezvip lab: a bridge, three nodes, a client that asks each VIP every 5 ms".to_owned()];
        lines.push(String::new());
        for (number, (name, health)) in self.nodes.iter().enumerate() {
            let mark = if number == self.chosen { '>' } else { ' ' };
            let holds = self.rows.iter().filter(|row| row.owner == *name).count();
            lines.push(format!("{mark} {} {name}  {holds:>2} VIPs  {}", number + 1, health.text()));
        }
        lines.push(String::new());
        lines.push(format!("  {:<16}{:<20}{}", "VIP", "who answers", "longest silence since the last key"));
        for row in &self.rows {
            let silence = match (row.silence.is_zero(), row.lasts) {
                (true, _) => "none".to_owned(),
                (false, false) => span(row.silence),
                (false, true) => format!("{} so far", span(row.silence)),
            };
            lines.push(format!("  {:<16}{:<20}{silence}", row.vip.to_string(), row.owner));
        }
        lines.push(String::new());
        for (at, event) in &self.events {
            let millis = at.as_millis();
            lines.push(format!("  {:>4}.{:03} s  {event}", millis / 1_000, millis % 1_000));
        }
        lines.push(String::new());
        lines.push(
            "  1 2 3 choose a node    k kill -9    h hang    c cut    o power off    d drain    r revive".to_owned(),
        );
        lines.push("  p commit a pool        q quit".to_owned());
        lines
    }

    fn event(&mut self, at: Duration, event: impl Into<String>) {
        self.events.push_back((at, event.into()));
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }
}

/// Shows the lab live until `q`; stdin and stdout must be a terminal.
pub fn show() -> Result<(), LabError> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin).step(|| "read the terminal's settings".to_owned())?;
    let mut raw = before.clone();
    // Keys one at a time and unseen; Ctrl-C keeps its meaning, and the lab ends with it.
    raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
    raw.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    raw.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    println!("laying the segment and starting three nodes ...");
    let mut screen = Screen::begin()?;
    tcsetattr(&stdin, SetArg::TCSANOW, &raw).step(|| "set the terminal up".to_owned())?;
    print!("{ENTER}");
    let ended = screen.run();
    print!("{LEAVE}");
    let _ = io::stdout().flush();
    tcsetattr(&stdin, SetArg::TCSANOW, &before).step(|| "put the terminal back".to_owned())?;
    ended
}

struct Screen {
    stage: Stage,
    page: Page,
    began: Instant,
    owners: BTreeMap<IpAddr, String>,
    api: bool,
    /// Up to here two claimants were told of.
    overlapped: Instant,
}

impl Screen {
    fn begin() -> Result<Self, LabError> {
        let began = now();
        let mut stage = Stage::new(&NODES, Layout::default(), &[("pools/web.yaml", WEB)])?;
        stage.start_all()?;
        let page = Page {
            nodes: NODES.iter().map(|name| (*name, Health::Up)).collect(),
            chosen: 0,
            rows: Vec::new(),
            events: VecDeque::new(),
        };
        Ok(Self { stage, page, began, owners: BTreeMap::new(), api: false, overlapped: began })
    }

    fn run(&mut self) -> Result<(), LabError> {
        loop {
            self.look();
            self.draw().step(|| "draw the page".to_owned())?;
            if let Some(key) = key().step(|| "read a key".to_owned())? {
                if key == b'q' {
                    return Ok(());
                }
                // What cannot be done is an event like any other: the lab goes on.
                if let Err(error) = self.press(key) {
                    let at = now().since(self.began);
                    self.page.event(at, error.to_string().lines().next().unwrap_or_default());
                }
            }
        }
    }

    /// Brings the page up to date, and tells what changed.
    fn look(&mut self) {
        let claimed = self.stage.bystander.claimants(now().before(FRESH));
        let report = self.stage.client.report();
        let at = now().since(self.began);
        self.page.rows.clear();
        for vip in &self.stage.vips() {
            let owner = claimed.get(vip).map_or_else(|| "nobody".to_owned(), |mac| self.stage.name(*mac));
            let service = report.get(vip).copied().unwrap_or_default();
            let before = self.owners.insert(*vip, owner.clone());
            if let Some(before) = before.filter(|before| *before != owner) {
                self.page.event(at, format!("{vip}: {before} -> {owner}"));
            }
            self.page.rows.push(Row { vip: *vip, owner, silence: service.longest, lasts: service.ongoing });
        }
        for (name, health) in &mut self.page.nodes {
            if let Some(status) = self.stage.cluster.ended(name).filter(|_| *health == Health::Up) {
                *health = Health::Killed;
                self.page.events.push_back((at, format!("{name}: the daemon ended by itself: {status}")));
            }
        }
        let overlaps = self.stage.bystander.overlaps(now().before(Duration::from_secs(1)));
        if let Some(one) = overlaps.iter().rfind(|one| one.at > self.overlapped) {
            self.overlapped = one.at;
            let (mac, other) = (self.stage.name(one.mac), self.stage.name(one.other));
            self.page.event(at, format!("TWO CLAIMANTS of {}: {mac} and {other}", one.vip));
        }
    }

    fn press(&mut self, key: u8) -> Result<(), LabError> {
        let (name, health) = self.page.nodes[self.page.chosen];
        let at = now().since(self.began);
        let (health, event) = match (key, health) {
            (b'1'..=b'3', _) => {
                self.page.chosen = usize::from(key - b'1');
                return Ok(());
            }
            (b'p', _) => {
                let (text, message) = if self.api { ("", "Remove pool api") } else { (API, "Add pool api") };
                self.api = !self.api;
                self.stage.client.mark();
                self.page.event(at, format!("git push: {message}"));
                let up =
                    self.page.nodes.iter().find(|(_, health)| *health == Health::Up).map_or(name, |(name, _)| name);
                return self.stage.push(message, &[("pools/api.yaml", text)], up);
            }
            (b'k', Health::Up | Health::Drained) => {
                self.stage.cluster.kill_daemon(name).step(|| format!("kill the daemon of {name}"))?;
                (Health::Killed, "kill -9 of the daemon")
            }
            (b'h', Health::Up | Health::Drained) => {
                self.stage.cluster.segment.node(name).place().stop_all().step(|| format!("stop {name}"))?;
                (Health::Hung, "SIGSTOP to everything")
            }
            (b'c', Health::Up | Health::Drained) => {
                self.stage.cluster.segment.pull_cable(name).step(|| format!("cut {name} off"))?;
                (Health::Cut, "the cable is pulled")
            }
            (b'o', Health::Up | Health::Drained) => {
                self.stage.cluster.segment.power_off(name).step(|| format!("power {name} off"))?;
                (Health::Off, "the power goes")
            }
            (b'd', Health::Up) => {
                self.stage.command(name, &["drain"])?;
                (Health::Drained, "rendezvip drain")
            }
            (b'r', Health::Killed) => {
                self.stage.cluster.start(name)?;
                (Health::Up, "the daemon starts again")
            }
            (b'r', Health::Hung) => {
                self.stage.cluster.segment.node(name).place().continue_all().step(|| format!("continue {name}"))?;
                (Health::Up, "SIGCONT to everything")
            }
            (b'r', Health::Cut) => {
                self.stage.cluster.segment.plug_cable(name).step(|| format!("plug {name} in"))?;
                (Health::Up, "the cable is back")
            }
            (b'r', Health::Off) => {
                self.stage.cluster.segment.power_on(name)?;
                self.stage.cluster.start(name)?;
                (Health::Up, "the power is back")
            }
            (b'r', Health::Drained) => {
                self.stage.command(name, &["resume"])?;
                (Health::Up, "rendezvip resume")
            }
            _ => return Ok(()),
        };
        self.stage.client.mark();
        self.page.nodes[self.page.chosen].1 = health;
        self.page.event(at, format!("{name}: {event}"));
        Ok(())
    }

    fn draw(&self) -> io::Result<()> {
        let mut page = String::from("\x1b[H");
        for line in self.page.lines() {
            page.push_str(&line);
            // Clear to the end of the line: the page is drawn over itself, so that it does not flicker.
            page.push_str("\x1b[K\r\n");
        }
        page.push_str("\x1b[J");
        let mut stdout = io::stdout().lock();
        stdout.write_all(page.as_bytes())?;
        stdout.flush()
    }
}

/// The key that was pressed within a frame; the terminal's end counts as `q`.
fn key() -> io::Result<Option<u8>> {
    let mut stdin = io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(FRAME))? == 0 {
        return Ok(None);
    }
    let mut byte = [0; 1];
    Ok(Some(if stdin.read(&mut byte)? == 0 { b'q' } else { byte[0] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_who_answers_and_what_happened() {
        let row = |vip: &str, owner: &str, silence, lasts| Row {
            vip: vip.parse().unwrap(),
            owner: owner.to_owned(),
            silence: Duration::from_millis(silence),
            lasts,
        };
        let mut page = Page {
            nodes: vec![("edge-a", Health::Killed), ("edge-b", Health::Up), ("edge-c", Health::Up)],
            chosen: 0,
            rows: vec![
                row("10.99.0.100", "edge-b", 12, false),
                row("10.99.0.101", "nobody", 140, true),
                row("fd99::100", "edge-c", 0, false),
            ],
            events: VecDeque::new(),
        };
        page.event(Duration::from_millis(12_345), "edge-a: kill -9 of the daemon");
        page.event(Duration::from_millis(12_360), "10.99.0.100: edge-a -> edge-b");
        insta::assert_snapshot!(page.lines().join("\n"), @r"
        rendezvip lab: a bridge, three nodes, a client that asks each VIP every 5 ms

        > 1 edge-a   0 VIPs  its daemon is gone
          2 edge-b   1 VIPs  up
          3 edge-c   1 VIPs  up

          VIP             who answers         longest silence since the last key
          10.99.0.100     edge-b              12 ms
          10.99.0.101     nobody              140 ms so far
          fd99::100       edge-c              none

            12.345 s  edge-a: kill -9 of the daemon
            12.360 s  10.99.0.100: edge-a -> edge-b

          1 2 3 choose a node    k kill -9    h hang    c cut    o power off    d drain    r revive
          p commit a pool        q quit
        ");
    }
}
