//! The shell: one file per port to the host, and one executor that runs Actions and chooses nothing.
//!
//! In: the node's own file, the kernel, the network, git. Out: Events for the engine, effects on the host.
//! Not here: any decision (`engine`).

pub mod beat;
pub mod checks;
pub mod clock;
pub mod control;
pub mod descent;
pub mod desk;
pub mod directory;
pub mod doctor;
pub mod error;
pub mod git;
pub mod gossip;
pub mod hands;
pub mod hooks;
pub mod http;
pub mod keeper;
pub mod keyfile;
pub mod manager;
pub mod metrics;
pub mod netlink;
pub mod nft;
pub mod office;
pub mod packet;
pub mod priority;
pub mod recorder;
pub mod run;
pub mod scan;
pub mod state;
mod tlv;
pub mod trips;
pub mod watch;
pub mod webhook;
