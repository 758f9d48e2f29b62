"""Did the machine under the test stand still? Processes of real-time priority that only sleep, one a processor, say so.

In: nothing. Out: from when to when one of them was not woken. Not here: what that excuses (`probes`).
A daemon that no processor runs for as long as its lease lasts loses it, as it must; that tells nothing of what is tried here.
"""

import os
import subprocess
import sys

# Above the beats' own priority (reconciler/src/agent/priority.rs), so that they are not what holds it up.
PRIORITY = 50
NAP, LATE = 0.005, 0.05

SLEEPER = f"""
import os, time
os.sched_setaffinity(0, [PROCESSOR])
try:
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param({PRIORITY}))
except PermissionError:
    pass  # The daemons have none here either.
print("up", flush=True)
before = time.time()
while True:
    time.sleep({NAP})
    now = time.time()
    if now - before > {NAP + LATE}:
        print(before, now, flush=True)
    before = now
"""


class Stalls:
    """Watches from here to `stop`."""

    def __init__(self):
        self._sleepers = [
            subprocess.Popen([sys.executable, "-c", SLEEPER.replace("PROCESSOR", str(processor))], stdout=subprocess.PIPE, text=True)
            for processor in os.sched_getaffinity(0)]
        for sleeper in self._sleepers:
            assert sleeper.stdout.readline() == "up\n", "who watches the machine did not start"

    def stop(self) -> list[tuple[float, float]]:
        """From when to when one of them was held up, by the wall clock."""
        found = []
        for sleeper in self._sleepers:
            sleeper.kill()
            lines = sleeper.stdout.read().splitlines()
            sleeper.wait()
            found += [tuple(map(float, line.split())) for line in lines if len(line.split()) == 2]
        return sorted(found)
