"""The queue of a server's inputs, and the futures of those who wait for a request's outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from .lifecycle_table import Input, LifecycleRequest
from .outcome import Outcome


class Inbox:
    """Each caller gets the outcome of its own request, by its id, and no other."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Input | asyncio.Future[None]] = asyncio.Queue()
        self._waiters: dict[int, asyncio.Future[Outcome]] = {}
        self._watchers: list[asyncio.Future[Outcome]] = []
        self._is_closed = False

    def close(self) -> None:
        """Nobody takes out any more: all that is in, or comes later, is superseded, so that nobody waits."""
        self._is_closed = True
        self.settle([Outcome("superseded", "its server is no more", id=each) for each in self._waiters])
        self.announce(Outcome("superseded", "its server is no more"))
        while not self._queue.empty():
            _tell(self._queue.get_nowait())

    def put(self, happened: Input) -> None:
        """Put in an input that has no caller."""
        self._queue.put_nowait(happened)

    def ask(self, request: LifecycleRequest) -> asyncio.Future[Outcome]:
        """Put in a request; done when it is decided or superseded."""
        waiter = self._waiters[request.id] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(request)
        if self._is_closed:
            self.close()
        return waiter

    def watch(self) -> asyncio.Future[Outcome]:
        """Done with the next decision that supersedes nothing, for any request."""
        watcher: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        return watcher

    def passed(self) -> asyncio.Future[None]:
        """Done when the owner has handled all that is in, and takes out more: a sign that it lives."""
        sign: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(sign)
        if self._is_closed:
            self.close()
        return sign

    async def take(self) -> Input:
        """The oldest, when there is one."""
        while isinstance(item := await self._queue.get(), asyncio.Future):
            _tell(item)
        return item

    def settle(self, outcomes: Iterable[Outcome]) -> None:
        """Tell each of those who asked."""
        for outcome in outcomes:
            waiter = self._waiters.pop(outcome.id, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(outcome)

    def announce(self, outcome: Outcome) -> None:
        """Tell all who only watch."""
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(outcome)


def _tell(item: Input | asyncio.Future[None]) -> None:
    """That it has passed; its caller may have gone."""
    if isinstance(item, asyncio.Future) and not item.done():
        item.set_result(None)
