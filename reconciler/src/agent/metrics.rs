//! What Prometheus asks for: counts of the beat, and what the node knows.
//!
//! In: the desk. Out: OpenMetrics text. Not here: serving it (`http`).
//!
//! Their number does not grow with the VIPs, only with pools.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::desk::{Counters, Desk, Published};
use crate::status::condition::Truth;
use crate::status::snapshot::{MemberState, VipState};

/// All metrics, as they are now.
pub fn encode(desk: &Desk) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Now(desk.clone())));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Now(Desk);

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let build = vec![("version", env!("CARGO_PKG_VERSION"))];
        one(&mut encoder, "rendezvip_build", "The program that runs", &Info::new(build))?;
        counters(&mut encoder, &self.0.counters)?;
        match self.0.published() {
            Some(published) => known(&mut encoder, &published),
            None => Ok(()),
        }
    }
}

fn one(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
    let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
    metric.encode(encoder)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    one(encoder, name, help, &ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)))
}

/// A gauge for each of some labels.
fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (L, usize)>,
) -> fmt::Result {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn counters(encoder: &mut DescriptorEncoder<'_>, counters: &Counters) -> fmt::Result {
    let all: [(&str, &str, &AtomicU64); 6] = [
        ("rendezvip_datagrams_sent", "Datagrams sent to other nodes", &counters.sent),
        ("rendezvip_datagrams_received", "Datagrams received whose seal was good", &counters.received),
        ("rendezvip_datagrams_refused", "Datagrams refused by their seal or form", &counters.refused),
        ("rendezvip_frames_sent", "ARP and neighbour discovery frames sent", &counters.frames),
        ("rendezvip_beats_late", "Times that the beat came more than 5 ms late", &counters.late),
        ("rendezvip_recorded_bytes", "Bytes of the recording of this life", &counters.recorded),
    ];
    for (name, help, counter) in all {
        one(encoder, name, help, &ConstCounter::new(counter.load(Ordering::Relaxed)))?;
    }
    let help = "1 while everything that the engine is told is recorded";
    gauge(encoder, "rendezvip_recording", help, counters.recording.load(Ordering::Relaxed).into())?;
    let help = "How late the latest beat of all came";
    gauge(encoder, "rendezvip_beat_latest_microseconds", help, counters.latest.load(Ordering::Relaxed))
}

fn known(encoder: &mut DescriptorEncoder<'_>, published: &Published) -> fmt::Result {
    let (snapshot, report) = (&published.snapshot, &published.report);
    let label = |key: &'static str, value: String| vec![(key, value)];
    one(encoder, "rendezvip_lapses", "Times that this node lost its lease", &ConstCounter::new(report.lapses))?;
    let help = "Datagrams dropped as stale or from nodes that are not declared";
    one(encoder, "rendezvip_datagrams_unheard", help, &ConstCounter::new(report.unheard))?;
    gauge(encoder, "rendezvip_lease_held", "1 while this node may answer", report.lease.into())?;
    gauge(encoder, "rendezvip_draining", "1 while this node drains", report.draining.into())?;
    let view = snapshot.view.as_ref();
    let number = view.map_or(0, |view| view.number);
    gauge(encoder, "rendezvip_view_number", "The number of the view accepted", number)?;
    let established = view.is_some_and(|view| view.established);
    let help = "1 while a majority has accepted the view, as far as this node can tell";
    gauge(encoder, "rendezvip_view_established", help, established.into())?;
    gauge(encoder, "rendezvip_view_settled", "1 once every member is clean in the view", report.settled.into())?;

    let states = [MemberState::Alive, MemberState::Suspect, MemberState::Dead, MemberState::Left];
    let members = states.into_iter().map(|state| {
        let count = snapshot.members.iter().filter(|member| member.state == state).count();
        (label("state", state.to_string()), count)
    });
    gauges(encoder, "rendezvip_members", "Nodes by how this one sees them", members)?;

    let mut pools: BTreeMap<(&str, VipState), usize> = BTreeMap::new();
    for vip in &snapshot.vips {
        // Every state of a pool is there, so that an alert needs no `absent()`.
        for state in [VipState::Held, VipState::Moving, VipState::Unowned, VipState::Conflict, VipState::Refused] {
            *pools.entry((vip.pool.as_str(), state)).or_default() += usize::from(vip.state == state);
        }
    }
    let pools = pools
        .into_iter()
        .map(|((pool, state), count)| (vec![("pool", pool.to_owned()), ("state", state.to_string())], count));
    gauges(encoder, "rendezvip_vips", "VIPs of the cluster by pool and state, as this node sees them", pools)?;
    let held = report.attached.len() as u64;
    gauge(encoder, "rendezvip_vips_held", "VIPs that stand on this host and are answered for", held)?;
    let alone = report.held_alone.len() as u64;
    let help = "VIPs of these that this node serves without a view: another may serve them, too";
    gauge(encoder, "rendezvip_vips_served_alone", help, alone)?;
    let foreign = report.foreign.len() as u64;
    gauge(encoder, "rendezvip_foreign_claims", "VIPs that a stranger claims on the wire", foreign)?;

    let conditions = snapshot.conditions.iter().map(|condition| {
        (label("type", format!("{:?}", condition.kind)), usize::from(condition.status == Truth::True))
    });
    gauges(encoder, "rendezvip_condition", "1 where a condition is true", conditions)?;

    let text = |it: Option<String>| it.unwrap_or_default();
    let generation = vec![
        ("revision", text(snapshot.revision.as_ref().map(ToString::to_string))),
        ("digest", text(snapshot.digest.as_ref().map(ToString::to_string))),
    ];
    one(encoder, "rendezvip_generation", "What runs", &Info::new(generation))?;
    let help = "When this was known, in seconds since 1970";
    gauge(encoder, "rendezvip_known_timestamp_seconds", help, snapshot.at.as_millis() / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_knows_nothing_yet_has_its_counts() {
        let (desk, _inbox) = Desk::new();
        desk.counters.sent.store(3, Ordering::Relaxed);
        insta::assert_snapshot!(encode(&desk).unwrap());
    }
}
