"""Intervals of medians and ratios: how often they include the truth, by simulation with fixed seeds."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.measure.statistics import Ratio, ratio, summary

ROUNDS = 1000
POSITIVE = st.floats(0.01, 1e6)

# name: (how a value is drawn, the median of all)
NOISE = {
    "even": (lambda draw: 100 * math.exp(draw.gauss(0, 0.05)), 100.0),
    "heavy tails": (lambda draw: 100 * math.exp(draw.choice((-1, 1)) * draw.expovariate(20)), 100.0),
    "uniform": (lambda draw: draw.uniform(90, 110), 100.0),
    "only ever slower": (lambda draw: 100 * math.exp(-draw.expovariate(20)), 100 * 0.5 ** (1 / 20)),
}


@pytest.mark.parametrize("count", [3, 4, 5, 6, 8, 12, 30])
@pytest.mark.parametrize("noise", NOISE)
def test_the_interval_includes_the_true_median_95_times_of_100(noise, count):
    draw, (drawn, true) = random.Random(f"{noise} {count}"), NOISE[noise]
    found = [summary([drawn(draw) for _ in range(count)]) for _ in range(ROUNDS)]
    covered = sum(each.low <= true <= each.high for each in found) / ROUNDS
    least = 0.90 if count < 6 and noise != "even" else 0.93  # Student's assumes a normal one
    assert covered >= least


@pytest.mark.parametrize("count", [3, 5, 6, 12])
def test_two_equal_sets_are_told_apart_5_times_of_100(count):
    draw, (drawn, _) = random.Random(count), NOISE["even"]
    sets = [[[drawn(draw) for _ in range(count)] for _ in range(2)] for _ in range(ROUNDS)]
    assert sum(ratio(new, old).is_seen for new, old in sets) / ROUNDS <= 0.065


@pytest.mark.parametrize("count", [3, 5, 6, 12])
def test_the_interval_of_an_unpaired_ratio_includes_the_truth(count):
    draw, (drawn, _) = random.Random(count), NOISE["even"]
    found = [
        ratio([1.3 * drawn(draw) for _ in range(count)], [drawn(draw) for _ in range(2 * count)])
        for _ in range(ROUNDS)
    ]
    assert sum(each.low <= 1.3 <= each.high for each in found) / ROUNDS >= 0.935


def test_pairs_take_out_what_slows_both():
    """A machine that gets slower by a factor of three: unpaired nothing is seen, paired 5 % is."""
    drift, draw = [1.2**turn for turn in range(6)], random.Random(1)
    old = [100 / slow * math.exp(draw.gauss(0, 0.005)) for slow in drift]
    new = [105 / slow * math.exp(draw.gauss(0, 0.005)) for slow in drift]
    assert not ratio(new, old).is_seen
    paired = ratio(new, old, paired=True)
    assert paired.is_seen
    assert paired.low <= 1.05 <= paired.high


@given(st.lists(POSITIVE, min_size=2, max_size=30))
def test_the_interval_holds_the_median_and_no_value_below_zero(values):
    found = summary(values)
    assert 0 < found.low <= found.median * (1 + 1e-9)
    assert found.high >= found.median * (1 - 1e-9)


@given(st.lists(POSITIVE, min_size=2, max_size=12), st.lists(POSITIVE, min_size=2, max_size=12))
def test_a_ratio_the_other_way_round_is_its_inverse(new, old):
    one, other = ratio(new, old), ratio(old, new)
    assert [one.value, one.low, one.high] == pytest.approx([1 / other.value, 1 / other.high, 1 / other.low])
    assert one.is_seen == other.is_seen or 1 in (pytest.approx(one.low), pytest.approx(one.high))


def test_the_interval_of_interpolated_order_statistics_is_the_published_one():
    """Ten samples: depth 2 covers 97.85 %, depth 3 89.06 %; 0.1 to 0.2 of the way inward."""
    found = summary([float(value) for value in range(1, 11)])
    share = (0.978515625 - 0.95) / (0.978515625 - 0.890625)
    inward = 8 * share / (2 + 6 * share)
    assert (found.low, found.high) == pytest.approx((2 + inward, 9 - inward))


def test_one_sample_tells_no_interval_and_no_difference():
    found = summary([3.0])
    assert (found.median, found.low, found.high, found.spread) == (3.0, None, None, None)
    assert ratio([3.0], [1.0, 1.1]) == Ratio(3.0 / 1.05, None, None)
    assert not ratio([3.0], [1.0, 1.1]).is_seen


def test_the_spread_is_half_the_interval_as_a_share():
    assert summary([100.0] * 3).spread == pytest.approx(0.0)
    found = summary([98.0, 99.0, 100.0, 100.0, 101.0, 102.0])
    assert found.spread == pytest.approx((found.high - found.low) / 200)
