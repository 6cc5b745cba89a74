"""The loop of a tuning: what the search asks is taken from the journal, or carried out and written there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from .trial import Candidate, Found, Trial, TrialResult
from .tuning_journal import TuningJournal


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
    search: Searching, journal: TuningJournal, run: Callable[[Trial], TrialResult]
) -> Iterator[TuningStep | Found]:
    """Step by step, and at last what was found.  Raises what ``run`` raises; what came before it is kept."""
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
    """What is known so far; ``notes`` is what disturbed runs that count."""

    results: list[tuple[Candidate, TrialResult]] = field(default_factory=list)
    found: Found | None = None
    notes: list[str] = field(default_factory=list)

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
