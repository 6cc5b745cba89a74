"""
What an earlier daemon left running when it was killed, and which servers may be left like that.

One is taken over only if all of this proves that it is ours: it holds its server's lock; the record has its
pid, start time and boot; the mark of this home is in its environment; it listens where its plan says; and it
runs what is asked for.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial

from ..decoding import Malformed, decode
from ..engine.adapters.llamacpp import MODEL_OPTIONS, LlamaCpp
from ..errors import SupervisorError
from ..home.orphan import end_left, left_running
from ..home.places import SERVER
from ..home.records import Record
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import is_socket_path
from .background import beside_the_loop
from .lifecycle_table import LEAVING
from .preflight import listens_on
from .process import family
from .survivor import Survivor

_UCRED = struct.Struct("3i")  # pid, uid, gid: struct ucred of unix(7)

log = logging.getLogger(__name__)


def why_ended(plan: LaunchPlan) -> str:
    """Why its process ends with the daemon, in words; "" if the next start can take it over."""
    if plan.orphan == "end":
        return "the profile says so"
    if not _can_take_over():
        return "taking it over needs Linux 5.3 or newer"
    if plan.adapter != LlamaCpp.name or plan.argv[1] not in MODEL_OPTIONS:  # a script's, as the embedded one
        return "only llama-server itself goes on when nobody reads its output"
    if plan.behind_gateway and not is_socket_path(plan.host):
        return "the key of its inner port is only in memory"
    return "it runs only to be measured" if plan.is_trial else ""


@dataclass(frozen=True, slots=True)
class LeftPlan:
    """
    What the record of a server keeps of the plan of its process: all that the free memory decided about it,
    and where it listens.  Nothing in it is secret.
    """

    digest: str
    wish: str
    host: str
    port: int
    argv: tuple[str, ...]
    memory: Mapping[str, int]
    needs: Mapping[str, int]
    adapters: Mapping[str, str]
    sharing: Mapping[str, int]
    shared_context_tokens: int
    context_slots: int
    figures: str
    adjustment: str
    adjusts: str

    @classmethod
    def of(cls, plan: LaunchPlan) -> LeftPlan:
        return cls(**{name: getattr(plan, name) for name in cls.__dataclass_fields__})

    def plan_for(self, asked: LaunchPlan) -> LaunchPlan | None:
        """
        The plan of this process with the policies of ``asked``; None if the two differ in more than what the
        free memory decided, or if the server is now to end with its daemon.
        """
        if asked.orphan == "end":
            return None
        if asked.digest == self.digest:
            return asked
        if not self.wish or asked.wish != self.wish:
            return None
        return replace(asked, **{name: getattr(self, name) for name in self.__dataclass_fields__})


class Survivors:
    """What an earlier daemon left running in this home, by the name of its server, until it is dealt with."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._left: dict[str, tuple[Record, LeftPlan]] = {}

    async def look(self) -> None:
        """Find those that are proved to be ours; before anything is launched."""
        self._left = await beside_the_loop(self._proved)

    def _proved(self) -> dict[str, tuple[Record, LeftPlan]]:
        found: dict[str, tuple[Record, LeftPlan]] = {}
        for record, identity in left_running(self._paths):
            launched = launched_of(record)
            if launched and _is_at_its_place(identity.pid, launched):
                found[record.server] = record, launched
        return found

    @property
    def profiles(self) -> dict[str, str]:
        """By the names of their servers."""
        return {name: record.profile for name, (record, _) in self._left.items()}

    def memory_of(self, profile: str) -> Mapping[str, int]:
        """Bytes that the survivor of this profile holds of each memory, by its plan; empty without one."""
        held = [launched.memory for record, launched in self._left.values() if record.profile == profile]
        return held[0] if held else {}

    def running(self, name: str, asked: LaunchPlan) -> str | None:
        """
        The name of the survivor that runs what this server is asked for.  The main one takes any; the others
        only their own, since the main server's may hold the lock that the next launch there needs.
        """
        names = [name, *self._left] if name == SERVER else [name]
        fitting = (
            each for each in names if each in self._left and self._left[each][1].plan_for(asked) is not None
        )
        return next(fitting, None)

    def take(self, name: str, asked: LaunchPlan) -> Survivor | None:
        """The survivor that runs what this server is asked for, once."""
        was = self.running(name, asked)
        if was is None:
            return None
        record, launched = self._left.pop(was)
        plan = launched.plan_for(asked)
        assert plan is not None
        assert record.identity is not None
        degraded = record.why if record.state == "degraded" else ""
        return Survivor(record.identity, plan, False, None, record.ready_since, degraded, has_log=was == name)

    async def end(self, names: Iterable[str]) -> None:
        """End the survivors of these names.  Logs those that it cannot end, or cannot prove to be ours."""
        for name in [*names]:
            try:
                await beside_the_loop(partial(end_left, self._paths, name, log.warning))
            except SupervisorError as error:
                log.warning("%s %s", error, error.hint)
            self._left.pop(name, None)


def launched_of(record: Record) -> LeftPlan | None:
    """None where it cannot be taken over, or was being stopped: the next start completes that."""
    try:
        return decode(LeftPlan, record.launched) if record.launched and record.state not in LEAVING else None
    except Malformed:
        return None


def _is_at_its_place(pid: int, launched: LeftPlan) -> bool:
    """Whether this process, or what it started, listens where its plan says."""
    if not is_socket_path(launched.host):
        return listens_on(pid, launched.port) is True
    return _listener(launched.host) in family(pid)


if sys.platform == "linux":

    @cache
    def _can_take_over() -> bool:
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return False
        return True

    def _listener(path: str) -> int | None:
        """Which process listens on this Unix socket; None where nobody does."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            try:
                asking.connect(path)
                said = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            except OSError:
                return None
        return int(_UCRED.unpack(said)[0])

else:

    def _can_take_over() -> bool:
        return False

    def _listener(path: str) -> int | None:  # noqa: ARG001 - as on Linux
        return None
