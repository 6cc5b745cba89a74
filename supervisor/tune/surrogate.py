"""
What the measurements say of settings that were not measured: a Gaussian process in logarithms.  Pure.

The logarithm of a cost is a sum: what each setting does on its own, what two of them do together, the drift of
the machine, which is a slow function of time, and noise.  So each trial tells something of every setting.
Along an ordered axis the function may be rough (an Ornstein-Uhlenbeck process), and both of its ends may
differ from all between: all layers on the GPU are another thing than all but one.  How much each setting
matters is what makes the measurements most likely.

Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 2.1; Duvenaud et al., Additive
Gaussian Processes (2011).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import mul

Levels = tuple[int, ...]  # of each axis, the place of the value; negative for one that is not in its list

_LENGTH = 0.4  # of an axis: so far apart, two values have little to do with each other
_END_SHARE = 0.25  # of an axis' variance that its first and last value have for themselves
_LASTS = 0.3  # of the budget: how long the machine stays as fast as it is
_OWN = 2e-4  # variance of what a setting has for itself, beyond all pairs
_VARIANCES = (1e-4, 1e-3, 1e-2, 1e-1)
_USUAL, _SPREAD = math.log(3e-3), 2.5  # of the logarithm of an axis' variance, before anything is measured
_TOGETHER = (0.1, 0.4, 1.0)
_DRIFTS = (1e-4, 1e-3)
_LOADS = (1e-5, 2e-4)


@dataclass(frozen=True, slots=True)
class AxisShape:
    count: int
    is_ordered: bool

    def likeness(self) -> tuple[tuple[float, ...], ...]:
        """By two levels, the last of which is the one outside: 1 of a level with itself, 0 of strangers."""
        levels = (*range(self.count), -1)
        return tuple(tuple(self._like(one, other) for other in levels) for one in levels)

    def _like(self, one: int, other: int) -> float:
        if not self.is_ordered or one < 0 or other < 0 or self.count < 3:
            return float(one == other)
        near = math.exp(-abs(one - other) / (self.count - 1) / _LENGTH)
        return (1 - _END_SHARE) * near + _END_SHARE * (self._part(one) == self._part(other))

    def _part(self, level: int) -> int:
        return 0 if level == 0 else 2 if level == self.count - 1 else 1


@dataclass(frozen=True, slots=True)
class Observation:
    """``cost`` is a logarithm, ``at`` the share of the budget that was spent; ``variance`` that of its noise."""

    levels: Levels
    cost: float
    variance: float
    at: float


@dataclass(frozen=True, slots=True)
class Weights:
    """Variances: of each axis, of pairs in proportion, of the drift, and from load to load."""

    axes: tuple[float, ...]
    together: float = 0.4
    drift: float = 1e-3
    load: float = 1e-5


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of the logarithm of a cost, on the machine as it was at the beginning."""

    mean: float
    variance: float


class Surrogate:
    """Fitted to observations, of which there must be one; the weights are kept for the next one."""

    def __init__(
        self, shapes: Sequence[AxisShape], observations: Sequence[Observation], weights: Weights | None = None
    ) -> None:
        self._likeness = tuple(shape.likeness() for shape in shapes)
        self._observations = tuple(observations)
        self._centre = sum(each.cost for each in observations) / len(observations)
        self.weights = weights or Weights((math.exp(_USUAL),) * len(shapes))
        self._similar: dict[Levels, list[float]] = {}
        self._solve()

    def estimate(self, levels: Levels) -> Estimate:
        similar = self._row(levels)
        solved = _forward(self._factor, similar)
        variance = self._prior - sum(map(mul, solved, solved))
        return Estimate(self._centre + sum(map(mul, similar, self._weighted)), max(variance, 1e-9))

    def mean(self, levels: Levels) -> float:
        """The same without the variance, much quicker."""
        return self._centre + sum(map(mul, self._row(levels), self._weighted))

    def refitted(self) -> Surrogate:
        """With the weights that make the observations most likely, found one after another."""
        best = self
        for index in range(len(self.weights.axes)):
            for variance in _VARIANCES:
                axes = (*best.weights.axes[:index], variance, *best.weights.axes[index + 1 :])
                best = best._better(replace(best.weights, axes=axes))
        for together in _TOGETHER:
            best = best._better(replace(best.weights, together=together))
        for drift in _DRIFTS:
            best = best._better(replace(best.weights, drift=drift))
        for load in _LOADS:
            best = best._better(replace(best.weights, load=load))
        return best

    def _better(self, weights: Weights) -> Surrogate:
        if weights == self.weights:
            return self
        other = Surrogate.__new__(Surrogate)
        other._likeness, other._observations, other._centre = self._likeness, self._observations, self._centre
        other.weights, other._similar = weights, {}
        other._solve()
        return other if other._likely > self._likely else self

    def _solve(self) -> None:
        axes = self.weights.axes
        self._deviations = [math.sqrt(variance) for variance in axes]
        self._prior = self._alike_of(1.0 for _ in axes) + _OWN
        seen = self._observations
        rows = []
        for index, one in enumerate(seen):
            row = [
                self._alike(one.levels, other.levels) + self._drifted(one.at - other.at)
                for other in seen[:index]
            ]
            row.append(self._prior + self.weights.drift + self.weights.load + one.variance)
            rows.append(row)
        self._factor = _cholesky(rows)
        solved = _forward(self._factor, [each.cost - self._centre for each in seen])
        self._weighted = _backward(self._factor, solved)
        spread = sum(((math.log(variance) - _USUAL) / _SPREAD) ** 2 for variance in axes)
        half_determinant = sum(math.log(row[-1]) for row in self._factor)
        self._likely = -0.5 * sum(map(mul, solved, solved)) - half_determinant - 0.5 * spread

    def _drifted(self, apart: float) -> float:
        return self.weights.drift * math.exp(-((apart / _LASTS) ** 2))

    def _row(self, levels: Levels) -> list[float]:
        found = self._similar.get(levels)
        if found is None:
            found = [self._alike(levels, each.levels) for each in self._observations]
            self._similar[levels] = found
        return found

    def _alike(self, one: Levels, other: Levels) -> float:
        own = _OWN if one == other else 0.0
        return self._alike_of(like[a][b] for like, a, b in zip(self._likeness, one, other, strict=True)) + own

    def _alike_of(self, likes: Iterable[float]) -> float:
        """The sum of all axes' and of all pairs': a square of a sum has each pair twice."""
        alone = total = squares = 0.0
        for deviation, like in zip(self._deviations, likes, strict=True):
            part = deviation * like
            alone += deviation * part
            total += part
            squares += part * part
        return alone + self.weights.together * 0.5 * (total * total - squares)


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
