"""How far a download is, how fast, and how long it will take: in one line for people."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_SECONDS = 8.0  # of which the speed is the mean: shorter is nervous, longer is late
_UNITS = (("GB", 10**9, 10 * 10**9), ("MB", 10**6, 0))  # name, its bytes, from which total on it is used


@dataclass(slots=True)
class Meter:
    """``start`` bytes were there before; ``total_bytes`` is None where nobody knows."""

    start: int
    total_bytes: int | None
    clock: Callable[[], float] = time.monotonic
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._seen.append((self.clock(), self.start))

    def at(self, position: int) -> tuple[float | None, str]:
        """For ``Progress.update``: the fraction, and ``12.3 of 149.0 MB, 5.2 MB/s, 26 s left``."""
        speed = self._speed(position)
        text = _amount(position, self.total_bytes)
        if speed is not None:
            text += f", {speed / 10**6:.1f} MB/s"
        if not self.total_bytes:
            return None, text
        if speed:
            text += f", {_duration((self.total_bytes - position) / speed)} left"
        return position / self.total_bytes, text

    def _speed(self, position: int) -> float | None:
        """Bytes per second; None before there is anything to tell it from."""
        now = self.clock()
        self._seen.append((now, position))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW_SECONDS:
            self._seen.popleft()
        began, first = self._seen[0]
        return (position - first) / (now - began) if now > began else None


def _amount(position: int, total: int | None) -> str:
    name, unit = next((name, unit) for name, unit, least in _UNITS if (total or position) >= least)
    return f"{position / unit:.1f}{'' if total is None else f' of {total / unit:.1f}'} {name}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
