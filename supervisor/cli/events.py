"""``events`` and ``history``: what happened here, from the file that the daemon keeps; without it, too."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, get_args

import click

from ..errors import UsageError
from ..home.event_log import EventKind, event_in, events_file, read_events
from ..home.run_history import HomeEvent, runs_in, with_notes
from ..paths import Paths
from ..progress import duration
from .common import json_option
from .logs import follow_lines
from .output import echo_list, harmless, size
from .words_of_status import epoch_of

_AGO = re.compile(r"([1-9]\d{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SINCE_HELP = "30m, 12h, 7d, or a time such as 2026-11-30T08:00."


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Keep printing what happens.")
@click.option("--since", metavar="TIME", help=f"Show only what happened since then: {_SINCE_HELP}")
@click.option(
    "--kind", "kinds", type=click.Choice(get_args(EventKind)), multiple=True, help="Show only these kinds."
)
@click.option("-n", "--last", type=click.IntRange(0), help="Show only this many of the last events.")
@json_option
def events(
    *, follow: bool, since: str | None, kinds: tuple[str, ...], last: int | None, as_json: bool
) -> None:
    """
    Show what happened: starts, deaths with their cause, switches, evictions, updates, downloads.

    The daemon keeps at least the newest 2 MB of them, across restarts.  The times are local; --json prints
    each event as one object, with all its fields and UTC times.
    """
    paths = Paths.from_environment()
    start = _epoch(since) if since else 0.0
    wanted = (each for each in read_events(paths) if epoch_of(each["at"]) >= start)
    for event in _last((each for each in wanted if _is_one(each, kinds)), last):
        _show(event, as_json=as_json)
    if follow:
        for event in filter(None, map(event_in, follow_lines(events_file(paths)))):
            if _is_one(event, kinds):
                _show(event, as_json=as_json)


def _is_one(event: HomeEvent, kinds: tuple[str, ...]) -> bool:
    return not kinds or event["kind"] in kinds


def _last(found: Iterable[HomeEvent], count: int | None) -> Iterable[HomeEvent]:
    return found if count is None else deque(found, maxlen=count)


def _show(event: HomeEvent, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(event))
        return
    at = datetime.fromtimestamp(epoch_of(event["at"])).astimezone()
    mark = "" if event["level"] == "info" else f"{event['level']}: "
    click.echo(f"{at:%Y-%m-%d %H:%M:%S}  {event['kind']:<8}  {harmless(mark + event['text'])}".rstrip())


def _epoch(text: str) -> float:
    """Raises UsageError."""
    if ago := _AGO.fullmatch(text):
        return time.time() - int(ago[1]) * _SECONDS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise UsageError(f"--since {text!r} is not a time.", hint=f"A time is {_SINCE_HELP}") from None


# --- history


@click.command()
@click.argument("profile", required=False)
@click.option("-n", "--last", type=click.IntRange(1), default=20, show_default=True, help="How many to show.")
@json_option
def history(*, profile: str | None, last: int, as_json: bool) -> None:
    """
    Show each run of a model: the engine, how long it took to load, memory, speed, and how it ended.

    TOK/S is the median of its answers with 16 tokens or more.  NOTE says if a run loaded or answered more
    slowly than usual, once there are three earlier runs with the same settings and engine.
    """
    found = with_notes(runs_in(read_events(Paths.from_environment())))
    shown = [asdict(each) for each in found if profile in {None, each.profile}][-last:]
    headers = ("ready", "profile", "build", "load", "memory", "served", "tok/s", "ended", "note")
    echo_list("runs", shown, headers, _row, as_json=as_json)


def _row(run: Mapping[str, Any]) -> tuple[str, ...]:
    at, rate = datetime.fromtimestamp(epoch_of(run["ready_at"])).astimezone(), run["tokens_per_second"]
    return (
        f"{at:%Y-%m-%d %H:%M}",
        run["profile"],
        f"{run['build']} {run['flavour']}".strip() or "-",
        _seconds(run["load_seconds"]),
        size(run["memory_bytes"]),
        _seconds(run["served_seconds"]),
        "-" if rate is None else f"{rate:.1f}",
        run["ended"] or "-",
        run["note"],
    )


def _seconds(seconds: float | None) -> str:
    return f"{seconds:.1f} s" if seconds is not None and seconds < 10 else duration(seconds)
