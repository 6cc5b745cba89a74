"""The requests that the control socket accepts, validated before anything acts on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from ..decoding import decode, parse

Operation = Literal[
    "status",
    "watch",
    "wait",
    "start",
    "reload",
    "load",
    "unload",
    "stop",
    "hold",
    "release",
    "quiet",
    "room",
    "running",
    "requests",
    "pin",
    "code",
    "usage",
    "run",
    "cancel",
    "jobs",
    "upgrade",
]
READING: Final[frozenset[Operation]] = frozenset(
    ("status", "watch", "wait", "quiet", "room", "running", "requests", "code", "usage", "jobs")
)
"""Those that an upgrade need not wait for."""


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One line of docs/control-protocol.md; a field that an operation does not have is ignored."""

    protocol: int
    op: Operation
    server: str | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    listen: Mapping[str, Any] | None = None
    replaces: str = ""  # the profile of the server that the asked-for plan is for
    by_request: bool = False
    alone: bool = False
    evicts: bool = True
    hold: int = 0
    measures: bool = False
    polite: bool = False
    owner: str = ""
    why: str = ""
    now: bool = False
    since: int = 0
    last: int | None = None
    follow: bool = False
    command: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    can_edit: bool = True  # the gateway says whether the page of this caller may write profiles
    job: int = 0
    pinned: bool = True
    program: tuple[str, ...] = ()


_KNOWN = {each.name for each in fields(ControlRequest)}


def read_request(line: bytes) -> ControlRequest:
    """
    The request of this line.  Fields of a newer protocol are dropped, since its ``stop`` is to be understood.
    Raises ValueError for anything that is not a request.
    """
    return decode(ControlRequest, {name: value for name, value in parse(line).items() if name in _KNOWN})
