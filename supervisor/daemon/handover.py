"""
What a daemon hands over to the program that takes its place in the same process (see `upgrade`).

It has secrets, so it is only in memory: a file without a name, whose descriptor the new program inherits.
A newer version reads what an older one wrote, so each new field needs a default.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .. import __version__
from ..decoding import Malformed, decode, parse
from ..errors import SupervisorError
from ..gateway.copies import HandedGateway
from ..home.identity import Identity
from ..home.places import generation_lock
from ..locks import Lock
from ..paths import Paths
from ..plan.plan_json import from_json, listen_from_json, to_json
from ..server.diagnosis import Diagnosis
from ..server.instance import Instance
from ..server.lifecycle_table import State
from ..server.outcome import Outcome, OutcomeResult
from ..server.server import Server
from ..server.survivor import Survivor
from .service_notify import Notify, ServiceNotifier

SCHEMA = 1
CHECK, RESUME = "--check-handover", "--resume"
"""Options of the daemon's command line: check whether it could take the handover on stdin, and take it."""

RestingState = Literal["stopped", "sleeping", "failed"]
_RESTS: Mapping[State, RestingState] = {
    State.STOPPED: "stopped",
    State.SLEEPING: "sleeping",
    State.FAILED: "failed",
}
_RESULTS: Mapping[RestingState, OutcomeResult] = {
    "stopped": "stopped",
    "sleeping": "asleep",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """Of a server; ``launched`` is the plan with this launch's port and key, as `plan_json` writes it."""

    identity: Identity
    launched: Mapping[str, Any]
    output_fd: int
    is_child: bool = True
    ready_since: float | None = None
    degraded: str = ""
    socket_fd: int | None = None  # of its `SocketPin`


@dataclass(frozen=True, slots=True)
class HandedServer:
    """
    One server.  A ``process`` is taken over; ``rests`` is how one without stays; with neither it is launched
    anew.
    """

    name: str
    lock_fd: int | None = None
    plan: Mapping[str, Any] | None = None
    process: RunningProcess | None = None
    rests: RestingState | None = None
    why: str = ""
    restarts: int = 0
    failure: Diagnosis | None = None
    failure_tail: tuple[str, ...] = ()
    failed_at: float | None = None

    @property
    def served(self) -> bool:
        return self.process is not None and self.process.ready_since is not None


@dataclass(frozen=True, slots=True)
class Handover:
    """
    All of it.  ``asked_fd`` is the connection that asked for the upgrade; the new program answers there.
    ``notify`` is the address of the service manager, which keeps the sockets of the names ``stored``.
    """

    schema: int
    version: str
    lock_fd: int
    control_fd: int
    servers: tuple[HandedServer, ...]
    gateway: HandedGateway | None
    started: float
    asked_fd: int | None = None
    began: float = 0.0  # the upgrade, in seconds of the epoch
    foreground: bool = False
    is_service: bool = False
    notify: str = ""
    watchdog_seconds: float | None = None
    stored: tuple[str, ...] = ()

    @property
    def descriptors(self) -> Iterator[int]:
        """All of them; no program that is started later may inherit one."""
        yield from (self.lock_fd, self.control_fd, *([self.asked_fd] if self.asked_fd is not None else ()))
        for each in self.servers:
            yield from [each.lock_fd] if each.lock_fd is not None else ()
            if each.process is not None:
                yield from filter(None, (each.process.output_fd, each.process.socket_fd))
        if self.gateway is not None:
            yield from (*self.gateway.sockets, *(each.fd for each in self.gateway.copies))

    @property
    def orders(self) -> dict[str, Any]:
        """What `start` once said, as far as it still counts."""
        return {"foreground": self.foreground, "is_service": self.is_service}

    @property
    def notifier(self) -> ServiceNotifier:
        notify = Notify(self.notify) if self.notify else None
        return ServiceNotifier(notify, self.watchdog_seconds, stored=self.stored)

    def lock_of(self, name: str, paths: Paths) -> Lock | None:
        """That of the server of this name, which its process has inherited."""
        fds = [each.lock_fd for each in self.servers if each.name == name]
        return Lock(generation_lock(paths, name), fds[0], {"pid": os.getpid()}) if fds and fds[0] else None


def written(handover: Handover) -> bytes:
    return json.dumps(asdict(handover)).encode()


def read_handover(data: bytes) -> Handover:
    """Raises SupervisorError, with the reason, if this version cannot take it."""
    try:
        document = parse(data)
        if document.get("schema") != SCHEMA:
            raise Malformed([f"its schema is {document.get('schema')!r}, not {SCHEMA}"])
        found = decode(Handover, document)
    except ValueError as error:
        raise SupervisorError(f"This version cannot read what the daemon hands over: {error}.") from None
    for each in found.servers:
        launched = each.process.launched if each.process else None
        for plan in filter(None, (each.plan, launched)):
            from_json(plan)
    if found.gateway is not None:
        listen_from_json(found.gateway.listen)
    return found


def take_handover(text: str) -> Handover:
    """The same in the new program, which owns the descriptors from now on."""
    handover = read_handover(text.encode())
    for each in handover.descriptors:
        os.set_inheritable(each, False)
    return handover


def check_handover() -> int:
    """For ``--check-handover``: whether this program could go on with what it reads on stdin."""
    try:
        read_handover(sys.stdin.buffer.read())
    except SupervisorError as error:
        print(json.dumps({"error": f"{error} {error.hint}".strip()}))
        return error.exit_code
    print(json.dumps({"version": __version__}))
    return 0


def take_back(instance: Instance, handed: HandedServer) -> asyncio.Future[Outcome] | None:
    """Go on with this server; None where there is nothing to be decided.  Called before its loop has run."""
    server, life = instance.server, instance.server.lifecycle
    life.restarts, life.failure = handed.restarts, handed.failure
    server.failure_tail, server.failed_at = handed.failure_tail, handed.failed_at
    if handed.plan is None:
        return None
    plan = from_json(handed.plan)
    instance.make_ready_for(plan)
    if (process := handed.process) is not None:
        survivor = Survivor(
            process.identity,
            from_json(process.launched),
            process.is_child,
            process.output_fd,
            process.ready_since,
            process.degraded,
            process.socket_fd,
        )
        return server.take_over(plan, survivor)
    if handed.rests is None:
        return server.start(plan)
    life.state, life.plan, life.why = State(handed.rests), plan, handed.why
    life.outcome = Outcome(_RESULTS[handed.rests], handed.why, "", plan.profile, plan.digest)
    return None


def hand_over(instance: Instance, keep: Callable[[int], int]) -> HandedServer:
    """What the new program needs of this server, which is not changing."""
    server, life = instance.server, instance.server.lifecycle
    return HandedServer(
        server.name,
        keep(instance.lock.fd) if instance.lock is not None else None,
        to_json(life.wanted) if life.wanted else None,
        _process_of(server, keep),
        _RESTS.get(life.state),
        life.why,
        life.restarts,
        life.failure,
        server.failure_tail,
        server.failed_at,
    )


if sys.platform == "win32":

    def _process_of(_server: Server, _keep: Callable[[int], int]) -> RunningProcess | None:
        """Windows hands nothing over."""

else:
    import fcntl

    from ..server.mechanism.posix_process import PosixChild

    def _process_of(server: Server, keep: Callable[[int], int]) -> RunningProcess | None:
        child = server.child
        if not isinstance(child, PosixChild) or server.launched is None:
            return None
        return RunningProcess(
            child.identity,
            to_json(server.launched),
            keep(child.output_fd),
            child.is_our_child,
            server.ready_since or (server.survivor.ready_since if server.survivor else None),
            server.why if server.state is State.DEGRADED else "",
            keep(pinned) if (pinned := server.pin.descriptor) is not None else None,
        )

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
