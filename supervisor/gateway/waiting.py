"""
What requests wait for, in words: for ``status``, for streams that are told of it, for one that gave up.  And
which of them need not wait, because they belong to the operation that holds the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hmac import compare_digest
from typing import Protocol

from .api.routes import Trouble
from .auth.guard import RequestContext
from .backends import Backend, GatewayOwner, profile_of, progress
from .http_heads import Head
from .scheduler import Ticket

HOLD_HEADER = b"x-goss-hold"
"""By which an operation that holds a server says that a request is its own."""
_NO_HOLD = Trouble(409, "not_held", "X-Goss-Hold names no hold of a server: it is over, or never was.")

ANNOUNCE_AFTER_SECONDS = 2.0  # before a waiting stream gets progress messages


class WaitingRequest(Protocol):
    """What this module needs of an `Exchange`."""

    @property
    def accepts_progress(self) -> bool:
        """Whether the client understands comments about the wait."""

    def announce(self, text: str) -> None:
        """Send the client a comment that says how long it may wait."""


WhyHeld = Callable[[Ticket], tuple[str, str]]
"""For which profile a request waits, and for what."""


@dataclass(frozen=True, slots=True)
class HeldRequests:
    """Those that wait for the same thing, the first of them for ``longest_seconds``."""

    profile: str
    requests: int
    longest_seconds: float
    reason: str


def held_requests(waiting: Sequence[Ticket], reason: WhyHeld, now: float) -> list[HeldRequests]:
    """In the order of arrival of the first ones."""
    groups: dict[tuple[str, str], list[Ticket]] = {}
    for ticket, why in _with_reasons(waiting, reason):
        groups.setdefault(why, []).append(ticket)
    return [
        HeldRequests(profile, len(tickets), round(now - tickets[0].arrived, 1), why)
        for (profile, why), tickets in groups.items()
    ]


def reason_of(ticket: Ticket, server: Backend, owner: GatewayOwner) -> tuple[str, str]:
    """``server`` has its profile."""
    profile = ticket.profile or profile_of(server)
    if server.hold and server.hold.shuts_out and ticket.hold != server.hold.id:
        return profile, server.hold.text
    if ticket.room_since is not None:
        return profile, "room in the context that its slots share"
    return profile, owner.awaits(profile) or progress(server)


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


def announce(
    waiting: Sequence[Ticket], exchanges: Mapping[Ticket, WaitingRequest], reason: WhyHeld, now: float
) -> None:
    """Tell streams that have waited for a while."""
    places = {
        ticket: place
        for place, ticket in enumerate(waiting, 1)
        if now - ticket.arrived >= ANNOUNCE_AFTER_SECONDS and exchanges[ticket].accepts_progress
    }
    for ticket, (_, why) in _with_reasons(places, reason):
        exchanges[ticket].announce(f"{why}; {now - ticket.arrived:.0f} s, place {places[ticket]}")


def _with_reasons(waiting: Iterable[Ticket], reason: WhyHeld) -> Iterator[tuple[Ticket, tuple[str, str]]]:
    """The same for all that wait for the same: each look asks the kernel how much of a model is loaded."""
    known: dict[tuple[str, bool, int], tuple[str, str]] = {}
    for ticket in waiting:
        kind = (ticket.profile, ticket.room_since is not None, ticket.hold)
        if kind not in known:
            known[kind] = reason(ticket)
        yield ticket, known[kind]
