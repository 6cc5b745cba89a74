"""
What this computer can tell of workers, the machines that lend memory over llama.cpp's RPC: whether one is
there, and whether the one that a server uses has ended since.

``ggml-rpc-server`` (ggml-rpc.cpp, b11434) serves one connection until it closes, then the next; the kernel
lets two more wait.  So the greeting (HELLO) of a worker in use is answered only once its server has gone, and
a busy worker cannot be told from one that hangs.  But a connection that waits ends with the worker's process,
and keepalive ends it with the machine, which is all that `WorkerWatch` needs.

A greeting that was sent must not be followed by an ordinary close: the worker would answer it later, in two
pieces, and die of SIGPIPE at the second.  A reset (SO_LINGER 0) does no harm.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from ..engine.adapters.rpc_server import HELLO, RESET_ON_CLOSE, protocol_in
from ..plan.launch import LaunchPlan
from ..profile.worker_address import parse_worker
from .diagnosis import OF_WORKERS, WORKER_LOST, Diagnosis
from .shortage import is_ours

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 3.0
AGAIN_SECONDS = 10.0  # until a worker is asked again that serves several, or cannot be watched now
RETURN_SECONDS = 5.0  # between two looks for workers that are gone
KEEPALIVE = {"TCP_KEEPIDLE": 4, "TCP_KEEPALIVE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 5}
"""A machine that is silent for 14 s is gone; a cable may be out for 8.  macOS calls the first KEEPALIVE."""

_READ_BYTES = 512
_NOBODY = "nobody listens there"


@dataclass(frozen=True, slots=True)
class WorkerLook:
    """``protocol`` (7.0.0) is what it says of itself; "" where ``trouble`` says why it could not be asked."""

    worker: str
    protocol: str = ""
    trouble: str = ""
    is_ours: bool = False  # the daemon was short of something, which says nothing about the worker


def lost(workers: Sequence[str], why: str = "") -> Diagnosis:
    """These are gone, as far as is known."""
    who = f"The worker {workers[0]} is" if len(workers) == 1 else f"The workers {' and '.join(workers)} are"
    message = f"{who} gone{f': {why}' if why else ''}."
    hint = "goss-supervisor goes on by itself when it is back; look at that machine, its network and its log."
    return Diagnosis(WORKER_LOST, message, hint, retryable=True)


async def look(worker: str) -> WorkerLook:
    """Greet it, within a few seconds.  Never raises for what the worker or the network does."""
    try:
        link = await _greeted(worker)
    except OSError as error:
        return WorkerLook(worker, trouble=_why_unreachable(error), is_ours=is_ours(error))
    with closing(link):
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await _answer(link)
        except TimeoutError:
            return WorkerLook(worker, trouble="it does not answer: it hangs, or it serves another computer")
        except OSError:
            answer = b""
    if protocol := protocol_in(answer):
        return WorkerLook(worker, protocol=protocol)
    return WorkerLook(worker, trouble="what answers there is no RPC server that this program knows")


async def looks(workers: Sequence[str]) -> list[WorkerLook]:
    """At all of them, side by side."""
    return list(await asyncio.gather(*map(look, workers)))


async def missing(workers: Sequence[str]) -> Diagnosis | None:
    """Which of them are gone, with the reason; None where all answer."""
    gone = [each for each in await looks(workers) if each.trouble and not each.is_ours]
    why = "; ".join(dict.fromkeys(each.trouble for each in gone))
    return lost([each.worker for each in gone], why) if gone else None


async def blamed(workers: Sequence[str], diagnosis: Diagnosis) -> Diagnosis:
    """
    Of a server that died or hung: the failure with the worker's name, where it is a worker's.  Its log seldom
    says which one it was, and never that one hangs.
    """
    is_theirs = diagnosis.kind == WORKER_LOST
    if diagnosis.kind in OF_WORKERS and not is_theirs:
        spoken = {each.protocol for each in await looks(workers) if f"{each.worker} " in diagnosis.message}
        return replace(diagnosis, message=f"{diagnosis.message.rstrip('.')}: {''.join(spoken) or 'unknown'}.")
    if is_theirs and any(each in diagnosis.message for each in workers):
        return diagnosis
    if found := await missing(workers):
        return found
    if not is_theirs:
        return diagnosis
    one = "The worker" if len(workers) == 1 else "One of the workers"
    return replace(lost(workers), message=f"{one} {', '.join(workers)} ended or restarted.")


def suspects(plan: LaunchPlan) -> str:
    """What may be added to the words about its server when that hangs."""
    return f" (it may wait for a worker that hangs: {', '.join(plan.workers)})" if plan.workers else ""


class WorkerWatch:
    """
    Of one server.  ``is_lost`` is called with the failure when a worker of the server that serves has ended
    or cannot be reached any more; ``are_back`` now and then, while all of those that are waited for answer.
    """

    def __init__(self, is_lost: Callable[[Diagnosis], None], are_back: Callable[[], None]) -> None:
        self._is_lost = is_lost
        self._are_back = are_back
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, plan: LaunchPlan, whole: LaunchPlan | None = None) -> None:
        """
        A server with this plan is ready, in place of the ``whole`` one whose workers were gone.  Not before:
        while it loads, it connects to its workers again and again.
        """
        self.stop()
        work = [self._look_for(whole.workers)] if whole else map(self._follow, plan.workers)
        self._tasks = [asyncio.get_running_loop().create_task(each) for each in work]

    def stop(self) -> None:
        """Look no more, and leave the workers to the next launch."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    async def _follow(self, worker: str) -> None:
        while True:
            if end := await _end_of(worker):
                self._is_lost(lost([worker], end))
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def _look_for(self, workers: Sequence[str]) -> None:
        while True:
            await asyncio.sleep(RETURN_SECONDS)
            if all(each.protocol for each in await looks(workers)):
                self._are_back()


