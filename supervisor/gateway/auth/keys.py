"""The keys of the gateway's clients: the file with their hashes, and the daemon's view of it."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...decoding import FieldRules, decode
from ...errors import NotFound, SupervisorError, UsageError, similar_names
from ...files import JsonFile

KeyScope = Literal["inference", "admin"]
PROFILE, LOCAL = "profile", "local"
"""The names that callers have whose keys are in no file."""

_REMEDY = "Or delete it, and make new keys with goss-supervisor key add NAME."
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RULES: FieldRules = {
    "name": (_NAME.fullmatch, "a name"),
    "digest": (re.compile(r"[0-9a-f]{64}").fullmatch, "a SHA-256"),
}


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: the name of its key ("" without a key), and what the key allows."""

    name: str
    scope: KeyScope


@dataclass(frozen=True, slots=True)
class Key:
    """``digest`` is `digest_of` the secret; ``created`` is UTC, 2026-01-31T12:00:00Z."""

    name: str
    scope: KeyScope
    digest: str = field(repr=False)
    created: str


def new_secret() -> str:
    """256 random bits: ``gs-`` and 43 letters, digits, ``-`` and ``_``."""
    return f"gs-{secrets.token_urlsafe(32)}"


def digest_of(secret: bytes) -> str:
    """SHA-256, in hexadecimal: quick, and nobody finds 256 random bits from it."""
    return hashlib.sha256(secret).hexdigest()


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One file of JSON, ``keys.json`` of the configuration folder, 0600.  It need not exist."""

    path: Path

    def keys(self) -> tuple[Key, ...]:
        """Raises ConfigError for a file that is not one of keys, PermissionDenied or SupervisorError."""
        return self._json.read()

    def find(self, name: str) -> Key:
        """Raises NotFound with near names, and what `keys` raises."""
        return _find(name, self.keys())

    def add(self, name: str, scope: KeyScope) -> str:
        """The secret, which is kept nowhere.  Raises UsageError for a name that cannot be, and as `keys`."""
        secret = new_secret()
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

        def change(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            _refuse(name, [key.name for key in keys])
            return (*keys, Key(name, scope, digest_of(secret.encode("ascii")), created))

        self._json.update(change)
        return secret

    def remove(self, name: str) -> None:
        """Raises NotFound with near names, and what `keys` raises."""

        def change(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            gone = _find(name, keys)
            return tuple(key for key in keys if key != gone)

        self._json.update(change)

    @property
    def _json(self) -> JsonFile[tuple[Key, ...]]:
        """A link is followed, as `write_atomically` of profiles does."""
        return JsonFile(self.path.resolve(), _parse, _render, (), remedy=_REMEDY, durable=True)


def _render(keys: tuple[Key, ...]) -> dict[str, Any]:
    return {"keys": [asdict(key) for key in keys]}


def _parse(document: dict[str, Any]) -> tuple[Key, ...]:
    """Raises ValueError, KeyError or TypeError for what is no document of ours."""
    keys = tuple(decode(Key, row, _RULES) for row in document["keys"])
    if len({key.name for key in keys}) < len(keys):
        raise ValueError
    return keys


def _refuse(name: str, taken: list[str]) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a key.", hint="1 to 64 letters, digits, '.', '_' and '-' make one."
        )
    if name in (PROFILE, LOCAL):
        raise UsageError(
            f"A key may not be called {name}.",
            hint="That is what requests are called whose key comes from the profile or from this program.",
        )
    if name in taken:
        raise UsageError(
            f"There is a key {name} already.",
            hint=f"Choose another name, or goss-supervisor key rm {name} first.",
        )


def _find(name: str, keys: tuple[Key, ...]) -> Key:
    """Raises NotFound with near names."""
    for key in keys:
        if key.name == name:
            return key
    near = similar_names(name, [key.name for key in keys], 3)
    question = f" Did you mean {', '.join(near)}?" if near else ""
    raise NotFound(f"There is no key {name}.{question}", hint="goss-supervisor key ls")


log = logging.getLogger(__name__)

_LOCAL, _PROFILE = Caller(LOCAL, "admin"), Caller(PROFILE, "inference")
LOOK_SECONDS = 1.0  # a key that is made or removed counts after this long at most


class Keyring:
    """
    Asked for every request.  A file that cannot be understood changes nothing: the keys last known stay.

    ``digests`` are of the keys that the profile gives.  ``local`` is a key for commands of its own user.
    """

    __slots__ = ("_clock", "_file", "_local_digest", "_looked", "_made", "_stamp", "digests", "local")

    def __init__(
        self, path: Path, digests: tuple[str, ...] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.digests = digests
        self.local = new_secret()
        self._local_digest = digest_of(self.local.encode("ascii"))
        self._file = KeyFile(path)
        self._clock = clock
        self._looked = float("-inf")
        self._stamp: tuple[int, ...] = ()
        self._made: tuple[tuple[str, Caller], ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nobody has made a key; a file that was never understood may hold some."""
        self._look()
        return self._made == () and not self.digests

    def find(self, secret: bytes) -> Caller | None:
        """The owner of this key."""
        return (
            self.owner_of(digest_of(secret)) if secret else None
        )  # a profile may have an empty one by mistake

    def owner_of(self, sent: str) -> Caller | None:
        """Of the key with this digest.  Compares all in constant time, even after a match."""
        self._look()
        found = None
        for digest, caller in self._callers():
            if hmac.compare_digest(sent, digest):
                found = caller
        return found

    def _callers(self) -> Iterator[tuple[str, Caller]]:
        yield self._local_digest, _LOCAL
        for digest in self.digests:
            yield digest, _PROFILE
        yield from self._made or ()

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        stamp = self._stamp_of_file()
        if stamp != self._stamp:
            self._stamp = stamp  # also of a broken file, so it is reported once
            self._read()

    def _stamp_of_file(self) -> tuple[int, ...]:
        """Changes whenever the file does."""
        try:
            stat = self._file.path.stat()
        except OSError as error:
            return (error.errno or 0,)
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> None:
        try:
            keys = self._file.keys()
        except SupervisorError as error:
            log.warning("%s The keys last known stay. %s", error, error.hint)
        else:
            self._made = tuple((key.digest, Caller(key.name, key.scope)) for key in keys)
