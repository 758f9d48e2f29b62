//! Rooms: each module says what it answers, imports point one way, the pure ones touch nothing.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::{File, none, read, sources};

const SRC: &str = "reconciler/src/";

/// A row of the table of rooms in ARCHITECTURE.md: a room, and whether it may touch the host.
struct Room {
    name: String,
    pure: bool,
}

/// The rooms in the order in which imports go.
fn rooms() -> Vec<Room> {
    let map = read("ARCHITECTURE.md");
    let row = Regex::new(r"(?m)^\| `(\w+)(?:/|\.rs)` \|.*\| (pure|sans-IO|IO) \|$").unwrap();
    row.captures_iter(&map).map(|row| Room { name: row[1].to_owned(), pure: &row[2] != "IO" }).collect()
}

fn room_of(file: &File) -> &str {
    let inner = file.path.strip_prefix(SRC).expect("a source of the crate");
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
}

/// The code of a file without its comments, line by line, numbered from 1.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| {
        let end = if line.trim_start().starts_with("//") { 0 } else { line.find(" // ").unwrap_or(line.len()) };
        (at + 1, &line[..end])
    })
}

#[test]
fn the_map_lists_every_room_once() {
    let listed: Vec<String> = rooms().into_iter().map(|room| room.name).collect();
    let declared: BTreeSet<String> = Regex::new(r"(?m)^(?:pub )?mod (\w+);")
        .unwrap()
        .captures_iter(&read("reconciler/src/lib.rs"))
        .map(|found| found[1].to_owned())
        .collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), declared);
    assert_eq!(listed.len(), declared.len(), "a room is listed twice: {listed:?}");
}

#[test]
fn every_module_says_what_comes_in_what_goes_out_and_what_is_not_here() {
    let all = sources("reconciler/src");
    let mut found = Vec::new();
    for file in &all {
        let header: String = file.text.lines().take_while(|line| line.starts_with("//!")).collect();
        if header.len() < "//! A line.".len() {
            found.push(format!("{} has no header", file.path));
            continue;
        }
        // The crate's two roots have no ins and outs; a file of tests says what it tries.
        if ["lib.rs", "main.rs"].contains(&&file.path[SRC.len()..]) || is_of_tests(file, &all) {
            continue;
        }
        for part in ["In", "Out", "Not here"] {
            if !Regex::new(&format!(r"\b{part}[:,]")).unwrap().is_match(&header) {
                found.push(format!("{} does not say `{part}:`", file.path));
            }
        }
    }
    for file in ["tests", "bench", "fuzz"].into_iter().flat_map(sources) {
        if !file.text.starts_with("//! ") {
            found.push(format!("{} has no header", file.path));
        }
    }
    none(&found, "modules without their header");
}

/// Is the module declared for tests alone?
fn is_of_tests(file: &File, all: &[File]) -> bool {
    let (folder, name) = file.path.rsplit_once('/').expect("a folder");
    let stem = name.trim_end_matches(".rs");
    let parents = [format!("{folder}/mod.rs"), format!("{folder}.rs")];
    all.iter().any(|parent| {
        let named = parents.contains(&parent.path) && parent.text.contains(&format!("#[cfg(test)]\nmod {stem};"));
        let beside = parent.path.starts_with(folder)
            && parent.text.contains(&format!("#[cfg(test)]\n#[path = \"{name}\"]\nmod tests;"));
        named || beside
    })
}

/// One room's import of another.
struct Import {
    from: String,
    to: String,
    place: String,
}

fn imports(file: &File, names: &[String]) -> Vec<Import> {
    let from = room_of(file);
    let inner = &file.path[SRC.len()..];
    let depth = inner.trim_end_matches("/mod.rs").split('/').count();
    let path = Regex::new(r"\b(?:crate|rendezvip|((?:super::)*super))::(\w+|\{[^}]*)").unwrap();
    let word = Regex::new(r"(?:^|[{,])\s*(\w+)").unwrap();
    let mut found = Vec::new();
    // The indents of the inline modules that a line stands in.
    let mut inline: Vec<usize> = Vec::new();
    for (at, line) in code(&file.text) {
        let indent = line.len() - line.trim_start().len();
        let bare = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        if line.trim() == "}" && inline.last() == Some(&indent) {
            inline.pop();
        }
        for hit in path.captures_iter(line) {
            let up = hit.get(1).map(|supers| supers.as_str().split("::").count());
            if up.is_some_and(|up| up != depth + inline.len()) {
                continue;
            }
            for target in word.captures_iter(&hit[2]) {
                if names.iter().any(|name| *name == target[1]) && target[1] != *from {
                    let place = format!("{}:{at}", file.path);
                    found.push(Import { from: from.to_owned(), to: target[1].to_owned(), place });
                }
            }
        }
        if bare.starts_with("mod ") && bare.ends_with('{') {
            inline.push(indent);
        }
    }
    found
}

