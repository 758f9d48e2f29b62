//! The node's own file (`kind: Agent`): what this host follows, listens on, allows and checks.
//!
//! In: the file's text. Out: [`AgentFile`], every default filled in and every value checked, or all problems.
//! Not here: reading the file, or anything from git (a repository that holds this kind is refused).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::diagnostic::{Code, Diagnostic, Span, quoted};
use super::fields::{Fields, Reader, is_null};
use super::kinds::DEFAULT_PORT;
use super::tree::{self, Node, Value};
use crate::name::{CheckName, InterfaceName, NameError, NodeName};

/// Where the file is unless somebody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/rendezvip/node.yaml";

/// A node's own file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFile {
    /// `node`: which declared node this host is; `None` is the host's name in lower case.
    pub node: Option<NodeName>,
    /// `source`: where the repository is.
    pub source: Source,
    /// `status`: where the status goes; `None` where a directory source names no place for it.
    pub status: Option<StatusTarget>,
    /// `gossip`: the datagrams between nodes.
    pub gossip: Gossip,
    /// `http`: page, metrics and JSON.
    pub http: SocketAddr,
    /// `control`: the control socket, made absolute by `stateDir`.
    pub control: PathBuf,
    /// `stateDir`: what outlives a restart.
    pub state_dir: PathBuf,
    /// `allow`: what a repository may claim here at most.
    pub allow: Allow,
    /// `checks`: what pools name under `health`.
    pub checks: BTreeMap<CheckName, Check>,
    /// `hooks`: programs that are told of moves.
    pub hooks: Hooks,
    /// `announce`: rates per interface.
    pub announce: Announce,
}

impl AgentFile {
    /// Which declared node this host is: `node`, or the host's name in lower case.
    pub fn node_name(&self, host_name: &str) -> Result<NodeName, NameError> {
        self.node.clone().map_or_else(|| NodeName::new(&host_name.to_lowercase()), Ok)
    }
}

/// `source`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum Source {
    /// A repository that is fetched.
    Git(GitSource),
    /// A directory that somebody else keeps up to date.
    Directory(PathBuf),
}

/// `source.git`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitSource {
    /// ssh, https, file or a path.
    pub url: String,
    /// The branch to follow; default `main`.
    pub branch: String,
    /// A tag to follow, instead of the branch.
    pub tag: Option<String>,
    /// The commit of the branch to stay at.
    pub commit: Option<String>,
    /// Folder of the manifests in the repository, without a leading or trailing `/`; empty is all of it.
    pub path: String,
    /// How often to look; default 15 s.
    pub poll: Duration,
    /// Key for ssh.
    pub ssh_key_file: PathBuf,
    /// Host keys for ssh.
    pub known_hosts_file: PathBuf,
    /// For https: `user:password` or a token, on the first line.
    pub credentials_file: Option<PathBuf>,
    /// For https: certificate authorities, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// For https: the proxy; `None` is what the environment says.
    pub proxy: Option<String>,
    /// Which commits count.
    pub verify: Verify,
    /// Where a forge says that something was pushed; nowhere by default.
    pub webhook: Option<Webhook>,
}

/// `source.git.webhook`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where forges post to.
    pub bind: SocketAddr,
    /// The secret that the forge signs with, on the first line.
    pub secret_file: PathBuf,
}

/// `source.git.verify`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verify {
    /// How much is verified.
    pub mode: VerifyMode,
    /// ssh: an allowed signers file (ssh-keygen(1)).
    pub allowed_signers_file: Option<PathBuf>,
    /// OpenPGP: a keyring.
    pub keyring_file: Option<PathBuf>,
}

/// `source.git.verify.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyMode {
    /// Nothing.
    #[default]
    None,
    /// The commit that is to run.
    Head,
    /// Every commit since the one that runs.
    Strict,
}

/// `status.git.author`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// A name.
    pub name: String,
    /// An address.
    pub email: String,
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a process has one")]
pub enum StatusTarget {
    /// A branch.
    Git {
        /// Where to push; the source's URL by default.
        url: String,
        /// The branch; default `rendezvip/status`.
        branch: String,
        /// Key for ssh; the source's by default.
        ssh_key_file: PathBuf,
        /// Host keys for ssh; the source's by default.
        known_hosts_file: PathBuf,
        /// For https; the source's by default.
        credentials_file: Option<PathBuf>,
        /// For https; the source's by default.
        ca_file: Option<PathBuf>,
        /// For https; the source's by default.
        proxy: Option<String>,
        /// Whose name commits bear; the node's by default.
        author: Option<Author>,
        /// An ssh key that signs commits; they are not signed by default.
        signing_key_file: Option<PathBuf>,
    },
    /// A directory.
    Directory(PathBuf),
}

/// `gossip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gossip {
    /// Where datagrams arrive; default 0.0.0.0:7847.
    pub bind: SocketAddr,
    /// The cluster's key; default `/etc/rendezvip/gossip.key`.
    pub key_file: PathBuf,
}

/// `allow`; `None` allows all, an empty list nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// VIPs have to lie in one of these.
    pub prefixes: Option<Vec<IpNet>>,
    /// VIPs may stand on these interfaces alone.
    pub interfaces: Option<Vec<InterfaceName>>,
}

/// An entry of `checks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is looked at.
    pub probe: Probe,
    /// From one start to the next; default 1 s.
    pub interval: Duration,
    /// How long an answer may take; default 500 ms.
    pub timeout: Duration,
    /// So many failures in a row make it fail; default 2.
    pub fall: u32,
    /// So many successes in a row make it pass; default 3.
    pub rise: u32,
}

