"""How often one server may be restarted, and how long to wait before each time.  Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..profile.definition import Restart


@dataclass(slots=True)
class RestartBudget:
    """Times are monotonic seconds."""

    _recent: deque[float] = field(default_factory=deque)
    _backoffs: int = 0

    def spend(self, policy: Restart, now: float, *, excused: bool) -> bool:
        """Whether it may be restarted once more; a restart that is ``excused`` costs nothing."""
        while self._recent and now - self._recent[0] > policy.window_seconds:
            self._recent.popleft()
        if excused:
            return True
        if len(self._recent) >= policy.max_restarts:
            return False
        self._recent.append(now)
        return True

    def back_off(self) -> None:
        """The next wait is twice as long."""
        self._backoffs += 1

    def wait_seconds(self, policy: Restart, jitter: float) -> float:
        """Before this restart; ``jitter`` from 0 to 1 adds up to a tenth."""
        doubled = policy.backoff_seconds * 2.0 ** min(self._backoffs - 1, 30)
        return min(doubled, policy.backoff_limit_seconds) * (1 + jitter / 10)

    def calm(self) -> None:
        """It has served for long enough: waits begin anew."""
        self._backoffs = 0

    def clear(self) -> None:
        """A person has started it."""
        self._recent.clear()
        self._backoffs = 0