#[test]
fn imports_point_one_way_down_the_list_of_rooms() {
    let names: Vec<String> = rooms().into_iter().map(|room| room.name).collect();
    let rank: BTreeMap<&str, usize> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
    let mut wrong = Vec::new();
    let mut right = 0;
    for file in sources("reconciler/src") {
        let Some(own) = rank.get(room_of(&file)) else { continue };
        for import in imports(&file, &names) {
            if rank[import.to.as_str()] > *own {
                right += 1;
            } else {
                wrong.push(format!("{}: `{}` imports `{}`", import.place, import.from, import.to));
            }
        }
    }
    none(&wrong, "imports that point up the list in ARCHITECTURE.md");
    assert!(right > 100, "only {right} imports were understood");
}

#[test]
fn an_import_is_seen_however_it_is_written() {
    let names = ["engine", "wire", "name"].map(str::to_owned);
    let seen = |path: &str, text: &str| -> Vec<String> {
        let file = File { path: format!("{SRC}{path}"), text: text.to_owned() };
        imports(&file, &names).into_iter().map(|import| import.to).collect()
    };
    assert_eq!(seen("wire/arp.rs", "use crate::engine::Engine;"), ["engine"]);
    assert_eq!(seen("wire/arp.rs", "use crate::{engine::{a, b}, name};"), ["engine"]);
    assert_eq!(seen("wire/arp.rs", "use crate::{name, engine};"), ["name", "engine"]);
    assert_eq!(seen("wire/arp.rs", "fn f(_: super::super::engine::Event) {}"), ["engine"]);
    assert_eq!(seen("wire/mod.rs", "use super::engine;"), ["engine"]);
    assert_eq!(seen("wire/mod.rs", "mod tests {\n    use super::engine;\n}\n"), [""; 0]);
    assert_eq!(seen("wire/mod.rs", "mod tests {\n    use super::super::engine;\n}\n"), ["engine"]);
    assert_eq!(seen("wire/arp.rs", "use crate::wire::ndp; // crate::engine\n// use crate::engine;"), [""; 0]);
}

#[test]
fn the_pure_rooms_touch_no_clock_no_socket_no_file_and_no_random_order() {
    let forbidden = Regex::new(concat!(
        r"\b(?:(?:std::time::)?(?:Instant|SystemTime|Utc|Zoned|Timestamp)::now|SystemTime|HashMap|HashSet|RandomState",
        r"|tokio|notify|git2|axum|nix|libc|socket2|netlink_\w+|getrandom|thread_rng|rand::rng|OsRng",
        r"|(?:std::)?fs::\w+|std::fs|std::env|std::process|std::os|std::io::std(?:in|out|err)|thread::(?:spawn|sleep)",
        r"|(?:Udp|Unix)(?:Socket|Datagram|Stream|Listener)|Tcp(?:Stream|Listener)|from_secs_f(?:32|64))\b",
    ))
    .unwrap();
    assert!(forbidden.is_match("use std::collections::{BTreeMap, HashMap};") && forbidden.is_match("fs::read(path)"));
    assert!(!forbidden.is_match("now: Instant, offset::<u8>(at)"));
    let pure: BTreeSet<String> = rooms().into_iter().filter(|room| room.pure).map(|room| room.name).collect();
    assert!(pure.len() >= 14, "{pure:?}");
    let mut found = Vec::new();
    for file in sources("reconciler/src").iter().filter(|file| pure.contains(room_of(file))) {
        for (at, line) in code(&file.text) {
            if let Some(hit) = forbidden.find(line) {
                found.push(format!("{}:{at}: `{}`", file.path, hit.as_str()));
            }
        }
    }
    none(&found, "what only agent/, lab/ and cli/ may touch, in a pure room");
}

#[test]
fn an_engine_is_changed_by_step_alone() {
    let text = read("reconciler/src/engine/mod.rs");
    let doors = Regex::new(r"(?m)^    pub(?:\(\w+\))? (?:const )?fn (\w+)\(\s*&mut self").unwrap();
    let found: Vec<&str> = doors.captures_iter(&text).map(|door| door.get(1).expect("a name").as_str()).collect();
    assert_eq!(found, ["step"], "a recording has what `step` was told and nothing else");
}
