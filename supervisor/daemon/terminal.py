"""
What a foreground daemon shows, without ever waiting for the one who looks.

A terminal that is held with Ctrl+S, or a pager that nobody scrolls, must not stop the daemon: the server
would fill its pipe and stand still.  What cannot be shown at once is in the log files anyway.

The journal of systemd knows the time of a line by itself; it is told how important it is (sd-daemon(3)).
"""

from __future__ import annotations

import logging
import os
import re
import select
import sys
from collections.abc import Mapping
from contextlib import suppress

LONGEST = 4096  # PIPE_BUF: what a pipe that is writable takes without blocking
INFO = 6
_OF_LEVEL = {logging.DEBUG: 7, logging.INFO: INFO, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 3}
# llama.cpp b11434, common/log.cpp: "0.01.234.567 W text"; without --log-timestamps only the letter.
_SERVER_LEVEL = re.compile(r"(?:\d+\.\d\d\.\d{3}\.\d{3} )?([EWID]) ")
_OF_LETTER = {"E": 3, "W": 4, "I": INFO, "D": 7}


class Terminal:
    """
    Lines to a file descriptor, by default stderr; each is shown at once or not at all.

    With ``journal`` each begins with its priority: ``<3>`` an error to ``<7>`` for debugging.
    """

    def __init__(self, descriptor: int = 2, *, journal: bool = False) -> None:
        self._descriptor = descriptor
        self.is_journal = journal

    def show(self, line: str, priority: int = INFO) -> None:
        """Never blocks, never raises."""
        if self.is_journal:
            line = "\n".join(f"<{priority}>{each}" for each in line.split("\n"))
        data = line.encode(errors="replace")[: LONGEST - 1] + b"\n"
        with suppress(OSError):  # whoever looked has gone
            if self._takes_more():
                os.write(self._descriptor, data)

    def show_server(self, line: str) -> None:
        """A line of llama-server, as it wrote it."""
        self.show(line, _server_priority(line) if self.is_journal else INFO)

    def _takes_more(self) -> bool:
        """Windows' select knows only sockets."""
        return sys.platform == "win32" or bool(select.select([], [self._descriptor], [], 0)[1])


class TerminalHandler(logging.Handler):
    """Our own messages, between the server's lines."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal
        if terminal.is_journal:
            self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.show(self.format(record), _OF_LEVEL.get(record.levelno, INFO))


def is_the_journal(environ: Mapping[str, str], descriptor: int) -> bool:
    """Whether it leads straight there: ``JOURNAL_STREAM`` is ``device:inode``, see systemd.exec(5)."""
    with suppress(OSError):
        here = os.fstat(descriptor)
        return environ.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}"
    return False


def _server_priority(line: str) -> int:
    found = _SERVER_LEVEL.match(line)
    return _OF_LETTER[found[1]] if found else INFO
