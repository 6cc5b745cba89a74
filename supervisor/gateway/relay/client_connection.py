"""
Connections of clients: each reads requests, one after the other, and writes the answers.

A head is judged before its body is read.  A body is kept whole, so it can be inspected, held while a model
loads, and sent once more when a server dies.  A connection's cost is bounded: head and body by size and time,
a request that comes too early by not reading it, a client that does not read by a deadline.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from http import HTTPStatus
from math import inf
from typing import Literal, Protocol, cast

from ..api.routes import Trouble, answer
from ..auth.guard import RequestContext
from ..http_heads import HEAD_END, BadRequest, Head, HeaderLine, parse_head
from ..successor import Successor
from .chunked import ChunkedBody
from .connections import ASKING, IDLE, STRANGER, Connections, reset_connection, unsent_bytes

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SLOWEST_BODY = 1024  # bytes a second, beyond the client timeout
LINGER_SECONDS = 2.0  # so that a client that still sends can read why it should not
RETRY_SECONDS = 5
_READ_AHEAD = 64 * 1024

ConnectionPhase = Literal["head", "body", "answer", "linger", "gone"]
PlainAnswer = tuple[int, bytes, bytes]
"""Status, content type, body; without a type there is no body."""


class AskedOf(Protocol):
    """A request that is whole and waits for its answer."""

    def begin_waiting(self) -> None:
        """Called when the connection is ready for the answer."""

    def client_left(self) -> None:
        """Called when the client has hung up."""

    def pause(self) -> None:
        """Called when the client takes nothing more for now."""

    def resume(self) -> None:
        """Called when the client takes data again."""


class Host(Protocol):
    """What a connection needs of the gateway."""

    @property
    def successor(self) -> Successor | None:
        """Who gets the connections that are not being answered, after an upgrade."""

    @property
    def is_ending(self) -> bool:
        """Whether a connection closes after its next answer."""

    def greet(self, head: Head) -> RequestContext:
        """Decide from the head alone who asks, and whether they may."""

    def receive(
        self, client: ClientConnection, head: Head, body: bytes, context: RequestContext
    ) -> AskedOf | None:
        """Take a request that has arrived whole; None if it was answered at once."""


class ClientConnection(asyncio.Protocol):
    """When ``deadline``, in the loop's seconds, has passed, `Connections` calls `expire`."""

    def __init__(self, host: Host, connections: Connections, loop: asyncio.AbstractEventLoop) -> None:
        self._host, self._connections = host, connections
        self._loop = loop
        self._transport: asyncio.Transport
        self._phase: ConnectionPhase = "head"
        self._pending = b""
        self._head: Head | None = None
        self._context: RequestContext | None = None
        self._body: bytearray | ChunkedBody = bytearray()
        self._exchange: AskedOf | None = None
        self._began = 0.0
        self.quiet_since = loop.time()
        self._unwritten = 0
        self._held_bytes = 0
        self.deadline = inf
        self.is_paused = self._had_time = self._was_served = False
        self.has_head = self.closes = False  # see `copies`: it closes after its next answer

    @property
    def address(self) -> object:
        """The client's, as the system gives it."""
        return self._transport.get_extra_info("peername")

    # --- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.deadline = self._loop.time() + self._connections.settings.client_timeout_seconds
        if not self._connections.welcome(self):
            self.refuse(_TOO_MANY)
        elif self._host.successor is not None:
            self.hand_on()

    def data_received(self, data: bytes) -> None:
        self.quiet_since = self._loop.time()
        if self._phase == "body":
            self._read_body(data)
        elif self._phase == "head":
            self._pending += data
            self._read_head()
        elif self._phase == "answer":
            self._pending += data
            if len(self._pending) > _READ_AHEAD:
                self._transport.pause_reading()

    def eof_received(self) -> None:
        """Who closes in one direction only is gone too: llama-server sees it the same way."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._phase = "gone"
        self.deadline = inf
        self._let_go_of_body()
        self._connections.part(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()

    def pause_writing(self) -> None:
        self.is_paused = True
        self._unwritten = unsent_bytes(self._transport)
        self.deadline = self._loop.time() + self._connections.settings.client_timeout_seconds
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        self.is_paused = False
        if self._phase == "answer":
            self.deadline = inf
        if self._exchange is not None:
            self._exchange.resume()

    # --- a request

    def _read_head(self) -> None:
        limit = self._connections.settings.max_head_bytes
        data = self._pending.lstrip(b"\r\n")  # an empty line before a request is passed over (RFC 9112, 2.2)
        end = data.find(HEAD_END)
        if end < 0 and len(data) <= limit:
            self._wait_for_head(data)
            return
        if end < 0 or end > limit:
            is_address = b"\n" not in data[:limit]
            status, what = (414, "address") if is_address else (431, "head")
            self.refuse(Trouble(status, "head_too_large", f"The {what} is longer than {limit} bytes."))
            return
        self._pending = data[end + 4 :]
        try:
            head = parse_head(data[: end + 4])
        except BadRequest as bad:
            self.refuse(Trouble(bad.status, "bad_request", bad.message))
            return
        self._meet(head)

    def _wait_for_head(self, data: bytes) -> None:
        """The time for it runs from its first byte, so that it cannot be stretched byte by byte."""
        if data and not self._began:
            self._began = self._loop.time()
            self.deadline = self._began + self._connections.settings.client_timeout_seconds
        self._pending = data

    def _meet(self, head: Head) -> None:
        if self._host.is_ending or self.closes:
            head = replace(head, keep_alive=False)
        self._head = head
        context = self._context = self._host.greet(head)
        if context.trouble is not None:
            self.refuse(context.trouble)
            return
        limit = int(min(self._connections.settings.max_body_bytes, context.route.most_body_bytes))
        if head.length is not None and head.length > limit:
            self.refuse(Trouble(413, "body_too_large", f"The body is longer than {limit} bytes."))
            return
        self._phase = "body"
        self._began = self._loop.time()
        self._body = bytearray() if head.length is not None else ChunkedBody(limit)
        if head.expects_continue and not self._pending and head.length != 0:
            self._transport.write(CONTINUE)
        data, self._pending = self._pending, b""
        self._read_body(data)

    def _read_body(self, data: bytes) -> None:
        head, body = self._head, self._body
        assert head is not None
        self._held_bytes += len(data)
        if not self._connections.hold(len(data)):
            self.refuse(_NO_ROOM)
            return
        if isinstance(body, ChunkedBody):
            try:
                body.feed(data)
            except BadRequest as bad:
                self.refuse(Trouble(bad.status, "bad_request", bad.message))
                return
            if body.done:
                self._pending = body.rest
                self._receive(head, bytes(body.body))
                return
            received = len(body.body)
        else:
            assert head.length is not None
            missing = head.length - len(body)
            if len(data) >= missing:
                self._pending = data[missing:]
                body += data[:missing]
                self._receive(head, bytes(body))
                return
            body += data
            received = len(body)
        self.deadline = (
            self._began + self._connections.settings.client_timeout_seconds + received / SLOWEST_BODY
        )

    def _let_go_of_body(self) -> None:
        self._connections.release(self._held_bytes)
        self._held_bytes = 0

    def _receive(self, head: Head, body: bytes) -> None:
        self._phase, self._body, self._began, self.deadline = "answer", bytearray(), 0.0, inf
        if self._host.successor is not None:
            self.hand_on(body)
            return
        assert self._context is not None
        exchange = self._host.receive(self, head, body, self._context)
        if exchange is not None and self._phase == "answer":
            self._exchange = exchange
            exchange.begin_waiting()

    # --- an answer

    def write(self, data: bytes) -> None:
        """Send bytes to the client as they are."""
        if self._phase != "gone":
            self._transport.write(data)

    def next_request(self, *, keep_alive: bool) -> None:
        """End the answer, which is whole, and wait for the next request or close."""
        self._exchange, self.has_head = None, False
        if self._phase == "gone":
            return
        self._let_go_of_body()
        if not keep_alive:
            self._close()
            return
        self._phase, self._head, self._context, self._was_served = "head", None, None, True
        if self._host.successor is not None:
            self.hand_on()
            return
        self.quiet_since = self._loop.time()
        self.deadline = self.quiet_since + self._connections.settings.idle_timeout_seconds
        if self._pending:
            self._transport.resume_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._phase == "head":
            self._read_head()

    def hand_on(self, body: bytes | None = None, *, has_head: bool = False) -> None:
        """
        To the daemon that has taken the place of this one, with what has come of the next request; with a
        ``body``, this one is whole, and waits.
        """
        assert self._host.successor is not None
        waits = (self._head, body) if self._head is not None and body is not None else None
        self._exchange = None
        self.connection_lost(None)
        self._host.successor.take(self._transport, waits, self._pending, has_head=has_head)

    @property
    def is_idle(self) -> bool:
        return self._phase == "head"

    def reply(self, page: PlainAnswer, headers: tuple[HeaderLine, ...] = ()) -> None:
        """Answer a request, which has arrived whole, with a page of our own."""
        head, context, (status, kind, body) = self._head, self._context, page
        assert head is not None
        assert context is not None
        lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode("ascii"))]
        if kind:
            lines += [b"content-type: " + kind, b"content-length: %d" % len(body)]
        lines += [b"%s: %s" % header for header in (*context.headers, *headers)]
        lines.append(b"connection: keep-alive" if head.persists else b"connection: close")
        self.write(b"\r\n".join(lines) + HEAD_END + (b"" if head.method == "HEAD" else body))
        self.next_request(keep_alive=head.persists)

    def refuse(self, trouble: Trouble, *, keep_alive: bool = False) -> None:
        """Answer with an error in the API's format.  If the body was not read, the connection ends too."""
        head, context = self._head, self._context
        if self.has_head:  # there is no other way to tell a stream
            self.break_off(b"", reset=True)
            return
        self.write(
            answer(
                trouble,
                context.dialect if context else "openai",
                version=head.version if head else "1.1",
                keep_alive=keep_alive,
                extra_headers=context.headers if context else (),
                without_body=head is not None and head.method == "HEAD",
            )
        )
        self.next_request(keep_alive=keep_alive)

    def _close(self) -> None:
        """Our side; theirs is read for a moment, since unread data would reset the connection."""
        self._pending, self._body = b"", bytearray()
        self._let_go_of_body()
        self._linger()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _linger(self) -> None:
        self._phase = "linger"
        self._unwritten = unsent_bytes(self._transport)
        self.deadline = self._loop.time() + LINGER_SECONDS

    def break_off(self, event: bytes, *, reset: bool) -> None:
        """
        End an answer so that nobody can take it for whole: within its body, or by a ``reset`` where a plain
        close would be the body's end.
        """
        self._exchange = None
        if self._phase == "gone":
            return
        if event:
            self._transport.write(event)
        self._linger()
        if reset:
            reset_connection(self._transport)
        else:
            self._transport.close()

    # --- time

    def expire(self) -> None:
        """Called when the deadline has passed."""
        is_leaving = self._phase == "linger"
        left = unsent_bytes(self._transport) if self.is_paused or is_leaving else 0
        if left and (left < self._unwritten or (is_leaving and not self._had_time)):
            self._unwritten, self._had_time = left, is_leaving  # slow, but it takes something
            self.deadline = self._loop.time() + self._connections.settings.client_timeout_seconds
        elif self._phase == "body" or (self._phase == "head" and self._pending):
            self.refuse(Trouble(408, "timeout", "The request did not arrive in time."))
        elif self._phase == "head":
            self._transport.close()
        else:
            self._transport.abort()

    def drop(self) -> None:
        """Close it at once, so that another one has room.  One that is about to ask can read why."""
        if self._phase == "body" or not self._was_served:
            self._transport.write(answer(_TOO_MANY, "openai", version="1.1", keep_alive=False))
            self._transport.close()
        else:
            self._transport.abort()

    @property
    def rank(self) -> tuple[int, float] | None:
        """See `Connected`."""
        if self._exchange is not None or self._phase in {"answer", "gone"}:
            return None
        if self._phase == "body" or self._pending:
            return ASKING, self.quiet_since
        return (IDLE if self._was_served else STRANGER), self.quiet_since

    def close(self) -> None:
        """The gateway closes.  A request under way has an exchange, which ends it."""
        if self._exchange is None and self._phase != "gone":
            self._transport.close()


_TOO_MANY = Trouble(
    503, "too_many_connections", "Too many connections are open here.", retry_seconds=RETRY_SECONDS
)
_NO_ROOM = Trouble(
    429, "queue_full", "The bodies of too many requests are held here already.", retry_seconds=RETRY_SECONDS
)
