"""Where the control socket is served: a Unix socket, or a loopback port whose clients send a token first."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable

from ..files import is_at, write_json
from ..home.control_socket import Endpoint, TokenEndpoint
from ..home.places import private_folder

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LONGEST_LINE = 4 * 1024 * 1024


class ControlSocket:
    """The daemon's, while it is open; its file may be removed, and is put back then."""

    def __init__(self, at: Endpoint, handler: Handler) -> None:
        self._at, self._handler = at, handler
        self._server: asyncio.Server | None = None
        self._file: os.stat_result | None = None

    async def open(self, inherited: int | None = None) -> None:
        """With a descriptor that listens there already, if there is one.  Raises as `listen` does."""
        if sys.platform != "win32" and inherited is not None:
            sock = socket.socket(fileno=inherited)
            self._server = await asyncio.start_unix_server(self._handler, sock=sock, limit=LONGEST_LINE)
        else:
            self._server = await listen(self._at, self._handler)
        self._file = self._at.path.stat()

    def is_in_place(self) -> bool:
        """Looks at the disk."""
        return self._server is None or is_at(self._at.path, self._file)

    async def put_back(self) -> None:
        """Raises as `listen` does, and is tried again then."""
        if self._server is not None:
            self._server.close()
            self._file = None
            await self.open()

    @property
    def descriptor(self) -> int:
        """For the program that takes our place."""
        assert self._server is not None
        return self._server.sockets[0].fileno()

    def let_go(self) -> None:
        """Serve no client any more; in a copy, another process does."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def close(self) -> None:
        self.let_go()
        self._at.path.unlink(missing_ok=True)


async def listen(at: Endpoint, handler: Handler) -> asyncio.Server:
    """
    Serve connections; any file there is stale, since the caller holds the daemon lock.  Raises OSError,
    and PermissionDenied for a folder of somebody else.
    """
    private_folder(at.path.parent)
    at.path.unlink(missing_ok=True)
    if sys.platform != "win32" and not isinstance(at, TokenEndpoint):
        mask = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(handler, at.path, limit=LONGEST_LINE)
        finally:
            os.umask(mask)
    assert isinstance(at, TokenEndpoint)
    return await _with_token(at, handler)


async def _with_token(at: TokenEndpoint, handler: Handler) -> asyncio.Server:
    import secrets  # noqa: PLC0415 - only Windows comes here

    token = secrets.token_hex(32)

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent = await reader.readline()
        if secrets.compare_digest(sent.strip(), token.encode()):
            await handler(reader, writer)
        else:
            writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, limit=LONGEST_LINE)
    write_json(at.path, {"port": server.sockets[0].getsockname()[1], "token": token})
    return server


async def line_of(reader: asyncio.StreamReader) -> bytes:
    """The request; empty where it is longer than any."""
    try:
        return await reader.readline()
    except ValueError:
        return b""
