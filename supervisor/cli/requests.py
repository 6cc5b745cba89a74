"""``requests``: the last requests through the gateway, without their content."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from ..home import client
from ..paths import Paths
from ..progress import duration
from .common import json_option
from .output import table

RequestRow = dict[str, Any]
_TIMES = ("held", "first", "total")
_SEEN = {"answered", "cancelled"}
KEPT = 1000  # by the daemon
HEADERS = ("at", "endpoint", "model", "profile", "status", *_TIMES, "in", "out", "tok/s", "note")
_USUAL = (14, 20, 16, 16, 11, 6, 6, 7, 6, 6, 5, 0)  # widths that most rows of a table without an end fit into


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Keep printing requests as they end.")
@click.option(
    "-n", "--last", type=click.IntRange(0), default=20, show_default=True, help="How many requests to show."
)
@click.option("-a", "--all", "everything", is_flag=True, help="Include GET requests of pages and monitors.")
@json_option
def requests(follow: bool, last: int, everything: bool, as_json: bool) -> None:
    """
    Show the last requests: the model, how long each took, and how it ended.

    The daemon keeps the last 1,000 since its start, without their content.  The table leaves out files and
    look-ups of web pages unless they failed; --json has everything.
    """
    messages = _asked(follow=follow, last=last)
    if as_json:
        lines = _json(_batches(messages))
    elif follow:
        lines = _following(_batches(messages) if everything else map(_work, _batches(messages)))
    else:
        lines = _table(messages if everything else _last_work(messages, last))
    for line in lines:
        click.echo(line)


def _asked(*, follow: bool, last: int) -> Iterator[client.Message]:
    asked = {"op": "requests", "since": 0, "follow": follow, "last": last}
    return client.stream(Paths.from_environment(), asked)


def _batches(messages: Iterator[client.Message]) -> Iterator[list[RequestRow]]:
    return (message["requests"] for message in messages)


def _work(batch: list[RequestRow]) -> list[RequestRow]:
    return list(filter(is_work, batch))


def is_work(request: RequestRow) -> bool:
    """Not if it only looked at something, and saw it: a page loads dozens of files."""
    return request["method"] not in {"GET", "HEAD"} or request["result"] not in _SEEN


def _last_work(messages: Iterator[client.Message], last: int) -> Iterator[client.Message]:
    """So many, if there are; those that are left out may have taken their places."""
    for message in messages:
        found = message["requests"]
        if len(found) == last and len(_work(found)) < last:
            found = [request for batch in _batches(_asked(follow=False, last=KEPT)) for request in batch]
        yield {**message, "requests": _work(found)[-last:] if last else []}


def _json(batches: Iterator[list[RequestRow]]) -> Iterator[str]:
    for batch in batches:
        yield from map(json.dumps, batch)


def _table(messages: Iterator[client.Message]) -> Iterator[str]:
    for message in messages:
        yield table(HEADERS, [row_of(request) for request in message["requests"]])
        yield from map(held_text, message.get("waiting", ()))


def held_text(held: Mapping[str, Any]) -> str:
    """``2 requests wait for chat, for up to 12 s: room in the context that its slots share``."""
    count = held["requests"]
    wait = "1 request waits" if count == 1 else f"{count} requests wait"
    return f"{wait} for {held['profile']}, for up to {duration(held['longest_seconds'])}: {held['reason']}"


def _following(batches: Iterator[list[RequestRow]]) -> Iterator[str]:
    """Columns cannot wait for all rows here: each stays as wide as the widest cell so far."""
    widths = list(_USUAL)
    yield _line([header.upper() for header in HEADERS], widths)
    for batch in batches:
        for request in batch:
            yield _line(row_of(request), widths)


def _line(cells: list[str], widths: list[int]) -> str:
    widths[:] = [max(width, len(cell)) for width, cell in zip(widths, cells, strict=True)]
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def row_of(request: RequestRow) -> list[str]:
    """A cell for each of `HEADERS`."""
    return [
        time.strftime("%m-%d %H:%M:%S", time.localtime(request["at"])),
        request["endpoint"],
        request["model"] or "-",
        request["profile"] or "-",
        _status(request),
        _time(request["held_seconds"] or None),
        _time(request["first_byte_seconds"]),
        _time(request["seconds"]),
        _number(request["prompt_tokens"]),
        _number(request["output_tokens"]),
        _number(request["tokens_per_second"]),
        ", ".join(filter(None, ("sent again" if request["replayed"] else "", request["note"]))),
    ]


def _status(request: RequestRow) -> str:
    """``200``, ``200 broken``, ``429 refused``, ``cancelled``."""
    status = "" if request["status"] is None else str(request["status"])
    result = "" if request["result"] == "answered" else request["result"]
    return " ".join(filter(None, (status, result)))


def _time(seconds: float | None) -> str:
    """``0.25 s`` up to a minute: a first token is worth hundredths."""
    return f"{seconds:.2f} s" if seconds is not None and seconds < 60 else duration(seconds)


def _number(number: float | None) -> str:
    """Tokens whole, and tokens per second with a decimal where that says something."""
    if number is None:
        return "-"
    return f"{number:.1f}" if isinstance(number, float) and number < 100 else f"{number:.0f}"
