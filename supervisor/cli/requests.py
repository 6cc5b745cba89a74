"""``requests``: the last requests through the gateway, without their content."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from ..home import client
from ..paths import Paths
from .common import json_option
from .output import columns, table
from .words_of_status import HEADERS, KEPT, RequestRow, held_text, is_work, row_of

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


def _following(batches: Iterator[list[RequestRow]]) -> Iterator[str]:
    """Columns cannot wait for all rows here: each stays as wide as the widest cell so far."""
    widths = list(_USUAL)
    yield _line([header.upper() for header in HEADERS], widths)
    for batch in batches:
        for request in batch:
            yield _line(row_of(request), widths)


def _line(cells: list[str], widths: list[int]) -> str:
    widths[:] = [max(width, len(cell)) for width, cell in zip(widths, cells, strict=True)]
    return columns(cells, widths)
