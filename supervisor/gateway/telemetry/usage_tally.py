"""
What each key has used of each model, by day: figures, never content.  Pure.

A day is the local calendar day in which a request ended.  Only requests that are work for a model count; a
client that asks for a list of models uses nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from ..api.routes import WORK
from .activity import RequestRecord

OTHERS = "(others)"
"""In place of names that are too many; neither a key nor a profile can be called so."""
MOST_PAIRS = 500  # of a key and a model in a day that have figures of their own


class UsagePlace(NamedTuple):
    """Whose figures they are: ``key`` is "" without one, ``model`` is the profile, "" where none answered."""

    day: str  # 2026-11-30
    key: str
    model: str


@dataclass(slots=True)
class UsageSums:
    """
    Sums over requests.  ``failed`` got an error, ``uncounted`` are those whose tokens nobody knows: the
    engine reported none, or the client left before it did; of their answers what came counts.  Prompts
    include their cached part.
    """

    requests: int = 0
    failed: int = 0
    uncounted: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def count(self, request: RequestRecord) -> None:
        """Add one request that is over."""
        is_error = request.status is not None and request.status >= 400
        self.requests += 1
        self.failed += is_error or request.result not in {"answered", "cancelled"}
        self.prompt_tokens += request.prompt_tokens or 0
        self.cached_tokens += request.cached_tokens or 0
        self.output_tokens += request.output_tokens or request.partial_tokens or 0
        self.uncounted += not is_error and request.prompt_tokens is None
        self.seconds += request.seconds

    def add(self, other: UsageSums) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def tokens(self) -> int:
        """In and out, as the API's ``total_tokens``: what a key's tokens a day are counted in."""
        return self.prompt_tokens + self.output_tokens

    @property
    def knows_tokens(self) -> bool:
        """False where there was work and nobody knows the tokens of any of it."""
        return not self.uncounted or self.uncounted + self.failed < self.requests or bool(self.tokens)


UsageByPlace = dict[UsagePlace, UsageSums]


def day_of(epoch_seconds: float) -> str:
    """The local calendar day."""
    return time.strftime("%Y-%m-%d", time.localtime(epoch_seconds))


def seconds_until_tomorrow(epoch_seconds: float) -> float:
    """Until the next local midnight, also on the days on which the clocks change."""
    now = time.localtime(epoch_seconds)
    midnight = time.mktime((now.tm_year, now.tm_mon, now.tm_mday + 1, 0, 0, 0, 0, 0, -1))
    return max(midnight - epoch_seconds, 0.0)


def place_among(known: Collection[UsagePlace], wanted: UsagePlace, most: int = MOST_PAIRS) -> UsagePlace:
    """
    Where figures go so that there is a bound on all: to ``wanted``, unless it is new and there are ``most``
    already; then to the key's other models, and if those are too many too, to others.
    """
    of_key = UsagePlace(wanted.day, wanted.key, OTHERS)
    if wanted in known or len(known) < most:
        return wanted
    if of_key in known or len(known) < 2 * most:
        return of_key
    return UsagePlace(wanted.day, OTHERS, OTHERS)


def _key_of(caller: str) -> str:
    """An operation that holds a server, ``bench (pid 4711)``, counts as ``(bench)``; no key is called so."""
    owner, is_operation, _ = caller.partition(" (pid ")
    return f"({owner})" if is_operation else caller


def _sums_at(sums: UsageByPlace, place: UsagePlace) -> UsageSums:
    if place not in sums:
        place = place_among(sums, place)
    return sums.setdefault(place, UsageSums())


@dataclass(slots=True)
class UsageTally:
    """
    What is not yet in the file (see `usage_file`), and what the file says of today's tokens; also everything
    ``since_start``, without its day, for `metrics`.  Belongs to the event loop.
    """

    since_start: UsageByPlace = field(default_factory=dict)
    _pending: UsageByPlace = field(default_factory=dict)
    _leaving: UsageByPlace = field(default_factory=dict)  # being written
    _stored_day: str = ""
    _stored: Mapping[str, int] = field(default_factory=dict)

    def note(self, request: RequestRecord) -> None:
        """Count a request that is over, if it was work for a model."""
        if request.method != "POST" or request.endpoint not in WORK:
            return
        day, key = day_of(request.at + request.seconds), _key_of(request.caller)
        for sums, its_day in ((self._pending, day), (self.since_start, "")):
            _sums_at(sums, UsagePlace(its_day, key, request.profile)).count(request)

    def take(self) -> UsageByPlace:
        """All that is to be written, until `written` or `give_back`."""
        self._leaving, self._pending = self._pending, {}
        return self._leaving

    def written(self, day: str, tokens: Mapping[str, int]) -> None:
        """What was taken is in the file, which now has so many ``tokens`` of each key on this day."""
        self._leaving = {}
        self._stored_day, self._stored = day, tokens

    def give_back(self) -> None:
        """What was taken could not be written."""
        for place, sums in self._leaving.items():
            _sums_at(self._pending, place).add(sums)
        self._leaving = {}

    @property
    def unwritten(self) -> int:
        """Requests that are in no file yet."""
        return sum(sums.requests for part in (self._pending, self._leaving) for sums in part.values())

    def knows(self, day: str) -> bool:
        """Whether the file was read on this day."""
        return self._stored_day == day

    def tokens_on(self, day: str, key: str) -> int:
        """Tokens in and out of this key on this day, as far as they are known."""
        stored = self._stored.get(key, 0) if self._stored_day == day else 0
        return stored + sum(
            sums.tokens
            for part in (self._pending, self._leaving)
            for place, sums in part.items()
            if (place.day, place.key) == (day, key)
        )
