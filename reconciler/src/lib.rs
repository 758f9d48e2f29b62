//! `rendezvip`: virtual IP addresses on a layer-2 segment, declared in git.
//!
//! A change goes through these rooms, top to bottom; each imports only from those below it in the
//! list of `ARCHITECTURE.md`. Only `agent`, `lab` and `cli` touch clocks, sockets, files or tokio.

pub mod agent;
pub mod announce;
pub mod cli;
pub mod digest;
pub mod engine;
pub mod lab;
pub mod manifest;
pub mod membership;
pub mod name;
pub mod placement;
pub mod revision;
pub mod sim;
pub mod source;
pub mod status;
pub mod time;
pub mod vip;
pub mod wire;
