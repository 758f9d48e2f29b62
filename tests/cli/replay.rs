//! `rendezvip simulate --replay`: a recording plays again, and one that is not whole is refused.

use std::path::PathBuf;
use std::time::Duration;

use rendezvip::engine::recording::{Decided, Entry, Reader, Writer};
use rendezvip::sim::{Options, run as simulate};
use tempfile::TempDir;

use crate::run;

/// The first life of a node of a simulated cluster.
pub fn recording() -> Vec<u8> {
    let options = Options { span: Duration::from_secs(20), record: Some(1), ..Options::default() };
    simulate(&options).recordings.remove(0)
}

/// The same, by an engine that let go of its lease where this one first has it.
pub fn of_another_engine() -> Vec<u8> {
    let whole = recording();
    let (mut reader, birthday) = Reader::open(&whole[..]).unwrap();
    let mut writer = Writer::begin(Vec::new(), &birthday).unwrap();
    let mut changed = false;
    loop {
        let mut entry = reader.entry().unwrap();
        match &mut entry {
            Entry::End(ending) => return writer.end(*ending).unwrap(),
            Entry::Step { decided: Some(decided), .. } if !changed => {
                if let Some(lease) = decided.iter_mut().find(|one| one.words.starts_with("lease for")) {
                    *lease = Decided { words: "no lease".to_owned(), check: [0; 4] };
                    changed = true;
                }
            }
            Entry::Step { .. } => {}
        }
        writer.entry(&postcard::to_allocvec(&entry).unwrap()).unwrap();
    }
}

struct Kept {
    folder: TempDir,
}

impl Kept {
    fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("edge-b.recording"), bytes).unwrap();
        Self { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("edge-b.recording")
    }

    /// What playing it shows; how many events there are is no promise.
    fn play(&self, more: &[&str]) -> String {
        let path = self.path();
        let mut arguments = vec!["simulate", "--replay", path.to_str().unwrap()];
        arguments.extend(more);
        let shown = run(&arguments).replace(self.folder.path().to_str().unwrap(), "/tmp");
        let numbers = [
            (r"\d+ events over [\d.]+ s, \d+ actions", "[n] events over [t] s, [n] actions"),
            (r"event \d+, [\d.]+ s in(, at [\d:.TZ-]+)?", "event [n], [t] s in, at [time]"),
            (r"(datagram|heartbeat) \d+", "$1 [n]"),
            (r"@\d{13}", "@[epoch]"),
            (r"lease for [\d.]+ ms", "lease for [t] ms"),
            (r"byte \d+", "byte [n]"),
            (r#""(epoch|events|actions|span_ms|event|at_us)": \d+"#, r#""$1": "[n]""#),
            (r"20\d\d-\d\d-\d\dT[\d:.]+Z", "[time]"),
        ];
        numbers.into_iter().fold(shown, |shown, (pattern, text)| {
            regex::Regex::new(pattern).unwrap().replace_all(&shown, text).into_owned()
        })
    }
}

#[test]
fn a_recording_plays_to_the_same_actions() {
    let kept = Kept::new(&recording());
    insta::assert_snapshot!(kept.play(&[]));
    insta::assert_snapshot!(kept.play(&["--format", "json"]));
    let explained = kept.play(&["--explain"]);
    assert!(explained.contains("[a deadline came]") && explained.contains("Note(View("), "{explained}");
}

#[test]
fn an_engine_that_decides_otherwise_is_shown_where_it_does() {
    let kept = Kept::new(&of_another_engine());
    insta::assert_snapshot!(kept.play(&[]));
    insta::assert_snapshot!(kept.play(&["--format", "json"]));
}

#[test]
fn a_file_that_is_cut_damaged_strange_or_of_another_format_is_refused() {
    let whole = recording();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    let format_2 = [b"rendezvip recording 2\n".as_slice(), &whole[22..]].concat();
    let cut = whole[..whole.len() - 5].to_vec();
    let cases = [whole[..30].to_vec(), cut, damaged, format_2, b"kind: VipPool\n".to_vec(), Vec::new()];
    let shown: Vec<String> = cases.iter().map(|bytes| Kept::new(bytes).play(&[])).collect();
    insta::assert_snapshot!(shown.join("\n"));
    insta::assert_snapshot!(run(&["simulate", "--replay", "no/such/file"]));
}

#[test]
fn a_recording_is_played_alone() {
    let shown = run(&["simulate", "--replay", "x", "--seed", "3"]);
    assert!(shown.starts_with("exit: 64\n") && shown.contains("'--seed <SEED>'"), "{shown}");
}
