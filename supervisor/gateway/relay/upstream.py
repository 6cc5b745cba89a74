"""
Connections to llama-server, and the way of an answer from there to a client.

llama-server closes a connection after 5 s without a request, or after 100 of them (cpp-httplib's keep-alive);
we close ours earlier.  ``was_used`` tells a kept connection that closes just then from a server that died.

A small answer is sent when all of it has arrived, so until then it can be requested again or become an honest
error.  A stream is sent as it comes; one that breaks off ends with an error event and no regular end.
"""

from __future__ import annotations

import asyncio
from typing import cast

from ...server.probe_target import ProbeTarget
from ...server.shortage import is_ours_to_connect
from ..api.routes import Dialect, Trouble, broken_event, waiting_comment
from ..http_heads import HEAD_END, BadResponse, Head, HeaderLine, ResponseHead, chunk, upstream_head
from .answer import AnsweredClient, ModelName, Taker, read_head
from .chunked import unchunked
from .gathering import Gathering, Pace, gulp

IDLE_SECONDS = 4.0
MOST_USES = 99
MOST_IDLE = 8  # each holds a thread of llama-server's until it closes
PARTING_SECONDS = 1.0  # for a server to hang up behind a stream
_LONGEST_HEAD = 256 * 1024


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
        self._to_head_request = self._wraps = False
        self._name: ModelName | None = None
        self._is_held = self._rests = False
        self._pace: Pace | None = None
        self.uses = 0
        self.idle_since = 0.0

    @property
    def was_used(self) -> bool:
        """Whether an earlier request used this connection."""
        return self.uses > 1

    @property
    def got_nothing(self) -> bool:
        """Whether not one byte of an answer has come."""
        return self._answer is None and not self._head

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    async def _open(self) -> None:
        target = self.target
        try:
            if target is None:
                raise ConnectionRefusedError("no engine runs")
            await target.connect(lambda: self)
        except (OSError, ValueError, MemoryError) as error:  # ValueError: a NUL in a path
            taker, self._taker = self._taker, None
            if taker is not None:
                taker.unreachable(str(error) or "out of memory", ours=is_ours_to_connect(error))

    def ask(self, head: Head, body: bytes, taker: Taker, name: ModelName | None = None) -> None:
        """Send a request; ``name`` is what its answer is to call the model."""
        assert self.target is not None
        self._taker, self._answer, self._head = taker, None, b""
        self._to_head_request, self._wraps = head.method == "HEAD", head.version != "1.0"
        self._name = name
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

    def _rest(self, now: bool) -> None:
        """Let pieces gather, until `_gulp`."""
        if now is not self._rests:
            self._rests = now
            self._read_or_not()

    def _gulp(self, descriptor: int) -> bool:
        """Read what has gathered, if something has."""
        data = b"" if self._is_held or self.is_closing else gulp(descriptor)
        if data:
            self.data_received(data)
        return bool(data)

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
            self._lose(f"the engine's answer is broken: {error}")

    def _take_head(self, data: bytes, taker: Taker) -> None:
        self._head += data
        while (end := self._head.find(HEAD_END)) >= 0:
            head, rest = self._head[: end + 4], self._head[end + 4 :]
            answer = read_head(
                head, to_head_request=self._to_head_request, wraps=self._wraps, name=self._name
            )
            if answer.is_final:
                self._answer, self._head = answer, b""
                self._begin(answer, rest, taker)
                return
            self._head = rest
        if len(self._head) > _LONGEST_HEAD:
            raise BadResponse("its head has no end")

    def _begin(self, answer: ResponseHead, rest: bytes, taker: Taker) -> None:
        if answer.framing == "close" and answer.is_stream:
            self._pool.gathering.saw_hang_up()  # which is its only end
        is_piecemeal = answer.framing == "chunked" or (answer.framing == "close" and answer.is_stream)
        if is_piecemeal and self.target is not None and self.target.gathers:
            self._pace = Pace(self._pool.gathering, self._transport, self._rest, self._gulp)
        taker.begin(answer, more=bool(rest) or answer.framing == "none")
        if self._taker is not taker:  # who wants the answer of somebody else
            return
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
        if self._pace is not None and self._taker is taker:  # who may have cancelled just now
            self._pace.took(answer.take_chunks())

    def _finish(self, data: bytes, answer: ResponseHead, taker: Taker) -> None:
        self._taker = None
        if self._pace is not None:
            taker.complete(data)
            self._pace.complete()
            self._pool.part(self)
            return
        # Not behind a stream: llama-server closes then, whatever it said of keeping it (b11434).
        if not (answer.keep_alive and self.uses < MOST_USES and self._pool.keep(self)):
            self._transport.close()
        taker.complete(data)

    def _lose(self, why: str) -> None:
        taker, self._taker = self._taker, None
        self._transport.abort()
        if taker is not None:
            taker.lose(why)

    def eof_received(self) -> None:
        if self._pace is not None and self._taker is None:
            self._pool.gathering.saw_hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        if self._pace is not None:
            self._pace.close()
        taker, self._taker = self._taker, None
        if taker is None:
            return
        if exc is not None or self._answer is None or self._answer.framing != "close":
            taker.lose(str(exc) if exc else "the engine closed the connection")
            return
        try:
            last = self._answer.close()
        except BadResponse as error:
            taker.lose(str(error))
        else:
            taker.complete(last)


