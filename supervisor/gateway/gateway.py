"""
The gateway: one address for clients that survives restarts and switches of the server behind it.

It holds the connections (`client_connection`), the requests (`exchange`) and the one queue (`scheduler`), and
carries out what the queue decides.  The daemon calls it when the server's state changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ..plan.listen import Listen
from ..profile.definition import GatewaySettings as Settings
from ..server.lifecycle_table import State
from .api import body as parameters
from .api.body import text_of, top_level
from .api.routes import Trouble, model_of
from .auth.guard import RequestContext, judge
from .auth.keys import Keyring
from .backends import Backend
from .endpoints import Endpoints, no_model, progress
from .exchange import Exchange, Wish, record, refused
from .http_heads import Head
from .listener import Listener
from .relay.client_connection import RETRY_SECONDS, ClientConnection, Connections
from .relay.decoded_response import ModelName
from .relay.upstream import ConnectionPool
from .scheduler import Action, Go, Refuse, Scheduler, ServerPhase, Situation, Switch, Ticket, Wake
from .telemetry.activity import Activity, RequestRecord
from .telemetry.metrics import RequestFigures

log = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
GOODBYE_SECONDS = 1.0  # for the last bytes to go out
ANNOUNCE_AFTER_SECONDS = 2.0  # before a waiting stream gets progress messages
_PHASES: dict[State, ServerPhase] = {
    State.READY: "serving",
    State.DEGRADED: "serving",
    State.SLEEPING: "asleep",
    State.FAILED: "down",
    State.STOPPED: "ending",
}
_INDENT_BYTES = 64  # before the first bracket of a JSON body
_CUTS = frozenset((State.STOPPING, State.KILLING))


class Gateway:
    """``switch`` is asked to run another profile; what it says in the end comes back by `switched`."""

    def __init__(self, server: Backend, keyring: Keyring, switch: Callable[[str], None]) -> None:
        self.activity = Activity()
        self.figures = RequestFigures()
        self.pool = ConnectionPool()
        self.keyring = keyring
        self._server = server
        self._switch = switch
        self._loop = asyncio.get_running_loop()
        self._scheduler = Scheduler(Settings())
        self._exchanges: dict[Ticket, Exchange] = {}
        self._connections = Connections(self._sweep_on)
        self._tasks: set[asyncio.Task[None]] = set()
        self._endpoints = Endpoints(server, self.figures, self.counts, self.touch)
        self._listener = Listener(keyring, self._connection)
        self._timer: asyncio.TimerHandle | None = None  # of the sweep
        self._queue_timer: asyncio.TimerHandle | None = None
        self._last_use = self._loop.time()
        self._is_ending = False
        self._phase: ServerPhase = "coming"
        self._serving_since = 0.0

    # --- the address

    async def open(self, listen: Listen) -> None:
        """Let clients in there.  Raises StartFailed and ConfigError, and then all is as it was."""
        await self._listener.open(listen)
        self._scheduler.settings = self._connections.settings = listen.settings
        offered = {offer.profile for offer in self._listener.offers}
        for ticket in self._scheduler.waiting:
            if ticket.profile not in offered:
                ticket.profile = ""  # what it asked for is not offered any more
        self._sweep_on()

    @property
    def is_open(self) -> bool:
        """Whether clients can come in."""
        return self._listener.is_open

    def close(self) -> None:
        """No new connections; those that are there go on."""
        self._listener.close()

    def _connection(self) -> ClientConnection:
        return ClientConnection(self, self._connections, self._loop)

    def begin_to_end(self) -> None:
        """The daemon is being stopped: accept no new requests, and refuse those that wait."""
        self._is_ending = True
        self.close()
        self.changed()

    async def finish(self) -> None:
        """The server is gone: say goodbye to who is still connected."""
        for exchange in list(self._exchanges.values()):
            exchange.fail(_ENDING)
        await self._connections.say_goodbye(GOODBYE_SECONDS)
        for timer in (self._timer, self._queue_timer):
            if timer:
                timer.cancel()
        self.pool.aim(None)

    @property
    def settings(self) -> Settings:
        return self._scheduler.settings

    def counts(self) -> tuple[int, int, int]:
        """Requests under way, requests that wait, connections."""
        return len(self._scheduler.under_way), len(self._scheduler.waiting), len(self._connections)

    def under_way(self) -> int:
        return len(self._scheduler.under_way)

    def touch(self) -> None:
        """Somebody uses the model, or wants it kept."""
        self._last_use = self._loop.time()

    # --- the server

    def changed(self) -> None:
        """The server is in another state."""
        state, now = self._server.state, self._loop.time()
        self.pool.aim(self._server.target)
        phase = "ending" if self._is_ending else _PHASES.get(state, "coming")
        if phase == "serving" != self._phase:
            self._serving_since = now
            self.touch()
        self._phase = phase
        plan = self._server.plan
        self._listener.follow(plan)
        profile = plan.profile if plan else ""
        situation = Situation(phase, profile, self._server.launch, self._serving_since)
        self._act(self._scheduler.change(situation, now, self._server.name))
        if state in _CUTS:  # after the queue knows: it lets nobody go there for one who is cut
            self._cut()
        self._let_drain()

    def _cut(self) -> None:
        """It goes; who is still being answered has had the time that there was."""
        why = self._server.why or "the server is being stopped"
        for ticket in list(self._scheduler.under_way):
            self._exchanges[ticket].cut(f"The answer was cut off: {why.rstrip('.')}.")

    def _let_drain(self) -> None:
        if self._server.state is State.DRAINING and not self._scheduler.under_way:
            self._server.drained()

    def switched(self, profile: str, why: str) -> None:
        """A switch that a request caused is over; ``why`` is "" where it came about."""
        active = self._server.plan.profile if self._server.plan else ""
        if not why and active != profile:
            why = f"{active} was asked for meanwhile"
        self._act(self._scheduler.switched(profile, why, self._loop.time()))

    def why_lost(self) -> str:
        failure = self._server.failure
        if failure is None or self._server.is_serving:
            return "it died, or gave up this request"  # the connection's end is seen before the exit
        return failure.message

    # --- requests

    def greet(self, head: Head) -> RequestContext:
        at = self._listener
        context = judge(head, at.prefix, at.rules, self.keyring)
        if context.trouble is not None:
            self._note(refused(head, context, context.trouble))
        return context

    def receive(
        self, client: ClientConnection, head: Head, body: bytes, context: RequestContext
    ) -> Exchange | None:
        if context.is_preflight:
            client.reply((204, b"", b""))
            return None
        if context.route.handler is not None:
            task = self._loop.create_task(self._answer_ourselves(client, head, context))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return None
        is_json = body[:_INDENT_BYTES].lstrip().startswith(b"{")
        asked = (text_of(top_level(body, b"model")) if is_json else None) or ""
        meant = self._listener.names.meant(asked)
        if meant is None:
            trouble = no_model(asked)
            self._note(refused(head, context, trouble, asked))
            client.refuse(trouble, keep_alive=head.persists)
            return None
        wish = Wish(head, body, asked, meant.effort)
        ticket = Ticket(
            self._loop.time(),
            self._profile_for(meant.profile),
            generates=context.route.generates,
            wakes=context.route.wakes,
        )
        return Exchange(self, client, context, wish, ticket)

    def _profile_for(self, profile: str | None) -> str:
        """Without switching on request, requests for another profile get the active one."""
        return profile if profile and self.settings.switch_on_request else ""

    async def _answer_ourselves(self, client: ClientConnection, head: Head, context: RequestContext) -> None:
        assert context.route.handler is not None
        at = self._listener
        model = model_of(head.path, at.prefix)
        try:
            found = await self._endpoints.answer(context.route.handler, at.offers, model)
        except Exception:  # a client that waits in vain would not tell us of it
            log.exception("%s cannot be answered", context.route.label)
            found = Trouble(500, "internal_error", "goss-supervisor failed to answer; its log tells why.")
        if isinstance(found, Trouble):
            client.refuse(found, keep_alive=head.persists)
        else:
            client.reply(found)

    def body_for(self, exchange: Exchange) -> bytes:
        """The body as the profile that answers wants it."""
        wish, route, plan = exchange.wish, exchange.context.route, self._server.plan
        if plan is None or not parameters.needs_rewrite(wish.body, plan.parameters, wish.effort, route):
            return wish.body
        return parameters.rewrite(wish.body, plan.parameters, wish.effort, route)

    def model_name(self) -> ModelName | None:
        plan = self._server.plan
        given = plan.parameters if plan else None
        return ModelName(given.upstream_model, given.public_model) if given and given.upstream_model else None

    # --- the queue

    def arrive(self, exchange: Exchange) -> None:
        self._exchanges[exchange.ticket] = exchange
        if exchange.ticket.generates:
            self.touch()
        self._act(self._scheduler.arrive(exchange.ticket, self._loop.time()))
        exchange.has_waited = exchange.went_at is None

    def come_again(self, exchange: Exchange, seconds: float) -> None:
        now = self._loop.time()
        exchange.has_waited = True
        exchange.ticket.lost_launch = self._server.launch
        exchange.ticket.not_before = now + seconds
        self._act(self._scheduler.come_again(exchange.ticket, now))

    def end(self, exchange: Exchange) -> None:
        del self._exchanges[exchange.ticket]
        now = self._loop.time()
        if exchange.ticket.generates:
            self.touch()
        self._note(record(exchange, now, self._server.plan))
        self._act(self._scheduler.end(exchange.ticket, now))
        self._let_drain()

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Go(ticket):
                    self._exchanges[ticket].go()
                case Refuse():
                    self._exchanges[action.ticket].fail(self._why_refused(action), "refused")
                case Wake():
                    self._server.wake()
                case Switch(profile):
                    log.info("switching to %s: a request asks for it", profile)
                    self._switch(profile)
        self._arm()

    def _why_refused(self, refusal: Refuse) -> Trouble:
        match refusal.reason:
            case "full":
                many = len(self._scheduler.waiting)
                return Trouble(
                    429, "queue_full", f"{many} requests wait already.", retry_seconds=RETRY_SECONDS
                )
            case "late":
                seconds = self.settings.hold_timeout_seconds
                why = self._server.why or self._server.state.value
                return Trouble(
                    503, "not_ready", f"No server was ready within {seconds:g} s: {why.rstrip('.')}."
                )
            case "down":
                return self._endpoints.why_down()
            case "ending":
                return _ENDING
            case "asleep":
                return Trouble(503, "asleep", "The model is unloaded; a request to it loads it.")
            case "switch":
                return Trouble(503, "switch_failed", f"{refusal.ticket.profile} cannot run: {refusal.why}")

    # --- time

    def _arm(self) -> None:
        """The queue's own clock; the sweep is too coarse for it."""
        if self._queue_timer is not None:
            self._queue_timer.cancel()
        due = self._scheduler.next_time(self._loop.time()) if self._scheduler.waiting else None
        self._queue_timer = self._loop.call_at(due, self._tick) if due is not None else None

    def _tick(self) -> None:
        self._act(self._scheduler.tick(self._loop.time()))

    def _sweep_on(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Once a second while anybody is there: late clients, those who wait, an idle model."""
        self._timer = None
        now = self._loop.time()
        if self._connections or self.settings.idle_unload_seconds:
            self._sweep_on()
        self._connections.expire(now)
        self._tick()
        self._announce_progress(now)
        self._unload_if_idle(now)

    def _announce_progress(self, now: float) -> None:
        if not self.settings.loading_state:
            return
        text = ""
        for place, ticket in enumerate(self._scheduler.waiting, 1):
            exchange, waited = self._exchanges[ticket], now - ticket.arrived
            if waited >= ANNOUNCE_AFTER_SECONDS and exchange.accepts_progress:
                text = text or progress(self._server)  # asks the kernel, so once for all of them
                exchange.announce(f"{text}; {waited:.0f} s, place {place}")

    def _unload_if_idle(self, now: float) -> None:
        idle = self.settings.idle_unload_seconds
        busy = self._scheduler.under_way or self._scheduler.waiting
        if self._server.is_held:
            self.touch()
        elif idle and self._phase == "serving" and not busy and now - self._last_use >= idle:
            log.info("idle for %.0f s: unloading the model", now - self._last_use)
            self._server.sleep()

    # --- the books

    def _note(self, request: RequestRecord) -> None:
        self.activity.add(request)
        self.figures.count(request)


_ENDING = Trouble(503, "stopping", "goss-supervisor is being stopped.")
