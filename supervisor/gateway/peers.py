"""
The peers of a gateway, and the requests that they answer.

A model that is on offer here is answered here; a peer that has it too is asked only if that is refused.  A
request that got no answer goes on to the next peer, or to this computer; each peer is asked once.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from ..plan.launch import Parameters
from ..plan.listen import Offer
from ..profile.definition import Effort
from ..profile.definition import GatewaySettings as Settings
from ..profile.peer import Peer
from .api.routes import Route, Trouble
from .api.served_models import EFFORTS, ModelEntry, no_model
from .auth.guard import RequestContext
from .auth.keys import KeyLimits
from .auth.limits import KeyLimiter, of_model
from .exchange import Exchange, ExchangeHost, Outgoing, Wish
from .http_heads import Head
from .peer_choice import (
    HOPS_HEADER,
    PeerCandidate,
    PeerModel,
    allows,
    best,
    entries_of,
    head_for_peer,
    hops_of,
    is_round,
)
from .peer_watch import MOST_MISSES, PeerWatch
from .relay.client_connection import RETRY_SECONDS, ClientConnection
from .relay.upstream import ConnectionPool
from .scheduler import Ticket
from .telemetry.metrics import PeerFigures

_GOES_ON = frozenset((404, 429, 502, 503, 504, 508))
"""What a peer may say that another one would not."""
_REFUSES_US = frozenset((401, 403))
ENDING_CODE = "stopping"
_MOST_SHOWN = 20  # models of a peer in ``status``

Holder = tuple[PeerWatch, PeerModel]


@dataclass(slots=True)
class Trip:
    """
    Where one request may go, and where it has been, last ``at``.  ``refusal`` is why it gets no answer if it
    can go nowhere; ``silent_at`` how many bytes of its answer had come when its peer was silent.
    """

    holders: list[Holder]
    hops: tuple[str, ...]
    refusal: Trouble | None = None
    tried: set[PeerWatch] = field(default_factory=set)
    at: Holder | None = None
    is_there: bool = False
    silent_at: int = -1


class Peers:
    """
    Those of a gateway, none until `set`.  ``home`` answers requests on this computer, ``exchanges`` has all
    that are not over, ``note`` hears of one of a peer's that is, and ``serves`` tells whether a profile is
    served.  ``id`` is what this supervisor is called in hops.
    """

    def __init__(
        self,
        home: ExchangeHost,
        note: Callable[[Exchange], object],
        limiter: KeyLimiter,
        exchanges: dict[Ticket, Exchange],
        serves: Callable[[str], bool],
    ) -> None:
        self.id = secrets.token_hex(8)
        self.watches: list[PeerWatch] = []
        self._home, self._limiter = home, limiter
        self._exchanges, self._note, self._serves = exchanges, note, serves
        self._trips: dict[Exchange, Trip] = {}
        self._holders: dict[str, list[Holder]] = {}  # by the names that clients use
        self._ends_at = inf  # in the loop's time, for requests under way
        self._stirred = asyncio.Event()  # one of them is over, or the time is another

    def set(self, peers: Iterable[Peer]) -> None:
        """These are the peers from now on; one that stays the same goes on as it is."""
        known = {watch.peer: watch for watch in self.watches}
        self.watches = [
            known[peer] if peer in known else PeerWatch(peer, self.id, self._changed, self._is_silent)
            for peer in peers
        ]
        for watch in known.values():
            if watch not in self.watches:
                watch.close()
        self._changed()

    def begin_to_end(self, seconds: float) -> None:
        """The daemon is being stopped: requests under way have so long, or less if it is called again."""
        self._ends_at = min(self._ends_at, asyncio.get_running_loop().time() + seconds)
        self._stirred.set()

    async def rest(self) -> None:
        """Until no request is under way, or their time is over."""
        while self._trips and asyncio.get_running_loop().time() < self._ends_at:
            self._stirred.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._ends_at):
                    await self._stirred.wait()

    def _changed(self) -> None:
        holders = defaultdict[str, list[Holder]](list)
        for watch in self.watches:
            for model in watch.list.models:
                for name in {name.casefold() for name in model.names}:
                    holders[name].append((watch, model))
        self._holders = dict(holders)

    # --- requests

    def take(self, client: ClientConnection, wish: Wish, context: RequestContext) -> Exchange | None:
        """What answers, or refuses, a model that is not on offer here; None: as if there were no peers."""
        if not (wish.model and goes_away(context.route)):
            return None
        holders, effort = self._meant(wish.model) if self.watches else ([], None)
        trip = self._trip_to(holders, wish, context) if holders else self._trip_to_nowhere(wish)
        if trip is None:
            return None
        wish = Wish(wish.head, wish.body, wish.model, effort)
        ticket = Ticket(asyncio.get_running_loop().time(), "", context.route.generates, wakes=False)
        exchange = Exchange(self, client, context, wish, ticket)
        self._trips[exchange] = trip
        return exchange

    def _trip_to(self, holders: list[Holder], wish: Wish, context: RequestContext) -> Trip:
        limits, hops = context.caller.limits, hops_of(wish.head)
        allowed = [each for each in holders if allows(limits, each[1])]
        if not allowed:
            return Trip([], hops, of_model(context.caller.name, limits, wish.model))
        if trouble := self._limiter.of_use(context.caller, context.route):
            return Trip([], hops, trouble)
        trip = Trip(self._without_loops(allowed, hops), hops)
        if not trip.holders:
            trip.refusal = _round_trip(wish.model, allowed)
        elif self._next(trip) is None:
            trip.refusal = _all_down(wish.model, allowed)
        return trip

    def take_over_or_fail(self, exchange: Exchange, refusal: Trouble) -> None:
        """This computer has refused it: a peer may answer it, unless we are about to end."""
        if refusal.code == ENDING_CODE or not self._takes_over(exchange, refusal):
            exchange.fail(refusal, "refused")

    def _takes_over(self, exchange: Exchange, refusal: Trouble) -> bool:
        route, wish = exchange.context.route, exchange.wish
        if (
            not self.watches
            or exchange.has_moved
            or not (goes_away(route) and wish.model)
            or exchange.context.hold
        ):
            return False
        limits, hops = exchange.context.caller.limits, hops_of(wish.head)
        allowed = [each for each in self._meant(wish.model)[0] if allows(limits, each[1])]
        trip = Trip(self._without_loops(allowed, hops), hops, refusal)
        if self._next(trip) is None:
            return False
        exchange.move(self)
        self._trips[exchange] = trip
        self.arrive(exchange)
        return True

    def _meant(self, model: str) -> tuple[list[Holder], Effort | None]:
        """By the whole name, else by what is before an effort."""
        name = model.casefold()
        if holders := self._holders.get(name):
            return holders, None
        base, _, suffix = name.rpartition(":")
        effort = EFFORTS.get(suffix)
        return (self._holders.get(base, []) if effort else []), effort

    def _trip_to_nowhere(self, wish: Wish) -> Trip | None:
        """A peer that asks means no other model, and ``peer/model`` is a name of no other."""
        peer, slash, model = wish.model.partition("/")
        named = [each for each in self.watches if slash and each.peer.name.casefold() == peer.casefold()]
        if named and not named[0].is_up:
            return Trip([], (), _is_down(wish.model, named))
        if named:
            problem = f"{named[0].place} has no model {model[:80]!r}, or it is not served here."
            hint = "GET /v1/models lists those that are."
            return Trip([], (), Trouble(404, "model_not_found", problem, hint))
        return Trip([], (), no_model(wish.model)) if wish.head.get(HOPS_HEADER) is not None else None

    def _without_loops(self, holders: list[Holder], hops: tuple[str, ...]) -> list[Holder]:
        if is_round(hops, self.id):
            return []
        return [each for each in holders if not (set(hops) & {each[0].id, *each[1].path})]

    def _next(self, trip: Trip) -> Holder | None:
        left = {
            id(model): (watch, model)
            for watch, model in trip.holders
            if watch.is_up and watch not in trip.tried
        }
        candidates = (
            PeerCandidate(model, watch.state == "up", watch.under_way) for watch, model in left.values()
        )
        found = best(candidates)
        return left[id(found.model)] if found else None

    def hint(self) -> str:
        """For a name that nobody has: the peers that might, if they could be asked."""
        down = [f"{each.place}, which is down ({each.why})" for each in self.watches if not each.is_up]
        return f"It may be a model of {', or of '.join(down)}." if down else ""

    # --- see `ExchangeHost`

    @property
    def settings(self) -> Settings:
        return self._home.settings

    def pool_for(self, exchange: Exchange) -> ConnectionPool:
        return self._watch_of(exchange).pool

    def request_of(self, exchange: Exchange) -> Outgoing:
        trip, wish = self._trips[exchange], exchange.wish
        assert trip.at is not None
        watch, model = trip.at
        head = head_for_peer(wish.head, exchange.path, watch.peer.prefix, (*trip.hops, self.id))
        given = Parameters(upstream_model="" if wish.model == model.id else model.id)
        return Outgoing(head, given, objection=partial(self._objection, exchange))

    def arrive(self, exchange: Exchange) -> None:
        self._exchanges[exchange.ticket] = exchange
        self._send_on(exchange, self._trips[exchange])

    def come_again(self, exchange: Exchange, seconds: float) -> None:
        """Not after so many seconds, but to another place at once."""
        del seconds
        trip = self._trips[exchange]
        self._leave(trip)
        self._send_on(exchange, trip)

    def _send_on(self, exchange: Exchange, trip: Trip) -> None:
        if (found := self._next(trip)) is not None:
            trip.at, trip.is_there, trip.silent_at = found, True, -1
            trip.tried.add(found[0])
            found[0].under_way += 1
            exchange.place = found[1].name
            exchange.go()
        elif trip.refusal is None:
            exchange.fail(exchange.trouble or _all_down(exchange.wish.model, trip.holders))
        else:
            self._go_home(exchange, trip.refusal)

    def _go_home(self, exchange: Exchange, refusal: Trouble) -> None:
        """Nobody else answers it; but this computer does, if it serves the model again."""
        if exchange.ticket.profile and self._serves(exchange.ticket.profile):
            del self._trips[exchange]
            exchange.place = ""
            exchange.move(self._home)
            exchange.begin_waiting()
        else:
            exchange.fail(refusal, "refused")

    def _leave(self, trip: Trip) -> None:
        if trip.at is not None and trip.is_there:
            trip.at[0].under_way -= 1
            trip.is_there = False

    def end(self, exchange: Exchange) -> None:
        del self._exchanges[exchange.ticket]
        self._leave(self._trips.pop(exchange))
        self._stirred.set()
        self._note(exchange)

    def _objection(self, exchange: Exchange, status: int) -> Trouble | None:
        """Why the client does not get an answer with this status, but that of another place."""
        trip = self._trips[exchange]
        watch = self._watch_of(exchange)
        if status in _REFUSES_US:
            variable = watch.peer.api_key_env
            key = f"the key in {variable}" if variable else "requests without a key (api-key-env names one)"
            watch.look_soon()
            return Trouble(502, "peer_key", f"{watch.place} refuses {key}: it answered {status}.")
        goes_on = status in _GOES_ON and (self._next(trip) is not None or trip.refusal is not None)
        return Trouble(502, "peer_refused", f"{watch.place} answered {status}.") if goes_on else None

    def doubt(self, exchange: Exchange) -> None:
        self._watch_of(exchange).doubt("a request could not reach it")

    def why_lost(self, exchange: Exchange) -> str:
        return f"{self._watch_of(exchange).place} died, or gave up this request"

    def _watch_of(self, exchange: Exchange) -> PeerWatch:
        at = self._trips[exchange].at
        assert at is not None
        return at[0]

    def _is_silent(self, watch: PeerWatch) -> None:
        """
        A look got no answer.  After some in a row, requests there of whose answers nothing has come since are
        given up: their peer is frozen, or unplugged.
        """
        for exchange, trip in list(self._trips.items()):
            if trip.at is None or trip.at[0] is not watch:
                continue
            if watch.misses < MOST_MISSES or trip.silent_at != exchange.answer_bytes:
                trip.silent_at = exchange.answer_bytes
            else:
                exchange.cut(f"{watch.place} does not answer any more: {watch.why}.")

    # --- what others see

    def entries(self, head: Head, limits: KeyLimits, offers: Iterable[Offer]) -> list[ModelEntry]:
        """
        For ``GET /v1/models``: what this client may ask peers for, without what leads back to it.
        ``offers`` are those of this computer, whose names they have not.
        """
        if not self.watches:
            return []
        hops = hops_of(head)
        holders = ((watch, model) for watch in self.watches if watch.is_up for model in watch.list.models)
        models = [model for _, model in self._without_loops(list(holders), hops) if allows(limits, model)]
        return entries_of(models, (name for offer in offers for name in offer.names))

    def documents(self) -> list[dict[str, Any]]:
        """For ``status``."""
        return [
            {
                "name": each.peer.name,
                "url": each.peer.url,
                "state": each.state,
                "why": each.why,
                "models": len(each.list.models),
                "loaded": [model.id for model in each.list.models if model.status in {"loaded", ""}][
                    :_MOST_SHOWN
                ],
                "requests_under_way": each.under_way,
            }
            for each in self.watches
        ]

    def figures(self) -> list[PeerFigures]:
        """For metrics."""
        return [
            PeerFigures(each.peer.name, each.is_up, len(each.list.models), each.under_way)
            for each in self.watches
        ]


def goes_away(route: Route) -> bool:
    """Whether peers answer such requests: those that name a model, and use it."""
    return route.handler is None and route.wakes


def _round_trip(model: str, holders: list[Holder]) -> Trouble:
    places = ", ".join(dict.fromkeys(watch.place for watch, _ in holders))
    why = f"This request for {model[:80]!r} has come from {places} or has passed too many supervisors."
    return Trouble(508, "peer_loop", f"{why} None of them has the model any more, or they name each other.")


def _all_down(model: str, holders: list[Holder]) -> Trouble:
    return _is_down(model, [watch for watch, _ in holders])


def _is_down(model: str, watches: list[PeerWatch]) -> Trouble:
    down = "; ".join(dict.fromkeys(f"{each.place} is down: {each.why.rstrip('.')}" for each in watches))
    return Trouble(503, "peer_down", f"{model[:80]} is not available: {down}.", retry_seconds=RETRY_SECONDS)