class ConnectionPool:
    """Connections to the server of one launch at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._target: ProbeTarget | None = None
        self._idle: list[Upstream] = []
        self._parting: dict[Upstream, asyncio.TimerHandle] = {}
        self.gathering = Gathering(self._loop)

    def aim(self, target: ProbeTarget | None) -> None:
        """From now on this server is meant; connections to the one before are not used again."""
        if target == self._target:
            return
        self._target = target
        self.gathering = Gathering(self._loop)  # nobody knows of the new one whether it hangs up
        idle, self._idle = self._idle, []
        for upstream in [*idle, *self._parting]:
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
        """Open a new connection, and call the taker when it is open."""
        return Upstream(self, self._target, taker)

    def keep(self, upstream: Upstream) -> bool:
        """Keep a connection for the next request, if it leads to the current server."""
        if upstream.target is not self._target:
            return False
        upstream.idle_since = self._loop.time()
        self._idle.append(upstream)
        if len(self._idle) > MOST_IDLE:
            self._idle.pop(0).cancel()
        return True

    def part(self, upstream: Upstream) -> None:
        """Behind a stream.  Left to the server, since that shows whether it hangs up."""
        self._parting[upstream] = self._loop.call_later(PARTING_SECONDS, upstream.cancel)

    def forget(self, upstream: Upstream) -> None:
        parting = self._parting.pop(upstream, None)
        if parting is not None:
            parting.cancel()
        if upstream in self._idle:
            self._idle.remove(upstream)


SMALL_BYTES = 256 * 1024
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n"
)
_WHOLE = b"application/json"  # is of no use in parts, so it is held where its length is not known either
_CLOSE: tuple[HeaderLine, ...] = ((b"connection", b"close"),)


class Delivery:
    """``has_written``: the client has something, if only a comment; ``has_begun``: some of the answer."""

    def __init__(
        self, client: AnsweredClient, head: Head, dialect: Dialect, headers: tuple[HeaderLine, ...]
    ) -> None:
        self._client = client
        self._keep_alive = head.persists
        self._dialect = dialect
        self._headers = headers  # that go with every answer
        self._answer: ResponseHead | None = None
        self._held: list[bytes] | None = None
        self._held_bytes = 0
        self._is_small = False
        self._is_announced = self.has_written = client.has_head
        self.has_begun = False

    # --- an answer of llama-server

    def begin(self, answer: ResponseHead, *, more: bool) -> None:
        """Its head; ``more``: a piece of the body follows at once, and goes out together with it."""
        self._answer = answer
        self._is_small = answer.framing == "none" or (
            answer.framing == "length" and answer.left <= SMALL_BYTES
        )
        self._is_small |= answer.framing == "close" and answer.get(b"content-type").startswith(_WHOLE)
        if self._is_announced:
            self._held = None if answer.is_stream else []
            self._is_small = True
            self.has_begun = self._held is None
            return
        self._keep_alive = self._keep_alive and (
            answer.framing in {"none", "length"} or answer.is_chunked_for_client
        )
        more_headers = self._headers if self._keep_alive else (*self._headers, *_CLOSE)
        self._held = [answer.head_for_client(more_headers)]
        if not more and not self._is_small:
            self._flush()

    def go_on(self, data: bytes) -> None:
        if self._held is None:
            self._client.write(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if not self._is_small or (self._held_bytes > SMALL_BYTES and not self._is_announced):
            self._flush()

    def complete(self, data: bytes) -> None:
        """The last piece; the client may ask for something else now."""
        if self._held is None:
            self._client.write(data)
        elif self._is_announced:
            error = b"".join([*self._held, data])  # of the engine, to a stream whose head is written
            if self._answer is not None and self._answer.is_chunked_for_client:
                error = unchunked(error)
            self._break_off(error.decode("utf-8", "replace")[:1000])
            return
        else:
            self._held.append(data)
            self._flush()
        self._client.next_request(keep_alive=self._keep_alive)

    def _flush(self) -> None:
        held, self._held = self._held or [], None
        self.has_written = self.has_begun = True
        self._client.write(b"".join(held))

    def forget(self) -> None:
        """What came so far was of a server that died, and the client has seen nothing of it."""
        self._answer = self._held = None
        self._held_bytes = 0

    # --- answers of our own

    def announce(self, text: str) -> None:
        """Tell a stream that waits how long it may take, as a comment that its client passes over."""
        head = (_STREAM_HEAD, *(b"%s: %s\r\n" % header for header in self._headers), b"\r\n")
        comment = chunk(waiting_comment(text))
        self._client.write(comment if self._is_announced else b"".join((*head, comment)))
        self._is_announced = self.has_written = True

    def fail(self, trouble: Trouble) -> None:
        """It cannot be answered: an error in the API's own shape, or a stream that breaks off."""
        if self.has_written:
            self._break_off(trouble.text)
            return
        self._client.refuse(trouble, keep_alive=self._keep_alive)

    def _break_off(self, message: str) -> None:
        """Where the answer's end is that of the connection, this has to be a reset."""
        answer, event = self._answer, broken_event(message, self._dialect)
        if answer is None or self._is_announced:
            fits, reset = answer is None or not answer.in_chunk, False
            self._client.break_off(chunk(event) if fits else b"", reset=reset)
        elif answer.is_chunked_for_client:
            fits = answer.is_stream and not answer.in_chunk
            self._client.break_off(chunk(event) if fits else b"", reset=False)
        else:
            ends_with_connection = answer.framing != "length"
            fits = ends_with_connection and answer.is_stream
            self._client.break_off(event if fits else b"", reset=ends_with_connection)
