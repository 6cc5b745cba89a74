"""
Searches for the fastest settings: `ask` says what to measure next, `tell` takes what came out.  Pure.

The same seed and the same results give the same trials: a search goes on from a journal by telling it again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random
from statistics import fmean, median, stdev

from .space import Space
from .trial import Candidate, Fits, Found, Trial, TrialResult

_CONFIRMING_SHARE = 0.3  # of the budget


class SettingsSearch:
    """
    ``starts`` are the profile, which is the empty candidate, and what else to begin with: the planner's
    placement, the engine's own fit.  The end is never worse than the best of them.

    `ask` does not change anything, so a trial of which nothing was told is asked again.  Whoever tells of
    a trial that died has to say so: it is never asked again, nor what certainly needs more memory.
    """

    def __init__(
        self, space: Space, starts: Sequence[Candidate], fits: Fits, budget_seconds: float, seed: int = 0
    ) -> None:
        self._space = space
        self._starts = tuple(dict.fromkeys(start for start in starts if fits(start)))
        self._fits = fits
        self._budget_seconds = budget_seconds
        self._seed = seed
        self._told: list[tuple[Trial, TrialResult]] = []

    @property
    def spent_seconds(self) -> float:
        return sum(result.took_seconds for _, result in self._told)

    @property
    def best(self) -> Candidate:
        """The best so far; the first start where nothing is known yet."""
        costs = self._costs()
        return min(costs, key=lambda candidate: fmean(costs[candidate]), default=(self._starts or ((),))[0])

    def tell(self, trial: Trial, result: TrialResult) -> None:
        self._told.append((trial, result))

    def ask(self) -> Trial | Found:
        number = len(self._told)
        untried = [start for start in self._starts if start not in self._tried()]
        if untried:
            return Trial(number, untried[0], 2, "a setting to start from")
        if not self._costs():
            return self._nothing("none of the settings to start from ran")
        left = self._budget_seconds - self.spent_seconds
        if left > _CONFIRMING_SHARE * self._budget_seconds:
            random = Random(f"{self._seed} {number}")  # noqa: S311 - no secret
            options = list(self._neighbours(self.best))
            if options:
                return Trial(number, random.choice(options), 2, "next to the best so far")
        start = next(start for start in self._starts if start in self._costs())
        if self.best == start or left < self._trial_seconds():
            return self._found(start)
        costs = self._costs()
        turn = min((start, self.best), key=lambda each: len(costs[each]))
        return Trial(number, turn, 2, "the best so far and the start, in turns", reloads=True)

    def _trial_seconds(self) -> float:
        return median(result.took_seconds for _, result in self._told)

    def _tried(self) -> set[Candidate]:
        return {trial.candidate for trial, _ in self._told}

    def _costs(self) -> dict[Candidate, list[float]]:
        costs: dict[Candidate, list[float]] = {}
        for trial, result in self._told:
            if not result.died and result.costs:
                costs.setdefault(trial.candidate, []).extend(result.costs)
        for trial, result in self._told:
            if result.died:
                costs.pop(trial.candidate, None)
        return costs

    def _neighbours(self, candidate: Candidate) -> Iterator[Candidate]:
        tried = self._tried()
        for axis in self._space.axes:
            for value in axis.values:
                near = self._space.changed(candidate, axis.key, value)
                if near not in tried and self._space.allows(near) and self._fits(near):
                    yield near

    def _nothing(self, why: str) -> Found:
        start = (self._starts or ((),))[0]
        return Found(start, start, 1.0, 1.0, 1.0, why)

    def _found(self, start: Candidate) -> Found:
        costs = self._costs()
        ours = [math.log(cost) for cost in costs[start]]
        its = [math.log(cost) for cost in costs[self.best]]
        if self.best == start or len(ours) < 2 or len(its) < 2:
            return self._nothing("your settings are already the best found")
        ratio = fmean(ours) - fmean(its)
        half = 1.96 * math.sqrt(stdev(ours) ** 2 / len(ours) + stdev(its) ** 2 / len(its))
        low, high = math.exp(ratio - half), math.exp(ratio + half)
        if low <= 1.0:
            return Found(start, start, 1.0, 1.0, 1.0, "your settings are already the best found")
        return Found(self.best, start, math.exp(ratio), low, high, "measured in turns with the start")
