"""A host: a Debian of its own, with systemd as its PID 1, in namespaces on one bridge.

In: a name, an address, the root to lay an overlay on. Out: commands run inside; what the host looks like, to be compared.
Everything it is made of ends with the test's own namespaces; of its cgroup an empty folder remains, see `sweep`.
"""

import os
import shlex
import subprocess
import time
from pathlib import Path

CGROUP = "rendezvip-rollout"

# PID 1's first steps, in the new namespaces. cgroup2 alone, whatever the machine has beside it: systemd asks no more.
BOOT = r"""
set -e
mount -t tmpfs tmpfs {place}
mkdir {place}/upper {place}/work {place}/root
mount -t overlay overlay -o lowerdir={lower},upperdir={place}/upper,workdir={place}/work {place}/root
cd {place}/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
touch dev/console
mount --bind {console} dev/console
hostname {name}
echo {name} > etc/hostname
mkdir .outside
pivot_root . .outside
umount -l .outside
rmdir .outside
exec env -i container=rollout PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=multi-user.target
"""

# What a host is, as far as rendezvip could leave a trace of itself. Left out: logs, caches and what any use of a host changes.
LOOK = r"""
# Addresses of a link that has just come up are tentative for a second (RFC 4862, section 5.4).
until [ -z "$(ip -o address show tentative)" ]; do sleep 0.1; done
for file in passwd group shadow gshadow; do sed "s/^/$file /" /etc/$file | sort; done
dpkg --list | awk '$1 ~ /^[a-z][a-zA-Z]$/ {print "package", $1, $2, $3}'
systemctl list-unit-files --no-legend | sed 's/^/unit /'
systemctl list-units --all --no-legend --plain --type=service,socket,timer | awk '{print "runs", $1, $3, $4}' |
    grep -v -e 'session-' -e 'user@' -e 'ssh@' -e user-runtime-dir@
ip -o address | sed -e 's/ valid_lft.*//' -e 's/^/address /'
ip route show table all | sed 's/^/route /'
nft list ruleset | sed -e 's/counter packets [0-9]* bytes [0-9]*/counter/' -e 's/^/filter /'
grep -rH . /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf 2>/dev/null | grep -v stable_secret | sed 's/^/sysctl /'
ss -Hlntu | awk '{print "listens", $1, $5}'
find /etc /usr /var /opt /root /srv /boot -xdev \
    -not -path '/var/log*' -not -path '/var/cache/*' -not -path '/var/lib/apt*' -not -path '/var/lib/dpkg*' \
    -not -path '/var/tmp*' -not -path '/var/lib/systemd/*' -not -path '*/.ansible*' -not -path '*/__pycache__*' \
    -not -name '*-' -not -name '.updated' -not -name ld.so.cache -not -type d \
    -printf 'file %p %m %u %g %l %s\n' | sort
find /etc /usr /var /opt /root /srv -xdev -type d -not -path '/var/tmp/*' -not -path '*/.ansible*' -not -path '/var/log/*' \
    -not -path '/var/cache/apt/*' -not -path '/var/lib/apt/*' \
    -not -path '/var/lib/systemd/*' -not -path '*/__pycache__*' -printf 'folder %p %m %u %g\n' | sort
find /etc -xdev -type f -not -name '*-' -not -name .updated -not -name ld.so.cache -exec sha256sum {} + | sed 's/^/content /' | sort
find /run -maxdepth 1 -not -name motd.dynamic -printf 'run %p %m %u\n' | sort
"""


class Host:
    """One host. It boots when it is made."""

    def __init__(self, name: str, address: str, lower: Path, folder: Path, bridge: str):
        self.name, self.address = name, address
        place = folder / name
        place.mkdir(parents=True)
        self.console = folder / f"{name}.console"
        self.console.touch()
        boot = BOOT.format(place=place, lower=lower, name=name, console=self.console)
        cgroup = _cgroup2() / CGROUP / name
        cgroup.mkdir(parents=True, exist_ok=True)
        enter = f"echo $$ > {cgroup}/cgroup.procs && exec unshare --fork --kill-child=KILL --pid --mount --net --uts --ipc --cgroup bash -c "
        self._outer = subprocess.Popen(["bash", "-c", enter + shlex.quote(boot)], stdin=subprocess.DEVNULL,
                                       stdout=self.console.open("w"), stderr=subprocess.STDOUT)
        self.pid = self._wait(self._child, "no PID 1")
        self._wait(self._own_network, "no network namespace")
        link = f"v-{name}"
        ip = ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid)]
        subprocess.run(ip, check=True)
        subprocess.run(["ip", "link", "set", link, "master", bridge, "up"], check=True)
        self._net("ip", "link", "set", "lo", "up")
        self._net("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self._net("ip", "link", "set", "eth0", "up")

    def _child(self):
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        return int(children[0]) if children else None

    def _own_network(self):
        return os.readlink(f"/proc/{self.pid}/ns/net") != os.readlink("/proc/self/ns/net")

    def _net(self, *command):
        subprocess.run(["nsenter", "--target", str(self.pid), "--net", *command], check=True)

    def _wait(self, ask, otherwise, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._outer.poll() is not None:
                break
            try:
                if answer := ask():
                    return answer
            except OSError:
                pass
            time.sleep(0.05)
        raise SystemExit(f"{self.name}: {otherwise}:\n{self.console.read_text()[-3000:]}")

    def booted(self):
        """Returns once systemd has started what it starts at boot."""
        self._wait(lambda: self.run("systemctl is-system-running", check=False).strip() in ("running", "degraded"), "did not boot")
        return self

    def run(self, script: str, check=True) -> str:
        """What a shell on the host says to this script."""
        command = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup",
                   "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "bash", "-c", script]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise SystemExit(f"{self.name}: `{script}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def look(self) -> list[str]:
        """What the host looks like."""
        return self.run(LOOK).splitlines()


def _cgroup2() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise SystemExit("no cgroup2 file system is mounted: systemd cannot run without")


def sweep():
    """Removes the empty cgroups of hosts that are gone."""
    top = _cgroup2() / CGROUP
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            pass  # Somebody else's hosts are still in it.
