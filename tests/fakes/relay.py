"""
The gateway between a raw client and an upstream that follows a script, all in one loop.

    async with relay(says(ok(b"hello")), hang_up) as it:   # what happens to the first request, the second …
        async with it.client() as client:
            await client.send(GET)
            await client.answer()
        it.upstream.requests                               # all that arrived, as bytes
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

from supervisor.errors import NotFound
from supervisor.gateway import gateway
from supervisor.gateway.auth.keys import Keyring
from supervisor.gateway.gateway import Gateway
from supervisor.plan.launch import LaunchPlan, Parameters
from supervisor.plan.listen import Listen, Offer
from supervisor.profile.definition import GatewaySettings as Settings
from supervisor.profile.definition import Role
from supervisor.server.hardware_watch import HardwareWatch
from supervisor.server.lifecycle_table import State
from supervisor.server.probe_target import ProbeTarget

from .launching import BOUND_SECONDS, free_port

HOST = b"Host: localhost\r\n"
GET = b"GET /slots HTTP/1.1\r\n" + HOST + b"\r\n"


def post(body: bytes = b"{}", path: bytes = b"/v1/chat/completions", more: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"POST " + path + b" HTTP/1.1\r\n" + HOST + length + more + b"\r\n" + body


def ok(body: bytes, more: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), more, body)


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


# The upstream


@dataclass
class Place:
    """One connection at the upstream, as a step of the script has it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_closed: asyncio.Event

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Step = Callable[[Place], Awaitable[None]]


def says(*parts: bytes) -> Step:
    async def step(place: Place) -> None:
        for part in parts:
            await place.write(part)

    return step


async def hang_up(place: Place) -> None:
    """Closes as llama-server does at its exit."""
    place.writer.close()


def then_hangs_up(*parts: bytes) -> Step:
    async def step(place: Place) -> None:
        await says(*parts)(place)
        place.writer.close()

    return step


async def waits(place: Place) -> None:
    """Says nothing until the other side closes."""
    await place.reader.read()
    place.is_closed.set()


class Upstream:
    """Each request takes one step of the script; the last step serves all that follow."""

    def __init__(self, script: list[Step]) -> None:
        self.script = script
        self.requests: list[bytes] = []
        self.connections = 0
        self.arrived = asyncio.Condition()
        self.left = asyncio.Event()  # a client of ours has closed while a step was under way
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not writer.is_closing():
                    await self._one(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        await self._answer(head + body, Place(reader, writer, self.left))

    async def _answer(self, request: bytes, place: Place) -> None:
        async with self.arrived:
            self.requests.append(request)
            self.arrived.notify_all()
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        await step(place)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(BOUND_SECONDS), self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests) >= count)

    async def close(self) -> None:
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


# Between them


class Server:
    """What the gateway sees of a server: one that serves, until a test says otherwise."""

    def __init__(self, target: ProbeTarget, plan: LaunchPlan, name: str = "default") -> None:
        self.target: ProbeTarget | None = target
        self.plan = plan
        self.state = State.READY
        self.launch = 1
        self.name, self.why, self.failure, self.restarts, self.is_held = name, "", None, 0, False
        self.hold = None
        self.calls: list[str] = []

    @property
    def is_serving(self) -> bool:
        return self.state in {State.READY, State.DEGRADED}

    def resident_bytes(self) -> int | None:
        return None

    def look(self) -> None:
        self.calls.append("look")

    def drained(self) -> None:
        self.calls.append("drained")

    def sleep(self) -> None:
        self.calls.append("sleep")


def plan_behind(settings: Settings) -> LaunchPlan:
    plan = LaunchPlan(
        "p",
        ("llama-server",),
        {},
        "127.0.0.1",
        0,
        "b1",
        "cpu",
        "",
        "X",
        "d",
        behind_gateway=True,
        model_bytes=100,
    )
    given = Parameters(
        settings.reasoning_effort, settings.set_params, settings.strip_params, public_model="p"
    )
    return replace(plan, parameters=given)


# The client


class Closed(Exception):
    """The answer did not come whole; ``said`` is what came of it."""

    def __init__(self, said: bytes) -> None:
        super().__init__(said)
        self.said = said