/// What a check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Passes when a connection is accepted.
    Tcp(SocketAddr),
    /// Passes when a GET is answered by 200 to 399.
    Http {
        /// Where to connect.
        address: SocketAddr,
        /// `Host` header: the authority as written.
        host: String,
        /// Path and query, from `/` on.
        path: String,
    },
    /// Passes when the program exits 0; no shell, the first entry is an absolute path.
    Exec(Vec<String>),
    /// Passes while the file is there.
    File(PathBuf),
    /// Passes while a process of this name (`/proc/PID/comm`) runs.
    Process(String),
}

/// `hooks`: absolute paths of programs, run with the VIPs as arguments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// After VIPs came here.
    pub acquired: Vec<PathBuf>,
    /// After VIPs went away.
    pub released: Vec<PathBuf>,
}

/// `announce`: frames a second per interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    /// First announcements; default 10,000.
    pub rate: u32,
    /// Everything after; default 15.
    pub refresh: u32,
}

impl Default for Announce {
    fn default() -> Self {
        Self { rate: 10_000, refresh: 15 }
    }
}

/// Reads a node's own file. `path` is what the diagnostics call it.
pub fn parse_agent(text: &[u8], path: &str) -> Result<AgentFile, Vec<Diagnostic>> {
    let file: Arc<str> = path.into();
    let mut out = Vec::new();
    let parsed = tree::text(&file, text).map_err(|diagnostic| vec![diagnostic])?;
    let tree = tree::read(&file, parsed);
    let not_one = |message: &str| {
        Diagnostic::new(Code::NotAnAgentFile, &file, Span::FIRST, message)
            .help("it is one document that begins with `apiVersion: rendezvip/v1` and `kind: Agent`")
    };
    let mut documents = tree.documents.into_iter().filter(|document| !is_null(&document.root));
    let agent = match (tree.broken, documents.next(), documents.next()) {
        (Some(broken), ..) => return Err(vec![broken]),
        (_, Some(document), None) => {
            out.extend(document.remarks);
            read(&mut Reader { file: &file, out: &mut out }, &document.root)
        }
        (_, None, _) => return Err(vec![not_one("the file is empty")]),
        (_, _, Some(second)) => {
            let mut diagnostic = not_one("the file has more than one document");
            diagnostic.place.span = second.root.span;
            return Err(vec![diagnostic]);
        }
    };
    match agent {
        Some(agent) if out.is_empty() => Ok(agent),
        _ => {
            out.sort_by(|a, b| a.place.cmp(&b.place));
            Err(out)
        }
    }
}

fn read(r: &mut Reader<'_>, root: &Node) -> Option<AgentFile> {
    let known = [
        "apiVersion",
        "kind",
        "node",
        "source",
        "status",
        "gossip",
        "http",
        "control",
        "stateDir",
        "allow",
        "checks",
        "hooks",
        "announce",
    ];
    // Of another kind every key would be unknown, which helps nobody.
    for (key, right) in [("apiVersion", "rendezvip/v1"), ("kind", "Agent")] {
        let Value::Mapping(entries) = &root.value else { break };
        let value = entries.iter().find(|(k, _)| k.text == key).map(|(_, value)| value);
        if let Some((node, Value::Scalar { text, .. })) = value.map(|node| (node, &node.value))
            && text != right
        {
            let message = format!("{key} is {}, not `{right}`", quoted(text));
            let help = "a node's own file has `kind: Agent`; other kinds belong into the repository";
            r.error(Code::NotAnAgentFile, node.span, message, help);
            return None;
        }
    }
    let fields = r.mapping(root, "an Agent", &known)?;
    for key in ["apiVersion", "kind"] {
        r.require(&fields, key, "an Agent").and_then(|node| r.text(node, key));
    }
    let node = fields.get("node").filter(|node| !is_null(node)).map(|node| r.name::<NodeName>(node, "node"));
    let source = r.require(&fields, "source", "an Agent").and_then(|node| source(r, node));
    let status = status(r, fields.get("status"), source.as_ref());
    let gossip = gossip(r, fields.get("gossip"));
    let http = match fields.get("http") {
        Some(node) => listen(r, node, "http", None),
        None => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9747))),
    };
    let state_dir = path_or(r, &fields, "stateDir", "/var/lib/rendezvip");
    let control = match fields.get("control") {
        Some(node) => relative_path(r, node, "control"),
        None => Some("control.sock".into()),
    };
    let allow = allow(r, fields.get("allow"));
    let checks = checks(r, fields.get("checks"));
    let hooks = hooks(r, fields.get("hooks"));
    let announce = announce(r, fields.get("announce"));
    let state_dir = state_dir?;
    Some(AgentFile {
        node: match node {
            Some(name) => Some(name?),
            None => None,
        },
        source: source?,
        status: status?,
        gossip: gossip?,
        http: http?,
        control: state_dir.join(control?),
        state_dir,
        allow: allow?,
        checks: checks?,
        hooks: hooks?,
        announce: announce?,
    })
}

fn absolute_path(r: &mut Reader<'_>, node: &Node, what: &str) -> Option<PathBuf> {
    let text = r.text(node, what)?;
    if text.starts_with('/') {
        return Some(PathBuf::from(text));
    }
    let message = format!("{what} is {}, not an absolute path", quoted(text));
    r.error(Code::BadPath, node.span, message, "begin it with `/`: the daemon has no folder of its own");
    None
}

fn relative_path(r: &mut Reader<'_>, node: &Node, what: &str) -> Option<PathBuf> {
    let text = r.text(node, what)?;
    if !text.is_empty() && text.split('/').all(|part| part != "..") {
        return Some(PathBuf::from(text));
    }
    r.error(
        Code::BadPath,
        node.span,
        format!("{what} cannot be {}", quoted(text)),
        "write a path without `..`; it is relative to stateDir",
    );
    None
}

