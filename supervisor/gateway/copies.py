"""
How the connections of clients outlive an upgrade in place (`daemon.upgrade`).

At the upgrade the daemon forks.  The daemon becomes the new program; the child, its *copy*, only finishes the
answers under way.  Each connection without one goes to the daemon as a descriptor, with what has arrived of a
request; the daemon serves it as if it had just accepted it: idle ones, requests that wait, uploads once they
are whole, and all others when their answer is over.  TLS cannot move, nor can bytes that a slow client has
not taken: for such a connection the daemon gets one end of a pair of sockets, and the copy passes on the
bytes between the other end and the client.

Copy and daemon speak over another such pair.  A message is a line of JSON, with bytes and a descriptor behind
it where it is about a connection.  Here is the daemon's side, and what is handed over; `successor` is the
copy's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from ..decoding import Malformed, decode
from ..server.background import beside_the_loop
from .relay.client_connection import ClientConnection
from .scheduler import Ticket
from .telemetry.activity import RequestRecord

log = logging.getLogger(__name__)

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class CopiedRequest:
    """One that a copy answers at the ``server`` of this name; ``number`` is unique in the copy."""

    number: int
    server: str
    generates: bool = True
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class CopyProcess:
    """A copy that is not over: its pid, our end of the pair of sockets, and what it answers."""

    pid: int
    fd: int
    under_way: tuple[CopiedRequest, ...] = ()


@dataclass(frozen=True, slots=True)
class HandedGateway:
    """
    What a gateway leaves to the new program.  ``listen`` is as `plan_json` writes it; without ``sockets`` it
    is closed.  ``local_key`` opens it for commands of its own user, which go on with it.
    """

    listen: Mapping[str, Any]
    sockets: tuple[int, ...]
    local_key: str
    cookie: str
    sessions: Mapping[str, tuple[float, str]] = field(default_factory=dict)  # of the page: end, and key
    copies: tuple[CopyProcess, ...] = ()


class CopyHost(Protocol):
    """What `Copies` needs of the gateway."""

    def connected(self) -> ClientConnection:
        """A new connection, which has no transport yet."""

    def count_out(self, ticket: Ticket | None, request: RequestRecord | None) -> None:
        """
        It is not under way in the copy any more; ``request`` is what became of it, None where it comes here.
        One that a peer had has no ``ticket``.
        """


class Copies:
    """The copies of earlier upgrades that still run; ``count_in`` gets each request that one answers."""

    def __init__(self, host: CopyHost, count_in: Callable[[Ticket], None]) -> None:
        self._host, self._count_in = host, count_in
        self._copies: list[_Copy] = []

    def add(self, process: CopyProcess) -> None:
        self._copies.append(copy := _Copy(process, self._host, self._count_in))
        copy.reading.add_done_callback(lambda _: self._copies.remove(copy))

    def __len__(self) -> int:
        """How many requests they answer."""
        return sum(len(copy.under_way) for copy in self._copies)

    @property
    def are_speaking(self) -> bool:
        """Whether a message of one has begun to come."""
        return any(copy.is_speaking for copy in self._copies)

    @property
    def processes(self) -> list[CopyProcess]:
        """As they are now, for the next upgrade."""
        return [copy.process for copy in self._copies]

    def cut(self, server: str, why: str) -> None:
        """Cut off answers of this server, which is about to end."""
        for copy in self._copies:
            copy.say({"cut": server, "why": why})

    def let_go(self) -> None:
        """In a copy: the others are the daemon's."""
        for copy in self._copies:
            copy.reading.cancel()
            copy.socket.close()


class _Copy:
    def __init__(self, process: CopyProcess, host: CopyHost, count_in: Callable[[Ticket], None]) -> None:
        self._pid, self._host = process.pid, host
        self._loop = asyncio.get_running_loop()
        self.socket = socket.socket(fileno=process.fd)
        self.socket.setblocking(False)
        self.under_way: dict[int, Ticket] = {}
        for each in process.under_way:
            ticket = Ticket(self._loop.time(), "", each.generates, is_counted=True, server=each.server)
            ticket.charged = ticket.tokens = each.tokens
            self.under_way[each.number] = ticket
            count_in(ticket)
        self._buffer, self._fds = bytearray(), deque[int | None]()
        self.reading = self._loop.create_task(self._read())

    @property
    def is_speaking(self) -> bool:
        return bool(self._buffer or self._fds)

    @property
    def process(self) -> CopyProcess:
        requests = (
            CopiedRequest(number, each.server, each.generates, each.charged)
            for number, each in self.under_way.items()
        )
        return CopyProcess(self._pid, self.socket.fileno(), tuple(requests))

    def say(self, message: dict[str, Any]) -> None:
        """Few and short: they fit into the socket's buffer, or the copy is about to end."""
        with suppress(OSError):
            self.socket.send(json.dumps(message).encode() + b"\n")

    async def _read(self) -> None:
        try:
            while True:
                await self._take(json.loads(await self._until_line()))
        except (OSError, EOFError):  # it has ended
            if cut := len(self.under_way):
                log.warning("answers from before the upgrade are cut off: %d (the copy died)", cut)
        finally:
            for ticket in self.under_way.values():
                self._host.count_out(ticket, None)
            self.under_way.clear()
        self.socket.close()
        with suppress(ChildProcessError):
            await beside_the_loop(partial(os.waitpid, self._pid, 0))  # it has ended, or does so right now

    async def _take(self, message: dict[str, Any]) -> None:
        if "connection" in message:
            received = await self._exactly(message["connection"])
            if (fd := self._fds.popleft()) is None:
                log.warning("a connection is lost at the upgrade: too many open files")
                return
            sock = socket.socket(fileno=fd)
            client = self._host.connected()
            client.has_head, client.closes = message["has_head"], message["closes"]
            await self._loop.connect_accepted_socket(lambda: client, sock)
            if received:
                client.data_received(received)
        elif "ended" in message:
            self._host.count_out(self.under_way.pop(message["ended"], None), _record_in(message))
        else:
            log.log(message["level"], "%s", message["log"])

    async def _until_line(self) -> bytes:
        while b"\n" not in self._buffer:
            await self._receive()
        return await self._exactly(self._buffer.index(b"\n") + 1)

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._receive()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    async def _receive(self) -> None:
        readable = self._loop.create_future()
        self._loop.add_reader(self.socket, lambda: None if readable.done() else readable.set_result(None))
        try:
            await readable
        finally:
            self._loop.remove_reader(self.socket)
        data = b""
        if sys.platform != "win32":
            data, fds, flags, _ = socket.recv_fds(self.socket, _CHUNK_BYTES, 16)
            self._fds += [None] if flags & socket.MSG_CTRUNC else fds  # None: too many files are open
        if not data:
            raise EOFError
        self._buffer += data


def _record_in(message: dict[str, Any]) -> RequestRecord | None:
    """None where there is none, or the former version kept something else."""
    try:
        return decode(RequestRecord, message["request"]) if message["request"] else None
    except Malformed as error:
        log.warning("a request that the former daemon answered is not counted: %s", error)
        return None
