//! One round: a fault, and what the client and the bystander saw of it.
//!
//! In: a contender that is well. Out: a row, and the contender well again. Not here: which rounds (`main`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use rendezvip::lab::bystander::Seen;
use rendezvip::lab::frame::Form;
use rendezvip::lab::{LabError, now};
use rendezvip::time::Instant;

use crate::contender::{Fault, Runner};
use crate::results::Row;

/// How long a fault is watched after the service is back: a second claimant would show in that time.
const WATCH: Duration = Duration::from_millis(1_100);

/// The longest that anybody may take; ucarp's defaults need some 4 s.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// From so many VIPs on, client and bystander look at those that are struck alone, or they would be the load.
const MANY: usize = 100;

/// How long the switch is away.
const DARK: Duration = Duration::from_secs(2);

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Strikes, watches, mends; false with the row where the contender was not well again afterwards.
pub fn round(runner: &mut Runner, fault: Fault, number: usize) -> Result<(Row, bool), LabError> {
    let row = Row::new(runner.contender.name(), fault.name(), runner.vips.len(), runner.family.name(), number);
    let victim = runner.busiest();
    let row = if fault == Fault::Switch { dark(runner, row)? } else { strike(runner, fault, victim, row)? };
    let well = runner.settle(PATIENCE * 2);
    Ok((row, well))
}

/// The switch goes dark and comes back: how long until every VIP is claimed, and answers?
fn dark(runner: &mut Runner, row: Row) -> Result<Row, LabError> {
    runner.strike(Fault::Switch, runner.busiest())?;
    thread::sleep(DARK);
    let start = now();
    runner.mend(Fault::Switch, runner.busiest())?;
    let claimed = runner.bystander.wait(PATIENCE, |who| who.len() == runner.vips.len()).is_some();
    if !claimed || !runner.client.answered(&runner.vips, PATIENCE) {
        return Ok(row.with("never", 1));
    }
    let back = micros(now().since(start));
    thread::sleep(WATCH);
    Ok(row.with("back_us", back).with("overlaps", count(runner.bystander.overlaps(start).len())))
}

fn strike(runner: &mut Runner, fault: Fault, victim: &'static str, row: Row) -> Result<Row, LabError> {
    let (hit, mac) = (runner.vips_of(victim), runner.mac(victim));
    if runner.vips.len() > MANY {
        runner.focus(&hit);
        // The first probes at the new pace are answered before anything is counted.
        thread::sleep(Duration::from_millis(300));
    }
    runner.client.mark();
    let start = now();
    runner.strike(fault, victim)?;
    let moved = runner.moved(&hit, victim, PATIENCE);
    thread::sleep(WATCH);
    let end = now();
    let mut report = runner.client.report();
    report.retain(|vip, _| hit.contains(vip));
    let claims = runner.bystander.claims(start);
    let overlaps = runner.bystander.overlaps(start).len();
    let mut row = row.with("hit", count(hit.len())).with("overlaps", count(overlaps));

    let firsts = first(&claims, |one| one.claim.mac != mac);
    if moved {
        let outages = report.values().map(|one| micros(one.longest));
        row = row.with("outage_us", outages.clone().max().unwrap_or_default());
        row = row.with("outage_first_us", outages.min().unwrap_or_default());
        let worst = report.values().max_by_key(|one| one.longest).and_then(|one| one.began);
        row = row.with("outage_began_us", worst.map_or(0, |at| micros(at.since(start))));
        row = row.with("lost", report.values().map(|one| one.lost).sum());
        let taken = hit.iter().filter_map(|vip| firsts.get(vip)).map(|at| micros(at.since(start)));
        row = row.with("takeover_us", taken.clone().max().unwrap_or_default());
        row = row.with("takeover_first_us", taken.min().unwrap_or_default());
    } else {
        row = row.with("never", 1);
    }
    // How long the victim claimed what somebody else had claimed.
    let second = claims.iter().filter(|one| one.claim.mac == mac);
    let second = second.filter_map(|one| Some((one.at, *firsts.get(&one.claim.address).filter(|at| one.at > **at)?)));
    if let Some((last, since)) = second.max_by_key(|(at, since)| at.since(*since)) {
        row = row.with("second_us", micros(last.since(since))).with("second_until_us", micros(last.since(start)));
        row = row.with("second_lasts", u64::from(end.since(last) < runner.fresh()));
    }
    if runner.vips.len() > MANY {
        runner.focus(&runner.vips);
    }

    let plugged = now();
    runner.mend(fault, victim)?;
    if fault == Fault::Cable {
        let announced = |from: Instant| {
            let claims = runner.bystander.claims(from);
            let firsts = first(&claims, |one| one.claim.form == Form::Announcement);
            hit.iter().map(|vip| firsts.get(vip).copied()).collect::<Option<Vec<Instant>>>()
        };
        while now().since(plugged) < PATIENCE {
            if let Some(last) = announced(plugged).and_then(|firsts| firsts.into_iter().max()) {
                row = row.with("back_us", micros(last.since(plugged)));
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(row)
}

fn first(claims: &[Seen], which: impl Fn(&Seen) -> bool) -> BTreeMap<IpAddr, Instant> {
    let mut firsts = BTreeMap::new();
    for one in claims.iter().filter(|one| which(one)) {
        let at = firsts.entry(one.claim.address).or_insert(one.at);
        *at = one.at.min(*at);
    }
    firsts
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
