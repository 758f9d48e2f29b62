//! Many engines on a simulated LAN and clock, with faults, and checkers outside the nodes.
//!
//! In: a seed and options. Out: violations, figures and a digest of the trace.
//! Not here: the real network (`agent`, `lab`).
