//! JSON Schemas of the files that users write, for editors and for pipelines.
//!
//! In: types that mirror the file formats. Out: a schema per kind, and one that switches on `kind`.
//! Not here: reading files (`kinds`, `agent_file`), which is stricter: a schema knows one document alone, and no
//! arithmetic. What a schema refuses, `validate` refuses; a test holds every example against both.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

/// A kind that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kind: Cluster`.
    Cluster,
    /// `kind: Node`.
    Node,
    /// `kind: VipPool`.
    VipPool,
    /// `kind: Agent`.
    Agent,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Cluster, Self::Node, Self::VipPool, Self::Agent];

    /// The kind as files write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Node => "Node",
            Self::VipPool => "VipPool",
            Self::Agent => "Agent",
        }
    }
}

/// Every schema by the name of its file in `schemas/`.
pub fn files() -> BTreeMap<String, Value> {
    let mut files: BTreeMap<String, Value> =
        Kind::ALL.into_iter().map(|kind| (format!("{}.json", kind.as_str().to_lowercase()), of(kind))).collect();
    files.insert("manifest.json".into(), of_any_kind());
    files
}

/// The schema of one kind.
pub fn of(kind: Kind) -> Value {
    let generator = generator();
    let schema = match kind {
        Kind::Cluster => generator.into_root_schema_for::<ClusterFile>(),
        Kind::Node => generator.into_root_schema_for::<NodeFile>(),
        Kind::VipPool => generator.into_root_schema_for::<VipPoolFile>(),
        Kind::Agent => generator.into_root_schema_for::<AgentDocument>(),
    };
    schema.to_value()
}

/// One schema for every kind; it looks at `kind` first, so that an editor's complaints are about that kind alone.
pub fn of_any_kind() -> Value {
    let mut generator = generator();
    let schemas: Vec<(Kind, Schema)> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let schema = match kind {
                Kind::Cluster => generator.subschema_for::<ClusterFile>(),
                Kind::Node => generator.subschema_for::<NodeFile>(),
                Kind::VipPool => generator.subschema_for::<VipPoolFile>(),
                Kind::Agent => generator.subschema_for::<AgentDocument>(),
            };
            (kind, schema)
        })
        .collect();
    let names: Vec<&str> = schemas.iter().map(|(kind, _)| kind.as_str()).collect();
    let branches: Vec<Value> = schemas
        .iter()
        .map(|(kind, schema)| {
            json!({ "if": { "properties": { "kind": { "const": kind.as_str() } } }, "then": schema.as_value() })
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rendezvip",
        "description": "Any document that rendezvip reads.",
        "type": "object",
        "properties": { "kind": { "enum": names } },
        "required": ["apiVersion", "kind"],
        "allOf": branches,
        "$defs": generator.take_definitions(true),
    })
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().with_transform(RecursiveTransform(forbid_null)).into_generator()
}

/// A key that may be left out is not a key that may be null, unless null is its default.
fn forbid_null(schema: &mut Schema) {
    if schema.get("default") == Some(&Value::Null) {
        return;
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".into(), one);
        }
    }
    if let Some(Value::Array(options)) = schema.get_mut("anyOf") {
        options.retain(|option| option != &json!({ "type": "null" }));
        if let [Value::Object(one)] = options.as_slice() {
            let one = one.clone();
            schema.remove("anyOf");
            for (key, value) in one {
                schema.insert(key, value);
            }
        }
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident = $pattern:literal;)*) => {$(
        $(#[$doc])*
        #[derive(JsonSchema)]
        #[schemars(transparent)]
        pub struct $name(#[schemars(regex(pattern = $pattern))] pub String);
    )*};
}

texts! {
    /// An RFC 1123 subdomain: labels of a-z, 0-9 and `-`, joined by `.`.
    Name = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$";
    /// An integer and ms, s, m or h.
    DurationText = r"^(0|[1-9][0-9]*)(ms|s|m|h)$";
    /// Frames a second: an integer and /s.
    RateText = r"^[1-9][0-9]*/s$";
    /// A name that the kernel takes for an interface.
    Interface = r"^[^\s/:%]{1,15}$";
    /// A label's value: at most 63 letters, digits, `-`, `_` and `.`.
    LabelValue = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$";
    /// An address, a range `first-last`, or a CIDR without host bits; IPv4 or IPv6.
    AddressEntry = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3}| *- *[0-9A-Fa-f:.]+)?$";
    /// IP:port or IP; an IPv6 address in brackets, and then in quotes.
    NodeAddress = r"^([0-9.]+(:[0-9]{1,5})?|[0-9A-Fa-f:.]*::?[0-9A-Fa-f:.]*|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?)$";
    /// IP:port; an IPv6 address in brackets, and then in quotes.
    ListenAddress = r"^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";
    /// An absolute path.
    AbsolutePath = r"^/";
    /// A network: address/length without host bits.
    Prefix = r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$";
    /// ssh://…, https://…, file://…, user@host:path or an absolute path.
    GitUrl = r"^((ssh|https|file)://\S+|/\S*|[^/:\s]+:\S+)$";
}

