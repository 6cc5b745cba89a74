"""
A worker as far as its connections go, in the loop of the test: one after the other, as ``ggml-rpc-server``
(b11434) serves them.  Its process ends, hangs and comes back as the test says.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

HELLO_BYTES = 1 + 8 + 24


class FakeWorker:
    """On a port of its own, which it keeps when it is started anew; ``version`` is the protocol's."""

    def __init__(self, version: tuple[int, int, int] = (7, 0, 0)) -> None:
        self.port = 0
        self.greeted = asyncio.Event()  # somebody has sent HELLO since the test cleared it
        self.left_by_reset = asyncio.Event()  # somebody has left, since the test cleared it
        self.answers = asyncio.Event()  # else it hangs, or serves somebody else
        self.answers.set()
        self._version = version
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> FakeWorker:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        if task := asyncio.current_task():  # also where its test fails: uvloop's loop would never close
            task.add_done_callback(lambda _: self.end())
        return self

    def end(self) -> None:
        """As its process ends: whoever is connected gets a reset."""
        if self._server is not None:
            self._server.close()
        for each in self._open:
            each.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(OSError, EOFError):
            await reader.readexactly(HELLO_BYTES)
            self.greeted.set()
            answers = asyncio.ensure_future(self.answers.wait())
            leaves = asyncio.ensure_future(reader.read())
            await asyncio.wait({answers, leaves}, return_when=asyncio.FIRST_COMPLETED)
            answers.cancel()
            if not leaves.done():
                writer.write(struct.pack("<Q3B25x", 28, *self._version))
            try:
                await leaves
            except ConnectionResetError:
                self.left_by_reset.set()
        self._open.discard(writer)
        writer.transport.abort()
