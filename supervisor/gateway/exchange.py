"""One request, from its complete arrival to the end of its answer, driven by `exchange_table`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Literal, Protocol

from ..plan.launch import LaunchPlan, Parameters
from ..profile.definition import Effort
from ..profile.definition import GatewaySettings as Settings
from .api.body import is_streaming, needs_rewrite, rewrite
from .api.routes import Trouble, too_long_in
from .api.stream_errors import OUT_OF_CONTEXT, AnthropicErrors, error_in
from .auth.guard import RequestContext
from .exchange_table import ExchangeDo, ExchangeEvent, ExchangeLife, ExchangeState, IllegalExchangeEvent
from .http_heads import Head, ResponseHead
from .relay.answer import ModelName, name_of
from .relay.client_connection import ClientConnection
from .relay.upstream import ConnectionPool, Delivery, Upstream
from .scheduler import Ticket
from .telemetry.activity import (
    HEAD_BYTES,
    PIECES,
    RequestResult,
    has_token,
    is_complete,
    opening_of,
)

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5  # until a server that cannot be reached is asked again
LOST_SECONDS = 1.0  # until one that said nothing is, if it turns out to be alive
_TAIL_PIECES = 4  # the last pieces of a stream, in which the engine tells what it counted


@dataclass(frozen=True, slots=True)
class Wish:
    """What the client sent, and what it means by it; ``model`` is what it asked for, in its words."""

    head: Head
    body: bytes
    model: str = ""
    effort: Effort | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """
    A request as it is sent on; ``name`` is what its answer is to call the model, where that must change.
    ``objection`` tells why the client does not get an answer with that status, but maybe another place's.
    """

    head: Head
    parameters: Parameters
    name: ModelName | None = None
    objection: Callable[[int], Trouble | None] | None = None


def to_server(head: Head, plan: LaunchPlan | None) -> Outgoing:
    """A request as the server with this plan gets it."""
    given = plan.parameters if plan else Parameters()
    return Outgoing(head, given, name_of(given))


class ExchangeHost(Protocol):
    """What a request needs of the gateway, or of its `Peers`."""

    @property
    def settings(self) -> Settings: ...

    def pool_for(self, exchange: Exchange) -> ConnectionPool:
        """The pool of connections to the server that answers it."""

    def arrive(self, exchange: Exchange) -> None:
        """Send the request to a server, or let it wait."""

    def come_again(self, exchange: Exchange, seconds: float) -> None:
        """Its server failed it: let it go to another launch, or to the same one after so many seconds."""

    def end(self, exchange: Exchange) -> None:
        """Called when the exchange is over."""

    def request_of(self, exchange: Exchange) -> Outgoing:
        """The request as its server, or peer, gets it."""

    def doubt(self, exchange: Exchange) -> None:
        """Report that its server cannot be reached, so that it is probed."""

    def why_lost(self, exchange: Exchange) -> str:
        """Why the server failed the request, in words."""


class Exchange:
    """One request and its answer.  ``result`` is "" while it is under way."""

    def __init__(
        self,
        host: ExchangeHost,
        client: ClientConnection,
        context: RequestContext,
        wish: Wish,
        ticket: Ticket,
    ) -> None:
        self.context, self.wish, self.ticket = context, wish, ticket
        self.at = time.time()  # in seconds of the epoch
        self.result: RequestResult | Literal[""] = ""
        self.status: int | None = None
        self.is_stream = False  # the answer
        self.note = ""
        self.has_waited = self.has_moved = False
        self.place = ""  # the model of a peer that answers it: ``peer/model``
        self.answer_bytes = 0
        self.pieces = 0  # of a stream: its events that hold a token, as far as their form tells
        self.went_at: float | None = None  # when it was let go, the last time
        self.first_byte_at: float | None = None  # of a stream, its first token
        self.opening = b""  # the first of the answer's body
        self.tail: deque[bytes] = deque(maxlen=_TAIL_PIECES)
        self._host, self._client = host, client
        self._delivery = Delivery(client, wish.head, context.dialect, context.headers)
        self._loop = asyncio.get_running_loop()
        self._life = ExchangeLife()
        self._errors: AnthropicErrors | None = None  # of a stream in that API
        self._upstream: Upstream | None = None  # connected or about to be
        self._failure: tuple[Trouble, RequestResult] | None = None
        self._objection: Callable[[int], Trouble | None] | None = None

    @property
    def was_replayed(self) -> bool:
        return self._life.was_replayed

    @property
    def is_under_way(self) -> bool:
        """Whether a server has it, or is about to."""
        return self._life.state is not ExchangeState.HELD

    @property
    def path(self) -> str:
        """The route's label, one of a bounded set."""
        return self.context.route.label

    @property
    def body(self) -> bytes:
        """The body as the client sent it."""
        return self.wish.body

    @property
    def trouble(self) -> Trouble | None:
        """The last one that it had, if any."""
        return self._failure[0] if self._failure else None

    def move(self, host: ExchangeHost) -> None:
        """From this computer to its peers, or back; it waits, or has not begun."""
        self._host, self.has_moved = host, True

    def hand_on(self) -> None:
        """In a copy (see `copies`): nobody answers it yet, and the daemon will."""
        self._happened(ExchangeEvent.HANDED_ON)
        self._client.hand_on(self.body, has_head=self._delivery.has_written)

    def begin_waiting(self) -> None:
        self._host.arrive(self)

    def go(self) -> None:
        """Called when the request may go to its server."""
        self.went_at = self._loop.time()
        self._happened(ExchangeEvent.GO)

    def _happened(self, event: ExchangeEvent, *, replays: bool = False) -> None:
        try:
            todo = self._life.handle(event, replays=replays)
        except IllegalExchangeEvent:
            log.exception("ignored")
            return
        for do in todo:
            self._carry_out(do)

    def _carry_out(self, do: ExchangeDo) -> None:
        match do:
            case ExchangeDo.CONNECT:
                self._connect(self._host.pool_for(self).take())
            case ExchangeDo.RECONNECT:
                self._connect(None)
            case ExchangeDo.SEND:
                self._send()
            case ExchangeDo.DROP:
                self._drop()
            case ExchangeDo.WAIT:
                self._host.come_again(self, RETRY_SECONDS)
            case ExchangeDo.REPLAY:
                self._forget_answer()
                self._host.come_again(self, LOST_SECONDS)
            case ExchangeDo.TELL:
                self._report_failure()
            case ExchangeDo.END:
                self._upstream = None
                self._host.end(self)

    def _connect(self, kept: Upstream | None) -> None:
        self._upstream = kept or self._host.pool_for(self).connect(self)
        if kept:
            self.connected()

    def _send(self) -> None:
        assert self._upstream is not None
        sent = self._host.request_of(self)
        self._objection = sent.objection
        self._upstream.ask(sent.head, self.body_for(sent.parameters), self, sent.name)
        if self._client.is_paused:
            self._upstream.pause()

    def body_for(self, settings: Parameters) -> bytes:
        """The body as the profile that answers wants it."""
        wish, route = self.wish, self.context.route
        if not needs_rewrite(wish.body, settings, wish.effort, route):
            return wish.body
        return rewrite(wish.body, settings, wish.effort, route, wish.head.get(b"content-type"))

    def _drop(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.cancel()

    def _forget_answer(self) -> None:
        self.status = self.first_byte_at = None
        self.answer_bytes, self.pieces, self.opening = 0, 0, b""
        self.tail.clear()
        self._delivery.forget()

    # --- from the server (see `answer.Taker`)

    def connected(self) -> None:
        self._happened(ExchangeEvent.CONNECTED)

    def unreachable(self, why: str, *, ours: bool) -> None:
        reason = "goss-supervisor cannot connect to it now" if ours else self._host.why_lost(self)
        self._host.doubt(self)
        self._lose(ExchangeEvent.UNREACHABLE, f"{why}: {reason}")

    def begin(self, answer: ResponseHead, *, more: bool) -> None:
        if self._objection is not None and (trouble := self._objection(answer.status)):
            self._failure = trouble, "failed"
            is_lost = answer.status in {HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
            self._happened(
                ExchangeEvent.LOST if is_lost else ExchangeEvent.REFUSED, replays=self._host.settings.replay
            )
            return
        self.status = answer.status
        self.is_stream = answer.is_stream
        if answer.is_stream and self.context.dialect == "anthropic":
            self._errors = AnthropicErrors(is_chunked=answer.is_chunked_for_client)
        self._delivery.begin(answer, more=more)
        self._note_begun()

    def go_on(self, data: bytes) -> None:
        self._read(data)
        self._delivery.go_on(self._errors.take(data) if self._errors else data)
        self._note_begun()

    def _note_begun(self) -> None:
        if self._life.state is ExchangeState.SENT and self._delivery.has_begun:
            self._happened(ExchangeEvent.BEGUN)

    def complete(self, data: bytes) -> None:
        if self.status == HTTPStatus.INTERNAL_SERVER_ERROR and self._may_be_asked_again(data):
            self.ticket.alone = True
            self._lose(ExchangeEvent.LOST, "the context that its slots share was full")
            return
        self._read(data, is_last=True)
        said = b"".join(self.tail)
        self.result = "answered"
        if self.status == HTTPStatus.BAD_REQUEST and (trouble := self._too_long_in(said)) is not None:
            self.note = trouble.message
            self._delivery.fail(trouble)
        else:
            self._delivery.complete(self._errors.take(data, is_last=True) if self._errors else data)
            self.note = error_in(said) if self.is_stream else ""
            self.result = "failed" if self.note else "answered"
        self._happened(ExchangeEvent.ANSWERED)

    def _too_long_in(self, said: bytes) -> Trouble | None:
        """What the engine refuses in its own words, to be said in those of the API."""
        return None if self._delivery.has_begun else too_long_in(said)

    def _read(self, data: bytes, *, is_last: bool = False) -> None:
        """Note what the record will need.  A long prompt's stream begins with comments, to keep it alive."""
        self.answer_bytes += len(data)
        if self.is_stream:
            self.pieces += data.count(PIECES[self.context.dialect])
        self.tail.append(data)
        if not self.opening and not is_last:
            self.opening = opening_of(data) if self.is_stream else data[:HEAD_BYTES]
        if self.first_byte_at is None and (is_last or not self.is_stream or has_token(data)):
            self.first_byte_at = self._loop.time()

    def _may_be_asked_again(self, data: bytes) -> bool:
        """Whether others left it no context, and its client has seen nothing yet."""
        again = self._host.settings.replay and not (self.was_replayed or self._delivery.has_begun)
        return again and OUT_OF_CONTEXT in b"".join((*self.tail, data))

    def lose(self, why: str) -> None:
        assert self._upstream is not None
        if self._upstream.was_used and self._upstream.got_nothing:
            self._happened(ExchangeEvent.STALE)
        else:
            self._lose(ExchangeEvent.LOST, f"{why}: {self._host.why_lost(self)}")

    def _lose(self, event: ExchangeEvent, why: str) -> None:
        self._failure = Trouble(502, "server_lost", why), "failed"
        self._happened(event, replays=self._host.settings.replay)

    # --- from the gateway and the client

    def cut(self, why: str) -> None:
        """Called when its server is being stopped."""
        self._lose(ExchangeEvent.LOST, why)

    def fail(self, trouble: Trouble, result: RequestResult = "failed") -> None:
        """End with an error, or break off an answer that has begun."""
        self._failure = trouble, result
        self._happened(ExchangeEvent.FAILED)

    def _report_failure(self) -> None:
        assert self._failure is not None
        trouble, self.result = self._failure
        self.note = trouble.message
        if self._delivery.has_written:
            self.result = "broken"
        else:
            self.status = trouble.status
        self._delivery.fail(trouble)

    def client_left(self) -> None:
        """The client has gone, so llama-server is cancelled at once; or it had all of its answer."""
        self.result = "cancelled"
        if self.is_stream and is_complete(ending := b"".join(self.tail)):
            self.note = error_in(ending)
            self.result = "failed" if self.note else "answered"
        self._happened(ExchangeEvent.LEFT)

    # --- meanwhile

    @cached_property
    def streams(self) -> bool:
        """Whether the client asked for a stream; looked up once, and only where somebody wants to know."""
        return is_streaming(self.body)

    @property
    def accepts_progress(self) -> bool:
        """Whether the client understands comments about the wait."""
        return self.streams and self.wish.head.version == "1.1"

    def announce(self, text: str) -> None:
        """Send the client a comment with the progress, while the request waits."""
        self._delivery.announce(text)

    def pause(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        if self._upstream is not None:
            self._upstream.resume()
