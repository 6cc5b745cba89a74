"""
The daemon's end of the control socket: a line of JSON in, lines of JSON out, the last one ``final``.

Documented for other programs in docs/control-protocol.md.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal

from ..errors import SupervisorError
from ..plan.types import LaunchPlan
from ..plan.wire import ANOTHER_VERSION, from_json, to_json
from ..server.address import url_of
from ..server.lifecycle import Outcome
from ..server.server import Server
from ..server.table import State
from .control_request import ControlRequest, read_request
from .front import Front
from .listener import LONGEST_LINE
from .status import status_of

PROTOCOL = 1
REPEAT_SECONDS = 2.0  # memory and uptime change without a transition; and silence means that we hang
_PROMISE = {"again_seconds": REPEAT_SECONDS}
Message = dict[str, Any]


class Control:
    """
    Answers requests about one server; ``news`` are of its engine, ``shut_down(now)`` ends the daemon.

    ``front`` is asked about the plan's door, and what clients do.
    """

    def __init__(
        self,
        server: Server,
        daemon: Callable[[], Message],
        news: Callable[[], Message | None],
        shut_down: Callable[[bool], asyncio.Future[Outcome]],
        front: Front,
    ) -> None:
        self._server = server
        self._daemon = daemon
        self._news = news
        self._shut_down = shut_down
        self._front = front
        self._changed = asyncio.Event()
        self._answering: set[asyncio.Task[None]] = set()
        self._over = False

    async def finish(self) -> None:
        """Let those who wait for an outcome have it; those who only watch have seen the last of it."""
        self._over = True
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
        with suppress(ConnectionError):
            try:
                async for message in self._answer(await _line(reader)):
                    writer.write(json.dumps(message).encode() + b"\n")
                    await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    async def _answer(self, line: bytes) -> AsyncIterator[Message]:
        try:
            request = read_request(line)
            if request.protocol != PROTOCOL and request.op != "stop":  # what the hint says has to work
                yield {"error": f"This daemon speaks protocol {PROTOCOL}.", "hint": ANOTHER_VERSION}
                return
        except ValueError as error:
            at_most = f"(at most {LONGEST_LINE} bytes of JSON)"
            yield {"error": f"Not a request that this daemon knows {at_most}: {error}."}
            return
        async for message in self._operations()[request.op](request):
            yield message

    def _operations(self) -> dict[str, Callable[[ControlRequest], AsyncIterator[Message]]]:
        return {
            "status": self._status,
            "watch": self._watch,
            "wait": self._wait,
            "start": self._start,
            "reload": self._start,  # but for a plan with the digest of the one that serves
            "load": self._load,
            "unload": self._unload,
            "stop": self._stop,
            "running": self._running,
            "requests": self._requests,
        }

    async def _status(self, _: ControlRequest) -> AsyncIterator[Message]:
        yield {"status": self._both(), "final": True}

    async def _watch(self, _: ControlRequest) -> AsyncIterator[Message]:
        while not self._over:
            changed = self._changed
            yield self._on_the_way()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), REPEAT_SECONDS)

    async def _wait(self, _: ControlRequest) -> AsyncIterator[Message]:
        async for message in self._until(self._server.settled()):
            yield message

    async def _start(self, request: ControlRequest) -> AsyncIterator[Message]:
        """Start, restart and switch are one thing: run this plan in place of whatever runs."""
        try:
            sent = from_json(request.plan)
            plan = await self._front.admit(self._server, sent, by_request=request.by_request)
        except SupervisorError as error:
            yield {"error": str(error), "hint": error.hint}
            return
        if request.op == "reload" and self._runs_already(plan):
            self._server.renew(plan)
            yield {"outcome": {"result": "unchanged", "profile": plan.profile}, "final": True}
            return
        sleeps_on = request.op == "reload" and self._server.state is State.SLEEPING
        async for message in self._until((self._server.rest if sleeps_on else self._server.start)(plan)):
            yield message

    def _runs_already(self, plan: LaunchPlan) -> bool:
        running = self._server.plan
        settled = self._server.is_serving or self._server.state is State.SLEEPING
        return settled and running is not None and running.digest == plan.digest

    async def _load(self, _: ControlRequest) -> AsyncIterator[Message]:
        """Where it serves, its idle time starts anew."""
        life = self._server.lifecycle
        if self._server.is_serving and life.plan is not None:
            self._front.keep_warm()
            result: Literal["ready", "degraded"] = "degraded" if life.state is State.DEGRADED else "ready"
            yield self.about(Outcome(result, life.why, profile=life.plan.profile))
            return
        async for message in self._until(self._server.wake()):
            yield message

    async def _unload(self, _: ControlRequest) -> AsyncIterator[Message]:
        async for message in self._until(self._server.sleep()):
            yield message

    async def _stop(self, request: ControlRequest) -> AsyncIterator[Message]:
        async for message in self._until(self._shut_down(request.now)):
            yield message

    async def _running(self, _: ControlRequest) -> AsyncIterator[Message]:
        """
        What runs, with what may be secret: for ``ask``, ``restart``, ``reload`` and an engine's update.

        The socket is 0600, and the secrets are its user's own.
        """
        plan = self._server.plan
        yield {
            "profile": plan.profile if plan else None,
            "settings": dict(plan.settings) if plan else {},
            "url": url_of(plan) if plan else None,
            "key": self._front.key(plan) if plan else "",
            "plan": to_json(plan) if plan else None,
            "final": True,
        }

    async def _requests(self, request: ControlRequest) -> AsyncIterator[Message]:
        """The last requests after number ``since``, and with ``follow`` those that come."""
        activity, number, last = self._front.activity, request.since, request.last
        if activity is None:
            yield {"error": "There is no gateway.", "hint": "gateway: on in the profile, then restart"}
            return
        heard = True
        while not self._over:
            events = activity.changed, self._changed  # taken before the look: what comes meanwhile sets them
            found = [asdict(each) for each in activity.since(number, last)]
            last, number = None, activity.count
            if found or not request.follow or not heard:
                yield {"requests": found, "final": not request.follow, **_PROMISE}
            if not request.follow:
                return
            heard = await _either(*events)

    async def _until(self, decided: asyncio.Future[Outcome]) -> AsyncIterator[Message]:
        """Every change on the way, then the outcome."""
        while not decided.done():
            changed: asyncio.Future[Any] = asyncio.ensure_future(self._changed.wait())
            yield self._on_the_way()
            await asyncio.wait(
                [decided, changed], return_when=asyncio.FIRST_COMPLETED, timeout=REPEAT_SECONDS
            )
            changed.cancel()
        yield self.about(decided.result())

    def about(self, outcome: Outcome) -> Message:
        """The final message about a request that was decided."""
        return {"outcome": asdict(outcome), "status": self._both(), "final": True}

    def _on_the_way(self) -> Message:
        return {"status": self._both(), **_PROMISE}

    def _both(self) -> Message:
        plan = self._server.plan
        has_door = plan is None or plan.door is not None  # one of an earlier plan is shut
        return {
            "schema": 1,
            "daemon": self._daemon(),
            "server": status_of(self._server),
            "gateway": self._front.about() if has_door else None,
            "update": self._news(),
        }


async def _either(*events: asyncio.Event) -> bool:
    """Whether one of them was set, rather than `REPEAT_SECONDS` being over."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    heard, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=REPEAT_SECONDS)
    for each in waits:
        each.cancel()
    return bool(heard)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # longer than any request
        return b""
