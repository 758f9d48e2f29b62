//! YAML to a checked [`Desired`](desired::Desired), with every problem found at once.
//!
//! In: files as text. Out: `Desired` or diagnostics with spans.
//! Not here: reading files (`cli`, `agent`), deciding owners (`placement`).

pub mod desired;
