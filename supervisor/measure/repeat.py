"""Repeats a workload until its figures are known well enough, or the time is up.  Pure: time is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from .measurement import ENOUGH, METRICS, Measured, Sample, Workload
from .statistics import summary

Clock = Callable[[], float]  # seconds, monotonic
RunOnce = Callable[[Workload, int], Sample]
"""Runs the workload; the number differs each time, so that it can be the seed of a prompt that is new."""

_WARM_UP_TOKENS = 64, 16  # to read, and to generate


@dataclass(frozen=True, slots=True)
class Until:
    """
    Enough is ``least`` runs that nothing disturbed, with the 95 % interval of each metric's median within
    ``spread`` (0.02: ±2 %).  ``most`` runs, or ``seconds`` from the first one, end it in any case; but
    ``least`` are taken even if they need longer.
    """

    spread: float = 0.02
    least: int = ENOUGH
    most: int = 30
    seconds: float = 60.0


def measure(
    run: RunOnce, workload: Workload, until: Until, clock: Clock, *, warms_up: bool = True
) -> Measured:
    """All samples; raises what ``run`` raises."""
    *_, found = measured(run, workload, until, clock, warms_up=warms_up)
    return found


def measured(
    run: RunOnce, workload: Workload, until: Until, clock: Clock, *, warms_up: bool = True
) -> Iterator[Measured]:
    """
    The same as it grows, one sample at a time: for a table as it runs, and to stop sooner.

    The warm-up, a short run that does not count, is for servers that have just been loaded.
    """
    if warms_up:
        run(_warm_up(workload), 0)
    began, samples = clock(), tuple[Sample, ...]()
    while True:
        before = clock()
        samples += (run(workload, len(samples) + 1),)
        found = Measured(workload, samples)
        yield found
        if is_enough(found, until) or len(samples) >= until.most:
            return
        now = clock()
        if len(samples) >= until.least and now + (now - before) > began + until.seconds:
            return


def is_enough(found: Measured, until: Until) -> bool:
    """See `Until`."""
    if sum(not each.disturbed for each in found.samples) < until.least:
        return False
    known = [values for metric in METRICS if (values := found.values(metric))]
    spreads = [summary(values).spread for values in known]
    return all(spread is not None and spread <= until.spread for spread in spreads)


def _warm_up(workload: Workload) -> Workload:
    prompt, answer = _WARM_UP_TOKENS
    return replace(
        workload,
        prompt_tokens=min(workload.prompt_tokens, prompt),
        answer_tokens=min(workload.answer_tokens, answer),
        depth_tokens=0,
        warm=False,
        text="",
    )
