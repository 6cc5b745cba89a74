"""The address and key for probes of a server: the part of a probe that others need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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

    @property
    def socket_path(self) -> str:
        """By which the Unix socket is reached."""
        return self.pinned or self.address
