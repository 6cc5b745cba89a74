"""
Carries out the trials that a search asks for: plans a candidate, has it serve, measures it, and watches.

What was carried out in an earlier process is taken from the journal.

Nothing that goes wrong with a candidate ends the tuning: it is a result.  What ends it is somebody who took
the server from us (Superseded), and a person (KeyboardInterrupt).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, Protocol

from ..errors import DoesNotFit, NotAnswering, NotRunning, Superseded, SupervisorError
from ..home import client
from ..measure.measurement import Sample, Target, Workload
from ..measure.session import MeasuringSession
from ..paths import Paths
from ..plan.launch import LaunchPlan
from .goals import LOOK, TuningGoal, cost_seconds, run_seconds
from .memory_guard import MemoryGuard
from .search_values import Candidate, Fits, Found, Trial, TrialResult
from .tuning_journal import Deaths, TuningJournal

LimitedMeasure = Callable[[Target, Workload, int, float], Sample]
"""
One run with the prompt of this seed, in at most so many seconds.  Raises NetworkError where it does not end,
or the server dies.
"""
LOOK_SECONDS = 600.0  # for the first answer after a load, which reads a large model from a slow disk
_TIMES_THE_USUAL = 20.0  # what takes longer than that hangs
_STOPPED_ABOVE = 3.0  # times the cost that can still win: what takes longer is broken off
_DISTURBED_RUNS = 2  # that are measured again, one after the other: what goes on for long harms all the same
Rates = tuple[float, float]
_NO_RATES: Rates = (0.0, 0.0)
ShortOf = Literal["", "GPU", "RAM"]
_SERVING = {"ready", "degraded"}
_SHORT_OF: dict[str, ShortOf] = {"gpu-memory": "GPU", "memory": "RAM"}


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """``kind`` as diagnoses have it: gpu-memory, memory …; "" is none."""

    kind: str = ""
    message: str = ""


def failure_of_profile(paths: Paths, profile: str) -> LaunchFailure:
    """Why the server of this profile is down, as the daemon tells it; nothing where it serves."""
    for server in client.ask(paths, {"op": "status"})["status"]["servers"]:
        is_down = server["profile"] == profile and server["state"] not in _SERVING
        if is_down and (failure := server["last_failure"]):
            return LaunchFailure(str(failure["kind"]), str(failure["message"]))
    return LaunchFailure()


@dataclass(slots=True)
class TrialRunner:
    """
    ``usual_seconds`` is about the cost of the whole work with the profile as it is.  ``stop`` ends the server
    of the session, from any thread.
    """

    plan: Callable[[Mapping[str, str]], LaunchPlan]
    session: MeasuringSession
    measure: LimitedMeasure
    goal: TuningGoal
    usual_seconds: float
    deaths: Deaths
    failure: Callable[[str], LaunchFailure]
    stop: Callable[[], None]
    guard: Callable[[Callable[[], None]], AbstractContextManager[MemoryGuard]] = MemoryGuard
    clock: Callable[[], float] = time.monotonic
    notes: list[str] = field(default_factory=list)  # what disturbed the runs that counted
    _loaded: str = ""  # the digest of what was measured last
    _again: int = _DISTURBED_RUNS

    def run(self, trial: Trial) -> TrialResult:
        """Raises Superseded, NotRunning and NotAnswering: the server, or the daemon, is not ours any more."""
        began = self.clock()
        try:
            plan = self.plan(dict(trial.candidate))
        except SupervisorError as error:
            return TrialResult((), self.clock() - began, _clause(error))
        if died := self.deaths.of(plan.digest):
            return TrialResult((), 0.0, died)
        return self._measured(trial, plan, began)

    def _measured(self, trial: Trial, plan: LaunchPlan, began: float) -> TrialResult:
        # the user's own setting runs every day: it is not for us to stop it
        guarding = self.guard(self.stop) if trial.candidate else nullcontext(_Unwatched())
        with guarding as guard:
            try:
                costs, rates = self._runs(trial, plan)
                return TrialResult(costs, self.clock() - began, rates=rates)
            except SupervisorError as error:
                self._loaded = ""
                if guard.trouble:
                    return TrialResult((), self.clock() - began, f"stopped: {guard.trouble}", short_of="RAM")
                if isinstance(error, (Superseded, NotRunning, NotAnswering)):
                    raise
                return self._died(plan, error, self.clock() - began)

    def _died(self, plan: LaunchPlan, error: SupervisorError, took_seconds: float) -> TrialResult:
        """Only what died by itself does so again: memory that others had, or a network, is another matter."""
        self.session.wait_until_quiet()  # raises where the session is over: it was stopped, and did not die
        failure = LaunchFailure() if isinstance(error, DoesNotFit) else self.failure(plan.profile)
        diagnosis = failure.message.rstrip(".") or _clause(error)
        if failure.kind:
            self.deaths.keep(plan.digest, diagnosis)
        return TrialResult((), took_seconds, diagnosis, short_of=_SHORT_OF.get(failure.kind, ""))

    def _runs(self, trial: Trial, plan: LaunchPlan) -> tuple[tuple[float, ...], tuple[Rates, ...]]:
        """Costs and rates of as many as asked for, and of fewer where one is above what can still win."""
        target = self.session.run(plan, fresh=trial.reloads)
        if trial.reloads or plan.digest != self._loaded:
            self.measure(target, LOOK, 0, LOOK_SECONDS)  # a first answer reads the model and makes its graphs
            self._loaded = plan.digest
        self.session.disturbed()
        costs: list[float] = []
        rates: list[Rates] = []
        while len(costs) < trial.runs and not (costs and _cannot_win(costs, trial)):
            began = self.clock()
            limit = self._limit_seconds(trial)
            try:
                # all candidates read the same prompts: of a mixture, not all take the same time
                sample = self.measure(target, self.goal.workload, len(costs) + 1, limit)
            except SupervisorError:
                if trial.stop_above is None or self.clock() - began < limit:
                    raise
                costs.append(trial.stop_above * _STOPPED_ABOVE)  # at least
                rates.append(_NO_RATES)
                break
            by = (*sample.disturbed, *self.session.disturbed())
            if by and self._again:
                self._again -= 1
                self.session.wait_until_quiet()
                continue
            self._again = self._again if by else _DISTURBED_RUNS
            self.notes.extend(by)
            costs.append(cost_seconds(self.goal, sample))
            rates.append((sample.prompt_per_second or 0.0, sample.generated_per_second or 0.0))
        return tuple(costs), tuple(rates)

    def _limit_seconds(self, trial: Trial) -> float:
        if trial.stop_above is None:
            return run_seconds(self.goal, self.usual_seconds * _TIMES_THE_USUAL)
        return run_seconds(self.goal, trial.stop_above * _STOPPED_ABOVE)


class _Unwatched:
    trouble = ""


def _cannot_win(costs: list[float], trial: Trial) -> bool:
    return trial.stop_above is not None and costs[-1] > trial.stop_above


def _clause(error: SupervisorError) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# The loop


class Searching(Protocol):
    """`SettingsSearch`."""

    def ask(self) -> Trial | Found: ...

    def tell(self, trial: Trial, result: TrialResult) -> None: ...


@dataclass(frozen=True, slots=True)
class TuningStep:
    """A trial that is begun (``result`` None), or has ended; ``is_kept`` is one from the journal."""

    trial: Trial
    result: TrialResult | None = None
    is_kept: bool = False


def carried_out(
    search: Searching,
    journal: TuningJournal,
    run: Callable[[Trial], TrialResult],
    fits: Fits = lambda _: True,
) -> Iterator[TuningStep | Found]:
    """
    Step by step, and at last what was found.  What was kept comes first, as far as it still ``fits``.  Raises
    what ``run`` raises; what came before it is kept.
    """
    for told, kept in journal.kept:
        if fits(told.candidate):
            search.tell(told, kept)
            yield TuningStep(told, kept, is_kept=True)
    while not isinstance(trial := search.ask(), Found):
        result = journal.result_of(trial)
        is_kept = result is not None
        if result is None:
            yield TuningStep(trial)
            journal.begin(trial)
            result = run(trial)
            journal.end(trial, result)
        search.tell(trial, result)
        yield TuningStep(trial, result, is_kept)
    yield trial


@dataclass(slots=True)
class TuningProgress:
    """What is known so far; ``notes`` is what disturbed runs, ``prompt_tokens`` what each of them reads."""

    results: list[tuple[Candidate, TrialResult]] = field(default_factory=list)
    found: Found | None = None
    notes: list[str] = field(default_factory=list)
    prompt_tokens: int = 0

    @property
    def spent_seconds(self) -> float:
        return sum(result.took_seconds for _, result in self.results)

    def cost(self, candidate: Candidate) -> float | None:
        """The median of all its runs; None where it never ran."""
        costs = [cost for each, result in self.results if each == candidate for cost in result.costs]
        return median(costs) if costs else None

    def ratio(self, candidate: Candidate) -> float | None:
        """How many times as fast it is as the profile itself."""
        start, cost = self.cost(()), self.cost(candidate)
        return start / cost if start and cost else None

    @property
    def best(self) -> Candidate:
        """That with the least cost so far."""
        ran = dict.fromkeys(candidate for candidate, result in self.results if result.costs)
        return min(ran, key=lambda each: self.cost(each) or 0.0, default=())


def in_words(candidate: Candidate) -> str:
    """``ubatch-size 2048, n-cpu-moe 20``."""
    said = (f"{key.removeprefix('server.')} {value}" for key, value in candidate)
    return ", ".join(said) or "as it is"
