//! The hands: one thread that puts VIPs on the host and takes them away, in the order in which it is told.
//!
//! In: tasks. Out: what the kernel took and what it refused, as Events. Not here: the gate, which is the beat's
//! own, since silence must not wait; what to do (`engine`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::hooks::Hooks;
use super::netlink::{Edit, Netlink};
use crate::engine::action::{Started, Stopped};
use crate::engine::event::Event;
use crate::manifest::desired::Attach;
use crate::name::InterfaceName;
use crate::vip::Vip;

/// So many addresses at a time, so that the first are announced while the last are still on their way.
const CHUNK: usize = 256;

/// The kernel's worker gives an IPv6 address its route within milliseconds; a VIP is announced after this at the latest.
const ROUTE_PATIENCE: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Debug)]
pub enum Task {
    /// Indices of interfaces by name, as they are now.
    Interfaces(BTreeMap<InterfaceName, u32>),
    /// Put these on the host and report.
    Attach(Vec<Started>),
    /// Take these away; those that linger are replaced by a local route.
    Detach {
        /// All of them.
        stopped: Vec<Stopped>,
        /// Those whose address on this host is somebody else's by now: it stays.
        spared: BTreeSet<Vip>,
    },
    /// These VIPs sit on `lo`, and no others; `gone` are those of them that somebody took away.
    OnLoopback {
        /// All of them.
        wanted: Arc<BTreeSet<Vip>>,
        /// To be put there again.
        gone: Vec<Vip>,
    },
    /// Take the local routes away.
    EndLinger(Vec<Vip>),
    /// Be done with everything that came before, then answer.
    Finish(Sender<()>),
}

/// The thread and the way to it.
#[derive(Debug)]
pub struct Hands {
    tasks: Sender<Task>,
    thread: Option<JoinHandle<()>>,
}

impl Hands {
    /// Starts the thread. `deliver` is called from it; `hooks` hear what was done.
    pub fn start(netlink: Netlink, hooks: Hooks, deliver: impl Fn(Event) + Send + 'static) -> std::io::Result<Self> {
        let (tasks, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("hands".to_owned())
            .spawn(move || work(netlink, &inbox, &hooks, &deliver))?;
        Ok(Self { tasks, thread: Some(thread) })
    }

    /// Gives it a task.
    pub fn give(&self, task: Task) {
        // A thread that panicked took the process with it.
        let _ = self.tasks.send(task);
    }

    /// Waits until everything is done that was given so far.
    pub fn finish(&self) {
        let (done, wait) = channel();
        self.give(Task::Finish(done));
        let _ = wait.recv();
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        let (nobody, _) = channel();
        self.tasks = nobody;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn work(mut netlink: Netlink, inbox: &Receiver<Task>, hooks: &Hooks, deliver: &impl Fn(Event)) {
    let mut indices = BTreeMap::new();
    let loopback = nix::net::if_::if_nametoindex("lo").unwrap_or(1);
    let mut on_loopback = BTreeSet::new();
    while let Ok(task) = inbox.recv() {
        match task {
            Task::Interfaces(known) => indices = known,
            Task::Attach(started) => attach(&mut netlink, &indices, &on_loopback, &started, hooks, deliver),
            Task::Detach { stopped, spared } => {
                let mut edits = detach(&indices, &stopped);
                edits.retain(|edit| !matches!(edit, Edit::Remove { vip, .. } if spared.contains(vip)));
                report(netlink.apply(&edits));
                hooks.released(stopped.iter().map(|one| one.vip).collect());
            }
            Task::OnLoopback { wanted, gone } => {
                on_loopback.retain(|vip| !gone.contains(vip));
                let add = wanted.difference(&on_loopback).map(|vip| Edit::Add { vip: *vip, interface: loopback });
                let remove = on_loopback.difference(&wanted).map(|vip| Edit::Remove { vip: *vip, interface: loopback });
                let edits: Vec<Edit> = add.chain(remove).collect();
                on_loopback.clone_from(&wanted);
                for (edit, error) in netlink.apply(&edits) {
                    tracing::warn!(%error, "the kernel refused");
                    if let Edit::Add { vip, .. } = edit {
                        on_loopback.remove(&vip);
                    }
                }
            }
            Task::EndLinger(vips) => {
                let edits: Vec<Edit> = vips.into_iter().map(Edit::StopLingering).collect();
                report(netlink.apply(&edits));
            }
            Task::Finish(done) => {
                let _ = done.send(());
            }
        }
    }
}

fn attach(
    netlink: &mut Netlink,
    indices: &BTreeMap<InterfaceName, u32>,
    on_loopback: &BTreeSet<Vip>,
    started: &[Started],
    hooks: &Hooks,
    deliver: &impl Fn(Event),
) {
    for chunk in started.chunks(CHUNK) {
        let mut edits = Vec::new();
        let mut refused = Vec::new();
        let mut standing = Vec::new();
        for one in chunk {
            match (one.attach, indices.get(&one.interface)) {
                (Attach::Interface, Some(index)) => {
                    edits.push(Edit::Add { vip: one.vip, interface: *index });
                    standing.push(one.vip);
                }
                (Attach::Interface, None) => refused.push((one.vip, format!("{} is gone", one.interface))),
                // It sits there already, or the kernel refused it.
                (Attach::Loopback, _) if on_loopback.contains(&one.vip) => standing.push(one.vip),
                (Attach::Loopback, _) => refused.push((one.vip, "the kernel refused it on lo".to_owned())),
                (Attach::None, _) => {}
            }
        }
        for (edit, error) in netlink.apply(&edits) {
            tracing::warn!(%error, "the kernel refused");
            if let Edit::Add { vip, .. } = edit {
                refused.push((vip, error.to_string()));
            }
        }
        // The route by which it lingered goes once the address has its own; it is announced then.
        standing.retain(|vip| refused.iter().all(|(other, _)| other != vip));
        netlink.await_routes(&standing, ROUTE_PATIENCE);
        let routes: Vec<Edit> = standing.into_iter().map(Edit::StopLingering).collect();
        report(netlink.apply(&routes));
        let taken = chunk.iter().map(|one| one.vip).filter(|vip| refused.iter().all(|(other, _)| other != vip));
        let taken: Vec<Vip> = taken.collect();
        deliver(Event::Attached(taken.clone()));
        hooks.acquired(taken);
        if !refused.is_empty() {
            deliver(Event::Refused(refused));
        }
    }
}

fn detach(indices: &BTreeMap<InterfaceName, u32>, stopped: &[Stopped]) -> Vec<Edit> {
    let mut edits = Vec::new();
    for one in stopped {
        if one.linger.is_some() {
            edits.push(Edit::Linger(one.vip));
        }
        match (one.attach, indices.get(&one.interface)) {
            (Attach::Interface, Some(index)) => edits.push(Edit::Remove { vip: one.vip, interface: *index }),
            // What sits on `lo` stays there, on every node that may own it.
            (Attach::Interface, None) | (Attach::Loopback | Attach::None, _) => {}
        }
    }
    edits
}

fn report(refused: Vec<(Edit, super::error::HostError)>) {
    for (_, error) in refused {
        tracing::warn!(%error, "the kernel refused");
    }
}
