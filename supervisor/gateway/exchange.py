"""
One request, from the moment that it is whole to the end of its answer.

It waits until the gateway lets it go, is sent to llama-server, and its answer is relayed.  Two promises are
kept here: a connection that llama-server closed just as it was used again is nobody's business but ours; and
while the client has seen nothing, a server that dies costs time, not the request (once).
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Literal, Protocol

from ..profile.definition import Effort
from ..profile.definition import GatewaySettings as Settings
from .admission import Ticket
from .api.dialects import Trouble
from .api.peek import is_streaming
from .head import Head, upstream_head
from .relay.answer import Answer
from .relay.client import Client
from .relay.delivery import Delivery
from .relay.upstream import Pool, Upstream
from .visit import Visit

RETRY_SECONDS = 0.5  # until a server that cannot be reached is asked again
LOST_SECONDS = 1.0  # until one that said nothing is, if it turns out to be alive
_OPENING_BYTES = 1024
_TAIL_PIECES = 4  # the last pieces of a stream, in which the engine tells what it counted

Result = Literal["answered", "refused", "cancelled", "broken", "failed"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client sent, and what it means by it; ``model`` is what it asked for, in its words."""

    head: Head
    body: bytes
    model: str = ""
    effort: Effort | None = None

    @property
    def streams(self) -> bool:
        """Looked up each time: hardly anybody asks."""
        return is_streaming(self.body)


class House(Protocol):
    """What a request needs of the gateway."""

    @property
    def settings(self) -> Settings: ...

    @property
    def pool(self) -> Pool: ...

    def arrive(self, exchange: Exchange) -> None:
        """Let it go, or have it wait."""

    def come_again(self, exchange: Exchange, seconds: float) -> None:
        """Its server failed it: let it go to another launch, or to the same one after so many seconds."""

    def end(self, exchange: Exchange) -> None:
        """It is over."""

    def body_for(self, exchange: Exchange) -> bytes:
        """The body as the profile that answers wants it."""

    def why_lost(self) -> str:
        """What became of the server, in words."""


class Exchange:
    """One request and its answer.  ``result`` is "" while it is under way."""

    def __init__(self, house: House, client: Client, visit: Visit, wish: Wish, ticket: Ticket) -> None:
        self.visit, self.wish, self.ticket = visit, wish, ticket
        self.result: Result | Literal[""] = ""
        self.status: int | None = None
        self.is_stream = False  # the answer
        self.note = ""
        self.was_replayed = self.has_waited = self._was_resent = False
        self.answer_bytes = 0
        self.went_at: float | None = None  # when it was let go, the last time
        self.first_byte_at: float | None = None
        self.opening = b""  # the first of the answer's body
        self.tail: deque[bytes] = deque(maxlen=_TAIL_PIECES)
        self._house, self._client = house, client
        self._delivery = Delivery(client, wish.head, visit.dialect, visit.headers)
        self._loop = asyncio.get_running_loop()
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None

    def begin_waiting(self) -> None:
        self._house.arrive(self)

    # --- to the server

    def go(self) -> None:
        """The gateway lets it go."""
        self.went_at = self._loop.time()
        self._send(self._house.pool.take())

    def _send(self, upstream: Upstream | None) -> None:
        if upstream is None:
            self._connecting = self._loop.create_task(self._connect())
        else:
            self._ask(upstream)

    async def _connect(self) -> None:
        try:
            upstream = await self._house.pool.connect()
        except OSError as error:
            self._connecting = None
            if self.result:
                return
            if self._was_resent:  # the server that took it and closed the connection was dying
                self._lose_server(f"{error}: {self._house.why_lost()}")
            else:
                self._house.come_again(self, RETRY_SECONDS)
            return
        self._connecting = None
        if self.result:
            upstream.cancel()
        else:
            self._ask(upstream)

    def _ask(self, upstream: Upstream) -> None:
        head, body = self.wish.head, self._house.body_for(self)
        request = upstream_head(head, length=len(body), target=upstream.target)
        self._upstream = upstream
        upstream.ask(
            [request, body] if body else [request],
            self,
            to_head_request=head.method == "HEAD",
            unwrap=head.version == "1.0",
        )
        if self._client.is_paused:
            upstream.pause()

    # --- from the server (see `upstream.Taker`)

    def begin(self, answer: Answer, *, more: bool) -> None:
        self.status = answer.status
        self.first_byte_at = self._loop.time()
        self.is_stream = answer.is_stream
        self._delivery.begin(answer, more=more)

    def go_on(self, data: bytes) -> None:
        if not self.answer_bytes:
            self.opening = data[:_OPENING_BYTES]
        self.answer_bytes += len(data)
        self.tail.append(data)
        self._delivery.go_on(data)

    def complete(self, data: bytes) -> None:
        self.answer_bytes += len(data)
        self.tail.append(data)
        self._delivery.complete(data)  # first: the books can wait
        self._over("answered")

    def lose(self, why: str) -> None:
        upstream, self._upstream = self._upstream, None
        assert upstream is not None
        if upstream.was_used and upstream.heard_nothing:
            self._was_resent = True
            self._send(None)
        else:
            self._lose_server(f"{why}: {self._house.why_lost()}")

    def cut(self, why: str) -> None:
        """Its server is being taken away."""
        self._cancel()
        self._lose_server(why)

    def _lose_server(self, why: str) -> None:
        if self._delivery.has_begun or self.was_replayed or not self._house.settings.replay:
            self.fail(Trouble(502, "server_lost", why))
            return
        self.was_replayed, self._was_resent = True, False
        self.status = self.first_byte_at = None
        self._delivery.forget()
        self._house.come_again(self, LOST_SECONDS)

    # --- ends

    def fail(self, trouble: Trouble, result: Result = "failed") -> None:
        """It cannot be answered, or not to its end."""
        self.note = trouble.message
        self._cancel()
        if self._delivery.has_written:
            result = "broken"
        else:
            self.status = trouble.status
        self._over(result)
        self._delivery.fail(trouble)

    def client_left(self) -> None:
        """Nobody waits for the answer any more: llama-server is told at once."""
        if not self.result:
            self._cancel()
            self._over("cancelled")

    def _cancel(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.cancel()

    def _over(self, result: Result) -> None:
        self.result = result
        self._upstream = None
        self._house.end(self)

    # --- meanwhile

    def tell(self, text: str) -> None:
        """It waits: say so, where its client can take that."""
        if self.wish.streams and self.wish.head.version == "1.1":
            self._delivery.announce(text)

    def pause(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()
