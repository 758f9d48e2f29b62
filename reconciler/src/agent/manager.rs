//! The service manager: what systemd is told of this process, sd_notify(3).
//!
//! In: how often the beat came round, what readers see at the desk. Out: ready, alive, a line for `systemctl status`,
//! stopping. Not here: what it does with them (the unit: packaging/rendezvip.service).
//!
//! The watchdog stands for the beat alone. An office that hangs costs the report, and a restart would cost the VIPs.
//! Without a manager all this is nothing: sd_notify finds no socket and says so to nobody.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sd_notify::NotifyState;

use super::clock;
use super::desk::{Counters, Desk, Published};
use crate::status::snapshot::MemberState;
use crate::time::Instant;

/// The line for people changes at most so often.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What the manager was told, and when it is told again.
pub struct Manager {
    counters: Arc<Counters>,
    desk: Desk,
    /// A third of what the manager allows between two signs of life; nothing where it watches nobody.
    every: Option<Duration>,
    alive_at: Instant,
    rounds: u64,
    status_at: Instant,
    status: String,
}

impl Manager {
    /// Tells it that this node is up: its ports are open and it beats.
    pub fn ready(desk: Desk) -> Self {
        tell(&[NotifyState::Ready]);
        let (now, counters) = (clock::now(), desk.counters.clone());
        let every = sd_notify::watchdog_enabled().map(|most| most / 3);
        Self { counters, desk, every, alive_at: now, rounds: 0, status_at: now, status: String::new() }
    }

    /// Tells it what is due. A sign of life takes a beat that came round since the last one.
    pub fn attend(&mut self) {
        let now = clock::now();
        if let Some(every) = self.every
            && now >= self.alive_at
        {
            let rounds = self.counters.rounds.load(Ordering::Relaxed);
            if rounds != self.rounds {
                self.rounds = rounds;
                self.alive_at = now + every;
                tell(&[NotifyState::Watchdog]);
            }
        }
        if now >= self.status_at {
            self.status_at = now + STATUS_EVERY;
            let status = self.desk.published().map_or_else(|| "starting".to_owned(), |it| line(&it));
            if status != self.status {
                tell(&[NotifyState::Status(&status)]);
                self.status = status;
            }
        }
    }
}

/// Tells it that this node takes its leave.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

/// What `systemctl status` shows.
fn line(published: &Published) -> String {
    let snapshot = &published.snapshot;
    let alive = snapshot.members.iter().filter(|member| member.state == MemberState::Alive).count();
    let (nodes, held, vips) = (snapshot.members.len(), published.report.attached.len(), snapshot.vips.len());
    let draining = if published.report.draining { ", draining" } else { "" };
    match &snapshot.view {
        Some(view) if view.established => {
            format!("view {}: {alive} of {nodes} nodes alive, {held} of {vips} VIPs here{draining}", view.number)
        }
        Some(view) => format!("view {} is not established: {alive} of {nodes} nodes alive", view.number),
        None => format!("no view yet: {alive} of {nodes} nodes alive"),
    }
}
