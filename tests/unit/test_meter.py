"""What is said of a download that goes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from supervisor.download.transfer import WINDOW_SECONDS, Meter

MB = 10**6


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_says_how_far_how_fast_and_how_long() -> None:
    clock = Clock()
    meter = Meter(0, 149 * MB, clock)
    assert meter.at(0) == (0.0, "0.0 of 149.0 MB")
    clock.now += 2
    assert meter.at(12_300_000) == (12.3 / 149, "12.3 of 149.0 MB, 6.2 MB/s, 22 s left")


def test_what_was_there_before_is_not_counted_as_speed() -> None:
    clock = Clock()
    meter = Meter(100 * MB, 110 * MB, clock)
    clock.now += 1
    assert meter.at(101 * MB)[1] == "101.0 of 110.0 MB, 1.0 MB/s, 9 s left"


def test_the_speed_is_that_of_the_last_seconds() -> None:
    clock = Clock()
    meter = Meter(0, 1000 * MB, clock)
    for position in range(0, 101, 10):
        clock.now += 1
        meter.at(position * MB)
    for position in range(101, 121):
        clock.now += 1
        said = meter.at(position * MB)[1]
    assert said == "120.0 of 1000.0 MB, 1.0 MB/s, 15 min left"


def test_a_download_that_stands_has_no_end() -> None:
    clock = Clock()
    meter = Meter(0, 10 * MB, clock)
    clock.now += WINDOW_SECONDS * 2
    assert meter.at(0) == (0.0, "0.0 of 10.0 MB, 0.0 MB/s")


def test_without_a_size_there_is_no_fraction() -> None:
    clock = Clock()
    meter = Meter(0, None, clock)
    clock.now += 1
    assert meter.at(2 * MB) == (None, "2.0 MB, 2.0 MB/s")


def test_large_ones_are_in_gb_and_long_ones_in_hours() -> None:
    clock = Clock()
    meter = Meter(0, 63_400 * MB, clock)
    clock.now += 1
    assert meter.at(2 * MB)[1] == "0.0 of 63.4 GB, 2.0 MB/s, 8 h 48 min left"


@given(
    st.integers(0, 10**12),
    st.one_of(st.none(), st.integers(1, 10**12)),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**9))),
)
def test_it_always_has_something_to_say(
    start: int, total: int | None, steps: list[tuple[float, int]]
) -> None:
    clock, position = Clock(), start
    meter = Meter(start, total, clock)
    for seconds, gained in steps:
        clock.now += seconds
        position += gained
        fraction, text = meter.at(position)
        assert (fraction is None) == (total is None)
        assert "-" not in text or (total is not None and position > total)
        assert text
