//! Namespaces: a machine's worth of rooms that need no root and leave nothing behind.
//!
//! In: a command to run inside. Out: that command as a child of a new PID namespace's init, root over network,
//! mounts and processes of its own; and [`Place`], one host of the lab: network, processes, mounts, host name.
//! Not here: links between places (`segment`), what runs in them.
//!
//! Three processes make a lab. [`enter`] leaves the caller's world: it makes the namespaces and waits. [`init`] is
//! PID 1 inside: it mounts what a lab needs, runs the command and reaps. The kernel kills a PID namespace with its
//! init, and init dies with `enter` (PR_SET_PDEATHSIG), so that Ctrl-C or `kill -9` half-way leaves no process, no
//! link, no mount and no file. [`init_of_a_place`] is PID 1 of one host, so that a host's death is one signal.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid, sethostname};

use super::{LabError, Step};

/// The folder of a lab: a tmpfs that only the lab sees and that vanishes with it.
pub const ROOT: &str = "/run/rendezvip-lab";

/// The binary as every place of the lab sees it, wherever it really lies.
pub const BINARY: &str = "/run/rendezvip-lab/bin/rendezvip";

/// The hidden command that becomes [`init`].
pub const INIT: &str = "lab-init";

/// The hidden command that becomes [`enter`] for another program.
pub const ENTER: &str = "lab-enter";

/// The flag of [`INIT`] that makes it [`init_of_a_place`].
pub const PLACE: &str = "--place";

/// Are we inside a lab already?
pub fn inside() -> bool {
    Path::new(BINARY).exists()
}

/// Why this host lets this user make no namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The setting that says so, as `name = value`, where one was found.
    setting: Option<&'static str>,
    /// How to allow it until the next boot.
    remedy: Option<&'static str>,
    /// What the kernel said.
    errno: Errno,
}

impl Denied {
    /// Finds the reason; `read` gives a setting below /proc/sys.
    fn diagnose(errno: Errno, read: impl Fn(&str) -> Option<String>) -> Self {
        /// Setting, value that denies, what it is called, what allows it. The last one alone is told as ENOSPC.
        const REASONS: [(&str, &str, &str, &str); 3] = [
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                "1",
                "kernel.apparmor_restrict_unprivileged_userns = 1 (the default of Ubuntu since 24.04)",
                "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            (
                "kernel/unprivileged_userns_clone",
                "0",
                "kernel.unprivileged_userns_clone = 0 (Debian's own setting)",
                "sudo sysctl -w kernel.unprivileged_userns_clone=1",
            ),
            (
                "user/max_user_namespaces",
                "0",
                "user.max_user_namespaces = 0",
                "sudo sysctl -w user.max_user_namespaces=10000",
            ),
        ];
        let [rights @ .., number] = &REASONS;
        let reasons = if errno == Errno::ENOSPC { std::slice::from_ref(number) } else { rights };
        let found = reasons.iter().find(|(name, denies, ..)| read(name).is_some_and(|value| value.trim() == *denies));
        Self { setting: found.map(|found| found.2), remedy: found.map(|found| found.3), errno }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "this host lets no user but root make the namespaces that the lab lives in")?;
        match self.setting {
            Some(setting) => writeln!(f, "  = {setting}")?,
            None => writeln!(f, "  = the kernel said: {} (a container's or seccomp's doing, as a rule)", self.errno)?,
        }
        write!(f, "  = help: run it as root, which changes nothing outside the lab: sudo rendezvip lab")?;
        if let Some(remedy) = self.remedy {
            write!(f, "\n  = help: or allow it to everybody until the next boot: {remedy}")?;
        }
        Ok(())
    }
}

