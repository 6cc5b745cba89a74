"""A process that is none of ours, and tells whether anybody signalled it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Self

import psutil

_LAST = signal.SIGRTMAX
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

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def harm(self) -> str:
        """What was done to it; it is ended with this."""
        if psutil.Process(self.pid).status() == psutil.STATUS_STOPPED:
            return "was stopped"
        os.kill(self.pid, _LAST)  # is heard after all that were sent before; a zombie takes it too
        assert self._process.stdout
        heard = []
        while (line := self._process.stdout.readline()) not in {b"", b"%d\n" % _LAST}:
            heard.append(line.decode().strip())
        self._process.kill()
        if (ended := self._process.wait()) != -signal.SIGKILL or not line:
            return f"ended with {ended}"
        return f"got signals {', '.join(heard)}" if heard else ""
