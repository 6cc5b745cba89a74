"""How long work tells people that it goes on; what it looks like is the CLI's business."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told what happens; shown on a terminal as a bar, elsewhere as a line now and then."""

    def step(self, text: str) -> None:
        """A new piece of work begins, said in one line: ``installing xllamacpp 2026.10.11549``."""

    def update(self, fraction: float | None, detail: str = "") -> None:
        """The work goes on; ``fraction`` is 0..1, or None where the end is not known."""


class Silent:
    """Nobody is told."""

    def step(self, text: str) -> None:
        pass

    def update(self, fraction: float | None, detail: str = "") -> None:
        pass
