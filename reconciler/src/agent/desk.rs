//! The desk between the running node and those who ask it: what it knows, and what may be ordered.
//!
//! In: reports from the office. Out: [`Published`] for readers, [`Order`]s for the office. Not here: HTTP and the
//! control socket (`http`, `control`), who computes what is published (`office`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};

use super::clock;
use super::office::Message;
use super::trips::{Trip, Trips};
use crate::engine::report::{Rank, Report};
use crate::name::{NodeName, PoolName};
use crate::status::snapshot::{Note, Snapshot, VipState};
use crate::status::wall::Wall;
use crate::time::micros;
use crate::vip::Vip;

/// What the node knows, as of its last change.
#[derive(Debug, Clone)]
pub struct Published {
    /// The snapshot that `status` prints and the scribe writes.
    pub snapshot: Arc<Snapshot>,
    /// What it was made of, for `why`.
    pub report: Arc<Report>,
    /// What moved each VIP, the latest last, since this node started.
    pub moves: Arc<BTreeMap<Vip, Vec<Moved>>>,
}

/// A VIP went from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// When this node saw it.
    pub at: Wall,
    /// From whom.
    pub from: Option<NodeName>,
    /// To whom.
    pub to: Option<NodeName>,
    /// Why, in a sentence.
    pub cause: String,
}

/// Why a VIP is where it is: what `rendezvip why VIP --format json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The address.
    pub vip: Vip,
    /// Its pool.
    pub pool: PoolName,
    /// Who should have it.
    pub desired: Option<NodeName>,
    /// Who has it, as measured.
    pub actual: Option<NodeName>,
    /// How it is.
    pub state: VipState,
    /// Since when `actual` is what it is.
    pub since: Wall,
    /// What is the matter, where something is.
    pub note: Option<Note>,
    /// Every declared node, in the order in which they would get it.
    pub ranking: Vec<Rank>,
    /// What moved it, the latest last.
    pub moves: Vec<Moved>,
    /// When this was known.
    #[serde(rename = "time")]
    pub at: Wall,
}

impl Published {
    /// Why a VIP is where it is; nothing for one that is not declared.
    pub fn why(&self, vip: Vip) -> Option<Why> {
        let status = self.snapshot.vips.iter().find(|status| status.vip == vip)?.clone();
        Some(Why {
            vip,
            pool: status.pool,
            desired: status.desired,
            actual: status.actual,
            state: status.state,
            since: status.since,
            note: status.note,
            ranking: self.report.ranking(vip),
            moves: self.moves.get(&vip).cloned().unwrap_or_default(),
            at: self.snapshot.at,
        })
    }
}

/// What a person may order of a running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "order")]
pub enum Order {
    /// Give away what is held, take nothing new.
    Drain,
    /// The opposite.
    Resume,
    /// Fetch now.
    Reconcile {
        /// A revision of a rewritten history that is to be accepted.
        accept_history: Option<String>,
    },
    /// Read the key file again.
    Reload,
    /// Begin anew with these nodes.
    Form {
        /// Their names.
        nodes: Vec<NodeName>,
    },
}

/// How an order was taken: a line for the person, or why not, with a code.
pub type Answer = Result<String, String>;

/// Counts that the beat makes and the metrics show.
#[derive(Debug, Default)]
pub struct Counters {
    /// Datagrams sent.
    pub sent: AtomicU64,
    /// Datagrams received whose seal was good.
    pub received: AtomicU64,
    /// Datagrams refused by their seal or form.
    pub refused: AtomicU64,
    /// Frames sent.
    pub frames: AtomicU64,
    /// Times that the beat came round.
    pub rounds: AtomicU64,
    /// Times that the beat came more than 5 ms late, and the latest of all, in microseconds.
    pub late: AtomicU64,
    /// The latest beat of all, in microseconds.
    pub latest: AtomicU64,
    /// Round trips to the peers.
    pub trips: Trips,
    /// Is what the engine is told written down at present?
    pub recording: AtomicBool,
    /// Bytes of that so far.
    pub recorded: AtomicU64,
}

impl Counters {
    /// One more.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How well the beat keeps its time: what `rendezvip doctor` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pace {
    /// The heartbeat in force, in milliseconds; nothing before the first revision.
    pub heartbeat_ms: Option<u64>,
    /// Times that the beat came more than 5 ms late.
    pub late: u64,
    /// The latest beat of all, in microseconds.
    pub latest_us: u64,
    /// Round trips to the peers, in microseconds.
    pub peers: Vec<Trip>,
}

/// The desk. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk {
    published: Arc<RwLock<Option<Published>>>,
    orders: Sender<Message>,
    /// What the beat counts.
    pub counters: Arc<Counters>,
}

impl Desk {
    /// A desk, and the office's end of it.
    pub fn new() -> (Self, Receiver<Message>) {
        let (orders, inbox) = channel();
        let counters = Arc::new(Counters::default());
        (Self { published: Arc::new(RwLock::new(None)), orders, counters }, inbox)
    }

    /// What the node knows; nothing in the first moments.
    pub fn published(&self) -> Option<Published> {
        self.published.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// From now on this is what the node knows.
    pub fn publish(&self, published: Published) {
        *self.published.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(published);
    }

    /// How well the beat keeps its time.
    pub fn pace(&self) -> Pace {
        let generation = self.published().and_then(|published| published.report.generation.clone());
        let heartbeat = generation.map(|generation| generation.desired.cluster.failover.heartbeat);
        Pace {
            heartbeat_ms: heartbeat.map(|heartbeat| micros(heartbeat) / 1000),
            late: self.counters.late.load(Ordering::Relaxed),
            latest_us: self.counters.latest.load(Ordering::Relaxed),
            peers: self.counters.trips.summary(clock::now()),
        }
    }

    /// Orders something, and waits for the answer.
    pub fn order(&self, order: Order) -> Answer {
        let (reply, answer) = channel();
        let gone = || "error[RV0601]: the node is stopping".to_owned();
        self.orders.send(Message::Order(order, reply)).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    /// Does the cluster run this revision, or one that descends from it? Nothing while nobody knows yet; ask again.
    pub fn runs(&self, revision: String) -> Option<bool> {
        let (reply, answer) = channel();
        self.orders.send(Message::Runs(revision, reply)).ok()?;
        answer.recv().ok()?
    }

    /// Says something to the office.
    pub fn say(&self, message: Message) {
        // An office that is gone has nothing more to do.
        let _ = self.orders.send(message);
    }
}
