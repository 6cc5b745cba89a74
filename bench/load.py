"""
The clients of bench/gateway.py, in a process of their own: ready-made bytes over bare connections.

Reads one job as JSON from stdin and writes one result as JSON to stdout.  Knows just enough of HTTP to
tell where an answer ends, so that it costs little, and the same for every front door.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

HEAD_END, LAST_CHUNK, EVENT = b"\r\n\r\n", b"\r\n0\r\n\r\n", b"data: "
ANSWER_SECONDS = 120.0  # the bound of a wait; an answer that takes longer is an error
WARM_UP = 10
IDLE_SECONDS = 5.0  # after which llama-server closes a kept connection (cpp-httplib's default)
FRESH_EVERY = 4  # requests; the others keep their connection


@dataclass(frozen=True, slots=True)
class Answer:
    """Times are seconds from the request's first byte; ``first_seconds`` is of the first byte of the body."""

    status: int
    closes: bool
    first_seconds: float
    seconds: float
    data: bytes  # the head too
    arrivals: list[tuple[float, int]]  # when, and how many bytes had come then


class Line(asyncio.Protocol):
    """One connection with one request at a time.  Raises ConnectionError where it ends too early."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport
        self.done: asyncio.Future[None] | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    async def ask(self, request: bytes) -> Answer:
        self.parts: list[bytes] = []
        self.times: list[float] = []
        self.tail = b""
        self.missing: int | None = None  # bytes of an answer that told its length
        self.body_began = 0.0
        self.done = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self.transport.write(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            await self.done
        ended = time.perf_counter()
        sizes = accumulate(map(len, self.parts))
        arrivals = list(zip(self.times, sizes, strict=True))
        return _answer(b"".join(self.parts), self.body_began - began, ended - began, arrivals)

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)
        self.times.append(time.monotonic())
        if not self.body_began:
            data = self._head(b"".join(self.parts))
        if not self.body_began:
            return
        if self.missing is not None:
            self.missing -= len(data)
            over = self.missing <= 0
        else:
            self.tail = (self.tail + data)[-len(LAST_CHUNK) :]
            over = self.tail == LAST_CHUNK
        if over and self.done is not None and not self.done.done():
            self.done.set_result(None)

    def _head(self, data: bytes) -> bytes:
        """What follows the head; nothing, and nothing is known yet, before there is a byte of the body."""
        head, end, body = data.partition(HEAD_END)
        if end:
            length = _field(head, b"content-length")
            self.missing = int(length) if length else None
            if body or self.missing == 0:
                self.body_began = time.perf_counter()
        return body

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        if self.done is not None and not self.done.done():
            self.done.set_exception(error or ConnectionError("closed before the answer was whole"))


def _field(head: bytes, name: bytes) -> bytes:
    return head.lower().partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()


def _answer(data: bytes, first_seconds: float, seconds: float, arrivals: list[tuple[float, int]]) -> Answer:
    head = data.partition(HEAD_END)[0]
    closes = _field(head, b"connection") == b"close"
    return Answer(int(head[9:12]), closes, first_seconds, seconds, data, arrivals)


class Client:
    """A client that keeps its connection for as long as the server does."""

    def __init__(self, place: int | str) -> None:
        self.place = place  # a port on loopback, or the path of a Unix socket
        self.line: Line | None = None

    async def ask(self, request: bytes, *, fresh: bool = False) -> Answer:
        if fresh or (self.line is not None and self.line.lost):
            self.close()
        if self.line is None:
            self.line = await self._open()
        try:
            answer = await self.line.ask(request)
        except BaseException:
            self.close()
            raise
        if answer.closes:
            self.close()
        return answer

    async def _open(self) -> Line:
        loop = asyncio.get_running_loop()
        if isinstance(self.place, str):
            return (await loop.create_unix_connection(Line, self.place))[1]
        return (await loop.create_connection(Line, "127.0.0.1", self.place))[1]

    def close(self) -> None:
        if self.line is not None:
            self.line.transport.abort()
            self.line = None


def post(path: str, body: str) -> bytes:
    data = body.encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def part(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


Job = dict[str, Any]


async def one_by_one(job: Job) -> list[dict[str, Any]]:
    """
    Latency over one kept connection to each door, which take turns request by request (ABBA).

    ``added_seconds`` is what it took more than the door in front of which it stands, which is named by its
    number: the median of the rounds.  ``fresh``: on a new connection each time, as `streams` says.
    """
    fresh = job.get("fresh", False)
    doors = [(Client(door["place"]), post(door["path"], job["body"])) for door in job["doors"]]
    for client, request in doors * WARM_UP:
        await client.ask(request, fresh=fresh)
    rounds = [await _round(doors, backwards=bool(number % 2), fresh=fresh) for number in range(job["count"])]
    by_door = list(zip(*rounds, strict=True))
    behind = [by_door[door["behind"]] for door in job["doors"]]
    return [_latency(answers, other) for answers, other in zip(by_door, behind, strict=True)]


async def _round(doors: list[tuple[Client, bytes]], *, backwards: bool, fresh: bool) -> list[Answer]:
    order = list(reversed(doors)) if backwards else doors
    answers = [await client.ask(request, fresh=fresh) for client, request in order]
    return answers[::-1] if backwards else answers


def _latency(answers: Sequence[Answer], behind: Sequence[Answer]) -> dict[str, Any]:
    seconds = [answer.seconds for answer in answers]
    pairs = zip(answers, behind, strict=True)
    return {
        "p50_seconds": part(seconds, 0.5),
        "p95_seconds": part(seconds, 0.95),
        "p99_seconds": part(seconds, 0.99),
        "added_seconds": part([one.seconds - other.seconds for one, other in pairs], 0.5),
        "requests": WARM_UP + len(answers),
        "errors": sum(answer.status != 200 for answer in answers),
    }


async def streams(job: Job) -> dict[str, Any]:
    """
    So many clients at a time, each with so many streams one after the other.

    On fresh connections: llama-server closes one behind each stream, without a word before (b11434).
    """
    request = post(job["path"], job["body"])
    clients = [Client(job["place"]) for _ in range(job["clients"])]

    async def read(client: Client) -> list[Answer]:
        return [await client.ask(request, fresh=True) for _ in range(job["repeats"])]

    began = time.perf_counter()
    answers = [answer for list_ in await asyncio.gather(*map(read, clients)) for answer in list_]
    seconds = time.perf_counter() - began
    events = [answer.data.count(EVENT) for answer in answers]
    return {
        "tokens": job["tokens"] * len(answers),
        "seconds": seconds,
        "first_seconds": part([answer.first_seconds for answer in answers], 0.5),
        "errors": sum(count < job["tokens"] for count in events),
    }


async def together(job: Job) -> list[dict[str, Any]]:
    """The first byte of streams that start together, at one door after the other (ABBA)."""
    doors = [(door["place"], post(door["path"], job["body"])) for door in job["doors"]]
    firsts: list[list[float]] = [[] for _ in doors]
    errors = [0 for _ in doors]
    for number in range(job["count"]):
        order = list(enumerate(doors))
        for at, (place, request) in reversed(order) if number % 2 else order:
            clients = [Client(place) for _ in range(job["clients"])]
            answers = await asyncio.gather(*(client.ask(request) for client in clients))
            firsts[at] += [answer.first_seconds for answer in answers]
            errors[at] += sum(answer.status != 200 for answer in answers)
            for client in clients:
                client.close()
    return [
        {
            "first_seconds": part(first, 0.5),
            "first_p95_seconds": part(first, 0.95),
            "requests": len(first),
            "errors": wrong,
        }
        for first, wrong in zip(firsts, errors, strict=True)
    ]


_WRITTEN = re.compile(rb"@(\d+)@")


async def paced(job: Job) -> dict[str, Any]:
    """
    Streams of bench/paced.py: the gaps between the arrivals of pieces, and how long after it was written each
    arrived.  ``last`` is of the end of a stream alone.
    """
    request = post(job["path"], job["body"])
    clients = [Client(job["place"]) for _ in range(job["clients"])]

    async def read(client: Client) -> list[Answer]:
        return [await client.ask(request, fresh=True) for _ in range(job["repeats"])]

    answers = [answer for each in await asyncio.gather(*map(read, clients)) for answer in each]
    late, last, gaps, pieces = [], [], [], 0
    wrong = [answer for answer in answers if answer.status != 200]
    if wrong:
        sys.exit(f"{job['place']}: {wrong[0].data!r}")
    for answer in answers:
        times, sizes = zip(*answer.arrivals, strict=True)
        found = [(match.end(), int(match[1]) / 1e9) for match in _WRITTEN.finditer(answer.data)]
        arrived = [times[bisect_left(sizes, end)] for end, _ in found]
        late += [at - written for at, (_, written) in zip(arrived, found, strict=True)]
        last.append(times[-1] - found[-1][1])
        gaps += [then - before for before, then in pairwise(arrived)]
        pieces += len(found)
    return {
        "pieces": pieces,
        "first_p50_seconds": part([answer.first_seconds for answer in answers], 0.5),
        "late_p50_seconds": part(late, 0.5),
        "late_p95_seconds": part(late, 0.95),
        "last_p50_seconds": part(last, 0.5),
        "last_p95_seconds": part(last, 0.95),
        "gap_p95_seconds": part(gaps, 0.95),
        "errors": 0,
    }


async def idle(job: Job) -> dict[str, Any]:
    """Connections that have had one answer each and ask for nothing more, until stdin ends."""
    request = post(job["path"], job["body"])
    clients = [Client(job["place"]) for _ in range(job["clients"])]
    for client in clients:
        await client.ask(request)
    print(json.dumps({"open": sum(client.line is not None for client in clients)}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    return {"open": sum(c.line is not None and not c.line.lost for c in clients)}


async def mixed(job: Job) -> dict[str, Any]:
    """
    All kinds of requests on fresh and kept connections.  Nothing is tried twice: what a client sees counts.

    The pauses are as long as it takes the server behind to close its own.
    """
    requests = [post(path, body) for path, body in job["requests"]]
    errors: list[str] = []

    async def work(worker: int, count: int) -> None:
        client = Client(job["place"])
        for number in range(worker, worker + count):
            fresh = number % FRESH_EVERY == 0
            try:
                answer = await client.ask(requests[number % len(requests)], fresh=fresh)
            except (OSError, TimeoutError) as error:
                errors.append(f"{type(error).__name__}: {error}")
            else:
                if answer.status != 200:
                    errors.append(answer.data[:200].decode("latin-1"))
        client.close()

    for segment in range(job["segments"]):
        share = job["count"] // job["segments"] // job["workers"]
        await asyncio.gather(*(work(worker, share) for worker in range(job["workers"])))
        if segment + 1 < job["segments"]:
            await asyncio.sleep(IDLE_SECONDS + (segment % 5 - 2) * 0.001)  # just as it is closed
    done = share * job["workers"] * job["segments"]
    return {"requests": done, "errors": len(errors), "first_errors": errors[:3]}


KINDS: dict[str, Callable[[Job], Awaitable[Any]]] = {
    "one_by_one": one_by_one,
    "streams": streams,
    "together": together,
    "paced": paced,
    "idle": idle,
    "mixed": mixed,
}


def main() -> None:
    new_loop = None
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - not on Windows

        new_loop = uvloop.new_event_loop
    job = json.loads(sys.stdin.readline())
    with asyncio.Runner(loop_factory=new_loop) as runner:
        print(json.dumps(runner.run(KINDS[job["kind"]](job))), flush=True)


if __name__ == "__main__":
    main()
