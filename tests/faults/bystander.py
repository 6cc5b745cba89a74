"""A process that is none of ours, and tells whether anybody signalled it."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

import psutil

_PROGRAM = """
import os, signal
def said(number, _): os.write(1, f"{number}\\n".encode())
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}: signal.signal(number, said)
os.write(1, b"ready\\n")
while True: signal.pause()
"""


class Bystander:
    """While it is entered."""

    def __enter__(self) -> Self:
        # A folder of its own: its command line names nothing of a home.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _PROGRAM], stdout=subprocess.PIPE, cwd="/"
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"
        self.pid = self._process.pid
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()

    def harm(self) -> str:
        """What was done to it, and its end: nobody may signal it after this."""
        if self._process.poll() is not None:
            return f"ended with {self._process.returncode}"
        if psutil.Process(self.pid).status() == psutil.STATUS_STOPPED:
            return "was stopped"
        self._process.kill()
        signals = self._process.communicate()[0].split()
        return f"got signals {b', '.join(signals).decode()}" if signals else ""