async def _end_of(worker: str) -> str | None:
    """Waits in its queue until it has gone, and says how; None where that cannot be told."""
    try:
        link = await _greeted(worker)
    except ConnectionError:
        return _NOBODY
    except OSError:  # its queue is full, or we are short of something: nothing is known against it
        return None
    with closing(link):
        _keep_alive(link)
        try:
            answer = await _answer(link)
        except ConnectionError:
            answer = b""
        except OSError as error:
            return _why_unreachable(error)
    return None if answer else "it ended or restarted"


async def _greeted(worker: str) -> socket.socket:
    """A connection on which HELLO was sent.  Raises OSError."""
    loop, address = asyncio.get_running_loop(), parse_worker(worker)
    async with asyncio.timeout(CONNECT_SECONDS):
        found = await loop.getaddrinfo(
            address.host, address.port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
        link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            link.setblocking(False)
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            await loop.sock_connect(link, found[0][4])
            await loop.sock_sendall(link, HELLO)
        except BaseException:
            link.close()
            raise
    return link


async def _answer(link: socket.socket) -> bytes:
    """Of the greeting; not whole where the other end has closed.  Raises OSError."""
    answer = b""
    while protocol_in(answer) == "":
        more = await asyncio.get_running_loop().sock_recv(link, _READ_BYTES)
        if not more:
            break
        answer += more
    return answer


def _keep_alive(link: socket.socket) -> None:
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if (option := getattr(socket, name, None)) is not None:
            link.setsockopt(socket.IPPROTO_TCP, option, value)


def _why_unreachable(error: OSError) -> str:
    if isinstance(error, ConnectionError):  # one that comes in just as it ends is reset
        return _NOBODY
    if isinstance(error, socket.gaierror):
        return f"its name does not resolve ({error.strerror})"
    if not error.errno:  # our time is over; one that hangs takes two connections, and no more
        return "it cannot be reached, or it hangs"
    return f"it cannot be reached ({os.strerror(error.errno)})"  # asyncio has words of its own
