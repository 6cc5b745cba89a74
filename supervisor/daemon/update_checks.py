"""
Runs the daily update check, and the update where the profile asks for it.

Both are commands that a person could run; they talk to the daemon as any client does and keep their result
in a file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import read_json
from ..profile.definition import AutoUpdate
from .helpers import LOOK_FOR_UPDATE, Answer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When to look: soon after a start, when it has calmed down, then now and then."""

    first_seconds: float = 600.0
    every_seconds: float = 86400.0


DAILY = Rhythm()


async def keep_looking(
    wish: Callable[[], AutoUpdate],
    rhythm: Rhythm,
    look: Callable[..., Awaitable[Answer]] = LOOK_FOR_UPDATE.run,
) -> None:
    """``wish`` is what the plan that serves says of it, ``off`` while none does.  Ends by being cancelled."""
    pause = rhythm.first_seconds
    while True:
        await asyncio.sleep(pause)
        pause = rhythm.first_seconds
        if (wanted := wish()) != "off":
            log.info("looking for a newer engine%s", ", to run it" if wanted == "apply" else "")
            answer = await look(*([] if wanted == "apply" else ["--check"]))
            if "error" in answer:
                log.warning("no newer engine was found or taken: %s", answer["error"])
            pause = rhythm.every_seconds


def last_check(file: Path) -> dict[str, Any] | None:
    """What the last look found, as ``engine update`` wrote it; None where nothing can be read."""
    return read_json(file, dict)
