"""What a server is told, in the order in which it came, and who waits for what their request comes to."""

from __future__ import annotations

import asyncio

from .inputs import Input, Request
from .lifecycle import Outcome

_Item = tuple[Input, asyncio.Future[Outcome] | None]


class Inbox:
    """
    One server's; used by the coroutines of one loop.

    Whoever asks waits for a decision that is made after the request was taken out, and for no earlier one.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[_Item | asyncio.Future[None]] = asyncio.Queue()
        self._waiters: list[asyncio.Future[Outcome]] = []

    def tell(self, happened: Input) -> None:
        """Put in what nobody waits for."""
        self._queue.put_nowait((happened, None))

    def ask(self, request: Request) -> asyncio.Future[Outcome]:
        """Put in a request; done when it is decided."""
        waiter = _future()
        self._queue.put_nowait((request, waiter))
        return waiter

    def wait(self, decided: Outcome | None) -> asyncio.Future[Outcome]:
        """What is decided already; where that is None, the next decision, whoever asked for it."""
        waiter = _future()
        if decided is None:
            self._waiters.append(waiter)
        else:
            waiter.set_result(decided)
        return waiter

    def passed(self) -> asyncio.Future[None]:
        """Done when the owner has handled all that is in, and takes out more: a sign that it lives."""
        sign: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(sign)
        return sign

    async def take(self) -> Input:
        """The oldest, when there is one."""
        while isinstance(item := await self._queue.get(), asyncio.Future):
            if not item.done():  # else whoever wanted to know has gone
                item.set_result(None)
        happened, waiter = item
        if waiter is not None:
            self._waiters.append(waiter)
        return happened

    def settle(self, outcome: Outcome) -> None:
        """Tell everybody who waits."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(outcome)


def _future() -> asyncio.Future[Outcome]:
    return asyncio.get_running_loop().create_future()
