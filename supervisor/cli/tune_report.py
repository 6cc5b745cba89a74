"""What `tune` says at its end: what was found, what it is worth, and where it was written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ..decoding import decode
from ..errors import EXIT_OK, NotFound, SupervisorError
from ..files import JsonFile, write_json, write_named
from ..measure.chart import Bars, Chart, Lines, svg_text, text
from ..paths import Paths
from ..profile.store import ProfileStore
from ..progress import duration
from ..tune.explain import Explained, explain
from ..tune.search_values import Found
from ..tune.surface import charts, effects, plain_key
from ..tune.trials import TuningProgress, in_words
from ..tune.tuned_profile import TunedResult, tuned_name, write_tuned
from ..tune.tuning_journal import result_file
from ..tune.tuning_setup import TuningSetup, evidence_of
from .bench_tables import counted
from .output import echo_json, harmless, shows, table

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
    charts: tuple[Chart, ...]
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
    try:
        made = _written(setup, known, found, paths)
    except SupervisorError:
        faster = f"{in_words(found.best)}, {found.ratio:.2f} times as fast as {setup.request.profile}"
        click.echo(f"found: {faster}; the same command writes it, and measures nothing again", err=True)
        raise
    if explains:
        made = replace(made, explained=explain(evidence_of(setup, known, found.best)))
    document = _document(made)
    _print(document, made.charts, as_json=as_json)
    write_json(result_file(paths, setup.request.profile), document)
    _draw(svg, made.charts)
    return EXIT_OK


def show_last(profile: str, paths: Paths, *, svg: Path | None, as_json: bool) -> int:
    """What the last tuning of this profile said at its end.  Raises NotFound, and ConfigError."""
    file = result_file(paths, profile)
    remedy = f"Or remove it, and measure again: goss-supervisor tune {profile}"
    kept = JsonFile(file, _kept, _unused, None, remedy=remedy).read()
    if kept is None:
        raise NotFound(
            f"No tuning of {profile} has finished here.",
            hint=f"To tune it: goss-supervisor tune {profile}",
        )
    _print(*kept, as_json=as_json)
    _draw(svg, kept[1])
    return EXIT_OK


def _kept(document: dict[str, Any]) -> tuple[dict[str, Any], tuple[Chart, ...]] | None:
    """Raises LookupError and ValueError."""
    rows = document["charts"]
    drawn = tuple(decode(Lines, each) if "lines" in each else decode(Bars, each) for each in rows)
    list(_lines(document))
    return document, drawn


def _unused(_: object) -> dict[str, Any]:
    return {}


def _print(document: Mapping[str, Any], drawn: Sequence[Chart], *, as_json: bool) -> None:
    if as_json:
        echo_json(**document)
        return
    width, plain = shutil.get_terminal_size((_COLUMNS, 24)).columns, not shows("█▓░")
    for chart in drawn[:_MOST_CHARTS]:
        click.echo("\n".join((*text(chart, width, plain=plain), "")))
    for line in _lines(document):
        click.echo("\n".join(map(harmless, line.split("\n"))))


def _draw(svg: Path | None, drawn: Sequence[Chart]) -> None:
    if svg is not None:
        write_named(svg, svg_text(drawn).encode())
        click.echo(f"chart: {svg}", err=True)


def _written(setup: TuningSetup, known: TuningProgress, found: Found, paths: Paths) -> _Report:
    drawn = charts(setup.space, known.results, found.best)
    if found.best == found.start or found.ratio_low <= 1:
        return _Report(setup, known, found, drawn, {})
    each = effects(setup.space, known.results, found.best)
    tuned = replace(setup.tuned_with(found.best), date=datetime.now().astimezone().date().isoformat())
    written = write_tuned(
        setup.request.profile, TunedResult(found, tuned, each), ProfileStore(paths.profiles)
    )
    return _Report(setup, known, found, drawn, each, *written)


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    name = document["profile"]
    count = len(document["trials"])
    measured = f"{count} {'trial' if count == 1 else 'trials'} in {duration(document['seconds'])}"
    if document["file"] is None:
        why = document["why"]
        yield f"{name}: {why[:1].lower()}{why[1:].rstrip('.')} ({measured}); nothing was written"
        yield from _explained(document)
        return
    rows = [
        (plain_key(each["key"]), each["was"] or "-", each["is"], each["effect"])
        for each in document["settings"]
    ]
    yield table(("setting", "was", "is now", "effect"), rows)
    sure = f"95 %: {document['ratio_low']:.2f} to {document['ratio_high']:.2f}"
    yield f"{document['ratio']:.2f} times as fast as {name} for {document['goal']} ({sure}; {measured})"
    if notes := list(counted(document["disturbed"])):
        more = f", and {len(notes) - _MOST_NOTES} more (--json has all)" if len(notes) > _MOST_NOTES else ""
        yield f"disturbed by: {', '.join(notes[:_MOST_NOTES])}{more}"
    yield f"written: {document['file']}"
    if document["former_file"]:
        yield f"the previous file: {document['former_file']}"
    yield from _explained(document)
    yield f"start it: goss-supervisor start {tuned_name(name)}"


def _why(known: TuningProgress, found: Found) -> str:
    """Of the result; a search that measured nothing but the profile compared nothing."""
    if any(candidate and result.costs for candidate, result in known.results):
        return found.why
    if any(candidate for candidate, _ in known.results):
        return "no other setting ran: each of those that were tried died"
    return "the budget was over before another setting was tried; a larger --budget goes on from here"


def _explained(document: Mapping[str, Any]) -> Iterator[str]:
    return (f"{each['name']}: {each['text']}" for each in document["explained"])


def _document(made: _Report) -> dict[str, Any]:
    """What ``--json`` prints, and what is kept for `show_last`."""
    found, setup, known = made.found, made.setup, made.known
    return {
        "profile": setup.request.profile,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "goal": setup.goal.name,
        "result": "faster" if made.path else "unchanged",
        "ratio": found.ratio,
        "ratio_low": found.ratio_low,
        "ratio_high": found.ratio_high,
        "why": _why(known, found),
        "settings": [
            {
                "key": key,
                "was": setup.space.value((), key),
                "is": value,
                "effect": made.effects.get(key, ""),
            }
            for key, value in (found.best if made.path else ())
        ],
        "file": str(made.path) if made.path else None,
        "former_file": str(made.former) if made.former else None,
        "seconds": known.spent_seconds,
        "explained": [asdict(each) for each in made.explained],
        "disturbed": list(dict.fromkeys(known.notes)),
        "charts": [asdict(each) for each in made.charts],
        "trials": [
            {
                "settings": dict(candidate),
                "costs": list(result.costs),
                "rates": [list(rates) for rates in result.rates],
                "died": result.died,
                "seconds": result.took_seconds,
            }
            for candidate, result in known.results
        ],
    }
