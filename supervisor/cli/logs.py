"""``logs``: what llama-server printed, from the files; works without a daemon too."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Generator, Iterator
from io import BufferedReader
from pathlib import Path

import click

from ..errors import NotFound
from ..home.places import SERVER, daemon_log, server_logs
from ..home.records import server_named
from ..paths import Paths
from .common import json_option, server_argument

POLL_SECONDS = 0.2


@click.command()
@server_argument
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines, also across restarts.")
@click.option("--previous", is_flag=True, help="Show the log of the run before this one.")
@click.option("--daemon", "of_daemon", is_flag=True, help="Show the log of the daemon itself.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="Show only this many of the last lines.")
@json_option
def logs(
    *, name: str | None, follow: bool, previous: bool, of_daemon: bool, lines: int | None, as_json: bool
) -> None:
    """Show what a server (the main one without a NAME) printed."""
    paths = Paths.from_environment()
    current, before = server_logs(paths, server_named(paths, name) if name else SERVER)
    path = daemon_log(paths) if of_daemon else before if previous else current
    if not path.exists() and not follow:
        raise NotFound(f"There is no log at {path} yet.", hint="goss-supervisor start --profile demo")
    for line in _last(path, lines):
        _show(line, as_json=as_json)
    if follow:
        for line in follow_lines(path):
            _show(line, as_json=as_json)


def _show(line: bytes, *, as_json: bool) -> None:
    text = line.rstrip(b"\n").decode(errors="replace")
    if as_json:
        moment, _, rest = text.partition(" ")
        text = json.dumps({"time": moment, "line": rest})
    click.echo(text)


def _last(path: Path, count: int | None) -> Iterator[bytes]:
    if not path.exists():
        return
    with path.open("rb") as file:
        yield from file if count is None else deque(file, maxlen=count)


def follow_lines(path: Path) -> Generator[bytes]:
    """
    Lines from the end on; a file that was rotated or begun anew is read from its start.

    Any program may write a log, so there is nothing to wait on but the file itself.
    """
    file, rest = (path.open("rb") if path.exists() else None), b""
    if file:
        file.seek(0, os.SEEK_END)
    try:
        while True:
            chunk = file.read() if file else b""
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
            if chunk:
                continue
            if _is_another(path, file):
                if file:
                    *whole, rest = (rest + file.read()).split(b"\n")  # what came just before it was put aside
                    yield from whole
                    file.close()
                file, rest = path.open("rb"), b""
                continue
            time.sleep(POLL_SECONDS)
    finally:
        if file:
            file.close()


def _is_another(path: Path, file: BufferedReader | None) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    if file is None:
        return True
    have = os.fstat(file.fileno())
    return (there.st_ino, there.st_dev) != (have.st_ino, have.st_dev) or there.st_size < file.tell()
