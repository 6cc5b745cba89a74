"""
The daemon's end of the control socket: a line of JSON in, lines of JSON out, the last one ``final``.

Documented for other programs in docs/control-protocol.md.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ..errors import SupervisorError
from ..fleet.fleet import Fleet
from ..plan.wire import from_json, listen_from_json, listen_to_json, to_json
from ..server.address import url_of
from ..server.instance import Instance, iso
from ..server.lifecycle import Outcome
from ..server.server import Hold
from .gateway_listener import GatewayListener
from .listener import LONGEST_LINE
from .status import status_of

PROTOCOL = 1
Message = dict[str, Any]


class Control:
    """
    Answers requests about the servers; ``news`` are of their engine, ``shut_down(now)`` ends the daemon.

    ``gateway`` is asked to launch plans with their address, and about what clients do.
    """

    def __init__(
        self,
        fleet: Fleet,
        daemon: Callable[[], Message],
        news: Callable[[], Message | None],
        shut_down: Callable[[bool], asyncio.Future[Outcome]],
        gateway: GatewayListener,
    ) -> None:
        self._fleet = fleet
        self._daemon = daemon
        self._news = news
        self._shut_down = shut_down
        self._gateway = gateway
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
                async for message in self._answer(await _line(reader), reader):
                    writer.write(json.dumps(message).encode() + b"\n")
                    await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    async def _answer(self, line: bytes, reader: asyncio.StreamReader) -> AsyncIterator[Message]:
        try:
            request = json.loads(line)
            if request["protocol"] != PROTOCOL and request["op"] != "stop":  # what the hint says has to work
                yield {"error": f"This daemon speaks protocol {PROTOCOL}.", "hint": _RESTART}
                return
            operation = self._operations()[request["op"]]
        except (ValueError, KeyError, TypeError):
            yield {"error": f"Not a request that this daemon knows (at most {LONGEST_LINE} bytes of JSON)."}
            return
        answers = self._hold(request, reader) if operation is None else operation(request)
        try:
            async for message in answers:
                yield message
        except SupervisorError as error:
            yield {"error": str(error), "hint": error.hint}

    def _operations(self) -> dict[str, Callable[[Message], AsyncIterator[Message]] | None]:
        return {
            "hold": None,  # it watches its connection
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

    async def _status(self, _: Message) -> AsyncIterator[Message]:
        yield {"status": self._both(), "final": True}

    async def _watch(self, _: Message) -> AsyncIterator[Message]:
        while not self._over:
            changed = self._changed
            yield {"status": self._both()}
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), 2.0)  # memory and uptime change without a transition

    async def _wait(self, request: Message) -> AsyncIterator[Message]:
        async for message in self._until(self._named(request).server.settled()):
            yield message

    async def _start(self, request: Message) -> AsyncIterator[Message]:
        """Start, restart and switch are one thing: run this plan in place of whatever runs."""
        try:
            plan = from_json(request["plan"])
            listen = listen_from_json(request["listen"]) if request.get("listen") else None
        except (ValueError, KeyError, TypeError) as error:
            yield {"error": f"The plan cannot be read: {error}.", "hint": _RESTART}
            return
        instance = self._named(request)
        by_request, reload = bool(request.get("by_request")), request["op"] == "reload"
        while by_request and instance.server.hold is not None:
            await self._changed.wait()  # the requests that wait for it have a bound of their own
        _refuse_if_held(instance, request)
        decided = await self._gateway.launch(instance, plan, listen, reload=reload, by_request=by_request)
        async for message in self._until(decided):
            yield message

    async def _load(self, request: Message) -> AsyncIterator[Message]:
        """Where it serves, its idle time starts anew."""
        instance = self._named(request)
        _refuse_if_held(instance, request)
        self._gateway.keep_warm()
        async for message in self._until(instance.server.wake()):
            yield message

    async def _unload(self, request: Message) -> AsyncIterator[Message]:
        instance = self._named(request)
        _refuse_if_held(instance, request)
        async for message in self._until(instance.server.sleep()):
            yield message

    async def _stop(self, request: Message) -> AsyncIterator[Message]:
        async for message in self._until(self._shut_down(bool(request.get("now")))):
            yield message

    async def _hold(self, request: Message, reader: asyncio.StreamReader) -> AsyncIterator[Message]:
        """Keep a server for the owner of this connection, until that closes or the daemon is stopped."""
        instance = self._named(request)
        _refuse_if_held(instance, request)
        hold = Hold(
            self._fleet.new_id(),
            str(request.get("owner", "somebody")),
            str(request.get("why", "")),
            time.time(),
        )
        instance.server.hold = hold
        self.changed()
        try:
            yield {"held": hold.id}
            gone = asyncio.ensure_future(reader.read())
            while not (self._over or gone.done()):
                changed: asyncio.Future[Any] = asyncio.ensure_future(self._changed.wait())
                await asyncio.wait([gone, changed], return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
            gone.cancel()
        finally:
            instance.server.hold = None
            self.changed()

    async def _running(self, request: Message) -> AsyncIterator[Message]:
        """
        What runs, with what may be secret: for ``ask``, ``restart``, ``reload`` and an engine's update.

        The socket is 0600, and the secrets are its user's own.
        """
        plan, listen = self._named(request).server.plan, self._gateway.listen
        yield {
            "profile": plan.profile if plan else None,
            "settings": dict(plan.settings) if plan else {},
            "url": url_of(plan, listen) if plan else None,
            "key": self._gateway.key(plan) if plan else "",
            "plan": to_json(plan) if plan else None,
            "listen": listen_to_json(listen) if listen else None,
            "final": True,
        }

    async def _requests(self, request: Message) -> AsyncIterator[Message]:
        """The last requests after number ``since``, and with ``follow`` those that come."""
        activity, last = self._gateway.activity, request.get("last")
        if activity is None:
            yield {"error": "There is no gateway.", "hint": "gateway: on in the profile, then restart"}
            return
        number, follows = request.get("since", 0), bool(request.get("follow"))
        if not isinstance(number, int) or not isinstance(last, int | None):
            yield {"error": "since and last are whole numbers."}
            return
        while not self._over:
            events = activity.changed, self._changed  # taken before the look: what comes meanwhile sets them
            found = [asdict(each) for each in activity.since(number, last)]
            last, number = None, activity.count
            if found or not follows:
                yield {"requests": found, "final": not follows}
            if not follows:
                return
            await _either(*events)

    async def _until(self, decided: asyncio.Future[Outcome]) -> AsyncIterator[Message]:
        """Every change on the way, then the outcome."""
        while not decided.done():
            changed: asyncio.Future[Any] = asyncio.ensure_future(self._changed.wait())
            yield {"status": self._both()}
            await asyncio.wait([decided, changed], return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        yield self.about(decided.result())

    def about(self, outcome: Outcome) -> Message:
        """The final message about a request that was decided."""
        return {"outcome": asdict(outcome), "status": self._both(), "final": True}

    def _named(self, request: Message) -> Instance:
        """The server that a request is about.  Raises NotFound."""
        return self._fleet.get(request.get("server"))

    def _both(self) -> Message:
        servers = [status_of(instance, self._gateway.listen) for instance in self._fleet]
        return {
            "schema": 2,
            "daemon": self._daemon(),
            "servers": servers,
            "server": servers[0],  # as in schema 1, for one release
            "gateway": self._gateway.about(),
            "update": self._news(),
        }


def _refuse_if_held(instance: Instance, request: Message) -> None:
    """Raises SupervisorError where somebody else holds the server; its owner says the hold's id."""
    hold = instance.server.hold
    if hold is not None and request.get("hold") != hold.id:
        raise SupervisorError(
            f"{hold.owner} has held the server since {iso(hold.since)}: {hold.why}.",
            hint="Try again when it has ended (goss-supervisor status tells), or goss-supervisor stop.",
        )


_RESTART = "The daemon is of another version: goss-supervisor stop, then start it again."


async def _either(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for each in waits:
        each.cancel()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # longer than any request
        return b""
