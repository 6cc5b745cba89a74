"""
How good the settings are that `tune` finds, on simulated machines, against other ways to search.

    bench/tune.py [--seeds 100] [--first-seed 0] [--share 0.2] [--processes 1] [--only NAME]
                  [--drawn N | --flat N]

Each search gets the same time: a share of what it takes to measure the whole grid three times over.  What
counts is how much slower the settings that it ends with are than the best of the grid, without noise.

--drawn takes N machines drawn at random in place of those made from published figures, --flat N of which
nothing can be made faster: there the search has to say so.  Optuna's row is left out where it is not
installed: pip install --group bench.

Exits with 1 if ours is not within 3 % of the best in 95 % of all searches on each machine of published
figures, if a rival is better, or if on flat machines more than 5 % of the searches claim a gain.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from multiprocessing import Pool
from random import Random
from statistics import fmean, median

from tuned_machines import Laboratory, SimulatedMachine, exhaustive_best, exhaustive_seconds, machines
from tuned_surfaces import drawn

from supervisor.tune.search_values import Candidate, Found
from supervisor.tune.settings_search import SettingsSearch

CLOSE, MOST_CLAIMS, LEAST_CLOSE = 1.03, 0.05, 0.95
Search = Callable[[Laboratory, float, int], Candidate]
"""From a laboratory, seconds and a seed to what it ends with."""


def ours(laboratory: Laboratory, seconds: float, seed: int) -> Candidate:
    machine = laboratory.machine
    search = SettingsSearch(machine.space, machine.starts, machine.fits, seconds, seed)
    while not isinstance(asked := search.ask(), Found):
        assert machine.fits(asked.candidate), "asked for what does not fit"
        search.tell(asked, laboratory.run(asked.candidate, asked.runs, asked.stop_above))
    return asked.best


class Measured:
    """What a rival knows: the mean of three runs of each setting; the starts come first, as with ours."""

    def __init__(self, laboratory: Laboratory, seconds: float) -> None:
        self._laboratory, self._seconds = laboratory, seconds
        self.costs: dict[Candidate, float] = {}
        for start in laboratory.machine.starts:
            self.cost(start)

    @property
    def is_over(self) -> bool:
        return self._laboratory.spent_seconds >= self._seconds

    def cost(self, candidate: Candidate) -> float:
        result = self._laboratory.run(candidate)
        self.costs[candidate] = math.inf if result.died else fmean(result.costs)
        return self.costs[candidate]

    @property
    def best(self) -> Candidate:
        return min(self.costs, key=lambda each: self.costs[each])


def at_random(laboratory: Laboratory, seconds: float, seed: int) -> Candidate:
    known, grid = Measured(laboratory, seconds), list(laboratory.machine.grid())
    Random(f"random {seed}").shuffle(grid)
    for candidate in grid:
        if known.is_over:
            break
        if candidate not in known.costs:
            known.cost(candidate)
    return known.best


def by_coordinates(laboratory: Laboratory, seconds: float, _seed: int) -> Candidate:
    """One setting after another, all its values, from the best start; until nothing changes any more."""
    machine, known = laboratory.machine, Measured(laboratory, seconds)
    best, before = known.best, None
    while best != before and not known.is_over:
        before = best
        for axis in machine.space.axes:
            for value in axis.values:
                candidate = machine.space.changed(best, axis.key, value)
                is_new = candidate not in known.costs
                if (
                    is_new
                    and not known.is_over
                    and machine.space.allows(candidate)
                    and machine.fits(candidate)
                ):
                    known.cost(candidate)
            best = known.best
    return best


def by_optuna(laboratory: Laboratory, seconds: float, seed: int) -> Candidate:
    """Optuna's TPE; it is told of what does not fit without being charged for it."""
    import optuna  # noqa: PLC0415 - only here, and heavy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    machine, known = laboratory.machine, Measured(laboratory, seconds)
    axes = machine.space.axes
    kinds: Mapping[str, optuna.distributions.BaseDistribution] = {
        axis.key: optuna.distributions.IntDistribution(0, len(axis.values) - 1)
        if axis.is_ordered
        else optuna.distributions.CategoricalDistribution(range(len(axis.values)))
        for axis in axes
    }
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed, multivariate=True))
    worst = 3 * max(cost for cost in known.costs.values() if math.isfinite(cost))
    for start, cost in known.costs.items():
        values = machine.values(start)
        levels = {axis.key: axis.values.index(values[axis.key]) for axis in axes}
        made = optuna.trial.create_trial(params=levels, distributions=dict(kinds), value=min(cost, worst))
        study.add_trial(made)
    for _ in range(2000):
        if known.is_over:
            break
        trial = study.ask(dict(kinds))
        candidate: Candidate = ()
        for axis in axes:
            candidate = machine.space.changed(candidate, axis.key, axis.values[trial.params[axis.key]])
        fits = machine.space.allows(candidate) and machine.fits(candidate)
        study.tell(trial, min(known.cost(candidate), worst) if fits else worst)
    return known.best


