//! A stage: a cluster, a client that uses its VIPs and a bystander that watches who has them.
//!
//! In: pools to serve, and what shall happen to a node. Out: when everything is as the plan says, and what a fault
//! did to whom. Not here: what it is told for (`story`, `screen`, the end-to-end tests).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use super::bystander::{Bystander, Overlap};
use super::client::Client;
use super::cluster::{Cluster, Layout};
use super::link::{Mac, mac_text};
use super::{LabError, Step, now};
use crate::status::snapshot::MemberState;
use crate::time::Instant;

/// How long a fault is watched after the service is back: a second claimant would show in that time. More than twice
/// the bystander's window, or a move there and back would look like two that claim at once.
const WATCH: Duration = Duration::from_millis(1_100);

/// A claim older than this is not an owner's any more: questions since then went unanswered.
const FRESH: Duration = Duration::from_millis(200);

/// A cluster with its spectators.
pub struct Stage {
    /// Probes every VIP that the plan has.
    pub client: Client,
    /// Asks for every VIP that the plan has.
    pub bystander: Bystander,
    /// The cluster.
    pub cluster: Cluster,
    wanted: BTreeMap<IpAddr, Mac>,
}

/// What a fault did.
#[derive(Debug, Clone)]
pub struct Damage {
    /// Did somebody else take over, and the client notice?
    pub taken_over: bool,
    /// When the last of its VIPs was first claimed by somebody else, counted from the fault.
    ///
    /// A hung host's kernel goes on answering a client that knows its MAC, so a silence alone shows less than this.
    pub takeover: Option<Duration>,
    /// The client's longest silence, over the victim's VIPs.
    pub outage: Duration,
    /// Probes lost of everybody else's VIPs.
    pub others_lost: u64,
    /// The victim's last claim, counted from the fault; none where it made none.
    pub last_claim: Option<Duration>,
    /// Claims in the midst of another's.
    pub overlaps: Vec<Overlap>,
}

impl Stage {
    /// Lays it out and pushes the manifests; no daemon runs yet.
    pub fn new(names: &[&str], layout: Layout, pools: &[(&str, &str)]) -> Result<Self, LabError> {
        let cluster = Cluster::new(names, layout)?;
        let client = Client::start(cluster.segment.client())?;
        let bystander = Bystander::start(cluster.segment.bystander(), "eth0", cluster.segment.bystander_addresses())?;
        let base = cluster.base_manifests();
        let mut files: Vec<(&str, &str)> = base.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        files.extend(pools);
        cluster.repository.push("Nodes and pools", &files)?;
        let mut stage = Self { client, bystander, cluster, wanted: BTreeMap::new() };
        stage.replan()?;
        Ok(stage)
    }

    /// Starts every daemon.
    pub fn start_all(&mut self) -> Result<(), LabError> {
        self.names().iter().try_for_each(|name| self.cluster.start(name))
    }

    /// The nodes' names.
    pub fn names(&self) -> Vec<String> {
        self.cluster.segment.nodes().iter().map(|node| node.name().to_owned()).collect()
    }

    /// Reads the plan again; client and bystander follow its VIPs.
    pub fn replan(&mut self) -> Result<(), LabError> {
        self.wanted = self.cluster.wanted().step(|| "run `rendezvip plan`".to_owned())?;
        self.client.watch(&self.vips());
        self.bystander.watch(&self.vips());
        Ok(())
    }