/// The one apiVersion.
#[derive(JsonSchema)]
pub enum ApiVersion {
    /// The only one there is.
    #[schemars(rename = "rendezvip/v1")]
    V1,
}

/// A Cluster: one per repository.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase", title = "Cluster")]
pub struct ClusterFile {
    /// The version of the format.
    pub api_version: ApiVersion,
    /// Cluster.
    #[schemars(extend("const" = "Cluster"))]
    pub kind: String,
    /// Its name.
    pub metadata: Metadata,
    /// How it works; all of it has defaults.
    pub spec: Option<ClusterSpec>,
}

/// A name.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// The name, unique among its kind.
    pub name: Name,
}

/// How a cluster works.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClusterSpec {
    /// How VIPs are spread.
    #[schemars(extend("default" = "balanced"))]
    pub placement: Option<Placement>,
    /// How fast a death is noticed.
    pub failover: Option<FailoverSpec>,
}

/// balanced: no node has more than 1.25 times its share of a pool. rendezvous: MetalLB's order.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum Placement {
    /// With a cap.
    Balanced,
    /// By hash alone.
    Rendezvous,
}

/// How fast a death is noticed.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct FailoverSpec {
    /// Between two heartbeats of a pair of nodes: 20ms to 10s.
    #[schemars(extend("default" = "100ms"))]
    pub heartbeat: Option<DurationText>,
    /// default survives longer stalls, fast is a third faster.
    #[schemars(extend("default" = "default"))]
    pub profile: Option<ProfileWord>,
}

/// How many stalls are forgiven.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum ProfileWord {
    /// 0.6 heartbeats.
    Default,
    /// 0.25 heartbeats.
    Fast,
}

/// A Node: a machine that votes and may own VIPs.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase", title = "Node")]
pub struct NodeFile {
    /// The version of the format.
    pub api_version: ApiVersion,
    /// Node.
    #[schemars(extend("const" = "Node"))]
    pub kind: String,
    /// Its name and labels.
    pub metadata: LabelledMetadata,
    /// Where and what it is.
    pub spec: NodeSpec,
}

/// A name and labels.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct LabelledMetadata {
    /// The name: by default that of the host, in lower case.
    pub name: Name,
    /// What pools select by.
    pub labels: Option<BTreeMap<String, LabelValue>>,
}

/// Where and what a node is.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeSpec {
    /// Where its peers reach it, UDP; port 7847 unless written.
    pub address: NodeAddress,
    /// Share of VIPs; 0 is a witness, which votes and owns nothing.
    #[schemars(range(min = 0, max = 100), extend("default" = 1))]
    pub weight: Option<i64>,
    /// Drain: give away what it has, take nothing new.
    #[schemars(extend("default" = false))]
    pub cordon: Option<bool>,
}

