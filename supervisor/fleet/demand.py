"""
How likely each model is wanted again soon, learnt from when it was asked for.  Pure; time is given.

People and programs ask in bursts, by the clock, in turns or once, so neither recency nor frequency alone
tells.  What counts is the pause: of all pauses of this model that lasted as long as the present one, how
many ended soon after?  Pauses are counted in octaves (8 to 16 seconds, 16 to 32 and so on).  Where a model
has few, those of all models count, and where those are few as well, a rule of thumb: of the pauses that reach
an octave, `_RULE_OF_THUMB` end in it.  The older a pause, the less it counts.

"Soon" depends on how long memory is left alone: a request within that time needs a load that would not have
been needed, and by a later one the model might be gone anyway.

`bench/residency.py` compares this with other rules, and with the best choice in hindsight.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from ..plan.listen import Offer
from ..profile.definition import GatewaySettings

MOST_MODELS = 256
"""Of more, those are forgotten that nobody has asked for the longest."""

_SHORTEST_SECONDS = 8.0  # what comes sooner is the same use
_OCTAVES = 14  # 36 hours
_FAR_OCTAVES = 12  # how far to look ahead: 4096 times the present pause
_RULE_OF_THUMB = 0.4
_WEIGHT = 2.0  # pauses: as much as this does what is less particular count
_REMEMBERED = 0.98  # of what was counted, at each pause that is added
_SOON = 1.5  # times the horizon: more is better for bursts, less for one-off visits
_FIRST_HORIZON_SECONDS = 300.0
_SHORTEST_HORIZON_SECONDS, _LONGEST_HORIZON_SECONDS = 20.0, 20_000.0
_HORIZON_STEP = 0.3


@dataclass(slots=True)
class _Pauses:
    """By octave: how many reached it, and how many of them ended in it."""

    reached: list[float] = field(default_factory=lambda: [0.0] * _OCTAVES)
    ended: list[float] = field(default_factory=lambda: [0.0] * _OCTAVES)

    def add(self, octave: int) -> None:
        for each in range(octave + 1):
            self.reached[each] = self.reached[each] * _REMEMBERED + 1
            self.ended[each] = self.ended[each] * _REMEMBERED + (each == octave)

    def share(self, octave: int, otherwise: float) -> float:
        """Of those that reach this octave, the share that ends in it."""
        return (self.ended[octave] + otherwise * _WEIGHT) / (self.reached[octave] + _WEIGHT)


class Demand:
    """What is remembered of the requests of all models, whether they are loaded or not; bounded."""

    def __init__(self) -> None:
        self._asked_at: dict[str, float] = {}  # who was asked for last is last
        self._pauses: dict[str, _Pauses] = {}
        self._all_pauses = _Pauses()
        self._evicted_at: float | None = None
        self._horizon = math.log(_FIRST_HORIZON_SECONDS)
        self._knows_horizon = False

    def note(self, name: str, now: float) -> None:
        """A request for this model has arrived, whether it is loaded or not."""
        before = self._asked_at.pop(name, None)
        self._asked_at[name] = now
        if before is not None and now - before >= _SHORTEST_SECONDS:
            octave = min(_octave(now - before), _OCTAVES - 1)
            self._pauses.setdefault(name, _Pauses()).add(octave)
            self._all_pauses.add(octave)
        if len(self._asked_at) > MOST_MODELS:
            forgotten = next(iter(self._asked_at))
            del self._asked_at[forgotten]
            self._pauses.pop(forgotten, None)

    def note_eviction(self, now: float) -> None:
        """Models are evicted because another one needs their memory; call it once for all of them."""
        if self._evicted_at is not None:
            between = math.log(max(now - self._evicted_at, 1.0))
            step = _HORIZON_STEP if self._knows_horizon else 1.0
            self._horizon += step * (between - self._horizon)
            self._knows_horizon = True
        self._evicted_at = now

    def asked_at(self, name: str) -> float | None:
        """When the last request for this model arrived; None if none did."""
        return self._asked_at.get(name)

    @property
    def horizon_seconds(self) -> float:
        """How long memory is usually left alone."""
        return min(max(math.exp(self._horizon), _SHORTEST_HORIZON_SECONDS), _LONGEST_HORIZON_SECONDS)

    def chance(self, name: str, now: float, since: float = 0.0) -> float:
        """
        Between 0 and 1: that it is asked for again soon.

        ``since`` is when it was loaded, for one that nobody has asked for yet.  The later the request, the
        less it counts: half if it comes after `_SOON` times the horizon.
        """
        horizon = _SOON * self.horizon_seconds
        found, goes_on = 0.0, 1.0
        for wait_seconds, share in self._ends(name, now - self._asked_at.get(name, since)):
            found += goes_on * share * horizon / (wait_seconds + horizon)
            goes_on *= 1 - share
        return found

    def loss_seconds(self, name: str, load_seconds: float, now: float, since: float = 0.0) -> float:
        """What it is expected to cost to evict it: the chance of a load that would not be needed."""
        return self.chance(name, now, since) * load_seconds

    def _ends(self, name: str, pause_seconds: float) -> Iterator[tuple[float, float]]:
        """For the rest of this octave and each later one: how long until then, which share ends there."""
        now = begin = max(pause_seconds, _SHORTEST_SECONDS)
        first = _octave(now)
        for octave in range(first, first + _FAR_OCTAVES):
            whole = _SHORTEST_SECONDS * 2.0**octave
            end = 2 * whole
            yield (begin + end) / 2 - now, self._share(name, octave) * (end - begin) / whole
            begin = end

    def _share(self, name: str, octave: int) -> float:
        if octave >= _OCTAVES:
            return _RULE_OF_THUMB
        share = self._all_pauses.share(octave, _RULE_OF_THUMB)
        own = self._pauses.get(name)
        return own.share(octave, share) if own else share


class ClientDemand(Protocol):
    """What clients want, as the gateway knows it; times are the loop's."""

    def is_busy(self, name: str) -> bool:
        """Whether this server answers requests, or has some that wait for a place there."""

    def waiting_since(self, profile: str) -> float | None:
        """When the first request arrived that waits for this profile."""

    def offer_of(self, profile: str) -> Offer | None:
        """On what terms this profile is served."""

    @property
    def settings(self) -> GatewaySettings: ...


class LoadTimes:
    """Since when each server serves, and how long the last load of each profile took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}  # by profile
        self.ready: dict[str, float] = {}  # by server
        self._began: dict[str, float] = {}  # by server: the load under way

    def begin(self, server: str, now: float) -> None:
        """It loads."""
        self._began.setdefault(server, now)

    def serve(self, server: str, profile: str, now: float) -> None:
        """It is ready."""
        self.ready.setdefault(server, now)
        if (began := self._began.pop(server, None)) is not None:
            self.seconds[profile] = now - began

    def forget(self, server: str) -> None:
        """It does neither."""
        self._began.pop(server, None)
        self.ready.pop(server, None)


def _octave(seconds: float) -> int:
    return math.frexp(seconds / _SHORTEST_SECONDS)[1] - 1
