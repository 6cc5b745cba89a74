"""
What makes the tokens of fast streams cheap: they are read in gulps.

A wake-up and two system calls cost the same for one token as for ten.  So a stream of more than 150 pieces a
second is read every 10 ms; while more than 16 streams run, every 20 ms, and 75 pieces are enough.  It is read
without the loop, which would take three more system calls and one more wake-up to look away and back.

The beginning of a stream never waits, since its first eight pieces tell how fast it is.  Nor does its end:
llama-server hangs up behind a stream, and Linux tells that of a socket that is not read (EPOLLRDHUP), so the
last pieces are read at once.  Where a server does not hang up, or the kernel is another, the end would not
show, and nothing is gathered.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
from collections.abc import Callable
from typing import Any

GATHER_SECONDS, MANY_SECONDS = 0.01, 0.02
LEAST = 1.5  # pieces in a gulp: one costs more than without
SAMPLE = 8  # pieces
MANY_STREAMS = 16
AT_ONCE = 8  # streams
_GULP_BYTES = 64 * 1024


def gulp(descriptor: int) -> bytes:
    """Empty where nothing has come, or where the loop will find what is wrong."""
    try:
        return os.read(descriptor, _GULP_BYTES)
    except OSError:
        return b""


class Gathering:
    """The streams of one server; one timer for all that rest, and one turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.ends_show = False  # whether this server was seen to hang up behind a stream
        self.streams = 0
        self._resting: list[Pace] = []

    def saw_hang_up(self) -> None:
        """The server closed the connection behind a stream."""
        self.ends_show = sys.platform == "linux"

    @property
    def seconds(self) -> float:
        return MANY_SECONDS if self.streams > MANY_STREAMS else GATHER_SECONDS

    def rest(self, pace: Pace) -> None:
        self._resting.append(pace)
        if len(self._resting) == 1:
            self.loop.call_later(self.seconds, self._go_on)

    def _go_on(self) -> None:
        resting, self._resting = self._resting, []
        self.loop.call_soon(self._read, resting)  # uvloop sends what is written by timers only after an event

    def _read(self, due: list[Pace]) -> None:
        """A few at a time: what came goes out, and ends are seen, before the next."""
        for pace in due[:AT_ONCE]:
            pace.go_on()
        if due := due[AT_ONCE:]:
            self.loop.call_soon(self._read, due)


class Pace:
    """
    Of one stream: tells it by ``rest`` whether the loop is to leave it alone, and then by ``gulp`` to read
    what has come from this descriptor, which says whether there was something.  `close` has to be called.
    """

    def __init__(
        self,
        gathering: Gathering,
        transport: asyncio.BaseTransport,
        rest: Callable[[bool], None],
        gulp: Callable[[int], bool],
    ) -> None:
        self._gathering, self._transport = gathering, transport
        self._rest, self._gulp = rest, gulp
        gathering.streams += 1
        self._pieces = 0
        self._since = gathering.loop.time()
        self._is_fast = self._is_over = False
        self._hang_up: HangUp | None = None

    def took(self, pieces: int) -> None:
        """Called with the number of bytes that were read at once."""
        self._pieces += pieces
        if self._pieces >= SAMPLE:
            self._judge()
        rests = self._is_fast and not self._is_over
        self._rest(rests)
        if rests:
            self._gathering.rest(self)

    def _judge(self) -> None:
        now = self._gathering.loop.time()
        gulps = (now - self._since) / self._gathering.seconds
        self._is_fast = self._gathering.ends_show and self._pieces >= LEAST * gulps
        self._pieces, self._since = 0, now
        if self._is_fast and self._hang_up is None:
            try:
                self._hang_up = HangUp(self._gathering.loop, self._transport, self._see_end)
            except OSError:  # no descriptor is left: then each piece is read as it comes
                self._is_fast = False

    def _see_end(self) -> None:
        """The server has hung up: the rest is read at once, and what does not fit into a gulp by the loop."""
        self.close()
        if self._hang_up is not None:
            self._gulp(self._hang_up.descriptor)

    def go_on(self) -> None:
        """It has rested long enough.  Where nothing has come, the loop tells when something does."""
        if self._hang_up is not None and not self._is_over and not self._gulp(self._hang_up.descriptor):
            self._rest(False)

    def complete(self) -> None:
        """Called when everything has been read."""
        if self._hang_up is not None and not self._is_over and not self._hang_up.has_come():
            self._gathering.ends_show = False  # until it hangs up again
        self.close()

    def close(self) -> None:
        """There will be no more of it.  May be called again."""
        self._gathering.streams -= not self._is_over
        self._is_over = True
        self._rest(False)
        if self._hang_up is not None:
            self._hang_up.close()


def _epoll_of(descriptor: int) -> Any:  # noqa: ANN401 - a `select.epoll`, which other systems do not have
    if sys.platform == "linux":
        epoll = select.epoll()
        epoll.register(descriptor, select.EPOLLRDHUP)
        return epoll
    raise NotImplementedError


class HangUp:
    """Calls once when the other side of a socket has closed, though nothing is read from it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.BaseTransport, call: Callable[[], None]
    ) -> None:
        self._loop = loop
        self.descriptor: int = transport.get_extra_info("socket").fileno()
        self._epoll = _epoll_of(self.descriptor)
        loop.add_reader(self._epoll.fileno(), call)

    def has_come(self) -> bool:
        """Though it may not have been called yet."""
        return bool(self._epoll.poll(0))

    def close(self) -> None:
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
