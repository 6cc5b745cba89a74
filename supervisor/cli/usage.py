"""``usage``: what each key has used of each model, by day, as the daemon has kept it."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from typing import Any, get_args

import click

from ..errors import UsageError
from ..gateway.telemetry.usage_file import UsageColumn, UsageFile
from ..gateway.telemetry.usage_tally import UsageByPlace, UsageSums, day_of
from ..home import client
from ..home.places import usage_file
from ..paths import Paths
from ..progress import duration
from .common import json_option
from .output import echo_json, table

UsageFigures = dict[str, Any]
_HEADERS = ("requests", "failed", "in", "cached", "out", "time")
_TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_LAST_DAYS = re.compile(r"([1-9]\d{0,4})d")
_DAY_HELP = "2026-11-01, 7d (the last 7 days with today) or today."


@click.command()
@click.option("--since", default="30d", show_default=True, metavar="DAY", help=f"First day: {_DAY_HELP}")
@click.option("--until", default="today", show_default=True, metavar="DAY", help="Last day, as for --since.")
@click.option(
    "--by",
    "columns",
    type=click.Choice(get_args(UsageColumn)),
    multiple=True,
    default=("key", "model"),
    show_default="key and model",
    help="What to add up by; can be given several times.",
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
def usage(since: str, until: str, columns: tuple[UsageColumn, ...], as_json: bool, as_csv: bool) -> None:
    """
    Show the requests, tokens and time that each key has used, by model and day.

    The daemon keeps the figures of the last 400 days with any use.  A day is a local calendar day.  IN is
    whole prompts, CACHED the part of them that the server had read before.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other.", hint="Choose one of them.")
    first, last, by = _day(since, "--since"), _day(until, "--until"), tuple(dict.fromkeys(columns))
    if first > last:
        raise UsageError(f"--since {since} is after --until {until}.", hint="--since 7d --until today")
    paths = Paths.from_environment()
    client.have_usage_written(paths)
    file = UsageFile(usage_file(paths))
    found = file.read(first, last, by)
    rows, totals = [{**place._asdict(), **_figures(sums)} for place, sums in found.items()], _total(found)
    if as_json:
        echo_json(since=first, until=last, by=",".join(by), rows=rows, totals=_figures(totals))
    elif as_csv:
        click.echo(_csv(rows, by), nl=False)
    else:
        click.echo("\n".join(_table(found, totals, by)))
    for line in _notes(file, found, first):
        click.echo(line, err=True)


def _day(text: str, option: str) -> str:
    """As ISO writes it.  Raises UsageError."""
    today = day_of(time.time())
    if text == "today":
        return today
    try:
        if days := _LAST_DAYS.fullmatch(text):
            return (date.fromisoformat(today) - timedelta(days=int(days[1]) - 1)).isoformat()
        if _DAY.fullmatch(text):
            return date.fromisoformat(text).isoformat()
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"{option} {text!r} is not a day.", hint=f"A day is {_DAY_HELP}")


def _figures(sums: UsageSums) -> UsageFigures:
    """What nobody knows is None."""
    figures = {**asdict(sums), "seconds": round(sums.seconds, 3)}
    return figures if sums.knows_tokens else {**figures, **dict.fromkeys(_TOKENS)}


def _total(found: UsageByPlace) -> UsageSums:
    total = UsageSums()
    for sums in found.values():
        total.add(sums)
    return total


def _csv(rows: Sequence[UsageFigures], by: Sequence[UsageColumn]) -> str:
    """What is not known is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*by, *asdict(UsageSums())], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _table(found: UsageByPlace, totals: UsageSums, by: Sequence[UsageColumn]) -> Iterator[str]:
    rows = [[*(getattr(place, name) or "-" for name in by), *_cells(sums)] for place, sums in found.items()]
    if len(rows) > 1:
        rows.append(["total", *[""] * (len(by) - 1), *_cells(totals)])
    yield table((*by, *_HEADERS), rows)
    if totals.uncounted:
        whose = "1 request" if totals.uncounted == 1 else f"{totals.uncounted:,} requests"
        yield (f"These figures lack tokens of {whose}: the server reported none, or the client left first.")


def _cells(sums: UsageSums) -> list[str]:
    figures = _figures(sums)
    tokens = ("-" if (count := figures[name]) is None else f"{count:,}" for name in _TOKENS)
    return [f"{sums.requests:,}", f"{sums.failed:,}", *tokens, duration(sums.seconds)]


def _notes(file: UsageFile, found: UsageByPlace, since: str) -> Iterator[str]:
    if not found:
        yield f"note: nothing was used since {since}"
    for damaged in file.damaged():
        yield f"note: {damaged} was damaged, so its figures are missing; delete it when you do not need it"
