//! Hooks: programs of the node's own file that are told which VIPs came and went.
//!
//! In: what the hands did. Out: programs run with the VIPs as arguments, one after the other, in a thread of their own:
//! nothing ever waits for one. Not here: moving VIPs (`hands`).
//!
//! A program sees the last state of each VIP, in order; one that comes and goes while another program runs is not told
//! of. After `kill -9` of the daemon nobody runs `released`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::clock;
use crate::manifest::agent_file::Hooks as Programs;
use crate::vip::Vip;

/// What moves together is told together.
const GATHER: Duration = Duration::from_millis(50);
/// So many VIPs a run: arguments of a process are bounded (execve(2)).
const ARGUMENTS: usize = 1_000;
/// A program that takes longer is killed.
const LIMIT: Duration = Duration::from_secs(30);

/// The way to the thread that runs them.
#[derive(Debug, Clone)]
pub struct Hooks(Option<Sender<(bool, Vec<Vip>)>>);

impl Hooks {
    /// Starts the thread, if there is any program to run. It ends with the last clone of what is returned; the receiver
    /// hears when.
    pub fn start(programs: Programs) -> io::Result<(Self, Receiver<()>)> {
        let (ended, wait) = channel();
        if programs.acquired.is_empty() && programs.released.is_empty() {
            return Ok((Self(None), wait));
        }
        let (told, hear) = channel();
        std::thread::Builder::new().name("hooks".to_owned()).spawn(move || {
            work(&programs, &hear);
            drop(ended);
        })?;
        Ok((Self(Some(told)), wait))
    }

    /// These came here.
    pub fn acquired(&self, vips: Vec<Vip>) {
        self.tell(true, vips);
    }

    /// These went away.
    pub fn released(&self, vips: Vec<Vip>) {
        self.tell(false, vips);
    }

    fn tell(&self, here: bool, vips: Vec<Vip>) {
        if let Some(told) = &self.0 {
            let _ = told.send((here, vips));
        }
    }
}

fn work(programs: &Programs, hear: &Receiver<(bool, Vec<Vip>)>) {
    let mut told: BTreeMap<Vip, bool> = BTreeMap::new();
    let mut over = false;
    while !over {
        let Ok((here, vips)) = hear.recv() else { return };
        let mut news: BTreeMap<Vip, bool> = vips.into_iter().map(|vip| (vip, here)).collect();
        let until = clock::now() + GATHER;
        loop {
            match hear.recv_timeout(until.since(clock::now())) {
                Ok((here, vips)) => news.extend(vips.into_iter().map(|vip| (vip, here))),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    over = true;
                    break;
                }
            }
        }
        news.retain(|vip, here| told.get(vip).copied().unwrap_or(false) != *here);
        for (here, programs) in [(false, &programs.released), (true, &programs.acquired)] {
            let vips: Vec<String> =
                news.iter().filter(|(_, it)| **it == here).map(|(vip, _)| vip.to_string()).collect();
            for vips in vips.chunks(ARGUMENTS) {
                programs.iter().for_each(|program| run(program, vips));
            }
        }
        for (vip, here) in news {
            if here {
                told.insert(vip, true)
            } else {
                told.remove(&vip)
            };
        }
    }
}

fn run(program: &Path, vips: &[String]) {
    if let Err(reason) = run_within(program, vips, LIMIT) {
        tracing::warn!(program = %program.display(), %reason, "a hook failed");
    }
}

fn run_within(program: &Path, vips: &[String], limit: Duration) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(vips).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let start = clock::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(status.to_string()),
            Ok(None) if clock::now().since(start) > limit => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("killed after {} s", limit.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    fn vips(texts: &[&str]) -> Vec<Vip> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// A program that writes its word and arguments into `log`, after `wait` seconds.
    fn program(folder: &Path, word: &str, wait: &str) -> PathBuf {
        let path = folder.join(word);
        let log = folder.join("log");
        std::fs::write(&path, format!("#!/bin/sh\nsleep {wait}\necho {word} \"$@\" >> {}\n", log.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn programs_are_told_of_what_came_and_went_and_nobody_waits_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let programs = Programs {
            acquired: vec![PathBuf::from("/nonexistent/hook"), program(folder.path(), "acquired", "0.5")],
            released: vec![program(folder.path(), "released", "0")],
        };
        let (hooks, ended) = Hooks::start(programs).unwrap();
        hooks.acquired(vips(&["10.99.0.101"]));
        hooks.acquired(vips(&["10.99.0.100", "fd99::1"]));
        // While that program sleeps: these are told together, and what came and went again is not told of at all.
        std::thread::sleep(Duration::from_millis(250));
        hooks.released(vips(&["10.99.0.100"]));
        hooks.acquired(vips(&["10.99.0.105"]));
        hooks.released(vips(&["10.99.0.105"]));
        hooks.acquired(vips(&["10.99.0.101"]));
        drop(hooks);
        assert_eq!(ended.recv_timeout(Duration::from_secs(30)), Err(RecvTimeoutError::Disconnected));
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(log, "acquired 10.99.0.100 10.99.0.101 fd99::1\nreleased 10.99.0.100\n");
    }

    #[test]
    fn a_hook_that_hangs_is_killed() {
        let result = run_within(Path::new("/bin/sleep"), &["60".to_owned()], Duration::from_millis(100));
        assert_eq!(result, Err("killed after 0 s".to_owned()));
    }
}
