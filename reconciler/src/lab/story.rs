//! The story: what happens to a client when a pool is committed and when nodes are killed, hung, cut off and drained?
//!
//! In: a place to write to. Out: the story as it happens, a table of what was promised and what was measured, and
//! whether every promise was kept. Not here: how faults are made (`segment`), how they are measured (`client`,
//! `bystander`, `stage`), the screen that is refreshed in place (`screen`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::io::{self, Write};
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Deserialize;

use super::cluster::{Cluster, Layout};
use super::link::Mac;
use super::repository::{MAIN, STATUS};
use super::stage::Stage;
use super::{LabError, Step, now};
use crate::status::condition::{ConditionType, Truth};
use crate::time::Instant;

/// The nodes of the story.
pub const NODES: [&str; 3] = ["edge-a", "edge-b", "edge-c"];

/// The pool that it begins with.
pub const WEB: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec:\n  addresses: \
                       [10.99.0.100-10.99.0.105, \"fd99::100\"]\n  failback: {after: 2s}\n";

/// The pool that is committed while it runs.
pub const API: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: api}\nspec:\n  addresses: \
                       [10.99.0.110-10.99.0.112]\n  failback: {after: 2s}\n";

/// A pool that nobody may run: it holds a node's own address.
const BAD: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: bad}\nspec:\n  addresses: \
                   [10.99.0.10-10.99.0.12]\n";

/// Longer than any return takes: joining, fail-back and what a loaded machine adds.
const PATIENCE: Duration = Duration::from_secs(40);

/// Writes of the story that fail end it: nobody reads it any more.
fn told(error: io::Error) -> LabError {
    LabError::Step { what: "tell the story".to_owned(), source: error }
}

/// One promise and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Promise {
    act: String,
    what: String,
    promised: String,
    measured: String,
    kept: bool,
}

/// Plays the whole story on `out`; true when every promise was kept.
pub fn play(out: &mut dyn Write, colour: bool) -> Result<bool, LabError> {
    let mut story = Story::begin(out, colour)?;
    if story.forms()? {
        story.rests()?;
        story.commits_a_pool()?;
        story.loses_a_daemon()?;
        story.hangs()?;
        story.loses_a_host()?;
        story.loses_a_cable()?;
        story.drains()?;
        story.refuses_a_bad_commit()?;
        story.reads_git()?;
    }
    story.end()
}

struct Story<'a> {
    out: &'a mut dyn Write,
    colour: bool,
    stage: Stage,
    began: Instant,
    act: String,
    promises: Vec<Promise>,
}

impl<'a> Story<'a> {
    fn begin(out: &'a mut dyn Write, colour: bool) -> Result<Self, LabError> {
        let began = now();
        let stage = Stage::new(&NODES, Layout::default(), &[("pools/web.yaml", WEB)])?;
        let mut story = Self { out, colour, stage, began, act: String::new(), promises: Vec::new() };
        story.write(&format!(
            "Three nodes ({}) on a bridge of their own; a client that asks every VIP each 5 ms;\n\
             a bystander that asks each 20 ms who has it. Nothing leaves this machine, and nothing stays.\n",
            NODES.join(", ")
        ))?;
        Ok(story)
    }

    // The acts.

    fn forms(&mut self) -> Result<bool, LabError> {
        self.open("The cluster forms")?;
        let start = now();
        self.stage.start_all()?;
        self.line("`rendezvip run` starts on each; the repository has pools/web.yaml, six IPv4 VIPs and one IPv6.")?;
        let settled = self.settle(start)?;
        self.took("all VIPs answer, each at the node that `rendezvip plan` names", Duration::from_secs(10), settled)?;
        if settled.is_none() {
            return Ok(false);
        }
        let owners = self.owners();
        self.line(&format!("owners: {owners}"))?;
        Ok(true)
    }

