//! What went wrong between us and the host, in words for the person who runs it.
//!
//! In: an operation, what it was done to, and the errno that came back. Out: [`HostError`] with a stable code.
//! Not here: what to do about it (`engine` decides, `doctor` advises).

use std::fmt;
use std::io;

use nix::errno::Errno;

/// The kind of trouble; each has a stable code and a section in `docs/errors.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostCode {
    /// The interface does not exist here (yet).
    InterfaceMissing,
    /// Another program listens on the port.
    PortInUse,
    /// CAP_NET_ADMIN is missing.
    NoNetAdmin,
    /// CAP_NET_RAW is missing.
    NoNetRaw,
    /// The kernel has no nf_tables, or none for the egress hook of devices.
    NoNfTables,
    /// The kernel is older than the oldest that can hold a lease.
    KernelTooOld,
    /// IPv6 is switched off on the interface or the host.
    Ipv6Disabled,
    /// Another living process owns the gate.
    GateOwned,
    /// The keeper could not be started, or died.
    Keeper,
    /// The kernel refused for a reason that has no code of its own.
    Refused,
}

impl HostCode {
    /// The stable code.
    pub const fn code(self) -> &'static str {
        match self {
            Self::InterfaceMissing => "RV0301",
            Self::PortInUse => "RV0302",
            Self::NoNetAdmin => "RV0303",
            Self::NoNetRaw => "RV0304",
            Self::NoNfTables => "RV0305",
            Self::KernelTooOld => "RV0306",
            Self::Ipv6Disabled => "RV0307",
            Self::GateOwned => "RV0308",
            Self::Keeper => "RV0309",
            Self::Refused => "RV0310",
        }
    }

    /// What the operator can do about it.
    pub const fn help(self) -> &'static str {
        match self {
            Self::InterfaceMissing => {
                "check the name with `ip link`; the node is not eligible there until the interface appears"
            }
            Self::PortInUse => {
                "find who holds it with `ss -lunp`; is another rendezvip running? `gossip.bind` sets the port"
            }
            Self::NoNetAdmin => {
                "give the service CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW), or run it as root"
            }
            Self::NoNetRaw => {
                "give the service CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW), or run it as root"
            }
            Self::NoNfTables => {
                "load nf_tables (`modprobe nf_tables`), or use a kernel with CONFIG_NF_TABLES_NETDEV and \
                 CONFIG_NETFILTER_EGRESS: without the gate a hung node goes on answering"
            }
            Self::KernelTooOld => "use Linux 6.9 or newer; 5.18 to 6.8 work with an ordinary table, older cannot",
            Self::Ipv6Disabled => {
                "set net.ipv6.conf.INTERFACE.disable_ipv6=0 (and `all`), or take the IPv6 addresses from the pools \
                 that select this node"
            }
            Self::GateOwned => {
                "another rendezvip on this host owns the nftables table `rendezvip`; stop it first \
                 (`nft list tables` shows the table, `systemctl status rendezvip` the service)"
            }
            Self::Keeper => {
                "the daemon starts itself once more as its keeper; check that /proc is mounted and the process limit"
            }
            Self::Refused => "`rendezvip doctor` looks at this host and says what to mend",
        }
    }
}

/// Something the host refused, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError {
    /// The kind of trouble.
    pub code: HostCode,
    /// What was tried, as words that follow "cannot".
    pub operation: &'static str,
    /// To what: an interface, an address, a port, a set.
    pub object: String,
    /// The kernel's answer, where it gave one.
    pub errno: Option<i32>,
}

impl HostError {
    /// An error whose code is known.
    pub fn new(code: HostCode, operation: &'static str, object: impl Into<String>, errno: Option<i32>) -> Self {
        Self { code, operation, object: object.into(), errno }
    }

    /// What an operation that needs CAP_NET_ADMIN answered.
    pub fn admin(operation: &'static str, object: impl Into<String>, errno: i32) -> Self {
        let code = match errno {
            libc::EPERM | libc::EACCES => HostCode::NoNetAdmin,
            libc::ENODEV | libc::ENXIO => HostCode::InterfaceMissing,
            _ => HostCode::Refused,
        };
        Self::new(code, operation, object, Some(errno))
    }

    /// What an operation that needs CAP_NET_RAW answered.
    pub fn raw(operation: &'static str, object: impl Into<String>, errno: i32) -> Self {
        let mut error = Self::admin(operation, object, errno);
        if error.code == HostCode::NoNetAdmin {
            error.code = HostCode::NoNetRaw;
        }
        error
    }

    /// What binding a port answered.
    pub fn bind(object: impl Into<String>, error: &io::Error) -> Self {
        let code = match error.raw_os_error() {
            Some(libc::EADDRINUSE) => HostCode::PortInUse,
            _ => HostCode::Refused,
        };
        Self::new(code, "listen on", object, error.raw_os_error())
    }

    /// What went wrong, without its code.
    pub fn message(&self) -> String {
        let what = format!("cannot {} {}", self.operation, self.object);
        match self.errno.map(Errno::from_raw) {
            Some(errno) => format!("{what}: {} ({errno:?})", errno.desc()),
            None => what,
        }
    }

    /// What the operator can do about it.
    pub const fn help(&self) -> &'static str {
        self.code.help()
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code.code(), self.message())
    }
}

impl std::error::Error for HostError {}

/// The errno of an I/O error, or EIO where it carries none.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The others are shown as a real host tells them (`tests/netns/errors.rs`).
    #[test]
    fn the_manual_shows_what_a_kernel_without_nf_tables_would_say() {
        let error = HostError::new(HostCode::NoNfTables, "open", "the gate", Some(libc::EOPNOTSUPP));
        let manual = include_str!("../../../docs/errors.md");
        let told = format!("{error}\n  = help: {}\n", error.help());
        assert!(manual.contains(&told), "the manual does not show:\n{told}");
    }

    #[test]
    fn a_missing_capability_is_named() {
        assert_eq!(HostError::admin("x", "y", libc::EPERM).code, HostCode::NoNetAdmin);
        assert_eq!(HostError::raw("x", "y", libc::EACCES).code, HostCode::NoNetRaw);
        assert_eq!(HostError::raw("x", "y", libc::ENXIO).code, HostCode::InterfaceMissing);
    }
}