/// A VipPool: addresses that move between nodes.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase", title = "VipPool")]
pub struct VipPoolFile {
    /// The version of the format.
    pub api_version: ApiVersion,
    /// VipPool.
    #[schemars(extend("const" = "VipPool"))]
    pub kind: String,
    /// Its name.
    pub metadata: Metadata,
    /// Which addresses, and how they move.
    pub spec: VipPoolSpec,
}

/// Which addresses, and how they move.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct VipPoolSpec {
    /// Single addresses, ranges and CIDRs.
    #[schemars(length(min = 1))]
    pub addresses: Vec<AddressEntry>,
    /// Skip IPv4 addresses that end in .0 or .255, as MetalLB does.
    #[schemars(rename = "avoidBuggyIPs", extend("default" = false))]
    pub avoid_buggy_ips: Option<bool>,
    /// Interfaces that may carry them; none: the one whose subnet holds the address.
    #[schemars(extend("uniqueItems" = true))]
    pub interfaces: Option<Vec<Interface>>,
    /// Which nodes may own them; none: all.
    pub node_selector: Option<NodeSelector>,
    /// A ranked wish, not a pin.
    #[schemars(extend("uniqueItems" = true))]
    pub prefer: Option<Vec<Name>>,
    /// Where the address sits.
    #[schemars(extend("default" = "interface"))]
    pub attach: Option<AttachWord>,
    /// All addresses of the pool move as one.
    #[schemars(extend("default" = false))]
    pub together: Option<bool>,
    /// When a node that came back gets its VIPs back.
    pub failback: Option<FailbackSpec>,
    /// What happens at a planned move.
    pub handover: Option<HandoverSpec>,
    /// What happens without a quorum.
    #[schemars(extend("default" = "strict"))]
    pub partition: Option<PartitionWord>,
    /// Names of checks that each node's own file defines.
    #[schemars(extend("uniqueItems" = true))]
    pub health: Option<Vec<Name>>,
    /// Freeze the owners as they are.
    #[schemars(extend("default" = false))]
    pub suspend: Option<bool>,
}

/// Which nodes may own a pool.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct NodeSelector {
    /// All of these labels.
    pub match_labels: Option<BTreeMap<String, LabelValue>>,
}

/// interface: on the owner's interface. loopback: on lo of every node. none: nowhere.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum AttachWord {
    /// On the owner's interface.
    Interface,
    /// On lo of every node.
    Loopback,
    /// Nowhere.
    None,
}

/// strict: no quorum, no take-over. available: as VRRP does.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum PartitionWord {
    /// Never two owners.
    Strict,
    /// Both sides may serve.
    Available,
}

/// manual, or how long a node that came back waits.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub enum FailbackSpec {
    /// Keep them where they are.
    Manual(ManualWord),
    /// Wait so long.
    After(FailbackAfter),
}

/// The word.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum ManualWord {
    /// Keep them where they are.
    Manual,
}

/// How long a node that came back waits for its VIPs.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct FailbackAfter {
    /// From the moment of eligibility on.
    #[schemars(extend("default" = "10s"))]
    pub after: Option<DurationText>,
}

/// What happens at a planned move.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct HandoverSpec {
    /// The old owner keeps accepting for so long, and no longer answers.
    #[schemars(extend("default" = "30s"))]
    pub linger: Option<DurationText>,
}

/// A node's own file: /etc/rendezvip/node.yaml, never in git.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase", title = "Agent")]
pub struct AgentDocument {
    /// The version of the format.
    pub api_version: ApiVersion,
    /// Agent.
    #[schemars(extend("const" = "Agent"))]
    pub kind: String,
    /// Which declared node this is; the host name by default.
    #[schemars(extend("default" = null))]
    pub node: Option<Name>,
    /// What to follow.
    pub source: SourceSpec,
    /// Where the status goes.
    pub status: Option<StatusSpec>,
    /// Datagrams between nodes.
    pub gossip: Option<GossipSpec>,
    /// Page, metrics and JSON.
    #[schemars(extend("default" = "127.0.0.1:9747"))]
    pub http: Option<ListenAddress>,
    /// The control socket, relative to stateDir.
    #[schemars(extend("default" = "control.sock"))]
    pub control: Option<String>,
    /// What outlives a restart.
    #[schemars(extend("default" = "/var/lib/rendezvip"))]
    pub state_dir: Option<AbsolutePath>,
    /// What a repository may claim here at most.
    pub allow: Option<AllowSpec>,
    /// Checks that pools name under health.
    pub checks: Option<BTreeMap<String, CheckSpec>>,
    /// Programs that are told of moves.
    pub hooks: Option<HooksSpec>,
    /// Rates per interface.
    pub announce: Option<AnnounceSpec>,
}

