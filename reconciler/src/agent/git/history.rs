//! Did the history of a branch ever declare other nodes?
//!
//! In: a commit, the nodes that it declares. Out: [`History`]; any doubt is said to be one.
//! Not here: what follows for a first start (`engine`).
//!
//! A majority of the declared nodes may form a cluster only if no other set of names can have formed one
//! before; so every commit counts, on every line of the history, whether or not it would be valid today. All of
//! them may form one if each set of before needed some of them for its majority: nodes that formed one and lost
//! their memory void the old set's majority with it. Where a set of before has its majority without them, it may be
//! at work still, and they wait to be named by it.

use std::collections::{BTreeMap, BTreeSet};

use git2::{Oid, Repository, Sort};
use serde::Deserialize as _;

use super::child::{hash, manifests, oid, ticker, tree_at};
use super::protocol::History;
use crate::membership::protocol::outlives;
use crate::name::NodeName;
use crate::revision::CommitHash;

/// Commits that are looked at; beyond, it is a doubt.
const MOST: usize = 20_000;

/// Names of the nodes that a file declares; nothing where it cannot be read.
type Declared = Option<BTreeSet<String>>;

/// Walks the whole history of `commit`.
pub fn walk(repository: &Repository, commit: CommitHash, path: &str, nodes: &BTreeSet<NodeName>) -> History {
    let now: BTreeSet<String> = nodes.iter().map(ToString::to_string).collect();
    look(repository, commit, path, &now).unwrap_or_else(|error| History::Doubt(error.message().to_owned()))
}

fn look(
    repository: &Repository,
    commit: CommitHash,
    path: &str,
    now: &BTreeSet<String>,
) -> Result<History, git2::Error> {
    if repository.is_shallow() {
        return Ok(History::Doubt("the mirror is a shallow clone".to_owned()));
    }
    let mut walk = repository.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL)?;
    walk.push(oid(commit).map_err(|problem| git2::Error::from_str(&problem.message))?)?;
    let mut files: BTreeMap<Oid, Declared> = BTreeMap::new();
    let mut trees: BTreeSet<Oid> = BTreeSet::new();
    let mut tick = ticker();
    let mut other = None;
    for (count, id) in walk.enumerate() {
        tick();
        if count >= MOST {
            return Ok(History::Doubt(format!("the history has more than {MOST} commits")));
        }
        let id = id?;
        let Some(tree) = tree_at(repository, id, path)? else { continue };
        if !trees.insert(tree.id()) {
            continue;
        }
        let mut declared = BTreeSet::new();
        for (file, blob, plain) in manifests(&tree)? {
            let names = files.entry(blob).or_insert_with(|| if plain { read(repository, blob) } else { None });
            match names {
                Some(names) => declared.extend(names.iter().cloned()),
                None => return Ok(History::Doubt(format!("{file} cannot be read in {}", hash(id)))),
            }
        }
        // A commit without nodes can never have been activated.
        if !declared.is_empty() && declared != *now {
            if outlives(&declared, now) {
                return Ok(History::Replaced(hash(id)));
            }
            other.get_or_insert(hash(id));
        }
    }
    Ok(other.map_or(History::Same, History::Other))
}

fn read(repository: &Repository, blob: Oid) -> Declared {
    let blob = repository.find_blob(blob).ok()?;
    let mut names = BTreeSet::new();
    for document in serde_yaml::Deserializer::from_slice(blob.content()) {
        let document = serde_yaml::Value::deserialize(document).ok()?;
        let text = |value: &serde_yaml::Value| value.as_str().map(str::to_owned);
        let kind = document.get("kind").and_then(text);
        if kind.as_deref() == Some("Node") {
            names.insert(document.get("metadata").and_then(|metadata| metadata.get("name")).and_then(text)?);
        }
    }
    Some(names)
}
