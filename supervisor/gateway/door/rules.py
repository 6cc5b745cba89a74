"""An address's terms, made once from what its profile says.  Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ...plan.listen import Listen
from .keyring import Keyring

Needed = Literal["never", "once there is one", "always"]

_LOOPBACK = rb"localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]"
_DOOR_ON_LOOPBACK = re.compile(_LOOPBACK, re.IGNORECASE)
_HOST_ON_LOOPBACK = re.compile(
    rb"(?:(?:[a-z0-9_-]+\.)*localhost\.?|%b)(?::[0-9]{1,5})?" % _LOOPBACK, re.IGNORECASE
)
_HOST = re.compile(rb"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Rules:
    """The terms, ready to be compared with.  Hosts are in small letters, origins as `normal_origin`."""

    checks_host: bool
    allow_hosts: frozenset[bytes]
    allow_origins: frozenset[bytes]
    needs_key: Needed

    def asks_for_key(self, keyring: Keyring) -> bool:
        """On loopback that changes when the first key is made."""
        if self.needs_key == "once there is one":
            return not keyring.is_empty
        return self.needs_key == "always"


def rules_of(listen: Listen) -> Rules:
    """A Unix socket is nobody's network: its mode says who may use it, and no browser can ask it."""
    hosts = [host.strip().removeprefix("[").removesuffix("]") for host in listen.host.split(",")]
    at_home = all(host.endswith(".sock") or _is_loopback(host) for host in hosts)
    needs_key: Needed = "once there is one" if at_home and not listen.keys else "always"
    settings = listen.settings
    return Rules(
        checks_host=at_home and any(map(_is_loopback, hosts)),
        allow_hosts=frozenset(host.lower().encode() for host in settings.allow_hosts),
        allow_origins=frozenset(normal_origin(origin.encode()) for origin in settings.allow_origins),
        needs_key="never" if settings.allow_unauthenticated else needs_key,
    )


def _is_loopback(host: str) -> bool:
    """Of all names only localhost is trusted: where another one leads is known to the resolver alone."""
    address = f"[{host}]" if ":" in host else host
    return _DOOR_ON_LOOPBACK.fullmatch(address.encode()) is not None


def host_is_allowed(host: bytes, rules: Rules) -> bool:
    """``host`` as the header has it.  An allowed name without a port goes with any."""
    if not rules.checks_host or _HOST_ON_LOOPBACK.fullmatch(host):
        return True
    host = host.lower()
    found = _HOST.fullmatch(host)
    return found is not None and (host in rules.allow_hosts or found[1] in rules.allow_hosts)


def normal_origin(origin: bytes) -> bytes:
    """In small letters, and without the port that its scheme has anyway."""
    origin = origin.lower()
    if origin.startswith(b"http://"):
        return origin.removesuffix(b":80")
    return origin.removesuffix(b":443") if origin.startswith(b"https://") else origin
