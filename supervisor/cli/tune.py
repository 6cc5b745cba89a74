"""``tune``: finds the fastest settings of a profile for this machine, by measuring."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import EXIT_OK, SupervisorError, UsageError
from ..home import client
from ..paths import Paths
from ..progress import duration
from .common import complete_profiles, confirmed, json_option
from .output import StderrProgress, echo_json, table, waiting

if TYPE_CHECKING:
    from ..measure.measurement import Sample, Target, Workload
    from ..measure.session import MeasuringSession
    from ..tune.settings_search import SettingsSearch
    from ..tune.trial import Candidate, Found, Trial, TrialResult
    from ..tune.tuning import TuningStep
    from ..tune.tuning_journal import TuningJournal
    from ..tune.tuning_setup import TuneRequest, TuningSetup

_GOALS = ("balanced", "chat", "agent", "batch")  # of `tune.goals`, which is imported only where it is needed
EXIT_DECLINED = 1
_NOTHING_BETTER = "your settings are already the best found"


class _Duration(click.ParamType):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's
        from ..profile.field_kinds import Invalid, duration as kind  # noqa: PLC0415 - as above
        from ..profile.yaml_nodes import Mark, Scalar  # noqa: PLC0415

        if isinstance(value, float):
            return value
        try:
            return float(kind(least=10).read(Scalar(value, str(value), Mark())))
        except Invalid as invalid:
            self.fail(f"{value}: {invalid.message}", param, ctx)


@click.command()
@click.argument("name", shell_complete=complete_profiles)
@click.option(
    "--goal", type=click.Choice(_GOALS), default="balanced", show_default=True, help="What it is to be fast at."
)
@click.option(
    "--budget", type=_Duration(), default="20m", show_default=True, help="How long it may measure: 20m, 1h."
)
@click.option("--fix", "fixed", multiple=True, metavar="KEY", help="Leave this setting as it is; repeatable.")
@click.option(
    "--vary", "varied", multiple=True, metavar="KEY=A,B", help="Try these values of a setting, too; repeatable."
)
@click.option(
    "--min-context",
    type=click.IntRange(min=256),
    default=0,
    metavar="TOKENS",
    help="Allow a smaller context than the profile's, but no less than this.",
)
@click.option("--polite", is_flag=True, help="Let requests of others pass, and measure between them.")
@click.option("--restart", is_flag=True, help="Forget what an earlier run of the same tuning has measured.")
@click.option("--explain", is_flag=True, help="Say at the end what limits this machine.")
@click.option("--dry-run", is_flag=True, help="Only show what would be tried; measure nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before it begins.")
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw the measurements."
)
@json_option
def tune(
    *,
    name: str,
    goal: str,
    budget: float,
    fixed: tuple[str, ...],
    varied: tuple[str, ...],
    min_context: int,
    polite: bool,
    restart: bool,
    explain: bool,
    dry_run: bool,
    yes: bool,
    svg: Path | None,
    as_json: bool,
) -> int:
    """
    Find the fastest settings of profile NAME for this machine, and write them as NAME-tuned.

    It tries settings one after the other: what of the model is on the GPU, batch sizes, threads and others.  It
    changes nothing that changes the answers: model, cache types and context stay, unless --vary or
    --min-context allow it.  What was running runs again at the end.

    Ctrl+C stops it; the same command goes on where it was.
    """
    from ..tune.tuning_setup import TuneRequest, set_up  # noqa: PLC0415 - YAML and all the rest

    paths = Paths.from_environment()
    request = TuneRequest(name, goal, budget, fixed, _varied(varied), min_context)
    if not dry_run:
        _at_hand(request, paths)
    with waiting("looking at the profile and this machine"):
        setup = set_up(request, paths)
    _introduce(setup, paths, polite=polite)
    if dry_run:
        return _show_space(setup, as_json=as_json)
    if not yes and sys.stdin.isatty() and sys.stderr.isatty() and not confirmed("Begin?"):
        return EXIT_DECLINED
    tuned = _Tuned(setup)
    _carry_out(tuned, paths, polite=polite, restart=restart)
    return _conclude(tuned, paths, explain=explain, svg=svg, as_json=as_json)


def _varied(words: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """``ubatch-size=512,1024``, or a key alone.  Raises UsageError."""
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, equals, values = word.partition("=")
        listed = tuple(filter(None, (value.strip() for value in values.split(","))))
        if not key or (equals and not listed):
            raise UsageError(f"--vary {word}: expected KEY=VALUE,VALUE.", hint="--vary ubatch-size=512,2048")
        found[key] = listed
    return found


def _at_hand(request: TuneRequest, paths: Paths) -> None:
    """Installs the engine and gets the model, as a start does; raises DoesNotFit and the like."""
    from ..prepare.prepare import prepare  # noqa: PLC0415 - as above

    progress = StderrProgress()
    try:
        prepare(request.profile, {}, paths, progress, named=None)
    finally:
        progress.close()


# --- before


def _introduce(setup: TuningSetup, paths: Paths, *, polite: bool) -> None:
    """What it is about to do, on stderr."""
    from ..tune.surface import plain_key  # noqa: PLC0415 - as above

    axes = ", ".join(plain_key(axis.key) for axis in setup.space.axes) or "nothing"
    rows = [
        ("tune", f"{setup.request.profile}, {setup.profile.description}" if setup.profile.description else setup.request.profile),
        ("goal", f"{setup.goal.name}: {setup.goal.about}"),
        ("changes", f"{axes}; nothing that changes the answers" if not setup.request.varied else axes),
        ("disturbs", _disturbs(paths, setup.request.profile, polite=polite)),
        ("takes", f"up to {duration(setup.request.budget_seconds)}, and some loads of the model"),
        *(("note", said) for said in setup.said),
        *(("tip", tip) for tip in _tips(setup)),
    ]
    if setup.file.exists():
        rows.append(("goes on", "with what an earlier run has measured (--restart begins anew)"))
    for label, text in rows:
        click.echo(f"{label:<9} {text}", err=True)


def _tips(setup: TuningSetup) -> tuple[str, ...]:
    return ()


def _disturbs(paths: Paths, profile: str, *, polite: bool) -> str:
    try:
        servers = client.ask(paths, {"op": "status"})["status"].get("servers", [])
    except SupervisorError:
        return "nothing: no server runs"
    running = [each["profile"] for each in servers if each["profile"] and each["state"] not in {"stopped", "failed"}]
    if not running:
        return "nothing: no server runs"
    named = ", ".join(dict.fromkeys(running))
    if polite:
        return f"{named}: requests pass and are slow meanwhile; what runs now runs again at the end"
    return f"{named}: requests wait or are refused meanwhile; what runs now runs again at the end"


def _show_space(setup: TuningSetup, *, as_json: bool) -> int:
    """What would be tried, and what of it fits by the memory account, each change alone."""
    rows = []
    for axis in setup.space.axes:
        tried = [
            value
            for value in axis.values
            if value == axis.now or setup.fits(setup.space.changed((), axis.key, value))
        ]
        rows.append({"key": axis.key, "now": axis.now, "values": list(axis.values), "fit": tried, "why": axis.why})
    starts = [dict(start) for start in setup.starts]
    if as_json:
        echo_json(profile=setup.request.profile, goal=setup.goal.name, budget_seconds=setup.request.budget_seconds,
                  starts=starts, settings=rows)
        return EXIT_OK
    click.echo(table(
        ("setting", "is", "tried", "why"),
        [(row["key"], row["now"] or "-", _spoken(row["fit"]), row["why"]) for row in rows],
    ))
    return EXIT_OK


def _spoken(values: Sequence[str]) -> str:
    """``0 to 36, all`` for a long row of numbers."""
    numbers = [value for value in values if value.isdecimal()]
    if len(numbers) > 8:  # noqa: PLR2004 - as many as a line holds
        return ", ".join((f"{numbers[0]} to {numbers[-1]}", *(each for each in values if each not in numbers)))
    return ", ".join(values) or "nothing fits"


# --- while it runs


@dataclass
class _Tuned:
    """What is known so far."""

    setup: TuningSetup
    results: list[tuple[Candidate, TrialResult]] = field(default_factory=list)
    found: Found | None = None
    notes: list[str] = field(default_factory=list)


def _carry_out(tuned: _Tuned, paths: Paths, *, polite: bool, restart: bool) -> None:
    """Until it is found; says the best so far where it is broken off."""
    from ..tune.tuning_journal import opened_journal  # noqa: PLC0415 - as above

    try:
        with (
            opened_journal(tuned.setup.file, restart=restart) as journal,
            _session(paths, tuned.setup, polite=polite) as session,
        ):
            _search(tuned, paths, journal, session)
    except BaseException:
        _say_broken_off(tuned)
        raise


@contextmanager
def _session(paths: Paths, setup: TuningSetup, *, polite: bool) -> Iterator[MeasuringSession]:
    from ..measure.session import opened  # noqa: PLC0415 - as above

    why = f"tries settings of {setup.request.profile}"
    with opened(paths, setup.request.profile, why=why, polite=polite) as session:
        yield session


def _search(tuned: _Tuned, paths: Paths, journal: TuningJournal, session: MeasuringSession) -> None:
    from ..measure.measuring_client import run  # noqa: PLC0415 - as above
    from ..tune.settings_search import SettingsSearch  # noqa: PLC0415
    from ..tune.trials import TrialRunner, failure_of_profile  # noqa: PLC0415
    from ..tune.tuning import carried_out  # noqa: PLC0415
    from ..tune.tuning_journal import Deaths  # noqa: PLC0415
    from ..tune.tuning_setup import looked  # noqa: PLC0415

    def measure(target: Target, workload: Workload, seed: int, limit_seconds: float) -> Sample:
        return run(target, workload, seed=seed, deadline_seconds=limit_seconds)

    setup = tuned.setup
    with waiting(f"{setup.request.profile} as it is"):
        goal, usual_seconds = looked(setup, journal, session, measure)
    machine = repr(replace(setup.tuned, goal="", ram_bytes=None))
    runner = TrialRunner(
        plan=setup.variants.plan,
        session=session,
        measure=measure,
        goal=goal,
        usual_seconds=usual_seconds,
        deaths=Deaths(paths, machine),
        failure=lambda profile: failure_of_profile(paths, profile),
        stop=session.stop,
        notes=tuned.notes,
    )
    search = SettingsSearch(setup.space, setup.starts, setup.fits, setup.request.budget_seconds)
    line = _ProgressLine(tuned)
    with line:
        for step in carried_out(search, journal, runner.run):
            if isinstance(step, Found_()):
                tuned.found = step
            else:
                line.show(step, search)


def Found_() -> type:
    from ..tune.trial import Found  # noqa: PLC0415

    return Found


class _ProgressLine:
    """One line that is rewritten on a terminal; elsewhere a line for each trial that has ended."""

    def __init__(self, tuned: _Tuned) -> None:
        self._tuned = tuned
        self._progress = StderrProgress()

    def __enter__(self) -> _ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.close()

    def show(self, step: TuningStep, search: SettingsSearch) -> None:
        ...


def _say_broken_off(tuned: _Tuned) -> None:
    ...


def _conclude(tuned: _Tuned, paths: Paths, *, explain: bool, svg: Path | None, as_json: bool) -> int:
    ...