    /// Runs a `rendezvip` command on a node.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Result<String, LabError> {
        self.cluster.tell(name, arguments).step(|| format!("run `rendezvip {}` on {name}", arguments.join(" ")))
    }

    /// Commits and pushes, reads the plan again, and has a node fetch at once, as a web hook would.
    pub fn push(&mut self, message: &str, files: &[(&str, &str)], told: &str) -> Result<(), LabError> {
        self.cluster.repository.push(message, files)?;
        self.replan()?;
        self.command(told, &["reconcile"]).map(drop)
    }

    /// Every VIP of the plan.
    pub fn vips(&self) -> BTreeSet<IpAddr> {
        self.wanted.keys().copied().collect()
    }

    /// Who the plan wants for each VIP.
    pub const fn wanted(&self) -> &BTreeMap<IpAddr, Mac> {
        &self.wanted
    }

    /// The VIPs that the plan wants at a node.
    pub fn vips_of(&self, name: &str) -> BTreeSet<IpAddr> {
        let mac = self.mac(name);
        self.wanted.iter().filter(|(_, owner)| **owner == mac).map(|(vip, _)| *vip).collect()
    }

    /// A node's hardware address on the segment.
    pub fn mac(&self, name: &str) -> Mac {
        self.cluster.segment.node(name).seat().mac()
    }

    /// The node that a hardware address belongs to, or the address.
    pub fn name(&self, mac: Mac) -> String {
        self.cluster.segment.who(mac).map_or_else(|| mac_text(mac), |node| node.name().to_owned())
    }

    /// Who claims each VIP at this moment.
    pub fn claimed(&self) -> BTreeMap<IpAddr, Mac> {
        self.bystander.claimants(now().before(FRESH))
    }

    /// Waits until every VIP answers, from the node that the plan names, and every node is alive for the first.
    ///
    /// The error says what is not so.
    pub fn settle(&mut self, limit: Duration) -> Result<(), String> {
        /// How often somebody looks whether the daemons are there at all.
        const GLANCE: Duration = Duration::from_secs(1);
        /// A node that comes back for the second time within minutes is held back for a while (damping). Whoever sits
        /// in front of a stage does not wait that long, and says so.
        const IMPATIENT: Duration = Duration::from_secs(4);
        let (vips, start) = (self.vips(), now());
        let mut told = false;
        while self.bystander.wait(GLANCE, |who| *who == self.wanted).is_none() {
            for name in self.names() {
                if let Some(status) = self.cluster.ended(&name) {
                    return Err(format!("the daemon of {name} ended: {status}"));
                }
            }
            if now().since(start) >= IMPATIENT && !std::mem::replace(&mut told, true) {
                for name in self.names() {
                    // One that is on its way in or out does not take orders.
                    let _ = self.cluster.ask(&name, &["resume"]);
                }
            }
            if now().since(start) < limit {
                continue;
            }
            let claimed = self.claimed();
            let wrong = self.wanted.iter().filter(|(vip, mac)| claimed.get(*vip) != Some(*mac)).map(|(vip, mac)| {
                let has = claimed.get(vip).map_or_else(|| "nobody".to_owned(), |mac| self.name(*mac));
                format!("{vip} is at {has} instead of {}", self.name(*mac))
            });
            return Err(wrong.collect::<Vec<_>>().join("; "));
        }
        if !self.client.answered(&vips, limit) {
            return Err(format!("no answer to the client: {:?}", self.client.report()));
        }
        let first = self.cluster.segment.nodes().first().map_or("", super::segment::Node::name);
        let alive = self
            .cluster
            .wait_status(first, limit, |status| status.members.iter().all(|member| member.state == MemberState::Alive));
        alive.map(drop).ok_or_else(|| match self.cluster.status(first) {
            Ok(status) => format!(
                "not everybody is alive: {:?}",
                status.members.iter().map(|one| (&one.node, one.state)).collect::<Vec<_>>()
            ),
            Err(error) => format!("{first} does not tell its status: {error}"),
        })
    }

    /// Does something to a node, and watches until its VIPs are elsewhere and a while longer.
    pub fn strike(
        &mut self,
        victim: &str,
        limit: Duration,
        blow: impl FnOnce(&mut Cluster) -> io::Result<()>,
    ) -> Result<Damage, LabError> {
        let (hit, mac) = (self.vips_of(victim), self.mac(victim));
        self.client.mark();
        let start = now();
        blow(&mut self.cluster).step(|| format!("strike {victim}"))?;
        let elsewhere = |who: &BTreeMap<IpAddr, Mac>| hit.iter().all(|vip| who.get(vip).is_some_and(|at| *at != mac));
        let taken_over = self.bystander.wait(limit, elsewhere).is_some() && self.client.answered(&hit, limit);
        thread::sleep(WATCH);
        let report = self.client.report();
        let claims = self.bystander.claims(start);
        let first = |vip: &IpAddr| claims.iter().find(|one| one.claim.address == *vip && one.claim.mac != mac);
        let firsts: Option<Vec<Instant>> = hit.iter().map(|vip| first(vip).map(|one| one.at)).collect();
        let outage = hit.iter().filter_map(|vip| report.get(vip)).map(|one| one.longest).max().unwrap_or_default();
        Ok(Damage {
            taken_over,
            takeover: firsts.and_then(|firsts| firsts.into_iter().max()).map(|at| at.since(start)),
            outage,
            others_lost: report.iter().filter(|(vip, _)| !hit.contains(vip)).map(|(_, one)| one.lost).sum(),
            last_claim: self.bystander.last_claim(mac, start).map(|at| at.since(start)),
            overlaps: self.bystander.overlaps(start),
        })
    }

    /// Waits for what cannot be waited for otherwise: that something does *not* happen.
    pub fn watch(&self) {
        thread::sleep(WATCH);
    }

    /// Probes lost of all VIPs since the client's last mark.
    pub fn lost(&self) -> u64 {
        self.client.report().values().map(|one| one.lost).sum()
    }

    /// The same in words: of which VIP, and when the silence began, counted from `since`.
    pub fn losses(&self, since: Instant) -> Vec<String> {
        let report = self.client.report();
        let lost = report.iter().filter(|(_, one)| one.lost > 0);
        lost.map(|(vip, one)| {
            let began = one.began.map_or_else(String::new, |at| format!(", {} ms in", at.since(since).as_millis()));
            format!("{} of {vip}, silent for {} ms{began}", one.lost, one.longest.as_millis())
        })
        .collect()
    }

    /// Claims of a VIP in the midst of another's, in words.
    pub fn overlaps(&self, since: Instant) -> Vec<String> {
        let tell = |one: &Overlap| {
            let millis = one.at.since(since).as_millis();
            format!("{} and {} for {}, {millis} ms in", self.name(one.mac), self.name(one.other), one.vip)
        };
        self.bystander.overlaps(since).iter().map(tell).collect()
    }

    /// Beats that came late so far, of all nodes: where it grows, the machine does not give them the time they need.
    pub fn late_beats(&self) -> u64 {
        self.total("rendezvip_beats_late_total")
    }

    /// A counter's sum over all nodes that tell it.
    pub fn total(&self, metric: &str) -> u64 {
        let count = |name: &String| self.metric(name, metric).and_then(|count| count.parse::<u64>().ok());
        self.names().iter().filter_map(count).sum::<u64>()
    }

    fn metric(&self, name: &str, metric: &str) -> Option<String> {
        let asked = self.cluster.segment.node(name).place().run(|| -> io::Result<String> {
            let mut socket = std::net::TcpStream::connect("127.0.0.1:9747")?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut said = String::new();
            socket.read_to_string(&mut said)?;
            Ok(said)
        });
        let said = asked.unwrap_or_default();
        said.lines().find_map(|line| line.strip_prefix(metric)).map(str::trim).map(str::to_owned)
    }

    /// How late a node's beat came: whether a promise was missed for want of a processor.
    fn lateness(&self, name: &str) -> String {
        let of = |metric: &str| self.metric(name, metric);
        match (of("rendezvip_beats_late_total"), of("rendezvip_beat_latest_microseconds")) {
            (Some(count), Some(latest)) => format!(", {count} beats late, by {latest} us at most"),
            _ => String::new(),
        }
    }

    /// The end of every daemon's log.
    pub fn logs(&mut self) -> String {
        /// Enough to see why.
        const LINES: usize = 10;
        let mut text = String::new();
        for name in self.names() {
            let ended = match self.cluster.ended(&name) {
                Some(status) => format!(" (ended: {status})"),
                None => self.lateness(&name),
            };
            let tail = self.cluster.log_tail(&name);
            let lines: Vec<&str> = tail.lines().collect();
            let last = lines[lines.len().saturating_sub(LINES)..].join("\n  | ");
            text.push_str(&format!("the end of the log of {name}{ended}:\n  | {last}\n"));
        }
        text
    }
}