SEARCHES: Mapping[str, Search] = {
    "ours": ours, "random": at_random, "coordinates": by_coordinates, "Optuna TPE": by_optuna,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    machine: int  # of the published ones, or the seed of a drawn one
    kind: str  # published, drawn, flat
    search: str
    seed: int
    share: float


@dataclass(frozen=True, slots=True)
class Score:
    case: Case
    excess: float  # over the best of the grid: 1.0 is as good
    gain: float  # over the profile
    share: float  # of the time of the whole grid
    trials: int


@cache
def _machine(number: int, kind: str) -> tuple[SimulatedMachine, float, float]:
    """With the seconds of its grid, and the best cost there."""
    machine = machines()[number] if kind == "published" else drawn(number, flat=kind == "flat")
    return machine, exhaustive_seconds(machine), exhaustive_best(machine)


def score(case: Case) -> Score:
    machine, whole, best = _machine(case.machine, case.kind)
    laboratory = Laboratory(machine, case.seed)
    found = SEARCHES[case.search](laboratory, case.share * whole, case.seed)
    cost = machine.cost(found)
    gain = 0.0 if found == () else machine.cost(()) / cost
    return Score(case, cost / best, gain, laboratory.spent_seconds / whole, len(laboratory.asked))


def cases(options: argparse.Namespace) -> Iterator[Case]:
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    searches = [name for name in options.only or SEARCHES if name != "Optuna TPE" or find_spec("optuna")]
    if options.flat:
        yield from (Case(number, "flat", "ours", number, options.share) for number in range(options.flat))
        return
    for search in searches:
        if options.drawn:
            yield from (
                Case(number, "drawn", search, number, options.share) for number in range(options.drawn)
            )
        else:
            for number in range(len(machines())):
                yield from (Case(number, "published", search, seed, options.share) for seed in seeds)


def table(scores: Sequence[Score]) -> str:
    searches = list(dict.fromkeys(each.case.search for each in scores))
    groups: dict[str, list[Score]] = {}
    for each in scores:
        name = machines()[each.case.machine].name if each.case.kind == "published" else each.case.kind
        groups.setdefault(name, []).append(each)
    groups["all"] = list(scores)
    lines = [
        f"| machine | {' | '.join(searches)} | time of {searches[0]} |",
        "|---|" + "---|" * (len(searches) + 1),
    ]
    for name, group in groups.items():
        cells = []
        for search in searches:
            excesses = [each.excess for each in group if each.case.search == search]
            close = sum(excess <= CLOSE for excess in excesses)
            cells.append(f"{close} of {len(excesses)}, {100 * (fmean(excesses) - 1):.1f} %")
        spent = [each for each in group if each.case.search == searches[0]]
        share, trials = median(each.share for each in spent), median(each.trials for each in spent)
        lines.append(f"| {name} | {' | '.join(cells)} | {100 * share:.0f} %, {trials:.0f} trials |")
    return "\n".join(lines)


def complaints(scores: Sequence[Score]) -> Iterator[str]:
    if scores[0].case.kind == "flat":
        claims = sum(each.gain > 0 for each in scores)
        print(f"{claims} of {len(scores)} searches claim a gain where there is none")
        if claims > max(1, MOST_CLAIMS * len(scores)):
            yield "too many claims"
        return
    print(table(scores))
    means: dict[str, float] = {}
    for search in dict.fromkeys(each.case.search for each in scores):
        means[search] = fmean(each.excess for each in scores if each.case.search == search)
    own = means.get("ours", math.inf)
    yield from (f"{name} is better than ours" for name, mean in means.items() if mean < own < math.inf)
    if scores[0].case.kind == "published":
        for number, machine in enumerate(machines()):
            ends = [e.excess <= CLOSE for e in scores if e.case.search == "ours" and e.case.machine == number]
            if ends and fmean(ends) < LEAST_CLOSE:
                yield f"{machine.name}: only {sum(ends)} of {len(ends)} within 3 % of the best"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.2, help="of the time of the whole grid")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument(
        "--only", action="append", choices=SEARCHES, help="one of the searches; again for more"
    )
    parser.add_argument("--drawn", type=int, default=0, metavar="N")
    parser.add_argument("--flat", type=int, default=0, metavar="N")
    parser.add_argument("--each", action="store_true", help="show each search on stderr as it ends")
    options = parser.parse_args()
    if hasattr(os, "nice"):
        os.nice(10)
    with Pool(options.processes) as pool:
        scores = []
        for each in pool.imap(score, list(cases(options))):
            scores.append(each)
            if options.each:
                print(each, file=sys.stderr, flush=True)
    wrong = list(complaints(scores))
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
