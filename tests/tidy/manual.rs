//! The manual: every code has its section, every path and test that is named exists, every field is explained.

use std::collections::BTreeSet;

use regex::Regex;

use crate::{files, none, read, sources, top};

fn codes(text: &str, pattern: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_code_has_a_section_and_every_section_a_code() {
    let manual = codes(&read("docs/errors.md"), r"(?m)^## (RV\d{4}): ");
    let used: BTreeSet<String> =
        sources("reconciler/src").iter().flat_map(|file| codes(&file.text, r"\b(RV\d{4})\b")).collect();
    let missing: Vec<String> = used.difference(&manual).map(|code| format!("{code} has no section")).collect();
    let idle: Vec<String> = manual.difference(&used).map(|code| format!("{code} is not said anywhere")).collect();
    none(&[missing, idle].concat(), "docs/errors.md and the source differ");
}

/// Paths in code spans of ARCHITECTURE.md: with a `/` or an ending, and nothing that a path has not.
#[test]
fn every_path_in_the_map_exists() {
    let text = read("ARCHITECTURE.md");
    let span =
        Regex::new(r"`([a-z0-9_.*/-]+(?:/|\.(?:rs|md|toml|yaml|json|txt|py))|[a-z0-9_.-]+/[a-z0-9_./-]+)`").unwrap();
    let mut found = Vec::new();
    let mut seen = 0;
    for path in span.captures_iter(&text).map(|span| span[1].to_owned()) {
        if path == "status/SUMMARY.md" || path == "rendezvip/status" {
            continue; // On the status branch, not in this tree.
        }
        seen += 1;
        if !["", "reconciler/src/"].iter().any(|base| top().join(base).join(&path).exists()) {
            found.push(path);
        }
    }
    assert!(seen > 20, "only {seen} paths were understood");
    none(&found, "paths that ARCHITECTURE.md names and nobody has");
}

/// In the table of invariants each check is a path or the name of a test.
#[test]
fn every_check_that_guards_an_invariant_exists() {
    let text = read("ARCHITECTURE.md");
    let tests: BTreeSet<String> = ["reconciler", "tests"]
        .into_iter()
        .flat_map(sources)
        .flat_map(|file| codes(&file.text, r"\bfn (\w+)\("))
        .collect();
    let row = Regex::new(r"(?m)^\| I\d+ \|.*$").unwrap();
    let span = Regex::new(r"`(\w+_\w+_\w+)`").unwrap();
    let mut found = Vec::new();
    for row in row.find_iter(&text) {
        let guards: Vec<String> = span.captures_iter(row.as_str()).map(|span| span[1].to_owned()).collect();
        if guards.is_empty() && !row.as_str().contains(".rs`") {
            found.push(format!("nothing guards: {}", row.as_str()));
        }
        found.extend(guards.into_iter().filter(|name| !tests.contains(name)).map(|name| format!("no test {name}")));
    }
    none(&found, "invariants without a check");
}

/// Links of Markdown to files of this tree.
#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)").unwrap();
    let mut found = Vec::new();
    for file in files("").into_iter().filter(|file| file.path.ends_with(".md")) {
        let folder = top().join(&file.path).parent().expect("a folder").to_path_buf();
        for target in link.captures_iter(&file.text).map(|link| link[1].to_owned()) {
            if !folder.join(&target).exists() {
                found.push(format!("{}: {target}", file.path));
            }
        }
    }
    none(&found, "links to nowhere");
}

/// The names of all properties in a schema.
fn properties(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                if key == "properties"
                    && let Some(named) = value.as_object()
                {
                    found.extend(named.keys().cloned());
                }
                properties(value, found);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| properties(item, found)),
        _ => {}
    }
}

#[test]
fn the_manual_explains_every_field() {
    let mut found = Vec::new();
    for (page, schemas) in [
        ("docs/node.md", &["schemas/agent.json"][..]),
        ("docs/repository.md", &["schemas/cluster.json", "schemas/node.json", "schemas/vippool.json"]),
    ] {
        let text = read(page);
        let mut fields = BTreeSet::new();
        for schema in schemas {
            properties(&serde_json::from_str(&read(schema)).expect("a schema is JSON"), &mut fields);
        }
        assert!(fields.len() > 15, "{page}: only {} fields were understood", fields.len());
        // A field stands in a code span, alone or as a part of its path.
        let spans = codes(&text, r"`([^`\n]+)`");
        let words: BTreeSet<&str> =
            spans.iter().flat_map(|span| span.split(|c: char| !c.is_ascii_alphanumeric())).collect();
        for field in fields.iter().filter(|field| !words.contains(field.as_str())) {
            found.push(format!("{page}: `{field}` is not explained"));
        }
    }
    none(&found, "fields that the schemas have and the manual has not");
}

#[test]
fn the_manual_lists_every_metric() {
    let page = read("docs/metrics.md");
    let source = read("reconciler/src/agent/metrics.rs");
    let names = codes(&source, r#""(rendezvip_[a-z_]+)""#);
    assert!(names.len() > 10, "{names:?}");
    let missing: Vec<String> = names.into_iter().filter(|name| !page.contains(name.as_str())).collect();
    none(&missing, "metrics that docs/metrics.md does not list");
}
