//! `rendezvip schema`: what is checked in is up to date, takes every example, and refuses what is plainly wrong.

use std::path::Path;

use regex::Regex;
use serde_json::{Value, json};

use crate::{rendezvip, run, top};

/// A checker for the keywords that our schemas use; an unknown one fails, so that none goes unchecked. (The pipeline holds the
/// examples against a real one too.)
fn check(root: &Value, schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) {
    let Value::Object(keywords) = schema else { panic!("{path}: {schema} is no schema") };
    let mut problem = |what: String| problems.push(format!("{path}: {what}"));
    let passes = |schema: &Value| {
        let mut inner = Vec::new();
        check(root, schema, value, path, &mut inner);
        inner
    };
    for (keyword, rule) in keywords {
        match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "format" | "then" => {}
            "$ref" => {
                let pointer = rule.as_str().and_then(|r| r.strip_prefix('#')).expect("a local reference");
                passes(root.pointer(pointer).expect("it is defined")).into_iter().for_each(&mut problem);
            }
            "type" => {
                let name = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(_) => "integer",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                if rule != name && !rule.as_array().is_some_and(|names| names.contains(&json!(name))) {
                    problem(format!("{name} is not {rule}"));
                }
            }
            "const" if value != rule => problem(format!("{value} is not {rule}")),
            "const" => {}
            "enum" if !rule.as_array().expect("a list").contains(value) => problem(format!("{value} is not of {rule}")),
            "enum" => {}
            "pattern" => {
                let pattern = Regex::new(rule.as_str().expect("a text")).expect("a pattern");
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    problem(format!("{value} does not match {rule}"));
                }
            }
            "minimum" | "maximum" => {
                let (bound, value) = (rule.as_i64().expect("a number"), value.as_i64().unwrap_or_default());
                if (keyword == "minimum" && value < bound) || (keyword == "maximum" && value > bound) {
                    problem(format!("{value} is out of bounds"));
                }
            }
            "minItems" | "minProperties" | "maxProperties" | "minLength" | "maxLength" => {
                let size = match value {
                    Value::Array(items) => items.len(),
                    Value::Object(keys) => keys.len(),
                    Value::String(text) => text.chars().count(),
                    _ => continue,
                };
                let bound = rule.as_u64().expect("a number") as usize;
                if (keyword.starts_with("min") && size < bound) || (keyword.starts_with("max") && size > bound) {
                    problem(format!("its size {size} is out of bounds"));
                }
            }
            "uniqueItems" => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                if items.iter().enumerate().any(|(index, item)| items[..index].contains(item)) {
                    problem("an item twice".into());
                }
            }
            "required" => {
                for key in rule.as_array().expect("a list").iter().filter_map(Value::as_str) {
                    if value.as_object().is_some_and(|keys| !keys.contains_key(key)) {
                        problem(format!("no {key}"));
                    }
                }
            }
            "properties" | "additionalProperties" | "items" => {}
            "allOf" => {
                for schema in rule.as_array().expect("a list") {
                    passes(schema).into_iter().for_each(&mut problem);
                }
            }
            "anyOf" | "oneOf" => {
                let fit = rule.as_array().expect("a list").iter().filter(|schema| passes(schema).is_empty()).count();
                if fit == 0 || (keyword == "oneOf" && fit > 1) {
                    problem(format!("{fit} of {keyword} fit {value}"));
                }
            }
            "if" => {
                if passes(rule).is_empty() {
                    passes(&keywords["then"]).into_iter().for_each(&mut problem);
                }
            }
            other => panic!("keyword `{other}` is not known to this test"),
        }
    }
    match value {
        Value::Object(keys) => {
            for (key, value) in keys {
                let path = format!("{path}/{key}");
                if let Some(schema) = keywords.get("properties").and_then(|properties| properties.get(key)) {
                    check(root, schema, value, &path, problems);
                } else {
                    match keywords.get("additionalProperties") {
                        Some(Value::Bool(false)) => problems.push(format!("{path}: unknown key")),
                        Some(schema) => check(root, schema, value, &path, problems),
                        None => {}
                    }
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(schema) = keywords.get("items") {
                    check(root, schema, item, &format!("{path}/{index}"), problems);
                }
            }
        }
        _ => {}
    }
}

fn problems(schema: &str, value: &Value) -> Vec<String> {
    let text = std::fs::read_to_string(top().join("schemas").join(schema)).expect("it is checked in");
    let schema: Value = serde_json::from_str(&text).expect("it is JSON");
    let mut problems = Vec::new();
    check(&schema, &schema, value, "", &mut problems);
    problems
}

fn documents(path: &Path) -> Vec<Value> {
    use serde::Deserialize as _;
    let text = std::fs::read_to_string(path).expect("it is read");
    serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).expect("it is YAML"))
        .collect()
}

