"""
Looks for a newer engine once a day, and goes to it where the profile says so.

The daemon has no network code and no YAML.  It runs the command that a person would run, which then asks us
as any client; what it found stands in a file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..profile.definition import AutoUpdate

log = logging.getLogger(__name__)

_COMMAND = (sys.executable, "-P", "-m", "supervisor", "engine", "update", "--quiet")


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When to look: soon after a start, when it has calmed down, then now and then."""

    first_seconds: float = 600.0
    every_seconds: float = 86400.0
    watch_seconds: float = 5.0  # how soon we see that a look has ended


DAILY = Rhythm()


async def keep_looking(
    wish: Callable[[], AutoUpdate], rhythm: Rhythm, command: Sequence[str] = _COMMAND
) -> None:
    """``wish`` is what the plan that serves says of it, ``off`` while none does.  Ends by being cancelled."""
    pause = rhythm.first_seconds
    while True:
        await asyncio.sleep(pause)
        pause = rhythm.first_seconds
        if (wanted := wish()) != "off" and (child := _look(command, apply=wanted == "apply")):
            while child.poll() is None:  # noqa: ASYNC110 - a Popen tells of its end to who asks
                await asyncio.sleep(rhythm.watch_seconds)
            pause = rhythm.every_seconds


def news_in(file: Path) -> dict[str, Any] | None:
    """What the last look found, as ``engine update`` wrote it; None where nothing can be read."""
    with suppress(OSError, ValueError):
        found = json.loads(file.read_text("utf-8"))
        return found if isinstance(found, dict) else None
    return None


def _look(command: Sequence[str], *, apply: bool) -> subprocess.Popen[bytes] | None:
    """In a session of its own: an update that has begun shall not end with the terminal, nor with us."""
    words = [*command, *([] if apply else ["--check"])]
    log.info("looking for a newer engine%s", ", to run it" if apply else "")
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        log.warning("no look for a newer engine: %s", error)
        return None
