//! Who is alive: foca's list, heartbeats, leases and views.
//!
//! In: heartbeats and time. Out: heartbeats, the lease, the accepted view and what is known of it.
//! Not here: VIPs and what it costs to lose them (`engine`), sealing (`wire`).

pub mod heartbeat;
pub mod list;
mod peer;
pub mod protocol;
pub mod record;
pub mod rule;
pub mod timing;
pub mod view;
