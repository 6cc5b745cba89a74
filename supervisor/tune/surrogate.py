"""
What the measurements say of settings that were not measured: a Gaussian process in logarithms.  Pure.

The logarithm of a cost is a sum: what each setting does on its own, what two of them do together, the drift
of the machine, which is a slow function of time, and noise.  So each trial tells something of every setting.
Along an ordered axis the function may be rough (an Ornstein-Uhlenbeck process), and both of its ends may
differ from all between: all layers on the GPU are another thing than all but one.  How much each setting
matters is what makes the measurements most likely.

Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1; Duvenaud et al., Additive
Gaussian Processes (2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import add, mul
from statistics import NormalDist

Levels = tuple[int, ...]  # of each axis, the place of the value; negative for one that is not in its list

_LENGTH = 0.4  # of an axis: so far apart, two values have little to do with each other
_END_SHARE = 0.25  # of an axis' variance that its first and last value have for themselves
_LASTS = 0.3  # of the budget: how long the machine stays as fast as it is
_OWN = 2e-4  # variance of what a setting has for itself, beyond all pairs
_LEAST, _MOST, _STEP = 1e-5, 0.5, 5.0  # variances that are tried
_USUAL, _SPREAD = math.log(3e-3), 2.5  # of the logarithm of an axis' variance, before anything is measured
_TOGETHER = (0.1, 0.4, 1.0)
_DRIFTS = (1e-4, 1e-3)
_LOADS = (1e-5, 2e-4)
_ERRS = 0.025  # how often the best of many may only be lucky
_NORMAL = NormalDist()


Likeness = tuple[tuple[float, ...], ...]


def likeness(count: int, *, is_ordered: bool) -> Likeness:
    """Of an axis, by two levels, the last of which is outside: 1 of a level with itself, 0 of strangers."""
    levels = (*range(count), -1)
    return tuple(tuple(_like(one, other, count if is_ordered else 0) for other in levels) for one in levels)


def _like(one: int, other: int, count: int) -> float:
    if count < 3 or one < 0 or other < 0:
        return float(one == other)
    near = math.exp(-abs(one - other) / (count - 1) / _LENGTH)
    return (1 - _END_SHARE) * near + _END_SHARE * (_part(one, count) == _part(other, count))


def _part(level: int, count: int) -> int:
    return 0 if level == 0 else 2 if level == count - 1 else 1


@dataclass(frozen=True, slots=True)
class Observation:
    """
    One trial, or several that were close in time.

    ``cost`` is a logarithm, ``variance`` that of its noise, ``at`` the share of the budget that was spent.
    """

    levels: Levels
    cost: float
    variance: float
    at: float
    loads: int = 1


@dataclass(frozen=True, slots=True)
class Weights:
    """Variances: of each axis, of pairs in proportion, of the drift, and from load to load."""

    axes: tuple[float, ...]
    together: float = 0.4
    drift: float = 1e-3
    load: float = 1e-5


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Of the logarithm of a cost, on the machine as it was at the beginning."""

    mean: float
    variance: float


