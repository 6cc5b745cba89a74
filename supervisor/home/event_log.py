"""
What happened in a home: each message of its daemon as a line of JSON, and what commands did beside it.

A message tells more about itself by ``extra=about(kind, …)`` of `logging`; one that does not is of the kind
``message``.  `EVENT_BYTES` of them are kept, and as many before those, across restarts.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from ..decoding import parse
from ..paths import Paths
from ..progress import iso

EVENT_BYTES = 2_000_000
EventKind = Literal["message", "daemon", "state", "death", "eviction", "download", "update", "key", "adopted"]
_ATTRIBUTE = "event"


def events_file(paths: Paths) -> Path:
    return paths.state / "events.jsonl"


def events_before(paths: Paths) -> Path:
    """Those that a full file was put aside with; the name is `RotatingFileHandler`'s."""
    return events_file(paths).with_name(f"{events_file(paths).name}.1")


def about(kind: EventKind, **fields: object) -> dict[str, Any]:
    """For ``extra`` of a log call: what the message is about.  ``fields`` are JSON, and never secret."""
    return {_ATTRIBUTE: {"kind": kind, **fields}}


class EventFormatter(logging.Formatter):
    """A log record as one line of JSON: ``at``, ``level``, ``kind``, ``text``, and the fields of its kind."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, _ATTRIBUTE, {})
        return _line(record.created, record.levelname.lower(), record.getMessage(), fields)


def record_event(paths: Paths, kind: EventKind, text: str, **fields: object) -> None:
    """What a command did to the home.  A disk that is full keeps nobody from doing it."""
    with suppress(OSError):
        events_file(paths).parent.mkdir(parents=True, exist_ok=True)
        if is_something_else(events_file(paths)):
            return
        line = _line(time.time(), "info", text, {"kind": kind, **fields}) + "\n"
        descriptor = os.open(events_file(paths), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "ab", buffering=0) as file:  # noqa: PTH123 - in one write, so that none is torn
            file.write(line.encode("ascii"))


def read_events(paths: Paths) -> Iterator[dict[str, Any]]:
    """Oldest first, from the files.  A line that is none, as a power cut leaves, is left out."""
    for file in (events_before(paths), events_file(paths)):
        if is_something_else(file):
            continue
        with suppress(FileNotFoundError, NotADirectoryError), file.open("rb") as lines:
            yield from filter(None, map(event_in, lines))


def is_something_else(file: Path) -> bool:
    """A folder, or a pipe, which would never end."""
    return file.exists() and not file.is_file()


def event_in(line: bytes) -> dict[str, Any] | None:
    """The event that this line is; None for anything else."""
    try:
        found = parse(line)
        datetime.fromisoformat(found["at"])
    except (ValueError, LookupError, TypeError):
        return None
    return found if all(isinstance(found.get(name), str) for name in _ALWAYS) else None


_ALWAYS = ("at", "level", "kind", "text")


def _line(at: float, level: str, text: str, fields: dict[str, Any]) -> str:
    return json.dumps({"at": iso(at), "level": level, "kind": "message", "text": text, **fields})
