"""A fresh Debian: what a host of the test begins with.

In: a folder to keep it in, since debootstrap takes a minute. Out: the root that overlays are laid on; nobody writes to it.
"""

import os
import shutil
import subprocess
from pathlib import Path

RELEASE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
# A server as its provider hands it over: systemd, ssh, what Ansible needs of it, a packet filter. git serves the repository.
PACKAGES = ["dbus", "git", "iproute2", "netbase", "nftables", "openssh-server", "procps", "python3", "python3-apt", "systemd-sysv"]
# Of no use to hosts that live for two minutes, and each would cost some of them.
MASKED = ["apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service", "dpkg-db-backup.timer", "e2scrub_all.timer",
          "fstrim.timer", "getty@.service", "systemd-logind.service", "systemd-tmpfiles-clean.timer"]


def root(keep: Path) -> Path:
    """The root, made if it is not there."""
    made = keep / f"debian-{RELEASE}"
    stamp = made / "etc" / "rollout-packages"
    if stamp.exists() and stamp.read_text() == " ".join(PACKAGES):
        return made
    shutil.rmtree(made, ignore_errors=True)
    made.parent.mkdir(parents=True, exist_ok=True)
    log = keep / "debootstrap.log"
    with log.open("w") as out:
        command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(made), MIRROR]
        done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        tail = "".join(log.read_text().splitlines(keepends=True)[-20:])
        raise SystemExit(f"debootstrap failed, see {log}:\n{tail}")
    for unit in MASKED:
        (made / "etc/systemd/system" / unit).unlink(missing_ok=True)
        os.symlink("/dev/null", made / "etc/systemd/system" / unit)
    stamp.write_text(" ".join(PACKAGES))
    return made