/// A repository or a directory.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase", extend("minProperties" = 1, "maxProperties" = 1))]
pub struct SourceSpec {
    /// A repository.
    pub git: Option<GitSpec>,
    /// A directory, or a link that is swapped.
    pub directory: Option<AbsolutePath>,
}

/// A repository.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct GitSpec {
    /// Where it is.
    pub url: GitUrl,
    /// The branch to follow.
    #[schemars(extend("default" = "main"))]
    pub branch: Option<String>,
    /// A tag to follow, instead of a branch.
    pub tag: Option<String>,
    /// The commit of the branch to stay at: all 40 digits.
    #[schemars(regex(pattern = r"^[0-9a-f]{40}$"))]
    pub commit: Option<String>,
    /// The folder of the manifests in it.
    #[schemars(extend("default" = "."))]
    pub path: Option<String>,
    /// How often to look.
    #[schemars(extend("default" = "15s"))]
    pub poll: Option<DurationText>,
    /// Key for ssh.
    #[schemars(extend("default" = "/etc/rendezvip/id_ed25519"))]
    pub ssh_key_file: Option<AbsolutePath>,
    /// Host keys for ssh.
    #[schemars(extend("default" = "/etc/rendezvip/known_hosts"))]
    pub known_hosts_file: Option<AbsolutePath>,
    /// For https: `user:password` or a token, on the first line.
    #[schemars(extend("default" = null))]
    pub credentials_file: Option<AbsolutePath>,
    /// For https: certificate authorities, instead of the system's.
    #[schemars(extend("default" = null))]
    pub ca_file: Option<AbsolutePath>,
    /// For https: a proxy; what the environment says by default.
    #[schemars(regex(pattern = r"^https?://[^/@?#\s]+/?$"))]
    pub proxy: Option<String>,
    /// Which commits count.
    pub verify: Option<VerifySpec>,
    /// Where a forge says that something was pushed; nowhere by default.
    pub webhook: Option<WebhookSpec>,
}

/// Where a forge says that something was pushed, signed; it hastens the next look and does nothing else.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct WebhookSpec {
    /// Where it posts to.
    pub bind: ListenAddress,
    /// The secret that the forge has too, on the first line.
    pub secret_file: AbsolutePath,
}

/// Which commits count.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct VerifySpec {
    /// none, head: the commit that is to run, strict: every commit since the one that runs.
    #[schemars(extend("default" = "none"))]
    pub mode: Option<VerifyWord>,
    /// ssh: an allowed signers file.
    #[schemars(extend("default" = null))]
    pub allowed_signers_file: Option<AbsolutePath>,
    /// OpenPGP: a keyring.
    #[schemars(extend("default" = null))]
    pub keyring_file: Option<AbsolutePath>,
}

/// How much is verified.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
pub enum VerifyWord {
    /// Nothing.
    None,
    /// The commit that is to run.
    Head,
    /// Every commit since the one that runs.
    Strict,
}

/// A branch or a directory.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase", extend("minProperties" = 1, "maxProperties" = 1))]
pub struct StatusSpec {
    /// A branch.
    pub git: Option<StatusGitSpec>,
    /// A directory.
    pub directory: Option<AbsolutePath>,
}

