//! `rendezvip validate`: is this repository, or this node's own file, fine?
//!
//! In: a directory or a file. Out: findings on stdout; exit 0 without errors, 1 with.
//! Not here: what is checked (`manifest`), how findings look (`findings`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use ipnet::IpNet;

use super::ask;
use super::exit::Exit;
use super::findings::{Format, Report};
use super::{revision, terminal};
use crate::agent::directory::Listing;
use crate::agent::run::CannotRun;
use crate::manifest::agent_file::{Source, parse_agent, without_credentials};
use crate::manifest::desired::Desired;
use crate::manifest::diagnostic::{Code, Diagnostic, Span};

/// Check the manifests of a directory, or a node's own file: all problems at once
#[derive(Debug, Args)]
pub struct Validate {
    /// The directory, as `source.git.path` would name it
    #[arg(required_unless_present = "agent")]
    dir: Option<PathBuf>,
    /// Check a node's own file (kind Agent) instead
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    agent: Option<PathBuf>,
    /// Check what this revision of DIR's repository has there, as a node reads it, and not what lies on disk
    #[arg(long, value_name = "REV", conflicts_with = "agent")]
    revision: Option<String>,
    /// Begin the paths of findings with this: where DIR lies in the repository, for the annotations of a forge
    #[arg(long, value_name = "PATH", conflicts_with = "agent")]
    prefix: Option<String>,
    /// A node's own file, as often as there are such: warns of VIPs that none of these nodes allows
    #[arg(long, value_name = "FILE", conflicts_with = "agent")]
    node_file: Vec<PathBuf>,
    /// How findings are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Validate) -> Exit {
    match (&args.agent, &args.dir) {
        (Some(file), _) => validate_agent(file, args.format),
        (None, Some(dir)) => match revision::listing(dir, args.revision.as_deref(), args.prefix.as_deref()) {
            Ok(listing) => match allowed(&args.node_file) {
                Ok(allowed) => validate_directory(&listing, allowed.as_deref(), args.format),
                Err(error) => {
                    eprintln!("{error}");
                    Exit::Bad
                }
            },
            Err(failure) => {
                eprintln!("{failure}");
                Exit::Bad
            }
        },
        // clap asks for one of them.
        (None, None) => Exit::Usage,
    }
}

fn finish(report: &Report<'_>, format: Format) -> Exit {
    terminal::print(&report.render(format, terminal::colour()));
    if report.is_bad() { Exit::Bad } else { Exit::Fine }
}

/// What the nodes' own files allow together; nothing where one of them sets no bounds, or none is given.
fn allowed(files: &[PathBuf]) -> Result<Option<Vec<IpNet>>, CannotRun> {
    let mut all = Vec::new();
    for file in files {
        match ask::node_file(file)?.allow.prefixes {
            Some(prefixes) => all.extend(prefixes),
            None => return Ok(None),
        }
    }
    all.sort();
    all.dedup();
    Ok((!files.is_empty()).then_some(all))
}

fn validate_directory(listing: &Listing, allowed: Option<&[IpNet]>, format: Format) -> Exit {
    let loaded = listing.load_within(allowed);
    let files: Vec<(&str, &[u8])> =
        listing.files.iter().map(|file| (file.path.as_str(), file.text.as_slice())).collect();
    let success = loaded.desired.as_ref().map(summary).unwrap_or_default();
    finish(&Report { diagnostics: &loaded.diagnostics, files: &files, success: &success }, format)
}

fn summary(desired: &Desired) -> String {
    let count = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let vips = desired.pools.values().map(|pool| pool.addresses.len()).sum();
    format!(
        "fine: cluster {}, {}, {}, {} (sha256:{})",
        desired.cluster.name,
        count(desired.nodes.len(), "node"),
        count(desired.pools.len(), "pool"),
        count(vips, "VIP"),
        desired.digest.short()
    )
}

fn validate_agent(file: &Path, format: Format) -> Exit {
    let path = file.to_string_lossy();
    let (text, result) = match std::fs::read(file) {
        Ok(text) => {
            let result = parse_agent(&text, &path);
            (text, result)
        }
        Err(error) => {
            let message = format!("cannot read this file: {error}");
            let unreadable = Diagnostic::new(Code::Unreadable, &Arc::from(&*path), Span::FIRST, message);
            (Vec::new(), Err(vec![unreadable]))
        }
    };
    let success = match &result {
        Ok(agent) => {
            let node = agent.node.as_ref().map_or_else(|| "the host's name".to_owned(), |name| format!("node {name}"));
            let source = match &agent.source {
                Source::Git(git) => format!("{} of {}", git.branch, without_credentials(&git.url)),
                Source::Directory(directory) => directory.display().to_string(),
            };
            format!("fine: {node} follows {source}")
        }
        Err(_) => String::new(),
    };
    let diagnostics = result.err().unwrap_or_default();
    let files = [(&*path, text.as_slice())];
    finish(&Report { diagnostics: &diagnostics, files: &files, success: &success }, format)
}
