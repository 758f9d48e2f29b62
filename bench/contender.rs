//! Who takes part, and how it is set up, struck and mended.
//!
//! In: a contender's name. Out: three nodes that run it on a segment, six VIPs, a client, a bystander.
//! Not here: rounds and figures (`main`), the page (`report`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rendezvip::lab::bystander::Bystander;
use rendezvip::lab::client::Client;
use rendezvip::lab::cluster::{Cluster, Layout};
use rendezvip::lab::link::Mac;
use rendezvip::lab::{LabError, now};
use rendezvip::status::snapshot::MemberState;

/// The nodes.
pub const NODES: [&str; 3] = ["edge-a", "edge-b", "edge-c"];

/// Six VIPs, two a node; IPv4 alone, as one VRRP instance holds one family.
const VIPS: [&str; 6] = ["10.99.0.100", "10.99.0.101", "10.99.0.102", "10.99.0.103", "10.99.0.104", "10.99.0.105"];

/// The same for rendezvip. Fail-back is manual, so that rounds need not wait for it.
const POOL: &str = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: web}\nspec:\n  addresses: \
                    [10.99.0.100-10.99.0.105]\n  failback: manual\n";

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// rendezvip as it comes.
    Rendezvip,
    /// rendezvip with `profile: fast`.
    RendezvipFast,
    /// keepalived as a careful operator tunes it: an instance a node, priorities 50 apart, adverts each 50 ms.
    KeepalivedTuned,
    /// keepalived with its defaults: adverts each second.
    Keepalived,
}

impl Contender {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Rendezvip, Self::RendezvipFast, Self::KeepalivedTuned, Self::Keepalived];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rendezvip => "rendezvip",
            Self::RendezvipFast => "rendezvip, fast",
            Self::KeepalivedTuned => "keepalived, tuned",
            Self::Keepalived => "keepalived",
        }
    }

    const fn is_ours(self) -> bool {
        matches!(self, Self::Rendezvip | Self::RendezvipFast)
    }

    /// Is its program installed?
    pub fn is_here(self) -> bool {
        self.is_ours() || Command::new("keepalived").arg("--version").output().is_ok()
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
    /// The cable is pulled.
    Cable,
    /// SIGTERM.
    Stop,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::HostDeath, Self::KillDaemon, Self::KillAll, Self::Hang, Self::Cable, Self::Stop];

    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostDeath => "host death",
            Self::KillDaemon => "`kill -9` of the daemon",
            Self::KillAll => "`kill -9` of all its processes",
            Self::Hang => "all its processes hang (SIGSTOP)",
            Self::Cable => "cable pulled",
            Self::Stop => "graceful stop (SIGTERM)",
        }
    }
}

/// A contender on its segment.
pub struct Runner {
    contender: Contender,
    cluster: Cluster,
    /// keepalived's processes; rendezvip's are the cluster's.
    peers: BTreeMap<&'static str, Child>,
    /// The client.
    pub client: Client,
    /// The bystander.
    pub bystander: Bystander,
    vips: BTreeSet<IpAddr>,
}

fn step<T>(what: &str, result: io::Result<T>) -> Result<T, LabError> {
    result.map_err(|source| LabError::Step { what: what.to_owned(), source })
}

impl Runner {
    /// Lays the segment and starts everybody.
    pub fn new(contender: Contender) -> Result<Self, LabError> {
        let layout = Layout { fast: contender == Contender::RendezvipFast, ..Layout::default() };
        let cluster = Cluster::new(&NODES, layout)?;
        let client = Client::start(cluster.segment.client())?;
        let bystander = Bystander::start(cluster.segment.bystander(), "eth0", cluster.segment.bystander_addresses())?;
        let vips: BTreeSet<IpAddr> = VIPS.iter().filter_map(|vip| vip.parse().ok()).collect();
        client.watch(&vips);
        bystander.watch(&vips);
        let mut runner = Self { contender, cluster, peers: BTreeMap::new(), client, bystander, vips };
        if contender.is_ours() {
            let mut files = runner.cluster.base_manifests();
            files.push(("pools/web.yaml".to_owned(), POOL.to_owned()));
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            runner.cluster.repository.push("Six VIPs", &files)?;
        }
        for name in NODES {
            runner.start(name)?;
        }
        Ok(runner)
    }

