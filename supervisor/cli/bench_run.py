"""What `bench` does while it measures: whom it disturbs, the server, the table as it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

import click

from ..errors import NetworkError, SupervisorError, UsageError
from ..hardware.detection import hardware_of
from ..hardware.hardware import Hardware
from ..hardware.machine import ThisMachine
from ..home.places import bench_folder
from ..measure.disturbance import DisturbanceWatcher, standing
from ..measure.measurement import Measured, Sample, Target, Workload
from ..measure.measuring_client import run, served_model
from ..measure.record import BenchHistory, BenchResult, BenchRow, result_of
from ..measure.repeat import RunOnce, Until
from ..measure.repeat import measured as growing
from ..measure.reported import ReportedSpeed, reported_for
from ..measure.scenarios import SCENARIOS, chosen, cut
from ..measure.session import MeasuringSession, opened, pids_of_daemon
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..profile.resolve import resolve
from ..profile.store import ProfileStore
from . import bench_tables
from .output import StderrProgress, harmless, shows, waiting

_OWN = "own"  # the scenario of workloads from the command line
_PROMPT_TOKENS, _ANSWER_TOKENS = 512, 128  # of those, where they are not said
_RUN_SECONDS = 3600.0  # a run that takes longer is hung: 32,000 tokens on a slow CPU take half an hour


@dataclass(frozen=True, slots=True)
class BenchWishes:
    """What the options of `bench` say; ``seconds`` is for all workloads of a profile together."""

    scenario: tuple[str, ...] = ()
    prompt: tuple[int, ...] = ()
    depth: tuple[int, ...] = ()
    answer: tuple[int, ...] = ()
    clients: tuple[int, ...] = ()
    seconds: float | None = None
    polite: bool = False


def asked_for(wishes: BenchWishes) -> dict[str, tuple[Workload, ...]]:
    """The workloads by the scenario that they belong to.  Pure."""
    own = tuple(
        workload
        for answer in wishes.answer or (_ANSWER_TOKENS,)
        for workload in chosen(
            wishes.prompt or (_PROMPT_TOKENS,), answer, wishes.depth or (0,), wishes.clients or (1,)
        )
    )
    is_own = any((wishes.prompt, wishes.depth, wishes.answer, wishes.clients))
    named = wishes.scenario or (() if is_own else ("chat",))
    return {**{name: SCENARIOS[name].workloads for name in named}, **({_OWN: own} if is_own else {})}


def measured(
    paths: Paths,
    names: Sequence[str],
    plan_of: Callable[[str], LaunchPlan],
    wishes: BenchWishes,
    *,
    live: bool,
) -> list[BenchResult]:
    """
    The results of these profiles, which are kept; with ``live`` the table is printed as it grows.

    ``plan_of`` makes ready what it needs, before anything is disturbed for it.  Where it ends early, what was
    measured by then is kept.  A result that could not be kept has no id.  Raises what `opened` raises,
    NetworkError where a server fails at its work, and SupervisorError where it dies.
    """
    asked = asked_for(wishes)
    hardware, history = hardware_of(paths), BenchHistory(bench_folder(paths))
    results: list[BenchResult] = []
    for name in dict.fromkeys(names):
        plan, found = plan_of(name), _Collected()
        if live and len(set(names)) > 1:  # whose table it is
            say(f"\n{name}:" if results else f"{name}:")
        try:
            with closing(StderrProgress()) as progress:
                _measure(paths, plan, asked, wishes, found=found, progress=progress, live=live)
        finally:
            if found.rows:
                at = datetime.now(UTC).isoformat(timespec="seconds")
                limits, reported = tuple(dict.fromkeys(found.limits)), _reported(paths, name, hardware)
                result = result_of(plan, hardware, found.rows, at, limits=limits, reported=reported)
                results.append(_kept(history, result))
    return results


def _kept(history: BenchHistory, result: BenchResult) -> BenchResult:
    """With its id; without one where the disk does not take it, so that it is shown at least."""
    try:
        result = history.keep(result)
    except SupervisorError as error:
        click.echo(f"the result is not kept: {error}", err=True)
    else:
        click.echo(f"kept as {result.id}: goss-supervisor bench show {result.id}", err=True)
    return result


@dataclass(frozen=True, slots=True)
class _Collected:
    """What is known by now, and kept also where it ends early."""

    rows: list[BenchRow] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)


def _measure(
    paths: Paths,
    plan: LaunchPlan,
    asked: Mapping[str, tuple[Workload, ...]],
    wishes: BenchWishes,
    *,
    found: _Collected,
    progress: StderrProgress,
    live: bool,
) -> None:
    why = f"measuring {plan.profile}"
    with opened(
        paths, plan, owner="bench", why=why, polite=wishes.polite, progress=progress, waiting=waiting
    ) as session:
        target = session.run(plan)
        fitting = list(_fitting(target, asked, progress))
        pids = pids_of_daemon(paths)
        for limit in standing(ThisMachine(), pids):
            progress.step(f"note: {limit}")
            found.limits.append(limit)
        if live:
            say(bench_tables.row_line(None, fitting))
        watcher = DisturbanceWatcher(pids)
        run_once = partial(_once, session, target, watcher)
        for row in _rows(run_once, fitting, wishes.seconds, progress):
            found.rows.append(row)
            progress.clear()
            if live:
                say(bench_tables.row_line(row, fitting))
        found.limits.extend(watcher.limits)


def _fitting(
    target: Target, asked: Mapping[str, tuple[Workload, ...]], progress: StderrProgress
) -> Iterator[tuple[str, Workload]]:
    """Each with its scenario, if the context has room for it.  Raises UsageError where nothing is left."""
    context, found = served_model(target).context_tokens, False
    for scenario, workloads in asked.items():
        fitting, left_out = cut(workloads, context)
        for sentence in left_out:
            progress.step(f"note: {sentence}")
        for workload in fitting:
            found = True
            yield scenario, workload
    if not found:
        raise UsageError(
            f"Nothing of this fits into the context of {target.model}, {context:,} tokens.",
            hint="Name shorter ones with --prompt and --answer, or give the profile a larger ctx-size.",
        )


def _rows(
    run_once: RunOnce,
    asked: Sequence[tuple[str, Workload]],
    seconds: float | None,
    progress: StderrProgress,
) -> Iterator[BenchRow]:
    """Each workload gets an equal share of the time that is left."""
    end = time.monotonic() + seconds if seconds else None
    for number, (scenario, workload) in enumerate(asked):
        share = max(0.0, end - time.monotonic()) / (len(asked) - number) if end else Until().seconds
        label = bench_tables.row_label(BenchRow(scenario, Measured(workload, ())))
        if not share and number:
            progress.step(f"the time is up; left out: {label}")
            continue
        progress.update(None, f"{label}: warming up")
        until, found = Until(seconds=share), Measured(workload, ())
        for found in growing(run_once, workload, until, time.monotonic, warms_up=number == 0):
            rate = bench_tables.interval_words(found, "generated_per_second")
            progress.update(None, f"{label}: run {len(found.samples)}, {rate} tokens/s generated")
        yield BenchRow(scenario, found)


def _once(
    session: MeasuringSession, target: Target, watcher: DisturbanceWatcher, workload: Workload, seed: int
) -> Sample:
    """One run, with what disturbed it."""
    session.wait_until_quiet()
    try:
        sample = watcher.watched(partial(run, target, workload, seed=seed, deadline_seconds=_RUN_SECONDS))
    except NetworkError as error:
        if death := session.diagnosis():
            raise SupervisorError(
                f"{target.model} died while it was measured: {death}", hint="goss-supervisor logs"
            ) from error
        session.wait_until_quiet()  # raises where the session is over: somebody stopped the server
        raise
    return replace(sample, disturbed=(*sample.disturbed, *session.disturbed()))


def _reported(paths: Paths, name: str, hardware: Hardware) -> tuple[ReportedSpeed, ...]:
    store = ProfileStore(paths.profiles)
    try:
        return reported_for(resolve(name, store), hardware, lambda each: resolve(each, store.shipped()))
    except SupervisorError:  # it runs, and its file has been changed or removed since
        return ()


def say(text: str) -> None:
    """On stdout, also where that has only ASCII."""
    text = "\n".join(map(harmless, text.split("\n")))
    click.echo(text if shows(text) else text.replace(" ±", "+-"))
