"""
The requests that are not over: how far each is, and what it waits for, in words, for those who look and for
streams that are told of it.  And which need not wait, because they belong to the operation that holds the
server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from hmac import compare_digest
from itertools import islice
from typing import Any, Literal, Protocol

from .api.routes import Trouble
from .auth.guard import RequestContext
from .backends import Backend, GatewayOwner, profile_of, progress
from .http_heads import Head
from .scheduler import Scheduler, Ticket
from .telemetry.activity import LONGEST_NAME, printable, tokens_of_pieces

HOLD_HEADER = b"x-goss-hold"
"""By which an operation that holds a server says that a request is its own."""
_NO_HOLD = Trouble(409, "not_held", "X-Goss-Hold names no hold of a server: it is over, or never was.")

ANNOUNCE_AFTER_SECONDS = 2.0  # before a waiting stream gets progress messages


class AskedWords(Protocol):
    """What this module needs of a `Wish`."""

    @property
    def model(self) -> str: ...


class UnfinishedRequest(Protocol):
    """What this module needs of an `Exchange`."""

    at: float
    first_byte_at: float | None
    pieces: int
    ticket: Ticket
    context: RequestContext
    place: str

    @property
    def wish(self) -> AskedWords: ...

    @property
    def streams(self) -> bool: ...

    @property
    def is_under_way(self) -> bool: ...

    @property
    def accepts_progress(self) -> bool: ...

    def announce(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class HeldRequests:
    """Those that wait for the same thing, the first of them for ``longest_seconds``."""

    profile: str
    requests: int
    longest_seconds: float
    reason: str


MOST_ACTIVE = 250
_LEAST_TOKENS, _LEAST_SECONDS = 4, 0.5  # for a rate that says something


@dataclass(frozen=True, slots=True)
class ActiveRequest:
    """
    One that waits, or that a server has.  ``prompt`` is a stream before its first token; ``answer`` is all
    else that a server has.  ``output_tokens`` are the events of a stream so far, for an engine that sends one
    for each token; ``at`` is in seconds of the epoch.
    """

    id: int
    at: float
    caller: str
    endpoint: str
    profile: str
    model: str
    stream: bool
    phase: Literal["waiting", "prompt", "answer"]
    why: str  # it waits
    output_tokens: int | None
    tokens_per_second: float | None  # since the first


class RequestsNow:
    """Those of one gateway; ``server_of`` gives the one that a request went to, or waits for."""

    def __init__(
        self,
        exchanges: Mapping[Ticket, UnfinishedRequest],
        scheduler: Scheduler,
        server_of: Callable[[Ticket], Backend],
        owner: GatewayOwner,
        clock: Callable[[], float],
    ) -> None:
        self._exchanges, self._scheduler = exchanges, scheduler
        self._server_of, self._owner, self._clock = server_of, owner, clock

    @property
    def held(self) -> list[HeldRequests]:
        """Those that wait, by what they wait for, in the order of arrival of the first ones."""
        groups: dict[tuple[str, str], list[Ticket]] = {}
        for ticket, why in self._with_reasons(self._scheduler.waiting):
            groups.setdefault(why, []).append(ticket)
        now = self._clock()
        return [
            HeldRequests(profile, len(tickets), round(now - tickets[0].arrived, 1), why)
            for (profile, why), tickets in groups.items()
        ]

    @property
    def active(self) -> list[dict[str, Any]]:
        """The oldest `MOST_ACTIVE` of all, each as an `ActiveRequest`."""
        oldest, now = list(islice(self._exchanges.items(), MOST_ACTIVE)), self._clock()
        whys = dict(self._with_reasons(ticket for ticket, each in oldest if not each.is_under_way))
        found = (_active(each, self._server_of(ticket), whys.get(ticket), now) for ticket, each in oldest)
        return [asdict(each) for each in found]

    def announce(self) -> None:
        """Tell streams that have waited for a while."""
        now = self._clock()
        places = {
            ticket: place
            for place, ticket in enumerate(self._scheduler.waiting, 1)
            if now - ticket.arrived >= ANNOUNCE_AFTER_SECONDS and self._exchanges[ticket].accepts_progress
        }
        for ticket, (_, why) in self._with_reasons(places):
            waited = f"{now - ticket.arrived:.0f} s, place {places[ticket]}"
            self._exchanges[ticket].announce(f"{why}; {waited}")

    def _with_reasons(self, waiting: Iterable[Ticket]) -> Iterator[tuple[Ticket, tuple[str, str]]]:
        """The same for all that wait for the same: a look asks the kernel how much of a model is loaded."""
        known: dict[tuple[str, bool, int], tuple[str, str]] = {}
        for ticket in waiting:
            kind = (ticket.profile, ticket.room_since is not None, ticket.hold)
            if kind not in known:
                known[kind] = self._reason(ticket)
            yield ticket, known[kind]

    def _reason(self, ticket: Ticket) -> tuple[str, str]:
        """For which profile a request waits, and for what."""
        server = self._server_of(ticket)
        profile = ticket.profile or profile_of(server)
        if server.hold and server.hold.shuts_out and ticket.hold != server.hold.id:
            return profile, server.hold.text
        if ticket.room_since is not None:
            return profile, "room in the context that its slots share"
        return profile, self._owner.awaits(profile) or progress(server)


def _active(
    exchange: UnfinishedRequest, server: Backend, waits: tuple[str, str] | None, now: float
) -> ActiveRequest:
    ticket, first = exchange.ticket, exchange.first_byte_at
    tokens = _tokens_so_far(exchange, server)
    seconds = now - first if first is not None else 0.0
    has_rate = tokens is not None and tokens >= _LEAST_TOKENS and seconds >= _LEAST_SECONDS
    is_reading = exchange.streams and first is None
    return ActiveRequest(
        id=ticket.number,
        at=round(exchange.at, 3),
        caller=exchange.context.caller.name,
        endpoint=exchange.context.route.label,
        profile=exchange.place or (waits[0] if waits else profile_of(server)),
        model=printable(exchange.wish.model, LONGEST_NAME),
        stream=exchange.streams,
        phase="waiting" if waits else "prompt" if is_reading else "answer",
        why=waits[1] if waits else "",
        output_tokens=tokens,
        tokens_per_second=round((tokens - 1) / seconds, 1) if tokens and has_rate else None,
    )


def _tokens_so_far(exchange: UnfinishedRequest, server: Backend) -> int | None:
    route = exchange.context.route
    if exchange.place or not (route.generates and exchange.streams and server.plan):
        return None
    return tokens_of_pieces(exchange.pieces, route.label, server.plan.adapter)


def with_hold(context: RequestContext, head: Head, servers: Iterable[Backend]) -> RequestContext:
    """With the server whose hold's id the request carries; refused where there is no such hold."""
    sent = head.get(HOLD_HEADER)
    if sent is None or context.trouble is not None:
        return context
    for each in servers:
        if each.hold is not None and compare_digest(b"%d" % each.hold.id, sent):
            caller = replace(context.caller, name=each.hold.owner)
            return replace(context, caller=caller, hold=each.hold.id, held_profile=profile_of(each))
    return replace(context, trouble=_NO_HOLD)