fn path_or(r: &mut Reader<'_>, fields: &Fields<'_>, key: &str, default: &str) -> Option<PathBuf> {
    match fields.get(key) {
        Some(node) => absolute_path(r, node, key),
        None => Some(PathBuf::from(default)),
    }
}

fn optional_path(r: &mut Reader<'_>, fields: &Fields<'_>, key: &str) -> Option<Option<PathBuf>> {
    match fields.get(key).filter(|node| !is_null(node)) {
        Some(node) => absolute_path(r, node, key).map(Some),
        None => Some(None),
    }
}

fn listen(r: &mut Reader<'_>, node: &Node, what: &str, default_port: Option<u16>) -> Option<SocketAddr> {
    let text = r.text(node, what)?;
    let help = "write IP:port, an IPv6 address in brackets and quotes, such as 127.0.0.1:9747 or \"[::1]:9747\"";
    let address = text.parse::<SocketAddr>().ok().or_else(|| {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        default_port.and_then(|port| bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port)))
    });
    match address {
        Some(address) if address.port() != 0 => Some(address),
        _ => {
            r.error(Code::BadListen, node.span, format!("{what} is {}, not an address and a port", quoted(text)), help);
            None
        }
    }
}

fn branch(r: &mut Reader<'_>, fields: &Fields<'_>, default: &str) -> Option<String> {
    match fields.get("branch") {
        Some(node) => reference(r, node, "branch", "refs/heads/"),
        None => Some(default.to_owned()),
    }
}

fn reference(r: &mut Reader<'_>, node: &Node, what: &str, folder: &str) -> Option<String> {
    let text = r.text(node, what)?;
    // git-check-ref-format(1)
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
    let bad_char = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let name = text.strip_prefix(folder).unwrap_or(text);
    let bad = name.split('/').any(bad_part)
        || name.contains(bad_char)
        || name.contains("..")
        || name.contains("@{")
        || name.ends_with('.')
        || name.starts_with('-')
        || name == "@";
    if bad {
        r.error(
            Code::BadBranch,
            node.span,
            format!("{what} cannot be {}", quoted(text)),
            "git-check-ref-format(1) has the rules",
        );
        return None;
    }
    Some(name.to_owned())
}

fn url(r: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = r.text(node, "url")?;
    let scheme = text.split_once("://").map(|(scheme, rest)| (scheme, !rest.trim_matches('/').is_empty()));
    let fine = match scheme {
        Some(("ssh" | "https" | "file", rest)) => rest,
        Some(_) => false,
        // A path, or scp's way: user@host:path.
        None => {
            text.starts_with('/')
                || text
                    .split_once(':')
                    .is_some_and(|(host, path)| !host.is_empty() && !path.is_empty() && !host.contains('/'))
        }
    };
    if fine && !text.contains(char::is_whitespace) {
        return Some(text.to_owned());
    }
    let help = match scheme {
        Some(("http" | "git", _)) => "this travels unprotected: use ssh or https",
        None => "write ssh://…, https://…, file://… or an absolute path",
        _ => "write ssh://user@host/path, https://host/path, file:///path or an absolute path",
    };
    r.error(Code::BadUrl, node.span, format!("url cannot be {}", quoted(&without_credentials(text))), help);
    None
}

