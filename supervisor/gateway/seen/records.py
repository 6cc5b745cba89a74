"""What is kept of a request that is over: figures and names, never its content."""

from __future__ import annotations

import time

from ...plan.launch import LaunchPlan
from ..api.dialects import Trouble
from ..exchange import Exchange
from ..http_heads import Head
from ..telemetry.activity import Request
from ..telemetry.usage import Told, told
from ..visit import Visit


def refused(head: Head, visit: Visit, trouble: Trouble, model: str = "") -> Request:
    """One that was turned away before anything was done for it."""
    return Request(
        at=time.time(),
        caller=visit.caller.name,
        method=head.method,
        endpoint=visit.route.label,
        profile="",
        model=model,
        stream=False,
        status=trouble.status,
        result="refused",
        seconds=0.0,
        note=trouble.message,
    )


def record(exchange: Exchange, now: float, plan: LaunchPlan | None) -> Request:
    """``now`` is the loop's time, in which the exchange counts; ``plan`` is the one that is active."""
    ticket, wish, route = exchange.ticket, exchange.wish, exchange.visit.route
    went, first = exchange.went_at, exchange.first_byte_at
    counted = told(b"".join(exchange.tail), exchange.opening) if route.generates else Told()
    seconds = now - ticket.arrived
    return Request(
        at=time.time() - seconds,
        caller=exchange.visit.caller.name,
        method=wish.head.method,
        endpoint=route.label,
        profile=plan.profile if plan else "",
        model=wish.model,
        stream=exchange.is_stream,
        status=exchange.status,
        result=exchange.result or "failed",
        replayed=exchange.was_replayed,
        held_seconds=(went or now) - ticket.arrived if exchange.has_waited else 0.0,
        first_byte_seconds=first - ticket.arrived if first is not None else None,
        seconds=seconds,
        request_bytes=len(wish.body),
        answer_bytes=exchange.answer_bytes,
        prompt_tokens=counted.prompt_tokens,
        cached_tokens=counted.cached_tokens,
        output_tokens=counted.output_tokens,
        tokens_per_second=counted.tokens_per_second,
        prompt_per_second=counted.prompt_per_second,
        note=exchange.note,
    )