/// Runs `command` as root of namespaces of its own and returns its exit code (128 + n after signal n).
///
/// The process must have one thread, as at the start of `main`: the kernel gives a user namespace to no other.
pub fn enter(command: &[OsString]) -> Result<i32, LabError> {
    let (uid, gid) = (geteuid(), getegid());
    let rooms = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    // Root needs no user namespace, and keeps what one takes away (real-time priority, large buffers).
    if !(uid.is_root() && unshare(rooms).is_ok()) {
        let denied = |errno| {
            LabError::Denied(Denied::diagnose(errno, |name| fs::read_to_string(format!("/proc/sys/{name}")).ok()))
        };
        unshare(CloneFlags::CLONE_NEWUSER).map_err(denied)?;
        let from_io = |error: io::Error| denied(error.raw_os_error().map_or(Errno::EPERM, Errno::from_raw));
        // Without this the kernel takes no gid map from somebody without root (user_namespaces(7)).
        fs::write("/proc/self/setgroups", "deny").map_err(from_io)?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(from_io)?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(from_io)?;
        unshare(rooms).map_err(denied)?;
    }
    let status = Command::new("/proc/self/exe")
        .arg(INIT)
        .arg("--")
        .args(command)
        // Whoever started the lab may have a home that the lab's user cannot even look at, and nobody's git
        // configuration has a say in it.
        .env("HOME", "/nonexistent")
        .env_remove("XDG_CONFIG_HOME")
        .status()
        .step(|| "start the init of its process namespace".to_owned())?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// PID 1 of a lab: mounts, runs `command`, reaps, and ends with its exit code, and everything with it.
pub fn init(command: &[OsString]) -> Result<i32, LabError> {
    prctl::set_pdeathsig(Signal::SIGKILL).step(|| "tie itself to the process that started it".to_owned())?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .step(|| "make its mounts private".to_owned())?;
    // Where /proc is covered in parts (containers) the kernel refuses a fresh one; the outer one does as well.
    let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none);
    // By its path: what runs here was loaded through a mount of the caller's namespace, which cannot be bound in ours.
    let binary = std::env::current_exe().and_then(File::open).step(|| "open its own binary".to_owned())?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .step(|| "mount a tmpfs on /run".to_owned())?;
    fs::create_dir_all(Path::new(BINARY).parent().unwrap_or(Path::new(ROOT)))
        .and_then(|()| File::create(BINARY).map(drop))
        .step(|| format!("make {ROOT}"))?;
    let source = format!("/proc/self/fd/{}", binary.as_raw_fd());
    mount(Some(source.as_str()), BINARY, none, MsFlags::MS_BIND, none)
        .step(|| "show its binary inside the lab".to_owned())?;

    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
        .step(|| "start a command: none was named".to_owned())?;
    let child =
        Command::new(program).args(arguments).spawn().step(|| format!("start `{}`", program.to_string_lossy()))?;
    let main = Pid::from_raw(child.id().cast_signed());
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == main => return Ok(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => return Ok(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).step(|| "wait for its command".to_owned()),
        }
    }
}

/// PID 1 of one host of a lab: reaps orphans, and signals every other process of the host when told to.
///
/// One byte a command on stdin (`K` kill, `S` stop, `C` continue), one byte back when the kernel has done it: a
/// `kill(-1)` from inside reaches all processes of the namespace at once but its init. Ends when stdin ends.
pub fn init_of_a_place() -> Result<i32, LabError> {
    let none: Option<&str> = None;
    let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none);
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block().step(|| "block SIGCHLD".to_owned())?;
    let children = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK).step(|| "make a signalfd".to_owned())?;
    let (mut stdin, mut stdout) = (io::stdin(), io::stdout());
    let mut answer = |byte: u8| stdout.write_all(&[byte]).and_then(|()| stdout.flush());
    answer(b'.').step(|| "tell that it is there".to_owned())?;
    loop {
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(children.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).step(|| "wait for a command".to_owned()),
        }
        let told = fds[0].any().unwrap_or(true);
        if fds[1].any().unwrap_or(false) {
            while let Ok(Some(_)) = children.read_signal() {}
            while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                if status == WaitStatus::StillAlive {
                    break;
                }
            }
        }
        if !told {
            continue;
        }
        let mut byte = [0; 1];
        if stdin.read(&mut byte).step(|| "read a command".to_owned())? == 0 {
            return Ok(0);
        }
        let signal = match byte[0] {
            b'K' => Signal::SIGKILL,
            b'S' => Signal::SIGSTOP,
            b'C' => Signal::SIGCONT,
            _ => continue,
        };
        // ESRCH: nobody else is there, which is what was wanted.
        let _ = kill(Pid::from_raw(-1), signal);
        answer(byte[0]).step(|| "tell that it is done".to_owned())?;
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// One host of the lab: network, processes, mounts and host name of its own.
///
/// A thread stands inside; whatever it opens or starts belongs to the place (a socket belongs to the network
/// namespace of the thread that made it, a process inherits its parent thread's namespaces).
#[derive(Debug)]
pub struct Place {
    name: String,
    door: mpsc::Sender<Job>,
    network: File,
    init: Mutex<Init>,
}

#[derive(Debug)]
struct Init {
    process: Child,
    ask: ChildStdin,
    answer: ChildStdout,
}

impl Place {
    /// A new host under `name`, with nothing but `lo` in it.
    pub fn new(name: &str) -> Result<Self, LabError> {
        let (door, jobs) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        let inside = name.to_owned();
        thread::Builder::new()
            .name(format!("place-{name}"))
            .spawn(move || {
                let _ = ready.send(move_in(&inside));
                for job in jobs {
                    job();
                }
            })
            .step(|| format!("start a thread for {name}"))?;
        let (network, init) = made
            .recv()
            .map_err(|_| io::Error::other("its thread ended"))
            .step(|| format!("make the host {name}"))??;
        Ok(Self { name: name.to_owned(), door, network, init: Mutex::new(init) })
    }

    /// The host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its network namespace, for moving a link into it.
    pub fn network(&self) -> &File {
        &self.network
    }

