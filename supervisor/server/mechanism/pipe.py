"""The reading end of a child's output, read by the loop as it fills."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

assert sys.platform != "win32"

CHUNK_BYTES = 64 * 1024  # the default size of a pipe on Linux: one read empties it
PAUSE_SECONDS = 0.1
_MUCH_BYTES = CHUNK_BYTES // 4  # in one pause: no few lines any more
_LAST_CHUNKS = 32  # 2 MiB: more than any pipe holds, so that only a living writer leaves something behind


class Pipe:
    """
    Hands on what comes until nobody holds the writing end any more.

    llama-server writes ten lines for each request, one by one; they are let gather for a moment, which is
    cheaper.  A grandchild in a session of its own may hold the pipe for ever; so after the child's death
    `finish` reads what is there and gives the rest a bounded time.
    """

    def __init__(self, fd: int, on_output: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._on_output = on_output
        self._loop = asyncio.get_running_loop()
        self._bound: asyncio.TimerHandle | None = None
        self.closed: asyncio.Future[None] = self._loop.create_future()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._gather)

    def finish(self, seconds: float) -> None:
        """The writer is dead: take what it left, and stop listening after `seconds` at the latest."""
        self.catch_up()
        if not self.closed.done():
            self._bound = self._loop.call_later(seconds, self.close)

    def catch_up(self) -> None:
        """What is there is taken now."""
        for _ in range(_LAST_CHUNKS):
            if self.closed.done() or not self._read():
                break

    def close(self) -> None:
        if self.closed.done():
            return
        if self._bound is not None:
            self._bound.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self.closed.set_result(None)

    def _gather(self) -> None:
        """Something is there: from now on it is looked at by the clock, until there is nothing."""
        self._loop.remove_reader(self._fd)
        self._loop.call_later(PAUSE_SECONDS, self._read_on)

    def _read_on(self) -> None:
        """What has gathered.  The writer of a flood shall not wait for us."""
        if self.closed.done():
            return
        size = self._read()
        if self.closed.done():
            return
        if not size:
            self._loop.add_reader(self._fd, self._gather)
        elif size < _MUCH_BYTES:
            self._loop.call_later(PAUSE_SECONDS, self._read_on)
        else:
            self._loop.call_soon(self._read_on)

    def _read(self) -> int:
        """One chunk at a time, so that a flood leaves the loop its turn; how many bytes there were."""
        try:
            chunk = os.read(self._fd, CHUNK_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            chunk = b""
        if chunk:
            self._on_output(chunk)
        else:
            self.close()
        return len(chunk)
