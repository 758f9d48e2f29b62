//! YAML to a checked [`Desired`], with every problem found at once.
//!
//! In: files as bytes, chosen by [`listing`]. Out: `Desired`, or diagnostics with spans.
//! Not here: reading directories (`agent`, `cli`), deciding owners (`placement`).
//!
//! A file goes from `tree` (YAML events to spanned nodes) through `kinds` (a document by itself) to `cross`
//! (documents against each other), which makes `Desired`; `canonical` digests it. The node's own file takes
//! the first step alone, then `agent_file`.

pub mod addresses;
pub mod agent_file;
mod canonical;
mod cross;
pub mod desired;
pub mod diagnostic;
pub(crate) mod fields;
pub mod kinds;
pub mod listing;
pub mod schema;
pub mod tree;

use std::sync::Arc;

use ipnet::IpNet;

use desired::Desired;
use diagnostic::{Code, Diagnostic, Span};

/// Most files of a repository.
pub const MOST_FILES: usize = 20_000;
/// Most bytes of all files together.
pub const MOST_BYTES: usize = 64 << 20;

/// Most problems that are told; a repository that is all wrong is not held in memory twice over.
pub const MOST_DIAGNOSTICS: usize = 10_000;

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path relative to the directory that is read, `/` between parts.
    pub path: String,
    /// What it holds.
    pub text: Vec<u8>,
}

/// What a repository says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What it asks for; nothing as soon as there is one error.
    pub desired: Option<Desired>,
    /// All problems, in order of path, line and column.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the files that [`listing::select`] chose, in any order.
pub fn load(files: &[SourceFile]) -> Loaded {
    load_within(files, None)
}