    fn start(&mut self, name: &'static str) -> Result<(), LabError> {
        if self.contender.is_ours() {
            return self.cluster.start(name);
        }
        let disk = self.cluster.segment.node(name).disk();
        let config = disk.join("keepalived.conf");
        step(
            "write keepalived.conf",
            fs::write(&config, keepalived(name, self.contender == Contender::KeepalivedTuned)),
        )?;
        let log = step("open a log", File::options().create(true).append(true).open(self.cluster.log(name)))?;
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--log-console", "--vrrp", "--pid=/run/keepalived.pid"]);
        command.args(["--vrrp_pid=/run/keepalived-vrrp.pid", "--use-file"]).arg(config);
        command.stdin(Stdio::null()).stderr(step("share the log", log.try_clone())?).stdout(log);
        let child = step("start keepalived", self.cluster.segment.node(name).place().spawn(command))?;
        if let Some(mut old) = self.peers.insert(name, child) {
            let _ = old.try_wait();
        }
        Ok(())
    }

    fn mac(&self, name: &str) -> Mac {
        self.cluster.segment.node(name).seat().mac()
    }

    fn claimants(&self) -> BTreeMap<IpAddr, Mac> {
        self.bystander.claimants(now().before(Duration::from_millis(100)))
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
        let elsewhere = |vip: &IpAddr| {
            self.bystander.claims(start).iter().any(|one| one.claim.address == *vip && one.claim.mac != mac)
        };
        while !hit.iter().all(elsewhere) {
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
        Duration::from_millis(if matches!(self.contender, Contender::Keepalived) { 4_000 } else { 1_000 })
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
        // keepalived has no list of members: who has its own two VIPs again is there.
        NODES.iter().all(|name| claimed.values().filter(|mac| **mac == self.mac(name)).count() == 2)
    }

    /// Frames that the busiest sender of the nodes sends a second while nobody asks anything.
    pub fn frames_a_second(&self, over: Duration) -> Result<u64, LabError> {
        self.client.pause(true);
        self.bystander.pause(true);
        // What was asked last is answered first.
        thread::sleep(Duration::from_millis(200));
        let sent = || -> Result<Vec<u64>, LabError> {
            let one = |name: &&str| self.cluster.segment.counters(name).map(|counters| counters.sent);
            step("count frames", NODES.iter().map(one).collect())
        };
        let (before, start) = (sent()?, now());
        thread::sleep(over);
        let (after, took) = (sent()?, u64::try_from(now().since(start).as_millis()).unwrap_or(u64::MAX).max(1));
        self.client.pause(false);
        self.bystander.pause(false);
        Ok(before.iter().zip(after).map(|(before, after)| (after - before) * 1_000 / took).max().unwrap_or_default())
    }

    /// Does it to the victim.
    pub fn strike(&mut self, fault: Fault, victim: &'static str) -> Result<(), LabError> {
        let place = self.cluster.segment.node(victim).place();
        let done = match fault {
            Fault::HostDeath => self.cluster.segment.power_off(victim),
            Fault::KillAll => place.kill_all(),
            Fault::Hang => place.stop_all(),
            Fault::Cable => self.cluster.segment.pull_cable(victim),
            Fault::KillDaemon if self.contender.is_ours() => self.cluster.kill_daemon(victim),
            Fault::Stop if self.contender.is_ours() => self.cluster.stop_daemon(victim).map(drop),
            Fault::KillDaemon | Fault::Stop => {
                use nix::sys::signal::{Signal, kill};
                let signal = if fault == Fault::Stop { Signal::SIGTERM } else { Signal::SIGKILL };
                match self.peers.get_mut(victim) {
                    Some(peer) => kill(nix::unistd::Pid::from_raw(peer.id().cast_signed()), signal)
                        .map_err(io::Error::from)
                        .and_then(|()| peer.wait().map(drop)),
                    None => Err(io::Error::from(io::ErrorKind::NotFound)),
                }
            }
        };
        step(fault.name(), done)
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
        }
    }

    /// What everybody logged last.
    pub fn log_tails(&self) -> String {
        NODES.map(|name| format!("-- {name}\n{}", self.cluster.log_tail(name))).join("\n")
    }
}

/// A node's keepalived.conf: three instances of two VIPs, each with its master on another node.
fn keepalived(name: &str, tuned: bool) -> String {
    let own = NODES.iter().position(|node| *node == name).unwrap_or_default();
    let (version, advert) = if tuned { (3, "0.05") } else { (2, "1") };
    let mut text = format!("global_defs {{\n  router_id {name}\n  vrrp_version {version}\n}}\n");
    for (instance, vips) in VIPS.chunks(2).enumerate() {
        // 50 apart: the skew of VRRP keeps two backups from taking over at once.
        let priority = 200 - 50 * ((own + NODES.len() - instance) % NODES.len());
        let state = if own == instance { "MASTER" } else { "BACKUP" };
        let id = 51 + instance;
        text.push_str(&format!(
            "vrrp_instance v{instance} {{\n  state {state}\n  interface eth0\n  virtual_router_id {id}\n  \
             priority {priority}\n  advert_int {advert}\n  virtual_ipaddress {{ {} }}\n}}\n",
            vips.join("/16\n    ") + "/16\n "
        ));
    }
    text
}
