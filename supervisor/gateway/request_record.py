"""
What stays of a request that is over: figures and names, never content.

The daemon's log has one line a minute of those without a valid key, however many there are.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable

from ..home.event_log import about
from ..plan.launch import LaunchPlan
from .api.routes import Trouble
from .auth.guard import RequestContext
from .exchange import Exchange
from .http_heads import Head
from .successor import Successor
from .telemetry.activity import Activity, RequestRecord, Usage, tokens_of_pieces, usage_of
from .telemetry.metrics import RequestFigures

log = logging.getLogger(__name__)

_LEAST_TOKENS, _LEAST_SECONDS = 4, 0.01  # for a rate that says something
PAUSE_SECONDS = 60.0  # between two lines about refused keys
_STATUSES = (401, 403)


def refused(head: Head, context: RequestContext, trouble: Trouble, model: str = "") -> RequestRecord:
    """One that was turned away before anything was done for it."""
    return RequestRecord(
        at=time.time(),
        caller=context.caller.name,
        method=head.method,
        endpoint=context.route.label,
        profile="",
        model=model,
        stream=False,
        status=trouble.status,
        result="refused",
        seconds=0.0,
        note=trouble.message,
    )


def record(exchange: Exchange, now: float, plan: LaunchPlan | None) -> RequestRecord:
    """``now`` is the loop's time, in which the exchange counts; ``plan`` is its server's, None a peer's."""
    ticket, wish, route = exchange.ticket, exchange.wish, exchange.context.route
    went, first = exchange.went_at, exchange.first_byte_at
    counted = usage_of(b"".join(exchange.tail), exchange.opening) if route.generates else Usage()
    broke_off = exchange.is_stream and route.generates and counted.output_tokens is None
    adapter = plan.adapter if plan and broke_off else ""
    seconds = now - ticket.arrived
    return RequestRecord(
        at=time.time() - seconds,
        caller=exchange.context.caller.name,
        method=wish.head.method,
        endpoint=route.label,
        profile=exchange.place or (plan.profile if plan else ""),
        model=wish.model,
        stream=exchange.is_stream,
        status=exchange.status,
        result=exchange.result or "failed",
        replayed=exchange.was_replayed,
        held_seconds=(went or now) - ticket.arrived if exchange.has_waited else 0.0,
        context_wait_seconds=ticket.waited_for_room(now),
        first_byte_seconds=first - ticket.arrived if first is not None else None,
        seconds=seconds,
        request_bytes=len(wish.body),
        answer_bytes=exchange.answer_bytes,
        prompt_tokens=counted.prompt_tokens,
        cached_tokens=counted.cached_tokens,
        output_tokens=counted.output_tokens,
        partial_tokens=tokens_of_pieces(exchange.pieces, route.label, adapter),
        tokens_per_second=counted.tokens_per_second or _rate(counted, exchange, now),
        prompt_per_second=counted.prompt_per_second,
        drafted_tokens=counted.drafted_tokens,
        accepted_tokens=counted.accepted_tokens,
        note=exchange.note,
    )


def _rate(counted: Usage, exchange: Exchange, now: float) -> float | None:
    """Tokens per second as they came, for an engine that does not say it: all after the first."""
    tokens, first = counted.output_tokens or 0, exchange.first_byte_at
    if not exchange.is_stream or first is None or tokens < _LEAST_TOKENS or now - first < _LEAST_SECONDS:
        return None
    return round((tokens - 1) / (now - first), 2)


class RequestBooks:
    """
    Of one gateway; ``kept`` is called after each request that is counted.  A copy has a ``successor``, which
    counts for it.
    """

    def __init__(
        self,
        activity: Activity,
        figures: RequestFigures,
        kept: Callable[[], object],
        clock: Callable[[], float],
    ) -> None:
        self.successor: Successor | None = None
        self._activity, self._figures, self._kept, self._clock = activity, figures, kept, clock

    def note(self, exchange: Exchange, plan: LaunchPlan | None) -> RequestRecord:
        """It is over; ``plan`` is its server's, None a peer's."""
        done = record(exchange, self._clock(), plan)
        if self.successor is None:
            self.keep(done)
        else:
            self.successor.ended(exchange.ticket.number, done)
        return done

    def keep(self, request: RequestRecord) -> None:
        self._activity.add(request)
        self._figures.count(request)
        self._kept()

    def note_refused(self, head: Head, context: RequestContext, trouble: Trouble, asked: str = "") -> None:
        """Record a request that was refused at once."""
        self.keep(refused(head, context, trouble, asked))


class RefusedKeys:
    """
    Of one gateway; ``clock`` is in seconds.  The first is told at once; those of the next minute with the
    first one after it, so a program that tries keys writes no more than this.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told = -PAUSE_SECONDS
        self._untold: Counter[str] = Counter()

    def note(self, trouble: Trouble) -> None:
        """Count this refusal, if it is about a key, an origin or a host."""
        if trouble.status not in _STATUSES:
            return
        self._untold[trouble.code] += 1
        if self._clock() - self._told >= PAUSE_SECONDS:
            count = self._untold.total()
            log.warning(
                "refused%s: %s",
                "" if count == 1 else f", {count} requests",
                trouble.message,
                extra=about("key", requests=dict(self._untold)),
            )
            self._untold.clear()
            self._told = self._clock()