/// The same with warnings of VIPs outside of what the nodes' own files allow, where that is known.
pub fn load_within(files: &[SourceFile], allowed: Option<&[IpNet]>) -> Loaded {
    let mut diagnostics = Vec::new();
    let mut draft = kinds::Draft::default();
    let mut sorted: Vec<&SourceFile> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut bytes = 0;
    for (index, source) in sorted.into_iter().enumerate() {
        let file: Arc<str> = source.path.as_str().into();
        bytes += source.text.len();
        if index >= MOST_FILES || bytes > MOST_BYTES {
            let message = format!("more than {MOST_FILES} files or {} MiB of manifests", MOST_BYTES >> 20);
            let help = "point `source.git.path` at the folder of the manifests alone";
            diagnostics.push(Diagnostic::new(Code::TooBig, &file, Span::FIRST, message).help(help));
            draft.incomplete = true;
            break;
        }
        let text = match tree::text(&file, &source.text) {
            Ok(text) => text,
            Err(diagnostic) => {
                diagnostics.push(diagnostic);
                draft.incomplete = true;
                continue;
            }
        };
        let tree = tree::read(&file, text);
        for document in tree.documents {
            kinds::read(&file, document, &mut draft, &mut diagnostics);
        }
        if let Some(broken) = tree.broken {
            diagnostics.push(broken);
            draft.incomplete = true;
        }
        if diagnostics.len() >= MOST_DIAGNOSTICS {
            diagnostics.truncate(MOST_DIAGNOSTICS);
            let message = format!("more than {MOST_DIAGNOSTICS} problems; files after this one were not read");
            let help = "point `source.git.path` at the folder of the manifests alone";
            diagnostics.push(Diagnostic::new(Code::TooBig, &file, Span::FIRST, message).help(help));
            draft.incomplete = true;
            break;
        }
    }
    let desired = cross::check(draft, allowed, &mut diagnostics);
    diagnostics.sort_by(|a, b| (&a.place, a.code).cmp(&(&b.place, b.code)));
    Loaded { desired, diagnostics }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{NodeName, PoolName};
    use proptest::prelude::*;
    use std::time::Duration;

    const CLUSTER: &str = "apiVersion: rendezvip/v1\nkind: Cluster\nmetadata: {name: lab}\n";

    fn node(name: &str, spec: &str) -> String {
        format!(
            "---\napiVersion: rendezvip/v1\nkind: Node\nmetadata: {{name: {name}, labels: {{rack: r1}}}}\nspec: {{{spec}}}\n"
        )
    }

    fn three_nodes() -> String {
        (0..3).map(|n| node(&format!("edge-{n}"), &format!("address: 10.99.0.{}", 10 + n))).collect()
    }

    fn pool(name: &str, spec: &str) -> String {
        format!("apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {{name: {name}}}\nspec:\n{spec}\n")
    }

    fn load_all(files: &[(&str, &str)]) -> Loaded {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|(path, text)| SourceFile { path: (*path).into(), text: text.as_bytes().into() })
            .collect();
        load(&files)
    }

    /// The problems of `text` as `line:column-line:column code` beside a sound cluster of three nodes.
    fn problems(text: &str) -> Vec<String> {
        let base = format!("{CLUSTER}{}", three_nodes());
        let loaded = load_all(&[("base.yaml", &base), ("x.yaml", text)]);
        assert_eq!(loaded.desired.is_none(), loaded.diagnostics.iter().any(Diagnostic::is_error));
        loaded
            .diagnostics
            .iter()
            .map(|d| {
                let Span { start, end } = d.place.span;
                format!("{}:{}-{}:{} {}", start.line, start.column, end.line, end.column, d.code)
            })
            .collect()
    }

    fn pool_problems(spec: &str) -> Vec<String> {
        problems(&pool("web", spec))
    }

    #[test]
    fn the_repository_of_the_design_is_read_as_it_is_meant() {
        let text = r#"apiVersion: rendezvip/v1
kind: Cluster
metadata: {name: lab}
spec:
  placement: balanced            # balanced (default) | rendezvous
  failover: {heartbeat: 100ms, profile: default}
---
apiVersion: rendezvip/v1
kind: Node
metadata: {name: edge-a, labels: {rack: r1}}
spec:
  address: 10.99.0.10:7847
  weight: 1
  cordon: false
---
apiVersion: rendezvip/v1
kind: Node
metadata: {name: edge-b, labels: {rack: r1}}
spec: {address: "[fd99::11]", weight: 0}
---
apiVersion: rendezvip/v1
kind: Node
metadata: {name: edge-c, labels: {rack: r1}}
spec: {address: 10.99.0.12}
---
apiVersion: rendezvip/v1
kind: VipPool
metadata: {name: web}
spec:
  addresses: [10.99.0.100-10.99.0.105, 10.99.1.0/28, "fd99::100"]   # ranges, CIDRs, single; v4 and v6
  avoidBuggyIPs: true
  interfaces: [eth0]
  nodeSelector: {matchLabels: {rack: r1}}
  prefer: [edge-a]
  attach: interface
  together: false
  failback: {after: 10s}
  handover: {linger: 30s}
  partition: strict
  health: [https]
  suspend: false
"#;
        let loaded = load_all(&[("all.yaml", text)]);
        assert_eq!(loaded.diagnostics, []);
        let desired = loaded.desired.unwrap();
        assert_eq!(
            desired.nodes.values().map(|n| n.address.to_string()).collect::<Vec<_>>(),
            ["10.99.0.10:7847", "[fd99::11]:7847", "10.99.0.12:7847"]
        );
        let pool = &desired.pools[&PoolName::new("web").unwrap()];
        assert_eq!(pool.addresses.len(), 6 + 15 + 1);
        assert_eq!(pool.prefer, [NodeName::new("edge-a").unwrap()]);
        assert_eq!(
            (pool.linger, pool.failback),
            (Duration::from_secs(30), desired::Failback::After(Duration::from_secs(10)))
        );
    }

    #[test]
    fn the_digest_is_independent_of_layout_order_and_spelling() {
        let nodes = three_nodes();
        let a = load_all(&[
            ("c.yaml", CLUSTER),
            ("n.yaml", &nodes),
            (
                "p.yaml",
                &pool(
                    "web",
                    "  addresses: [10.99.0.100-10.99.0.103, 'FD99::0:1']\n  health: [b, a]\n  attach: interface",
                ),
            ),
        ]);
        let b = load_all(&[(
            "deep/all.yml",
            &format!(
                "{}---\n{CLUSTER}spec: {{placement: balanced}}\n{nodes}",
                pool(
                    "web",
                    "  health: [a, b] # checks\n  addresses:\n  - fd99::1\n  - 10.99.0.102/31\n  - 10.99.0.101\n  - 10.99.0.100"
                )
            ),
        )]);
        assert_eq!(a.diagnostics, []);
        assert_eq!(a.desired, b.desired);
        let c = load_all(&[
            ("c.yaml", CLUSTER),
            ("n.yaml", &nodes),
            ("p.yaml", &pool("web", "  addresses: [10.99.0.100]")),
        ]);
        assert_ne!(a.desired.unwrap().digest, c.desired.unwrap().digest);
    }

    #[test]
    fn the_digest_of_a_repository_stays_what_it_is_from_version_to_version() {
        let loaded = load_all(&[(
            "a.yaml",
            &format!("{CLUSTER}{}---\n{}", three_nodes(), pool("web", "  addresses: [10.99.0.100]")),
        )]);
        insta::assert_snapshot!(loaded.desired.unwrap().digest, @"sha256:c29c2d0d166950ecd14b13ef0d2b720817d7fa69831540facb684aef53665958");
    }

    #[test]
    fn documents_that_are_nobodys_business_are_skipped() {
        for skipped in [
            "",
            "# only a comment\n",
            "---\n---\n# nothing\n",
            "apiVersion: v1\nkind: ConfigMap\ndata: {a: &x 1, b: *x, b: !t 2}\n",
            "apiVersion: apps/v1\nkind: Deployment\n",
            "apiVersion: rendezvip/v1\nkind: PoolStatus\nstatus: {}\n",
            "apiVersion: rendezvip/v1\nkind: NodeStatus\nwhatever: 1\n",
            "\u{feff}# a byte order mark\n",
        ] {
            assert_eq!(problems(skipped), [""; 0], "{skipped}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_an_error_at_its_place() {
        for (text, problem) in [
            ("- a\n", "1:1-1:4 RV0110"),
            ("hello\n", "1:1-1:6 RV0110"),
            ("kind: Node\n", "1:1-1:5 RV0110"),
            ("apiVersion: rendezvip/v2\nkind: Node\n", "1:13-1:25 RV0111"),
            ("apiVersion: rendezvip\nkind: Node\n", "1:13-1:22 RV0111"),
            ("apiVersion: rendezvip/v1\n", "1:1-1:11 RV0121"),
            ("apiVersion: rendezvip/v1\nkind: Pool\n", "2:7-2:11 RV0112"),
            ("apiVersion: rendezvip/v1\nkind: node\n", "2:7-2:11 RV0112"),
            ("apiVersion: rendezvip/v1\nkind: Agent\nsource: {}\n", "2:7-2:12 RV0113"),
            ("apiVersion: 1\n", "1:13-1:14 RV0122"),
            ("apiVersion: rendevip/v1\nkind: VipPool\n", "1:13-1:24 RV0114"),
            ("a: {{ .Values.x }}\n", "1:4-1:18 RV0109"),
            ("a: [\n", "2:1-2:2 RV0101"),
        ] {
            let found = problems(text);
            if text.starts_with("a: {{") {
                assert_eq!(found, ["1:1-1:2 RV0110"], "{text}");
            } else {
                assert_eq!(found, [problem], "{text}");
            }
        }
    }

    #[test]
    fn spans_are_right_in_flow_style_crlf_bom_and_beyond_ascii() {
        assert_eq!(pool_problems("  addresses: [10.99.0.100, 10.99.0.1000]"), ["5:28-5:40 RV0210"]);
        assert_eq!(
            pool_problems("  addresses: [10.99.0.100] # ü\n  prefer: ['ä', \"é\", x]"),
            ["6:12-6:15 RV0124", "6:17-6:20 RV0124", "6:22-6:23 RV0221"]
        );
        let crlf = pool("web", "  addresses: [10.99.0.100]\n  foo: 1").replace('\n', "\r\n");
        assert_eq!(problems(&crlf), ["6:3-6:6 RV0120"]);
        assert_eq!(problems(&format!("\u{feff}{crlf}")), ["6:3-6:6 RV0120"]);
        let bom = "\u{feff}apiVersion: rendezvip/v3\n";
        assert_eq!(problems(bom), ["1:13-1:25 RV0111"]);
        let cr = "# ü\rapiVersion: rendezvip/v3\r";
        assert_eq!(problems(cr), ["2:13-2:25 RV0111"]);
        let second = format!(
            "# ünï\n---\n{}...\n---\n{}",
            pool("a", "  addresses: [10.99.0.100]"),
            pool("b", "  addresses:\n  - 10.99.0.101\n  - x")
        );
        assert_eq!(problems(&second), ["16:5-16:6 RV0210"]);
    }

    #[test]
    fn all_errors_of_a_pool_are_found_at_once() {
        let spec = "  adresses: [10.0.0.1]
  addresses: [10, 010.0.0.1, 10.0.0.1/8, fd99::, 10.0.0.9-10.0.0.1, 127.0.0.1, \"fd99::1\", 1.5]
  avoidBuggyIPs: yes
  interfaces: [eth0, eth0, a/b, averyveryverylongname]
  nodeSelector: {matchLabels: {rack: r9, ok: 1}}
  prefer: [edge-9, edge-1, edge-1]
  attach: lo
  together: \"true\"
  failback: {after: 10}
  handover: {linger: 5x}
  partition: Strict
  health: https
  suspend:
  suspend: false";
        assert_eq!(
            pool_problems(spec),
            [
                "5:3-5:11 RV0120",
                "6:15-6:17 RV0122",
                "6:19-6:28 RV0210",
                "6:30-6:40 RV0211",
                "6:42-6:47 RV0122",
                "6:50-6:67 RV0212",
                "6:69-6:78 RV0213",
                "6:91-6:94 RV0122",
                "7:18-7:21 RV0122",
                "8:22-8:26 RV0128",
                "8:28-8:31 RV0129",
                "8:33-8:54 RV0129",
                "9:3-9:15 RV0220",
                "9:46-9:47 RV0122",
                "10:12-10:18 RV0221",
                "10:28-10:34 RV0128",
                "11:11-11:13 RV0123",
                "12:13-12:19 RV0122",
                "13:21-13:23 RV0126",
                "14:22-14:24 RV0126",
                "15:14-15:20 RV0123",
                "16:11-16:16 RV0122",
                "17:3-17:10 RV0122",
                "18:3-18:10 RV0107",
            ]
        );
    }

    #[test]
    fn all_errors_of_a_node_and_a_cluster_are_found_at_once() {
        let text = "apiVersion: rendezvip/v1
kind: Node
metadata: {name: Edge_A, labels: {rack: 1, -x: a}, annotations: {}}
spec: {address: 10.99.0.20:0, weight: 010, cordon: 0}
---
apiVersion: rendezvip/v1
kind: Node
metadata: {}
spec: {weight: 101}
---
apiVersion: rendezvip/v1
kind: Cluster
metadata: {name: lab}
spec: {placement: even, failover: {heartbeat: 5ms, profile: slow}}
";
        assert_eq!(
            problems(text),
            [
                "3:18-3:24 RV0124",
                "3:41-3:42 RV0122",
                "3:44-3:46 RV0125",
                "3:52-3:63 RV0120",
                "4:17-4:29 RV0207",
                "4:39-4:42 RV0122",
                "4:52-4:53 RV0122",
                "8:11-8:12 RV0121",
                "9:7-9:8 RV0121",
                "9:16-9:19 RV0127",
                "12:7-12:14 RV0202",
                "14:19-14:23 RV0123",
                "14:47-14:50 RV0127",
                "14:61-14:65 RV0123",
            ]
        );
    }

    #[test]
    fn node_addresses_are_unicast_and_unambiguous() {
        for (address, good) in [
            ("10.0.0.1", true),
            ("10.0.0.1:1234", true),
            ("\"fd00::1\"", true),
            ("\"[fd00::1]\"", true),
            ("\"[fd00::1]:1\"", true),
            ("fd00::1:7847", false),
            ("\"[10.0.0.1]\"", false),
            ("[fd00::1]", false),
            ("10.0.0.1:65536", false),
            ("10.0.0.01", false),
            ("127.0.0.1", false),
            ("0.0.0.0:7847", false),
            ("\"[fe80::1]:7847\"", false),
            ("\"[fe80::1%2]:7847\"", false),
            ("\"[::ffff:10.0.0.1]:7847\"", false),
            ("host:7847", false),
            ("10", false),
        ] {
            let found = problems(&node("edge-x", &format!("address: {address}")));
            assert_eq!(found.is_empty(), good, "{address}: {found:?}");
        }
    }

    #[test]
    fn anchors_tags_tabs_merges_and_odd_keys_are_errors() {
        let base = |spec: &str| pool("web", spec);
        for (text, problem) in [
            (base("  addresses: &a [10.99.0.100]"), "5:14-5:17 RV0105"),
            (base("  addresses: *a"), "5:14-5:15 RV0105"),
            (base("  addresses: !!seq [10.99.0.100]"), "5:14-5:21 RV0106"),
            (base("  addresses:\t[10.99.0.100]"), "5:13-5:14 RV0104"),
            (base("\taddresses: [10.99.0.100]"), "5:1-5:2 RV0104"),
            (base("  addresses: [10.99.0.100]\t# x"), "5:27-5:28 RV0104"),
            (base("  addresses: [10.99.0.100]\n  ? [a]\n  : b"), "6:5-6:6 RV0109"),
        ] {
            let found = problems(&text);
            let got = found.first().cloned().unwrap_or_default();
            assert_eq!(got.split('-').next(), problem.split('-').next(), "{text}{found:?}");
            assert_eq!(got.split(' ').nth(1), problem.split(' ').nth(1), "{text}{found:?}");
        }
        assert_eq!(pool_problems("  addresses: [10.99.0.100] # a\ttab in a comment"), [""; 0]);
    }

    #[test]
    fn of_two_that_clash_the_later_by_path_is_at_fault_and_both_are_named() {
        let base = format!("{CLUSTER}{}", three_nodes());
        let web = pool("web", "  addresses: [10.99.0.100-10.99.0.105]");
        let db = pool("db", "  addresses: [10.99.0.104-10.99.0.110]");
        let loaded = load_all(&[("base.yaml", &base), ("pools/web.yaml", &web), ("pools/xdb.yaml", &db)]);
        insta::assert_snapshot!(loaded.diagnostics[0], @"pools/xdb.yaml:5:15: error[RV0214]: `10.99.0.104` is claimed by pool `web` too (overlaps 10.99.0.100-10.99.0.105 (pools/web.yaml:5:15))");
        insta::assert_snapshot!(loaded.diagnostics[0].help.as_deref().unwrap(), @"start this range at 10.99.0.106");
        let loaded = load_all(&[("z.yaml", &base), ("pools/web.yaml", &web), ("a.yaml", &db)]);
        assert_eq!(loaded.diagnostics[0].place.file.as_ref(), "pools/web.yaml");
        let all = pool("all", "  addresses: [10.99.0.0/24]");
        let loaded = load_all(&[("base.yaml", &base), ("pools/all.yaml", &all)]);
        assert_eq!(loaded.diagnostics.len(), 3);
        insta::assert_snapshot!(loaded.diagnostics[0], @"pools/all.yaml:5:15: error[RV0215]: `10.99.0.10` is the address of node `edge-0` (declared at base.yaml:8:17)");
        let loaded = load_all(&[("base.yaml", &base), ("a.yaml", &all)]);
        insta::assert_snapshot!(loaded.diagnostics[0], @"base.yaml:8:17: error[RV0215]: `10.99.0.10` is a VIP of pool `all` (claimed at a.yaml:5:15)");
        let again = three_nodes();
        let loaded = load_all(&[("base.yaml", &base), ("again.yaml", &again)]);
        assert_eq!(loaded.diagnostics.iter().map(|d| d.code.as_str()).collect::<Vec<_>>(), ["RV0204"; 3]);
        insta::assert_snapshot!(loaded.diagnostics[0], @"base.yaml:7:18: error[RV0204]: node `edge-0` is declared twice (first at again.yaml:4:18)");
        let other = again.replace("edge", "rack");
        let loaded = load_all(&[("base.yaml", &base), ("again.yaml", &other)]);
        insta::assert_snapshot!(loaded.diagnostics[0], @"base.yaml:8:17: error[RV0206]: node `edge-0` has the address of node `rack-0` (`10.99.0.10` is at again.yaml:5:17 too)");
    }

    #[test]
    fn what_avoid_buggy_skips_is_free_for_others() {
        let text = format!(
            "{}---\n{}",
            pool("a", "  addresses: [10.98.0.0/24]\n  avoidBuggyIPs: true"),
            pool("b", "  addresses: [10.98.0.255]")
        );
        assert_eq!(problems(&text), [""; 0]);
        assert_eq!(pool_problems("  addresses: [10.98.0.255, 10.98.0.7]\n  avoidBuggyIPs: true"), ["5:15-5:26 RV0295"]);
        assert_eq!(pool_problems("  addresses: [10.98.0.255]\n  avoidBuggyIPs: true"), ["5:14-5:27 RV0217"]);
        assert_eq!(pool_problems("  addresses: []"), ["5:14-5:16 RV0217"]);
    }

    #[test]
    fn more_than_65536_vips_are_an_error_and_allocate_nothing() {
        assert_eq!(
            pool_problems("  addresses: [10.1.0.0/16]"),
            ["5:14-5:27 RV0296"],
            "legal, and more than neighbours remember"
        );
        assert_eq!(pool_problems("  addresses: [10.1.0.0/16, 10.2.0.0]"), ["5:28-5:36 RV0216"]);
        assert_eq!(
            pool_problems("  addresses: ['::/0', 10.0.0.0/8, 0.0.0.0/0]"),
            ["5:15-5:21 RV0216", "5:23-5:33 RV0216", "5:35-5:44 RV0216"]
        );
    }

    #[test]
    fn a_file_too_big_or_too_deep_is_refused_before_it_is_read() {
        assert_eq!(problems(&" ".repeat(tree::LONGEST_FILE + 1)), ["1:1-1:1 RV0103"]);
        assert_eq!(problems(&"[".repeat(100_000))[0].split(' ').nth(1), Some("RV0103"));
        assert_eq!(problems(&"- ".repeat(100_000))[0].split(' ').nth(1), Some("RV0103"));
        assert_eq!(problems("a: b\0\n"), ["1:5-1:6 RV0102"]);
        let loaded = load(&[SourceFile { path: "x.yaml".into(), text: b"a: b\nb: \xff\n".to_vec() }]);
        insta::assert_snapshot!(loaded.diagnostics[0], @"x.yaml:2:4: error[RV0102]: byte 0xff is not UTF-8: this is not a text file");
    }

    #[test]
    fn a_repository_that_is_all_wrong_is_told_in_bounds() {
        let wrong = pool("web", &format!("  addresses:\n{}", "    - x\n".repeat(20_000)));
        let loaded = load_all(&[("a.yaml", &wrong), ("b.yaml", &wrong)]);
        assert_eq!(loaded.diagnostics.len(), MOST_DIAGNOSTICS + 1);
        assert_eq!(loaded.diagnostics[0].code, Code::TooBig);
        assert!(loaded.desired.is_none());
    }

    #[test]
    fn a_document_that_is_not_understood_does_not_make_others_look_wrong() {
        let text = format!(
            "{CLUSTER}---\n{}---\na: [\n",
            pool("web", "  addresses: [10.99.0.100]\n  prefer: [edge-z]\n  nodeSelector: {matchLabels: {x: y}}")
        );
        let loaded = load_all(&[("a.yaml", &text)]);
        assert_eq!(loaded.diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::Syntax]);
    }

    #[test]
    fn a_repository_needs_a_cluster_and_nodes() {
        let code = |files: &[(&str, &str)]| {
            load_all(files).diagnostics.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(code(&[]), @".:1:1: error[RV0201]: no manifests were found");
        insta::assert_snapshot!(code(&[("n.yaml", &three_nodes())]), @".:1:1: error[RV0201]: no Cluster is declared");
        insta::assert_snapshot!(code(&[("c.yaml", CLUSTER)]), @"c.yaml:2:7: error[RV0203]: no Node is declared");
        insta::assert_snapshot!(code(&[("b.yaml", CLUSTER), ("a.yaml", CLUSTER), ("n.yaml", &three_nodes())]), @"b.yaml:2:7: error[RV0202]: a second Cluster is declared (the first is at a.yaml:2:7)");
    }

    #[test]
    fn what_works_and_may_surprise_is_a_warning() {
        let two = format!("{CLUSTER}{}{}", node("a", "address: 10.99.0.10"), node("b", "address: 10.99.0.11"));
        let say = |text: &str| {
            let loaded = load_all(&[("x.yaml", text)]);
            assert!(loaded.desired.is_some());
            loaded.diagnostics.iter().map(|d| d.to_string()).collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!(say(&two), @"x.yaml:12:18: warning[RV0291]: two nodes have no majority when one is gone, so strict pools stop with either of them");
        let pool_of = |spec: &str| pool("web", spec);
        assert_eq!(say(&format!("{two}---\n{}", pool_of("  addresses: [10.99.0.100]\n  partition: available"))), "");
        assert_eq!(say(&format!("{two}{}", node("w", "address: 10.99.0.12, weight: 0"))), "");
        let one = format!(
            "{two}{}---\n{}",
            node("w", "address: 10.99.0.12, weight: 0").replace("r1", "r2"),
            pool_of("  addresses: ['fd99:0:0:1::/118']\n  prefer: [w]")
        );
        insta::assert_snapshot!(say(&one), @r#"
        x.yaml:24:14: warning[RV0293]: 1024 IPv6 VIPs with `attach: interface`: a node that gets them needs seconds to add them
        x.yaml:25:12: warning[RV0294]: preferred node `w` cannot own pool `web`
        "#);
        let three = format!(
            "{CLUSTER}{}{}---\n{}",
            three_nodes(),
            node("x", "address: 10.99.0.20").replace("r1", "r2"),
            pool_of("  addresses: [10.99.0.100]\n  nodeSelector: {matchLabels: {rack: r2}}")
        );
        insta::assert_snapshot!(say(&three), @"x.yaml:30:3: warning[RV0292]: node `x` alone can own pool `web`: nobody takes over");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = load(&[SourceFile { path: "x.yaml".into(), text: bytes.clone() }]);
            let _ = agent_file::parse_agent(&bytes, "node.yaml");
        }

        #[test]
        fn any_yaml_like_text_is_read_or_refused(
            words in proptest::collection::vec(
                prop_oneof![
                    Just("apiVersion: rendezvip/v1\n"), Just("kind: VipPool\n"), Just("kind: Node\n"), Just("kind: Cluster\n"), Just("kind: Agent\n"),
                    Just("metadata: {name: a}\n"), Just("spec:\n"), Just("spec: "), Just("  addresses: "), Just("  address: "), Just("  - "), Just("- "),
                    Just("["), Just("]"), Just("{"), Just("}"), Just(", "), Just(": "), Just("? "), Just("&a "), Just("*a"), Just("!x "), Just("|\n"), Just(">-\n"),
                    Just("\""), Just("'"), Just("#"), Just("\n"), Just("\t"), Just("\r"), Just("---\n"), Just("...\n"), Just("%YAML 1.2\n"), Just("\u{feff}"),
                    Just("é"), Just("10.0.0.0/8"), Just("fd99::"), Just("::/0"), Just("null"), Just("  "), Just("source: {git: "), Just("checks: "), Just("\u{85}"),
                ],
                0..40,
            )
        ) {
            let text = words.concat();
            let _ = load_all(&[("x.yaml", &text)]);
            let _ = agent_file::parse_agent(text.as_bytes(), "node.yaml");
        }
    }
}
