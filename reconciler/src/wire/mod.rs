//! Repr to bytes and back: Ethernet, ARP, NDP, the sealed datagram.
//!
//! In: bytes or values. Out: values or bytes; any bytes that parse can be emitted again.
//! Not here: sockets (`agent`), when to send what (`announce`).

pub mod arp;
pub mod ethernet;
pub mod frame;
pub mod key;
pub mod ndp;
pub mod seal;
pub mod version;
