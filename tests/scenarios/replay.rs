//! What one node of a simulated cluster was told, under every kind of fault, plays again to the same decisions.

use std::time::Duration;

use rendezvip::engine::recording::{Birthday, Ending, Entry, Reader, Unreadable, Writer};
use rendezvip::engine::replay::{Next, Played, Player};
use rendezvip::membership::rule::Rule;
use rendezvip::sim::{Faults, Options, run};

fn recordings() -> Vec<Vec<u8>> {
    let options = Options { seed: 4, span: Duration::from_secs(90), record: Some(1), ..Options::default() };
    run(&options).recordings
}

/// Plays all of it, or up to the first step that is not the same.
fn play(recording: &[u8]) -> (u64, Option<Box<Played>>) {
    let mut player = Player::open(recording).unwrap();
    loop {
        match player.play().unwrap() {
            Next::Step(played) if played.is_same() => {}
            Next::Step(played) => return (player.steps(), Some(played)),
            Next::End(ending) => {
                assert_eq!(ending, Ending::Stopped);
                return (player.steps(), None);
            }
        }
    }
}

/// The same recording with one thing about it changed.
fn changed(recording: &[u8], birth: impl FnOnce(&mut Birthday), mut entry: impl FnMut(u64, &mut Entry)) -> Vec<u8> {
    let (mut reader, mut birthday) = Reader::open(recording).unwrap();
    birth(&mut birthday);
    let mut writer = Writer::begin(Vec::new(), &birthday).unwrap();
    for number in 1.. {
        let mut next = reader.entry().unwrap();
        if let Entry::End(ending) = next {
            return writer.end(ending).unwrap();
        }
        entry(number, &mut next);
        writer.entry(&postcard::to_allocvec(&next).unwrap()).unwrap();
    }
    unreachable!("a recording ends")
}

#[test]
fn a_node_that_is_told_the_same_decides_the_same() {
    let recordings = recordings();
    assert!(recordings.len() > 1, "it died and came back");
    let mut steps = 0;
    for recording in &recordings {
        let (played, differs) = play(recording);
        assert!(differs.is_none(), "{differs:?}");
        steps += played;
        assert_eq!(changed(recording, |_| {}, |_, _| {}), *recording, "what is read is written as it was");
    }
    assert!(steps > 2000, "only {steps}");
}

#[test]
fn another_rule_shows_at_the_step_where_it_first_matters() {
    let recording = recordings().remove(0);
    let without = |rule| changed(&recording, |birthday| birthday.birth.without = vec![rule], |_, _| {});
    let (steps, differs) = play(&without(Rule::SilenceOutlastsLease));
    let differs = differs.expect("it finds others silent sooner");
    assert!(differs.number > 1, "what came before is the same: {differs:?}");
    assert_eq!(differs.number, steps);
    assert_ne!(differs.then.unwrap(), differs.now.unwrap());
    // A rule that was never put to the test changes nothing.
    assert!(play(&without(Rule::BothMajorities)).1.is_none(), "the set did not change in this life");
}

#[test]
fn one_event_more_or_less_shows() {
    let recording = recordings().remove(0);
    let later = |number: u64, entry: &mut Entry| {
        if let (200, Entry::Step { after, .. }) = (number, entry) {
            *after += 1;
        }
    };
    let differs = play(&changed(&recording, |_| {}, later)).1.expect("a microsecond is one");
    assert!((200..230).contains(&differs.number), "{differs:?}");
}

#[test]
fn a_recording_that_was_touched_is_refused_wherever_it_was() {
    let recording = recordings().remove(0);
    let read = |bytes: &[u8]| -> Unreadable {
        let mut player = match Player::open(bytes) {
            Ok(player) => player,
            Err(refused) => return refused,
        };
        loop {
            match player.play() {
                Ok(Next::Step(played)) => assert!(played.is_same(), "{played:?}"),
                Ok(Next::End(_)) => panic!("it was read to its end"),
                Err(refused) => return refused,
            }
        }
    };
    let mut places: Vec<usize> = (0..400).chain((400..recording.len()).step_by(recording.len() / 40)).collect();
    places.extend(recording.len() - 30..recording.len());
    for at in places {
        let mut touched = recording.clone();
        touched[at] ^= 0x04;
        let refused = read(&touched);
        match at {
            0..20 => assert!(matches!(refused, Unreadable::NotOne), "{at}: {refused:?}"),
            20 => assert!(matches!(refused, Unreadable::Format(5)), "{at}: {refused:?}"),
            21 => assert!(matches!(refused, Unreadable::NotOne), "{at}: {refused:?}"),
            // A length that is too long runs into the end of the file.
            _ => assert!(matches!(refused, Unreadable::Damaged(_) | Unreadable::Cut), "{at}: {refused:?}"),
        }
        if at > 0 {
            let refused = read(&recording[..at]);
            assert!(matches!(refused, Unreadable::Cut), "cut at {at}: {refused:?}");
        }
    }
    assert!(matches!(read(&[]), Unreadable::NotOne));
    assert!(matches!(read(&[&recording[..], b"more"].concat()), Unreadable::Damaged(_)));
    assert!(matches!(read(b"kind: VipPool\n"), Unreadable::NotOne));
}

#[test]
fn an_hour_of_three_nodes_at_rest_takes_less_than_what_the_manual_says() {
    let of = |seconds: u64| {
        let span = Duration::from_secs(seconds);
        let calm = Options { faults: Faults::None, loss: Some(0), span, record: Some(1), ..Options::default() };
        run(&calm).recordings.remove(0).len()
    };
    // Without the first minute, in which the cluster forms.
    let hour = (of(120) - of(60)) * 60;
    assert!((10_000_000..25_000_000).contains(&hour), "{hour} bytes");
}

#[test]
fn what_somebody_made_up_is_played_or_refused_and_harms_nobody() {
    let whole = recordings().remove(0);
    let end = |recording: &[u8]| -> Option<Unreadable> {
        let mut player = match Player::open(recording) {
            Ok(player) => player,
            Err(refused) => return Some(refused),
        };
        loop {
            match player.play() {
                Ok(Next::Step(played)) if played.now.is_some() => {}
                Ok(_) => return None,
                Err(refused) => return Some(refused),
            }
        }
    };
    let for_ever = changed(
        &whole,
        |_| {},
        |number, entry| {
            if let (100, Entry::Step { after, .. }) = (number, entry) {
                *after = u64::MAX;
            }
        },
    );
    assert!(matches!(end(&for_ever), Some(Unreadable::Damaged(_))), "time does not end");
    let at_once = changed(&whole, |birthday| birthday.timing.heartbeat = Duration::ZERO, |_, _| {});
    assert!(matches!(end(&at_once), Some(Unreadable::Damaged(_))), "no node beats without a pause");

    // One bit of one event, with a check that fits: whatever it says now, the player comes to an end.
    let mut random = 7_u64;
    for _ in 0..80 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (number, at, bit) = ((random >> 33) % 400 + 1, random >> 20 & 0xffff, random >> 60 & 7);
        let (mut reader, birthday) = Reader::open(&whole[..]).unwrap();
        let mut writer = Writer::begin(Vec::new(), &birthday).unwrap();
        for entry in 1.. {
            let next = reader.entry().unwrap();
            if let Entry::End(ending) = next {
                end(&writer.end(ending).unwrap());
                break;
            }
            let mut bytes = postcard::to_allocvec(&next).unwrap();
            if entry == number {
                let at = at as usize % bytes.len();
                bytes[at] ^= 1 << bit;
            }
            writer.entry(&bytes).unwrap();
        }
    }
}
