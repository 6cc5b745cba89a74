"""
Sessions of the page: a person gives a key once, or opens it by `goss-supervisor open`, and gets a cookie.

They are kept in memory only, by their hashes, and end with the daemon, with their key, or after 12 hours.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..http_heads import Head
from .keys import LOCAL, Caller, Keyring, digest_of

COOKIE: Final = "goss_session"
SESSION_SECONDS: Final = 12 * 3600
CODE_SECONDS: Final = 60.0
MOST_SESSIONS, MOST_CODES = 100, 20
_OWN_USER: Final = Caller(LOCAL, "admin")


@dataclass(frozen=True, slots=True)
class PageSession:
    """``key`` is the digest of the key that it was begun with; "" for one that a code began."""

    ends: float
    key: str


class PageSessions:
    """Of one gateway; ``clock`` is in seconds."""

    def __init__(self, keyring: Keyring, clock: Callable[[], float] = time.monotonic) -> None:
        self._keyring, self._clock = keyring, clock
        self._sessions: dict[str, PageSession] = {}  # by the digest of the cookie, oldest first
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
        self._sessions[digest_of(value.encode("ascii"))] = session
        while len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return value

    def find(self, head: Head) -> Caller | None:
        """Whose session the request belongs to; None for one that is over."""
        value = _cookie(head)
        digest = digest_of(value) if value else ""
        session = self._sessions.get(digest)
        if session is None:
            return None
        owner = self._keyring.owner_of(session.key) if session.key else _OWN_USER
        if session.ends > self._clock() and owner is not None and owner.scope == "admin":
            return owner
        del self._sessions[digest]
        return None

    def end(self, head: Head) -> None:
        """That of this request, if it has one."""
        self._sessions.pop(digest_of(_cookie(head)), None)


def _cookie(head: Head) -> bytes:
    """The value of the session's cookie; empty without one."""
    name = COOKIE.encode("ascii")
    for header, value in head.headers:
        for pair in value.split(b";") if header == b"cookie" else ():
            key, _, content = pair.strip().partition(b"=")
            if key == name:
                return content
    return b""
