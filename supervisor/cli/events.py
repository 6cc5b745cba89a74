"""``events`` and ``history``: what happened here, from the file that the daemon keeps; without it, too."""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from statistics import median
from typing import Any, get_args

import click

from ..errors import UsageError
from ..home.event_log import EventKind, event_in, events_file, read_events
from ..paths import Paths
from ..progress import duration
from .common import json_option
from .logs import follow_lines
from .output import echo_list, harmless, size
from .words_of_status import epoch_of

HomeEvent = Mapping[str, Any]
_AGO = re.compile(r"([1-9]\d{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SINCE_HELP = "30m, 12h, 7d, or a time such as 2026-11-30T08:00."
SLOWER = 0.75  # of the median of earlier runs: below the noise of machines that do other things too
RUNS_TO_KNOW = 3
RUNS_COMPARED = 50  # the last ones: a machine changes, and a file may list very many
SERVES = frozenset({"ready", "degraded"})


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


@dataclass(slots=True)
class Run:
    """One process of a server that was ready, from its first answer to its end; None is not known."""

    server: str
    profile: str
    ready_at: str
    build: str
    flavour: str
    digest: str
    load_seconds: float | None
    memory_bytes: int | None
    served_seconds: float | None = None
    tokens_per_second: float | None = None
    ended: str = ""  # how; "" while it runs, or where the daemon was killed
    note: str = ""


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


def runs_in(found: Iterable[HomeEvent]) -> Iterator[Run]:
    """In the order in which they became ready; what was only measured is left out."""
    runs: list[Run] = []
    open_: dict[str, Run] = {}
    for event in found:
        server = event.get("server")
        if event["kind"] == "daemon":
            open_.clear()  # its servers end with it; how, it told, or was killed
        elif isinstance(server, str) and _text(event, "state") in SERVES and "digest" in event:
            if not event.get("trial"):
                runs.append(_begun(event, server))
                open_[server] = runs[-1]
        elif "served_seconds" in event and (run := open_.pop(str(server), None)):
            run.served_seconds = _number(event, "served_seconds")
            run.tokens_per_second = _number(event, "tokens_per_second")
            run.ended = _text(event, "cause") or _text(event, "why") or _text(event, "state")
    return iter(runs)


def _begun(event: HomeEvent, server: str) -> Run:
    return Run(
        server,
        _text(event, "profile"),
        event["at"],
        _text(event, "build"),
        _text(event, "flavour"),
        _text(event, "digest"),
        _number(event, "load_seconds"),
        _number(event, "memory_bytes"),
    )


def _text(event: HomeEvent, name: str) -> str:
    """Another version may have written it; "" for none."""
    return value if isinstance(value := event.get(name), str) else ""


def _number(event: HomeEvent, name: str) -> Any:  # noqa: ANN401 - an int where it was one
    return value if type(value := event.get(name)) in {int, float} else None


def with_notes(runs: Iterable[Run]) -> Iterator[Run]:
    """Each compared with those before it that had the same settings, engine and build."""
    before: dict[tuple[str, str, str], deque[Run]] = defaultdict(partial(deque, maxlen=RUNS_COMPARED))
    for run in runs:
        alike = before[run.digest, run.build, run.flavour]
        run.note = ", ".join(filter(None, (_slower_load(run, alike), _slower_answers(run, alike))))
        alike.append(run)
        yield run


def _slower_load(run: Run, before: Iterable[Run]) -> str:
    usual = _usual(each.load_seconds for each in before)
    if usual is None or run.load_seconds is None or usual >= SLOWER * run.load_seconds:
        return ""
    return f"loaded slower than usual ({usual:.1f} s)" if run.load_seconds - usual >= 1 else ""


def _slower_answers(run: Run, before: Iterable[Run]) -> str:
    usual = _usual(each.tokens_per_second for each in before)
    if usual is None or run.tokens_per_second is None or run.tokens_per_second >= SLOWER * usual:
        return ""
    return f"answered slower than usual ({usual:.1f} tok/s)"


def _usual(figures: Iterable[float | None]) -> float | None:
    known = [each for each in figures if each is not None]
    return median(known) if len(known) >= RUNS_TO_KNOW else None