class Surrogate:
    """Fitted to observations, of which there must be one; the weights are kept for the next one."""

    def __init__(
        self, axes: Sequence[Likeness], observations: Sequence[Observation], weights: Weights | None = None
    ) -> None:
        self._likeness = axes
        self._seen = tuple(observations)
        self._centre = sum(each.cost for each in observations) / len(observations)
        self._places: dict[Levels, list[int]] = {}
        for place, each in enumerate(self._seen):
            self._places.setdefault(each.levels, []).append(place)
        self._columns: dict[tuple[int, int, float, float], tuple[list[float], list[float]]] = {}
        self._near = [
            [math.exp(-(((one.at - other.at) / _LASTS) ** 2)) for other in self._seen[:place]]
            for place, one in enumerate(self._seen)
        ]
        self._take(weights or Weights((math.exp(_USUAL),) * len(axes)))

    def estimate(self, levels: Levels) -> CostEstimate:
        similar = self._similar(levels)
        solved = _forward(self._factor, similar)
        variance = self._prior - sum(map(mul, solved, solved))
        return CostEstimate(self._centre + sum(map(mul, similar, self._weighted)), max(variance, 1e-9))

    def difference(self, one: Levels, other: Levels) -> CostEstimate:
        """How much more the first costs."""
        apart = [a - b for a, b in zip(self._similar(one), self._similar(other), strict=True)]
        solved = _forward(self._factor, apart)
        prior = 2 * (self._prior - self._alike(one, other))
        variance = prior - sum(map(mul, solved, solved))
        return CostEstimate(sum(map(mul, apart, self._weighted)), max(variance, 1e-9))

    def mean(self, levels: Levels) -> float:
        """The same without the variance, much quicker."""
        return sum(map(mul, self._similar(levels), self._weighted), self._centre)

    def refit(self) -> None:
        """Take the weights that make the observations most likely: one after another, a step up or down."""
        for index, variance in enumerate(self.weights.axes):
            for step in (_STEP, 1 / _STEP):
                axes = (*self.weights.axes[:index], variance * step, *self.weights.axes[index + 1 :])
                if _LEAST <= variance * step <= _MOST:
                    self._try(replace(self.weights, axes=axes))
        for together in _TOGETHER:
            self._try(replace(self.weights, together=together))
        for drift in _DRIFTS:
            self._try(replace(self.weights, drift=drift))
        for load in _LOADS:
            self._try(replace(self.weights, load=load))

    def _try(self, weights: Weights) -> None:
        before, likely = self.weights, self._likely
        if weights != before:
            self._take(weights)
            if self._likely <= likely:
                self._take(before)

    def _take(self, weights: Weights) -> None:
        self.weights = weights
        deviations = [math.sqrt(variance) for variance in weights.axes]
        pairs = sum(deviations) ** 2 - sum(weights.axes)
        self._prior = sum(weights.axes) + weights.together / 2 * pairs + _OWN
        own = self._prior + weights.drift
        rows = []
        for place, one in enumerate(self._seen):
            drifts = [weights.drift * near for near in self._near[place]]
            rows.append(
                [*map(add, self._similar(one.levels), drifts), own + one.variance + weights.load / one.loads]
            )
        self._factor = _cholesky(rows)
        solved = _forward(self._factor, [each.cost - self._centre for each in self._seen])
        self._weighted = _backward(self._factor, solved)
        spread = sum(((math.log(variance) - _USUAL) / _SPREAD) ** 2 for variance in weights.axes)
        half_determinant = sum(math.log(row[-1]) for row in self._factor)
        self._likely = -0.5 * sum(map(mul, solved, solved)) - half_determinant - 0.5 * spread

    def _similar(self, levels: Levels) -> list[float]:
        """
        The covariance with each observation: of all axes, of all pairs, and of the setting with itself.

        A square of a sum has each pair twice, and the squares, which are taken out.
        """
        columns = [self._column(axis, level) for axis, level in enumerate(levels)]
        totals = map(sum, zip(*(parts for parts, _ in columns), strict=True))
        alone = map(sum, zip(*(own for _, own in columns), strict=True))
        half = self.weights.together / 2
        found = [own + half * total * total for own, total in zip(alone, totals, strict=True)]
        for place in self._places.get(levels, ()):
            found[place] += _OWN
        return found

    def _alike(self, one: Levels, other: Levels) -> float:
        likes = [like[a][b] for like, a, b in zip(self._likeness, one, other, strict=True)]
        variances, half = self.weights.axes, self.weights.together / 2
        total = sum(math.sqrt(variance) * like for variance, like in zip(variances, likes, strict=True))
        alone = sum(v * like * (1 - half * like) for v, like in zip(variances, likes, strict=True))
        return alone + half * total * total + (_OWN if one == other else 0.0)

    def _column(self, axis: int, level: int) -> tuple[list[float], list[float]]:
        variance, half = self.weights.axes[axis], self.weights.together / 2
        found = self._columns.get((axis, level, variance, half))
        if found is None:
            like = self._likeness[axis][level]
            likes = [like[each.levels[axis]] for each in self._seen]
            deviation = math.sqrt(variance)
            parts = [deviation * each for each in likes]
            found = parts, [variance * each * (1 - half * each) for each in likes]
            self._columns[axis, level, variance, half] = found
        return found


def _cholesky(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """Of a positive definite matrix, of which the lower triangle is given."""
    factor: list[list[float]] = []
    for row in rows:
        new: list[float] = []
        for place, value in enumerate(row[:-1]):
            above = factor[place]
            new.append((value - sum(map(mul, new, above))) / above[-1])
        new.append(math.sqrt(max(row[-1] - sum(map(mul, new, new)), 1e-12)))
        factor.append(new)
    return factor


def _forward(factor: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    found: list[float] = []
    for row, value in zip(factor, values, strict=True):
        found.append((value - sum(map(mul, row, found))) / row[-1])
    return found


def _backward(factor: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    rest, found = list(values), [0.0] * len(values)
    for place in range(len(values) - 1, -1, -1):
        row = factor[place]
        value = found[place] = rest[place] / row[-1]
        for column in range(place):
            rest[column] -= row[column] * value
    return found


def expected_gain(apart: CostEstimate, noise: float, trust: float) -> float:
    """
    By how much of its cost the best is expected to be improved on by a trial, whose variance is ``noise``.

    What a trial can hardly change promises little: Frazier, Powell and Dayanik, The Knowledge-Gradient
    Policy for Correlated Normal Beliefs (2009), here of two settings at a time.
    """
    deviation = apart.variance / math.sqrt(apart.variance + noise) / trust
    z = -apart.mean / deviation
    return deviation * _NORMAL.pdf(z) - apart.mean * _NORMAL.cdf(z)


def sure_of_many(many: int, freedom: int) -> float:
    """
    Standard errors by which the best of so ``many`` must be better, since the luckiest of them looks better
    than it is: Bonferroni's bound, for Student's distribution, by its expansion (Abramowitz and Stegun
    26.7.5), since few runs tell little of the noise.
    """
    z = _NORMAL.inv_cdf(1 - _ERRS / max(many, 1))
    return z + (z**3 + z) / (4 * freedom)
