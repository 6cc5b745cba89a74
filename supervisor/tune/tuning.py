"""The loop of a tuning: what the search asks is taken from the journal, or carried out and written there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    """Step by step, and at last what was found.  Raises what ``run`` raises; the journal has all before it."""
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


def effects(results: list[tuple[Trial, TrialResult]], found: Found) -> dict[str, float]:
    """
    By key of the best candidate: how many times as fast it is with this change as without, where both were
    measured; a change that was never measured alone is left out.
    """
    costs: dict[Candidate, list[float]] = {}
    for trial, result in results:
        costs.setdefault(trial.candidate, []).extend(result.costs)
    medians = {candidate: sorted(each)[len(each) // 2] for candidate, each in costs.items() if each}
    best = medians.get(found.best)
    if best is None:
        return {}
    without = {key: tuple(pair for pair in found.best if pair[0] != key) for key, _ in found.best}
    return {key: medians[rest] / best for key, rest in without.items() if rest in medians}
