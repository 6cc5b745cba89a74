"""
The priority prefix that systemd's journal reads at the beginning of a line (sd-daemon(3)).

Terminals, files and other log collectors would show it, so only the journal gets it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress

STDOUT, STDERR = 1, 2
ERROR, WARNING, INFO, DEBUG = 3, 4, 6, 7  # syslog(3)


def with_priority(text: str, priority: int) -> str:
    """``<3>`` and the like before each line."""
    return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))


def for_stderr(text: str, priority: int) -> str:
    """With its priority where stderr leads to the journal."""
    return with_priority(text, priority) if is_the_journal(os.environ, STDERR) else text


def is_the_journal(environ: Mapping[str, str], descriptor: int) -> bool:
    """Whether it leads straight there: ``JOURNAL_STREAM`` is ``device:inode``, see systemd.exec(5)."""
    with suppress(OSError):
        here = os.fstat(descriptor)
        return environ.get("JOURNAL_STREAM") == f"{here.st_dev}:{here.st_ino}"
    return False
