"""A thread that hangs while the rest of its process goes on.

In: a host, a process there, the name of one of its threads. Out: whether the thread is gone; on the way out it goes on, if it can.
SIGSTOP stops all threads of a process and a cgroup freezes them all; ptrace(2) alone stops one.
"""

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path

# include/uapi/linux/ptrace.h; `__WALL`, include/uapi/linux/wait.h: threads count as children of who traces them.
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000


class Hung:
    """A thread that is held."""

    def __init__(self, thread: int):
        self._thread = thread
        self._gone = False
        _ptrace(SEIZE, thread)
        _ptrace(INTERRUPT, thread)
        os.waitpid(thread, WALL)

    def gone(self) -> bool:
        """Was it killed? To be asked often: the process is not over before who traces the thread has seen its end."""
        if not self._gone:
            ended, how = os.waitpid(self._thread, WALL | os.WNOHANG)
            self._gone = ended != 0 and not os.WIFSTOPPED(how)
        return self._gone


@contextmanager
def hung(host_pid: int, process: int, name: str):
    """Holds a thread of a process that has this number on the host whose PID 1 this is."""
    held = Hung(_thread(_outside(host_pid, process), name))
    try:
        yield held
    finally:
        if not held.gone():
            _ptrace(DETACH, held._thread)


def _outside(host_pid: int, process: int) -> int:
    """What a process of the host is called out here."""
    namespace = os.readlink(f"/proc/{host_pid}/ns/pid")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "ns/pid") == namespace:
                numbers = next(line for line in (folder / "status").read_text().splitlines() if line.startswith("NSpid:"))
                if int(numbers.split()[-1]) == process:
                    return int(folder.name)
        except OSError:
            pass  # It ended meanwhile.
    raise SystemExit(f"the host has no process {process}")


def _thread(process: int, name: str) -> int:
    for folder in Path(f"/proc/{process}/task").iterdir():
        if (folder / "comm").read_text().strip() == name:
            return int(folder.name)
    raise SystemExit(f"process {process} has no thread `{name}`")


def _ptrace(request: int, thread: int):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(request, thread, None, None) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
