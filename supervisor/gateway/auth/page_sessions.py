"""
Sessions of the page: a person gives a key once, or opens it by `goss-supervisor open`, and gets a cookie.

They are kept in memory only, by their hashes, and end with the daemon, with their key, or after 12 hours.
"""

from __future__ import annotations

import os
import secrets
import struct
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from ..http_heads import Head
from .keys import LOCAL, Caller, Keyring, digest_of

SESSION_SECONDS: Final = 12 * 3600
CODE_SECONDS: Final = 60.0
MOST_SESSIONS, MOST_CODES = 100, 20
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_OWN_USER: Final = Caller(LOCAL, "admin")


@dataclass(frozen=True, slots=True)
class PageSession:
    """``key`` is the digest of the key that it was begun with; "" for one that a code began."""

    ends: float
    key: str


class PageSessions:
    """
    Of one gateway; ``clock`` is in seconds.  The name of the cookie is the gateway's own: browsers keep one
    of each name for all ports of a host, so a login at another daemon would replace it.
    """

    def __init__(self, keyring: Keyring, clock: Callable[[], float] = time.monotonic) -> None:
        self.cookie = f"goss_session_{secrets.token_hex(4)}"
        self._keyring, self._clock = keyring, clock
        self.sessions: dict[str, PageSession] = {}  # by the digest of the cookie, oldest first
        self._codes: dict[str, float] = {}  # by the digest of the code: until when it counts

    def new_code(self) -> str:
        """A code that begins a session, once, within a minute; for commands of the daemon's own user."""
        code = secrets.token_urlsafe(32)
        self._codes[digest_of(code.encode("ascii"))] = self._clock() + CODE_SECONDS
        while len(self._codes) > MOST_CODES:
            del self._codes[next(iter(self._codes))]
        return code

    def takes(self, code: bytes) -> bool:
        """Whether this is a code that counts.  It does not any more, afterwards."""
        return self._codes.pop(digest_of(code), 0.0) > self._clock()

    def begin(self, key: bytes = b"") -> str:
        """The value of the new session's cookie; ``key`` is the one that begins it, if none of the codes."""
        value = secrets.token_urlsafe(32)
        session = PageSession(self._clock() + SESSION_SECONDS, digest_of(key) if key else "")
        self.sessions[digest_of(value.encode("ascii"))] = session
        while len(self.sessions) > MOST_SESSIONS:
            del self.sessions[next(iter(self.sessions))]
        return value

    def find(self, head: Head) -> Caller | None:
        """Whose session the request belongs to; None where there is none, or it is over."""
        return next(filter(None, map(self._owner_of, _digests(head, self.cookie))), None)

    def _owner_of(self, digest: str) -> Caller | None:
        session = self.sessions.get(digest)
        if session is None:
            return None
        owner = self._keyring.owner_of(session.key) if session.key else _OWN_USER
        if session.ends > self._clock() and owner is not None and owner.scope == "admin":
            return owner
        del self.sessions[digest]
        return None

    def end(self, head: Head) -> None:
        """That of this request, if it has one."""
        for digest in _digests(head, self.cookie):
            self.sessions.pop(digest, None)


def is_of_another_user(end: object, tables: Sequence[str] = _TABLES) -> bool:
    """
    Whether another user of this computer, but root, holds this end of a connection: (host, port, …).

    All users can read the command line of the browser that `open` starts, and the code there.  Only Linux
    tells who holds a socket; elsewhere the code alone has to do.
    """
    own: int = getattr(os, "getuid", int)()  # Windows has neither
    return user_of(end, tables) not in {None, 0, own}


def user_of(end: object, tables: Sequence[str] = _TABLES) -> int | None:
    """The id of the user of this computer who holds it; None for another computer, or where it is unknown."""
    if not isinstance(end, tuple):
        return None
    address = ip_address(end[0])
    address = getattr(address, "ipv4_mapped", None) or address
    if not address.is_loopback:
        return None
    mapped = ip_address(f"::ffff:{address}") if address.version == 4 else address
    wanted = {_written(each, end[1]) for each in (address, mapped)}
    return next((user for table in tables if (user := _user_in(table, wanted)) is not None), None)


def _written(address: IPv4Address | IPv6Address, port: int) -> str:
    """As the kernel writes it: words of 32 bits, each in the machine's own order."""
    words = struct.unpack(f"={len(address.packed) // 4}I", address.packed)
    return f"{''.join(f'{word:08X}' for word in words)}:{port:04X}"


def _user_in(table: str, wanted: Collection[str]) -> int | None:
    """The owner of the socket with one of these addresses; None where it is not in the table."""
    with suppress(OSError), open(table, encoding="ascii") as lines:  # noqa: PTH123 - a file of the kernel
        for line in lines:
            columns = line.split()
            if columns[1] in wanted:
                return int(columns[7])
    return None


def _digests(head: Head, cookie: str) -> Iterator[str]:
    """
    Of the values of this cookie.  A browser sends several where another program of this host, or one
    behind the same proxy, set one for a path or domain of its own; one that is not ours must not log out.
    """
    name = cookie.encode("ascii")
    for header, value in head.headers:
        for pair in value.split(b";") if header == b"cookie" else ():
            key, _, content = pair.strip().partition(b"=")
            if key == name and content:
                yield digest_of(content)
