"""
Connections to llama-server, and the few that are kept for the next request.

llama-server closes a connection after 5 s without a request, or after 100 of them (cpp-httplib's keep-alive);
we close ours earlier.  ``was_used`` tells a kept connection that closes just then from a server that died.

Above some seventy pieces a second, data is read every 10 ms, and every 20 ms while many such streams run:
two system calls cost the same for one token as for four.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Protocol, cast

from ...server.probe_target import ProbeTarget
from ..http_heads import HEAD_END, BadResponse, Head, ResponseHead, UnwrappedResponse, upstream_head

IDLE_SECONDS = 4.0
MOST_USES = 99
GATHER_SECONDS = 0.01
FAST = 1.5  # times that between two pieces, or less: 60 tokens a second are not fast
MANY_STREAMS = 16
MOST_IDLE = 8  # each holds a thread of llama-server's until it closes
_LONGEST_HEAD = 256 * 1024


class Taker(Protocol):
    """
    Who gets an answer: `begin` once, `go_on` for each piece, then `complete`; or at any time `lose`.  Before
    it, where a connection has to be made for it, `connected` or `unreachable`.
    """

    def connected(self) -> None:
        """The connection is there: ask."""

    def unreachable(self, why: str) -> None:
        """It cannot be made."""

    def begin(self, answer: ResponseHead, *, more: bool) -> None:
        """The head is there; ``more``: another call follows in the same breath."""

    def go_on(self, data: bytes) -> None:
        """A piece of the body, and not the last."""

    def complete(self, data: bytes) -> None:
        """The last piece; may be empty."""

    def lose(self, why: str) -> None:
        """There will be no more of it."""


class Upstream(asyncio.Protocol):
    """Answers one request at a time.  After `cancel` its taker gets no more calls."""

    def __init__(self, pool: ConnectionPool, target: ProbeTarget | None, taker: Taker) -> None:
        self._pool = pool
        self.target = target
        self._transport: asyncio.Transport
        self._is_connected = False
        self._taker: Taker | None = taker
        self._opening = asyncio.get_running_loop().create_task(self._open())
        self._answer: ResponseHead | None = None
        self._head = b""
        self._to_head_request = self._unwrap = False
        self._is_held = self._rests = False
        self._last_piece = 0.0
        self.uses = 0
        self.idle_since = 0.0

    @property
    def was_used(self) -> bool:
        """Before this request."""
        return self.uses > 1

    @property
    def got_nothing(self) -> bool:
        """Not one byte of an answer has come."""
        return self._answer is None and not self._head

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    async def _open(self) -> None:
        target, loop = self.target, asyncio.get_running_loop()
        try:
            if target is None:
                raise ConnectionRefusedError("no llama-server runs")
            if sys.platform != "win32" and target.unix:
                await loop.create_unix_connection(lambda: self, target.address)
            else:
                await loop.create_connection(lambda: self, target.address, target.port)
        except OSError as error:
            taker, self._taker = self._taker, None
            if taker is not None:
                taker.unreachable(str(error))

    def ask(self, head: Head, body: bytes, taker: Taker) -> None:
        """Send a request."""
        assert self.target is not None
        self._taker, self._answer, self._head = taker, None, b""
        self._to_head_request, self._unwrap = head.method == "HEAD", head.version == "1.0"
        self._is_held = False
        self.uses += 1
        request = upstream_head(head, length=len(body), target=self.target)
        self._transport.writelines([request, body] if body else [request])

    def cancel(self) -> None:
        """The answer is not wanted any more: llama-server sees it at once, and stops computing."""
        self._taker = None
        if self._is_connected:
            self._transport.abort()
        else:
            self._opening.cancel()

    def pause(self) -> None:
        """The client takes nothing; so the kernel's buffers fill, and llama-server waits."""
        self._is_held = True
        self._read_or_not()

    def resume(self) -> None:
        self._is_held = False
        self._read_or_not()

    def rest(self, *, now: bool) -> None:
        """Let a few pieces gather."""
        self._rests = now
        self._read_or_not()

    def _read_or_not(self) -> None:
        if not self._is_connected or self._transport.is_closing():
            return
        if self._is_held or self._rests:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # --- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._is_connected = True
        if self._taker is None:  # cancelled in the very moment in which it came about
            self._transport.abort()
        else:
            self._taker.connected()

    def data_received(self, data: bytes) -> None:
        taker = self._taker
        if taker is None:  # nobody asked
            self._transport.abort()
            return
        try:
            if self._answer is None:
                self._take_head(data, taker)
            else:
                self._take_body(data, self._answer, taker)
        except BadResponse as error:
            self._lose(f"llama-server's answer is broken: {error}")

    def _take_head(self, data: bytes, taker: Taker) -> None:
        self._head += data
        while (end := self._head.find(HEAD_END)) >= 0:
            head, rest = self._head[: end + 4], self._head[end + 4 :]
            kind = UnwrappedResponse if self._unwrap else ResponseHead
            answer = kind(head, to_head_request=self._to_head_request)
            if answer.is_final:
                self._answer, self._head = answer, b""
                self._begin(answer, rest, taker)
                return
            self._head = rest
        if len(self._head) > _LONGEST_HEAD:
            raise BadResponse("its head has no end")

    def _begin(self, answer: ResponseHead, rest: bytes, taker: Taker) -> None:
        taker.begin(answer, more=bool(rest) or answer.framing == "none")
        if answer.framing == "none":
            if rest:
                raise BadResponse("something came after the end of the answer")
            self._finish(b"", answer, taker)
        elif rest:
            self._take_body(rest, answer, taker)

    def _take_body(self, data: bytes, answer: ResponseHead, taker: Taker) -> None:
        piece = answer.take(data)
        if answer.ended:
            self._finish(piece, answer, taker)
            return
        taker.go_on(piece)
        if answer.framing == "chunked":
            self._last_piece = self._pool.pace(self, self._last_piece)

    def _finish(self, data: bytes, answer: ResponseHead, taker: Taker) -> None:
        self._taker = None
        if not (self._may_be_kept(answer) and self._pool.keep(self)):
            self._transport.close()
        taker.complete(data)

    def _may_be_kept(self, answer: ResponseHead) -> bool:
        """llama-server closes the connection behind a stream, whatever it said of keeping it (b11434)."""
        return answer.keep_alive and answer.framing != "chunked" and self.uses < MOST_USES

    def _lose(self, why: str) -> None:
        taker, self._taker = self._taker, None
        self._transport.abort()
        if taker is not None:
            taker.lose(why)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        taker, self._taker = self._taker, None
        if taker is None:
            return
        if self._answer is not None and self._answer.framing == "close" and exc is None:
            taker.complete(b"")
        else:
            taker.lose(str(exc) if exc else "llama-server closed the connection")