/// A proxy that needs a password is named by the environment, which not everybody may read as this file.
fn proxy(r: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Option<String>> {
    let Some(node) = fields.get("proxy").filter(|node| !is_null(node)) else { return Some(None) };
    let text = r.text(node, "proxy")?;
    let place = text.strip_prefix("http://").or(text.strip_prefix("https://"));
    let place = place.map(|place| place.strip_suffix('/').unwrap_or(place));
    if place.is_some_and(|place| {
        !place.is_empty() && !place.contains(['/', '@', '?', '#']) && !place.contains(char::is_whitespace)
    }) {
        return Some(Some(text.to_owned()));
    }
    let message = format!("proxy cannot be {}", quoted(&without_credentials(text)));
    let help = "write http://host:port; user and password only in the environment, as `https_proxy`";
    r.error(Code::BadUrl, node.span, message, help);
    None
}

fn source(r: &mut Reader<'_>, node: &Node) -> Option<Source> {
    let fields = r.mapping(node, "source", &["git", "directory"])?;
    match (fields.get("git"), fields.get("directory")) {
        (Some(git), None) => git_source(r, git).map(Source::Git),
        (None, Some(directory)) => absolute_path(r, directory, "directory").map(Source::Directory),
        (both, _) => {
            let message = if both.is_some() {
                "source has both `git` and `directory`"
            } else {
                "source has neither `git` nor `directory`"
            };
            r.error(Code::BadSource, node.span, message, "give it exactly one of them");
            None
        }
    }
}

fn git_source(r: &mut Reader<'_>, node: &Node) -> Option<GitSource> {
    let known = [
        "url",
        "branch",
        "tag",
        "commit",
        "path",
        "poll",
        "sshKeyFile",
        "knownHostsFile",
        "credentialsFile",
        "caFile",
        "proxy",
        "verify",
        "webhook",
    ];
    let fields = r.mapping(node, "source.git", &known)?;
    let url = r.require(&fields, "url", "source.git").and_then(|node| url(r, node));
    let (tag, commit) = (tag(r, &fields), commit(r, &fields));
    let branch = branch(r, &fields, "main");
    let webhook = match fields.get("webhook") {
        Some(node) => webhook(r, node).map(Some),
        None => Some(None),
    };
    let path = match fields.get("path") {
        Some(node) => repository_path(r, node),
        None => Some(String::new()),
    };
    let poll = match fields.get("poll") {
        Some(node) => r.duration_within(node, "poll", Duration::from_secs(1), Duration::from_secs(24 * 3600)),
        None => Some(Duration::from_secs(15)),
    };
    let ssh_key_file = path_or(r, &fields, "sshKeyFile", "/etc/rendezvip/id_ed25519");
    let known_hosts_file = path_or(r, &fields, "knownHostsFile", "/etc/rendezvip/known_hosts");
    let credentials_file = optional_path(r, &fields, "credentialsFile");
    let ca_file = optional_path(r, &fields, "caFile");
    let proxy = proxy(r, &fields);
    let verify = match fields.get("verify") {
        Some(node) => verify(r, node),
        None => Some(Verify::default()),
    };
    Some(GitSource {
        url: url?,
        branch: branch?,
        tag: tag?,
        commit: commit?,
        path: path?,
        poll: poll?,
        ssh_key_file: ssh_key_file?,
        known_hosts_file: known_hosts_file?,
        credentials_file: credentials_file?,
        ca_file: ca_file?,
        proxy: proxy?,
        verify: verify?,
        webhook: webhook?,
    })
}

/// A tag is named as a branch is, and takes its place.
fn tag(r: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Option<String>> {
    let Some(node) = fields.get("tag") else { return Some(None) };
    if let Some(other) = fields.get("branch").or(fields.get("commit")) {
        let message = "source.git follows a `tag` and something else";
        r.error(
            Code::BadSource,
            node.span.max(other.span),
            message,
            "give it `tag` alone, or `branch` and perhaps `commit`",
        );
        return None;
    }
    reference(r, node, "tag", "refs/tags/").map(Some)
}

fn commit(r: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Option<String>> {
    let Some(node) = fields.get("commit") else { return Some(None) };
    let text = r.text(node, "commit")?;
    if text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return Some(Some(text.to_owned()));
    }
    let message = format!("commit cannot be {}", quoted(text));
    r.error(Code::BadBranch, node.span, message, "write the 40 digits of its hash, as `git rev-parse` prints them");
    None
}

fn webhook(r: &mut Reader<'_>, node: &Node) -> Option<Webhook> {
    let fields = r.mapping(node, "webhook", &["bind", "secretFile"])?;
    let bind = r.require(&fields, "bind", "webhook").and_then(|node| listen(r, node, "bind", None));
    let secret_file = r.require(&fields, "secretFile", "webhook").and_then(|node| absolute_path(r, node, "secretFile"));
    Some(Webhook { bind: bind?, secret_file: secret_file? })
}

fn author(r: &mut Reader<'_>, node: &Node) -> Option<Author> {
    let fields = r.mapping(node, "author", &["name", "email"])?;
    let mut part = |key: &str| {
        let node = r.require(&fields, key, "author")?;
        let text = r.text(node, key)?;
        // What git takes away from a signature (ident.c), and then nothing may be left.
        if text.trim().is_empty() || text.contains(['<', '>', '\n']) {
            let message = format!("{key} cannot be {}", quoted(text));
            r.error(Code::BadSource, node.span, message, "write it as `git config user.name` and `user.email` have it");
            return None;
        }
        Some(text.to_owned())
    };
    let (name, email) = (part("name"), part("email"));
    Some(Author { name: name?, email: email? })
}

fn repository_path(r: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = r.text(node, "path")?;
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if text.starts_with('/') || parts.contains(&"..") {
        r.error(
            Code::BadPath,
            node.span,
            format!("path cannot be {}", quoted(text)),
            "write a path inside the repository, without `..`",
        );
        return None;
    }
    Some(parts.join("/"))
}

fn verify(r: &mut Reader<'_>, node: &Node) -> Option<Verify> {
    let fields = r.mapping(node, "verify", &["mode", "allowedSignersFile", "keyringFile"])?;
    let words = [("none", VerifyMode::None), ("head", VerifyMode::Head), ("strict", VerifyMode::Strict)];
    let mode = match fields.get("mode") {
        Some(node) => r.word(node, "mode", &words),
        None => Some(VerifyMode::None),
    };
    let allowed_signers_file = optional_path(r, &fields, "allowedSignersFile");
    let keyring_file = optional_path(r, &fields, "keyringFile");
    let verify = Verify { mode: mode?, allowed_signers_file: allowed_signers_file?, keyring_file: keyring_file? };
    if verify.mode != VerifyMode::None && verify.allowed_signers_file.is_none() && verify.keyring_file.is_none() {
        let message = "verify asks for signatures and names no keys";
        r.error(
            Code::VerifyIncomplete,
            node.span,
            message,
            "give it `allowedSignersFile` (ssh) or `keyringFile` (OpenPGP)",
        );
        return None;
    }
    Some(verify)
}

fn status(r: &mut Reader<'_>, node: Option<&Node>, source: Option<&Source>) -> Option<Option<StatusTarget>> {
    let from_source = match source {
        Some(Source::Git(git)) => Some(git),
        _ => None,
    };
    let default_branch = "rendezvip/status";
    let Some(node) = node else {
        return Some(from_source.map(|git| StatusTarget::Git {
            url: git.url.clone(),
            branch: default_branch.into(),
            ssh_key_file: git.ssh_key_file.clone(),
            known_hosts_file: git.known_hosts_file.clone(),
            credentials_file: git.credentials_file.clone(),
            ca_file: git.ca_file.clone(),
            proxy: git.proxy.clone(),
            author: None,
            signing_key_file: None,
        }));
    };
    let fields = r.mapping(node, "status", &["git", "directory"])?;
    let git = match (fields.get("git"), fields.get("directory")) {
        (Some(git), None) => git,
        (None, Some(directory)) => {
            return absolute_path(r, directory, "directory").map(|path| Some(StatusTarget::Directory(path)));
        }
        (both, _) => {
            let message = if both.is_some() {
                "status has both `git` and `directory`"
            } else {
                "status has neither `git` nor `directory`"
            };
            r.error(Code::BadSource, node.span, message, "give it exactly one of them");
            return None;
        }
    };
    let known = [
        "url",
        "branch",
        "sshKeyFile",
        "knownHostsFile",
        "credentialsFile",
        "caFile",
        "proxy",
        "author",
        "signingKeyFile",
    ];
    let fields = r.mapping(git, "status.git", &known)?;
    let author = match fields.get("author") {
        Some(node) => author(r, node).map(Some),
        None => Some(None),
    };
    let signing_key_file = optional_path(r, &fields, "signingKeyFile");
    let branch = branch(r, &fields, default_branch);
    let url = match (fields.get("url"), from_source) {
        (Some(node), _) => url(r, node),
        (None, Some(git)) => Some(git.url.clone()),
        // Its source is wrong already, and was reported.
        (None, None) if source.is_none() => None,
        (None, None) => {
            r.error(
                Code::BadSource,
                git.span,
                "status.git has no `url`, and the source has none to lend",
                "give it a `url`",
            );
            None
        }
    };
    let mut credential = |key: &str, of_source: Option<&PathBuf>, default: &str| match (fields.get(key), of_source) {
        (None, Some(path)) => Some(path.clone()),
        _ => path_or(r, &fields, key, default),
    };
    let ssh_key_file = credential("sshKeyFile", from_source.map(|git| &git.ssh_key_file), "/etc/rendezvip/id_ed25519");
    let known_hosts_file =
        credential("knownHostsFile", from_source.map(|git| &git.known_hosts_file), "/etc/rendezvip/known_hosts");
    let mut lent = |key: &str, lent: Option<&PathBuf>| match fields.get(key) {
        Some(_) => optional_path(r, &fields, key),
        None => Some(lent.cloned()),
    };
    let credentials_file = lent("credentialsFile", from_source.and_then(|git| git.credentials_file.as_ref()));
    let ca_file = lent("caFile", from_source.and_then(|git| git.ca_file.as_ref()));
    let proxy = match fields.get("proxy") {
        Some(_) => proxy(r, &fields),
        None => Some(from_source.and_then(|git| git.proxy.clone())),
    };
    let target = StatusTarget::Git {
        url: url?,
        branch: branch?,
        ssh_key_file: ssh_key_file?,
        known_hosts_file: known_hosts_file?,
        credentials_file: credentials_file?,
        ca_file: ca_file?,
        proxy: proxy?,
        author: author?,
        signing_key_file: signing_key_file?,
    };
    if let (Some(source), StatusTarget::Git { url, branch, .. }) = (from_source, &target)
        && source.url == *url
        && source.branch == *branch
    {
        let message = format!("status would go to the source's own branch {}", quoted(branch));
        r.error(Code::BadSource, git.span, message, "give it a branch of its own, such as `rendezvip/status`");
        return None;
    }
    Some(Some(target))
}

fn gossip(r: &mut Reader<'_>, node: Option<&Node>) -> Option<Gossip> {
    let default_key = "/etc/rendezvip/gossip.key";
    let default_bind = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT));
    let Some(node) = node else { return Some(Gossip { bind: default_bind, key_file: default_key.into() }) };
    let fields = r.mapping(node, "gossip", &["bind", "keyFile"])?;
    let bind = match fields.get("bind") {
        Some(node) => listen(r, node, "bind", Some(DEFAULT_PORT)),
        None => Some(default_bind),
    };
    let key_file = path_or(r, &fields, "keyFile", default_key);
    Some(Gossip { bind: bind?, key_file: key_file? })
}

