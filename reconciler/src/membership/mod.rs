//! Who is alive: foca's list, heartbeats, leases and views.
//!
//! In: heartbeats and time. Out: heartbeats, the lease, the accepted view and what is known of it.
//! Not here: VIPs and what it costs to lose them (`engine`), sealing (`wire`).
