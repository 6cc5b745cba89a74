"""
What a foreground daemon shows, without ever waiting for the one who looks.

A terminal that is held with Ctrl+S, or a pager that nobody scrolls, must not stop the daemon: the server
would fill its pipe and stand still.  What cannot be shown at once is in the log files anyway.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from contextlib import suppress

LONGEST = 4096  # PIPE_BUF: what a pipe that is writable takes without blocking


class Terminal:
    """Lines to a file descriptor, by default stderr; each is shown at once or not at all."""

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor

    def show(self, line: str) -> None:
        """Never blocks, never raises."""
        data = line.encode(errors="replace")[: LONGEST - 1] + b"\n"
        with suppress(OSError):  # whoever looked has gone
            if self._takes_more():
                os.write(self._descriptor, data)

    def _takes_more(self) -> bool:
        """Windows' select knows only sockets."""
        return sys.platform == "win32" or bool(select.select([], [self._descriptor], [], 0)[1])


class TerminalHandler(logging.Handler):
    """Our own messages, between the server's lines."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.show(self.format(record))
