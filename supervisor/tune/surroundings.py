"""Which settings may be tried: near to good ones and far from them, never what is known to fail.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random

from .search_values import Axis, Candidate, Fits
from .space import Space
from .surrogate import Levels, likeness

_MIXED, _FAR = 40, 20  # candidates of a pool
_ENOUGH_DEATHS = 2  # with a value that never ran, such as a flavour whose driver is broken


class Surroundings:
    """Candidates as places in the space, and what is known to fail."""

    def __init__(self, space: Space, fits: Fits) -> None:
        self._space = space
        self._fits = fits
        self._allowed: dict[Candidate, bool] = {}
        self._dead: list[tuple[Candidate, str]] = []
        self._deaths: Counter[tuple[str, str]] = Counter()  # for another reason than memory, by value
        self._lived: set[tuple[str, str]] = set()
        self._others: dict[Candidate, int] = {}  # settings that are no axes, such as a placement
        self._places = {
            axis.key: {value: place for place, value in enumerate(axis.values)} for axis in space.axes
        }
        self._levels: dict[Candidate, Levels] = {}
        self.axes = (
            *(likeness(len(axis.values), is_ordered=axis.is_ordered) for axis in space.axes),
            likeness(_OTHERS, is_ordered=False),
        )

    def levels(self, candidate: Candidate) -> Levels:
        found = self._levels.get(candidate)
        if found is None:
            keys = self._places
            values = [places.get(self._space.value(candidate, key), -1) for key, places in keys.items()]
            others = tuple(pair for pair in candidate if pair[0] not in keys)
            number = self._others.setdefault(others, len(self._others))
            found = self._levels[candidate] = (*values, min(number, _OTHERS - 1))
        return found

    def bury(self, candidate: Candidate, short_of: str) -> None:
        """It died: nothing that needs as much of the same memory is allowed any more."""
        self._dead.append((candidate, short_of))
        if not short_of:
            self._deaths.update(self._values(candidate))
        for each, allowed in self._allowed.items():
            if allowed and self._is_hopeless(each):
                self._allowed[each] = False

    def praise(self, candidate: Candidate) -> None:
        """It ran."""
        self._lived.update(self._values(candidate))

    def allows(self, candidate: Candidate) -> bool:
        found = self._allowed.get(candidate)
        if found is None:
            found = (
                self._space.allows(candidate) and not self._is_hopeless(candidate) and self._fits(candidate)
            )
            self._allowed[candidate] = found
        return found

    def pool(self, good: Sequence[Candidate], random: Random) -> list[Candidate]:
        """All that differ from a good one in one setting, some that do in several, and some from anywhere."""
        found = dict.fromkeys(each for one in good for each in self._nearest(one))
        axes = self._space.axes
        for _ in range(_MIXED):
            found[
                self._moved(random.choice(good), [axis for axis in axes if random.random() < 0.35], random)
            ] = None
        for _ in range(_FAR):
            found[self._moved(random.choice(good), axes, random)] = None
        return [each for each in found if self.allows(each)]

    def beside(self, candidate: Candidate) -> list[Candidate]:
        """What differs in one setting: by one step, or by any value where there is no order."""
        found: dict[Candidate, None] = {}
        for axis, level in zip(self._space.axes, self.levels(candidate), strict=False):
            is_far = axis.is_ordered and level >= 0
            for place, value in enumerate(axis.values):
                if not is_far or abs(place - level) == 1:
                    found[self._space.changed(candidate, axis.key, value)] = None
        return [each for each in found if self.allows(each)]

    def _nearest(self, candidate: Candidate) -> Iterator[Candidate]:
        for axis in self._space.axes:
            for value in axis.values:
                yield self._space.changed(candidate, axis.key, value)

    def _moved(self, candidate: Candidate, axes: Sequence[Axis], random: Random) -> Candidate:
        for axis in random.sample(axes, len(axes)):
            candidate = self._space.changed(candidate, axis.key, random.choice(axis.values))
        return candidate

    def _values(self, candidate: Candidate) -> set[tuple[str, str]]:
        return {(key, self._space.value(candidate, key)) for key in self._places} | set(candidate)

    def _is_hopeless(self, candidate: Candidate) -> bool:
        values = self._values(candidate) - self._lived
        if any(self._deaths[value] >= _ENOUGH_DEATHS for value in values):
            return True
        return any(candidate == dead or self._needs_as_much(candidate, dead, of) for dead, of in self._dead)

    def _needs_as_much(self, candidate: Candidate, dead: Candidate, of: str) -> bool:
        """Whether it differs from the dead one only by what takes more of this memory."""
        if not of:
            return False
        one, other = self.levels(candidate), self.levels(dead)
        if one[-1] != other[-1]:
            return False
        return all(
            _takes_as_much(axis, a, b, of) for axis, a, b in zip(self._space.axes, one, other, strict=False)
        )


_OTHERS = 16


def _takes_as_much(axis: Axis, level: int, dead: int, of: str) -> bool:
    if level == dead:
        return True
    if not axis.memory or not axis.is_ordered or min(level, dead) < 0:
        return False
    grows = axis.memory in {"both", of}
    return level > dead if grows else level < dead
