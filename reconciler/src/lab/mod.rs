//! Namespaces, a client and faults: behind `rendezvip lab`, the end-to-end tests and the benchmarks.
//!
//! In: a story to play. Out: real packets on a segment of our own, and what was measured of them.
//! Not here: anything that runs in production.
