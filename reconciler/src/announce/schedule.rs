//! When is which VIP announced on which interface?
//!
//! In: VIPs taken and given up, and `now`. Out: announcements that are due, and when to ask again.
//! Not here: their bytes ([`frames`](super::frames)), who owns a VIP (`placement`), how to send (`agent`).
//!
//! A VIP that was taken is announced four times: at once, and 0.1, 1.1 and 3 s later, as ARP request and as ARP
//! reply; an IPv6 VIP three times, a second apart (RFC 4861, section 7.2.6: MAX_NEIGHBOR_ADVERTISEMENT and
//! RetransTimer). The first round goes out in one batch, held back by nothing but the rate for first announcements:
//! no second of an interface's time has more frames of it. All that comes after stays below the rate for refreshes,
//! evenly spaced, as switches that inspect ARP shut a port down at 15 a second. Where the rounds of many VIPs would
//! take longer than people wait, a later round has one form instead of two, in turn. At rest, one frame in 30 s for
//! one of the VIPs, another each time, keeps the interface's MAC address in the tables of the switches.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::name::InterfaceName;
use crate::time::Instant;
use crate::vip::Vip;

/// As what a VIP is announced. For IPv6 both mean an unsolicited neighbour advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// As a gratuitous ARP request.
    Request,
    /// As a gratuitous ARP reply: some listeners take only one of the two.
    Reply,
}

/// One frame to send.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announcement {
    /// On which interface.
    pub iface: InterfaceName,
    /// For which VIP.
    pub vip: Vip,
    /// As what.
    pub form: Form,
}

/// How long an interface is silent before it speaks to keep the switches' tables fresh; they forget after 300 s, as a
/// rule (IEEE 802.1Q, section 8.8.3), some after less.
pub const REST: Duration = Duration::from_secs(30);

/// When both forms of all that is waiting take longer than this, later rounds have one form.
const PATIENCE: Duration = Duration::from_secs(40);

const WINDOW: Duration = Duration::from_secs(1);

type Step = (Duration, Form);

const fn step(millis: u64, form: Form) -> Step {
    (Duration::from_millis(millis), form)
}

/// The frames after the first round, with their time after the take.
const V4: [Step; 6] = [
    step(100, Form::Request),
    step(100, Form::Reply),
    step(1_100, Form::Request),
    step(1_100, Form::Reply),
    step(3_000, Form::Request),
    step(3_000, Form::Reply),
];
const V4_LEAN: [Step; 3] = [step(100, Form::Request), step(1_100, Form::Reply), step(3_000, Form::Request)];
const V6: [Step; 2] = [step(1_000, Form::Request), step(2_000, Form::Request)];

/// How far the rounds of a VIP are.
#[derive(Debug)]
struct Progress {
    started: Instant,
    steps: &'static [Step],
}

impl Progress {
    fn due(&self) -> Option<Instant> {
        self.steps.first().map(|(after, _)| self.started + *after)
    }
}

/// What is announced, and when, on all interfaces of a node.
#[derive(Debug)]
pub struct Schedule {
    rate: usize,
    spacing: Duration,
    lanes: BTreeMap<InterfaceName, Lane>,
}

/// One interface.
#[derive(Debug, Default)]
struct Lane {
    held: BTreeMap<Vip, Progress>,
    /// First announcements: one form of all VIPs goes before the other form of any.
    urgent: BTreeSet<(Form, Vip)>,
    urgent_since: Instant,
    /// When which VIP has its next frame; `waiting` frames in all.
    later: BTreeSet<(Instant, Vip)>,
    waiting: usize,
    later_not_before: Instant,
    /// First announcements of the last second.
    window: VecDeque<(Instant, usize)>,
    last_sent: Instant,
    last_at_rest: Option<Vip>,
}

impl Schedule {
    /// At most `rate` first announcements in any second on an interface, and fewer than `refresh` of all others.
    pub fn new(rate: u32, refresh: u32) -> Self {
        // A twentieth more than even spacing demands: what is sent late by some milliseconds must not crowd a second.
        let spacing = Duration::from_micros(1_050_000 / u64::from(refresh.saturating_sub(1).max(1)));
        Self { rate: rate.max(1) as usize, spacing, lanes: BTreeMap::new() }
    }

