//! Who takes part, and how it is set up, struck and mended.
//!
//! In: a contender, how many VIPs of which family. Out: three nodes that run it on a segment, a client, a bystander.
//! Not here: rounds (`main`), figures (`round`), the page (`report`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rendezvip::lab::bystander::{self, Bystander};
use rendezvip::lab::client::{self, Client};
use rendezvip::lab::cluster::{Cluster, Layout};
use rendezvip::lab::link::Mac;
use rendezvip::lab::{LabError, now};
use rendezvip::status::snapshot::MemberState;

use crate::lab::step;

/// The nodes.
pub const NODES: [&str; 3] = ["edge-a", "edge-b", "edge-c"];

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// rendezvip as it comes.
    Rendezvip,
    /// rendezvip with `profile: fast`.
    RendezvipFast,
    /// rendezvip with the shortest heartbeat, 20 ms.
    RendezvipShort,
    /// keepalived as a careful operator tunes it: an instance a node, priorities 50 apart, adverts each 50 ms.
    KeepalivedTuned,
    /// keepalived with its defaults: adverts each second.
    Keepalived,
    /// ucarp with its defaults: a process for each VIP, adverts each second.
    Ucarp,
}

impl Contender {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 6] = [
        Self::Rendezvip,
        Self::RendezvipFast,
        Self::RendezvipShort,
        Self::KeepalivedTuned,
        Self::Keepalived,
        Self::Ucarp,
    ];

    /// Its name in the tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rendezvip => "rendezvip",
            Self::RendezvipFast => "rendezvip, fast",
            Self::RendezvipShort => "rendezvip, 20 ms",
            Self::KeepalivedTuned => "keepalived, tuned",
            Self::Keepalived => "keepalived",
            Self::Ucarp => "ucarp",
        }
    }

    /// Is it this project's?
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Rendezvip | Self::RendezvipFast | Self::RendezvipShort)
    }

    /// Does it take seconds to notice anything?
    pub const fn is_slow(self) -> bool {
        matches!(self, Self::Keepalived | Self::Ucarp)
    }

    /// What its program says that it is; None where it is not installed.
    pub fn version(self) -> Option<String> {
        let (program, argument) = match self {
            _ if self.is_ours() => return Some(format!("rendezvip {}", env!("CARGO_PKG_VERSION"))),
            Self::KeepalivedTuned | Self::Keepalived => ("keepalived", "--version"),
            _ => ("ucarp", "--help"),
        };
        let output = Command::new(program).arg(argument).output().ok()?;
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        said.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }
}

/// The family of all VIPs of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The first of `count` VIPs, and the last.
    pub fn range(self, count: usize) -> (IpAddr, IpAddr) {
        (self.vip(0), self.vip(count.saturating_sub(1)))
    }

    fn vip(self, number: usize) -> IpAddr {
        let number = u32::try_from(number).unwrap_or_default();
        match self {
            Self::V4 => Ipv4Addr::from_bits(Ipv4Addr::new(10, 99, 4, 1).to_bits() + number).into(),
            Self::V6 => {
                let first = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 4, 1);
                Ipv6Addr::from_bits(first.to_bits() + u128::from(number)).into()
            }
        }
    }
}

/// What happens to the node that has most VIPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power goes.
    HostDeath,
    /// `kill -9` of the process that was started.
    KillDaemon,
    /// `kill -9` of it and all that it started, in one go.
    KillAll,
    /// SIGSTOP of all of these.
    Hang,
    /// The cable is pulled, and plugged in again.
    Cable,
    /// SIGTERM.
    Stop,
    /// `rendezvip drain`.
    Drain,
    /// A commit prefers another node.
    Move,
    /// Every cable is pulled, as when the switch restarts, and plugged in again.
    Switch,
}

impl Fault {
    /// All of them; host death is measured most often.
    pub const ALL: [Self; 9] = [
        Self::HostDeath,
        Self::KillDaemon,
        Self::KillAll,
        Self::Hang,
        Self::Cable,
        Self::Stop,
        Self::Drain,
        Self::Move,
        Self::Switch,
    ];

