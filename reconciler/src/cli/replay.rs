//! `rendezvip simulate --replay`: what one node was told, told again, and whether it decides the same.
//!
//! In: a recording. Out: what was found, as text or JSON. Not here: playing it (`engine::replay`), recording (`agent`).

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::exit::Exit;
use super::failure::Failure;
use super::terminal;
use crate::engine::recording::{Birthday, Decided, Ending, FORMAT, Unreadable};
use crate::engine::replay::{Next, Played, Player};
use crate::name::NodeName;
use crate::status::wall::Wall;
use crate::time::micros;

/// What scripts read.
#[derive(Debug, Serialize)]
struct Found {
    node: NodeName,
    epoch: u64,
    build: String,
    recorded: Wall,
    events: u64,
    actions: u64,
    span_ms: u64,
    ended: Option<&'static str>,
    same: bool,
    difference: Option<Difference>,
}

/// The first step that is not as it was.
#[derive(Debug, Serialize)]
struct Difference {
    event: u64,
    at_us: u64,
    time: Wall,
    told: String,
    then: Option<Vec<String>>,
    now: Option<Vec<String>>,
}

/// Plays a recording and prints what was found.
pub fn run(path: &Path, explain: bool, json: bool) -> Exit {
    let refused = |unreadable: Unreadable| failure(path, &unreadable, None);
    let opened = File::open(path).map_err(|error| refused(Unreadable::Io(error)));
    let player = opened.and_then(|file| Player::open(BufReader::new(file)).map_err(refused));
    let mut player = match player {
        Ok(player) => player,
        Err(failure) => {
            eprintln!("{failure}");
            return Exit::Bad;
        }
    };
    let (found, failure) = play(path, &mut player, explain);
    let text = if json { serde_json::to_string_pretty(&found).unwrap_or_default() + "\n" } else { human(&found) };
    let written = terminal::hand_over(&text);
    for failure in failure.iter().chain(written.as_ref().err()) {
        eprintln!("{failure}");
    }
    if found.same && failure.is_none() && written.is_ok() { Exit::Fine } else { Exit::Bad }
}

/// Plays up to the end, to the first difference or to where the file cannot be read on.
fn play(path: &Path, player: &mut Player<BufReader<File>>, explain: bool) -> (Found, Option<Failure>) {
    let Birthday { birth, build, wall_ms, .. } = player.birthday().clone();
    let (mut actions, mut ended, mut difference, mut unread) = (0, None, None, None);
    while ended.is_none() && difference.is_none() {
        match player.play() {
            Ok(Next::End(ending)) => ended = Some(ending),
            Ok(Next::Step(played)) => {
                if explain {
                    print!("{}", explained(&played));
                }
                actions += played.now.as_ref().map_or(0, |now| now.len() as u64);
                if !played.is_same() {
                    difference = Some(differs(&played, wall_ms));
                } else if played.now.is_none() {
                    // It died of this then, and does so again.
                    ended = Some(Ending::Died);
                }
            }
            Err(unreadable) => {
                unread = Some(failure(path, &unreadable, Some((player.steps(), player.span()))));
                break;
            }
        }
    }
    let found = Found {
        node: birth.me,
        epoch: birth.epoch,
        build,
        recorded: Wall::from_millis(wall_ms),
        events: player.steps(),
        actions,
        span_ms: micros(player.span()) / 1000,
        ended: ended.map(|ending| match ending {
            Ending::Stopped => "stopped",
            Ending::Full => "full",
            Ending::Overrun => "overrun",
            Ending::Died => "died",
        }),
        same: difference.is_none(),
        difference,
    };
    (found, unread)
}

