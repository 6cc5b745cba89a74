"""How long-running work reports its progress; durations and times in words.  The CLI decides how it looks."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

SECONDS_UNTIL_SHOWN = 2.0


def duration(seconds: float | None) -> str:
    """``3 d 4 h``, ``2 min 5 s``: the two largest units; unknown is a dash."""
    if seconds is None:
        return "-"
    rest, parts = int(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def iso(seconds: float) -> str:
    """UTC, to the millisecond, as in the logs."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Progress(Protocol):
    """Told what happens; shown on a terminal as a bar, elsewhere as a line now and then."""

    def step(self, text: str) -> None:
        """A new piece of work begins, said in one line: ``installing xllamacpp 2026.10.11549``."""

    def update(self, fraction: float | None, detail: str = "") -> None:
        """The work goes on; ``fraction`` is 0..1, or None where the end is not known."""


class Silent:
    """Shows nothing."""

    def step(self, text: str) -> None:
        pass

    def update(self, fraction: float | None, detail: str = "") -> None:
        pass


@contextmanager
def ticking(progress: Progress, text: str) -> Iterator[None]:
    """Around work without progress of its own: from its third second on ``progress`` gets ``text, 12 s``."""
    over = threading.Event()
    ticker = threading.Thread(target=_tick, args=(progress, text, over), daemon=True)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()


def _tick(progress: Progress, text: str, over: threading.Event) -> None:
    began = time.monotonic()
    while not over.wait(SECONDS_UNTIL_SHOWN if time.monotonic() - began < SECONDS_UNTIL_SHOWN else 1.0):
        progress.update(None, f"{text}, {time.monotonic() - began:.0f} s")
