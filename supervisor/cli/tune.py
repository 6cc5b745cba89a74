"""``tune``: finds the fastest settings of a profile for this machine, by measuring."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..errors import EXIT_OK, SupervisorError, UsageError
from ..home import client
from ..measure.disturbance import DisturbanceWatcher
from ..measure.measurement import Sample, Target, Workload
from ..measure.measuring_client import run as run_workload
from ..measure.session import MeasuringSession, opened, pids_of_daemon, refuse_without_room
from ..paths import Paths
from ..prepare.prepare import estimate, prepare
from ..prepare.variants import variants_of
from ..profile.field_kinds import Invalid
from ..profile.field_kinds import duration as duration_kind
from ..profile.yaml_nodes import Mark, Scalar
from ..progress import Silent, duration, ticking
from ..tune.goals import GOALS
from ..tune.search_values import Found, Trial, TrialResult
from ..tune.settings_search import SettingsSearch
from ..tune.space import Goal as GoalName
from ..tune.surface import plain_key
from ..tune.trials import TrialRunner, TuningProgress, TuningStep, carried_out, failure_of_profile, in_words
from ..tune.tuning_journal import Deaths, TuningJournal, kept_trials, opened_journal
from ..tune.tuning_setup import TuneRequest, TuningSetup, looked, set_up, tips_of
from .common import complete_profiles, confirmed, json_option
from .output import StderrProgress, echo_json, size, table, waiting
from .tune_report import report, said_so_far, show_last

EXIT_DECLINED = 1
_LONG_ROW = 8


class _Duration(click.ParamType):  # type: ignore[type-arg]  # not generic in the oldest click
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's
        if isinstance(value, float):
            return value
        try:
            return float(duration_kind(least=10).read(Scalar(value, str(value), Mark())))
        except Invalid as invalid:
            self.fail(f"{value} {invalid.message.partition(', not')[0]}", param, ctx)


@click.command()
@click.argument("name", shell_complete=complete_profiles)
@click.option(
    "--goal",
    type=click.Choice([*GOALS]),
    default="balanced",
    show_default=True,
    help="What should be fast.",
)
@click.option(
    "--budget", type=_Duration(), default="20m", show_default=True, help="How long it may measure: 20m, 1h."
)
@click.option("--fix", "fixed", multiple=True, metavar="KEY", help="Leave this setting as it is; repeatable.")
@click.option(
    "--vary",
    "varied",
    multiple=True,
    metavar="KEY=A,B",
    help="Try these values of a setting next to its own; repeatable.",
)
@click.option(
    "--min-context",
    type=click.IntRange(min=256),
    metavar="TOKENS",
    help="Allow a smaller context than the profile's, but no less than this.",
)
@click.option("--polite", is_flag=True, help="Let requests of others pass, and measure between them.")
@click.option("--restart", is_flag=True, help="Forget what an earlier run of the same tuning has measured.")
@click.option("--explain", is_flag=True, help="Say at the end what limits this machine.")
@click.option("--dry-run", is_flag=True, help="Only show what would be tried; measure nothing.")
@click.option("--show", "shows_last", is_flag=True, help="Show the last result again; measure nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before it begins.")
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw the measurements."
)
@json_option
def tune(
    *,
    name: str,
    goal: GoalName,
    budget: float,
    fixed: tuple[str, ...],
    varied: tuple[str, ...],
    min_context: int | None,
    polite: bool,
    restart: bool,
    explain: bool,
    dry_run: bool,
    shows_last: bool,
    yes: bool,
    svg: Path | None,
    as_json: bool,
) -> int:
    """
    Find the fastest settings of profile NAME for this machine, and write them as NAME-tuned.

    It tries settings one after the other: what of the model is on the GPU, batch sizes, threads and others.
    It does not change the answers: model, cache types and context stay, unless --vary or --min-context allow
    a change.  At the end, what was running runs again.

    Ctrl+C stops it; the same command goes on where it was.
    """
    paths = Paths.from_environment()
    if shows_last:
        return show_last(name, paths, svg=svg, as_json=as_json)
    request = TuneRequest(name, goal, budget, fixed, _varied(varied), min_context or 0)
    if not dry_run:
        refuse_without_room(paths, waiting)
        _at_hand(request, paths)
    with waiting("looking at the profile and this machine"):
        setup = set_up(request, variants_of(name, paths))
    _introduce(setup, paths, polite=polite, restart=restart)
    if dry_run:
        _introduce_downloads(name, setup, paths)
        return _show_space(setup, as_json=as_json)
    if not yes and sys.stdin.isatty() and sys.stderr.isatty() and not confirmed("Begin?"):
        return EXIT_DECLINED
    known = TuningProgress()
    try:
        with (
            opened_journal(setup.file, restart=restart) as journal,
            closing(StderrProgress()) as progress,
            opened(
                paths,
                setup.variants.plan({}),
                owner="tune",
                why=f"tries settings of {name}",
                polite=polite,
                progress=progress,
                waiting=_quietly,
            ) as session,
        ):
            _search(setup, known, paths, journal, session)
    except BaseException:
        for line in said_so_far(known):
            click.echo(line, err=True)
        raise
    return report(setup, known, paths, explains=explain, svg=svg, as_json=as_json)


def _varied(words: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """``ubatch-size=512,1024``, or a key alone; what is repeated adds up.  Raises UsageError."""
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, equals, values = (part.strip() for part in word.partition("="))
        listed = tuple(filter(None, (value.strip() for value in values.split(","))))
        if not key or (equals and not listed):
            raise UsageError(f"--vary {word}: expected KEY=VALUE,VALUE.", hint="--vary ubatch-size=512,2048")
        found[key] = (*found.get(key, ()), *listed)
    return found


def _at_hand(request: TuneRequest, paths: Paths) -> None:
    """Installs the engine and gets the model, as a start does; raises DoesNotFit and the like."""
    with closing(StderrProgress()) as progress:
        prepare(request.profile, {}, paths, progress, named=None)


# --- before


def _introduce(setup: TuningSetup, paths: Paths, *, polite: bool, restart: bool) -> None:
    """What it is about to do, on stderr."""
    axes = ", ".join(plain_key(axis.key) for axis in setup.space.axes) or "nothing"
    changes_answers = setup.request.varied or setup.request.min_context_tokens
    rows = [
        (
            "tune",
            f"{setup.request.profile}, {setup.profile.description}"
            if setup.profile.description
            else setup.request.profile,
        ),
        ("goal", f"{setup.goal.name}: {setup.goal.about}"),
        ("changes", axes if changes_answers else f"{axes}; nothing that changes the answers"),
        ("disturbs", _disturbs(paths, polite=polite)),
        ("takes", f"up to {duration(setup.request.budget_seconds)}, and some loads of the model"),
        *(("note", said) for said in setup.said),
        *(("tip", tip.text) for tip in tips_of(setup)),
    ]
    if kept := kept_trials(setup.file):
        trials = "1 trial" if kept == 1 else f"{kept} trials"
        rows.append(
            ("restarts", f"and forgets {trials} of an earlier run")
            if restart
            else ("goes on", f"with {trials} of an earlier run (--restart starts over)")
        )
    for label, text in rows:
        click.echo(f"{label:<9} {text}", err=True)


def _introduce_downloads(name: str, setup: TuningSetup, paths: Paths) -> None:
    """What `_at_hand` would download first, on stderr."""
    found = estimate(name, {}, paths, setup.variants.context.hardware())
    for each in (found.engine, found.model):
        if each.download_bytes != 0:
            amount = "size unknown" if each.download_bytes is None else size(each.download_bytes)
            click.echo(f"downloads {each.what} ({amount})", err=True)


def _disturbs(paths: Paths, *, polite: bool) -> str:
    try:
        servers = client.ask(paths, {"op": "status"})["status"].get("servers", [])
    except SupervisorError:
        return "nothing: no server runs"
    running = [
        each["profile"] for each in servers if each["profile"] and each["state"] not in {"stopped", "failed"}
    ]
    if not running:
        return "nothing: no server runs"
    named = ", ".join(dict.fromkeys(running))
    if polite:
        return f"{named}: requests pass and are slow meanwhile; what runs now runs again at the end"
    return f"{named}: requests wait or are refused meanwhile; what runs now runs again at the end"


def _show_space(setup: TuningSetup, *, as_json: bool) -> int:
    """What would be tried, and what of it fits by the memory account, each change alone."""
    space = setup.space
    fit = {
        axis.key: [
            value
            for value in axis.values
            if value == axis.now or setup.fits(space.changed((), axis.key, value))
        ]
        for axis in space.axes
    }
    if as_json:
        echo_json(
            profile=setup.request.profile,
            goal=setup.goal.name,
            budget_seconds=setup.request.budget_seconds,
            starts=[dict(start) for start in setup.starts],
            settings=[{**asdict(axis), "fit": fit[axis.key]} for axis in space.axes],
        )
    else:
        rows = [
            (plain_key(axis.key), axis.now or "-", _spoken(fit[axis.key]), axis.why) for axis in space.axes
        ]
        click.echo(table(("setting", "is", "fits", "why"), rows))
    return EXIT_OK


def _spoken(values: Sequence[str]) -> str:
    """``0 to 36, all`` for a long row of numbers."""
    numbers = [value for value in values if value.isdecimal()]
    if len(numbers) > _LONG_ROW:
        return ", ".join(
            (f"{numbers[0]} to {numbers[-1]}", *(each for each in values if each not in numbers))
        )
    return ", ".join(values) or "nothing fits"


# --- while it runs


def _search(
    setup: TuningSetup,
    known: TuningProgress,
    paths: Paths,
    journal: TuningJournal,
    session: MeasuringSession,
) -> None:
    """Until it is found; ``known`` grows meanwhile."""
    watcher = DisturbanceWatcher(pids_of_daemon(paths))

    def measure(target: Target, workload: Workload, seed: int, limit_seconds: float) -> Sample:
        asked = partial(run_workload, target, workload, seed=seed, deadline_seconds=limit_seconds)
        return watcher.watched(asked)

    with waiting(f"looking how fast {setup.request.profile} is"):
        goal, usual_seconds = looked(setup, journal, session, measure)
        known.prompt_tokens = goal.workload.prompt_tokens
    runner = TrialRunner(
        plan=setup.variants.plan,
        session=session,
        measure=measure,
        goal=goal,
        usual_seconds=usual_seconds,
        deaths=Deaths(paths, setup.machine),
        failure=lambda profile: failure_of_profile(paths, profile),
        stop=session.stop,
        notes=known.notes,
    )
    budget_seconds = max(setup.request.budget_seconds, journal.kept_seconds)
    search = SettingsSearch(setup.space, setup.starts, setup.fits, budget_seconds, has_turn=journal.has_turn)
    with closing(StderrProgress()) as progress, ExitStack() as running:
        for step in carried_out(search, journal, runner.run, setup.fits):
            running.close()
            if isinstance(step, Found):
                known.found = step
            elif step.result is None:
                progress.update(None, text := _begun(setup, known, step.trial))
                running.enter_context(ticking(progress, text))
            else:
                _take(known, step, step.result, progress)


@contextmanager
def _quietly(_: str) -> Iterator[Silent]:
    """For the session: how each load goes on would hide what is tried."""
    yield Silent()


def _begun(setup: TuningSetup, known: TuningProgress, trial: Trial) -> str:
    """``trial 7, best 1.31x, 12 min left: ubatch-size 2048 (next to the best so far)``."""
    left = max(0.0, setup.request.budget_seconds - known.spent_seconds)
    best = known.ratio(known.best)
    so_far = f", best {best:.2f}x" if best else ""
    return (
        f"trial {trial.number + 1}{so_far}, {duration(left)} left: {in_words(trial.candidate)} ({trial.why})"
    )


def _take(known: TuningProgress, step: TuningStep, result: TrialResult, progress: StderrProgress) -> None:
    """A line for each trial that was measured now."""
    again = ", again" if any(each == step.trial.candidate for each, _ in known.results) else ""
    known.results.append((step.trial.candidate, result))
    if step.is_kept:
        return
    ratio = known.ratio(step.trial.candidate)
    came = f"died: {result.died}" if result.died else f"{ratio:.2f}x" if ratio else "measured"
    progress.step(f"trial {step.trial.number + 1}: {in_words(step.trial.candidate)}{again}: {came}")