/// A branch for the status.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct StatusGitSpec {
    /// The source's by default.
    pub url: Option<GitUrl>,
    /// The branch.
    #[schemars(extend("default" = "rendezvip/status"))]
    pub branch: Option<String>,
    /// The source's by default.
    pub ssh_key_file: Option<AbsolutePath>,
    /// The source's by default.
    pub known_hosts_file: Option<AbsolutePath>,
    /// The source's by default.
    pub credentials_file: Option<AbsolutePath>,
    /// The source's by default.
    pub ca_file: Option<AbsolutePath>,
    /// The source's by default.
    #[schemars(regex(pattern = r"^https?://[^/@?#\s]+/?$"))]
    pub proxy: Option<String>,
    /// Whose name commits bear; the node's by default.
    pub author: Option<AuthorSpec>,
    /// An Ed25519 key of ssh, without a passphrase, that signs commits.
    #[schemars(extend("default" = null))]
    pub signing_key_file: Option<AbsolutePath>,
}

/// Whose name commits bear.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuthorSpec {
    /// A name.
    #[schemars(regex(pattern = r"^[^<>]*[^<>\s][^<>]*$"))]
    pub name: String,
    /// An address.
    #[schemars(regex(pattern = r"^[^<>]*[^<>\s][^<>]*$"))]
    pub email: String,
}

/// Datagrams between nodes.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct GossipSpec {
    /// Where they arrive.
    #[schemars(extend("default" = "0.0.0.0:7847"))]
    pub bind: Option<NodeAddress>,
    /// The cluster's key.
    #[schemars(extend("default" = "/etc/rendezvip/gossip.key"))]
    pub key_file: Option<AbsolutePath>,
}

/// What a repository may claim at most; what is not written is not bounded.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct AllowSpec {
    /// VIPs lie in one of these.
    pub prefixes: Option<Vec<Prefix>>,
    /// VIPs stand on one of these.
    #[schemars(extend("uniqueItems" = true))]
    pub interfaces: Option<Vec<Interface>>,
}

/// A check looks at exactly one thing.
#[derive(JsonSchema)]
#[schemars(
    deny_unknown_fields,
    rename_all = "camelCase",
    extend("oneOf" = [{"required": ["tcp"]}, {"required": ["http"]}, {"required": ["exec"]}, {"required": ["file"]}, {"required": ["process"]}])
)]
pub struct CheckSpec {
    /// A connection is accepted: IP:port or localhost:port.
    #[schemars(regex(pattern = r"^(localhost|[0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"))]
    pub tcp: Option<String>,
    /// A GET is answered by 200 to 399.
    #[schemars(regex(pattern = r"^http://(localhost|[0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?]|$)"))]
    pub http: Option<String>,
    /// A program exits 0; its absolute path and its arguments, without a shell.
    #[schemars(length(min = 1))]
    pub exec: Option<Vec<String>>,
    /// A file is there.
    pub file: Option<AbsolutePath>,
    /// A process of this name runs.
    #[schemars(length(min = 1, max = 15))]
    pub process: Option<String>,
    /// From one start to the next.
    #[schemars(extend("default" = "1s"))]
    pub interval: Option<DurationText>,
    /// How long an answer may take.
    #[schemars(extend("default" = "500ms"))]
    pub timeout: Option<DurationText>,
    /// So many failures in a row make it fail.
    #[schemars(range(min = 1, max = 1000), extend("default" = 2))]
    pub fall: Option<i64>,
    /// So many successes in a row make it pass.
    #[schemars(range(min = 1, max = 1000), extend("default" = 3))]
    pub rise: Option<i64>,
}

/// Programs that are told of moves, run with the VIPs as arguments.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct HooksSpec {
    /// After VIPs came here.
    pub acquired: Option<Vec<AbsolutePath>>,
    /// After VIPs went away.
    pub released: Option<Vec<AbsolutePath>>,
}

/// Frames a second per interface.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, rename_all = "camelCase")]
pub struct AnnounceSpec {
    /// First announcements.
    #[schemars(extend("default" = "10000/s"))]
    pub rate: Option<RateText>,
    /// Everything after.
    #[schemars(extend("default" = "15/s"))]
    pub refresh: Option<RateText>,
}
