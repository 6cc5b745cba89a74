"""How often a workload runs: until its figures are steady, and no longer than it may."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

import pytest

from supervisor.measure.measurement import Measured, Sample, Workload
from supervisor.measure.repeat import Until, measure, measured

WORKLOAD = Workload(512, 128, depth_tokens=4096)
UNTIL = Until()
STEADY = Sample(1000.0, 50.0, 0.5, 3.0)


class Scripted:
    """Runs that give these samples one after the other, each of as many seconds as it says."""

    def __init__(self, *samples):
        self.samples = cycle(samples)
        self.now = 100.0
        self.asked = []

    def run(self, workload, number):
        self.asked.append((workload, number))
        sample = next(self.samples)
        self.now += sample.seconds
        return sample

    def measure(self, until=UNTIL, warms_up=False):
        return measure(self.run, WORKLOAD, until, lambda: self.now, warms_up=warms_up)


def rates(*values):
    return [replace(STEADY, generated_per_second=value) for value in values]


def test_steady_figures_take_three_runs():
    assert len(Scripted(STEADY).measure().samples) == 3


def test_each_run_has_a_number_of_its_own_and_none_is_that_of_the_warm_up():
    script = Scripted(STEADY)
    script.measure(warms_up=True)
    assert [number for _, number in script.asked] == [0, 1, 2, 3]


def test_the_warm_up_is_short_and_does_not_count():
    script = Scripted(replace(STEADY, generated_per_second=1.0), *[STEADY] * 3)
    found = script.measure(warms_up=True)
    assert script.asked[0][0] == Workload(64, 16)
    assert found.values("generated_per_second") == (50.0, 50.0, 50.0)


def test_unsteady_figures_are_repeated_until_the_median_is_known_within_two_percent():
    script = Scripted(*rates(50, 54, 50, 50.5, 49.8, 50.2, 50.1, 49.9, 50, 50.1, 49.9, 50))
    assert 6 <= len(script.measure().samples) <= 10


def test_time_that_is_up_ends_it():
    script = Scripted(*rates(50, 100))
    assert len(script.measure(Until(seconds=31.0)).samples) == 10


def test_a_run_that_would_end_too_late_is_not_begun():
    assert len(Scripted(*rates(50, 100)).measure(Until(seconds=32.9)).samples) == 10


def test_three_slow_runs_are_taken_even_so():
    assert len(Scripted(*rates(50, 100)).measure(Until(seconds=1.0)).samples) == 3


def test_there_is_a_most():
    assert len(Scripted(*rates(50, 100)).measure(Until(most=7, seconds=1e9)).samples) == 7


def test_what_was_disturbed_is_repeated_and_does_not_count():
    noisy = replace(STEADY, generated_per_second=20.0, disturbed=("swapping",))
    found = Scripted(STEADY, noisy, noisy, STEADY).measure()
    assert len(found.samples) == 5
    assert found.values("generated_per_second") == (50.0, 50.0, 50.0)


def test_where_all_was_disturbed_all_counts_and_time_ends_it():
    found = Scripted(replace(STEADY, disturbed=("other load",))).measure(Until(seconds=30.0))
    assert len(found.samples) == 10
    assert len(found.values("prompt_per_second")) == 10


def test_a_figure_that_the_server_does_not_tell_is_not_waited_for():
    found = Scripted(replace(STEADY, prompt_per_second=None)).measure()
    assert len(found.samples) == 3
    assert found.values("prompt_per_second") == ()


def test_it_can_be_watched_as_it_grows_and_stopped():
    script = Scripted(*rates(50, 100))
    growing = measured(script.run, WORKLOAD, UNTIL, lambda: script.now, warms_up=False)
    first, second = next(growing), next(growing)
    assert isinstance(first, Measured)
    assert [len(first.samples), len(second.samples)] == [1, 2]
    growing.close()
    assert len(script.asked) == 2


def test_what_a_run_raises_goes_up():
    def run(workload, number):
        raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        measure(run, WORKLOAD, UNTIL, lambda: 0.0)
