"""The daemon's end of the control socket: a line of JSON in, lines of JSON out, the last one ``final``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import SupervisorError
from ..fleet.decisions import Evict, NoRoom, WaitFor
from ..fleet.fleet import Fleet
from ..plan.listen import url_of
from ..plan.plan_json import ANOTHER_VERSION, from_json, listen_from_json, listen_to_json, to_json
from ..server.hardware_watch import HardwareWatch
from ..server.instance import Instance
from ..server.lifecycle_table import State
from ..server.outcome import Launching, Outcome
from ..server.shortage import is_ours
from .control_listener import LONGEST_LINE, line_of
from .control_request import READING, ControlRequest, Operation, read_request
from .gateway_listener import GatewayListener
from .holds import Holds
from .jobs import Jobs
from .loads import Loads
from .status_document import memories_of, memory_of_loaded, plans_of, served, status_of

PROTOCOL = 1
REPEAT_SECONDS = 2.0  # memory and uptime change without a transition; and silence means that we hang
_PROMISE = {"again_seconds": REPEAT_SECONDS}
ControlMessage = dict[str, Any]
Connection = tuple[asyncio.StreamReader, int]  # that a request came by, with its descriptor


class Control:
    """
    Answers requests about the servers; ``update_check`` is the last one, ``shut_down(now)`` ends the daemon.
    ``gateway`` is asked to launch plans with their address, and about what clients do; ``loads`` to run
    others next to the main server; ``hardware`` how full the memories are.  The owner sets ``upgrade``.
    """

    upgrade: Callable[[tuple[str, ...], int], AsyncIterator[ControlMessage]]

    def __init__(  # noqa: PLR0917 - the seven things that it connects
        self,
        fleet: Fleet,
        daemon: Callable[[], ControlMessage],
        update_check: Callable[[], ControlMessage | None],
        shut_down: Callable[[bool], asyncio.Future[Outcome]],
        gateway: GatewayListener,
        loads: Loads,
        hardware: HardwareWatch | None = None,
    ) -> None:
        self._fleet, self._loads, self._gateway = fleet, loads, gateway
        self.hardware = hardware or HardwareWatch(lambda: plans_of(fleet))
        self.holds = Holds(fleet, gateway, loads, self.changed)
        loads.place = self.holds.place
        self.jobs = Jobs(self.changed)
        self._daemon = daemon
        self._update_check = update_check
        self._shut_down = shut_down
        self._changed = asyncio.Event()
        self._answering: set[asyncio.Task[None]] = set()
        self.changing: list[Operation] = []  # requests under way that change something, or hold a server
        self._over = False

    async def finish(self) -> None:
        """Let those who wait for an outcome have it; those who only watch have seen the last of it."""
        self._over = True
        self.holds.finish()
        await self.jobs.finish()
        self.changed()
        if self._answering:
            _, late = await asyncio.wait(self._answering, timeout=1.0)
            for task in late:
                task.cancel()

    def changed(self) -> None:
        """Wake everybody who watches."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, its answer, closed."""
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        with suppress(ConnectionError, asyncio.CancelledError):  # by `finish` or `let_go`: it is over anyway
            try:
                connection = reader, writer.get_extra_info("socket").fileno()
                async for message in self._answer(await line_of(reader), connection):
                    writer.write(json.dumps(message).encode() + b"\n")
                    await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    async def _answer(self, line: bytes, connection: Connection | None) -> AsyncIterator[ControlMessage]:
        try:
            request = read_request(line)
        except ValueError as error:
            at_most = f"(at most {LONGEST_LINE} bytes of JSON)"
            yield {"error": f"Not a request that this daemon knows {at_most}: {error}."}
            return
        if request.protocol != PROTOCOL and request.op != "stop":  # what the hint says has to work
            yield {"error": f"This daemon speaks protocol {PROTOCOL}.", "hint": ANOTHER_VERSION}
            return
        operation = self._operations(connection)[request.op]
        under_way = [] if request.op in READING else self.changing
        under_way.append(request.op)
        try:
            if request.op != "release":
                self.holds.expect(request)
            async for message in operation(request):
                yield message
        except SupervisorError as error:
            yield {"error": str(error), "hint": error.hint, "exit_code": error.exit_code}
        except OSError as error:
            if not is_ours(error):
                raise
            yield {"error": f"The daemon cannot do this now: {error.strerror}.", "hint": "Try it again."}
        finally:
            under_way.remove(request.op)

    def let_go(self) -> None:
        """In a copy (see `upgrade`): answer no request any more."""
        self.hardware.let_go()
        self._over = True
        self.changed()
        for task in self._answering - {asyncio.current_task()}:
            task.cancel()

    def _operations(
        self, connection: Connection | None
    ) -> dict[str, Callable[[ControlRequest], AsyncIterator[ControlMessage]]]:
        return {
            "hold": partial(self._hold, connection),
            "upgrade": lambda request: self.upgrade(request.program, connection[1] if connection else -1),
            "status": self._status,
            "watch": self._watch,
            "wait": lambda request: self._until(self._named(request).server.settled()),
            "start": self._start,
            "reload": self._start,  # but for a plan with the digest of the one that serves
            "load": self._load,
            "unload": self._unload,
            "stop": self._stop,
            "release": self._release,
            "quiet": self._quiet,
            "room": self._room,
            "running": self._running,
            "requests": self._requests,
            "pin": self._pin,
            "code": self._code,
            "usage": self._usage,
            **self.jobs.operations(),
        }

    async def _status(self, _: ControlRequest) -> AsyncIterator[ControlMessage]:
        await self.hardware.recent()
        yield {"status": self.status(), "final": True}

    async def _watch(self, _: ControlRequest) -> AsyncIterator[ControlMessage]:
        while not self._over:
            changed = self._changed
            await self.hardware.recent()
            yield self._on_the_way()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), REPEAT_SECONDS)

    async def _start(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        """Start, restart and switch are one thing: run this plan in place of what the server runs."""
        plan = self.holds.trial(request, from_json(request.plan))
        listen = listen_from_json(request.listen) if request.listen else None
        instance, reloads = await self._free(request), request.op == "reload"
        if reloads and instance.server.state is State.SLEEPING and listen is None:
            decided = instance.server.reload(plan)  # it goes on sleeping, so it needs no memory
        elif instance is self._fleet.main:
            if (other := self._fleet.having(plan.profile)) is not None:
                self.holds.refuse(other, request)  # the main server would take it over
            decided = await self.holds.launch(request, self._gateway.launch(plan, listen, reload=reloads))
            if listen is not None:
                self._loads.load_offers(listen, decided)
        else:
            loading = self._loads.run_beside(plan, again=not reloads, evicts=request.evicts)
            decided = await self.holds.launch(request, loading)
        async for message in self._until(decided, plan.profile):
            yield message

    async def _load(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        """A plan beside what runs, or what a server has; where it serves, its idle time starts anew."""
        by_request, alone, evicts = request.by_request, request.alone, request.evicts
        if request.plan:
            plan = from_json(request.plan)
            self._gateway.refuse_at_the_end(plan)
            profile = plan.profile
            load = partial(self._loads.run_beside, plan, by_request=by_request, alone=alone, evicts=evicts)
        else:
            instance = self._named(request)
            profile = instance.profile
            load = partial(self._loads.wake, instance, alone=alone, evicts=evicts)
        loading = self.holds.place(profile, load, by_request=by_request, hold=request.hold)
        async for message in self._once(loading, profile):
            yield message

    async def _unload(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        instance = await self._free(request)
        self.holds.changes(request)
        self._loads.admission.give_up("superseded by an unload", instance, by_request=False)
        async for message in self._until(instance.server.sleep(), instance.profile):
            yield message

    def _stop(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        """The daemon with all its servers, or one of them."""
        if request.server is not None:
            instance = self._named(request)
            self.holds.stopped(instance, request)
            self._loads.admission.give_up("superseded by a stop", instance)
            return self._until(instance.server.stop(now=request.now), instance.profile)
        return self._until(self._shut_down(request.now))

    async def _hold(
        self, connection: Connection | None, request: ControlRequest
    ) -> AsyncIterator[ControlMessage]:
        """Keep a server for the owner of this connection, until that closes or the daemon is stopped."""
        assert connection is not None  # a page may not ask for it
        found = self.holds.begin(request, connection[0])
        if not found.hold.polite:  # for requests nothing is loaded now (see `Holds.place`)
            self._loads.admission.give_up(f"superseded by {found.hold.owner}", by_person=False)
        yield {"held": found.hold.id, "server": found.instance.name, "measures": found.hold.measures}
        assert found.life is not None
        await asyncio.wait([found.life])

    async def _release(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        """End a hold: every change on the way, then what could not be put back."""
        putting_back = self.holds.release(request)
        while not putting_back.done():
            changed = self._changed
            yield self._on_the_way()
            await _first(putting_back, changed)
        yield {"problems": putting_back.result(), "final": True}

    async def _quiet(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        """Until no request of others disturbs the owner of this hold."""
        while count := self.holds.others(request):
            activity = self._gateway.activity
            events = [self._changed, *([activity.changed] if activity else [])]
            yield {"others": count, **_PROMISE}
            await _first(*events)
        yield {"others": 0, "final": True}

    async def _room(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        """What a load of this plan would unload now, and which of those answer requests."""
        decision = await self._loads.admission.foresee(self._named(request), from_json(request.plan))
        names = decision.names if isinstance(decision, Evict | WaitFor) else ()
        yield {
            "unloads": names,
            "refusal": decision.why if isinstance(decision, NoRoom) else "",
            "final": True,
        }

    async def _running(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        """With its secrets, for commands of ours: the socket is 0600, and they are its user's own."""
        plan, listen = self._named(request).server.plan, self._gateway.listen
        pinned = filter(self._loads.admission.is_pinned, self._fleet)
        stays = [each for each in pinned if each.profile != request.replaces]
        yield {
            "profile": plan.profile if plan else None,
            "settings": dict(plan.settings) if plan else {},
            "url": url_of(plan, listen) if plan else None,
            "key": self._gateway.key(plan) if plan else "",
            "plan": to_json(plan) if plan else None,
            "listen": listen_to_json(listen) if listen else None,
            **memory_of_loaded(self._fleet, stays),
            "own": dict(self._loads.survivors.memory_of(request.replaces)),
            "final": True,
        }

    async def _requests(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        """The last requests after number ``since``, and with ``follow`` those that come."""
        activity, number, last = self._gateway.activity, request.since, request.last
        if activity is None:
            yield {"error": "There is no gateway.", "hint": "gateway: on in the profile, then restart"}
            return
        has_events = True
        while not self._over:
            events = activity.changed, self._changed  # before the look: what comes meanwhile sets them
            found = [asdict(each) for each in activity.since(number, last)]
            last, number = None, activity.count
            if found or not request.follow or not has_events:
                final = {"final": not request.follow, **_PROMISE}
                about = {"waiting": self._gateway.waiting, "active": self._gateway.active}
                yield {"requests": found, **about, **final}
            if not request.follow:
                return
            has_events = await _first(*events)

    async def _pin(self, request: ControlRequest) -> AsyncIterator[ControlMessage]:
        await self._gateway.pin(request.server, pinned=request.pinned)
        self._loads.admission.changed()
        self.changed()
        yield {"status": self.status(), "final": True}

    async def _code(self, _: ControlRequest) -> AsyncIterator[ControlMessage]:
        """For `goss-supervisor open`: its user has a session of the page without a key."""
        yield {**self._gateway.page_link(), "final": True}

    async def _usage(self, _: ControlRequest) -> AsyncIterator[ControlMessage]:
        """For commands that read the file."""
        await self._gateway.write_usage()
        yield {"final": True}

    async def _once(self, launching: Launching, profile: str) -> AsyncIterator[ControlMessage]:
        """As `_until`, also while it waits for memory."""
        task = asyncio.ensure_future(launching)
        try:
            while not task.done():
                changed = self._changed
                awaited = [each for each in self._loads.admission.awaited if each.profile == profile]
                yield ({"awaits": asdict(awaited[0])} if awaited else {}) | _PROMISE
                await _first(task, changed)
        finally:
            task.cancel()  # whoever asked has gone
        async for message in self._until(task.result(), profile):
            yield message

    async def _until(
        self, decided: asyncio.Future[Outcome], profile: str = ""
    ) -> AsyncIterator[ControlMessage]:
        """Every change on the way, then the outcome."""
        while not decided.done():
            changed = self._changed
            yield self._on_the_way(profile)
            await _first(decided, changed)
        yield self.about(decided.result())

    def about(self, outcome: Outcome) -> ControlMessage:
        """The final message about a request that was decided."""
        return {"outcome": asdict(outcome), "status": self.status(outcome.profile), "final": True}

    def _named(self, request: ControlRequest) -> Instance:
        """The server that a request is about.  Raises NotFound."""
        return self._fleet.get(request.server)

    async def _free(self, request: ControlRequest) -> Instance:
        """The same.  Raises as `Holds.refuse` does."""
        instance = self._named(request)
        await self.holds.admit(instance, request)
        return instance

    def _on_the_way(self, profile: str = "") -> ControlMessage:
        return {"status": self.status(profile), **_PROMISE}

    # --- for the page (see `PageOwner`)

    @property
    def happened(self) -> object:
        return self._changed

    def log_of(self, server: str) -> Path:
        return self._fleet.get(server).server.output.path

    def control(self, request: Mapping[str, Any]) -> AsyncIterator[ControlMessage]:
        return self._answer(json.dumps({"protocol": PROTOCOL, **request}).encode(), None)

    def status(self, profile: str = "") -> ControlMessage:
        """``server`` is the one of this profile; else the main one, as in schema 1, for one release."""
        seen = [each for each in self._fleet if each.profile or each is self._fleet.main]
        at, admission = self._gateway, self._loads.admission
        servers = [status_of(each, at.listen, at.context_use(each.name)) for each in seen]
        return {
            "schema": 2,
            "daemon": self._daemon(),
            "servers": servers,
            "server": next((each for each in servers if profile and each["profile"] == profile), servers[0]),
            "served": served(at.listen, self._loads.state_of),
            "memory": memories_of(self._fleet, admission.held_plan, servers, self.hardware.devices()),
            "loads_waiting": [asdict(each) for each in admission.awaited],
            "gateway": at.about(),
            "jobs": self.jobs.listed(results=False),
            "update": self._update_check(),
        }


async def _first(*awaited: asyncio.Event | asyncio.Future[Any]) -> bool:
    """Whether one of them came about, before what was promised (`REPEAT_SECONDS`) was over."""
    waits: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(each.wait() if isinstance(each, asyncio.Event) else asyncio.wait([each]))
        for each in awaited
    ]
    done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=REPEAT_SECONDS)
    for wait in waits:
        wait.cancel()
    return bool(done)