    fn rests(&mut self) -> Result<(), LabError> {
        /// Long enough for 100 ms heartbeats to show their rate.
        const REST: Duration = Duration::from_secs(3);
        /// The last round of announcements comes 3 s after the first.
        const ANNOUNCED: Duration = Duration::from_secs(4);
        /// What design.md allows a node to send, whatever the number of VIPs.
        const ALLOWED: u64 = 25;
        self.open("Nothing happens")?;
        self.line(
            "Once the last round of announcements is over, client and bystander are quiet for 3 s; the frames that each \
             node sends are counted at the bridge.",
        )?;
        thread::sleep(ANNOUNCED);
        self.stage.client.pause(true);
        self.stage.bystander.pause(true);
        let sent = |story: &Self| -> Result<Vec<u64>, LabError> {
            NODES
                .iter()
                .map(|name| story.stage.cluster.segment.counters(name).map(|counters| counters.sent))
                .collect::<io::Result<_>>()
                .step(|| "count frames".to_owned())
        };
        let (before, start) = (sent(self)?, now());
        thread::sleep(REST);
        let (after, took) = (sent(self)?, now().since(start).as_millis().max(1));
        self.stage.client.pause(false);
        self.stage.bystander.pause(false);
        let rate = |(before, after): (&u64, &u64)| u128::from(after - before) * 1_000 / took;
        let most = before.iter().zip(&after).map(rate).max().unwrap_or_default();
        self.promise(
            "frames that a node sends a second",
            &format!("at most {ALLOWED}"),
            &most.to_string(),
            most <= u128::from(ALLOWED),
        )
    }

    fn commits_a_pool(&mut self) -> Result<(), LabError> {
        self.open("A pool is committed")?;
        let start = now();
        self.line("pools/api.yaml, three VIPs, is pushed; `rendezvip reconcile` on edge-a stands for the web hook.")?;
        self.stage.push("Add pool api", &[("pools/api.yaml", API)], "edge-a")?;
        let settled = self.settle(start)?;
        self.took("from `git push` to the wire, all three VIPs", Duration::from_secs(2), settled)
    }

    fn loses_a_daemon(&mut self) -> Result<(), LabError> {
        self.open("kill -9 of the daemon on edge-a")?;
        self.fault("edge-a", Duration::from_millis(50), Some(Duration::from_millis(100)), |cluster| {
            cluster.kill_daemon("edge-a")
        })?;
        self.stage.cluster.start("edge-a")?;
        self.returns("the daemon starts again")
    }

    fn hangs(&mut self) -> Result<(), LabError> {
        self.open("Everything on edge-b hangs (SIGSTOP of all its processes)")?;
        self.fault("edge-b", Duration::from_millis(300), None, |cluster| {
            cluster.segment.node("edge-b").place().stop_all()
        })?;
        self.stage.cluster.segment.node("edge-b").place().continue_all().step(|| "send SIGCONT".to_owned())?;
        self.returns("all of it goes on (SIGCONT), with everything that it still believes")
    }

    fn loses_a_host(&mut self) -> Result<(), LabError> {
        self.open("The power of edge-c goes")?;
        self.fault("edge-c", Duration::from_millis(300), None, |cluster| cluster.segment.power_off("edge-c"))?;
        self.stage.cluster.segment.power_on("edge-c")?;
        self.stage.cluster.start("edge-c")?;
        self.returns("the power is back; the host boots with its disk as it was")
    }

    fn loses_a_cable(&mut self) -> Result<(), LabError> {
        self.open("Somebody pulls the cable of edge-a")?;
        self.fault("edge-a", Duration::from_millis(300), None, |cluster| cluster.segment.pull_cable("edge-a"))?;
        self.stage.cluster.segment.plug_cable("edge-a").step(|| "plug the cable in".to_owned())?;
        self.returns("the cable is back")
    }

    fn drains(&mut self) -> Result<(), LabError> {
        self.open("edge-b is drained for maintenance")?;
        let (moving, start) = (self.stage.vips_of("edge-b"), now());
        let mac = self.stage.mac("edge-b");
        self.stage.client.mark();
        self.stage.command("edge-b", &["drain"])?;
        let gone = |who: &BTreeMap<IpAddr, Mac>| moving.iter().all(|vip| who.get(vip).is_some_and(|at| *at != mac));
        let gone = self.stage.bystander.wait(PATIENCE, gone).map(|_| now().since(start));
        self.took("`rendezvip drain`: its VIPs are at the others", Duration::from_secs(10), gone)?;
        self.stage.watch();
        self.stage.command("edge-b", &["resume"])?;
        let settled = self.settle(now())?;
        self.took("`rendezvip resume`: its VIPs are back", Duration::from_secs(20), settled)?;
        self.stage.watch();
        self.lost("probes lost, there and back", start)?;
        self.one_claimant(start)
    }

