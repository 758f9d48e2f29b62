//! What the status files promise.

use super::super::samples::*;
use super::*;

#[test]
fn the_files_are_as_pinned() {
    let files = render(&snapshot(), &Files::new());
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "SUMMARY.md",
            "nodes/edge-a.yaml",
            "nodes/edge-b.yaml",
            "nodes/edge-c.yaml",
            "pools/db.yaml",
            "pools/web.yaml"
        ]
    );
    insta::assert_snapshot!(files["pools/web.yaml"]);
    insta::assert_snapshot!(files["nodes/edge-a.yaml"]);
    insta::assert_snapshot!(files["SUMMARY.md"]);
}

#[test]
fn a_settled_state_renders_identical_bytes_whoever_writes_it_and_when() {
    let first = render(&snapshot(), &Files::new());
    let mut later = snapshot();
    later.node = NodeName::new("edge-c").unwrap();
    later.at = Wall::from_millis(START + 3_600_000);
    for vip in &mut later.vips {
        vip.since = later.at;
    }
    for condition in &mut later.conditions {
        condition.since = later.at;
    }
    later.vips.reverse();
    assert_eq!(render(&later, &first), first);
}

#[test]
fn a_time_changes_with_what_it_dates_alone() {
    let first = render(&snapshot(), &Files::new());
    let second = render(&after_a_death(), &first);
    insta::assert_snapshot!(second["pools/web.yaml"]);
    assert_eq!(second["pools/db.yaml"], first["pools/db.yaml"]);
    assert!(second["nodes/edge-a.yaml"].contains("state: dead"));
}

#[test]
fn a_bad_commit_shows_where_it_is_bad_in_every_pool_and_node() {
    let mut bad = snapshot();
    bad.attempted = Some(revision(2));
    for member in &mut bad.members[..2] {
        member.attempted = Some(revision(2));
    }
    let message = "main@sha1:02 is refused: RV0410: pools/db.yaml:7:15: error[RV0214]: claimed twice";
    bad.conditions[2].status = Truth::True;
    bad.conditions[2].reason = "InvalidManifests".to_owned();
    bad.conditions[2].message = message.to_owned();
    let files = render(&bad, &Files::new());
    for (path, stalled) in [
        ("pools/web.yaml", true),
        ("nodes/edge-a.yaml", true),
        ("nodes/edge-b.yaml", true),
        ("nodes/edge-c.yaml", false),
    ] {
        assert_eq!(files[path].contains("pools/db.yaml:7:15"), stalled, "{path}: {}", files[path]);
    }
    assert!(files["pools/web.yaml"].contains("attemptedRevision: main@sha1:0202"));
    assert!(files["pools/web.yaml"].contains("observedRevision: main@sha1:0101"));
}

#[test]
fn a_foreign_claim_is_a_condition_of_its_pool() {
    let mut claimed = snapshot();
    claimed.vips[0].state = VipState::Conflict;
    claimed.vips[0].note = Some(Note::new("ForeignClaim", "claimed by 02:00:00:00:00:66 | as well"));
    let files = render(&claimed, &Files::new());
    insta::assert_snapshot!(files["pools/web.yaml"]);
    assert!(files["SUMMARY.md"].starts_with("# lab: 1 of 4 VIPs needs attention"), "{}", files["SUMMARY.md"]);
    assert!(files["SUMMARY.md"].contains("66 \\| as well |"));
}

#[test]
fn what_was_written_is_read_back() {
    for snapshot in [snapshot(), after_a_death()] {
        let files = render(&snapshot, &Files::new());
        let back = parse(&files, snapshot.node.clone(), snapshot.at);
        assert_eq!((&back.revision, back.digest), (&snapshot.revision, snapshot.digest));
        let owners = |s: &Snapshot| {
            let mut s = s.clone();
            s.sort();
            s.vips.into_iter().map(|v| (v.vip, v.pool, v.desired, v.actual, v.state)).collect::<Vec<_>>()
        };
        assert_eq!(owners(&back), owners(&snapshot));
        let states = |s: &Snapshot| s.members.iter().map(|m| (m.node.clone(), m.state)).collect::<Vec<_>>();
        assert_eq!(states(&back), states(&snapshot));
    }
}

#[test]
fn what_a_stranger_wrote_does_no_harm() {
    let strange: Files = [
        ("pools/web.yaml", "not: [ours"),
        ("pools/db.yaml", "apiVersion: other/v1\nkind: X"),
        ("nodes/edge-a.yaml", ""),
        ("x", "y"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into();
    assert_eq!(render(&snapshot(), &strange), render(&snapshot(), &Files::new()));
}

#[test]
fn a_large_pool_is_summed_up() {
    let mut large = snapshot();
    large.vips = (0..300).map(|n| vip(&format!("10.1.{}.{}", n / 100, n % 100 + 1), "large", "edge-a")).collect();
    let text = &render(&large, &Files::new())["SUMMARY.md"];
    assert!(text.contains("| edge-a | 300 | 300 |"), "{text}");
    assert!(text.lines().count() < 40);
}
