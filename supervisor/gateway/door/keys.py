"""The keys that ``goss-supervisor key`` makes: a file that knows them by their hashes only."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from ...errors import ConfigError, NotFound, PermissionDenied, SupervisorError, UsageError

SCHEMA = 1
Scope = Literal["inference", "admin"]
PROFILE, LOCAL = "profile", "local"
"""The names that callers have whose keys are in no file."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is from: the name of its key, and what that may do.  "" is somebody without a key."""

    name: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Key:
    """``digest`` is `digest_of` the secret; ``created`` is UTC, 2026-01-31T12:00:00Z."""

    name: str
    scope: Scope
    digest: str = field(repr=False)
    created: str


def new_secret() -> str:
    """256 random bits: ``gs-`` and 43 letters, digits, ``-`` and ``_``."""
    return f"gs-{secrets.token_urlsafe(32)}"


def digest_of(secret: bytes) -> str:
    """
    SHA-256, in hexadecimal.

    A slow hash such as scrypt protects what people think up.  256 random bits are found from their SHA-256
    by nobody, and every request has to be checked.
    """
    return hashlib.sha256(secret).hexdigest()


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One file of JSON, ``keys.json`` of the configuration folder, 0600.  It need not exist."""

    path: Path

    def keys(self) -> tuple[Key, ...]:
        """Raises ConfigError for a file that is not one of keys, PermissionDenied or SupervisorError."""
        try:
            return _keys_in(self.path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except PermissionError:
            raise PermissionDenied(f"The keys in {self.path} may not be read.") from None
        except OSError as error:
            raise SupervisorError(f"The keys in {self.path} cannot be read: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            why = f"not JSON ({error})" if isinstance(error, json.JSONDecodeError) else "not a list of keys"
            raise ConfigError(
                f"{self.path}: this is {why}.",
                hint="Put it right; or delete it, and make new keys with goss-supervisor key add NAME.",
            ) from None

    def find(self, name: str) -> Key:
        """Raises NotFound with near names, and what `keys` raises."""
        keys = self.keys()
        for key in keys:
            if key.name == name:
                return key
        raise _not_found(name, [key.name for key in keys])

    def add(self, name: str, scope: Scope) -> str:
        """
        The secret of a new key, which is kept nowhere.

        Raises UsageError for a name that cannot be, or is taken, and what `keys` raises.
        """
        keys = self.keys()
        _refuse(name, [key.name for key in keys])
        secret = new_secret()
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write((*keys, Key(name, scope, digest_of(secret.encode("ascii")), created)))
        return secret

    def remove(self, name: str) -> None:
        """Raises NotFound with near names, and what `keys` raises."""
        gone = self.find(name)
        self._write(tuple(key for key in self.keys() if key != gone))

    def _write(self, keys: tuple[Key, ...]) -> None:
        """In one step.  Raises PermissionDenied or SupervisorError; then the file is as it was before."""
        from ...profile.store import write_atomically  # noqa: PLC0415 - YAML, which the daemon does without

        if self.path.exists():
            self.path.chmod(0o600)  # what takes its place takes its mode
        document = {"schema": SCHEMA, "keys": [asdict(key) for key in keys]}
        write_atomically(self.path, json.dumps(document, indent=2) + "\n")


def _keys_in(text: bytes) -> tuple[Key, ...]:
    """Raises ValueError, KeyError or TypeError for what is no document of ours."""
    document = json.loads(text)
    if document["schema"] != SCHEMA:
        raise ValueError(document["schema"])
    keys = tuple(_key(row) for row in document["keys"])
    if len({key.name for key in keys}) < len(keys):
        raise ValueError
    return keys


def _key(row: dict[str, Any]) -> Key:
    key = Key(**row)
    known = _NAME.fullmatch(key.name) and _DIGEST.fullmatch(key.digest) and key.scope in get_args(Scope)
    if not known or not isinstance(key.created, str):
        raise ValueError
    return key


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


def _not_found(name: str, names: list[str]) -> NotFound:
    from difflib import get_close_matches  # noqa: PLC0415 - never in the daemon

    near = get_close_matches(name, names, n=3, cutoff=0.5)
    question = f" Did you mean {', '.join(near)}?" if near else ""
    return NotFound(f"There is no key {name}.{question}", hint="goss-supervisor key ls")