fn differs(played: &Played, wall_ms: u64) -> Difference {
    let words = |decided: &[Decided]| decided.iter().map(|one| one.words.clone()).collect();
    let mut now: Option<Vec<String>> = played.now.as_deref().map(words);
    // Two that read the same and are not.
    if let (Some(then), Some(decided), Some(now)) = (&played.then, &played.now, &mut now) {
        for ((then, decided), text) in then.iter().zip(decided).zip(now) {
            if then.words == decided.words && then.check != decided.check {
                text.push_str(", with other contents");
            }
        }
    }
    let at_us = micros(played.at);
    Difference {
        event: played.number,
        at_us,
        time: Wall::from_millis(wall_ms.saturating_add(at_us / 1000)),
        told: played.told.clone(),
        then: played.then.as_deref().map(words),
        now,
    }
}

/// A step for a person who looks for a cause; nothing where it says nothing.
fn explained(played: &Played) -> String {
    use crate::engine::action::Action;

    let told = played.actions.iter().filter(|action| !matches!(action, Action::Send(_) | Action::Lease(_)));
    let told: Vec<String> = told.map(|action| format!("{action:?}")).collect();
    if told.is_empty() {
        return String::new();
    }
    format!("{} {} [{}] {}\n", played.number, seconds(played.at), played.told, told.join(" | "))
}

fn seconds(span: Duration) -> String {
    format!("{}.{:06} s", span.as_secs(), span.subsec_micros())
}

fn human(found: &Found) -> String {
    let mut text =
        format!("{}@{}, recorded by rendezvip {} since {}\n", found.node, found.epoch, found.build, found.recorded);
    let build = env!("CARGO_PKG_VERSION");
    if found.build != build {
        text.push_str(&format!("played by rendezvip {build}, which may mean to decide otherwise\n"));
    }
    if let Some(difference) = &found.difference {
        let list = |decided: &Option<Vec<String>>, died: &str| match decided.as_deref() {
            None => died.to_owned(),
            Some([]) => "nothing".to_owned(),
            Some(decided) => decided.join("; "),
        };
        text.push_str(&format!(
            "error[RV0667]: event {}, {} in, at {}: this engine decides otherwise\n  told: {}\n  then: {}\n   now: {}\n",
            difference.event,
            seconds(Duration::from_micros(difference.at_us)),
            difference.time,
            difference.told,
            list(&difference.then, "the daemon died of it"),
            list(&difference.now, "the engine panics"),
        ));
        text.push_str(if found.build == build {
            "  = help: the same build must decide the same: a fault of rendezvip, please report it with the file\n"
        } else {
            "  = help: another build recorded it: is this the change between the two that was meant?\n"
        });
        return text;
    }
    let span = seconds(Duration::from_millis(found.span_ms));
    let span = span.trim_end_matches("000 s");
    text.push_str(&format!("{} events over {span} s, {} actions: all the same\n", found.events, found.actions));
    text.push_str(match found.ended {
        Some("full") => "the recording was as long as it may be\n",
        Some("overrun") => "the recording ended where it could not be written as fast as things happened\n",
        Some("died") => "the daemon died of the last event\n",
        _ => "",
    });
    text
}

fn failure(path: &Path, unreadable: &Unreadable, read: Option<(u64, Duration)>) -> Failure {
    let path = path.display();
    let after = match read {
        None | Some((0, _)) => "before its first event".to_owned(),
        Some((events, span)) => format!("after event {events}, {} in", seconds(span)),
    };
    match unreadable {
        Unreadable::NotOne => Failure::new(
            "RV0662",
            format!("{path} is not a recording"),
            "`rendezvip run --record FILE` on a node writes one",
        ),
        Unreadable::Format(format) => Failure::new(
            "RV0663",
            format!("{path} is a recording of format {format}; this build plays format {FORMAT}"),
            "play it with the rendezvip that recorded it",
        ),
        Unreadable::Cut => Failure::new(
            "RV0664",
            format!("{path} is cut short {after}"),
            "copy it again, whole; where the daemon was killed this is all there is, and what was played holds",
        ),
        Unreadable::Damaged(at) => Failure::new(
            "RV0665",
            format!("{path} is damaged at byte {at}, {after}"),
            "copy it again, as it is: nothing from there on can be believed",
        ),
        Unreadable::Io(error) => {
            Failure::new("RV0666", format!("{path} cannot be read: {error}"), "name a file that this user may read")
        }
    }
}
