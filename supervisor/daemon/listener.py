"""The daemon's side of the control endpoint: private from its first moment."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable

from ..files import write_json
from ..home.control_socket import Endpoint, TokenEndpoint
from ..home.places import private_folder

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LONGEST_LINE = 4 * 1024 * 1024


async def listen(at: Endpoint, handler: Handler) -> asyncio.Server:
    """
    Serve connections; whatever lies there is stale, since the caller holds the daemon lock.  Raises OSError,
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
