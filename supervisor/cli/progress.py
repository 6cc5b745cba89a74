"""Progress on stderr: one rewritten line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_FRAMES = 0.1
SECONDS_UNTIL_SHOWN = 2.0
BAR = 30


class StderrProgress:
    """A `supervisor.progress.Progress` for people."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._open = False
        self._shown = 0.0

    def step(self, text: str) -> None:
        self.close()
        print(text, file=sys.stderr, flush=True)
        self._shown = time.monotonic()

    def update(self, fraction: float | None, detail: str = "") -> None:
        now = time.monotonic()
        pause = SECONDS_BETWEEN_FRAMES if self._terminal else SECONDS_BETWEEN_LINES
        if now - self._shown < pause:
            return
        self._shown = now
        text = f"  {_bar(fraction)}{detail}"
        if self._terminal:
            print(f"\r\x1b[2K{text[:100]}", end="", file=sys.stderr, flush=True)
            self._open = True
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """End a line that is still being rewritten."""
        if self._open:
            print(file=sys.stderr, flush=True)
        self._open = False


@contextmanager
def waiting(text: str) -> Iterator[StderrProgress]:
    """Around a wait whose end is not known: from its third second on it shows ``text, 12 s``."""
    progress, over = StderrProgress(), threading.Event()
    ticker = threading.Thread(target=_tick, args=(progress, text, over), daemon=True)
    ticker.start()
    try:
        yield progress
    finally:
        over.set()
        ticker.join()
        progress.close()


def _tick(progress: StderrProgress, text: str, over: threading.Event) -> None:
    began = time.monotonic()
    while not over.wait(SECONDS_UNTIL_SHOWN if time.monotonic() - began < SECONDS_UNTIL_SHOWN else 1.0):
        progress.update(None, f"{text}, {time.monotonic() - began:.0f} s")


def _bar(fraction: float | None) -> str:
    if fraction is None:
        return ""
    full = round(max(0.0, min(1.0, fraction)) * BAR)
    return f"[{'#' * full}{'.' * (BAR - full)}] {fraction:4.0%}  "
