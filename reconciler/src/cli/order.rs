//! Orders to a running node, and how their answers are shown: the common part of `drain`, `resume`, `reconcile`, `form`.
//!
//! In: an order, a format. Out: a line on stdout, or an error on stderr. Not here: each command's own questions.

use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use super::ask::Ask;
use super::exit::Exit;
use super::terminal;
use crate::agent::desk::Order;
use crate::manifest::fields::duration;

/// Between two questions of a command that waits.
pub const PAUSE: Duration = Duration::from_millis(200);

/// How long to wait, from the command line: as durations in manifests, `60s`.
pub fn patience(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|why| format!("`{text}` {why}: write an integer and ms, s, m or h, such as `60s`"))
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

#[derive(Serialize)]
struct Told<'a> {
    ok: bool,
    message: &'a str,
}

/// Gives the order and shows the answer.
pub fn give(ask: &Ask, order: &Order, format: Format) -> Exit {
    let node = match ask.node() {
        Ok(node) => node,
        Err(error) => return refuse(&error),
    };
    match node.order(order) {
        Ok(Ok(text)) => {
            say(format, true, &text);
            Exit::Fine
        }
        Ok(Err(text)) => {
            match format {
                Format::Human => eprintln!("{text}"),
                Format::Json => say(format, false, &text),
            }
            Exit::Bad
        }
        Err(failure) => refuse(&failure),
    }
}

/// Shows a line that a command ends with.
pub fn say(format: Format, ok: bool, message: &str) {
    match format {
        Format::Human => terminal::print(&format!("{message}\n")),
        Format::Json => {
            let line = serde_json::to_string(&Told { ok, message }).unwrap_or_default();
            terminal::print(&format!("{line}\n"));
        }
    }
}

/// Shows why a command could not do its work.
pub fn refuse(error: &impl std::fmt::Display) -> Exit {
    eprintln!("{error}");
    Exit::Bad
}
