"""What `tune` says at its end: what was found, what it is worth, and where it was written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import click

from ..errors import EXIT_OK, SupervisorError
from ..files import write_named
from ..measure.chart import svg_text, text
from ..paths import Paths
from ..profile.store import ProfileStore
from ..progress import duration
from ..tune.explain import Explained, explain
from ..tune.search_values import Found
from ..tune.surface import charts, effects, plain_key
from ..tune.trials import TuningProgress, in_words
from ..tune.tuned_profile import TunedResult, tuned_name, write_tuned
from ..tune.tuning_journal import kept_trials
from ..tune.tuning_setup import TuningSetup, evidence_of
from .output import echo_json, shows, table

_COLUMNS = 100  # where the terminal does not say
_MOST_NOTES = 3
_MOST_CHARTS = 2  # on a terminal; --svg has all


def said_so_far(known: TuningProgress) -> Iterator[str]:
    """For one that was broken off."""
    if not known.results:
        return
    ratio, tried = known.ratio(known.best), len(known.results)
    best = f"; the best so far: {in_words(known.best)} ({ratio:.2f}x)" if ratio and known.best else ""
    yield f"{'1 trial is' if tried == 1 else f'{tried} trials are'} measured{best}"
    yield "the same command, with the same options, goes on where it was"


@dataclass(frozen=True, slots=True)
class _Report:
    """``path`` is None where nothing was written; ``former`` is a copy of the file that was there before."""

    setup: TuningSetup
    known: TuningProgress
    found: Found
    effects: Mapping[str, str]
    path: Path | None = None
    former: Path | None = None
    explained: tuple[Explained, ...] = ()


def report(
    setup: TuningSetup,
    known: TuningProgress,
    paths: Paths,
    *,
    explains: bool,
    svg: Path | None,
    as_json: bool,
) -> int:
    """Writes the profile if it is faster by more than the noise, at last the chart; answers the exit code."""
    found = known.found
    if found is None:
        raise SupervisorError("The search ended without a result.")
    drawn = charts(setup.space, known.results, found.best)
    made = _written(setup, known, found, paths)
    if explains:
        made = replace(made, explained=explain(evidence_of(setup, known, found.best)))
    if as_json:
        _echo(made)
    else:
        width, plain = shutil.get_terminal_size((_COLUMNS, 24)).columns, not shows("█▓░")
        for chart in drawn[:_MOST_CHARTS]:
            click.echo("\n".join((*text(chart, width, plain=plain), "")))
        click.echo("\n".join(_lines(made)))
    if svg is not None:
        write_named(svg, svg_text(drawn).encode())
        click.echo(f"chart: {svg}", err=True)
    return EXIT_OK


def _written(setup: TuningSetup, known: TuningProgress, found: Found, paths: Paths) -> _Report:
    if found.best == found.start or found.ratio_low <= 1:
        return _Report(setup, known, found, {})
    each = effects(setup.space, known.results, found.best)
    tuned = replace(setup.tuned_with(found.best), date=datetime.now().astimezone().date().isoformat())
    written = write_tuned(
        setup.request.profile, TunedResult(found, tuned, each), ProfileStore(paths.profiles)
    )
    return _Report(setup, known, found, each, *written)


def _lines(made: _Report) -> Iterator[str]:
    found, name = made.found, made.setup.request.profile
    measured = f"{len(made.known.results)} trials in {duration(made.known.spent_seconds)}"
    if made.path is None:
        yield f"{name}: {found.why[:1].lower()}{found.why[1:].rstrip('.')} ({measured}); nothing was written"
        if (left := kept_trials(made.setup.file) - len(made.known.results)) > 0:
            yield f"this budget had no room for {left} kept trials; a larger --budget goes on with them"
        yield from _explained(made)
        return
    was = {key: made.setup.space.value((), key) or "-" for key, _ in found.best}
    rows = [(plain_key(key), was[key], value, made.effects.get(key, "")) for key, value in found.best]
    yield table(("setting", "was", "is now", "effect"), rows)
    sure = f"95 %: {found.ratio_low:.2f} to {found.ratio_high:.2f}"
    yield f"{found.ratio:.2f} times as fast as {name} for {made.setup.goal.name} ({sure}; {measured})"
    if notes := tuple(dict.fromkeys(made.known.notes)):
        more = f", and {len(notes) - _MOST_NOTES} more (--json has all)" if len(notes) > _MOST_NOTES else ""
        yield f"disturbed by: {', '.join(notes[:_MOST_NOTES])}{more}"
    yield f"written: {made.path}"
    if made.former:
        yield f"the file that was there before: {made.former}"
    yield from _explained(made)
    yield f"start it: goss-supervisor start {tuned_name(name)}"


def _explained(made: _Report) -> Iterator[str]:
    return (f"{each.name}: {each.text}" for each in made.explained)


def _echo(made: _Report) -> None:
    found, setup, known = made.found, made.setup, made.known
    echo_json(
        profile=setup.request.profile,
        goal=setup.goal.name,
        result="faster" if made.path else "unchanged",
        ratio=found.ratio,
        ratio_low=found.ratio_low,
        ratio_high=found.ratio_high,
        why=found.why,
        settings=[
            {
                "key": key,
                "was": setup.space.value((), key),
                "is": value,
                "effect": made.effects.get(key, ""),
            }
            for key, value in (found.best if made.path else ())
        ],
        file=str(made.path) if made.path else None,
        former_file=str(made.former) if made.former else None,
        seconds=known.spent_seconds,
        explained=[asdict(each) for each in made.explained],
        disturbed=list(dict.fromkeys(known.notes)),
        trials=[
            {
                "settings": dict(candidate),
                "costs": list(result.costs),
                "rates": [list(rates) for rates in result.rates],
                "died": result.died,
                "seconds": result.took_seconds,
            }
            for candidate, result in known.results
        ],
    )
