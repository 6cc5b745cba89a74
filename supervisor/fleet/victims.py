"""Which models to evict: the cheapest of all sets that are enough, and no more than is needed.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

MOST_EXACT = 12
"""Of so many candidates the best set is found.  Of more, the cheapest are taken one by one."""


@dataclass(frozen=True, slots=True)
class Evictable:
    """
    One that may go ``at`` a time, which may be past, or infinity for not before something changes.

    ``loss_seconds``: what it is expected to cost that it goes.
    """

    name: str
    at: float
    is_in_use: bool
    priority: int
    loss_seconds: float


@dataclass(frozen=True, slots=True)
class Lack:
    """So many bytes of one memory are missing, and the one with this name would give so many of them."""

    missing_bytes: int
    given_bytes: Mapping[str, int]

    def is_met_by(self, names: frozenset[str]) -> bool:
        return sum(self.given_bytes.get(name, 0) for name in names) >= self.missing_bytes


@dataclass(frozen=True, slots=True)
class VictimChoice:
    """What is to be chosen for: a request of this priority, which waits for room since some time."""

    candidates: Mapping[str, Evictable]
    now: float
    priority: int
    overdue_at: float  # from then on it takes what it can get at once

    def cheapest(self, must: frozenset[str], lacks: Sequence[Lack]) -> frozenset[str]:
        """The names: all that ``must`` go, and who else is needed to meet what is lacking."""
        optional = {name for lack in lacks for name in lack.given_bytes} - must
        by_price = sorted(optional, key=lambda name: self._price(name, lacks))
        chosen = self._one_by_one(by_price, must, lacks)
        return chosen if len(by_price) > MOST_EXACT else self._best(by_price, must, chosen, lacks)

    def may_go_at(self, names: frozenset[str]) -> float:
        """When the last of them may go."""
        return max((self.candidates[name].at for name in names), default=-inf)

    def _one_by_one(
        self, by_price: Sequence[str], must: frozenset[str], lacks: Sequence[Lack]
    ) -> frozenset[str]:
        """A set that is enough and has nobody in it needlessly, though not always the cheapest one."""
        chosen = must
        for name in by_price:
            if not _are_met_by(chosen, lacks):
                chosen |= {name}
        for name in reversed(by_price):  # a later one may have made an earlier one needless
            if name in chosen and _are_met_by(chosen - {name}, lacks):
                chosen -= {name}
        return chosen

    def _best(
        self, optional: Sequence[str], chosen: frozenset[str], best: frozenset[str], lacks: Sequence[Lack]
    ) -> frozenset[str]:
        """The cheapest of ``best`` and of all sets that have ``chosen`` and some of ``optional`` in them."""
        if self._key(chosen) >= self._key(best):  # whoever is added, it gets no cheaper
            return best
        if _are_met_by(chosen, lacks):
            return chosen
        if _are_met_by(chosen.union(optional), lacks):
            for place, name in enumerate(optional):
                best = self._best(optional[place + 1 :], chosen | {name}, best, lacks)
        return best

    def _price(self, name: str, lacks: Sequence[Lack]) -> tuple[int, int, int, float, str]:
        """What it costs to take this one, for the share that it gives of what is lacking."""
        one = self.candidates[name]
        share = sum(min(1.0, lack.given_bytes.get(name, 0) / lack.missing_bytes) for lack in lacks)
        return (*self._key(frozenset({name}))[:2], one.priority, one.loss_seconds / share, name)

    def _key(self, names: frozenset[str]) -> tuple[int, int, tuple[float, ...], int, tuple[str, ...]]:
        """Less is better: at once, idle, cheap; the rest only makes it the same each time."""
        chosen = [self.candidates[name] for name in sorted(names)]
        wait_seconds = max(0.0, self.may_go_at(names) - self.now)
        is_later = wait_seconds > 0 and self.now >= self.overdue_at
        return (
            2 if wait_seconds == inf else int(is_later),
            sum(each.is_in_use for each in chosen),
            self._seconds(chosen, wait_seconds),
            len(chosen),
            tuple(each.name for each in chosen),
        )

    def _seconds(self, chosen: Sequence[Evictable], wait_seconds: float) -> tuple[float, ...]:
        """What is lost at each priority, the highest first; the time to wait is lost at that of who waits."""
        levels = {self.priority, *(each.priority for each in self.candidates.values())}
        lost = dict.fromkeys(sorted(levels, reverse=True), 0.0)
        lost[self.priority] += wait_seconds
        for each in chosen:
            lost[each.priority] += each.loss_seconds
        return tuple(lost.values())


def _are_met_by(names: frozenset[str], lacks: Sequence[Lack]) -> bool:
    return all(lack.is_met_by(names) for lack in lacks)
