"""
What each setting does to the speed, by the measurements of a tuning: effects in words, and charts.  Pure.

Only candidates that differ in one setting are compared, and in what has to follow it.  Of those that differ
in more, nobody can say which setting made the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..measure.chart import Bars, Chart, ChartValue, Line, Lines
from ..measure.statistics import Ratio, ratio, summary
from .search_values import Candidate, TrialResult
from .space import BATCH, SHARED, SLOTS, UBATCH, Space

Results = Iterable[tuple[Candidate, TrialResult]]
_FOLLOWING = {UBATCH: (BATCH,), SLOTS: (SHARED,)}  # what `Space.changed` changes with a setting
_LEADING = {follower: key for key, followers in _FOLLOWING.items() for follower in followers}
_MOST_LINES = 3
_SAME, _LEAST = 0.02, 0.005  # of a speed: less is not worth a word, where it may be noise, and at all
_TIMES = 1.95  # from here on ``2.4 times`` reads better than ``+140 %``


@dataclass(slots=True)
class CandidateRuns:
    """All runs of a candidate: costs in seconds, and tokens per second where the server said them."""

    candidate: Candidate
    costs: list[float] = field(default_factory=list)
    prompt: list[float] = field(default_factory=list)
    generated: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Slice:
    """
    Candidates that differ in one setting, by its value, which is "" where the engine decides; ``others`` is
    what they have in common.
    """

    key: str
    others: Candidate
    by_value: Mapping[str, CandidateRuns]


Of = Callable[[CandidateRuns], Sequence[float]]
METRICS: Mapping[str, Of] = {
    "generation": lambda runs: runs.generated,
    "prompt": lambda runs: runs.prompt,
}


def runs_of(results: Results) -> dict[Candidate, CandidateRuns]:
    """Of those that ran; the runs of all trials of a candidate together."""
    found: dict[Candidate, CandidateRuns] = {}
    for candidate, result in results:
        if result.costs:
            runs = found.setdefault(candidate, CandidateRuns(candidate))
            runs.costs += result.costs
            runs.prompt += [prompt for prompt, _ in result.rates if prompt > 0]
            runs.generated += [generated for _, generated in result.rates if generated > 0]
    return found


def slices(space: Space, runs: Mapping[Candidate, CandidateRuns], key: str, best: Candidate) -> list[Slice]:
    """With two values at least; that of the best candidate first, then those with most values."""
    found: dict[Candidate, dict[str, CandidateRuns]] = {}
    for candidate, each in runs.items():
        value = space.value(candidate, key)
        others = found.setdefault(_others(candidate, key), {})
        if value not in others or median_cost(each) < median_cost(others[value]):
            others[value] = each
    made = [Slice(key, others, by_value) for others, by_value in found.items() if len(by_value) > 1]
    of_best = _others(best, key)
    return sorted(made, key=lambda each: (each.others != of_best, -len(each.by_value), each.others))


def _others(candidate: Candidate, key: str) -> Candidate:
    return tuple(pair for pair in candidate if pair[0] not in {key, *_FOLLOWING.get(key, ())})


def median_cost(runs: CandidateRuns) -> float:
    return summary(runs.costs).median


def effects(space: Space, results: Results, best: Candidate) -> dict[str, str]:
    """
    By key of the best candidate, what its value does in place of the profile's: ``+12 % (9 to 15)
    generation``; measured with the other settings of the best candidate, or else it says with which.
    """
    runs = runs_of(results)
    return {key: _effect(space, runs, key, value, best) for key, value in best}


def _effect(
    space: Space, runs: Mapping[Candidate, CandidateRuns], key: str, value: str, best: Candidate
) -> str:
    before = space.value((), key)
    for each in slices(space, runs, key, best):
        if value in each.by_value and before in each.by_value:
            where = "" if each.others == _others(best, key) else f", measured {_with(space, each, best)}"
            return f"{difference(each.by_value[value], each.by_value[before])}{where}"
    leading = _LEADING.get(key, "")
    return (
        f"follows {plain_key(leading)}"
        if leading in dict(best)
        else "measured only together with other changes"
    )


def difference(new: CandidateRuns, old: CandidateRuns) -> str:
    """``+12 % (9 to 15) generation, 2.4 times (2.2 to 2.6) prompt``, in percent of the old one's speed."""
    rates = [
        f"{in_words(found)} {name}"
        for name, of in METRICS.items()
        if of(new) and of(old) and not _is_same(found := ratio(of(new), of(old)))
    ]
    if rates:
        return ", ".join(rates)
    if new.prompt and old.prompt and new.generated and old.generated:
        return "no difference seen"
    found = ratio(old.costs, new.costs)
    return "no difference seen" if _is_same(found) else f"{in_words(found)} in all"