    /// Its name in the tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostDeath => "host death",
            Self::KillDaemon => "kill -9 of the daemon",
            Self::KillAll => "kill -9 of everything",
            Self::Hang => "SIGSTOP of everything",
            Self::Cable => "cable out and back",
            Self::Stop => "graceful stop",
            Self::Drain => "drain",
            Self::Move => "planned move",
            Self::Switch => "switch restarts",
        }
    }

    /// Has the contender such a thing?
    pub const fn strikes(self, contender: Contender) -> bool {
        match self {
            Self::HostDeath => true,
            // What a shorter heartbeat is for.
            _ if matches!(contender, Contender::RendezvipShort) => false,
            Self::Drain | Self::Move => contender.is_ours(),
            _ => true,
        }
    }
}

/// A contender on its segment.
pub struct Runner {
    /// Who it is.
    pub contender: Contender,
    /// The family of its VIPs.
    pub family: Family,
    /// Its VIPs.
    pub vips: BTreeSet<IpAddr>,
    /// The client.
    pub client: Client,
    /// The bystander.
    pub bystander: Bystander,
    cluster: Cluster,
    /// The processes of keepalived and ucarp; rendezvip's are the cluster's.
    peers: BTreeMap<&'static str, Vec<Child>>,
    moves: usize,
}

impl Runner {
    /// Lays the segment and starts everybody.
    pub fn new(contender: Contender, count: usize, family: Family) -> Result<Self, LabError> {
        let short = contender == Contender::RendezvipShort;
        let layout = Layout {
            fast: contender == Contender::RendezvipFast,
            heartbeat: short.then_some(Duration::from_millis(20)),
            ..Layout::default()
        };
        let cluster = Cluster::new(&NODES, layout)?;
        let client = Client::start(cluster.segment.client())?;
        let bystander = Bystander::start(cluster.segment.bystander(), "eth0", cluster.segment.bystander_addresses())?;
        let vips: BTreeSet<IpAddr> = (0..count).map(|number| family.vip(number)).collect();
        let peers = BTreeMap::new();
        let mut runner = Self { contender, family, vips, client, bystander, cluster, peers, moves: 0 };
        runner.focus(&runner.vips);
        if contender.is_ours() {
            let mut files = runner.cluster.base_manifests();
            files.push(("pools/web.yaml".to_owned(), runner.pool(None)));
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            runner.cluster.repository.push("The VIPs", &files)?;
        }
        for name in NODES {
            runner.start(name)?;
        }
        Ok(runner)
    }

    /// The one pool. Fail-back is manual, so that rounds need not wait for it.
    fn pool(&self, prefer: Option<&str>) -> String {
        let (first, last) = self.family.range(self.vips.len());
        let prefer = prefer.map_or_else(String::new, |name| format!("  prefer: [{name}]\n"));
        format!(
            "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: web}}\nspec:\n  \
             addresses: [\"{first}-{last}\"]\n  failback: manual\n{prefer}"
        )
    }

    /// Client and bystander look at these VIPs alone, as often as a machine can.
    pub fn focus(&self, vips: &BTreeSet<IpAddr>) {
        self.client.pace(client::INTERVAL.max(Duration::from_micros(120) * u32::try_from(vips.len()).unwrap_or(1)));
        self.bystander.pace(self.pace(vips.len()));
        self.client.watch(vips);
        self.bystander.watch(vips);
    }

    fn pace(&self, vips: usize) -> Duration {
        bystander::INTERVAL.max(Duration::from_micros(500) * u32::try_from(vips).unwrap_or(1))
    }

    /// A claim older than this is not an owner's any more.
    pub fn fresh(&self) -> Duration {
        self.pace(self.vips.len()) * 5
    }

