"""
The log of a foreground daemon on its terminal, which never blocks the daemon.

The log goes to stdout, where process supervisors expect it; the reason for an exit goes to stderr.  Ctrl+S
must not stop the daemon: what cannot be shown at once is in the log files anyway.
"""

from __future__ import annotations

import logging
import os
import re
import select
import sys
from contextlib import suppress
from typing import TextIO

from .journal import DEBUG, ERROR, INFO, WARNING, is_the_journal, with_priority

LONGEST = 4096  # PIPE_BUF: what a pipe that is writable takes without blocking
_OF_LEVEL = {
    logging.DEBUG: DEBUG,
    logging.INFO: INFO,
    logging.WARNING: WARNING,
    logging.ERROR: ERROR,
    logging.CRITICAL: ERROR,
}
# llama.cpp b11434, common/log.cpp: "0.01.234.567 W text"; without --log-timestamps only the letter.
_SERVER_LEVEL = re.compile(r"(?:\d+\.\d\d\.\d{3}\.\d{3} )?([EWID]) ")
_OF_LETTER = {"E": ERROR, "W": WARNING, "I": INFO, "D": DEBUG}


class Terminal:
    """Each line is shown at once or not at all; with ``journal`` it begins with its priority (``<3>``)."""

    def __init__(self, descriptor: int, *, journal: bool = False) -> None:
        self._descriptor = descriptor
        self.is_journal = journal

    def show(self, line: str, priority: int = INFO) -> None:
        """Never blocks, never raises."""
        if self.is_journal:
            line = with_priority(line, priority)
        data = line.encode(errors="replace")[: LONGEST - 1] + b"\n"
        with suppress(OSError):  # the reader has gone
            # Windows' select knows only sockets.
            if sys.platform == "win32" or bool(select.select([], [self._descriptor], [], 0)[1]):
                os.write(self._descriptor, data)

    def show_server(self, line: str) -> None:
        """A line of llama-server, as it wrote it."""
        found = _SERVER_LEVEL.match(line) if self.is_journal else None
        self.show(line, _OF_LETTER[found[1]] if found else INFO)


class TerminalHandler(logging.Handler):
    """Our own messages, between the server's lines."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal
        if terminal.is_journal:
            self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.show(self.format(record), _OF_LEVEL.get(record.levelno, INFO))


def handlers(log: Terminal, end: Terminal) -> list[logging.Handler]:
    """All of our messages to ``log``, but what is critical, the reason for the end, to ``end``."""
    normal, last = TerminalHandler(log), TerminalHandler(end)
    normal.addFilter(lambda record: record.levelno < logging.CRITICAL)
    last.setLevel(logging.CRITICAL)
    return [normal, last]


def terminal_on(stream: TextIO | None) -> Terminal:
    """A stream that was closed is None to Python: its number may be that of any file since."""
    descriptor = stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY)
    return Terminal(descriptor, journal=is_the_journal(os.environ, descriptor))