    fn refuses_a_bad_commit(&mut self) -> Result<(), LabError> {
        self.open("A bad commit")?;
        self.line("pools/bad.yaml claims the nodes' own addresses. It is pushed, whatever `rendezvip validate` says.")?;
        self.stage.client.mark();
        let start = now();
        let before = self.stage.cluster.status("edge-a").step(|| "ask edge-a for its status".to_owned())?.revision;
        self.stage.cluster.repository.push("Add pool bad", &[("pools/bad.yaml", BAD)])?;
        self.stage.command("edge-a", &["reconcile"])?;
        let stalled = self.stage.cluster.wait_status("edge-a", PATIENCE, |status| {
            let stalled = |one: &crate::status::condition::Condition| {
                one.kind == ConditionType::Stalled && one.status == Truth::True
            };
            status.conditions.iter().any(stalled)
        });
        let stalled_at = now();
        let message = stalled.as_ref().and_then(|status| {
            status.conditions.iter().find(|one| one.kind == ConditionType::Stalled).map(|one| one.message.clone())
        });
        if let Some(message) = &message {
            self.line(&format!("edge-a says: {}", message.lines().next().unwrap_or_default()))?;
        }
        let refused = stalled.as_ref().is_some_and(|status| status.revision == before);
        self.promise(
            "it is refused, and the status says where it is wrong",
            "file:line:col",
            if refused { "refused" } else { "no Stalled condition, or it runs" },
            refused && message.is_some_and(|message| message.contains("pools/bad.yaml:")),
        )?;
        self.stage.push("Remove pool bad", &[("pools/bad.yaml", "")], "edge-a")?;
        self.settle(stalled_at)?;
        self.lost("probes lost meanwhile", start)?;
        self.one_claimant(start)
    }

    fn reads_git(&mut self) -> Result<(), LabError> {
        self.open("What git tells")?;
        self.line("The nodes report on the branch rendezvip/status, one of them for all, paced to spare the forge.")?;
        let start = now();
        // The pace: four commits at once, then one each 15 s.
        let limit = Duration::from_secs(75);
        let told = loop {
            match self.differs_from_git()? {
                None => break Some(now().since(start)),
                Some(_) if now().since(start) < limit => thread::sleep(Duration::from_millis(500)),
                Some(difference) => {
                    self.line(&difference)?;
                    break None;
                }
            }
        };
        self.took("status files = plan = `ip addr` = who answers on the wire", limit, told)?;
        let (main, status) = (self.stage.cluster.repository.files(MAIN), self.stage.cluster.repository.files(STATUS));
        let strange: Vec<&String> = status
            .iter()
            .filter(|(path, text)| !path.starts_with("status/") && main.get(*path) != Some(text))
            .map(|(path, _)| path)
            .chain(main.keys().filter(|path| !status.contains_key(*path)))
            .collect();
        self.promise(
            "`git diff --name-only main rendezvip/status`",
            "status/ only",
            &if strange.is_empty() { "status/ only".to_owned() } else { format!("{strange:?}") },
            strange.is_empty() && !status.is_empty(),
        )?;
        let log = self.stage.cluster.repository.log(STATUS);
        self.line(&format!("git log --first-parent {STATUS}: {} commits, the newest first", log.len()))?;
        for subject in log.iter().take(6) {
            self.line(&format!("  {subject}"))?;
        }
        Ok(())
    }