    fn start(&mut self, name: &'static str) -> Result<(), LabError> {
        let commands = match self.contender {
            Contender::Rendezvip | Contender::RendezvipFast | Contender::RendezvipShort => {
                return self.cluster.start(name);
            }
            Contender::KeepalivedTuned | Contender::Keepalived => vec![self.keepalived(name)?],
            Contender::Ucarp => self.ucarp(name)?,
        };
        let log = step("open a log", File::options().create(true).append(true).open(self.cluster.log(name)))?;
        let mut children = Vec::new();
        for mut command in commands {
            let (out, err) = (step("share the log", log.try_clone())?, step("share the log", log.try_clone())?);
            command.stdin(Stdio::null()).stdout(out).stderr(err);
            children.push(step("start it", self.cluster.segment.node(name).place().spawn(command))?);
        }
        for mut old in self.peers.insert(name, children).into_iter().flatten() {
            let _ = old.try_wait();
        }
        Ok(())
    }

    /// VIPs by the node that shall have them: a third each.
    fn shares(&self) -> Vec<Vec<IpAddr>> {
        let vips: Vec<IpAddr> = self.vips.iter().copied().collect();
        let mut shares: Vec<Vec<IpAddr>> =
            vips.chunks(vips.len().div_ceil(NODES.len()).max(1)).map(<[IpAddr]>::to_vec).collect();
        shares.resize(NODES.len(), Vec::new());
        shares
    }

    /// How far down the list for a share a node is: 0 is its first owner.
    fn rank(name: &str, share: usize) -> usize {
        let own = NODES.iter().position(|node| *node == name).unwrap_or_default();
        (own + NODES.len() - share) % NODES.len()
    }

    /// keepalived with an instance a share, each with its master on another node.
    fn keepalived(&self, name: &str) -> Result<Command, LabError> {
        let config = self.cluster.segment.node(name).disk().join("keepalived.conf");
        let (version, advert, more) = match self.contender {
            // Real-time priority and locked memory, as rendezvip takes them by itself.
            Contender::KeepalivedTuned => (3, "0.05", "  vrrp_rt_priority 50\n  vrrp_no_swap\n"),
            // VRRP of IPv6 is version 3.
            _ if self.family == Family::V6 => (3, "1", ""),
            _ => (2, "1", ""),
        };
        let mut text = format!("global_defs {{\n  router_id {name}\n  vrrp_version {version}\n{more}}}\n");
        for (share, vips) in self.shares().into_iter().enumerate().filter(|(_, vips)| !vips.is_empty()) {
            // 50 apart: the skew of VRRP keeps two backups from taking over at once.
            let rank = Self::rank(name, share);
            let (priority, state, id) = (200 - 50 * rank, if rank == 0 { "MASTER" } else { "BACKUP" }, 51 + share);
            let mut addresses: Vec<String> =
                vips.iter().map(|vip| if vip.is_ipv4() { format!("{vip}/16") } else { format!("{vip}/64") }).collect();
            if self.family == Family::V6 {
                // RFC 5798, section 5.2.9: the first is link-local.
                addresses.insert(0, format!("fe80::{id}/64"));
            }
            // An advert of VRRP holds so many; the others come and go with these.
            let excluded = addresses.split_off(addresses.len().min(20)).join("\n    ");
            let addresses = addresses.join("\n    ");
            text.push_str(&format!(
                "vrrp_instance v{share} {{\n  state {state}\n  interface eth0\n  virtual_router_id {id}\n  \
                 priority {priority}\n  advert_int {advert}\n  virtual_ipaddress {{\n    {addresses}\n  }}\n"
            ));
            if !excluded.is_empty() {
                text.push_str(&format!("  virtual_ipaddress_excluded {{\n    {excluded}\n  }}\n"));
            }
            text.push_str("}\n");
        }
        step("write keepalived.conf", fs::write(&config, text))?;
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp", "--pid=/run/keepalived.pid"]);
        command.args(["--vrrp_pid=/run/keepalived-vrrp.pid", "--use-file"]).arg(config);
        Ok(command)
    }