fn allow(r: &mut Reader<'_>, node: Option<&Node>) -> Option<Allow> {
    let Some(node) = node else { return Some(Allow::default()) };
    let fields = r.mapping(node, "allow", &["prefixes", "interfaces"])?;
    let prefixes = fields.get("prefixes").map(|node| {
        let items = r.list(node, "prefixes")?;
        let mut prefixes = Vec::with_capacity(items.len());
        for item in items {
            prefixes.extend(prefix(r, item));
        }
        (prefixes.len() == items.len()).then_some(prefixes)
    });
    let interfaces = fields.get("interfaces").map(|node| {
        r.names::<InterfaceName>(node, "interfaces", "an interface").into_iter().map(|(name, _)| name).collect()
    });
    Some(Allow {
        prefixes: match prefixes {
            Some(prefixes) => Some(prefixes?),
            None => None,
        },
        interfaces,
    })
}

fn prefix(r: &mut Reader<'_>, node: &Node) -> Option<IpNet> {
    let text = r.text(node, "a prefix")?;
    let Ok(net) = text.parse::<IpNet>() else {
        let help = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => format!("write `{text}/32`"),
            Ok(IpAddr::V6(_)) => format!("write \"{text}/128\""),
            Err(_) => "write address/length, such as 10.99.0.0/16 or fd99::/64".to_owned(),
        };
        r.error(Code::BadPrefix, node.span, format!("a prefix cannot be {}", quoted(text)), help);
        return None;
    };
    if net.trunc() != net {
        r.error(
            Code::BadPrefix,
            node.span,
            format!("prefix {} has host bits", quoted(text)),
            format!("write `{}`", net.trunc()),
        );
        return None;
    }
    Some(net)
}

