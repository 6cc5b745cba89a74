"""How often one server may be restarted, and how long the one timer of its state runs.  Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from ..plan.launch import LaunchPlan
from ..profile.definition import Restart
from .lifecycle_table import Do

SHORT_AGAIN_SECONDS = 3600.0
"""
Seconds in which a second request that runs out of the GPU's memory shows that the plan is too large.  One
alone may have been an odd request, or a game that ran for a minute, and the smaller plan is slower and kept
for later starts.  Longer than the window of restarts: a large model takes minutes to load, and a long prompt
to read.  RAM that runs out shows nothing: any program may have used it up, and a smaller plan may need more.
"""


@dataclass(slots=True)
class RestartBudget:
    """Times are monotonic seconds."""

    _recent: deque[float] = field(default_factory=deque)
    _backoffs: int = 0
    _short: tuple[str, float] | None = None  # the plan whose request ran out of GPU memory last, and when

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

    def is_short_again(self, digest: str, now: float) -> bool:
        """A request of this plan has run out of GPU memory: whether another one had, not long ago."""
        before, self._short = self._short, (digest, now)
        return before is not None and before[0] == digest and now - before[1] <= SHORT_AGAIN_SECONDS

    def calm(self) -> None:
        """It has served for long enough: waits begin anew."""
        self._backoffs = 0

    def clear(self) -> None:
        """A person has started it."""
        self._recent.clear()
        self._backoffs, self._short = 0, None


GONE_SECONDS = 5.0  # how long the kernel may take to carry out a KILL before we say that it did not


@dataclass(slots=True)
class StateTimers:
    """``jitter`` gives 0..1 for up to a tenth more backoff: two servers return apart."""

    jitter: Callable[[], float]
    budget: RestartBudget
    _drain_ends: float = math.inf

    def begin(self) -> None:
        """A new launch."""
        self._drain_ends = math.inf

    def seconds(self, do: Do, plan: LaunchPlan, now: float, *, stops: bool) -> float:
        """Of the timer that this command arms; ``stops`` where nothing comes after the drain."""
        match do:
            case Do.ARM_DRAIN:
                return self._drain_seconds(plan, now, stops=stops)
            case Do.ARM_BACKOFF:
                return self.budget.wait_seconds(plan.restart, self.jitter())
            case Do.ARM_GRACE:
                return plan.stop.grace_seconds
            case Do.ARM_INSIST:
                return plan.stop.insist_seconds
            case Do.ARM_STABLE:
                return plan.restart.stable_seconds
        return GONE_SECONDS

    def _drain_seconds(self, plan: LaunchPlan, now: float, *, stops: bool) -> float:
        """A stop has less time than a switch; a repeated request never prolongs it."""
        if not plan.behind_gateway:
            return 0.0  # nobody knows of the requests that are under way
        limit = plan.stop.grace_seconds if stops else plan.drain_seconds
        self._drain_ends = min(self._drain_ends, now + limit)
        return max(0.0, self._drain_ends - now)