    /// This node answers for these VIPs on this interface from now on.
    pub fn taken(&mut self, now: Instant, iface: &InterfaceName, vips: impl IntoIterator<Item = Vip>) {
        let lane = self.lanes.entry(iface.clone()).or_default();
        if lane.held.is_empty() {
            lane.last_sent = now;
        }
        let vips: Vec<Vip> = vips.into_iter().collect();
        lane.start(now, &vips, self.spacing);
    }

    /// This node no longer answers for this VIP, on any interface. Nothing of it is announced any more.
    pub fn gave_up(&mut self, vip: Vip) {
        self.lanes.values_mut().for_each(|lane| lane.forget(vip));
    }

    /// This node no longer answers for anything: a lapse.
    pub fn gave_up_all(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.held.clear();
            lane.urgent.clear();
            lane.later.clear();
            lane.waiting = 0;
        }
    }

    /// All rounds again for those of these VIPs that are held, where they are held: a conflict or a partition healed.
    pub fn again(&mut self, now: Instant, vips: &[Vip]) {
        for lane in self.lanes.values_mut() {
            let held: Vec<Vip> = vips.iter().copied().filter(|vip| lane.held.contains_key(vip)).collect();
            lane.start(now, &held, self.spacing);
        }
    }

    /// All rounds again for everything held on this interface: its link came back, or its MAC address changed.
    pub fn again_on(&mut self, now: Instant, iface: &InterfaceName) {
        if let Some(lane) = self.lanes.get_mut(iface) {
            let held: Vec<Vip> = lane.held.keys().copied().collect();
            lane.start(now, &held, self.spacing);
        }
    }

    /// One announcement in both forms, at once, if the VIP is held there: somebody else claimed it.
    pub fn defend(&mut self, now: Instant, iface: &InterfaceName, vip: Vip) {
        if let Some(lane) = self.lanes.get_mut(iface)
            && lane.held.contains_key(&vip)
        {
            lane.hurry(now, vip);
        }
    }

    /// Is this VIP held on any interface, as far as was told here?
    pub fn holds(&self, vip: Vip) -> bool {
        self.lanes.values().any(|lane| lane.held.contains_key(&vip))
    }

    /// What is due, first announcements first. They all come from one call, but for those above the rate.
    pub fn poll(&mut self, now: Instant) -> Vec<Announcement> {
        let mut due = Vec::new();
        for (iface, lane) in &mut self.lanes {
            due.extend(lane.first_round(now, self.rate).into_iter().map(|(form, vip)| announcement(iface, vip, form)));
        }
        for (iface, lane) in &mut self.lanes {
            due.extend(lane.refresh(now, self.spacing).map(|(form, vip)| announcement(iface, vip, form)));
        }
        due
    }

    /// When to poll next; an instant that has passed means now.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lanes.values().filter_map(|lane| lane.deadline(self.rate)).min()
    }
}

fn announcement(iface: &InterfaceName, vip: Vip, form: Form) -> Announcement {
    Announcement { iface: iface.clone(), vip, form }
}

impl Lane {
    fn start(&mut self, now: Instant, vips: &[Vip], spacing: Duration) {
        for &vip in vips {
            self.forget(vip);
        }
        let both: usize = vips.iter().map(|vip| if vip.is_ipv4() { V4.len() } else { V6.len() }).sum();
        let lean = spacing.saturating_mul(u32::try_from(self.waiting + both).unwrap_or(u32::MAX)) > PATIENCE;
        for &vip in vips {
            let steps: &[Step] = match (vip.is_ipv4(), lean) {
                (true, false) => &V4,
                (true, true) => &V4_LEAN,
                (false, _) => &V6,
            };
            // A VIP named twice is announced once.
            self.forget(vip);
            let progress = Progress { started: now, steps };
            self.later.extend(progress.due().map(|due| (due, vip)));
            self.waiting += steps.len();
            self.held.insert(vip, progress);
            self.hurry(now, vip);
        }
    }