    /// ucarp for each VIP, set up as its manual does: two scripts, a preferred master that takes its VIP back.
    fn ucarp(&self, name: &str) -> Result<Vec<Command>, LabError> {
        use std::os::unix::fs::PermissionsExt as _;
        let node = self.cluster.segment.node(name);
        let script = |verb: &str| {
            let path = node.disk().join(format!("vip-{verb}.sh"));
            let text = format!("#!/bin/sh\nexec ip address {verb} \"$2/32\" dev \"$1\"\n");
            let written =
                fs::write(&path, text).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
            step("write a script of ucarp", written.map(|()| path))
        };
        let (up, down) = (script("add")?, script("del")?);
        let shares = self.shares();
        let all = shares.iter().enumerate().flat_map(|(share, vips)| vips.iter().map(move |vip| (share, vip)));
        let commands = all.zip(1..).map(|((share, vip), id)| {
            let mut command = Command::new("ucarp");
            command.args(["--interface=eth0", "--pass=secret", "--preempt", "--shutdown"]);
            command.args([format!("--srcip={}", node.seat().v4()), format!("--vhid={id}"), format!("--addr={vip}")]);
            command.arg(format!("--advskew={}", 50 * Self::rank(name, share)));
            command.args([format!("--upscript={}", up.display()), format!("--downscript={}", down.display())]);
            command
        });
        Ok(commands.collect())
    }

    /// A node's hardware address.
    pub fn mac(&self, name: &str) -> Mac {
        self.cluster.segment.node(name).seat().mac()
    }

    fn claimants(&self) -> BTreeMap<IpAddr, Mac> {
        self.bystander.claimants(now().before(self.fresh()))
    }

