"""
The gateway's listening sockets, which the service manager keeps open if the daemon is killed: clients that
connect before the next daemon runs wait in the backlog and are not refused.

A socket that closes for good is shut down, not only closed: the manager's copy would go on accepting clients
until the manager has heard of it, and would keep its address from being bound again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Protocol

from ..server.preflight import somebody_listens_at

log = logging.getLogger(__name__)

_PREFIX = "gateway-"
_LONGEST_NAME = 255  # FDNAME_MAX of systemd


class SocketKeeper(Protocol):
    """What this module needs of the service manager."""

    @property
    def stores(self) -> bool:
        """Whether there is one."""

    def store(self, name: str, descriptor: int) -> None:
        """Have it keep this socket, unless it has one of this name."""

    def unstore(self, name: str) -> None:
        """Have it close what it keeps under this name."""


class SocketStore:
    """
    ``passed`` are the descriptors that the manager passed to this process, with their names: those that a
    former daemon left, and perhaps others, which are closed.  Without a ``keeper`` nothing is kept.
    """

    def __init__(self, keeper: SocketKeeper | None = None, passed: Iterable[tuple[str, int]] = ()) -> None:
        self._keeper = keeper if keeper is not None and keeper.stores else None
        self._passed = tuple(passed)

    def claim(self, addresses: Sequence[str], port: int = 0) -> dict[str, socket.socket]:
        """
        By address, the sockets of a former daemon that listen there, at this port; 0: at a path.  All others
        end here, before anything else is bound.
        """
        wanted = {socket_name(each, port): each for each in addresses}
        passed, self._passed = self._passed, ()
        found: dict[str, socket.socket] = {}
        for name, descriptor in passed:
            sock, address = _socket_of(descriptor), wanted.pop(name, None)
            if sock is not None and address is not None and listens_at(sock, address, port):
                log.info("the service manager has kept %s open", name)
                found[address] = sock
            else:
                self._end(name, sock)
                if sock is not None:
                    sock.close()
        return found

    def keep(self, sockets: Iterable[socket.socket]) -> None:
        """The manager keeps these, unless it does already."""
        if self._keeper is not None:
            for each in sockets:
                self._keeper.store(_name_of(each), each.fileno())

    def drop(self, sockets: Iterable[socket.socket]) -> None:
        """These close for good."""
        if self._keeper is not None:
            for each in sockets:
                self._end(_name_of(each), each)

    def _end(self, name: str, sock: socket.socket | None) -> None:
        if self._keeper is not None:
            self._keeper.unstore(name)
        if sock is not None and name.startswith(_PREFIX):  # others may be a socket unit's, which goes on
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def socket_name(address: str, port: int) -> str:
    """Of the socket at this address, or with port 0 at this path: as systemd allows it, and one for each."""
    plain = "".join(each if _is_plain(each) else f"%{ord(each):02x}" for each in address)
    name = f"{_PREFIX}{plain}-{port}" if port else f"{_PREFIX}{plain}"
    return name if len(name) <= _LONGEST_NAME else _PREFIX + hashlib.sha256(name.encode()).hexdigest()


def _is_plain(letter: str) -> bool:
    return letter.isascii() and letter.isprintable() and letter not in "%:"


def listens_at(sock: socket.socket, address: str, port: int = 0) -> bool:
    """Whether clients of exactly this address, or with port 0 this path, come in at this socket."""
    try:
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        if not port:
            return sock.getsockname() == address and somebody_listens_at(address)
        return sock.family in {socket.AF_INET, socket.AF_INET6} and sock.getsockname()[:2] == (address, port)
    except OSError:
        return False


def _name_of(sock: socket.socket) -> str:
    at = sock.getsockname()
    return socket_name(at, 0) if isinstance(at, str) else socket_name(at[0], at[1])


def _socket_of(descriptor: int) -> socket.socket | None:
    """None for a descriptor of something else, which is closed."""
    try:
        return socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return None
