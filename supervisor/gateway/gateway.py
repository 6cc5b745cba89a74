"""
The gateway: one address for clients that survives restarts and switches of the servers behind it.

It holds the connections (`client_connection`), the requests (`exchange`) and the one queue (`scheduler`), and
carries out what the queue decides.  The daemon calls it when a server's state changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial

from ..plan.listen import Listen, Offer
from ..profile.definition import GatewaySettings as Settings
from ..server.lifecycle_table import State
from .auth.guard import RequestContext, judge
from .auth.keys import Keyring
from .auth.limits import KeyLimiter
from .auth.page_sessions import PageSessions
from .backends import Backend, Backends, GatewayOwner, PageOwner, profile_of
from .context_budget import ContextBudgets, count
from .copies import CopiedRequest, Copies
from .endpoints import ENDING, Endpoints, why_refused
from .exchange import Exchange, Outgoing, to_server
from .http_heads import Head
from .listener import Listener
from .model_states import ModelStates
from .pages.page_endpoints import PageEndpoints
from .peers import Peers
from .reception import Reception
from .relay.client_connection import AskedOf, ClientConnection
from .relay.connections import Connections, Handshake
from .relay.upstream import ConnectionPool
from .request_record import RefusedKeys, RequestBooks
from .scheduler import Action, ContextUse, CountPrompt, Go, LoadProfile, Refuse, Scheduler, Ticket
from .server_use import ServerUses
from .successor import Successor
from .telemetry.activity import Activity, RequestRecord
from .telemetry.metrics import RequestFigures
from .waiting import RequestsNow, with_hold

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
GOODBYE_SECONDS = 1.0  # for the last bytes to go out
_CUTS = frozenset((State.STOPPING, State.KILLING))


class Gateway:
    """One for each daemon; its owner calls `changed` after each change of a server."""

    def __init__(self, keyring: Keyring, owner: GatewayOwner, page: PageOwner) -> None:
        self.activity, self.figures = Activity(), RequestFigures()
        limiter = KeyLimiter(self.figures.usage.tokens_on)
        self.keyring = keyring
        self._owner = owner
        self.loop = asyncio.get_running_loop()
        self._refused_keys = RefusedKeys(self.loop.time)
        self._scheduler = Scheduler(Settings())
        self.uses = ServerUses(self.loop)
        self._budgets = ContextBudgets()
        self._exchanges: dict[Ticket, Exchange] = {}
        self._connections = Connections(self._sweep_on)
        self._tasks: set[asyncio.Task[None]] = set()
        self.listener = Listener(keyring, self.connected, partial(Handshake, self._connections))
        self.backends = Backends(self.listener.chats)
        self._models = ModelStates(self.backends, lambda: self.listener.offers, owner.load)
        asked = self.uses.touch, self._models, self.context_use, page.hardware
        self._endpoints = Endpoints(self.backends, self.figures, self.counts, *asked)
        self.now = RequestsNow(self._exchanges, self._scheduler, self._server_of, owner, self.loop.time)
        self.sessions = PageSessions(keyring)
        self._pages = PageEndpoints(self, page)
        self._books = RequestBooks(self.activity, self.figures, self._pages.look, self.loop.time)
        self.note_refused = self._books.note_refused
        own = limiter, self._exchanges, self.backends.is_served
        self.peers = Peers(self, lambda each: self._books.note(each, None), *own)
        parts = self._endpoints, self._pages, self._models, self._budgets
        self._reception = Reception(self, limiter, *parts)
        self.copies = Copies(self, self._scheduler.count_in)
        self.successor: Successor | None = None
        self._endpoints.id, self.figures.peers = self.peers.id, self.peers.figures
        self._timer: asyncio.TimerHandle | None = None  # of the sweep
        self._queue_timer: asyncio.TimerHandle | None = None

    # --- the address

    async def open(self, listen: Listen) -> None:
        """Listen there.  Raises StartFailed and ConfigError, and then nothing has changed."""
        await self.listener.open(listen)
        self._scheduler.settings = self._connections.settings = listen.settings
        for server in self.backends:
            self.changed(server)  # it may have another role now
        offered = {offer.profile for offer in self.listener.offers}
        for ticket in self._scheduler.waiting:
            if ticket.profile not in offered:
                ticket.profile = ""  # what it asked for is not offered any more
        self.peers.set(listen.peers)
        self._models.look()
        self._sweep_on()

    @property
    def is_open(self) -> bool:
        return self.listener.is_open

    def close(self) -> None:
        """Accept no new connections; those that are open go on."""
        self.listener.close()

    def connected(self) -> ClientConnection:
        return ClientConnection(self, self._connections, self.loop)

    @property
    def is_ending(self) -> bool:
        """Whether a stop was asked for: each connection closes after its answer, so clients go elsewhere."""
        return self._endpoints.is_ending

    def announce_end(self) -> float:
        """/supervisor/ready tells of the stop from now on.  Gives the seconds until `begin_to_end` is due."""
        self._endpoints.is_ending = True
        serves = self.is_open and any(each.is_serving for each in self.backends)
        return self.settings.stop_notice_seconds if serves else 0.0

    def begin_to_end(self) -> None:
        """The daemon is being stopped: accept no new requests, and refuse those that wait."""
        self.announce_end()
        self.close()
        self._act(self._scheduler.begin_to_end(self.loop.time()))

    async def finish(self) -> None:
        """Called when all servers have stopped."""
        for exchange in list(self._exchanges.values()):
            exchange.fail(ENDING)
        self.peers.set(())
        self._models.end()
        self._pages.end()
        await self._connections.say_goodbye(GOODBYE_SECONDS)
        for timer in filter(None, (self._timer, self._queue_timer)):
            timer.cancel()
        self.uses.close()

    @property
    def settings(self) -> Settings:
        return self._scheduler.settings

    def counts(self) -> tuple[int, int, int]:
        """Requests under way, requests that wait, connections."""
        waiting = len(self._scheduler.waiting)
        return len(self._exchanges) - waiting + len(self.copies), waiting, len(self._connections)

    @property
    def exchanges(self) -> list[Exchange]:
        """That servers of ours have, or that wait for one."""
        return [each for each in self._exchanges.values() if not each.place]

    def count_at(self, name: str) -> int:
        """How many requests this server answers now."""
        return self._scheduler.count_at(name)

    def is_busy(self, name: str) -> bool:
        return self._scheduler.is_busy(name)

    def waiting_since(self, profile: str) -> float | None:
        return self._scheduler.waiting_since(profile)

    def context_use(self, name: str) -> ContextUse | None:
        return self._scheduler.context_use(name, self.loop.time())

    def offer_of(self, profile: str) -> Offer | None:
        """On what terms this profile is served; None for one that clients may not ask for."""
        return self.listener.offer_of(profile)

    # --- the servers

    def changed(self, server: Backend) -> None:
        """Called when a server's state or plan changed; the first server reported is the main one."""
        self.backends.add(server)
        self.uses.follow(server)
        self.listener.follow(self.backends.plans)
        if self.is_open and self.listener.unloads_idle:
            self._sweep_on()
        if server.plan is not None or server is self.backends.main:
            situation = self.backends.situation_of(server)
            self._budgets.set(situation.profile, situation.context_tokens)
            self._act(self._scheduler.change(situation, self.loop.time(), server.name))
        if server.state in _CUTS:  # after the queue knows: it lets nobody go there for one who is cut
            self._cut(server)
        self._let_drain(server)
        self._models.look()
        self._pages.look()

    def gone(self, name: str) -> None:
        """Forget a server that was stopped."""
        self.backends.remove(name)
        self.uses.pop(name, None)
        self._act(self._scheduler.remove(name, self.loop.time()))
        self._models.look()

    def _cut(self, server: Backend) -> None:
        """It goes; who is still being answered has had the time that there was."""
        why = server.why or "the server is being stopped"
        self._cut_answers(server.name, f"The answer was cut off: {why.rstrip('.')}.")
        self.copies.cut(server.name, f"The answer was cut off: {why.rstrip('.')}.")

    def _cut_answers(self, name: str, why: str) -> None:
        for ticket in [each for each in self._scheduler.under_way if each.server == name]:
            if ticket in self._exchanges:
                self._exchanges[ticket].cut(why)

    def _let_drain(self, server: Backend) -> None:
        if server.state is State.DRAINING and not self._scheduler.count_at(server.name):
            server.drained()

    def loaded(self, profile: str, why: str) -> None:
        """A load that a request caused is over; ``why`` is "" where it came about."""
        self._models.load_ended(profile, why)
        self._act(self._scheduler.loaded(profile, why, self.loop.time()))

    def pool_for(self, exchange: Exchange) -> ConnectionPool:
        return self.uses[exchange.ticket.server].pool

    def doubt(self, exchange: Exchange) -> None:
        self.backends[exchange.ticket.server].look()

    def why_lost(self, exchange: Exchange) -> str:
        return self.backends.why_lost(exchange.ticket.server)

    # --- requests

    def greet(self, head: Head) -> RequestContext:
        context = with_hold(self.judged(head), head, self.backends)
        if context.trouble is not None:
            self._refused_keys.note(context.trouble)
            self.note_refused(head, context, context.trouble)
        return context

    def judged(self, head: Head) -> RequestContext:
        """Who asks, and whether they may."""
        return judge(head, self.listener.prefix, self.listener.rules, self.keyring, self.sessions)

    def receive(
        self, client: ClientConnection, head: Head, body: bytes, context: RequestContext
    ) -> AskedOf | None:
        return self._reception.receive(client, head, body, context)

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Do this in the background."""
        self._tasks.add(task := self.loop.create_task(work))
        task.add_done_callback(self._tasks.discard)

    def request_of(self, exchange: Exchange) -> Outgoing:
        return to_server(exchange.wish.head, self.backends[exchange.ticket.server].plan)

    # --- the queue

    def arrive(self, exchange: Exchange) -> None:
        if self.successor is not None:
            exchange.hand_on()
            return
        self._exchanges[exchange.ticket] = exchange
        if exchange.ticket.generates:
            self._owner.wanted(exchange.ticket.profile or profile_of(self._server_of(exchange.ticket)))
        self._act(self._scheduler.arrive(exchange.ticket, self.loop.time()))
        exchange.has_waited = exchange.went_at is None

    def come_again(self, exchange: Exchange, seconds: float) -> None:
        now, ticket = self.loop.time(), exchange.ticket
        if self.successor is not None:
            self.successor.ended(ticket.number)
            exchange.hand_on()
            return
        exchange.has_waited = True
        ticket.lost_launch = self.backends[ticket.server].launch
        ticket.not_before = now + seconds
        self._act(self._scheduler.come_again(ticket, now))

    def end(self, exchange: Exchange) -> None:
        ticket = exchange.ticket
        del self._exchanges[ticket]
        server = self._server_of(ticket)
        if ticket.server and ticket.generates:
            self.uses.touch(server.name)
        self._budgets.learn(self._books.note(exchange, server.plan), exchange.body)
        self._leave(ticket, server)

    def _leave(self, ticket: Ticket, server: Backend) -> None:
        """It is over."""
        self._act(self._scheduler.end(ticket, self.loop.time()))
        self._let_drain(server)
        if not self._scheduler.is_busy(server.name):
            self._owner.rested()

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Go(ticket):
                    if ticket.generates:
                        self.uses.touch(ticket.server)
                    self._exchanges[ticket].go()
                case Refuse(ticket):
                    server, waiting = self._server_of(ticket), len(self._scheduler.waiting)
                    why = why_refused(action, server, waiting, self.settings.hold_timeout_seconds)
                    self.peers.take_over_or_fail(self._exchanges[ticket], why)
                case CountPrompt(ticket) if ticket in self._exchanges:
                    self.run(self._count(self._exchanges[ticket]))
                case LoadProfile(profile):
                    log.info("%s is to be loaded: a request asks for it", profile)
                    self._models.load(profile)
        self._arm()

    async def _count(self, exchange: Exchange) -> None:
        """One that waits and never fits is refused at once; one that went is the engine's to refuse."""
        at, ticket = self._endpoints, exchange.ticket
        found = await count(exchange, self._server_of(ticket), at.asked, at.context_of, self._budgets)
        if isinstance(found, int):
            self._act(self._scheduler.counted(ticket, found, self.loop.time()))
        elif found is not None and ticket in self._scheduler.waiting:
            exchange.fail(found, "refused")

    def _server_of(self, ticket: Ticket) -> Backend:
        """The one that it went to; else the one that has its profile; else the main one."""
        name = ticket.server if ticket in self._scheduler.under_way else self._scheduler.server_of(ticket)
        return self.backends[name] if name else self.backends.main

    # --- time

    def _arm(self) -> None:
        """The queue's own clock; the sweep is too coarse for it."""
        if self._queue_timer is not None:
            self._queue_timer.cancel()
        due = self._scheduler.next_time(self.loop.time()) if self._scheduler.waiting else None
        self._queue_timer = self.loop.call_at(due, self._tick) if due is not None else None

    def _tick(self) -> None:
        self._act(self._scheduler.tick(self.loop.time()))

    def _sweep_on(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Once a second while anybody is there: late clients, those who wait, an idle model."""
        timer, self._timer = self._timer, None
        now = self.loop.time()
        self._connections.postpone(now - timer.when() if timer else 0.0)
        if self._connections or self.listener.unloads_idle:
            self._sweep_on()
        self._connections.expire(now)
        self._tick()
        if self.settings.loading_state:
            self.now.announce()
        self.uses.unload_idle(self.backends, self._scheduler.is_busy, self.listener.idle_seconds)
        self._models.tick(now)

    # --- upgrades, see `copies`

    def copied(self) -> tuple[CopiedRequest, ...]:
        """What the copy will answer that is made now."""
        return tuple(
            CopiedRequest(each.number, each.server, each.generates, each.charged)
            for each in self._scheduler.under_way
            if each in self._exchanges
        )

    def become_copy(self, fd: int) -> Successor:
        """Called in the copy, with its end of the pair: what is not being answered goes to the daemon."""
        self.successor = self._books.successor = successor = Successor(fd, self._cut_answers)
        self.copies.let_go()
        self.listener.let_go()
        self.uses.close()
        self._models.end()
        self._pages.end()
        for ticket in self._scheduler.waiting:
            self._exchanges.pop(ticket).hand_on()
        self._scheduler.waiting.clear()
        self._connections.hand_on()
        return successor

    async def answered(self) -> None:
        """In a copy: returns when all its clients have their answers, or have gone to the daemon."""
        assert self.successor is not None
        await self._connections.empty.wait()
        await self.successor.finished()

    def count_out(self, ticket: Ticket | None, request: RequestRecord | None) -> None:
        if request is not None:
            self._books.keep(request)
        if ticket is not None:
            self._leave(ticket, self._server_of(ticket))
