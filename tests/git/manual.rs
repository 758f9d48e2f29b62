//! The manual of errors, where it speaks of git: what a port really says is what stands there.

use std::fs;
use std::path::Path;
use std::process::Command;

use rendezvip::agent::git::protocol::{Rule, Signers};
use rendezvip::source::Seen;
use rendezvip::source::problem::Problem;

use crate::http::serve;
use crate::port::{Port, Repository, git};

/// The last block of a code's section.
fn shown(code: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/errors.md");
    let manual = fs::read_to_string(path).unwrap();
    let (_, section) = manual.split_once(&format!("\n## {code}: ")).expect("a section");
    let section = section.split("\n## ").next().unwrap();
    section.rsplit("```text\n").next().unwrap().split("```").next().unwrap().to_owned()
}

fn problem(seen: Seen) -> Problem {
    match seen {
        Seen::Failed(problem) | Seen::Revision { parsed: Err(problem), .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_said_of_a_source_is_what_the_manual_shows() {
    let repository = Repository::new();
    let path = repository.bare().display().to_string();
    let said = |problem: &Problem| format!("{}\n", problem.to_string().replace(&path, "/srv/vips.git"));

    assert_eq!(said(&problem(Port::new("/srv/vips.git").pull(None, None, None))), shown("RV0401"));

    let url = serve(repository.dir.path(), true);
    let refused = problem(Port::new(&url).pull(None, None, None)).to_string();
    assert_eq!(format!("{}\n", refused.replace(&url, "https://git.example/vips.git")), shown("RV0405"));

    let other = Port::with(&path, |config| config.source.as_mut().unwrap().branch = "release".to_owned());
    assert_eq!(said(&problem(other.pull(None, None, None))), shown("RV0407"));

    let signers = repository.dir.path().join("signers");
    fs::write(&signers, "").unwrap();
    let strict = Port::with(&path, |config| {
        let signers = Signers { rule: Rule::Head, allowed_signers_file: Some(signers), keyring_file: None };
        config.source.as_mut().unwrap().signers = Some(signers);
    });
    let head = repository.head("main").to_string();
    let unsigned = said(&problem(strict.pull(None, None, None)));
    assert_eq!(unsigned.replace(&head[..12], "1d21adf76b94"), shown("RV0409"));

    let bad = "apiVersion: rendezvip/v1\nkind: VipPool\nmetadata: {name: db}\nspec: {addresses: [127.0.0.1]}\n";
    repository.commit(&[("pools/db.yaml", Some(bad))]);
    assert_eq!(said(&problem(Port::new(&path).pull(None, None, None))), shown("RV0410"));

    repository.commit(&[("pools/db.yaml", None)]);
    let folder = repository.work().join("pools");
    fs::create_dir_all(&folder).unwrap();
    let linked = Command::new("ln").args(["-s", "../web.yaml", "web.yaml"]).current_dir(folder).status();
    assert!(linked.unwrap().success());
    git(&repository.work(), &["add", "pools"]);
    repository.commit(&[]);
    assert_eq!(said(&problem(Port::new(&path).pull(None, None, None))), shown("RV0408"));
}
