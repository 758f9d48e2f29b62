//! `rendezvip import`: manifests from another program's configuration.
//!
//! In: keepalived.conf, or MetalLB's objects. Out: manifests in a directory, and a report of what could not be
//! carried over and who owns each VIP before and after. Not here: reading these (`keepalived`, `metallb`).

mod draft;
mod keepalived;
mod metallb;
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::exit::Exit;
use super::failure::Failure;
use super::plan::Forecast;
use super::terminal;
use crate::agent::directory;
use crate::name::{ClusterName, NodeName};
use draft::Draft;

/// Write manifests from the configuration of keepalived or MetalLB
///
/// Says line by line what could not be carried over, and who owns each VIP before and after.
#[derive(Debug, Args)]
pub struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// From the keepalived.conf of each host
    ///
    /// A file's node is called as its `router_id`, else as the file (edge-a.conf) or its folder
    /// (edge-a/keepalived.conf). A file with conditions (@edge-a priority 150) stands for all hosts that it names.
    Keepalived(Common),
    /// From MetalLB's IPAddressPools and L2Advertisements, or its old ConfigMap
    ///
    /// Give what `kubectl get nodes,services -A -o yaml` prints as a file too: then the nodes, their labels and the
    /// addresses in use are known.
    Metallb(Common),
}

#[derive(Debug, Args)]
struct Common {
    /// Files to read
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to write the manifests: a directory that does not exist or is empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Names and addresses of the nodes
    #[arg(long, value_name = "NAME=ADDRESS,…", value_delimiter = ',', value_parser = node)]
    nodes: Vec<(NodeName, IpAddr)>,
    /// What the cluster is called
    #[arg(long, value_name = "NAME", default_value = "imported")]
    cluster: ClusterName,
    /// How the report is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For a person
    #[default]
    Human,
    /// For a program
    Json,
}

fn node(text: &str) -> Result<(NodeName, IpAddr), String> {
    let (name, address) = text.split_once('=').ok_or("a node is written as NAME=ADDRESS, as in edge-a=10.0.0.1")?;
    let name = name.parse().map_err(|error| format!("{error}"))?;
    let address = address.trim_matches(['[', ']']);
    Ok((name, address.parse().map_err(|_| format!("`{address}` is not an IP address"))?))
}

/// Runs the command.
pub fn run(args: &Import) -> Exit {
    let (common, from, before) = match &args.from {
        From::Keepalived(common) => (common, "keepalived", "MASTER BY PRIORITY"),
        From::Metallb(common) => (common, "MetalLB", "METALLB'S OWNER"),
    };
    let done = draft(&args.from, common).and_then(|draft| write(&draft, common, from, before));
    match done {
        Ok(text) => {
            terminal::print(&text);
            Exit::Fine
        }
        Err(failure) => {
            eprintln!("{failure}");
            Exit::Bad
        }
    }
}

/// The disk.
struct Disk;

impl keepalived::Files for Disk {
    fn read(&self, path: &Path) -> Result<String, String> {
        let bytes = fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        // Comments in an older encoding are no reason to refuse a file.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&self, folder: &Path) -> Vec<String> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

fn draft(from: &From, common: &Common) -> Result<Draft, Failure> {
    let nodes: BTreeMap<NodeName, IpAddr> = common.nodes.iter().cloned().collect();
    let draft = match from {
        From::Keepalived(_) => keepalived::import(&Disk, &common.files, &nodes, common.cluster.clone())?,
        From::Metallb(_) => {
            let read = |path: &PathBuf| {
                let unreadable = |error| {
                    let message = format!("cannot read {}: {error}", path.display());
                    Failure::new("RV0650", message, "name the files that hold MetalLB's objects")
                };
                Ok((path.display().to_string(), fs::read(path).map_err(unreadable)?))
            };
            let files: Vec<(String, Vec<u8>)> = common.files.iter().map(read).collect::<Result<_, Failure>>()?;
            metallb::import(&files, &nodes, common.cluster.clone())?
        }
    };
    if draft.pools.is_empty() {
        let notes: Vec<String> =
            draft.notes.iter().map(|note| format!("\n  {}:{}: {}", note.file, note.line, note.message)).collect();
        let message = format!("there is no address in these files that rendezvip could take over{}", notes.concat());
        return Err(Failure::new("RV0653", message, "name the files that declare the VIPs"));
    }
    Ok(draft)
}

fn write(draft: &Draft, common: &Common, from: &str, before: &str) -> Result<String, Failure> {
    let out = &common.out;
    let unwritable = |path: &Path, error: std::io::Error| {
        let message = format!("cannot write {}: {error}", path.display());
        Failure::new("RV0652", message, "choose another directory with --out")
    };
    if fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        let message = format!("{} is not empty", out.display());
        return Err(Failure::new("RV0652", message, "choose a directory that does not exist yet with --out"));
    }
    let files = draft.files(from);
    for (path, text) in &files {
        let path = out.join(path);
        let folder = path.parent().unwrap_or(out);
        fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
        fs::write(&path, text).map_err(|error| unwritable(&path, error))?;
    }
    // What counts is what rendezvip itself reads from there.
    let loaded = directory::read(out).load();
    let Some(desired) = loaded.desired else {
        let found: Vec<String> = loaded.diagnostics.iter().map(|diagnostic| format!("\n  {diagnostic}")).collect();
        let message = format!("what was written to {} is not valid{}", out.display(), found.concat());
        return Err(Failure::new("RV0654", message, "mend these by hand, and check with `rendezvip validate`"));
    };
    let forecast = Forecast::new(desired, None);
    let owners = report::owners(draft, &forecast);
    let paths: Vec<String> = files.into_keys().collect();
    Ok(match common.format {
        Format::Human => report::human(draft, &paths, &out.display().to_string(), before, &owners),
        Format::Json => report::json(draft, &paths, &owners),
    })
}
