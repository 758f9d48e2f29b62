//! What to say on the wire about a VIP, when, and what to make of what others say.
//!
//! In: VIPs taken and given up, frames heard. Out: frames to send and their times.
//! Not here: bytes (`wire`), sockets (`agent`), who owns a VIP (`placement`).

pub mod conflict;
pub mod filter;
pub mod frames;
pub mod resolve;
pub mod responder;
pub mod schedule;
