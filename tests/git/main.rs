//! The git port against real repositories: what is read, what is pushed, what a bad server can do.

#![expect(clippy::disallowed_methods, reason = "promises about time are measured")]

mod directory;
mod http;
mod port;
mod proxy;
mod signed;
mod source;
mod ssh;
mod status;
