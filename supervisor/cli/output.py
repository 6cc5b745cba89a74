"""What commands print alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

GIB = 1024**3
MIB = 1024**2


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under UPPER-CASE headers, two spaces between them, no borders and no trailing blanks."""
    lines = [tuple(header.upper() for header in headers), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def echo_json(**document: object) -> None:
    """One object, as every ``--json`` prints it."""
    click.echo(json.dumps({"schema": 1, **document}))


def echo_list(
    name: str,
    listed: Sequence[Mapping[str, Any]],
    headers: Sequence[str],
    row: Callable[[Mapping[str, Any]], Sequence[str]],
    *,
    as_json: bool,
) -> None:
    """``listed`` under ``name`` in one JSON object, or as a table with a ``row`` for each."""
    if as_json:
        echo_json(**{name: listed})
    else:
        click.echo(table(headers, [row(each) for each in listed]))


def size(number_bytes: int | None) -> str:
    """``36.2 GiB``, ``480 MiB``; unknown is a dash."""
    if number_bytes is None:
        return "-"
    return f"{number_bytes / GIB:.1f} GiB" if number_bytes >= GIB else f"{number_bytes / MIB:.0f} MiB"


def duration(seconds: float | None) -> str:
    """``3 d 4 h``, ``2 min 5 s``: the two largest units; unknown is a dash."""
    if seconds is None:
        return "-"
    rest, parts = int(seconds), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"
