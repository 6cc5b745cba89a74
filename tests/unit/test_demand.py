"""How likely each model is wanted again soon, learnt from when it was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.fleet.demand import MOST_MODELS, Demand


def after(*uses):
    demand = Demand()
    for name, when in sorted(uses, key=lambda use: use[1]):
        demand.note(name, when)
    return demand


def every(seconds, name, *, until, since=0.0):
    return [(name, since + n * seconds) for n in range(int((until - since) / seconds) + 1)]


def test_the_longer_nobody_asks_the_less_likely_it_is():
    demand = after(("a", 0))
    chances = [demand.chance("a", now) for now in (10, 100, 1000, 10_000, 100_000, 1_000_000)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 2 * chances[-1]


def test_one_that_is_asked_for_more_often_is_likelier_though_both_were_asked_for_at_once():
    demand = after(*every(60, "often", until=3600), *every(1200, "seldom", until=3600))
    assert demand.chance("often", 3605) > demand.chance("seldom", 3605)


def test_one_that_is_asked_for_by_the_clock_gets_likelier_as_the_time_comes_near():
    demand = after(*every(3600, "hourly", until=20 * 3600))
    last = 20 * 3600
    assert demand.chance("hourly", last + 3000) > demand.chance("hourly", last + 300)


def test_one_that_comes_in_bursts_is_given_up_when_the_burst_is_over():
    uses = [
        each for start in range(0, 100_000, 10_000) for each in every(30, "a", since=start, until=start + 300)
    ]
    demand = after(*uses)
    end = max(when for _, when in uses)
    assert demand.chance("a", end + 10) > 3 * demand.chance("a", end + 600)


def test_a_habit_that_was_given_up_is_forgotten():
    """A thousand times every minute, then every hour for a week."""
    minutes, hours = every(60, "a", until=60_000), every(3600, "a", since=63_600, until=600_000)
    last = max(when for _, when in hours)
    assert after(*minutes).chance("a", 60_010) > 3 * after(*minutes, *hours).chance("a", last + 10)


def test_of_a_new_one_the_pauses_of_all_others_tell():
    short, long = every(20, "other", until=2000), every(5000, "other", until=100_000)
    quick = after(*short, ("new", 2000)).chance("new", 2010)
    slow = after(*long, ("new", 100_000)).chance("new", 100_010)
    assert quick > slow


def test_what_comes_within_seconds_is_one_use():
    """A hundred requests in a second say nothing of whether a pause of minutes ends."""
    uses = every(600, "a", until=60_000)
    crowd = [("a", when + n / 100) for _, when in uses for n in range(100)]
    end = max(when for _, when in crowd)
    assert after(*crowd).chance("a", end + 300) == pytest.approx(after(*uses).chance("a", 60_300), abs=0.01)


def test_one_that_was_loaded_before_anybody_asked_counts_from_then():
    demand = Demand()
    assert demand.chance("a", 1000, since=990) > demand.chance("a", 1000, since=0)
    assert demand.asked_at("a") is None


def test_the_loss_is_the_chance_times_the_load():
    demand = after(("a", 0))
    assert demand.loss_seconds("a", 70, 100) == 70 * demand.chance("a", 100)


def test_where_memory_is_fought_over_only_what_is_wanted_at_once_counts():
    demand = after(*every(600, "a", until=6000))
    calm = demand.chance("a", 6010)
    for when in range(6010, 6310, 30):
        demand.note_eviction(when)
    assert demand.horizon_seconds == pytest.approx(30)
    assert demand.chance("a", 6010) < calm / 3


def test_how_long_memory_is_left_alone_follows_slowly_and_within_bounds():
    demand = Demand()
    assert demand.horizon_seconds == pytest.approx(300)
    demand.note_eviction(0)
    assert demand.horizon_seconds == pytest.approx(300)
    demand.note_eviction(1000)
    assert demand.horizon_seconds == pytest.approx(1000)
    demand.note_eviction(1001)
    assert 20 < demand.horizon_seconds < 1000
    for _ in range(50):
        demand.note_eviction(1001)
    assert demand.horizon_seconds == pytest.approx(20)
    for day in range(50):
        demand.note_eviction(day * 86_400)
    assert demand.horizon_seconds == pytest.approx(20_000)


def test_those_that_nobody_has_asked_for_the_longest_are_forgotten():
    demand = after(*((f"m{n}", n) for n in range(MOST_MODELS)))
    demand.note("m0", 1000)
    demand.note("new", 1001)
    assert demand.asked_at("m1") is None
    assert demand.asked_at("m0") == 1000
    assert demand.asked_at("m2") == 2


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1e7, allow_nan=False)), max_size=60),
    st.floats(-100, 1e8, allow_nan=False),
    st.lists(st.floats(0, 1e6, allow_nan=False), max_size=5),
)
def test_a_chance_is_always_between_nothing_and_certainty(uses, later, evictions):
    demand = after(*uses)
    for when in sorted(evictions):
        demand.note_eviction(when)
    for name in "abcd":
        assert 0 < demand.chance(name, later) <= 1 + 1e-9