    /// Does `job` inside, and returns what it returned.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = move || {
            // Whoever asked waits below, unless the whole lab is ending.
            let _ = done.send(job());
        };
        self.door.send(Box::new(job)).unwrap_or_else(|_| panic!("the thread inside {} ended", self.name));
        result.recv().unwrap_or_else(|_| panic!("a job inside {} panicked", self.name))
    }

    /// Starts a program inside.
    pub fn spawn(&self, mut command: Command) -> io::Result<Child> {
        self.run(move || command.spawn())
    }

    /// Runs a program inside to its end, with what it wrote.
    pub fn output(&self, mut command: Command) -> io::Result<std::process::Output> {
        // Started at the door, awaited here: the door stays open for others.
        let child =
            self.run(move || command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn())?;
        child.wait_with_output()
    }

    /// SIGKILL to every process here in one go; network, addresses and nftables stay.
    pub fn kill_all(&self) -> io::Result<()> {
        self.command(b'K')
    }

    /// SIGSTOP to every process here in one go.
    pub fn stop_all(&self) -> io::Result<()> {
        self.command(b'S')
    }

    /// SIGCONT to every process here in one go.
    pub fn continue_all(&self) -> io::Result<()> {
        self.command(b'C')
    }

    /// The power goes: every process here is gone at once, and none can be started again.
    pub fn power_off(&self) -> io::Result<()> {
        let mut init = self.init.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        init.process.kill()
        // Not awaited: the kernel holds an init back until everybody in its namespace has been awaited by whoever
        // started them, and that is us too.
    }

    fn command(&self, byte: u8) -> io::Result<()> {
        let mut init = self.init.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        init.ask.write_all(&[byte])?;
        init.ask.flush()?;
        init.answer.read_exact(&mut [0; 1])
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.power_off();
    }
}

/// Takes the calling thread into namespaces of its own, and starts the init of their processes.
fn move_in(name: &str) -> Result<(File, Init), LabError> {
    let none: Option<&str> = None;
    unshare(
        CloneFlags::CLONE_FS
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWUTS,
    )
    .step(|| format!("make the namespaces of {name}"))?;
    sethostname(name).step(|| format!("name the host {name}"))?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .step(|| format!("make the mounts of {name} private"))?;
    let network = File::open("/proc/thread-self/ns/net").step(|| format!("open the network of {name}"))?;
    // A /run of its own (pid files, control sockets), with the lab's folder kept in view.
    let root = File::open(ROOT).step(|| format!("open {ROOT}"))?;
    let kept = PathBuf::from(format!("/proc/thread-self/fd/{}", root.as_raw_fd()));
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .step(|| format!("mount a tmpfs on /run of {name}"))?;
    fs::create_dir(ROOT).step(|| format!("make {ROOT} in {name}"))?;
    mount(Some(&kept), ROOT, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .step(|| format!("show {ROOT} in {name}"))?;
    // sysfs shows the network of whoever mounted it; refused in some containers, where nothing here needs it.
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none);

    let mut process = Command::new(BINARY)
        .args([INIT, PLACE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .step(|| format!("start the init of {name}"))?;
    let pipes = process.stdin.take().zip(process.stdout.take());
    let (ask, mut answer) =
        pipes.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe)).step(|| format!("reach the init of {name}"))?;
    answer.read_exact(&mut [0; 1]).step(|| format!("hear from the init of {name}"))?;
    Ok((network, Init { process, ask, answer }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_denied_namespaces_reads_which_setting_says_so_and_what_to_do() {
        let ubuntu = |name: &str| (name == "kernel/apparmor_restrict_unprivileged_userns").then(|| "1\n".to_owned());
        insta::assert_snapshot!(LabError::Denied(Denied::diagnose(Errno::EACCES, ubuntu)), @r"
        error[RV0380]: this host lets no user but root make the namespaces that the lab lives in
          = kernel.apparmor_restrict_unprivileged_userns = 1 (the default of Ubuntu since 24.04)
          = help: run it as root, which changes nothing outside the lab: sudo rendezvip lab
          = help: or allow it to everybody until the next boot: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
        ");
        let both = |name: &str| Some(if name.starts_with("user/") { "0\n" } else { "1\n" }.to_owned());
        insta::assert_snapshot!(LabError::Denied(Denied::diagnose(Errno::ENOSPC, both)), @r"
        error[RV0380]: this host lets no user but root make the namespaces that the lab lives in
          = user.max_user_namespaces = 0
          = help: run it as root, which changes nothing outside the lab: sudo rendezvip lab
          = help: or allow it to everybody until the next boot: sudo sysctl -w user.max_user_namespaces=10000
        ");
        insta::assert_snapshot!(LabError::Denied(Denied::diagnose(Errno::EPERM, |_| None)), @r"
        error[RV0380]: this host lets no user but root make the namespaces that the lab lives in
          = the kernel said: EPERM: Operation not permitted (a container's or seccomp's doing, as a rule)
          = help: run it as root, which changes nothing outside the lab: sudo rendezvip lab
        ");
    }
}
