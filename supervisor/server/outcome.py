"""The outcome of a request for a change, and the commands for the shell."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .lifecycle_table import Do, LifecycleRequest, Reload, RestAsked, SleepAsked, Start, StopAsked, WakeAsked

OutcomeResult = Literal[
    "ready", "degraded", "rolled back", "failed", "stopped", "asleep", "unchanged", "superseded"
]


@dataclass(frozen=True, slots=True)
class LifecycleCommand:
    """What the shell must do, for which launch; ``seconds`` and ``serial`` belong to ARM commands."""

    do: Do
    launch: int
    seconds: float = 0.0
    serial: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    The result of the request with this ``id``; ``by`` is the one that superseded it.  ``profile`` and
    ``digest`` are of the plan that runs now or that failed, or that was asked for and superseded.
    """

    result: OutcomeResult
    why: str = ""
    hint: str = ""
    profile: str = ""
    digest: str = ""
    id: int = 0
    by: int = 0


Launching = Coroutine[Any, Any, asyncio.Future[Outcome]]
"""A request for a change: awaited once, it has been asked for, and twice, decided."""


@dataclass(slots=True)
class Decisions:
    """Of the requests about one server: which are open, and the outcomes that nobody has fetched yet."""

    open: list[LifecycleRequest] = field(default_factory=list)
    _decided: list[Outcome] = field(default_factory=list)

    def wait(self, asked: LifecycleRequest) -> None:
        """It shares the outcome of what is under way."""
        self.open.append(asked)

    def take_over(self, asked: LifecycleRequest) -> None:
        """Requests for the same share its outcome; requests for something else are superseded."""
        joins = () if isinstance(asked, Start | Reload) else (type(asked),)
        for earlier in self.open:
            if not isinstance(earlier, joins):
                self.decide(earlier, superseded(earlier, asked))
        self.open = [*(each for each in self.open if isinstance(each, joins)), asked]

    def decide(self, asked: LifecycleRequest, outcome: Outcome) -> None:
        self._decided.append(replace(outcome, id=asked.id))

    def settle(self, outcome: Outcome) -> None:
        """All that are open have this outcome."""
        for asked in self.open:
            self.decide(asked, outcome)
        self.open = []

    def taken(self) -> list[Outcome]:
        """What was decided since the last call."""
        found, self._decided = self._decided, []
        return found


def superseded(earlier: LifecycleRequest, later: LifecycleRequest) -> Outcome:
    """The outcome of the earlier request, which the later one replaces."""
    plan = getattr(earlier, "plan", None)
    profile, digest = (plan.profile, plan.digest) if plan else ("", "")
    return Outcome("superseded", f"superseded by {_in_words(later)}", "", profile, digest, by=later.id)


def _in_words(asked: LifecycleRequest) -> str:
    match asked:
        case Start(plan=plan) | Reload(plan=plan) | RestAsked(plan=plan):
            return f"a start of {plan.profile} (request {asked.id})"
        case StopAsked():
            return f"a stop (request {asked.id})"
        case SleepAsked():
            return f"an unload (request {asked.id})"
        case WakeAsked():
            return f"a load (request {asked.id})"


@dataclass(frozen=True, slots=True)
class Hold:
    """
    Who keeps a server for a while, as an update does while it compares.

    ``id`` cannot be guessed: who knows it is the owner.  One that ``measures`` has the server to itself, so
    that requests of others wait, unless it is ``polite``; afterwards all is put back as it was.
    """

    id: int
    owner: str  # engine update (pid 4711)
    why: str
    since: float  # seconds since the epoch
    measures: bool = False
    polite: bool = False

    @property
    def shuts_out(self) -> bool:
        """Whether requests of others wait."""
        return self.measures and not self.polite

    @property
    def text(self) -> str:
        return f"{self.owner} {'measures' if self.measures else 'holds'} it: {self.why}"