def _is_same(found: Ratio) -> bool:
    return abs(found.value - 1) < (_LEAST if found.is_seen else _SAME)


def in_words(found: Ratio) -> str:
    """With the ends of its interval, where there is one."""
    many = found.value >= _TIMES

    def number(value: float) -> str:
        return f"{value:.1f}" if many else f"{100 * (value - 1):.0f}"

    between = (
        "" if found.low is None or found.high is None else f" ({number(found.low)} to {number(found.high)})"
    )
    return f"{found.value:.1f} times{between}" if many else f"{100 * (found.value - 1):+.0f} %{between}"


def charts(space: Space, results: Results, best: Candidate) -> tuple[Chart, ...]:
    """Of each setting with two values at least, what matters most first: its values against the speed."""
    runs = runs_of(results)
    found = [(key, made) for key in _keys(space, runs) if (made := slices(space, runs, key, best))]
    found.sort(key=lambda pair: -_span(pair[1][0]))
    return tuple(chart for key, made in found for chart in _charts(space, key, made[:_MOST_LINES], best))


def _keys(space: Space, runs: Mapping[Candidate, CandidateRuns]) -> tuple[str, ...]:
    named = (key for candidate in runs for key, _ in candidate)
    return tuple(dict.fromkeys((*(axis.key for axis in space.axes), *named)))


def _span(made: Slice) -> float:
    costs = [median_cost(each) for each in made.by_value.values()]
    return max(costs) / min(costs)


def _charts(space: Space, key: str, made: Sequence[Slice], best: Candidate) -> Iterator[Chart]:
    name = plain_key(key)
    for metric, of in METRICS.items():
        measured = [
            (each, {value: runs for value, runs in each.by_value.items() if value and of(runs)})
            for each in made
        ]
        lines = [(each, by_value) for each, by_value in measured if len(by_value) > 1]
        if not lines:
            continue
        title = f"{metric}, tokens per second, by {name}"
        if numbers := _numbers(space, {value for _, by_value in lines for value in by_value}):
            drawn = [
                Line(
                    _label(space, each, best), _points({numbers[v]: of(runs) for v, runs in by_value.items()})
                )
                for each, by_value in lines
            ]
            yield Lines(title, name, tuple(drawn))
        else:
            first = lines[0][1]
            yield Bars(title, tuple((value, _value(of(runs))) for value, runs in first.items()))


def _points(rates: Mapping[float, Sequence[float]]) -> tuple[tuple[float, ChartValue], ...]:
    return tuple((x, _value(rates[x])) for x in sorted(rates))


def _numbers(space: Space, values: Iterable[str]) -> dict[str, float]:
    """Empty where not all of them are numbers; ``all`` layers are the model's and the output."""
    try:
        return {value: float(space.layers + 1 if value == "all" else value) for value in values}
    except ValueError:
        return {}


def _value(values: Sequence[float]) -> ChartValue:
    found = summary(values)
    low = found.median if found.low is None else found.low
    return ChartValue(found.median, low, found.median if found.high is None else found.high)


def _label(space: Space, made: Slice, best: Candidate) -> str:
    return "all else as in the best" if made.others == _others(best, made.key) else _with(space, made, best)


def _with(space: Space, made: Slice, best: Candidate) -> str:
    """What is different from the best candidate: ``with ubatch-size 512``."""
    there, here = dict(made.others), dict(_others(best, made.key))
    keys = [key for key in {**here, **there} if there.get(key) != here.get(key)]
    keys = [key for key in keys if _LEADING.get(key) not in keys]
    return "with " + ", ".join(
        f"{plain_key(key)} {space.value(made.others, key) or 'left open'}" for key in keys
    )


def plain_key(key: str) -> str:
    """As people say it: ``ubatch-size`` of ``server.ubatch-size``."""
    return key.removeprefix("server.").removeprefix("engine.")
