//! What we tell the Linux kernel, tried on a kernel: in network namespaces of our own, with real frames.
//!
//! Each test runs in a fresh user and network namespace; where none is to be had it says `skipped: …` and why.

mod gate;
mod host;
mod namespace;
