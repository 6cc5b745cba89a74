"""The address and key for probes of a server and requests to it: the part of a probe that others need."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """
    Whom to ask: a literal address and port, or the path of a Unix socket; and how.  ``pinned`` is a way to
    that socket that stays if its file is removed (see `SocketPin`).  ``rpc``: it speaks llama.cpp's RPC.
    ``greeting`` is what it answered when it became ready.
    """

    address: str
    port: int
    host_header: str = "localhost"
    unix: bool = False
    tls: bool = False
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # with a key: not for logs
    pinned: str = ""
    rpc: bool = False
    greeting: bytes = b""
    gathers: ClassVar[bool] = True  # pieces of its streams may be read together, from the descriptor itself

    @property
    def socket_path(self) -> str:
        """By which the Unix socket is reached."""
        return self.pinned or self.address

    async def connect(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Open a connection for requests of clients, without TLS.  Raises OSError and ValueError."""
        loop = asyncio.get_running_loop()
        if sys.platform != "win32" and self.unix:
            await loop.create_unix_connection(protocol, self.socket_path)
        else:
            await loop.create_connection(protocol, self.address, self.port)
