"""
The copy's side of an upgrade in place (see `copies`): the daemon as its copy sees it, and the clients whose
connections cannot move.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from .http_heads import HEAD_END, Head
from .telemetry.activity import RequestRecord

_CHUNK_BYTES = 64 * 1024


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
