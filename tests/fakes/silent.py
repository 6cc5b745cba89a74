"""A progress that nobody looks at."""

from __future__ import annotations


class Silent:
    def step(self, text: str) -> None:
        pass

    def update(self, fraction: float | None, detail: str = "") -> None:
        pass
