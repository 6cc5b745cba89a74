"""The search of `tune` on made-up machines: what it finds, and what it never does."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from supervisor.tune.search_values import Axis, Found, TrialResult
from supervisor.tune.settings_search import SettingsSearch
from supervisor.tune.space import EXPERTS, FLAVOUR, LAYERS, THREADS, UBATCH, Space

LAYER_AXIS = Axis(LAYERS, tuple(map(str, range(25))), True, now="20", memory="GPU")
UBATCH_AXIS = Axis(UBATCH, ("256", "512", "1024", "2048"), True, now="512", memory="both")
THREAD_AXIS = Axis(THREADS, ("4", "8", "16"), True, now="8")
FLAVOUR_AXIS = Axis(FLAVOUR, ("vulkan", "rocm"), False, now="vulkan")
SPACE = Space((LAYER_AXIS, UBATCH_AXIS, THREAD_AXIS), layers=24)
LOAD_SECONDS = 5.0


def everything_fits(candidate):
    return True


def searched(space, cost, *, starts=((),), fits=everything_fits, budget=2000.0, noise=0.0, seed=1, died=None):
    """All trials with their results, and what was found; ``died`` says of which memory, or why, one dies."""
    random, search, trials = Random(seed), SettingsSearch(space, starts, fits, budget, seed), []
    while not isinstance(asked := search.ask(), Found):
        values = {axis.key: space.value(asked.candidate, axis.key) for axis in space.axes}
        death = died(values) if died else None
        if death is not None:
            result = TrialResult((), LOAD_SECONDS, "it died", death)
        else:
            costs = tuple(cost(values) * math.exp(random.gauss(0, noise)) for _ in range(asked.runs))
            result = TrialResult(costs, LOAD_SECONDS + sum(costs))
        search.tell(asked, result)
        trials.append((asked, result))
    return trials, asked


def layered(values):
    """All layers on the GPU are another thing than all but one."""
    layers = int(values[LAYERS])
    seconds = 2.0 if layers == 24 else 9.0 - 0.15 * layers
    return seconds * (1 + 0.05 * abs(math.log2(int(values[THREADS]) / 8))) * (1 + 60 / int(values[UBATCH]))


def test_the_step_from_all_but_one_layer_to_all_is_found():
    trials, found = searched(SPACE, layered, noise=0.05)
    assert dict(found.best)[LAYERS] == "24"
    assert found.ratio_low > 2
    assert len(trials) < 60  # of 300 settings


def test_a_cliff_between_is_found_to_the_layer():
    def spilling(values):  # beyond 17 layers the driver moves them over the bus
        layers = int(values[LAYERS])
        return 8.0 - 0.2 * layers if layers <= 17 else 11.0

    _, found = searched(Space((LAYER_AXIS,), 24), spilling, noise=0.02)
    assert dict(found.best)[LAYERS] == "17"


def test_two_settings_that_only_help_together_are_found():
    def together(values):
        is_good = values[FLAVOUR] == "rocm" and values[UBATCH] == "2048"
        return 5.0 if is_good else 9.0 + (values[FLAVOUR] == "rocm") + int(values[UBATCH]) / 4096

    _, found = searched(Space((FLAVOUR_AXIS, UBATCH_AXIS)), together, noise=0.02)
    assert (dict(found.best)[FLAVOUR], dict(found.best)[UBATCH]) == ("rocm", "2048")


def test_where_nothing_helps_the_settings_are_already_the_best():
    claims = [
        searched(SPACE, lambda _: 3.0, noise=0.05, budget=600.0, seed=seed)[1].best != () for seed in range(4)
    ]
    assert not any(claims)


def test_what_is_better_by_less_than_the_noise_is_not_said_to_be():
    _, found = searched(Space((THREAD_AXIS,)), lambda values: 3.0 - 0.001 * int(values[THREADS]), noise=0.1)
    assert found == Found((), (), 1.0, 1.0, 1.0, found.why)


def test_runs_that_agree_by_chance_at_first_do_not_hide_the_noise():
    random, told = Random(3), []

    def noisy(_):
        told.append(3.0 * math.exp(random.gauss(0, 0.1) if len(told) >= 3 else 0.0))
        return told[-1]

    trials, found = searched(SPACE, noisy, budget=600.0)
    assert found.best == ()
    assert min(trial.runs for trial, _ in trials[10:]) >= 3  # as many as such noise needs


def test_where_time_is_left_what_is_known_is_measured_longer():
    def close(values):  # hard to tell apart
        return 3.0 + 0.05 * abs(int(values[THREADS]) - 8) / 4 + (values[FLAVOUR] == "rocm")

    trials, found = searched(Space((THREAD_AXIS, FLAVOUR_AXIS)), close, noise=0.1, budget=9000.0)
    runs = {}
    for trial, _ in trials:
        runs.setdefault(trial.candidate, []).append(trial.runs)
    assert max(each[0] for each in runs.values()) <= 6
    assert max(runs[found.best]) == 12


def test_drift_is_no_gain():
    spent = [0.0]

    def slowing(_):  # by a third, while it is measured
        spent[0] += 1.0
        return 3.0 * (1.0 - 0.3 * min(spent[0] / 100, 1.0))

    assert searched(Space((THREAD_AXIS, FLAVOUR_AXIS)), slowing, noise=0.01)[1].best == ()


@pytest.mark.parametrize("short_of", ["GPU", ""])
def test_what_died_is_not_tried_again(short_of):
    trials, found = searched(
        SPACE, layered, died=lambda values: short_of if int(values[LAYERS]) > 21 else None
    )
    dead = [trial.candidate for trial, result in trials if result.died]
    assert len(dead) == len(set(dead))
    assert dict(found.best)[LAYERS] == "21"


def test_after_a_death_of_memory_nothing_larger_is_tried():
    def died(values):
        return "GPU" if int(values[LAYERS]) + int(values[UBATCH]) / 512 > 22 else None

    trials, _ = searched(SPACE, layered, died=died)
    dead = []
    for trial, result in trials:
        layers, ubatch = int(SPACE.value(trial.candidate, LAYERS)), int(SPACE.value(trial.candidate, UBATCH))
        threads = SPACE.value(trial.candidate, THREADS)
        assert not any(layers >= a and ubatch >= b and threads == c for a, b, c in dead)
        if result.died:
            dead.append((layers, ubatch, threads))


def test_experts_in_ram_are_the_other_way_round():
    experts = Axis(EXPERTS, tuple(map(str, range(25))), True, now="24", memory="RAM")

    def died(values):
        return "GPU" if int(values[EXPERTS]) < 10 else None

    trials, found = searched(Space((experts,), 24), lambda values: 4 + int(values[EXPERTS]) / 10, died=died)
    dead = [int(SPACE.value(trial.candidate, EXPERTS)) for trial, result in trials if result.died]
    assert dead == sorted(dead)  # each with more in RAM than the one before
    assert dict(found.best)[EXPERTS] == "10"


def test_a_flavour_that_never_runs_is_given_up():
    trials, _ = searched(
        Space((*SPACE.axes, FLAVOUR_AXIS), 24),
        layered,
        died=lambda values: "" if values[FLAVOUR] == "rocm" else None,
    )
    assert sum(bool(result.died) for _, result in trials) <= 2


def test_without_a_start_that_runs_nothing_is_found():
    trials, found = searched(SPACE, layered, starts=((), ((LAYERS, "12"),)), died=lambda _: "GPU")
    assert len(trials) == 2
    assert found.best == ()
    assert "None of the settings" in found.why


def test_another_start_replaces_a_profile_that_does_not_run():
    _, found = searched(
        SPACE,
        layered,
        starts=((), ((LAYERS, "12"),)),
        died=lambda values: "GPU" if int(values[LAYERS]) == 20 else None,
    )
    assert found.start == ((LAYERS, "12"),)


def test_a_trial_that_cannot_win_may_stop():
    trials, _ = searched(SPACE, layered, noise=0.02)
    assert any(trial.stop_above is not None for trial, _ in trials[1:])
    assert all(trial.stop_above is None for trial, _ in trials if trial.reloads)


def test_the_winner_and_the_profile_are_loaded_anew_in_turns():
    trials, found = searched(SPACE, layered, noise=0.02)
    turns = [trial.candidate for trial, _ in trials if trial.reloads]
    assert turns[:4] == [found.best, (), (), found.best]


@pytest.mark.parametrize("noise", [0.03, 0.08])
@pytest.mark.parametrize("budget", range(30, 150, 10))
def test_turns_are_as_long_as_the_time_allows_for_both(budget, noise):
    """One long turn of one of the two proves nothing, and the time is gone."""

    def close(values):
        return 2.0 + 0.1 * abs(math.log2(int(values[THREADS]) / 4)) + 0.2 * (values[FLAVOUR] == "vulkan")

    trials, _ = searched(Space((THREAD_AXIS, FLAVOUR_AXIS)), close, budget=budget, noise=noise)
    turns = [trial.candidate for trial, _ in trials if trial.reloads]
    assert turns.count(()) >= len(turns) // 2
    assert len(turns) != 1


def test_what_was_measured_beside_many_must_be_better_by_more():
    def claims(space, noise=0.1):
        """Of 100 searches, in too little time for turns that prove something."""
        found = (
            searched(space, lambda _: 3.0, budget=130.0, noise=noise, seed=seed)[1] for seed in range(100)
        )
        return sum(each.best != () for each in found)

    assert claims(Space((FLAVOUR_AXIS,))) <= 5
    assert claims(SPACE) <= 5


@st.composite
def surfaces(draw):
    """A space, what each of its values costs, and which settings fit."""
    sizes = draw(st.lists(st.integers(2, 5), min_size=1, max_size=4))
    axes = tuple(
        Axis(f"s{place}", tuple(map(str, range(size))), draw(st.booleans()), now="0")
        for place, size in enumerate(sizes)
    )
    costs = {axis.key: draw(st.lists(st.floats(0.5, 3), min_size=5, max_size=5)) for axis in axes}
    limit = draw(st.integers(1, 16))
    return Space(axes), costs, limit


@given(surfaces(), st.floats(0, 0.1), st.floats(0, 3000), st.integers(0, 100))
@hypothesis_settings(max_examples=25, deadline=None)
def test_any_search_ends_in_time_and_only_asks_what_fits(surface, noise, budget, seed):
    space, costs, limit = surface

    def cost(values):
        return math.prod(costs[key][int(value)] for key, value in values.items())

    def fits(candidate):
        return sum(int(value) for _, value in candidate) <= limit

    other = tuple((axis.key, "1") for axis in space.axes[:1])
    trials, found = searched(
        space, cost, starts=((), other), fits=fits, budget=budget, noise=noise, seed=seed
    )
    assert all(fits(trial.candidate) for trial, _ in trials)
    assert sum(result.took_seconds for _, result in trials[:-1]) <= budget or len(trials) == 1
    assert found.ratio_low <= found.ratio <= found.ratio_high
    assert (found.best == found.start) == (found.ratio_low <= 1)
    again = SettingsSearch(space, ((), other), fits, budget, seed)
    for number, (trial, result) in enumerate(trials):  # whoever tells a journal again asks only at its end
        if number == len(trials) // 2:
            assert again.ask() == again.ask() == trial
        again.tell(trial, result)
    assert again.ask() == found


@given(surfaces(), st.integers(0, 100))
@hypothesis_settings(max_examples=15, deadline=None)
def test_the_end_is_no_worse_than_any_start(surface, seed):
    space, costs, _ = surface

    def cost(values):
        return math.prod(costs[key][int(value)] for key, value in values.items())

    starts = ((), *(((axis.key, "1"),) for axis in space.axes))
    _, found = searched(space, cost, starts=starts, seed=seed)
    of = {each: cost({a.key: space.value(each, a.key) for a in space.axes}) for each in (*starts, found.best)}
    assert of[found.best] <= 1.01 * min(of[start] for start in starts)
