"""
How the connections of clients outlive an upgrade in place (`daemon.upgrade`).

At the upgrade the daemon forks.  The daemon becomes the new program; the child, its *copy*, only finishes the
answers under way.  Each connection without one goes to the daemon as a descriptor, with what has arrived of a
request; the daemon serves it as if it had just accepted it: idle ones, requests that
wait, uploads once they are whole, and all others when their answer is over.  TLS cannot move, nor can bytes
that a slow client has not taken: for such a connection the daemon gets one end of a pair of sockets, and the
copy passes on the bytes between the other end and the client.

Copy and daemon speak over another such pair.  A message is a line of JSON, with bytes and a descriptor behind
it where it is about a connection.
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
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol, cast

from ..decoding import Malformed, decode
from ..server.background import beside_the_loop
from .http_heads import HEAD_END, Head
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


# --- in the copy


class Successor:
    """The daemon, as its copy sees it; ``fd`` is the copy's end of the pair."""

    def __init__(self, fd: int, cut: Callable[[str, str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._cut = cut
        self._messages: deque[tuple[bytes, bytes, int | None]] = deque()
        self._more, self._stirred = asyncio.Event(), asyncio.Event()
        self._pumps: set[Pump] = set()
        self._tasks = [self._loop.create_task(self._send()), self._loop.create_task(self._listen())]

    def take(
        self, transport: asyncio.Transport, waits: tuple[Head, bytes] | None, more: bytes, *, has_head: bool
    ) -> None:
        """
        A connection that is not being answered: the request that waits there, if it is whole, and what has
        come ``more``.  ``has_head``: that of the answer has gone out, to tell a stream why it waits.
        """
        received = _written(*waits) + more if waits is not None else more
        sock = transport.get_extra_info("socket")
        if transport.is_closing() or sock is None:
            return
        moves = transport.get_extra_info("sslcontext") is None and not transport.get_write_buffer_size()
        try:
            if moves:
                end = os.dup(sock.fileno())
                transport.abort()  # closes our descriptor only; the connection goes on at the other one
            else:
                ours, theirs = socket.socketpair()
                end = theirs.detach()
                self._pumps.add(Pump(transport, ours, self._pump_over))
        except OSError as error:  # too many open files: this client is lost, and not all
            self.log(logging.WARNING, f"a connection cannot be handed over, and is closed: {error.strerror}")
            transport.abort()
            return
        message = {"connection": len(received), "has_head": has_head, "closes": not moves}
        self._say(message, received, end)

    def ended(self, number: int, request: RequestRecord | None = None) -> None:
        """It is over here; ``request`` is None if the daemon has it now."""
        self._say({"ended": number, "request": asdict(request) if request else None})

    def log(self, level: int, text: str) -> None:
        self._say({"log": text, "level": level})

    def _say(self, message: dict[str, Any], data: bytes = b"", fd: int | None = None) -> None:
        self._messages.append((json.dumps({**message, "fd": fd is not None}).encode() + b"\n", data, fd))
        self._more.set()

    async def finished(self) -> None:
        """Returns when nothing is left to send or pass on."""
        while self._messages or self._pumps:
            self._stirred.clear()
            await self._stirred.wait()

    async def _send(self) -> None:
        while True:
            while self._messages:
                line, data, fd = self._messages[0]
                await self._send_with(fd, line)
                await self._loop.sock_sendall(self._socket, data)
                self._messages.popleft()
            self._stirred.set()
            self._more.clear()
            await self._more.wait()

    def _pump_over(self, pump: Pump) -> None:
        self._pumps.discard(pump)
        self._stirred.set()

    async def _send_with(self, fd: int | None, line: bytes) -> None:
        """The descriptor goes with the first byte of its line."""
        if sys.platform != "win32" and fd is not None:
            while True:
                try:
                    socket.send_fds(self._socket, [line[:1]], [fd])
                    break
                except BlockingIOError:
                    await self._writable()
            os.close(fd)
            line = line[1:]
        await self._loop.sock_sendall(self._socket, line)

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_writer(self._socket, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            self._loop.remove_writer(self._socket)

    async def _listen(self) -> None:
        """The daemon only says what is to be cut off; if it ends, the copy does at once."""
        buffer = b""
        with suppress(OSError):
            while data := await self._loop.sock_recv(self._socket, _CHUNK_BYTES):
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    self._cut(message["cut"], message["why"])
        os._exit(0)


_OF_THE_BODY = frozenset(b"content-length transfer-encoding expect trailer".split())


def _written(head: Head, body: bytes) -> bytes:
    """The request as it came, but not in chunks."""
    lines = [b"%s %s HTTP/%s" % (head.method.encode("ascii"), head.target, head.version.encode("ascii"))]
    lines += [b"%s: %s" % line for line in head.headers if line[0] not in _OF_THE_BODY]
    return b"\r\n".join((*lines, b"content-length: %d" % len(body))) + HEAD_END + body


class Pump:
    """
    Bytes both ways between a client, whose protocol it becomes, and ``end`` of a pair of sockets.  It is
    ``over`` when the client has all, or has gone.
    """

    def __init__(self, client: asyncio.Transport, end: socket.socket, over: Callable[[Pump], None]) -> None:
        client.pause_reading()
        client.set_protocol(here := PumpEnd(None, lambda: over(self)))
        there = PumpEnd(client)
        self._opening = asyncio.get_running_loop().create_task(self._open(client, here, there, end))

    async def _open(
        self, client: asyncio.Transport, here: PumpEnd, there: PumpEnd, end: socket.socket
    ) -> None:
        assert sys.platform != "win32"
        here.other, _ = await asyncio.get_running_loop().create_unix_connection(lambda: there, sock=end)
        if client.is_closing():
            here.other.close()
        else:
            client.resume_reading()


class PumpEnd(asyncio.Protocol):
    """What comes here goes out at ``other``, no faster than it is taken there."""

    def __init__(self, other: asyncio.Transport | None, over: Callable[[], None] = lambda: None) -> None:
        self.other, self._over = other, over

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and not self.other.is_closing():
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and not self.other.is_closing():
            self.other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over()
        if self.other is not None:
            self.other.close() if exc is None else self.other.abort()


# --- in the daemon


class MovedConnection(Protocol):
    """What this module needs of a `ClientConnection`."""

    has_head: bool
    closes: bool

    def data_received(self, data: bytes) -> None: ...


class CopyHost(Protocol):
    """What `Copies` needs of the gateway."""

    def connected(self) -> MovedConnection:
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
            await self._loop.connect_accepted_socket(lambda: cast("asyncio.Protocol", client), sock)
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
