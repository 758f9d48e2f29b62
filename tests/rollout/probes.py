"""Probes: is each VIP reached, each 5 ms?

In: addresses. Out: of each how many probes were sent, how many got no answer, the longest silence. Not here: who answers.
The probes are ping's, through the kernel's own neighbour table, as any client's traffic goes.
What is lost while this machine stands still, or as a consequence, is counted apart.
"""

import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass

from stalls import Stalls

INTERVAL = 0.005
ANSWER = re.compile(r"^\[([0-9.]+)\] .* icmp_seq=(\d+) ")
# So long after a stall it may take until somebody answers again: leases lapsed, and a new view begins.
AFTER = 1.0


@dataclass
class Seen:
    """What was seen of one VIP."""

    sent: int
    lost: int
    silence: float
    lost_to_stalls: int


class Probes:
    """Probes that run from here to `stop`."""

    def __init__(self, vips: list[str]):
        self._stalls = Stalls()
        self._began = time.time()
        self._files = {vip: tempfile.TemporaryFile("w+") for vip in vips}
        self._pings = {vip: subprocess.Popen(["ping", "-n", "-D", "-i", str(INTERVAL), vip], stdout=file, stderr=subprocess.STDOUT)
                       for vip, file in self._files.items()}

    def stop(self, stalls_of) -> dict[str, Seen]:
        """Ends them and counts. `stalls_of` says since a moment when this machine stood still as the hosts saw it."""
        time.sleep(0.3)
        for ping in self._pings.values():
            ping.send_signal(signal.SIGINT)
        stalls = self._stalls.stop() + stalls_of(self._began)
        stood, until = 0.0, 0.0
        for begin, end in sorted(stalls):  # Several may say the same.
            stood += max(0.0, end - max(begin, until))
            until = max(until, end)
        if stood > 0.5 + 0.02 * (time.time() - self._began):
            raise SystemExit(f"this machine stood still for {stood:.1f} s meanwhile: nothing that takes milliseconds can be measured on it")
        return {vip: self._count(ping, self._files[vip], stalls) for vip, ping in self._pings.items()}

    @staticmethod
    def _count(ping, file, stalls) -> Seen:
        ping.wait()
        file.seek(0)
        answers, rounds, before = {}, 0, 0
        for line in file:
            if found := ANSWER.match(line):
                number = int(found[2])
                if number < before - 32768:  # The counter has 16 bits.
                    rounds += 65536
                before = number
                answers.setdefault(rounds + number, float(found[1]))
        if not answers:
            return Seen(0, 0, float("inf"), 0)
        # The last one may still have been on its way.
        seen = Seen(max(answers), 0, 0.0, 0)
        numbers = sorted(answers)
        for one, other in zip([0, *numbers], numbers):
            since = answers[one] if one else answers[other]
            lost, silence = other - one - 1, answers[other] - since
            if any(begin <= answers[other] and since <= end + AFTER for begin, end in stalls):
                seen.lost_to_stalls += lost
            else:
                seen.lost += lost
                seen.silence = max(seen.silence, silence)
        return seen
