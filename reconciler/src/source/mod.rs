//! Which revision becomes the desired state: fast-forward only, digests, back-off.
//!
//! In: what was fetched, and when. Out: what to load next and what to say of it.
//! Not here: git itself and files (`agent`).
