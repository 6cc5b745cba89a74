"""
Asks a ``ggml-rpc-server`` for its HELLO, and looks whom it serves.

It serves one connection at a time (b11434, ggml-rpc.cpp), so one that is in use answers nobody else, and two
connections fill its queue.  One that was built without our care dies of SIGPIPE when it answers a client that
has hung up.  So one in use is not asked, and every connection ends with a reset, which does it no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from ipaddress import IPv4Address
from pathlib import Path

from ..engine.adapters.rpc_server import HELLO, OLD_HELLO, RESET_ON_CLOSE, protocol_in

_READ_BYTES = 512


async def hello(address: str, port: int, *, timeout_seconds: float) -> str:
    """
    The version of its protocol: ``7.0.0``.  ``address`` is literal.  Raises TimeoutError for one that takes
    the connection and says nothing, since it serves another or hangs; the OSError of a connection that
    cannot be made; and ValueError for another program.
    """
    async with asyncio.timeout(timeout_seconds):
        for greeting in (HELLO, OLD_HELLO):
            if found := await _answered(address, port, greeting):
                return found
    raise ValueError("it is no RPC server")


async def _answered(address: str, port: int, greeting: bytes) -> str:
    """The same; empty where it closes the connection instead."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        loop, answer = asyncio.get_running_loop(), b""
        await loop.sock_connect(connection, (address, port))
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await loop.sock_sendall(connection, greeting)
            while more := await loop.sock_recv(connection, _READ_BYTES):
                answer += more
                found = protocol_in(answer)
                if found is None:
                    raise ValueError("it is no RPC server")
                if found:
                    return found
    return ""


if sys.platform == "linux":
    _ESTABLISHED = "01"  # linux/tcp_states.h
    _QUEUED = "0"  # the inode of a connection that nobody has accepted yet

    def client_at(port: int) -> str | None:
        """
        The address of the client whose connection to ``port`` of this computer was accepted; "" for none,
        None where that cannot be seen.
        """
        try:
            table = Path("/proc/net/tcp").read_text(encoding="ascii")
        except OSError:
            return None
        for row in (line.split() for line in table.splitlines()[1:]):
            if row[1].endswith(f":{port:04X}") and row[3] == _ESTABLISHED and row[9] != _QUEUED:
                return _address(row[2])
        return ""

    def _address(remote: str) -> str:
        """Of ``0100007F:CB2A``: the kernel prints the bytes of the address as a number of this machine."""
        return str(IPv4Address(int(remote.partition(":")[0], 16).to_bytes(4, sys.byteorder)))

else:

    def client_at(port: int) -> str | None:
        """The same; macOS tells it of one's own processes, and of others to root only."""
        import psutil  # noqa: PLC0415 - not on Linux

        try:
            connections = psutil.net_connections(kind="tcp4")
        except psutil.Error:
            return None
        for each in connections:
            if each.laddr and each.laddr.port == port and each.raddr and each.pid:
                return str(each.raddr.ip)
        return ""
