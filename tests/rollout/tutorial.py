"""The tutorial, ansible/README.md, as a program: what it tells a reader to type and to write is what the test does.

In: a section's number. Out: its commands, run one after the other in one folder; files that it shows, written there.
"""

import os
import re
import subprocess
from pathlib import Path

SECTION = re.compile(r"^## (\d+)\. (.*)$")
COMMAND = re.compile(r"^    \$ (.*)$")
FILE = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.M | re.S)


class Tutorial:
    """The tutorial and the folder in which it is followed."""

    def __init__(self, page: Path, folder: Path, environment: dict[str, str]):
        self._text = page.read_text()
        self._folder = folder
        self._environment = os.environ | environment
        for name, content in FILE.findall(self._text):
            (folder / name).write_text(content)

    def commands(self, number: int) -> list[str]:
        """What a section has its reader type."""
        found, here = [], False
        for line in self._text.splitlines():
            if section := SECTION.match(line):
                here = int(section[1]) == number
            elif here and (command := COMMAND.match(line)):
                found.append(command[1])
        if not found:
            raise SystemExit(f"ansible/README.md has no commands in section {number}")
        return found

    def follow(self, number: int) -> str:
        """Types it; the test ends where one fails. What the commands said comes back."""
        return "".join(self.type(command) for command in self.commands(number))

    def type(self, command: str, right: bool = True) -> str:
        """One command, as a reader types it; the test ends where it fails and is right, or does not and is not."""
        print(f"  $ {command}", flush=True)
        done = subprocess.run(["bash", "-c", command], cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if (done.returncode == 0) is not right:
            raise SystemExit(f"`{command}` ended with {done.returncode}:\n{done.stdout[-8000:]}")
        return done.stdout