    /// The node that has most VIPs.
    pub fn busiest(&self) -> &'static str {
        let claimed = self.claimants();
        let holds = |name: &&&str| claimed.values().filter(|mac| **mac == self.mac(name)).count();
        NODES.iter().max_by_key(holds).copied().unwrap_or(NODES[0])
    }

    /// The VIPs that a node has.
    pub fn vips_of(&self, name: &str) -> BTreeSet<IpAddr> {
        let mac = self.mac(name);
        self.claimants().into_iter().filter(|(_, owner)| *owner == mac).map(|(vip, _)| vip).collect()
    }

    /// Waits until these VIPs answer from somewhere else than `victim`.
    ///
    /// Where the victim goes on answering, whoever took over is heard too: any claim by another counts.
    pub fn moved(&self, hit: &BTreeSet<IpAddr>, victim: &str, limit: Duration) -> bool {
        let (mac, start) = (self.mac(victim), now());
        let everywhere = || {
            let claims = self.bystander.claims(start);
            let others: BTreeSet<IpAddr> =
                claims.iter().filter(|one| one.claim.mac != mac).map(|one| one.claim.address).collect();
            hit.is_subset(&others)
        };
        while !everywhere() {
            if now().since(start) > limit {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.client.answered(hit, limit)
    }

    /// Waits until everybody is well and every VIP has had the same owner for a second.
    pub fn settle(&self, limit: Duration) -> bool {
        let start = now();
        let mut last = (BTreeMap::new(), start);
        while now().since(start) < limit {
            let claimed = self.claimants();
            if claimed != last.0 || claimed.len() < self.vips.len() {
                last = (claimed, now());
            } else if now().since(last.1) > self.calm() && self.everybody_is_well(&claimed) {
                return self.client.answered(&self.vips, limit);
            }
            thread::sleep(Duration::from_millis(50));
        }
        false
    }

    /// Longer than any second thought of the contender.
    const fn calm(&self) -> Duration {
        Duration::from_millis(if self.contender.is_slow() { 4_000 } else { 1_000 })
    }

    fn everybody_is_well(&self, claimed: &BTreeMap<IpAddr, Mac>) -> bool {
        if self.contender.is_ours() {
            let alive = |name: &&str| {
                self.cluster
                    .status(name)
                    .is_ok_and(|status| status.members.iter().all(|member| member.state == MemberState::Alive))
            };
            return NODES.iter().all(alive);
        }
        // The others have no list of members: who has its own share again is there.
        let has_its_own = |(name, vips): (&&str, &Vec<IpAddr>)| {
            let mac = self.mac(name);
            vips.iter().all(|vip| claimed.get(vip) == Some(&mac))
        };
        NODES.iter().zip(&self.shares()).all(has_its_own)
    }

    /// Frames that the busiest sender of the nodes sends in `over` while nobody asks anything.
    pub fn frames(&self, over: Duration) -> Result<u64, LabError> {
        /// Neighbours make sure of one another for some seconds after the last question (delay and probes, RFC 4861
        /// section 7.3.3).
        const QUIET: Duration = Duration::from_secs(9);
        self.client.pause(true);
        self.bystander.pause(true);
        thread::sleep(QUIET);
        let sent = || -> Result<Vec<u64>, LabError> {
            let one = |name: &&str| self.cluster.segment.counters(name).map(|counters| counters.sent);
            step("count frames", NODES.iter().map(one).collect())
        };
        let before = sent()?;
        thread::sleep(over);
        let after = sent()?;
        self.client.pause(false);
        self.bystander.pause(false);
        Ok(before.iter().zip(after).map(|(before, after)| after - before).max().unwrap_or_default())
    }

    /// Does it to the victim.
    pub fn strike(&mut self, fault: Fault, victim: &'static str) -> Result<(), LabError> {
        let place = self.cluster.segment.node(victim).place();
        let done = match fault {
            Fault::HostDeath => self.cluster.segment.power_off(victim),
            Fault::KillAll => place.kill_all(),
            Fault::Hang => place.stop_all(),
            Fault::Cable => self.cluster.segment.pull_cable(victim),
            Fault::Switch => NODES.iter().try_for_each(|name| self.cluster.segment.pull_cable(name)),
            Fault::Drain => self.cluster.tell(victim, &["drain"]).map(drop),
            Fault::Move => return self.prefer(victim),
            Fault::KillDaemon if self.contender.is_ours() => self.cluster.kill_daemon(victim),
            Fault::Stop if self.contender.is_ours() => self.cluster.stop_daemon(victim).map(drop),
            Fault::KillDaemon | Fault::Stop => {
                use nix::sys::signal::{Signal, kill};
                let signal = if fault == Fault::Stop { Signal::SIGTERM } else { Signal::SIGKILL };
                let peers = self.peers.entry(victim).or_default();
                let told = peers.iter().try_for_each(|peer| {
                    kill(nix::unistd::Pid::from_raw(peer.id().cast_signed()), signal).map_err(io::Error::from)
                });
                told.and_then(|()| peers.iter_mut().try_for_each(|peer| peer.wait().map(drop)))
            }
        };
        step(fault.name(), done)
    }

    /// Commits that all VIPs shall be on another node than the victim, and tells a node, as a web hook would.
    fn prefer(&mut self, victim: &str) -> Result<(), LabError> {
        let others: Vec<&str> = NODES.iter().copied().filter(|name| *name != victim).collect();
        let to = others[self.moves % others.len()];
        self.moves += 1;
        self.commit(&format!("Prefer {to}"), &self.pool(Some(to)))
    }

    fn commit(&self, message: &str, pool: &str) -> Result<(), LabError> {
        self.cluster.repository.push(message, &[("pools/web.yaml", pool)])?;
        step("tell a node to fetch", self.cluster.tell(NODES[0], &["reconcile"]).map(drop))
    }

    /// Undoes it.
    pub fn mend(&mut self, fault: Fault, victim: &'static str) -> Result<(), LabError> {
        match fault {
            Fault::HostDeath => {
                self.cluster.segment.power_on(victim)?;
                self.start(victim)
            }
            Fault::KillDaemon | Fault::KillAll | Fault::Stop => self.start(victim),
            Fault::Hang => step("continue", self.cluster.segment.node(victim).place().continue_all()),
            Fault::Cable => step("plug in", self.cluster.segment.plug_cable(victim)),
            Fault::Switch => step("plug in", NODES.iter().try_for_each(|name| self.cluster.segment.plug_cable(name))),
            Fault::Drain => step("resume", self.cluster.tell(victim, &["resume"]).map(drop)),
            Fault::Move => self.commit("Prefer nobody", &self.pool(None)),
        }
    }

    /// What everybody logged last.
    pub fn log_tails(&self) -> String {
        NODES.map(|name| format!("-- {name}\n{}", self.cluster.log_tail(name))).join("\n")
    }
}