    /// Where git, plan, kernels and wire differ, in words; None where they agree.
    fn differs_from_git(&self) -> Result<Option<String>, LabError> {
        #[derive(Deserialize)]
        struct File {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            vips: Vec<Row>,
        }
        #[derive(Deserialize)]
        struct Row {
            vip: IpAddr,
            actual: Option<String>,
        }
        let mut told: BTreeMap<IpAddr, Option<String>> = BTreeMap::new();
        for (path, text) in self.stage.cluster.repository.files(STATUS) {
            if !path.starts_with("status/pools/") {
                continue;
            }
            match serde_yaml::from_slice::<File>(&text) {
                Ok(file) => told.extend(file.status.vips.into_iter().map(|row| (row.vip, row.actual))),
                Err(error) => return Ok(Some(format!("{path}: {error}"))),
            }
        }
        let all = self.stage.vips();
        let mut on: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
        for name in NODES {
            let found = self.stage.cluster.on_interface(name, &all).step(|| format!("list the addresses of {name}"))?;
            found.into_iter().for_each(|vip| on.entry(vip).or_default().push(name));
        }
        let claimed = self.stage.claimed();
        for (vip, mac) in self.stage.wanted() {
            let wanted = self.stage.name(*mac);
            let git = told.get(vip).cloned().flatten().unwrap_or_else(|| "nobody".to_owned());
            let kernel = on.get(vip).map_or_else(|| "nobody".to_owned(), |names| names.join(" and "));
            let wire = claimed.get(vip).map_or_else(|| "nobody".to_owned(), |mac| self.stage.name(*mac));
            if [&git, &kernel, &wire].iter().any(|one| **one != wanted) {
                return Ok(Some(format!("{vip}: plan {wanted}, git {git}, `ip addr` {kernel}, wire {wire}")));
            }
        }
        let more = told.keys().find(|vip| !self.stage.wanted().contains_key(*vip));
        Ok(more.map(|vip| format!("{vip} stands in git, and in no plan")))
    }

    // What acts share.

    /// A fault strikes a node: its VIPs go elsewhere in time, the others' are not touched, nobody answers twice.
    fn fault(
        &mut self,
        victim: &str,
        outage: Duration,
        silent: Option<Duration>,
        strike: impl FnOnce(&mut Cluster) -> io::Result<()>,
    ) -> Result<(), LabError> {
        self.line(&format!("it has {}", list(&self.stage.vips_of(victim))))?;
        let start = now();
        let damage = self.stage.strike(victim, PATIENCE, strike)?;
        if !damage.taken_over {
            self.logs()?;
        }
        self.took("outage of its VIPs, as the client felt it", outage, Some(damage.outage))?;
        let limit = Duration::from_millis(300);
        self.took("its VIPs are claimed by the others", limit, damage.takeover)?;
        self.none("probes lost of the others' VIPs", damage.others_lost)?;
        if let Some(silent) = silent {
            self.took("last claim by the dead owner", silent, Some(damage.last_claim.unwrap_or_default()))?;
        }
        self.one_claimant(start)
    }

    /// The node comes back, takes its place, and gets its VIPs without a probe lost.
    fn returns(&mut self, how: &str) -> Result<(), LabError> {
        self.line(&format!("then {how}"))?;
        let start = now();
        self.stage.client.mark();
        let settled = self.settle(start)?;
        self.took("it is back, with its VIPs", PATIENCE, settled)?;
        self.stage.watch();
        self.lost("probes lost on the way back", start)?;
        self.one_claimant(start)
    }

    /// Waits until all is as the plan says; how long that took since `since`.
    fn settle(&mut self, since: Instant) -> Result<Option<Duration>, LabError> {
        match self.stage.settle(PATIENCE) {
            Ok(()) => Ok(Some(now().since(since))),
            Err(wrong) => {
                self.line(&format!("waited in vain: {wrong}"))?;
                self.logs()?;
                Ok(None)
            }
        }
    }

    fn logs(&mut self) -> Result<(), LabError> {
        let logs = self.stage.logs();
        logs.lines().try_for_each(|line| self.line(line))
    }

    fn owners(&self) -> String {
        NODES.map(|name| format!("{name} {}", list(&self.stage.vips_of(name)))).join("; ")
    }

    // Promises.

    fn took(&mut self, what: &str, limit: Duration, took: Option<Duration>) -> Result<(), LabError> {
        let measured = took.map_or_else(|| "never".to_owned(), span);
        self.promise(what, &format!("at most {}", span(limit)), &measured, took.is_some_and(|took| took <= limit))
    }

    fn none(&mut self, what: &str, count: u64) -> Result<(), LabError> {
        let measured = if count == 0 { "none".to_owned() } else { count.to_string() };
        self.promise(what, "none", &measured, count == 0)
    }