fn checks(r: &mut Reader<'_>, node: Option<&Node>) -> Option<BTreeMap<CheckName, Check>> {
    let Some(node) = node else { return Some(BTreeMap::new()) };
    let fields = r.open_mapping(node, "checks", "a name for each check")?;
    let mut checks = BTreeMap::new();
    for (key, value) in fields.entries() {
        let check = check(r, value);
        match CheckName::new(&key.text) {
            Ok(name) => checks.extend(check.map(|check| (name, check))),
            Err(why) => {
                let message = format!("a check cannot be named {}", quoted(&key.text));
                r.error(Code::BadName, key.span, message, why.to_string());
            }
        }
    }
    Some(checks)
}

/// A URL without whatever stands before the host's `@`, for logs, status and messages: a token may be there.
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        // The user of ssh is no secret, a password behind it would be.
        Some(at) if scheme == "ssh" && !rest[..at].contains(':') => url.to_owned(),
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

const PROBES: [&str; 5] = ["tcp", "http", "exec", "file", "process"];

fn check(r: &mut Reader<'_>, node: &Node) -> Option<Check> {
    let known = ["tcp", "http", "exec", "file", "process", "interval", "timeout", "fall", "rise"];
    let fields = r.mapping(node, "a check", &known)?;
    let given: Vec<(&str, &Node)> = PROBES.iter().filter_map(|key| fields.get(key).map(|node| (*key, node))).collect();
    let probe = match given.as_slice() {
        [(key, node)] => probe(r, key, node),
        _ => {
            let message =
                if given.is_empty() { "a check looks at nothing" } else { "a check looks at more than one thing" };
            r.error(
                Code::BadCheck,
                node.span,
                message,
                "give it exactly one of `tcp`, `http`, `exec`, `file` and `process`",
            );
            None
        }
    };
    let mut time = |key: &str, low: u64, high: u64, default: u64| match fields.get(key) {
        Some(node) => r.duration_within(node, key, Duration::from_millis(low), Duration::from_millis(high)),
        None => Some(Duration::from_millis(default)),
    };
    let interval = time("interval", 50, 3_600_000, 1_000);
    let timeout = time("timeout", 10, 600_000, 500);
    let mut count = |key: &str, default: u32| match fields.get(key) {
        Some(node) => r.integer(node, key, 1..=1_000),
        None => Some(default),
    };
    let (fall, rise) = (count("fall", 2), count("rise", 3));
    Some(Check { probe: probe?, interval: interval?, timeout: timeout?, fall: fall?, rise: rise? })
}

fn probe(r: &mut Reader<'_>, key: &str, node: &Node) -> Option<Probe> {
    match key {
        "tcp" => {
            let text = r.text(node, "tcp")?;
            let address = socket_address(text, None);
            if address.is_none() {
                let message = format!("tcp cannot be {}", quoted(text));
                r.error(Code::BadCheck, node.span, message, "write IP:port or localhost:port; names are not looked up");
            }
            address.map(Probe::Tcp)
        }
        "http" => http_probe(r, node),
        "exec" => {
            let items = r.list(node, "exec")?;
            let words: Vec<String> =
                items.iter().filter_map(|item| r.text(item, "an argument").map(str::to_owned)).collect();
            if words.len() != items.len() {
                return None;
            }
            if !words.first().is_some_and(|program| program.starts_with('/')) {
                r.error(
                    Code::BadCheck,
                    node.span,
                    "exec does not begin with an absolute path",
                    "write `[/path/of/program, argument]`; there is no shell",
                );
                return None;
            }
            Some(Probe::Exec(words))
        }
        "file" => absolute_path(r, node, "file").map(Probe::File),
        _ => {
            let text = r.text(node, "process")?;
            if text.is_empty() || text.contains('/') || text.len() > 15 {
                let help = "write the name as in /proc/PID/comm: at most 15 bytes, no path";
                r.error(Code::BadCheck, node.span, format!("process cannot be {}", quoted(text)), help);
                return None;
            }
            Some(Probe::Process(text.to_owned()))
        }
    }
}

/// An address and a port, `localhost` for 127.0.0.1; nothing is looked up.
fn socket_address(authority: &str, default_port: Option<u16>) -> Option<SocketAddr> {
    let authority = match authority.strip_prefix("localhost") {
        Some(rest) if rest.is_empty() || rest.starts_with(':') => format!("127.0.0.1{rest}"),
        _ => authority.to_owned(),
    };
    let bare = authority.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&authority);
    let address =
        authority.parse::<SocketAddr>().ok().or_else(|| Some(SocketAddr::new(bare.parse().ok()?, default_port?)))?;
    (address.port() != 0).then_some(address)
}

fn http_probe(r: &mut Reader<'_>, node: &Node) -> Option<Probe> {
    let text = r.text(node, "http")?;
    let help = if text.starts_with("https:") {
        "TLS is not spoken by checks: use `tcp`, or `exec` with a client of yours"
    } else {
        "write http://IP:port/path; names other than localhost are not looked up"
    };
    let probe = text.strip_prefix("http://").and_then(|rest| {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let printable = path.bytes().all(|b| b.is_ascii_graphic()) && !path.contains('#');
        let address = socket_address(authority, Some(80)).filter(|_| printable)?;
        Some(Probe::Http { address, host: authority.to_owned(), path })
    });
    if probe.is_none() {
        r.error(Code::BadCheck, node.span, format!("http cannot be {}", quoted(text)), help);
    }
    probe
}

