"""
Searches for the fastest settings: `ask` says what to measure next, `tell` takes what came out.  Pure.

The same seed and the same results give the same trials: a search goes on from a journal by telling it again.

First each start is measured.  Then the trial is asked for that promises most for its time: a setting that was
not measured yet, next to a good one or far from all; or a good one once more, which races it against its
rivals.  Regularly the best so far is measured again, so that the drift of the machine is known.  At last the
best and the profile run in turns, each loaded anew, and only these runs say whether it is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist, fmean, median

from .space import Space
from .surrogate import Estimate, Observation, Surrogate, Weights
from .surroundings import Surroundings
from .trial import Candidate, Fits, Found, Trial, TrialResult

_EXPLORING = 0.7  # share of the budget after which it ends; the rest confirms
_LEAST_GAIN = 0.002  # of the cost: what promises less is not worth a trial
_TRUSTS = (1.0, 0.6, 0.35)  # in the model: less where it promises nothing, as it may be wrong
_DRIFT_EVERY = 6  # trials
_FIRST_RUNS, _MOST_RUNS = 3, 6
_AIM = 0.03  # of the cost: how well a trial should tell it
_USUAL_NOISE, _USUAL_WEIGHT = 0.02, 2  # of a run, as if so many had been seen
_SURE = 2.6  # standard errors, looked at after each pair: Pocock's bound for some six looks, two-sided 5 %
_LEAST_PAIRS, _MOST_PAIRS, _USUAL_PAIRS = 2, 24, 4
_MOST_OBSERVED = 90  # what the model can take in without taking long itself
_PATIENCE = 20  # trials without a new best, after which the model is believed where it promises nothing
_STEEP = 0.5  # in logarithms: what is so much slower than the best is not told apart in full
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class _Seen:
    """A trial that lived; ``cost`` is a logarithm."""

    candidate: Candidate
    cost: float
    runs: int
    at_seconds: float
    is_turn: bool  # of the confirmation


class SettingsSearch:
    """
    ``starts`` are the profile, which is the empty candidate, and what else to begin with: the planner's
    placement, the engine's own fit.  The end is never worse than the best of them.

    `ask` changes nothing that can be seen, so a trial of which nothing was told is asked again.  A trial
    that died is never asked again, nor what certainly needs more of the memory that it was short of.
    """

    def __init__(
        self, space: Space, starts: Sequence[Candidate], fits: Fits, budget_seconds: float, seed: int = 0
    ) -> None:
        self._around = Surroundings(space, fits)
        self._starts = tuple(start for start in dict.fromkeys(starts) if fits(start))
        self._budget_seconds = budget_seconds
        self._seed = seed
        self._told: list[tuple[Trial, TrialResult]] = []
        self._seen: list[_Seen] = []
        self._weights: Weights | None = None
        self._refit_at = 4
        self._model: Surrogate | None = None
        self._squares, self._freedom = _USUAL_NOISE**2 * _USUAL_WEIGHT, _USUAL_WEIGHT
        self.spent_seconds = 0.0

    @property
    def best(self) -> Candidate:
        """The best so far; the first start where nothing is known yet."""
        if not self._seen:
            return (self._starts or ((),))[0]
        return min(self._estimates(), key=lambda each: _cautious(each[1]))[0]

    def tell(self, trial: Trial, result: TrialResult) -> None:
        self._told.append((trial, result))
        if result.died or not result.costs:
            self._around.bury(trial.candidate, result.short_of)
            self._seen = [seen for seen in self._seen if seen.candidate != trial.candidate]
        else:
            logarithms = [math.log(cost) for cost in result.costs]
            cost = fmean(logarithms)
            if trial.stop_above is None or max(result.costs) < trial.stop_above:
                self._squares += sum((each - cost) ** 2 for each in logarithms)
                self._freedom += len(logarithms) - 1
            at = self.spent_seconds + result.took_seconds / 2
            self._seen.append(_Seen(trial.candidate, cost, len(result.costs), at, trial.reloads))
        self.spent_seconds += result.took_seconds
        self._model = None

    def ask(self) -> Trial | Found:
        tried = {trial.candidate for trial, _ in self._told}
        if waiting := [start for start in self._starts if start not in tried]:
            return self._trial(waiting[0], "a setting to start from", runs=_FIRST_RUNS)
        if not self._seen:
            return self._nothing("None of the settings to start from ran.")
        if self._is_turning() or self.spent_seconds >= _EXPLORING * self._budget_seconds:
            return self._confirm()
        return self._explore() or self._confirm()

    # The model

    def _surrogate(self) -> Surrogate:
        if self._model is None:
            observations = self._observations()
            self._model = Surrogate(self._around.axes, observations, self._weights)
            if len(observations) >= self._refit_at:
                self._model.refit()
                self._weights = self._model.weights
                self._refit_at = math.ceil(1.3 * len(observations)) + 1
        return self._model

    def _observations(self) -> list[Observation]:
        """Trials of a candidate that are close in time are one; of too many, the worst are left out."""
        merged: dict[tuple[Candidate, int], list[_Seen]] = {}
        for seen in self._seen:
            merged.setdefault((seen.candidate, int(10 * seen.at_seconds / self._budget_seconds)), []).append(
                seen
            )
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

    def _estimates(self) -> list[tuple[Candidate, Estimate]]:
        """Of all that were measured."""
        model = self._surrogate()
        seen = dict.fromkeys(seen.candidate for seen in self._seen)
        return [(candidate, model.estimate(self._around.levels(candidate))) for candidate in seen]

    # What to measure

    def _explore(self) -> Trial | None:
        best = self.best
        lately = [trial.candidate for trial, _ in self._told[-_DRIFT_EVERY:]]
        if len(self._told) >= _DRIFT_EVERY and best not in lately:
            return self._trial(best, "the best so far once more: does the machine drift?")
        random = Random(f"{self._seed} {len(self._told)}")  # noqa: S311 - no secret
        model, known = self._surrogate(), dict(self._estimates())
        aim = min(estimate.mean for estimate in known.values())
        pool = self._around.pool(sorted(known, key=lambda each: known[each].mean)[:3], random)
        means = sorted((model.mean(self._around.levels(each)), each) for each in pool if each not in known)
        likely = [each for _, each in means[:40]]
        rest = [each for _, each in means[40:]]
        likely += random.sample(rest, min(len(rest), 20))
        unknown = {each: model.estimate(self._around.levels(each)) for each in likely}
        noise = self._noise() ** 2 / self._runs()
        since = len(self._told) - min(
            number for number, (trial, _) in enumerate(self._told) if trial.candidate == best
        )
        for trust in _TRUSTS if since <= _PATIENCE else _TRUSTS[:1]:
            promised = [(_gain(estimate, aim, trust), each) for each, estimate in unknown.items()]
            for each, estimate in known.items():
                again = 1 - math.sqrt(noise / (noise + estimate.variance))
                promised.append((_gain(estimate, aim, trust) * again, each))
            gain, candidate = max(promised)
            if gain >= _LEAST_GAIN:
                break
        else:
            return None
        why = "again, against its rivals" if candidate in known else f"may save {100 * gain:.1f} %"
        return self._trial(candidate, why)

    def _trial(self, candidate: Candidate, why: str, *, runs: int = 0, reloads: bool = False) -> Trial:
        stop = None
        if self._seen and not reloads and candidate not in self._starts:
            stop = math.exp(min(seen.cost for seen in self._seen) + 0.3 + 2 * self._noise())
        return Trial(len(self._told), candidate, runs or self._runs(), why, reloads, stop)

    def _runs(self) -> int:
        """More where loading takes long, and where runs differ."""
        loads = [
            max(result.took_seconds - sum(result.costs), 0.0) for _, result in self._told if result.costs
        ]
        runs = [fmean(result.costs) for _, result in self._told if result.costs]
        if not runs:
            return _FIRST_RUNS
        ratio = median(loads) / min(runs)
        return min(max(round(math.sqrt(ratio) * self._noise() / _AIM), 1), _MOST_RUNS)

    # Whether it is better

    def _is_turning(self) -> bool:
        return any(trial.reloads for trial, _ in self._told)

    def _confirm(self) -> Trial | Found:
        start = next(each for each in self._starts if any(seen.candidate == each for seen in self._seen))
        turned = [trial.candidate for trial, _ in self._told if trial.reloads]
        winner = next((each for each in turned if each != start), self.best)
        if winner == start:
            return self._nothing("Your settings are already the best found.")
        found = self._compared(start, winner)
        if found is not None:
            return found
        if self.spent_seconds + self._seconds() > self._budget_seconds:
            return self._nothing("Your settings are already the best found.")
        # a b b a a b b a: what drifts evenly harms neither
        place = len(turned) % 4
        turn = winner if place in {0, 3} else start
        return self._trial(turn, "the best and the profile in turns", reloads=True)

    def _compared(self, start: Candidate, winner: Candidate) -> Found | None:
        """None where it cannot be told yet."""
        ours = [seen.cost for seen in self._seen if seen.is_turn and seen.candidate == start]
        its = [seen.cost for seen in self._seen if seen.is_turn and seen.candidate == winner]
        pairs = [one - other for one, other in zip(ours, its, strict=False)]
        if len(pairs) < _LEAST_PAIRS or len(ours) != len(its):
            return None
        gain, error = fmean(pairs), self._error(pairs)
        if gain - _SURE * error <= 0:  # by the turns alone not sure: with all that was measured before?
            if gain + _SURE * error < math.log1p(_LEAST_GAIN) or len(pairs) >= _MOST_PAIRS:
                return self._nothing("Your settings are already the best found.")
            model = self._surrogate().difference(self._around.levels(start), self._around.levels(winner))
            if gain < error or model.mean < _SURE * math.sqrt(model.variance):
                return None
            gain, error = model.mean, math.sqrt(model.variance)
        low, high = math.exp(gain - _SURE * error), math.exp(gain + _SURE * error)
        return Found(winner, start, math.exp(gain), low, high, "Both were measured in turns.")

    def _error(self, pairs: Sequence[float]) -> float:
        """Of their mean: by how they differ, but with few pairs also by the noise of runs."""
        spread = sum((each - fmean(pairs)) ** 2 for each in pairs)
        told = 2 * self._noise() ** 2 / self._runs()
        return math.sqrt((spread + told * _USUAL_PAIRS) / (len(pairs) - 1 + _USUAL_PAIRS) / len(pairs))

    def _seconds(self) -> float:
        return median(result.took_seconds for _, result in self._told)

    def _nothing(self, why: str) -> Found:
        start = next((each for each in self._starts if any(s.candidate == each for s in self._seen)), ())
        return Found(start, start, 1.0, 1.0, 1.0, why)


def _cautious(estimate: Estimate) -> float:
    return estimate.mean + 0.5 * math.sqrt(estimate.variance)


def _gain(estimate: Estimate, aim: float, trust: float) -> float:
    """Expected improvement on the best cost that is known, as a share."""
    deviation = math.sqrt(estimate.variance) / trust
    z = (aim - estimate.mean) / deviation
    return (aim - estimate.mean) * _NORMAL.cdf(z) + deviation * _NORMAL.pdf(z)


def _compressed(excess: float) -> float:
    return excess if excess < _STEEP else _STEEP + 0.5 * math.log1p(2 * (excess - _STEEP))