@dataclass
class RawClient:
    """Writes bytes and reads answers; every wait is bounded."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> None:
        """Each part on its own way."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def ask(self, *parts: bytes, to_head: bool = False) -> tuple[int, bytes, bytes]:
        await self.send(*parts)
        return await self.answer(to_head=to_head)

    async def answer(self, *, to_head: bool = False) -> tuple[int, bytes, bytes]:
        """Status, head in small letters, and body without its chunks.  Raises Closed."""
        head = b""
        try:
            async with asyncio.timeout(BOUND_SECONDS):
                head = await self.reader.readuntil(b"\r\n\r\n")
                status = int(head[9:12])
                body = b"" if to_head or status in {204, 304} else await self._body(head.lower())
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Closed(head + getattr(error, "partial", b"")) from None
        return status, head.lower(), body

    async def _body(self, head: bytes) -> bytes:
        if b"transfer-encoding: chunked" in head:
            return await self._chunks()
        length = re.search(rb"\r\ncontent-length: *(\d+)", head)
        return await self.reader.readexactly(int(length[1])) if length else await self.reader.read()

    async def _chunks(self) -> bytes:
        whole = b""
        while True:
            try:
                size = int((await self.reader.readuntil(b"\r\n")), 16)
                data = await self.reader.readexactly(size + 2)
            except asyncio.IncompleteReadError as error:
                raise asyncio.IncompleteReadError(whole + error.partial, None) from None
            if not size:
                return whole
            whole += data[:-2]

    @property
    def has_unread(self) -> bool:
        """Whether something has come that nobody has read."""
        return bool(self.reader._buffer)

    async def rest(self) -> bytes:
        """All until the other side closes."""
        async with asyncio.timeout(BOUND_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b"(reset)"

    def leave(self) -> None:
        self.writer.transport.abort()


@dataclass
class Owner:
    """Of the gateway: notes what it is asked for."""

    loads: list[str] = field(default_factory=list)  # the profiles that were asked for, by requests or persons
    by_person: list[str] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    rests: int = 0
    awaited: dict[str, str] = field(default_factory=dict)  # by profile
    happened: object = None
    hardware: HardwareWatch = field(default_factory=HardwareWatch)
    said: dict = field(default_factory=dict)  # the status
    statuses: int = 0  # that were asked for
    asked: list[dict] = field(default_factory=list)  # by the page
    answers: list[dict] = field(default_factory=lambda: [{"final": True}])
    logs: dict[str, Path] = field(default_factory=dict)  # by server

    def load(self, profile: str, *, by_request: bool = True) -> None:
        self.loads.append(profile)
        if not by_request:
            self.by_person.append(profile)

    def awaits(self, profile: str) -> str:
        return self.awaited.get(profile, "")

    def wanted(self, profile: str) -> None:
        self.uses.append(profile)

    def rested(self) -> None:
        self.rests += 1

    def status(self) -> dict:
        self.statuses += 1
        return dict(self.said)

    def log_of(self, server: str) -> Path:
        if server not in self.logs:
            raise NotFound(f"There is no server {server}.")
        return self.logs[server]

    async def control(self, request):
        self.asked.append(request)
        for each in self.answers:
            yield each


@dataclass
class Relay:
    """The three together."""

    upstream: Upstream
    server: Server
    gateway: Gateway
    port: int
    lost: asyncio.Event  # a request's server has failed it before it had said a word
    owner: Owner = field(default_factory=Owner)

    @property
    def results(self) -> list[str]:
        return [request.result for request in self.gateway.activity.since(0)]

    async def recover(self) -> None:
        """Once a request is without its server, the next launch serves."""
        async with asyncio.timeout(BOUND_SECONDS):
            await self.lost.wait()
        self.restart()

    def restart(self) -> None:
        """The server goes, and the next launch serves at the same address."""
        target = self.server.target
        assert target is not None
        self.server.target = None
        self.turn(State.STARTING)
        self.server.target = replace(target)
        self.turn(State.READY)

    def turn(self, state: State, profile: str = "") -> None:
        """The server is in this state now, with the plan of this profile if one is named."""
        self.server.state = state
        if profile:
            self.server.plan = replace(self.server.plan, profile=profile)
        self.server.launch += state in {State.READY, State.SLEEPING}
        self.gateway.changed(self.server)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[RawClient]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield RawClient(reader, writer)
        finally:
            writer.transport.abort()

    async def ask(self, *parts: bytes, to_head: bool = False) -> tuple[int, bytes, bytes]:
        """One request on a connection of its own."""
        async with self.client() as client:
            return await client.ask(*parts, to_head=to_head)


@asynccontextmanager
async def relay(
    *script: Step,
    settings: Settings | None = None,
    roles: Mapping[str, tuple[Role, ...]] | None = None,
    offers: tuple[Offer, ...] = (),
    keys: Path = Path("no-keys.json"),
) -> AsyncIterator[Relay]:
    """
    Two profiles are offered, p and q, or those with ``roles``, or ``offers``; p serves.  Clients have the ``keys``
    of that file.  Raises where an exchange came upon an illegal event.
    """
    upstream, lost, illegal = Upstream(list(script)), asyncio.Event(), Illegal()
    behind = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    roles = roles or {"p": (), "q": ()}
    offers = offers or tuple(Offer(name, (name,), roles=given) for name, given in roles.items())
    listen = Listen("p", "127.0.0.1", free_port(), settings or Settings(), offers)
    server = Server(
        ProbeTarget("127.0.0.1", behind.sockets[0].getsockname()[1]), plan_behind(listen.settings)
    )
    owner = Owner()
    made = Gateway(Keyring(keys), owner, owner)
    with patch.object(gateway, "SWEEP_SECONDS", 0.02), _told(made, lost):
        made.changed(server)
        await made.open(listen)
        try:
            with illegal.refused():
                yield Relay(upstream, server, made, listen.port, lost, owner)
        finally:
            made.begin_to_end()
            behind.close()
            await upstream.close()
            await made.finish()


@asynccontextmanager
async def behind(it: Relay, name: str, *script: Step) -> AsyncIterator[Server]:
    """One more server with a profile of its own, which serves."""
    upstream = Upstream(list(script))
    listening = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    target = ProbeTarget("127.0.0.1", listening.sockets[0].getsockname()[1])
    server = Server(target, replace(it.server.plan, profile=name), name)
    it.gateway.changed(server)
    try:
        yield server
    finally:
        listening.close()
        await upstream.close()


class Illegal(logging.Handler):
    """What the exchanges log as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @contextmanager
    def refused(self) -> Iterator[None]:
        logger = logging.getLogger("supervisor.gateway.exchange")
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
        assert not self.records, [record.exc_info for record in self.records]


def _told(made: Gateway, lost: asyncio.Event) -> AbstractContextManager[object]:
    come_again = made.come_again

    def noticed(exchange, seconds):
        come_again(exchange, seconds)
        lost.set()

    return patch.object(made, "come_again", noticed)
