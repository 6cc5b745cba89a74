"""
A switch that a client's request asks for, carried out as a person would: by ``goss-supervisor switch``.

The daemon has no YAML and no downloads; the program that has them prepares the plan and hands it over.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import IO

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2  # how soon we see that it has ended
_COMMAND = (sys.executable, "-P", "-m", "supervisor", "switch", "--by-request")
_LONGEST_WHY = 2000


class Switching:
    """One switch at a time; ``tell(profile, why)`` gets its end, ``why`` being "" where it came about."""

    def __init__(self, tell: Callable[[str, str], None], command: Sequence[str] = _COMMAND) -> None:
        self._tell = tell
        self._command = command
        self._watching: set[asyncio.Task[None]] = set()

    def begin(self, profile: str) -> None:
        task = asyncio.get_running_loop().create_task(self._run(profile))
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)

    def close(self) -> None:
        """What has begun goes on: it asks the daemon, and hears from it what came of it."""
        for task in self._watching:
            task.cancel()

    async def _run(self, profile: str) -> None:
        with tempfile.TemporaryFile() as said:
            try:
                child = _launch([*self._command, profile], said)
            except OSError as error:
                self._tell(profile, f"goss-supervisor switch cannot be run: {error.strerror}")
                return
            while child.poll() is None:  # noqa: ASYNC110 - a Popen tells of its end to who asks
                await asyncio.sleep(LOOK_SECONDS)
            why = "" if child.returncode == 0 else _why(said) or f"it ended with {child.returncode}"
        if why:
            log.warning("the switch to %s failed: %s", profile, why)
        self._tell(profile, why)


def _launch(words: Sequence[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    """In a session of its own: a switch that has begun shall not end with the terminal, nor with us."""
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
    )


def _why(said: IO[bytes]) -> str:
    """The error and its hint, which come last, without what was said on the way."""
    said.seek(0)
    text = "\n" + said.read().decode("utf-8", "replace")
    _, found, error = text.rpartition("\nerror:")
    return " ".join(error.split())[:_LONGEST_WHY] if found else ""
