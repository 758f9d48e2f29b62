//! A cluster on a segment: every node with its own file, key, disk and daemon, and one git repository for all.
//!
//! In: node names, manifests. Out: daemons that run, and what a user would ask them: `rendezvip` commands inside a
//! node, nothing else. Not here: what is told of it (`story`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::link::Mac;
use super::namespace::{BINARY, ROOT};
use super::repository::Repository;
use super::segment::{Node, Segment};
use super::{LabError, Step, now};
use crate::status::snapshot::Snapshot;

/// How a cluster is laid out, beyond the names of its nodes.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// Gossip runs on eth1, a network of its own.
    pub gossip_network: bool,
    /// `profile: fast`.
    pub fast: bool,
    /// `heartbeat`, where it is another than the default.
    pub heartbeat: Option<Duration>,
    /// More lines for every node's own file.
    pub agent: String,
    /// Every node reads the operator's clone as a directory; nobody follows git.
    pub directory: bool,
}

/// A cluster, its segment and its repository.
pub struct Cluster {
    /// The segment that it is on.
    pub segment: Segment,
    /// Where its manifests come from.
    pub repository: Repository,
    layout: Layout,
    daemons: BTreeMap<String, Child>,
}

/// What `rendezvip plan --format json` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Plan {
    /// Every VIP.
    pub vips: Vec<Planned>,
}

/// One VIP of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Planned {
    /// The VIP.
    pub vip: IpAddr,
    /// Its pool.
    pub pool: String,
    /// Who shall have it.
    pub owner: Option<String>,
}

impl Cluster {
    /// Lays everything out; no daemon runs yet, and the repository is empty.
    pub fn new(names: &[&str], layout: Layout) -> Result<Self, LabError> {
        // A cluster before this one in the same lab is over, and nobody inherits its disks or its repository.
        for left in ["disks", "vips", "vips.git"].map(|folder| Path::new(ROOT).join(folder)) {
            if left.exists() {
                fs::remove_dir_all(&left).step(|| format!("remove {}", left.display()))?;
            }
        }
        let segment = Segment::new(names, layout.gossip_network)?;
        let repository = Repository::new(Path::new(ROOT))?;
        let cluster = Self { segment, repository, layout, daemons: BTreeMap::new() };
        let key = Command::new(BINARY)
            .arg("keygen")
            .output()
            .and_then(|output| if output.status.success() { Ok(output.stdout) } else { Err(failure(&output)) })
            .step(|| "make a gossip key".to_owned())?;
        for node in cluster.segment.nodes() {
            fs::write(node.disk().join("gossip.key"), &key)
                .and_then(|()| private(&node.disk().join("gossip.key")))
                .and_then(|()| fs::write(cluster.config(node.name()), cluster.agent_file(node)))
                .step(|| format!("write the files of {}", node.name()))?;
        }
        Ok(cluster)
    }

    /// The manifests of cluster and nodes, as a repository's first files.
    pub fn base_manifests(&self) -> Vec<(String, String)> {
        let profile = if self.layout.fast { "fast" } else { "default" };
        let heartbeat = self.layout.heartbeat;
        let heartbeat = heartbeat.map_or_else(String::new, |it| format!(", heartbeat: {}ms", it.as_millis()));
        let cluster = format!(
            "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  \
             failover: {{profile: {profile}{heartbeat}}}\n"
        );
        let node = |node: &Node| {
            let address = if self.layout.gossip_network { node.seat().back() } else { node.seat().v4() };
            format!(
                "apiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: {}}}\nspec: {{address: \"{address}:7847\"}}\n",
                node.name()
            )
        };
        let mut files = vec![("cluster.yaml".to_owned(), cluster)];
        files.extend(self.segment.nodes().iter().map(|one| (format!("nodes/{}.yaml", one.name()), node(one))));
        files
    }

    fn agent_file(&self, node: &Node) -> String {
        let (name, disk) = (node.name(), node.disk());
        let (disk, more) = (disk.display(), &self.layout.agent);
        let source = if self.layout.directory {
            format!("directory: {}", self.repository.clone_dir().display())
        } else {
            format!("git: {{url: {}}}", self.repository.bare().display())
        };
        format!(
            "apiVersion: rendezvip/v1\nkind: Agent\nnode: {name}\nsource: {{{source}}}\n\
             gossip: {{keyFile: {disk}/gossip.key}}\nstateDir: {disk}/state\n\
             allow: {{prefixes: [10.99.0.0/16, \"fd99::/64\"], interfaces: [eth0]}}\n{more}"
        )
    }

    /// A node's own file.
    pub fn config(&self, name: &str) -> PathBuf {
        self.segment.node(name).disk().join("node.yaml")
    }

    /// Where a node's daemon logs to.
    pub fn log(&self, name: &str) -> PathBuf {
        self.segment.node(name).disk().join("log")
    }

