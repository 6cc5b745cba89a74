"""
Clients of the gateway over raw sockets, which take nothing on trust: what became of each request is told.

``whole``: an answer to its end, and every word of it; ``broken``: one that visibly is not whole; ``error``: an
error, whole; ``lost``: not a byte came; ``false``: it looks whole and is not, which must never be.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from supervisor.home import client as control
from supervisor.model.demo import DEMO_ANSWER
from supervisor.paths import Paths

from .conftest import BUILT, Home

BOUND_SECONDS = 60.0  # of every wait, never its length
_LOOK_SECONDS = 0.02  # between two looks at what tells nobody of its change

Outcome = Literal["whole", "broken", "error", "lost", "false"]
QUESTION = {"messages": [{"role": "user", "content": "What are you?"}], "max_tokens": 200}
CHAT, MESSAGES, COMPLETION = "/v1/chat/completions", "/v1/messages", "/completion"
ENDLESS = {"prompt": "hi", "n_predict": -1, "ignore_eos": True, "stream": True}  # ends with its context


@dataclass(slots=True)
class Answer:
    """``body`` is without the chunks' framing; ``ended`` says whether its framing came to its end."""

    status: int = 0
    head: bytes = b""
    body: bytes = b""
    ended: bool = False

    @property
    def outcome(self) -> Outcome:
        if not self.status:
            return "lost"
        if not self.ended:
            return "false" if b"[DONE]" in self.body or b"message_stop" in self.body else "broken"
        if self.status != 200:
            return "error"
        return "whole" if _is_whole(self) else "false"

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line) for line in lines if line != b"[DONE]"]

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]

    @property
    def text(self) -> str:
        """What the model said, without what it thought."""
        if b"text/event-stream" in self.head:
            return "".join(_said(event) for event in self.events)
        said = json.loads(self.body)
        return said["choices"][0]["message"]["content"] if "choices" in said else said["content"]


def _said(event: dict[str, Any]) -> str:
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return event.get("content") or ""


def _is_whole(answer: Answer) -> bool:
    if b"text/event-stream" not in answer.head:
        return "choices" not in json.loads(answer.body) or answer.text == DEMO_ANSWER
    if any("error" in event for event in answer.events):
        return False
    if answer.body.rstrip().endswith(b"data: [DONE]"):
        return answer.text == DEMO_ANSWER
    return bool(answer.events) and answer.events[-1].get("stop") is True  # the native stream's last word


@dataclass
class Request:
    """
    One request under way, on a connection of its own.

    ``began`` is set with the first byte of its answer; `result` waits for the end, and `leave` does not.
    """

    port: int
    path: str
    body: dict[str, Any] | None
    headers: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    connect: Callable[[], socket.socket] | None = None  # else to that host
    began: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Answer = field(default_factory=Answer)

    def __post_init__(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def result(self, seconds: float = BOUND_SECONDS) -> Answer:
        async with asyncio.timeout(seconds):
            return await self._task

    async def until_begun(self) -> None:
        async with asyncio.timeout(BOUND_SECONDS):
            await self.began.wait()

    async def until_text(self, wanted: bytes) -> None:
        """Until this stands in what has come so far."""
        async with asyncio.timeout(BOUND_SECONDS):
            while wanted not in self.answer.body:
                assert not self._task.done(), self.answer
                await asyncio.sleep(_LOOK_SECONDS)

    async def is_under_way_after(self, seconds: float) -> bool:
        """Whether it has no end by then."""
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        return not done

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> Answer:
        if self.connect:
            reader, writer = await asyncio.open_connection(sock=self.connect())
        else:
            reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request_bytes(self.path, self.body, self.headers))
            await self._read(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the answer tells how far it came
        finally:
            self.began.set()
            writer.transport.abort()
        return self.answer

    async def _read(self, reader: asyncio.StreamReader) -> None:
        answer = self.answer
        answer.head = (await reader.readuntil(b"\r\n\r\n")).lower()
        answer.status = int(answer.head[9:12])
        if b"transfer-encoding: chunked" in answer.head:
            await self._read_chunks(reader)
        else:
            length = int(answer.head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            self.began.set()
            answer.body = await reader.readexactly(length)
        answer.ended = True

    async def _read_chunks(self, reader: asyncio.StreamReader) -> None:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            piece = await reader.readexactly(size + 2)
            self.answer.body += piece[:-2]
            self.began.set()
        await reader.readexactly(2)


def request_bytes(path: str, body: dict[str, Any] | None, headers: Iterable[str] = ()) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    method = "GET" if body is None else "POST"
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, "", ""]).encode() + data