fn yaml_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn the_schemas_that_are_checked_in_are_those_that_the_program_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let status = rendezvip().args(["schema", "--out"]).arg(folder.path()).status().expect("it runs");
    assert!(status.success());
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
        let fresh = std::fs::read_to_string(entry.path()).expect("it is read");
        let checked_in = std::fs::read_to_string(top().join("schemas").join(entry.file_name())).unwrap_or_default();
        assert!(fresh == checked_in, "{:?} is stale: `rendezvip schema --out schemas`", entry.file_name());
        files += 1;
    }
    assert_eq!(files, 5);
}

#[test]
fn every_example_passes_the_schema_of_its_kind_and_the_one_of_all() {
    let mut files = Vec::new();
    yaml_files(&top().join("examples"), &mut files);
    assert!(files.len() > 20);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it is read");
        for document in documents(&file) {
            let kind = document["kind"].as_str().expect("a kind").to_lowercase();
            for schema in ["manifest.json".to_owned(), format!("{kind}.json")] {
                assert_eq!(problems(&schema, &document), [""; 0], "{}", file.display());
            }
            // A file of several documents names the schema that switches on `kind`.
            let named = if text.contains("\n---\n") { "manifest" } else { kind.as_str() };
            let modeline = format!("main/schemas/{named}.json\n");
            assert!(
                text.starts_with("# yaml-language-server: $schema=https://") && text.contains(&modeline),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn what_is_plainly_wrong_does_not_pass() {
    let pool = |spec: Value| {
        let pool = json!({"apiVersion": "rendezvip/v1", "kind": "VipPool", "metadata": {"name": "web"}, "spec": spec});
        (problems("manifest.json", &pool), problems("vippool.json", &pool))
    };
    assert_eq!(
        pool(json!({"addresses": ["10.0.0.1", "fd00::1", "10.0.0.0/28", "10.0.0.1-10.0.0.9"]})),
        (vec![], vec![])
    );
    assert_eq!(pool(json!({"addresses": ["10.0.0.1"], "failback": "manual"})), (vec![], vec![]));
    for spec in [
        json!({}),
        json!({"addresses": []}),
        json!({"addresses": [10]}),
        json!({"addresses": ["10.0.0.1"], "prefer": null}),
        json!({"addresses": ["10.0.0.1"], "atach": "none"}),
        json!({"addresses": ["10.0.0.1"], "attach": "nowhere"}),
        json!({"addresses": ["10.0.0.1"], "failback": {"after": 10}}),
        json!({"addresses": ["10.0.0.1"], "failback": "never"}),
        json!({"addresses": ["10.0.0.1"], "interfaces": ["eth0", "eth0"]}),
    ] {
        let (any, own) = pool(spec.clone());
        assert!(!any.is_empty() && !own.is_empty(), "{spec}");
    }
}

#[test]
fn a_kind_is_named_in_any_case() {
    let schema = run(&["schema", "vippool"]);
    assert_eq!(schema, run(&["schema", "VipPool"]));
    assert!(schema.contains("\"title\": \"VipPool\""));
    assert!(run(&["schema", "Pool"]).starts_with("exit: 64\n"));
    assert!(run(&["schema"]).contains("\"then\""));
}

/// Each is wrong in one way, and its first line says in which. `check-jsonschema` refuses them in the pipeline too.
#[test]
fn every_wrong_file_is_refused_by_the_schemas_and_by_validate() {
    let mut files = Vec::new();
    yaml_files(&top().join("tests/cli/cases/wrong"), &mut files);
    assert!(files.len() > 30);
    for file in files {
        let shown = file.display();
        let text = std::fs::read_to_string(&file).expect("it is read");
        assert!(text.starts_with("# "), "{shown} says what is wrong");
        for document in documents(&file) {
            let kind = document["kind"].as_str().expect("a kind").to_lowercase();
            assert!(!problems("manifest.json", &document).is_empty(), "{shown} passes the schema of all");
            if top().join(format!("schemas/{kind}.json")).exists() {
                assert!(!problems(&format!("{kind}.json"), &document).is_empty(), "{shown} passes its own schema");
            }
            let said = if kind == "agent" {
                run(&["validate", "--agent", file.to_str().expect("UTF-8")])
            } else {
                // Beside a sound cluster, so that nothing but this file is at fault.
                let folder = tempfile::tempdir().expect("a folder");
                let mut beside = Vec::new();
                let lab = top().join("examples/minimal-lab");
                yaml_files(&lab, &mut beside);
                for other in beside {
                    let to = folder.path().join(other.strip_prefix(&lab).expect("it is below"));
                    std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
                    std::fs::copy(other, to).expect("it is copied");
                }
                let place = if kind == "cluster" { "cluster.yaml" } else { "wrong.yaml" };
                std::fs::write(folder.path().join(place), &text).expect("it is written");
                let said = run(&["validate", folder.path().to_str().expect("UTF-8")]);
                assert!(said.contains(&format!("\n{place}:")) && said.contains("\n1 error\n"), "{shown}: {said}");
                said
            };
            assert!(said.starts_with("exit: 1\n"), "{shown}: {said}");
        }
    }
}