fn hooks(r: &mut Reader<'_>, node: Option<&Node>) -> Option<Hooks> {
    let Some(node) = node else { return Some(Hooks::default()) };
    let fields = r.mapping(node, "hooks", &["acquired", "released"])?;
    let mut programs = |key: &str| match fields.get(key) {
        Some(node) => {
            let items = r.list(node, key)?;
            let paths: Vec<PathBuf> = items.iter().filter_map(|item| absolute_path(r, item, "a hook")).collect();
            (paths.len() == items.len()).then_some(paths)
        }
        None => Some(Vec::new()),
    };
    let (acquired, released) = (programs("acquired"), programs("released"));
    Some(Hooks { acquired: acquired?, released: released? })
}

fn announce(r: &mut Reader<'_>, node: Option<&Node>) -> Option<Announce> {
    let Some(node) = node else { return Some(Announce::default()) };
    let fields = r.mapping(node, "announce", &["rate", "refresh"])?;
    let mut rate = |key: &str, default: u32| {
        let Some(node) = fields.get(key) else { return Some(default) };
        let help = "write an integer from 1 to 1000000 and /s, such as `15/s`";
        let text = match r.text(node, key) {
            Some(text) => text,
            None => return None,
        };
        let rate = text.strip_suffix("/s").filter(|n| n.bytes().all(|b| b.is_ascii_digit()) && !n.starts_with('0'));
        match rate.and_then(|number| number.parse::<u32>().ok()).filter(|rate| *rate <= 1_000_000) {
            Some(rate) => Some(rate),
            None => {
                r.error(Code::BadRate, node.span, format!("{key} {} is not a rate", quoted(text)), help);
                None
            }
        }
    };
    let (first, refresh) = (rate("rate", 10_000), rate("refresh", 15));
    Some(Announce { rate: first?, refresh: refresh? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: rendezvip/v1\nkind: Agent\n";

    fn good(body: &str) -> AgentFile {
        parse_agent(format!("{HEAD}{body}").as_bytes(), "node.yaml").unwrap()
    }

    fn bad(body: &str) -> Vec<String> {
        let problems = parse_agent(format!("{HEAD}{body}").as_bytes(), "node.yaml").unwrap_err();
        problems
            .iter()
            .map(|problem| {
                format!("{}:{} {}", problem.place.span.start.line, problem.place.span.start.column, problem.code)
            })
            .collect()
    }

    #[test]
    fn a_file_that_names_only_its_source_gets_every_default() {
        let file = good("source: {git: {url: /srv/vips.git}}\n");
        let Source::Git(git) = &file.source else { panic!("git") };
        assert_eq!((git.branch.as_str(), git.path.as_str(), git.poll), ("main", "", Duration::from_secs(15)));
        assert_eq!(git.verify, Verify::default());
        assert_eq!(
            file.status,
            Some(StatusTarget::Git {
                url: "/srv/vips.git".into(),
                branch: "rendezvip/status".into(),
                ssh_key_file: "/etc/rendezvip/id_ed25519".into(),
                known_hosts_file: "/etc/rendezvip/known_hosts".into(),
                credentials_file: None,
                ca_file: None,
                proxy: None,
                author: None,
                signing_key_file: None,
            })
        );
        assert_eq!(file.gossip.bind.to_string(), "0.0.0.0:7847");
        assert_eq!(file.http.to_string(), "127.0.0.1:9747");
        assert_eq!(file.control, PathBuf::from("/var/lib/rendezvip/control.sock"));
        assert_eq!(file.allow, Allow::default());
        assert_eq!(file.announce, Announce { rate: 10_000, refresh: 15 });
        assert_eq!(file.node_name("Edge-A.example").unwrap().as_str(), "edge-a.example");
        assert!(file.node_name("edge_a").is_err());
        assert_eq!((file.node, file.checks.len(), file.hooks), (None, 0, Hooks::default()));
    }

    #[test]
    fn a_proxy_serves_the_status_too_and_its_password_is_not_for_this_file() {
        let proxies = |body: &str| {
            let file = good(body);
            let Source::Git(git) = file.source else { panic!("git") };
            let Some(StatusTarget::Git { proxy, .. }) = file.status else { panic!("git") };
            (git.proxy, proxy)
        };
        let (one, other) = (Some("http://p.example:3128".to_owned()), Some("https://q.example/".to_owned()));
        let source = "source: {git: {url: \"https://git.example/v\", proxy: \"http://p.example:3128\"}}\n";
        assert_eq!(proxies(source), (one.clone(), one.clone()));
        let status = "status: {git: {proxy: \"https://q.example/\"}}\n";
        assert_eq!(proxies(&format!("{source}{status}")), (one, other));
        for wrong in ["p.example:3128", "socks5://p.example", "http://", "http://p.example/x"] {
            let body = format!("source: {{git: {{url: /srv/v.git, proxy: \"{wrong}\"}}}}\n");
            assert_eq!(bad(&body), ["3:40 RV0508"], "{wrong}");
        }
        let body = format!("{HEAD}source: {{git: {{url: /srv/v.git, proxy: \"http://me:secret@p.example\"}}}}\n");
        let problems = parse_agent(body.as_bytes(), "node.yaml").unwrap_err();
        assert_eq!(problems[0].message, "proxy cannot be `http://p.example`");
    }

    #[test]
    fn the_file_of_the_manual_is_read_as_it_is_meant() {
        let file = good(
            "node: edge-a
source:
  git:
    url: ssh://git@git.example/vips.git
    branch: main
    path: .
    poll: 15s
    sshKeyFile: /etc/rendezvip/id_ed25519
    knownHostsFile: /etc/rendezvip/known_hosts
    verify: {mode: none, allowedSignersFile: null, keyringFile: null}
status:
  git: {branch: rendezvip/status}
gossip: {bind: 0.0.0.0:7847, keyFile: /etc/rendezvip/gossip.key}
http: 127.0.0.1:9747
control: control.sock
stateDir: /var/lib/rendezvip
allow: {prefixes: [10.99.0.0/16, fd99::/64], interfaces: [eth0]}
checks: {https: {tcp: \"127.0.0.1:443\", interval: 1s, timeout: 500ms, fall: 2, rise: 3}}
hooks: {acquired: [/etc/rendezvip/on-acquired], released: []}
announce: {rate: 10000/s, refresh: 15/s}
",
        );
        assert_eq!(file.node.unwrap().as_str(), "edge-a");
        assert_eq!(file.allow.prefixes.unwrap().len(), 2);
        let check = &file.checks[&CheckName::new("https").unwrap()];
        assert_eq!(check.probe, Probe::Tcp("127.0.0.1:443".parse().unwrap()));
        assert_eq!(file.hooks.acquired, [PathBuf::from("/etc/rendezvip/on-acquired")]);
    }

    #[test]
    fn every_problem_of_a_file_is_found_at_once() {
        let problems = bad("source: {git: {url: http://x/y, branch: a..b, poll: 10, verify: {mode: head}}}
gossip: {bind: localhost, keyFile: gossip.key}
allow: {prefixes: [10.0.0.1/8, 10.0.0.1]}
checks: {a: {}, B: {tcp: x}, c: {http: \"https://127.0.0.1\"}, d: {exec: [true]}, e: {process: /bin/x, fall: 0}}
announce: {rate: 15, refresh: 0/s}
htttp: 1
");
        assert_eq!(
            problems,
            [
                "3:21 RV0508",
                "3:41 RV0511",
                "3:53 RV0126",
                "3:65 RV0509",
                "4:16 RV0505",
                "4:36 RV0503",
                "5:20 RV0504",
                "5:32 RV0504",
                "6:13 RV0506",
                "6:17 RV0124",
                "6:26 RV0506",
                "6:40 RV0506",
                "6:73 RV0122",
                "6:94 RV0506",
                "6:108 RV0127",
                "7:18 RV0122",
                "7:31 RV0507",
                "8:1 RV0120",
            ]
        );
    }

    #[test]
    fn what_is_followed_and_who_writes_can_be_named() {
        let file = good(
            "source: {git: {url: /a, commit: 0123456789abcdef0123456789abcdef01234567, webhook: {bind: \"[::]:9748\", secretFile: /s}}}
status: {git: {author: {name: VIP bot, email: bot@example.org}, signingKeyFile: /k}}
",
        );
        let Source::Git(git) = &file.source else { panic!("git") };
        assert!(git.commit.is_some() && git.webhook.as_ref().is_some_and(|it| it.bind.port() == 9748));
        let Some(StatusTarget::Git { author, signing_key_file, .. }) = &file.status else { panic!("git") };
        assert_eq!(author.as_ref().map(|it| it.email.as_str()), Some("bot@example.org"));
        assert_eq!(signing_key_file.as_deref(), Some(std::path::Path::new("/k")));
        let file = good("source: {git: {url: /a, tag: refs/tags/v1}}\n");
        let Source::Git(git) = &file.source else { panic!("git") };
        assert_eq!(git.tag.as_deref(), Some("v1"));
        assert_eq!(bad("source: {git: {url: /a, tag: v1, branch: main}}\n"), ["3:42 RV0502"]);
        assert_eq!(bad("source: {git: {url: /a, commit: 01234abc}}\n"), ["3:33 RV0511"]);
        assert_eq!(bad("source: {git: {url: /a, webhook: {bind: \"0.0.0.0:9748\"}}}\n"), ["3:34 RV0121"]);
        let nameless = "source: {git: {url: /a}}\nstatus: {git: {author: {name: \"<>\", email: a@b}}}\n";
        assert_eq!(bad(nameless), ["4:31 RV0502"]);
    }

    #[test]
    fn a_source_is_exactly_one_and_a_status_has_a_place() {
        assert_eq!(bad("source: {}\n"), ["3:9 RV0502"]);
        assert_eq!(bad("source: {git: {url: /a}, directory: /b}\n"), ["3:9 RV0502"]);
        assert_eq!(bad("source: {directory: /b}\nstatus: {git: {}}\n"), ["4:15 RV0502"]);
        assert_eq!(bad("source: {git: {url: /a}}\nstatus: {git: {branch: main}}\n"), ["4:15 RV0502"]);
        assert_eq!(good("source: {directory: /b}\n").status, None);
        let status = good("source: {directory: /b}\nstatus: {directory: /c}\n").status;
        assert_eq!(status, Some(StatusTarget::Directory("/c".into())));
    }

    #[test]
    fn a_token_in_a_url_is_shown_to_nobody() {
        for (url, shown) in [
            ("https://token@git.example/a.git", "https://git.example/a.git"),
            ("https://u:p@x@git.example/a@b.git", "https://git.example/a@b.git"),
            ("ssh://git@git.example/a.git", "ssh://git@git.example/a.git"),
            ("ssh://git:pw@git.example/a.git", "ssh://git.example/a.git"),
            ("/srv/a@b.git", "/srv/a@b.git"),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn an_http_check_is_an_address_and_a_path() {
        let file = good("source: {directory: /b}\nchecks: {a: {http: \"http://localhost:8080/healthz?x=1\"}}\n");
        let probe = &file.checks[&CheckName::new("a").unwrap()].probe;
        let Probe::Http { address, host, path } = probe else { panic!("http") };
        assert_eq!(
            (address.to_string().as_str(), host.as_str(), path.as_str()),
            ("127.0.0.1:8080", "localhost:8080", "/healthz?x=1")
        );
    }
}
