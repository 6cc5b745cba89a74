"""What each setting does, by the measurements of a tuning: effects in words, and charts."""

from __future__ import annotations

import pytest

from supervisor.measure.chart import Bars, Lines
from supervisor.tune.search_values import Axis, TrialResult
from supervisor.tune.space import Space
from supervisor.tune.surface import charts, effects

UBATCH, BATCH, EXPERTS, FLAVOUR = (
    "server.ubatch-size", "server.batch-size", "server.n-cpu-moe", "engine.flavour"
)  # fmt: skip
SPACE = Space(
    (
        Axis(UBATCH, ("512", "2048", "4096"), is_ordered=True, now="512"),
        Axis(EXPERTS, ("26", "28", "30"), is_ordered=True, now="30"),
        Axis(FLAVOUR, ("vulkan", "rocm"), is_ordered=False, now="vulkan"),
    ),
    36,
)


def ran(prompt, generated, noise=0.01, runs=6):
    rates = [(prompt * (1 + noise * (n % 3 - 1)), generated * (1 + noise * (n % 3 - 1))) for n in range(runs)]
    return TrialResult(tuple(1000 / p + 100 / g for p, g in rates), 9.0, rates=tuple(rates))


def candidate(**changes):
    keys = {"ub": UBATCH, "b": BATCH, "moe": EXPERTS, "on": FLAVOUR}
    return tuple(sorted((keys[name], str(value)) for name, value in changes.items()))


BEST = candidate(ub=4096, b=4096, moe=28)
RESULTS = [
    ((), ran(380, 30)),
    (BEST, ran(1682, 33)),
    (candidate(ub=2048, moe=28), ran(1113, 33)),
    (candidate(moe=28), ran(380, 33)),  # what is not named is as the profile has it: 512
    (candidate(ub=4096, b=4096), ran(1682, 30)),
    (candidate(ub=4096, b=4096, moe=26), TrialResult((), 3.0, "out of memory")),
]


def test_an_effect_is_that_of_one_change_while_all_else_is_as_in_the_best():
    said = effects(SPACE, RESULTS, BEST)
    assert said[UBATCH] == "4.4 times (4.4 to 4.5) prompt"
    assert said[BATCH] == "follows ubatch-size"
    assert said[EXPERTS] == "+10 % (8 to 12) generation"


def test_an_effect_that_was_measured_with_other_settings_says_with_which():
    results = [pair for pair in RESULTS if pair[0] != candidate(ub=4096, b=4096)]
    assert effects(SPACE, results, BEST)[EXPERTS] == (
        "+10 % (8 to 12) generation, measured with ubatch-size 512"
    )


def test_a_setting_that_the_profile_leaves_to_the_engine_is_compared_with_that():
    threads = (("server.threads-batch", "16"),)
    space = Space((Axis("server.threads-batch", ("8", "16"), is_ordered=True),))
    results = [((), ran(100, 20)), (threads, ran(150, 20))]
    assert effects(space, results, threads) == {"server.threads-batch": "+50 % (48 to 52) prompt"}
    assert charts(space, results, threads) == ()  # one value is no line


def test_a_change_that_was_never_alone_says_so():
    results = [((), ran(380, 30)), (BEST, ran(1682, 33))]
    assert effects(SPACE, results, BEST)[EXPERTS] == "measured only together with other changes"


def test_noise_is_no_effect_and_costs_tell_where_no_rates_are_known():
    same = effects(SPACE, [((), ran(380, 30)), (candidate(moe=28), ran(381, 30))], candidate(moe=28))
    assert same == {EXPERTS: "no difference seen"}
    without = [((), TrialResult((2.0,), 1.0)), (candidate(moe=28), TrialResult((1.0,), 1.0))]
    assert effects(SPACE, without, candidate(moe=28)) == {EXPERTS: "2.0 times in all"}


def test_a_chart_has_a_line_for_each_set_of_the_other_settings_and_the_best_one_first():
    found = charts(SPACE, RESULTS, BEST)
    by_ubatch = next(each for each in found if each.title == "prompt, tokens per second, by ubatch-size")
    assert isinstance(by_ubatch, Lines)
    assert [line.label for line in by_ubatch.lines] == ["all else as in the best", "with n-cpu-moe 30"]
    assert [(x, round(each.value)) for x, each in by_ubatch.lines[0].points] == [
        (512, 380), (2048, 1113), (4096, 1682)
    ]  # fmt: skip
    assert "ubatch-size" in found[0].title  # it matters most


def test_a_setting_without_an_order_gives_bars():
    results = [*RESULTS, (candidate(ub=4096, b=4096, moe=28, on="rocm"), ran(900, 20))]
    bars = next(each for each in charts(SPACE, results, BEST) if isinstance(each, Bars))
    assert bars.title == "generation, tokens per second, by flavour"
    assert [(label, round(each.value)) for label, each in bars.bars] == [("vulkan", 33), ("rocm", 20)]


@pytest.mark.parametrize("results", [[], [((), ran(1, 1))], [((), TrialResult((), 1.0, "died"))]])
def test_what_was_measured_once_or_never_gives_no_chart(results):
    assert charts(SPACE, results, ()) == ()
