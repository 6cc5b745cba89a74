"""
Medians with 95 % intervals that are honest for few samples, and ratios of two sets of samples.  Pure.

All values are above 0: rates and times, whose noise is a factor.  So logarithms are taken where a formula
assumes a normal distribution, and an interval never goes below 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

LEVEL = 0.95
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided 95 %, by the number of samples


@dataclass(frozen=True, slots=True)
class Summary:
    """``low`` and ``high`` are the 95 % interval of the median; None: one sample does not tell it."""

    median: float
    low: float | None
    high: float | None
    count: int

    @property
    def spread(self) -> float | None:
        """Half the interval as a share of the median: 0.02 is ±2 %."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2 / self.median


@dataclass(frozen=True, slots=True)
class Ratio:
    """New divided by old, with its 95 % interval; None as in `Summary`."""

    value: float
    low: float | None
    high: float | None

    @property
    def is_seen(self) -> bool:
        """Whether there is a difference at all: the interval does not include 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def summary(values: Sequence[float]) -> Summary:
    """
    Of one sample or more.

    From six samples on the interval is that of Hettmansperger and Sheather (1986, Confidence intervals based
    on interpolated order statistics, Statistics & Probability Letters 4): it assumes no distribution.  The
    order statistics of fewer samples reach no 95 %, so there it is Student's interval of the logarithms'
    mean, always wide enough to include the median.
    """
    count, middle = len(values), median(values)
    if count < 2:
        return Summary(middle, None, None, count)
    low, high = _student(values) if count in _STUDENT else _order_statistics(sorted(values))
    return Summary(middle, low, high, count)


def _student(values: Sequence[float]) -> tuple[float, float]:
    logs = [math.log(value) for value in values]
    half = _STUDENT[len(logs)] * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)


def _order_statistics(ordered: Sequence[float]) -> tuple[float, float]:
    """Between the last pair of order statistics that covers the median often enough and the next one."""
    count = len(ordered)
    depth, covered = 1, _covered(count, 1)
    while (next_covered := _covered(count, depth + 1)) >= LEVEL:
        depth, covered = depth + 1, next_covered
    share = (covered - LEVEL) / (covered - next_covered)
    inward = (count - depth) * share / (depth + (count - 2 * depth) * share)
    return (
        (1 - inward) * ordered[depth - 1] + inward * ordered[depth],
        (1 - inward) * ordered[count - depth] + inward * ordered[count - depth - 1],
    )


def _covered(count: int, depth: int) -> float:
    """How often the median lies between the ``depth``-th smallest and the ``depth``-th largest sample."""
    return 1 - 2 * sum(math.comb(count, below) for below in range(depth)) / float(2**count)


def ratio(new: Sequence[float], old: Sequence[float], *, paired: bool = False) -> Ratio:
    """
    How many times as large the new values are.

    ``paired`` is for values that were taken in turns, one of each at a time, and equally many: what slows the
    machine for a while then slows both of a pair.  Else the interval comes from those of the two medians, by
    the method of Zou and Donner (2008, Construction of confidence limits about effect measures, Statistics in
    Medicine 27), of the logarithms.
    """
    if paired:
        of_pairs = summary([one / other for one, other in zip(new, old, strict=True)])
        return Ratio(of_pairs.median, of_pairs.low, of_pairs.high)
    first, second = summary(new), summary(old)
    value = first.median / second.median
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Ratio(value, None, None)
    below = math.hypot(math.log(first.median / first.low), math.log(second.high / second.median))
    above = math.hypot(math.log(first.high / first.median), math.log(second.median / second.low))
    return Ratio(value, value / math.exp(below), value * math.exp(above))