    /// The last lines that a node's daemon logged.
    pub fn log_tail(&self, name: &str) -> String {
        /// So much of the end is enough for a dozen lines.
        const TAIL: u64 = 2_048;
        let read = || -> io::Result<String> {
            let mut file = File::open(self.log(name))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("no log: {error}"))
    }

    /// Starts a node's daemon, as its service manager would.
    pub fn start(&mut self, name: &str) -> Result<(), LabError> {
        self.start_with(name, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(&mut self, name: &str, arguments: &[&str]) -> Result<(), LabError> {
        let node = self.segment.node(name);
        let step = || format!("start the daemon of {name}");
        let log = File::options().create(true).append(true).open(self.log(name)).step(step)?;
        let mut command = Command::new(BINARY);
        command.arg("run").arg("--config").arg(self.config(name)).args(arguments).stdin(std::process::Stdio::null());
        command.stdout(log.try_clone().step(step)?).stderr(log);
        let daemon = node.place().spawn(command).step(step)?;
        if let Some(mut old) = self.daemons.insert(name.to_owned(), daemon) {
            // Killed by whoever asked for it; awaited here so that it is gone from the table of processes.
            let _ = old.try_wait();
        }
        Ok(())
    }

    /// The process of a node's daemon, where one was started.
    pub fn process(&self, name: &str) -> Option<u32> {
        self.daemons.get(name).map(Child::id)
    }

    /// `kill -9` of the daemon alone; what it started is not touched.
    pub fn kill_daemon(&mut self, name: &str) -> io::Result<()> {
        let daemon = self.daemons.get_mut(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        daemon.kill()?;
        daemon.wait().map(drop)
    }

    /// SIGTERM, as a service manager stops it; waits for its end.
    pub fn stop_daemon(&mut self, name: &str) -> io::Result<std::process::ExitStatus> {
        let daemon = self.daemons.get_mut(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(daemon.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        )?;
        daemon.wait()
    }

    /// Has a node's daemon ended, and how?
    pub fn ended(&mut self, name: &str) -> Option<std::process::ExitStatus> {
        self.daemons.get_mut(name)?.try_wait().ok().flatten()
    }

    /// Runs `rendezvip` with these arguments and `--config` inside a node.
    pub fn ask(&self, name: &str, arguments: &[&str]) -> io::Result<Output> {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--config").arg(self.config(name));
        self.segment.node(name).place().output(command)
    }

    /// The same, and what it printed, where it ended well.
    pub fn tell(&self, name: &str, arguments: &[&str]) -> io::Result<String> {
        let output = self.ask(name, arguments)?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(failure(&output))
        }
    }

    /// `rendezvip status --format json` inside a node.
    pub fn status(&self, name: &str) -> io::Result<Snapshot> {
        serde_json::from_str(&self.tell(name, &["status", "--format", "json"])?).map_err(io::Error::other)
    }

    /// `rendezvip plan --format json` over the operator's clone.
    pub fn plan(&self) -> io::Result<Plan> {
        let output =
            Command::new(BINARY).arg("plan").arg(self.repository.clone_dir()).args(["--format", "json"]).output()?;
        if !output.status.success() {
            return Err(failure(&output));
        }
        serde_json::from_slice(&output.stdout).map_err(io::Error::other)
    }

    /// The hardware address that the plan wants for each VIP.
    pub fn wanted(&self) -> io::Result<BTreeMap<IpAddr, Mac>> {
        let mac = |owner: &str| self.segment.node(owner).seat().mac();
        Ok(self.plan()?.vips.iter().filter_map(|one| Some((one.vip, mac(one.owner.as_deref()?)))).collect())
    }

    /// VIPs, of these, that a node's kernel has on eth0.
    pub fn on_interface(&self, name: &str, vips: &BTreeSet<IpAddr>) -> io::Result<BTreeSet<IpAddr>> {
        let vips = vips.clone();
        self.segment.node(name).place().run(move || {
            let addresses = nix::ifaddrs::getifaddrs()?.filter(|one| one.interface_name == "eth0");
            let found = addresses.filter_map(|one| {
                let address = one.address?;
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
                v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
            });
            Ok(found.filter(|address| vips.contains(address)).collect())
        })
    }

    /// Asks a node for its status until it is `right`; the last answer, or None when `limit` is over first.
    pub fn wait_status(&self, name: &str, limit: Duration, right: impl Fn(&Snapshot) -> bool) -> Option<Snapshot> {
        /// A question costs a process; the daemon has no way to tell us.
        const PAUSE: Duration = Duration::from_millis(200);
        let start = now();
        loop {
            if let Some(status) = self.status(name).ok().filter(&right) {
                return Some(status);
            }
            if now().since(start) > limit {
                return None;
            }
            thread::sleep(PAUSE);
        }
    }
}

fn private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

fn failure(output: &Output) -> io::Error {
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).trim().to_owned()).join("\n");
    io::Error::other(format!("{}: {}", output.status, said.trim()))
}
