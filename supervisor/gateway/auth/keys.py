"""The keys of the gateway's clients: the file with their hashes, and the daemon's view of it."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ...decoding import FieldRules, decode
from ...errors import NotFound, SupervisorError, UsageError, similar_names
from ...files import JsonFile

KeyScope = Literal["inference", "admin"]
PROFILE, LOCAL = "profile", "local"
"""The names that callers have whose keys are in no file."""

_REMEDY = "Or delete it, and make new keys with goss-supervisor key add NAME."
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"([1-9][0-9]{0,8})/(s|min|h|d)")
_EXPIRY = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
RATE_WORDS = "requests in a time, such as 60/min (s, min, h or d)"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds."""

    count: int
    seconds: float


def rate_of(text: str) -> Rate | None:
    """``60/min``; None for what is no rate."""
    found = _RATE.fullmatch(text)
    return Rate(int(found[1]), _UNITS[found[2]]) if found else None


def epoch_of(expires: str) -> float | None:
    """``2026-12-31T23:59:59Z`` in seconds of the epoch; None for what is no such time."""
    try:
        return datetime.fromisoformat(expires).timestamp() if _EXPIRY.fullmatch(expires) else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """``models`` are names that clients use, () for all; None is no limit.  ``expires`` is of the epoch."""

    models: tuple[str, ...] = ()
    rate: Rate | None = None
    tokens_per_day: int | None = None
    expires: float | None = None

    def has_expired(self, now: float) -> bool:
        """``now`` is in seconds of the epoch."""
        return self.expires is not None and now >= self.expires


NO_LIMITS = KeyLimits()

_RULES: FieldRules = {
    "name": (_NAME.fullmatch, "a name"),
    "digest": (re.compile(r"[0-9a-f]{64}").fullmatch, "a SHA-256"),
    "rate": (lambda rate: rate is None or rate_of(rate), RATE_WORDS),
    "expires": (lambda expires: expires is None or epoch_of(expires), "a time such as 2026-12-31T23:59:59Z"),
}
_SCHEMA = 2  # 1 had no limits


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request: the name of its key ("" without a key), and what the key allows."""

    name: str
    scope: KeyScope
    limits: KeyLimits = NO_LIMITS


@dataclass(frozen=True, slots=True)
class Key:
    """
    ``digest`` is `digest_of` the secret; ``created`` and ``expires`` are UTC, 2026-01-31T12:00:00Z.  The rest
    are limits, see `KeyLimits`; ``rate`` is as `rate_of` reads it.
    """

    name: str
    scope: KeyScope
    digest: str = field(repr=False)
    created: str
    models: tuple[str, ...] = ()
    rate: str | None = None
    tokens_per_day: int | None = None
    expires: str | None = None

    @property
    def limits(self) -> KeyLimits:
        rate = rate_of(self.rate) if self.rate else None
        expires = epoch_of(self.expires) if self.expires else None
        return KeyLimits(self.models, rate, self.tokens_per_day, expires)


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

    def add(self, name: str, scope: KeyScope, limits: Mapping[str, Any] = MappingProxyType({})) -> str:
        """
        The secret, which is kept nowhere; ``limits`` are fields of `Key`.  Raises UsageError for a name that
        cannot be, and as `keys`.
        """
        secret = new_secret()
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

        def change(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            _refuse(name, [key.name for key in keys])
            return (*keys, Key(name, scope, digest_of(secret.encode("ascii")), created, **limits))

        self._json.update(change)
        return secret

    def limit(self, name: str, limits: Mapping[str, Any]) -> None:
        """Give a key these limits, fields of `Key`; the others stay.  Raises as `remove`."""

        def change(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            changed = _find(name, keys)
            return tuple(replace(key, **limits) if key is changed else key for key in keys)

        self._json.update(change)

    def remove(self, name: str) -> None:
        """Raises NotFound with near names, and what `keys` raises."""

        def change(keys: tuple[Key, ...]) -> tuple[Key, ...]:
            gone = _find(name, keys)
            return tuple(key for key in keys if key != gone)

        self._json.update(change)

    @property
    def _json(self) -> JsonFile[tuple[Key, ...]]:
        """A link is followed, as `write_atomically` of profiles does."""
        return JsonFile(
            self.path.resolve(), _parse, _render, (), schema=_SCHEMA, remedy=_REMEDY, durable=True
        )


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

    __slots__ = (
        "_clock",
        "_file",
        "_local_digest",
        "_looked",
        "_made",
        "_stamp",
        "_wall",
        "digests",
        "local",
    )

    def __init__(
        self,
        path: Path,
        digests: tuple[str, ...] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.digests = digests
        self.take_local(new_secret())
        self._file = KeyFile(path)
        self._clock, self._wall = clock, wall
        self._looked = float("-inf")
        self._stamp: tuple[int, ...] = ()
        self._made: tuple[tuple[str, Caller], ...] | None = None

    def take_local(self, key: str) -> None:
        """The key for commands of its own user: a new one, or after an upgrade that of the former program."""
        self.local, self._local_digest = key, digest_of(key.encode("ascii"))

    @property
    def is_empty(self) -> bool:
        """Whether nobody has made a key; a file that was never understood may hold some."""
        self._look()
        return self._made == () and not self.digests

    @property
    def limits_tokens(self) -> bool:
        """Whether some key has so many tokens a day."""
        self._look()
        return any(caller.limits.tokens_per_day is not None for _, caller in self._made or ())

    def find(self, secret: bytes) -> Caller | None:
        """The owner of this key, unless it has expired.  A profile may have an empty one by mistake."""
        return self.owner_of(digest_of(secret)) if secret else None

    def owner_of(self, digest: str) -> Caller | None:
        """The same, by the key's digest."""
        found = self._match(digest)
        return None if found is None or found.limits.has_expired(self._wall()) else found

    def expired(self, secret: bytes) -> str:
        """The name of this key, which is one that has expired; else ""."""
        found = self._match(digest_of(secret))
        return found.name if found and found.limits.has_expired(self._wall()) else ""

    def _match(self, sent: str) -> Caller | None:
        """Compares the digests of all keys in constant time, even after a match."""
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
            self._made = tuple((key.digest, Caller(key.name, key.scope, key.limits)) for key in keys)
