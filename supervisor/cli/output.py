"""Output that commands share: tables, sizes, progress on stderr, and the outcome of a start."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import click

from ..errors import EXIT_DEGRADED, EXIT_OK, NotRunning, StartFailed, Superseded
from ..home import client
from ..home.places import HELPER_VARIABLE, JOB
from ..paths import Paths
from ..profile.worker_address import NO_MODEL
from ..progress import ticking
from ..tool import own_program

GIB = 1024**3
MIB = 1024**2


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns under UPPER-CASE headers, two spaces between them, no borders and no trailing blanks."""
    lines = [tuple(header.upper() for header in headers), *(tuple(map(harmless, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    return "\n".join(columns(line, widths) for line in lines)


def columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a table."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def harmless(text: str) -> str:
    """Without what would move a cursor or colour a terminal: names come from files and programs of others."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def shows(letters: str) -> bool:
    """Whether stdout's encoding has them."""
    try:
        letters.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


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
    """``36.2 GiB``, ``480 MiB``, ``97 KiB``; unknown is a dash."""
    if number_bytes is None:
        return "-"
    if 0 < number_bytes < MIB:
        return f"{number_bytes / 1024:.0f} KiB"
    return f"{number_bytes / GIB:.1f} GiB" if number_bytes >= GIB else f"{number_bytes / MIB:.0f} MiB"


SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_LINES_OF_A_JOB = 1.0  # somebody watches, on a page
SECONDS_BETWEEN_FRAMES = 0.1
BAR = 30


class StderrProgress:
    """A `supervisor.progress.Progress` for people."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        is_job = os.environ.get(HELPER_VARIABLE) == JOB
        lines = SECONDS_BETWEEN_LINES_OF_A_JOB if is_job else SECONDS_BETWEEN_LINES
        self._pause = SECONDS_BETWEEN_FRAMES if self._terminal else lines
        self._open = False
        self._shown = 0.0

    def step(self, text: str) -> None:
        self.close()
        print(text, file=sys.stderr, flush=True)
        self._shown = time.monotonic()

    def update(self, fraction: float | None, detail: str = "") -> None:
        now = time.monotonic()
        if now - self._shown < self._pause:
            return
        self._shown = now
        text = f"  {_bar(fraction)}{detail}"
        if self._terminal:
            # a line that wraps cannot be taken back
            print(f"\r\x1b[2K{text[: _columns() - 1]}", end="", file=sys.stderr, flush=True)
            self._open = True
        else:
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take a line back that is still being rewritten."""
        if self._open:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
        self._open = False

    def close(self) -> None:
        """End a line that is still being rewritten."""
        if self._open:
            print(file=sys.stderr, flush=True)
        self._open = False


def _columns() -> int:
    """Of the terminal that stderr is, at most 101."""
    try:
        return min(101, os.get_terminal_size(sys.stderr.fileno()).columns or 101)
    except (OSError, ValueError):
        return 101


@contextmanager
def waiting(text: str) -> Iterator[StderrProgress]:
    """Around a wait whose end is not known: from its third second on it shows ``text, 12 s``."""
    with closing(StderrProgress()) as progress, ticking(progress, text):
        yield progress


@contextmanager
def waiting_for_the_daemon(text: str) -> Iterator[StderrProgress]:
    """`waiting`, for the daemon's work: after Ctrl+C it says that the work goes on."""
    try:
        with waiting(text) as progress:
            yield progress
    except KeyboardInterrupt:
        print("The daemon goes on with it: goss-supervisor status", file=sys.stderr)
        raise


def _bar(fraction: float | None) -> str:
    if fraction is None:
        return ""
    full = round(max(0.0, min(1.0, fraction)) * BAR)
    return f"[{'#' * full}{'.' * (BAR - full)}] {fraction:4.0%}  "


def show_outcome(answer: dict[str, Any], *, as_json: bool) -> int:
    """
    Print the outcome and return the exit code.  Raises StartFailed, with the last lines of the log, and
    Superseded.
    """
    outcome, status = answer["outcome"], answer.get("status", {})
    if as_json:
        click.echo(json.dumps({"schema": 1, "outcome": outcome, **status}))
    if outcome["result"] in {"failed", "rolled back"}:
        raise StartFailed(_story(outcome, status), hint=outcome.get("hint", ""))
    if outcome["result"] == "superseded":
        what = f"{outcome['profile']} was not started" if outcome["profile"] else "Nothing was done"
        raise Superseded(f"{what}: {outcome['why']}.", hint="goss-supervisor status shows what runs now.")
    if not as_json:
        click.echo(_sentence(outcome, status.get("server", {})))
    return EXIT_DEGRADED if outcome["result"] == "degraded" else EXIT_OK


def _sentence(outcome: dict[str, Any], server: dict[str, Any]) -> str:
    profile, model = outcome["profile"], server.get("model") or ""
    match outcome["result"]:
        case "ready" if model.startswith(NO_MODEL):
            return f"{profile} is ready: {model.removeprefix(NO_MODEL)}"
        case "ready":
            return f"{profile} is ready at {server['url']}"
        case "degraded":
            return f"{profile} serves at {server['url']}, degraded: {outcome['why']}"
        case "asleep" if outcome["hint"]:  # there is no gateway that could wake it
            return f"{profile} sleeps; nothing loads it but {outcome['hint']}"
        case "asleep":
            return f"{profile} sleeps; {outcome['why']}"
        case "unchanged":
            return f"{profile} is unchanged: nothing was restarted"
        case other:
            return f"{profile}: {other}"


def _story(outcome: dict[str, Any], status: dict[str, Any]) -> str:
    server = status.get("server", {})
    failure = server.get("last_failure") or {}
    tail = "".join(f"\n  | {line}" for line in failure.get("log_tail", []))
    if outcome["result"] == "rolled back":
        does = "sleeps" if server.get("state") == "sleeping" else "runs"
        return f"The switch failed, and {outcome['profile']} {does} again: {outcome['why']}{tail}"
    return f"{outcome['profile']} did not become ready: {outcome['why']}{tail}"


def upgraded(paths: Paths) -> dict[str, Any]:
    """
    What the daemon says once it runs this version.  Raises SupervisorError if it goes on unchanged, and
    NotRunning, with what the new program said last, if that ended after it had taken over.
    """
    from ..home.background_daemon import last_words, spoken_bytes  # noqa: PLC0415 - only here
    from ..home.orphan import SURVIVOR_HINT, left_running  # noqa: PLC0415 - only here

    answer: client.Message = {}
    before = spoken_bytes(paths)
    with waiting_for_the_daemon("upgrading the daemon") as progress:
        try:
            for answer in client.stream(
                paths, {"op": "upgrade", "program": own_program("supervisor.daemon")}
            ):
                text = answer.get("step") or (f"waits for {answer['waits']}" if "waits" in answer else "")
                if text:
                    progress.step(text)
        except NotRunning as error:
            if not answer:
                raise
            said = last_words(paths, before)
            why = f"The daemon ended during the upgrade{f': {said}' if said else ''}."
            hint = SURVIVOR_HINT if left_running(paths) else "goss-supervisor start"
            raise NotRunning(why, hint=hint) from error
    done: dict[str, Any] = answer["upgraded"]
    return done


def upgrade_line(done: Mapping[str, Any]) -> str:
    versions = "as before" if done["from"] == done["to"] else f"upgraded from {done['from']}"
    return f"the daemon (pid {done['pid']}) is version {done['to']}, {versions}, after {done['seconds']} s"
