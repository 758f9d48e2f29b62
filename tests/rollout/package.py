"""The package in a fresh Debian: installed, upgraded, removed, purged; nothing of it is left.

In: the root to lay an overlay on, two versions of the package. Out: what was seen, in a line. No systemd runs here.
"""

import re
import shutil
import subprocess
from pathlib import Path

# Logs, caches and dpkg's own books are what any package leaves.
LOOK = r"""
for file in passwd group shadow gshadow; do sort /etc/$file; done
dpkg --list
find / -xdev -not -path '/proc*' -not -path '/package*' -not -path '/run/systemd/*' -not -path '/var/log*' -not -path '/var/cache/*' -not -path '/var/lib/apt*' \
    -not -path '/var/lib/dpkg*' -not -path '/var/lib/systemd/deb-systemd-helper*' -not -name '*-' -not -name '.updated' \
    -printf '%p %m %u %g %y %l\n' | sort
"""
TRY = [
    ("installs", "apt-get -qq install /package/old.deb"),
    ("has its program", "rendezvip --help | grep -q Usage: && rendezvip --version"),
    ("has its manual", "zcat /usr/share/man/man1/rendezvip.1.gz | grep -q '^.SH SYNOPSIS' && test -s /usr/share/man/man1/rendezvip-run.1.gz"),
    ("has completions", "bash -n /usr/share/bash-completion/completions/rendezvip && test -s /usr/share/zsh/vendor-completions/_rendezvip && "
                        "test -s /usr/share/fish/vendor_completions.d/rendezvip.fish"),
    ("has examples that are right", "for one in /usr/share/doc/rendezvip/examples/*/; do rendezvip validate $one; done"),
    ("brings a node's file that is right", "rendezvip validate --agent /etc/rendezvip/node.yaml"),
    ("brings a unit without a fault", "test -z \"$(systemd-analyze verify --man=no rendezvip.service 2>&1)\""),
    ("brings a unit that takes away what it can", "systemd-analyze security --offline=true --threshold=30 rendezvip.service"),
    ("makes its user", "test \"$(getent passwd rendezvip | cut -d: -f7)\" = /usr/sbin/nologin"),
    ("is upgraded, and keeps a file that was changed", "echo '# mine' >> /etc/rendezvip/node.yaml && apt-get -qq install /package/new.deb && "
                                                       "tail -1 /etc/rendezvip/node.yaml | grep -qx '# mine'"),
    ("is removed, and keeps that file", "apt-get -qq remove rendezvip && test ! -e /usr/bin/rendezvip && test -e /etc/rendezvip/node.yaml"),
    ("is installed again", "apt-get -qq install /package/new.deb && tail -1 /etc/rendezvip/node.yaml | grep -qx '# mine'"),
    ("is purged", "mkdir -p /var/lib/rendezvip && touch /var/lib/rendezvip/epoch /etc/rendezvip/gossip.key && apt-get -qq purge rendezvip"),
]


def check(lower: Path, folder: Path, old: Path, new: Path) -> str:
    """Tries it all; the test ends where something is not so."""
    place = folder / "package-root"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    root = place / "root"
    for name in ("upper", "work", "root"):
        (place / name).mkdir()
    layers = f"lowerdir={lower},upperdir={place}/upper,workdir={place}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, root], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    (root / "package").mkdir()
    shutil.copy(old, root / "package/old.deb")
    shutil.copy(new, root / "package/new.deb")
    before = _run(root, "looks", LOOK)
    said = "".join(_run(root, what, script) for what, script in TRY)
    exposure = re.search(r"exposure level for rendezvip\.service: ([0-9.]+)", said)[1]
    after = _run(root, "looks", LOOK)
    left = sorted(set(after.splitlines()) ^ set(before.splitlines()))
    assert not left, "the package left something behind, or took something away:\n" + "\n".join(left)
    subprocess.run(["umount", "--recursive", place], check=True)
    steps = ", ".join(what for what, _ in TRY if what.startswith(("installs", "is ")))
    return (f"the package {steps}: nothing of it is left; `systemd-analyze verify` finds nothing in its unit, "
            f"`systemd-analyze security` says {exposure}, where 3.0 is allowed")


def broken(package: Path, folder: Path) -> Path:
    """A newer version of a package whose daemon ends as soon as it starts, and whose other commands work."""
    tree = folder / "broken"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", r"\g<0>+broken", control.read_text(), flags=re.M))
    program = tree / "usr/bin/rendezvip"
    (tree / "usr/lib/rendezvip").mkdir(parents=True)
    program.rename(tree / "usr/lib/rendezvip/rendezvip")
    program.write_text('#!/bin/sh\n[ "$1" = run ] && exit 1\nexec /usr/lib/rendezvip/rendezvip "$@"\n')
    program.chmod(0o755)
    made = folder / "broken.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", "-z1", tree, made], check=True, stdout=subprocess.DEVNULL)
    return made


def _run(root, what, script):
    environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"]
    done = subprocess.run(["chroot", root, *environment, "bash", "-ec", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"it is not so that the package {what}: `{script}` ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
