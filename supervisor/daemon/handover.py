"""
What a daemon hands over to the program that takes its place in the same process (see `upgrade`).

It has secrets, so it is in memory only: a file without a name, whose descriptor the new program inherits.
A newer version reads what an older one wrote, so a field that is added has a default.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .. import __version__
from ..decoding import Malformed, decode, parse
from ..errors import SupervisorError
from ..gateway.auth.page_sessions import PageSession
from ..gateway.copies import CopyProcess
from ..home.identity import Identity
from ..plan.plan_json import from_json, listen_from_json
from ..server.diagnosis import Diagnosis

SCHEMA = 1
CHECK, RESUME = "--check-handover", "--resume"
"""Words of the daemon's command line: read one on stdin and say whether it can be taken; take that of a descriptor."""

RestingState = Literal["stopped", "sleeping", "failed"]


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """Of a server; ``launched`` is the plan with this launch's port and key, as `plan_json` writes it."""

    identity: Identity
    launched: Mapping[str, Any]
    output_fd: int
    ready_since: float | None = None


@dataclass(frozen=True, slots=True)
class HandedServer:
    """
    One server.  With a ``process``, that is taken over; ``rests`` is how one without stays; with neither it is
    launched anew.  ``whole`` is the plan that is wanted while ``plan`` goes on without its workers.
    """

    name: str
    lock_fd: int
    plan: Mapping[str, Any] | None = None
    whole: Mapping[str, Any] | None = None
    process: RunningProcess | None = None
    rests: RestingState | None = None
    why: str = ""
    restarts: int = 0
    failure: Diagnosis | None = None
    failure_tail: tuple[str, ...] = ()
    failed_at: float | None = None


@dataclass(frozen=True, slots=True)
class HandedGateway:
    """
    The gateway.  ``listen`` is as `plan_json` writes it; without ``sockets`` it is closed.  ``local_key`` opens it
    for commands of its own user, which go on with it.
    """

    listen: Mapping[str, Any]
    sockets: tuple[int, ...]
    local_key: str
    cookie: str
    sessions: Mapping[str, PageSession] = field(default_factory=dict)
    copies: tuple[CopyProcess, ...] = ()


@dataclass(frozen=True, slots=True)
class Handover:
    """
    All of it.  ``asked_fd`` is the connection of who asked for the upgrade; the new program answers there.
    ``notify`` is the address of the service manager.
    """

    schema: int
    version: str
    lock_fd: int
    control_fd: int
    servers: tuple[HandedServer, ...]
    gateway: HandedGateway | None
    started: float
    asked_fd: int = -1
    began: float = 0.0  # the upgrade, in seconds of the epoch
    foreground: bool = False
    is_service: bool = False
    notify: str = ""
    watchdog_seconds: float | None = None


def written(handover: Handover) -> bytes:
    return json.dumps(asdict(handover)).encode()


def read_handover(data: bytes) -> Handover:
    """Raises SupervisorError for what this version cannot take, with the reason."""
    try:
        document = parse(data)
        if document.get("schema") != SCHEMA:
            raise Malformed([f"its schema is {document.get('schema')!r}, not {SCHEMA}"])
        found = decode(Handover, document)
    except ValueError as error:
        raise SupervisorError(f"What the daemon hands over cannot be read: {error}.") from None
    for each in found.servers:
        launched = each.process.launched if each.process else None
        for plan in filter(None, (each.plan, each.whole, launched)):
            from_json(plan)
    if found.gateway is not None:
        listen_from_json(found.gateway.listen)
    return found


def check() -> int:
    """For ``--check-handover``: whether this program could go on with what it reads on stdin."""
    try:
        read_handover(sys.stdin.buffer.read())
    except SupervisorError as error:
        print(json.dumps({"error": f"{error} {error.hint}".strip()}))
        return error.exit_code
    print(json.dumps({"version": __version__}))
    return 0


if sys.platform != "win32":
    import fcntl

    class KeptDescriptors:
        """Copies of descriptors that stay open over exec; closed again if it does not come to that."""

        def __init__(self) -> None:
            self._kept: list[int] = []

        def keep(self, descriptor: int) -> int:
            """Its number in the new program, above those of stdin, stdout and stderr.  Raises OSError."""
            self._kept.append(kept := fcntl.fcntl(descriptor, fcntl.F_DUPFD, 3))
            return kept

        def close(self) -> None:
            while self._kept:
                os.close(self._kept.pop())
