"""Probes: is each VIP reached, each 5 ms?

In: addresses. Out: of each how many probes were sent, how many got no answer, the longest silence. Not here: who answers.
The probes are ping's, through the kernel's own neighbour table, as any client's traffic goes.
"""

import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

INTERVAL = 0.005
ANSWER = re.compile(r"^\[([0-9.]+)\] .* icmp_seq=(\d+) ")


@dataclass
class Seen:
    """What was seen of one VIP."""

    sent: int
    lost: int
    silence: float
    began: float


class Probes:
    """Probes that run from here to `stop`."""

    def __init__(self, vips: list[str]):
        self._files = {vip: tempfile.TemporaryFile("w+") for vip in vips}
        self._pings = {vip: subprocess.Popen(["ping", "-n", "-D", "-i", str(INTERVAL), vip], stdout=file, stderr=subprocess.STDOUT)
                       for vip, file in self._files.items()}

    def stop(self) -> dict[str, Seen]:
        """Ends them and counts."""
        time.sleep(0.3)
        for ping in self._pings.values():
            ping.send_signal(signal.SIGINT)
        return {vip: self._count(ping, self._files[vip]) for vip, ping in self._pings.items()}

    @staticmethod
    def _count(ping, file) -> Seen:
        ping.wait()
        file.seek(0)
        numbers, times, rounds, before = set(), [], 0, 0
        for line in file:
            if found := ANSWER.match(line):
                number = int(found[2])
                if number < before - 32768:  # The counter has 16 bits.
                    rounds += 65536
                before = number
                numbers.add(rounds + number)
                times.append(float(found[1]))
        if not numbers:
            return Seen(0, 0, float("inf"), 0.0)
        # The last one may still have been on its way.
        sent = max(numbers)
        silence, began = max(((later - earlier, earlier) for earlier, later in zip(times, times[1:])), default=(0.0, 0.0))
        return Seen(sent, sent - len(numbers), silence, began)