    /// No probe was lost since the client's last mark.
    fn lost(&mut self, what: &str, since: Instant) -> Result<(), LabError> {
        let losses = self.stage.losses(since);
        let measured = if losses.is_empty() { "none".to_owned() } else { losses.join("; ") };
        self.promise(what, "none", &measured, losses.is_empty())
    }

    fn one_claimant(&mut self, since: Instant) -> Result<(), LabError> {
        let overlaps = self.stage.overlaps(since);
        let measured = overlaps.first().map_or("never", String::as_str);
        self.promise("two claimants of one VIP", "never", measured, overlaps.is_empty())
    }

    fn promise(&mut self, what: &str, promised: &str, measured: &str, kept: bool) -> Result<(), LabError> {
        let verdict = self.verdict(kept);
        self.write(&format!("   {verdict}  {what}: {measured} (promised: {promised})\n"))?;
        self.promises.push(Promise {
            act: self.act.clone(),
            what: what.to_owned(),
            promised: promised.to_owned(),
            measured: measured.to_owned(),
            kept,
        });
        Ok(())
    }

    fn verdict(&self, kept: bool) -> &'static str {
        match (kept, self.colour) {
            (true, true) => "\x1b[32mkept\x1b[0m  ",
            (true, false) => "kept  ",
            (false, true) => "\x1b[1;31mBROKEN\x1b[0m",
            (false, false) => "BROKEN",
        }
    }

    // The page.

    fn open(&mut self, act: &str) -> Result<(), LabError> {
        act.clone_into(&mut self.act);
        let title = if self.colour { format!("\x1b[1m{act}\x1b[0m") } else { act.to_owned() };
        let at = now().since(self.began).as_secs();
        self.write(&format!("\n{title}  [{at} s]\n"))
    }

    fn line(&mut self, text: &str) -> Result<(), LabError> {
        self.write(&format!("   {}\n", text))
    }

    fn write(&mut self, text: &str) -> Result<(), LabError> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(told)
    }

    fn end(mut self) -> Result<bool, LabError> {
        let broken = self.promises.iter().filter(|one| !one.kept).count();
        let table = table(&self.promises);
        let took = span(now().since(self.began));
        let verdict = match broken {
            0 => format!("All {} promises were kept; it took {took}.", self.promises.len()),
            _ => format!("{broken} of {} promises were broken; it took {took}.", self.promises.len()),
        };
        self.write(&format!("\n{table}\n\n{verdict}\n"))?;
        Ok(broken == 0)
    }
}

/// The summary: what was promised, what was measured.
fn table(promises: &[Promise]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["act", "what", "promised", "measured", ""]);
    let mut last = "";
    for one in promises {
        let act = if one.act == last { "" } else { one.act.as_str() };
        table.add_row([act, &one.what, &one.promised, &one.measured, if one.kept { "kept" } else { "BROKEN" }]);
        last = &one.act;
    }
    table.trim_fmt()
}

/// A duration as people say it: milliseconds below two seconds, tenths of a second above.
pub fn span(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0..2_000 => format!("{millis} ms"),
        _ if millis % 1_000 < 100 => format!("{} s", millis / 1_000),
        _ => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
    }
}

fn list(vips: &BTreeSet<impl Display>) -> String {
    if vips.is_empty() {
        return "no VIP".to_owned();
    }
    vips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_says_what_was_promised_and_what_came_of_it() {
        let promise = |act: &str, what: &str, promised: &str, measured: &str, kept| Promise {
            act: act.to_owned(),
            what: what.to_owned(),
            promised: promised.to_owned(),
            measured: measured.to_owned(),
            kept,
        };
        let promises = [
            promise("kill -9", "outage", "at most 50 ms", &span(Duration::from_millis(12)), true),
            promise("kill -9", "two claimants", "never", "never", true),
            promise("drain", "probes lost", "none", "3", false),
        ];
        insta::assert_snapshot!(table(&promises), @r"
        act      what           promised       measured
        kill -9  outage         at most 50 ms  12 ms     kept
                 two claimants  never          never     kept
        drain    probes lost    none           3         BROKEN
        ");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let said = [0, 12, 1_999, 2_000, 2_050, 12_340].map(|millis| span(Duration::from_millis(millis)));
        assert_eq!(said, ["0 ms", "12 ms", "1999 ms", "2 s", "2 s", "12.3 s"]);
    }
}