class ConnectionPool:
    """Connections to the server of one launch at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._target: ProbeTarget | None = None
        self._idle: list[Upstream] = []
        self._resting: list[Upstream] = []
        self._gather_seconds = GATHER_SECONDS

    def aim(self, target: ProbeTarget | None) -> None:
        """From now on this server is meant; connections to the one before are not used again."""
        if target == self._target:
            return
        self._target = target
        idle, self._idle = self._idle, []
        for upstream in idle:
            upstream.cancel()

    def take(self) -> Upstream | None:
        """The connection that was used last, if one is still good."""
        while self._idle:
            upstream = self._idle.pop()
            if not upstream.is_closing and self._loop.time() - upstream.idle_since < IDLE_SECONDS:
                return upstream
            upstream.cancel()
        return None

    def connect(self, taker: Taker) -> Upstream:
        """Open a new connection; its taker is called when it is there."""
        return Upstream(self, self._target, taker)

    def keep(self, upstream: Upstream) -> bool:
        """For the next request, if it leads to the server that is meant now."""
        if upstream.target is not self._target:
            return False
        upstream.idle_since = self._loop.time()
        self._idle.append(upstream)
        if len(self._idle) > MOST_IDLE:
            self._idle.pop(0).cancel()
        return True

    def pace(self, upstream: Upstream, last: float) -> float:
        """A piece has come, the one before it at ``last``: gives the time, and lets a fast stream rest."""
        now = self._loop.time()
        if now - last < FAST * self._gather_seconds:
            upstream.rest(now=True)
            self._resting.append(upstream)
            if len(self._resting) == 1:  # one timer for all of them, and one turn of the loop
                self._loop.call_later(self._gather_seconds, self._go_on)
        return now

    def _go_on(self) -> None:
        resting, self._resting = self._resting, []
        self._gather_seconds = GATHER_SECONDS * (2 if len(resting) > MANY_STREAMS else 1)
        for upstream in resting:
            upstream.rest(now=False)

    def forget(self, upstream: Upstream) -> None:
        if upstream in self._idle:
            self._idle.remove(upstream)
