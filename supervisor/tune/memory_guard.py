"""
Stops a trial before the machine runs out of memory, or swaps: the memory account may be wrong.

The limits are those at which the daemon warns (``server/memory_warnings.py``), but it looks every 10 s, and a
model fills some GiB in a second.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..cgroups import tightest
from ..memory.verdict import size

LOOK_SECONDS = 0.2
_LOW_SHARE, _LOW_BYTES = 0.03, 512 * 1024**2
_SWAPPED_BYTES = 128 * 1024**2  # in one trial; a quiet system moves a few MiB


@dataclass(frozen=True, slots=True)
class MemoryLook:
    """``swapped_bytes`` is what the system wrote to swap since it was started.  None is not known."""

    total_bytes: int
    available_bytes: int
    swapped_bytes: int | None = None
    group_left_bytes: int | None = None  # of the control group that we, and a daemon in a container, are in
    group_limit_bytes: int | None = None


def look_at_memory() -> MemoryLook:
    """Takes less than a millisecond."""
    import psutil  # noqa: PLC0415 - only while something is measured

    memory, group = psutil.virtual_memory(), tightest(_read)
    swapped = None
    with suppress(OSError, RuntimeError):  # some systems do not tell
        swapped = psutil.swap_memory().sout
    left, limit = (group.left_bytes, group.limit_bytes) if group else (None, None)
    return MemoryLook(memory.total, memory.available, swapped, left, limit)


def trouble_of(first: MemoryLook, now: MemoryLook) -> str:
    """Why it has to be stopped, a sentence without its full stop; "" where all is well.  Pure."""
    if now.available_bytes < max(now.total_bytes * _LOW_SHARE, _LOW_BYTES):
        return f"only {size(now.available_bytes)} of this machine's {size(now.total_bytes)} of RAM were left"
    left, limit = now.group_left_bytes, now.group_limit_bytes
    if left is not None and limit is not None and left < limit * _LOW_SHARE:
        return f"only {size(left)} were left of the {size(limit)} that its control group may use"
    if first.swapped_bytes is not None and now.swapped_bytes is not None:
        swapped = now.swapped_bytes - first.swapped_bytes
        if swapped > _SWAPPED_BYTES:
            return f"the system began to swap ({size(swapped)})"
    return ""


class MemoryGuard:
    """
    Looks several times a second between entering and leaving.

    ``stop`` is called once, in a thread of the guard, and has to end the server; `trouble` then says why.
    """

    def __init__(
        self,
        stop: Callable[[], None],
        *,
        look: Callable[[], MemoryLook] = look_at_memory,
        every_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.trouble = ""
        self._stop, self._look, self._every_seconds = stop, look, every_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._first = self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._every_seconds):
            if trouble := trouble_of(self._first, self._look()):
                self.trouble = trouble
                self._stop()
                return


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