def demo_profile(home: Home, name: str, **sections: Any) -> None:
    """
    A demo of this home's engine, on its port, as a file: what a client's request switches to has no ``--set``.

    It comes back from every death at once, and leaves the machine's other core to its clients.
    """
    base: dict[str, dict[str, Any]] = {
        "engine": {"source": "path", "path": os.environ[BUILT]},
        "listen": {"port": home.port},
        "server": {"threads": 1, "ctx-size": 65536, "parallel": 8},
        "restart": {"max": 1000, "backoff": "0.1s", "backoff-limit": "0.2s"},
        "stop": {"grace": "5s"},
    }
    merged = {
        key: base.get(key, {}) | given for key, given in (base | sections).items() if isinstance(given, dict)
    }
    merged |= {key: given for key, given in sections.items() if not isinstance(given, dict)}
    words = {"extends": "demo", "aliases": [f"{name}-alias"]}
    home.profile(name, json.dumps(words | merged))  # which is YAML


def start(home: Home, name: str = "one", **sections: Any) -> Clients:
    """This demo, running, and those who ask it."""
    demo_profile(home, name, **sections)
    home.run("start", "--profile", name, "--detach")
    return Clients(home.root, home.port)


@dataclass
class Clients:
    """Of one home's gateway, and what its daemon says of itself meanwhile."""

    root: Path
    port: int
    headers: tuple[str, ...] = ()
    connect: Callable[[], socket.socket] | None = None

    def ask(self, path: str = CHAT, body: dict[str, Any] | None = QUESTION, **more: Any) -> Request:
        headers = more.pop("headers", self.headers)
        return Request(self.port, path, body, headers, connect=self.connect, **more)

    def stream(self, **more: Any) -> Request:
        return self.ask(body=QUESTION | {"stream": True} | more)

    def endless(self, **more: Any) -> Request:
        """As long as the server's context; only chats, which one would take for whole, have to be so."""
        return self.ask(COMPLETION, ENDLESS | more)

    async def get(self, path: str) -> Answer:
        return await self.ask(path, None).result()

    # --- the daemon

    async def told(self, request: dict[str, Any]) -> dict[str, Any]:
        """The last message of what the control socket answers."""
        return await asyncio.to_thread(control.ask, Paths.under(self.root), request)

    async def status(self) -> dict[str, Any]:
        return (await self.told({"op": "status"}))["status"]

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        now: dict[str, Any] = {}
        try:
            async with asyncio.timeout(BOUND_SECONDS):
                while not wanted(now := await self.status()):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise AssertionError(now) from None
        return now

    async def until_state(self, state: str) -> dict[str, Any]:
        return await self.until(lambda now: now["server"]["state"] == state)

    async def until_busy(self, *, under_way: int = 0, waiting: int = 0) -> None:
        """Until so many requests are with llama-server, and so many wait."""
        await self.until(
            lambda now: (
                (now["gateway"]["requests_under_way"], now["gateway"]["requests_waiting"])
                == (under_way, waiting)
            )
        )

    async def pid(self) -> int:
        return (await self.status())["server"]["pid"]

    async def requests(self) -> list[dict[str, Any]]:
        """The last thousand that were answered, as ``goss-supervisor requests`` shows them."""
        return (await self.told({"op": "requests", "last": 1000}))["requests"]


async def all_of(requests: Iterable[Request]) -> Counter[Outcome]:
    """How often each outcome came about; nothing may hang."""
    return Counter(answer.outcome for answer in await answers_of(requests))


async def answers_of(requests: Iterable[Request]) -> list[Answer]:
    return await asyncio.gather(*(request.result() for request in requests))


class Traffic:
    """Clients that ask one short question after the other; ``answers`` are those that they have so far."""

    def __init__(self, clients: Clients, question: dict[str, Any]) -> None:
        self._clients = clients
        self._question = question
        self._more = asyncio.Condition()
        self._is_over = False
        self.answers: list[Answer] = []

    @property
    def outcomes(self) -> Counter[Outcome]:
        return Counter(answer.outcome for answer in self.answers)

    async def more(self, count: int) -> None:
        """Until there are so many more answers."""
        wanted = len(self.answers) + count
        async with asyncio.timeout(BOUND_SECONDS), self._more:
            await self._more.wait_for(lambda: len(self.answers) >= wanted)

    async def _work(self, *, stream: bool) -> None:
        while not self._is_over:
            asked = self._clients.ask(body=self._question | {"stream": stream})
            self.answers.append(await asked.result())
            async with self._more:
                self._more.notify_all()

    @classmethod
    @asynccontextmanager
    async def of(
        cls, clients: Clients, workers: int, question: dict[str, Any] = QUESTION
    ) -> AsyncIterator[Traffic]:
        """While the block runs, and then until each has its last answer; every other one streams."""
        traffic = cls(clients, question)
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(traffic._work(stream=number % 2 == 0))
            try:
                yield traffic
            finally:
                traffic._is_over = True
