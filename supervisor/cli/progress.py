"""Progress on stderr: one rewritten line on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from ..progress import ticking

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_FRAMES = 0.1
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
    with closing(StderrProgress()) as progress, ticking(progress, text):
        yield progress


@contextmanager
def waiting_for_the_daemon(text: str) -> Iterator[StderrProgress]:
    """`waiting`, for work that is the daemon's: who leaves by Ctrl+C hears that it goes on without them."""
    try:
        with waiting(text) as progress:
            yield progress
    except KeyboardInterrupt:
        print("The daemon goes on with it: goss-supervisor status", file=sys.stderr)
        raise


def _bar(fraction: float | None) -> str:
    if fraction is None:
        return ""
    full = round(max(0.0, min(1.0, fraction)) * BAR)
    return f"[{'#' * full}{'.' * (BAR - full)}] {fraction:4.0%}  "
