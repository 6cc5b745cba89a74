"""Programs in terminals of their own."""

from __future__ import annotations

import os
import select
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from .conftest import PATIENCE

CTRL_C, CTRL_D, CTRL_S, CTRL_Z = "\x03", "\x04", "\x13", "\x1a"


@dataclass
class Terminal:
    """A program in a terminal of its own, which Ctrl+C reaches as it does in a real one."""

    process: subprocess.Popen[bytes]
    screen: int
    said: str = ""

    def until(self, words: str) -> None:
        """Raises AssertionError where it ends, or goes on too long, without having said them."""
        while words not in self.said:
            assert self._read(), f"it never said {words!r}: {self.said}"

    def type(self, keys: str) -> None:
        os.write(self.screen, keys.encode())

    def end(self) -> int:
        """The exit code, once all was read."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self) -> bool:
        assert select.select([self.screen], [], [], PATIENCE)[0], f"it says nothing any more: {self.said}"
        with suppress(OSError):  # how Linux tells that nobody holds the other end any more
            if more := os.read(self.screen, 65536):
                self.said += more.decode(errors="replace").replace("\r\n", "\n")
                return True
        return False


def open_terminal(command: list[str], env: dict[str, str]) -> Terminal:
    """Who leads a session and opens a terminal, is controlled by it; the shell does that."""
    ours, theirs = os.openpty()
    opened = ("/bin/sh", "-c", 'exec 0<>"$0" 1>&0 2>&0; exec "$@"', os.ttyname(theirs))
    process = subprocess.Popen(
        [*opened, *command], env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    return Terminal(process, ours)
