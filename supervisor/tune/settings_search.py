"""
Searches for the fastest settings: `ask` says what to measure next, `tell` takes what came out.  Pure.

The same seed and the same results give the same trials: a search goes on from a journal by telling it again.

First each start is measured.  Then the trial is asked for that promises most: a setting that was not measured
yet, next to a good one or far from all; or a good one once more, which races it against its rivals.  The last
trials are for that race alone, and as long as the time allows.  Regularly the best so far is measured again,
so that the drift of the machine is known.  At last the best and the profile run in turns, each loaded anew,
until it is certain that the best is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import ne
from random import Random
from statistics import fmean, linear_regression

from .search_values import Candidate, Fits, Found, Trial, TrialResult
from .space import Space
from .surrogate import CostEstimate, Observation, Surrogate, Weights, expected_gain, sure_of_many
from .surroundings import Surroundings

_TURNS = 0.05, 0.3  # shares of the budget, at least and at most, that are kept for the proof of the best
_TURNS_SPARE = 1.5  # how much longer than expected that proof may take
_LEAST_PROMISE = 0.0005  # of the cost: what promises less is not worth a trial
_LEAST_GAIN = 0.002  # what is less is no gain
_LARGE_GAIN = 0.01
_USUAL_LOSS = 0.01  # of a change that was not tried
_DOUBT = 0.25  # trust in the model where it promises nothing, as it may be wrong
_GOOD, _LIKELY, _CHANCE = 3, 30, 15  # candidates: whose surroundings are looked at, and how many of them
_DRIFT_EVERY = 6  # trials
_LONGER = 1.1  # than expected a turn may take
_FIRST_RUNS, _MOST_RUNS, _MOST_KNOWN_RUNS = 3, 6, 12  # the last of what was measured before
_AIM = 0.03  # of the cost: how well a trial should tell it
_USUAL_NOISE, _USUAL_WEIGHT = 0.02, 2  # of a run, as if so many had been seen
_ENOUGH_RUNS = 12  # degrees of freedom that tell the noise; a trial of one run tells nothing of it
_SURE = 2.6  # standard errors, looked at after each pair: Pocock's bound for some six looks, two-sided 5 %
_LEAST_PAIRS, _MOST_PAIRS, _USUAL_PAIRS = 2, 24, 4
_TRUE_SHARE = 0.7  # of the gain that is expected: the best of many is lucky, too
_MOST_OBSERVED = 140  # what the model can take in without taking long itself
_PATIENCE = 120  # trials without a new best, after which the model is believed where it promises nothing
_TRIALS_PER_SETTING = 0.17  # at most, before the turns, within these bounds
_TRIALS_PER_AXIS, _FIRST_TRIALS = (14, 40), 10
_NEW = 0.8  # share of these trials after which no new settings are tried: the known ones race
_LEAST_COST = 1e-9  # seconds: a logarithm needs more than nothing
_STEEP = 0.5  # in logarithms: what is so much slower than the best is not told apart in full
_UNPROVED = "Nothing was proved to be better than your settings in this time."


@dataclass(frozen=True, slots=True)
class _Seen:
    """A trial that lived; ``cost`` is a logarithm."""

    candidate: Candidate
    cost: float
    runs: int
    at_seconds: float
    took_seconds: float
    is_turn: bool  # of the confirmation


class SettingsSearch:
    """
    ``starts`` are the profile, which is the empty candidate, and what else to begin with: the planner's
    placement, the engine's own fit, its usual settings.  The end is never worse than the best of them.  A
    turn that ``has_turn`` names was measured before, and takes no time.

    `ask` changes nothing that can be seen, so a trial of which nothing was told is asked again.  A trial
    that died is never asked again, nor what certainly needs more of the memory that it was short of.
    """

    def __init__(
        self,
        space: Space,
        starts: Sequence[Candidate],
        fits: Fits,
        budget_seconds: float,
        seed: int = 0,
        *,
        has_turn: Callable[[Candidate], bool] = lambda _: False,
    ) -> None:
        self._around = Surroundings(space, fits)
        self._starts = tuple(start for start in dict.fromkeys(starts) if fits(start))
        settings = math.prod(len(axis.values) for axis in space.axes)
        least, most = (_FIRST_TRIALS + number * len(space.axes) for number in _TRIALS_PER_AXIS)
        self._most_trials = min(max(_TRIALS_PER_SETTING * settings, least), most)
        self._budget_seconds = max(budget_seconds, _LEAST_COST)
        self._seed = seed
        self._has_turn = has_turn
        self._told: list[tuple[Trial, TrialResult]] = []
        self._seen: list[_Seen] = []
        self._weights: Weights | None = None
        self._refit_at = 4
        self._model: Surrogate | None = None
        self._best: Candidate | None = None
        self._squares, self._freedom = _USUAL_NOISE**2 * _USUAL_WEIGHT, _USUAL_WEIGHT
        self.spent_seconds = 0.0

    @property
    def best(self) -> Candidate:
        """The best so far; the first start where nothing is known yet."""
        if not self._seen:
            return (self._starts or ((),))[0]
        if self._best is None:
            model = self._surrogate()
            cautious = {each: _cautious(model.estimate(self._around.levels(each))) for each in self._good()}
            self._best = min(cautious, key=lambda each: cautious[each])
        return self._best

    def tell(self, trial: Trial, result: TrialResult) -> None:
        self._told.append((trial, result))
        if result.died or not result.costs:
            self._around.bury(trial.candidate, result.short_of)
            self._seen = [seen for seen in self._seen if seen.candidate != trial.candidate]
        else:
            self._around.praise(trial.candidate)
            logarithms = [math.log(max(cost, _LEAST_COST)) for cost in result.costs]
            cost = fmean(logarithms)
            if trial.stop_above is None or max(result.costs) < trial.stop_above:
                self._squares += sum((each - cost) ** 2 for each in logarithms)
                self._freedom += len(logarithms) - 1
            took = result.took_seconds
            at = self.spent_seconds + took / 2
            self._seen.append(_Seen(trial.candidate, cost, len(result.costs), at, took, trial.reloads))
        self.spent_seconds += result.took_seconds
        self._model = self._best = None
        if len(self._seen) >= self._refit_at:  # here, so that a journal that is told again does the same
            self._surrogate().refit()
            self._weights = self._surrogate().weights
            self._refit_at = math.ceil(1.3 * len(self._seen)) + 1

    def ask(self) -> Trial | Found:
        tried = {trial.candidate for trial, _ in self._told}
        waiting = [start for start in self._starts if start not in tried]
        if waiting and (not self._told or self.spent_seconds < self._budget_seconds):
            return self._trial(waiting[0], "a setting to start from", runs=_FIRST_RUNS)
        if not self._seen:
            return self._nothing("None of the settings to start from ran.")
        if self._is_turning() or self._left_seconds() <= self._seconds(self.best, self._runs()):
            return self._confirm()
        if len(self._told) >= self._most_trials:
            return self._confirm()
        return self._explore() or self._confirm()

    # The model

    def _surrogate(self) -> Surrogate:
        if self._model is None:
            self._model = Surrogate(self._around.axes, self._observations(), self._weights)
        return self._model

    def _observations(self) -> list[Observation]:
        """Trials of a candidate that are close in time are one; of too many, the worst are left out."""
        merged: dict[tuple[Candidate, int], list[_Seen]] = {}
        for seen in self._seen:
            when = int(10 * seen.at_seconds / self._budget_seconds)
            merged.setdefault((seen.candidate, when), []).append(seen)
        least, noise = min(seen.cost for seen in self._seen), self._noise()
        found = []
        for (candidate, _), group in merged.items():
            runs = sum(seen.runs for seen in group)
            cost = sum(seen.cost * seen.runs for seen in group) / runs
            at = fmean(seen.at_seconds for seen in group) / self._budget_seconds
            levels = self._around.levels(candidate)
            found.append(Observation(levels, _compressed(cost - least), noise**2 / runs, at, len(group)))
        if len(found) <= _MOST_OBSERVED:
            return found
        return sorted(found, key=lambda each: each.cost)[:_MOST_OBSERVED]

    def _noise(self) -> float:
        """Of one run, as a share: the standard deviation of its logarithm, from all trials together."""
        return max(math.sqrt(self._squares / self._freedom), 1e-3)

    def _good(self) -> list[Candidate]:
        """Of what was measured, the likely best; the best first."""
        model = self._surrogate()
        means = {each.candidate: 0.0 for each in self._seen}
        for each in means:
            means[each] = model.mean(self._around.levels(each))
        return sorted(means, key=lambda each: means[each])[:_CHANCE]

    # What to measure

    def _explore(self) -> Trial | None:
        best = self.best
        lately = [trial.candidate for trial, _ in self._told[-_DRIFT_EVERY:]]
        if len(self._told) > _DRIFT_EVERY and best not in lately:
            why = "the best so far once more: does the machine drift?"
            return self._trial(best, why, runs=self._race_runs())
        near, far = self._unknown(best) if len(self._told) < _NEW * self._most_trials else ([], [])
        known = [each for each in self._good() if each != best]
        apart = {each: self._apart(each, best) for each in known}
        apart |= {each: self._expected(each, best) for each in (*near, *far)}
        runs = dict.fromkeys(apart, self._runs()) | dict.fromkeys(known, self._race_runs())
        noise = self._noise() ** 2

        def promising(among: Iterable[Candidate], trust: float) -> tuple[float, Candidate]:
            gains = ((expected_gain(apart[each], noise / runs[each], trust), each) for each in among)
            return max(gains, default=(0.0, best))

        promise, candidate = promising(apart, 1.0)
        if promise < _LARGE_GAIN and promising(near, _DOUBT)[0] >= _LEAST_PROMISE:
            return self._trial(promising(near, _DOUBT)[1], "is the best so far better than all next to it?")
        if promise < _LEAST_PROMISE and self._since(best) <= _PATIENCE:
            promise, candidate = promising(apart, _DOUBT)
        if promise < _LEAST_PROMISE:
            return None
        why = (
            "once more, against the best so far" if candidate in known else f"may save {100 * promise:.1f} %"
        )
        return self._trial(candidate, why, runs=runs[candidate])

    def _race_runs(self) -> int:
        """Of a setting that was measured before: more where the trials end before the time."""
        load, run = self._times()
        trials = max(self._most_trials - len(self._told), 1)
        runs = round((self._left_seconds() / trials - load) / run)
        return min(max(runs, self._runs()), _MOST_KNOWN_RUNS)

    def _left_seconds(self) -> float:
        """Before the turns have to begin."""
        return self._budget_seconds - self.spent_seconds - self._turns_seconds()

    def _unknown(self, best: Candidate) -> tuple[list[Candidate], list[Candidate]]:
        """What was not measured yet: next to the best, and what is likely good or taken by chance."""
        model, random = self._surrogate(), Random(f"{self._seed} {len(self._told)}")  # noqa: S311 - no secret
        measured = {seen.candidate for seen in self._seen}
        pool = [each for each in self._around.pool(self._good()[:_GOOD], random) if each not in measured]
        means = sorted((model.mean(self._around.levels(each)), each) for each in pool)
        likely, rest = [each for _, each in means[:_LIKELY]], [each for _, each in means[_LIKELY:]]
        near = [each for each in self._around.beside(best) if each not in measured]
        return near, likely + random.sample(rest, min(len(rest), _CHANCE))

    def _apart(self, candidate: Candidate, best: Candidate) -> CostEstimate:
        return self._surrogate().difference(self._around.levels(candidate), self._around.levels(best))

    def _expected(self, candidate: Candidate, best: Candidate) -> CostEstimate:
        """Of one that was not measured.  Most changes to a good setting make it slower."""
        apart = self._apart(candidate, best)
        changes = sum(map(ne, self._around.levels(candidate), self._around.levels(best)))
        return replace(apart, mean=apart.mean + _USUAL_LOSS * changes)

    def _since(self, best: Candidate) -> int:
        """Trials since it was first measured."""
        tried = [trial.candidate for trial, _ in self._told]
        return len(tried) - tried.index(best)

    def _trial(self, candidate: Candidate, why: str, *, runs: int = 0, reloads: bool = False) -> Trial:
        stop = None
        if self._seen and not reloads and candidate not in self._starts:
            stop = math.exp(min(seen.cost for seen in self._seen) + 0.3 + 2 * self._noise())
        return Trial(len(self._told), candidate, runs or self._runs(), why, reloads, stop)

    def _runs(self) -> int:
        """More where loading takes long, and where runs differ."""
        if not self._seen:
            return _FIRST_RUNS
        load, run = self._times()
        least = 1 if self._freedom >= _ENOUGH_RUNS else 2
        return min(max(round(math.sqrt(load / run) * self._noise() / _AIM), least), _MOST_RUNS)

    def _times(self) -> tuple[float, float]:
        """
        Seconds that a trial takes besides its runs, and that each run takes: by least squares.

        A cost is not the time of a run, which may measure only a part of the work.  Where all trials have
        as many runs, half of the time is taken for each.
        """
        runs, took = [seen.runs for seen in self._seen], [seen.took_seconds for seen in self._seen]
        usual = fmean(took)
        each = usual / fmean(runs) / 2
        if len(set(runs)) > 1:
            each = max(linear_regression(runs, took).slope, each / 4)
        return max(usual - each * fmean(runs), 0.0), max(each, _LEAST_COST)

    # Whether it is better

    def _is_turning(self) -> bool:
        return any(trial.reloads for trial, _ in self._told)

    def _confirm(self) -> Trial | Found:
        start = self._start()
        turned = [seen.candidate for seen in self._seen if seen.is_turn]
        winner = next((each for each in turned if each != start), self.best)
        if winner == start:
            return self._nothing("Your settings are already the best found.")
        found = self._compared(start, winner)
        if found is not None:
            return found
        # a b b a a b b a: what drifts evenly harms neither
        place = len(turned) % 4
        turn = winner if place in {0, 3} else start
        first = next((trial.runs for trial, _ in self._told if trial.reloads), 0)
        runs = first or min(self._turn_runs(winner, start), self._affordable_runs(winner, start))
        spent = self.spent_seconds + _LONGER * self._seconds(turn, runs)
        if (not runs or spent > self._budget_seconds) and not self._has_turn(turn):
            return self._unturned(start, winner)
        runs = runs or self._runs()  # these were measured before, and take no time
        return self._trial(turn, "the best and the profile in turns", runs=runs, reloads=True)

    def _unturned(self, start: Candidate, winner: Candidate) -> Found:
        """At the end of the budget: what is far better by all trials together needs no more turns."""
        apart = self._apart(start, winner)
        many = len({seen.candidate for seen in self._seen}) - 1
        half = sure_of_many(many, self._freedom) * math.sqrt(apart.variance)
        if apart.mean - half <= 0:
            return self._nothing(_UNPROVED)
        low, high = math.exp(apart.mean - half), math.exp(apart.mean + half)
        why = "There was no time to measure both in turns for long, but the difference is large."
        return Found(winner, start, math.exp(apart.mean), low, high, why)

    def _turns_seconds(self) -> float:
        """What it will take to prove that the best is better than the profile, within bounds."""
        least, most = (share * self._budget_seconds for share in _TURNS)
        best, start = self.best, self._start()
        if best == start:
            return least
        runs = self._turn_runs(best, start)
        pair = self._seconds(best, runs) + self._seconds(start, runs)
        pairs = max(_TURNS_SPARE * self._runs_to_prove(best, start) / runs, _LEAST_PAIRS)
        return min(max(pairs * pair, least), most)

    def _runs_to_prove(self, best: Candidate, start: Candidate) -> float:
        """Of each of the two, until their difference is certainly not noise."""
        gain = max(_TRUE_SHARE * self._apart(start, best).mean, _LEAST_GAIN)
        return 2 * (_SURE * self._noise() / gain) ** 2

    def _turn_runs(self, best: Candidate, start: Candidate) -> int:
        """Of each turn: enough for a proof in few of them, as each one loads anew."""
        wanted = math.ceil(self._runs_to_prove(best, start) / _LEAST_PAIRS)
        return min(max(wanted, self._runs()), _MOST_KNOWN_RUNS)

    def _affordable_runs(self, best: Candidate, start: Candidate) -> int:
        """Of each turn, so that there is time for all that a proof needs: half of a pair proves nothing."""
        load, run = (sum(each) for each in zip(self._times_of(best), self._times_of(start), strict=True))
        pair_seconds = (self._budget_seconds - self.spent_seconds) / _LONGER / _LEAST_PAIRS
        return max(math.floor((pair_seconds - load) / run), 0)

    def _start(self) -> Candidate:
        """The profile, or the first other start where that does not run; of those that were measured."""
        lived = {seen.candidate for seen in self._seen}
        return next((start for start in self._starts if start in lived), ())

    def _compared(self, start: Candidate, winner: Candidate) -> Found | None:
        """None where it cannot be told yet."""
        ours = [seen for seen in self._seen if seen.is_turn and seen.candidate == start]
        its = [seen for seen in self._seen if seen.is_turn and seen.candidate == winner]
        pairs = [one.cost - other.cost for one, other in zip(ours, its, strict=False)]
        if len(pairs) < _LEAST_PAIRS or len(ours) != len(its):
            return None
        gain, error = fmean(pairs), self._error(pairs, fmean(seen.runs for seen in (*ours, *its)))
        if gain + _SURE * error < math.log1p(_LEAST_GAIN) or len(pairs) >= _MOST_PAIRS:
            return self._nothing("Your settings are already the best found.")
        if gain - _SURE * error <= 0:
            return None
        low, high = math.exp(gain - _SURE * error), math.exp(gain + _SURE * error)
        return Found(winner, start, math.exp(gain), low, high, "Both were measured in turns.")

    def _error(self, pairs: Sequence[float], runs: float) -> float:
        """Of their mean: by how they differ, but with few pairs also by the noise of runs."""
        spread = sum((each - fmean(pairs)) ** 2 for each in pairs)
        told = 2 * self._noise() ** 2 / runs
        return math.sqrt((spread + told * _USUAL_PAIRS) / (len(pairs) - 1 + _USUAL_PAIRS) / len(pairs))

    def _seconds(self, candidate: Candidate, runs: int) -> float:
        """That a trial of what was measured before will take."""
        load, run = self._times_of(candidate)
        return load + run * runs

    def _times_of(self, candidate: Candidate) -> tuple[float, float]:
        """As `_times`, of what was measured before."""
        load, run = self._times()
        its = [seen for seen in self._seen if seen.candidate == candidate]
        usual = load + run * fmean(seen.runs for seen in its)
        slower = fmean(seen.took_seconds for seen in its) / max(usual, _LEAST_COST)
        return load * slower, run * slower

    def _nothing(self, why: str) -> Found:
        start = self._start()
        return Found(start, start, 1.0, 1.0, 1.0, why)


def _cautious(estimate: CostEstimate) -> float:
    return estimate.mean + 0.5 * math.sqrt(estimate.variance)


def _compressed(excess: float) -> float:
    return excess if excess < _STEEP else _STEEP + 0.5 * math.log1p(2 * (excess - _STEEP))
