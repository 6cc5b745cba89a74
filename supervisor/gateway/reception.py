"""What answers a request that has arrived whole: a server, a peer, an endpoint of ours, or a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from typing import Protocol

from ..plan.listen import Offer
from .api.body import requested_model
from .api.routes import Trouble, model_in_query, model_of
from .api.served_models import Meant, ModelEntry, no_model
from .auth.guard import RequestContext
from .auth.keys import KeyLimits
from .auth.limits import KeyLimiter, visible
from .backends import Backends, profile_of
from .context_budget import ContextBudgets
from .endpoints import A_WORKER, Endpoints, of_no_role, send
from .exchange import Exchange, ExchangeHost, Wish
from .http_heads import Head
from .listener import Listener
from .model_states import ModelStates
from .relay.client_connection import AskedOf, ClientConnection
from .scheduler import Ticket


class PeersReception(Protocol):
    """What a `Reception` needs of `Peers`."""

    def take(self, client: ClientConnection, wish: Wish, context: RequestContext) -> Exchange | None: ...

    def hint(self) -> str: ...

    def entries(self, head: Head, limits: KeyLimits, offers: Iterable[Offer]) -> list[ModelEntry]: ...


class ReceptionHost(ExchangeHost, Protocol):
    """What a `Reception` needs of the gateway."""

    loop: asyncio.AbstractEventLoop
    listener: Listener
    backends: Backends

    @property
    def peers(self) -> PeersReception: ...

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Do this in the background."""

    def note_refused(self, head: Head, context: RequestContext, trouble: Trouble, asked: str = "") -> None:
        """It is over before anything was done for it."""


class PageReception(Protocol):
    """What a `Reception` needs of `PageEndpoints`."""

    def receive(
        self, client: ClientConnection, head: Head, body: bytes, context: RequestContext
    ) -> AskedOf | None: ...


class Reception:
    """Of one gateway."""

    def __init__(  # noqa: PLR0917 - its collaborators
        self,
        host: ReceptionHost,
        limiter: KeyLimiter,
        endpoints: Endpoints,
        pages: PageReception,
        models: ModelStates,
        budgets: ContextBudgets,
    ) -> None:
        self._host, self._limiter = host, limiter
        self._endpoints, self._pages, self._models, self._budgets = endpoints, pages, models, budgets

    def receive(
        self, client: ClientConnection, head: Head, body: bytes, context: RequestContext
    ) -> AskedOf | None:
        if context.is_preflight:
            client.reply((204, b"", b""))
            return None
        route = context.route
        in_body = requested_model(body, head.get(b"content-type")) if route.names_model else ""
        asked = in_body or (model_in_query(head.target) if b"?" in head.target else "")
        wish, meant = Wish(head, body, asked), self._host.listener.names.meant(asked, route.role)
        is_known = meant is not None and not meant.is_unknown
        found = None if is_known or context.hold else self._host.peers.take(client, wish, context)
        return found or self._receive_here(client, wish, context, meant)

    def _receive_here(
        self, client: ClientConnection, wish: Wish, context: RequestContext, meant: Meant | None
    ) -> AskedOf | None:
        """What this computer answers, or refuses; ``meant`` None is a model that nobody has."""
        head, asked, route = wish.head, wish.model, context.route
        profile = context.held_profile or (meant.profile if meant else None) or ""
        if not (self._host.settings.switch_on_request or self._host.backends.is_served(profile)):
            profile = self._host.backends.instead_of(profile, route.handler)
        is_served, at = self._host.backends.is_served(profile), self._host.listener
        named, limits = profile or profile_of(self._host.backends.answering), context.caller.limits
        handler, can = route.handler or (None if is_served else route.otherwise), at.names.can(named, route)
        trouble = self._limiter.refusal(context.caller, route, named, at.names)
        if handler in {None, "props"} and self._host.backends.is_worker:
            trouble = A_WORKER
        elif handler is None and meant is None:
            trouble = no_model(asked, self._host.peers.hint())
        elif handler is None and route.role and not (can or is_served):
            trouble = of_no_role(named, route.role)
        if trouble is not None:
            self._host.note_refused(head, context, trouble, asked)
            client.refuse(trouble, keep_alive=head.persists)
            return None
        offers = visible(limits, at.offers, at.names)
        if handler == "model-events" and head.method == "GET":
            return self._models.watch(client, head, context, offers)
        if handler in {"supervisor", "page"}:
            return self._pages.receive(client, head, wish.body, context)
        if handler is not None:
            model = model_of(head.path, at.prefix) if handler == "model" else asked
            peers = self._host.peers.entries(head, limits, at.offers) if handler.startswith("model") else ()
            answer = self._endpoints.answer(handler, offers, model, profile, wish.body, peers=peers)
            self._host.run(send(answer, client, head, context, self._host.note_refused))
            return None
        assert meant is not None
        profile = named if limits.models else profile  # no other may answer it then
        ticket = Ticket(self._host.loop.time(), profile, route.generates, route.wakes and can, context.hold)
        if route.generates:
            ticket.tokens = self._budgets.expect(named, wish.body)
        wish = replace(wish, effort=meant.effort) if meant.effort else wish
        return Exchange(self._host, client, context, wish, ticket)