    fn hurry(&mut self, now: Instant, vip: Vip) {
        if self.urgent.is_empty() {
            self.urgent_since = now;
        }
        self.urgent.insert((Form::Request, vip));
        if vip.is_ipv4() {
            self.urgent.insert((Form::Reply, vip));
        }
    }

    fn forget(&mut self, vip: Vip) {
        if let Some(progress) = self.held.remove(&vip) {
            self.waiting -= progress.steps.len();
            if let Some(due) = progress.due() {
                self.later.remove(&(due, vip));
            }
            self.urgent.remove(&(Form::Request, vip));
            self.urgent.remove(&(Form::Reply, vip));
        }
    }

    fn first_round(&mut self, now: Instant, rate: usize) -> Vec<(Form, Vip)> {
        while self.window.front().is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.window.pop_front();
        }
        let room = rate.saturating_sub(self.in_window());
        let due: Vec<_> = std::iter::from_fn(|| self.urgent.pop_first()).take(room).collect();
        if !due.is_empty() {
            self.window.push_back((now, due.len()));
            self.last_sent = now;
        }
        due
    }

    fn in_window(&self) -> usize {
        self.window.iter().map(|(_, count)| count).sum()
    }

    fn refresh(&mut self, now: Instant, spacing: Duration) -> Option<(Form, Vip)> {
        if now < self.later_not_before {
            return None;
        }
        let frame = self.later_round(now).or_else(|| self.at_rest(now))?;
        self.later_not_before = now + spacing;
        self.last_sent = now;
        Some(frame)
    }

    fn later_round(&mut self, now: Instant) -> Option<(Form, Vip)> {
        let (due, vip) = *self.later.first()?;
        if now < due {
            return None;
        }
        self.later.pop_first();
        let progress = self.held.get_mut(&vip)?;
        let ((_, form), steps) = progress.steps.split_first()?;
        progress.steps = steps;
        self.waiting -= 1;
        self.later.extend(progress.due().map(|due| (due, vip)));
        Some((*form, vip))
    }

    fn at_rest(&mut self, now: Instant) -> Option<(Form, Vip)> {
        if now < self.last_sent + REST {
            return None;
        }
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.last_at_rest.and_then(|last| self.held.range((Excluded(last), Unbounded)).next());
        let (vip, _) = after.or_else(|| self.held.first_key_value())?;
        self.last_at_rest = Some(*vip);
        Some((Form::Request, *vip))
    }

    fn deadline(&self, rate: usize) -> Option<Instant> {
        let urgent = (!self.urgent.is_empty()).then(|| match self.window.front() {
            Some((at, _)) if self.in_window() >= rate => *at + WINDOW,
            _ => self.urgent_since,
        });
        let later = self.later.first().map(|(due, _)| (*due).max(self.later_not_before));
        let rest = (!self.held.is_empty()).then(|| (self.last_sent + REST).max(self.later_not_before));
        [urgent, later, rest].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(1_000_000_000 + millis * 1_000)
    }

    fn millis(instant: Instant) -> u64 {
        instant.as_micros() / 1_000 - 1_000_000
    }

    fn eth0() -> InterfaceName {
        InterfaceName::new("eth0").unwrap()
    }

    fn v4(count: u32) -> Vec<Vip> {
        (1..=count).map(|n| Vip::new(std::net::Ipv4Addr::from(0x0a63_0000 + n).into()).unwrap()).collect()
    }

    fn vip(text: &str) -> Vip {
        text.parse().unwrap()
    }

    /// Polls at each deadline until `end`, and says what was sent at which millisecond.
    fn play(schedule: &mut Schedule, end: Instant) -> Vec<(u64, Announcement)> {
        let mut sent = Vec::new();
        let mut now = at(0);
        while let Some(deadline) = schedule.next_deadline()
            && deadline <= end
        {
            now = now.max(deadline);
            let due = schedule.poll(now);
            assert!(
                !due.is_empty() || schedule.next_deadline().is_none_or(|next| next > now),
                "nothing is due at {now:?}, and the next deadline has passed too"
            );
            sent.extend(due.into_iter().map(|frame| (millis(now), frame)));
        }
        sent
    }

    #[test]
    fn a_taken_ipv4_vip_is_announced_in_both_forms_at_0_100_1100_and_3000_ms() {
        let mut schedule = Schedule::new(10_000, 15);
        schedule.taken(at(0), &eth0(), v4(1));
        let sent: Vec<_> =
            play(&mut schedule, at(20_000)).into_iter().map(|(when, frame)| (when, frame.form)).collect();
        use Form::{Reply, Request};
        assert_eq!(
            sent,
            [
                (0, Request),
                (0, Reply),
                (100, Request),
                (175, Reply),
                (1_100, Request),
                (1_175, Reply),
                (3_000, Request),
                (3_075, Reply)
            ]
        );
    }

    #[test]
    fn a_taken_ipv6_vip_is_advertised_three_times_a_second_apart() {
        let mut schedule = Schedule::new(10_000, 15);
        schedule.taken(at(0), &eth0(), [vip("fd99::100")]);
        let sent: Vec<_> = play(&mut schedule, at(20_000)).iter().map(|(when, _)| *when).collect();
        assert_eq!(sent, [0, 1_000, 2_000]);
    }

    #[test]
    fn the_first_round_of_3333_vips_comes_from_one_poll_even_while_later_rounds_wait() {
        let mut schedule = Schedule::new(10_000, 15);
        let vips = v4(3_333);
        schedule.taken(at(0), &eth0(), vips[..1_000].to_vec());
        assert_eq!(schedule.poll(at(0)).len(), 2_000);
        schedule.taken(at(500), &eth0(), vips[1_000..].to_vec());
        let batch = schedule.poll(at(500));
        let (requests, rest) = batch.split_at(2_333);
        assert!(requests.iter().all(|frame| frame.form == Form::Request));
        assert_eq!(rest[..2_333].iter().filter(|frame| frame.form == Form::Reply).count(), 2_333);
        assert!(rest.len() <= 2_334, "one later frame at most");
    }

    #[test]
    fn no_second_has_more_first_announcements_than_the_rate() {
        let mut schedule = Schedule::new(100, 15);
        schedule.taken(at(0), &eth0(), v4(120));
        let first: Vec<_> = play(&mut schedule, at(2_000));
        // One of a later round comes between.
        let count = |from: u64, to: u64| first.iter().filter(|(when, _)| (from..to).contains(when)).count();
        assert_eq!((count(0, 1), count(1_000, 1_001), count(2_000, 2_001)), (100, 100 + 1, 40));
        let requests = first.iter().take(100).filter(|(_, frame)| frame.form == Form::Request).count();
        assert_eq!(requests, 100, "each VIP is spoken for once before any is twice");
    }

    #[test]
    fn later_rounds_stay_under_the_refresh_rate_and_167_vips_are_complete_within_a_minute() {
        for together in [true, false] {
            let mut schedule = Schedule::new(10_000, 15);
            if together {
                schedule.taken(at(0), &eth0(), v4(167));
            } else {
                v4(167).into_iter().for_each(|vip| schedule.taken(at(0), &eth0(), [vip]));
            }
            let sent = play(&mut schedule, at(120_000));
            let later: Vec<u64> = sent.iter().map(|(when, _)| *when).skip(2 * 167).collect();
            for (index, from) in later.iter().enumerate() {
                let in_a_second = later[index..].iter().take_while(|when| **when < from + 1_000).count();
                assert!(in_a_second < 15, "{in_a_second} from {from} on");
            }
            for vip in v4(167) {
                let times: Vec<u64> = sent
                    .iter()
                    .filter(|(when, frame)| *when < 60_000 && frame.vip == vip)
                    .map(|(when, _)| *when)
                    .collect();
                assert!(times.len() >= 5, "{vip}: {times:?}");
            }
            let busy = later.windows(2).take_while(|pair| pair[1] - pair[0] < 1_000).count();
            assert!(later[busy] < 60_000, "complete after {} ms", later[busy]);
        }
    }

    #[test]
    fn eighty_vips_have_both_forms_in_every_round() {
        let mut schedule = Schedule::new(10_000, 15);
        schedule.taken(at(0), &eth0(), v4(80));
        let sent = play(&mut schedule, at(60_000));
        for vip in v4(80) {
            let forms = |form| sent.iter().filter(|(_, frame)| frame.vip == vip && frame.form == form).count();
            assert!(forms(Form::Request) >= 4 && forms(Form::Reply) == 4, "{vip}");
        }
    }

    #[test]
    fn at_rest_one_frame_in_30_s_speaks_for_each_vip_in_turn_however_many_there_are() {
        let mut schedule = Schedule::new(10_000, 15);
        schedule.taken(at(0), &eth0(), v4(3));
        play(&mut schedule, at(10_000));
        let sent = play(&mut schedule, at(140_000));
        let times: Vec<u64> = sent.iter().map(|(when, _)| *when / 1_000).collect();
        let who: Vec<String> = sent.iter().map(|(_, frame)| frame.vip.to_string()).collect();
        assert_eq!(times.len(), 4);
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 30), "{times:?}");
        assert_eq!(who, ["10.99.0.1", "10.99.0.2", "10.99.0.3", "10.99.0.1"]);
    }

    #[test]
    fn a_vip_that_was_given_up_is_never_announced_again() {
        let mut schedule = Schedule::new(1, 15);
        schedule.taken(at(0), &eth0(), v4(2));
        assert_eq!(schedule.poll(at(0)).len(), 1);
        schedule.gave_up(v4(2)[0]);
        schedule.again(at(10), &v4(1));
        schedule.defend(at(10), &eth0(), v4(1)[0]);
        let sent = play(&mut schedule, at(100_000));
        assert!(sent.iter().all(|(_, frame)| frame.vip == v4(2)[1]) && !sent.is_empty());
        schedule.gave_up(v4(2)[1]);
        assert_eq!((schedule.next_deadline(), schedule.poll(at(200_000))), (None, vec![]));
    }

    #[test]
    fn a_lapse_silences_everything() {
        let mut schedule = Schedule::new(10_000, 15);
        schedule.taken(at(0), &eth0(), v4(5));
        schedule.gave_up_all();
        assert_eq!((schedule.poll(at(60_000)), schedule.next_deadline()), (vec![], None));
        schedule.taken(at(60_000), &eth0(), v4(1));
        assert_eq!(schedule.poll(at(60_000)).len(), 2);
    }

    #[test]
    fn a_link_that_came_back_has_all_its_vips_announced_at_once_and_no_others() {
        let mut schedule = Schedule::new(10_000, 15);
        let eth1 = InterfaceName::new("eth1").unwrap();
        schedule.taken(at(0), &eth0(), v4(3));
        schedule.taken(at(0), &eth1, [vip("fd99::1")]);
        play(&mut schedule, at(20_000));
        schedule.again_on(at(20_000), &eth0());
        let batch = schedule.poll(at(20_000));
        assert_eq!(batch.len(), 6);
        assert!(batch.iter().all(|frame| frame.iface == eth0()));
        assert_eq!(schedule.next_deadline(), Some(at(20_100)));
    }

    #[test]
    fn a_defence_is_one_round() {
        let mut schedule = Schedule::new(10_000, 15);
        schedule.taken(at(0), &eth0(), v4(2));
        play(&mut schedule, at(20_000));
        schedule.defend(at(20_000), &eth0(), v4(1)[0]);
        let sent = play(&mut schedule, at(40_000));
        let forms: Vec<Form> = sent.iter().map(|(_, frame)| frame.form).collect();
        assert_eq!(forms, [Form::Request, Form::Reply]);
    }

    #[test]
    fn taking_10_000_vips_and_giving_them_up_leaves_nothing_behind() {
        let mut schedule = Schedule::new(10_000, 15);
        schedule.taken(at(0), &eth0(), v4(10_000));
        assert_eq!(schedule.poll(at(0)).len(), 10_000);
        assert_eq!(schedule.next_deadline(), Some(at(100)));
        schedule.poll(at(100));
        v4(10_000).into_iter().for_each(|vip| schedule.gave_up(vip));
        let lane = &schedule.lanes[&eth0()];
        assert_eq!((lane.waiting, lane.later.len(), lane.urgent.len(), lane.held.len()), (0, 0, 0, 0));
    }
}
