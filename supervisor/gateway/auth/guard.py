"""
Who may use the gateway: by Host header, by the web page that asks (CORS), and by key.  Pure.

A web page can make a browser send requests to any address, also on this machine.  Host is the name by which
the browser found us: a name that is not ours was pointed here (DNS rebinding).  Origin and Sec-Fetch-Site,
which no page can forge, say which page asks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Protocol

from ...plan.listen import Listen
from ..api.routes import READING, CallerAccess, Dialect, Route, Trouble, route_of
from ..http_heads import Head, HeaderLine
from .keys import Caller, Keyring

NOBODY = Caller("", "admin")
"""Without a key where none is needed: the user of this machine, or anyone they let in."""
STRANGER = Caller("", "inference")
"""Without a key where one is needed: sees what is public."""

_HIDDEN = re.compile(r"[^A-Za-z0-9._:/\[\]-]")
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the client is answered with; ``message`` is sentences, ``code`` a word for programs."""

    status: int
    code: str
    message: str
    headers: tuple[HeaderLine, ...] = ()


class SessionFinder(Protocol):
    """What this module needs of `PageSessions`."""

    def find(self, head: Head) -> Caller | None:
        """Whose session the request belongs to; None where there is none."""


def check(
    head: Head,
    access: CallerAccess,
    rules: Rules,
    keyring: Keyring,
    sessions: SessionFinder | None = None,
) -> Caller | Refusal:
    """
    ``access`` is what the route needs; ``sessions`` are given where a session counts as well as a key.
    Costs a few microseconds, and one stat a second.
    """
    refusal = _refused_host(head, rules) or _refused_origin(head, rules)
    of_session = _of_session(head, sessions) if sessions and refusal is None else None
    return refusal or of_session or _caller(head, access, rules, keyring)


# --- the host


def _refused_host(head: Head, rules: Rules) -> Refusal | None:
    host = head.get(b"host")
    if host is None:
        return None  # in HTTP/1.0 only (see `parse_head`), and no browser speaks that
    if host_is_allowed(host, rules):
        return None
    return Refusal(
        403,
        "host_not_allowed",
        f"This address answers to localhost and 127.0.0.1, not to the host {_shown(host)}. "
        "If that name is yours, add it to gateway.allow-hosts in the profile.",
    )


# --- the page


def _refused_origin(head: Head, rules: Rules) -> Refusal | None:
    origin = head.get(b"origin")
    if origin is None:
        return None if _is_from_here(head) else _CROSS_SITE
    if is_own_origin(origin, head) or normal_origin(origin) in rules.allow_origins:
        return None
    return Refusal(
        403,
        "origin_not_allowed",
        f"Pages of {_shown(origin)} may not use this address. "
        "To allow it, add it to gateway.allow-origins in the profile.",
    )


_CROSS_SITE = Refusal(
    403,
    "origin_not_allowed",
    "Pages of another site may not use this address. "
    "To allow it, add its origin to gateway.allow-origins in the profile, and use CORS in the page.",
)


def _is_from_here(head: Head) -> bool:
    """
    Whether a request without Origin is from no page, from our own, or somebody followed a link.

    Browsers leave Origin out of what a page loads as image or script, or shows in a frame, but then they say
    in Sec-Fetch-Site (not to plain http beyond loopback, and old ones never) whose page it is.  Another port
    of this machine is "same-site".
    """
    if head.get(b"sec-fetch-site") in {None, b"same-origin", b"none"}:
        return True
    followed = head.method in {"GET", "HEAD"} and head.get(b"sec-fetch-mode") == b"navigate"
    return followed and head.get(b"sec-fetch-dest") in {None, b"document"}


def is_own_origin(origin: bytes, head: Head) -> bool:
    """Whether the page came from the very address that it asks now.  TLS may end before us: either scheme."""
    host = head.get(b"host")
    if not host:
        return False
    origin = normal_origin(origin)
    return origin in {normal_origin(b"http://" + host), normal_origin(b"https://" + host)}


# --- the session


def _of_session(head: Head, sessions: SessionFinder) -> Caller | Refusal | None:
    """
    Who has logged in on our own page.  A browser sends the cookie for other ports of this host too, so only
    an origin that is our own may use it; and what changes something has to say that it comes from there.
    """
    origin = head.get(b"origin")
    if (origin is not None and not is_own_origin(origin, head)) or _sent_keys(head):
        return None
    caller = sessions.find(head)
    if caller is None or head.method in READING or origin is not None:
        return caller
    return caller if head.get(b"sec-fetch-site") == b"same-origin" else _NOT_FROM_PAGE


_NOT_FROM_PAGE = Refusal(
    403,
    "origin_not_allowed",
    "A session changes something only from its own page, and this request has no Origin. Use a key instead.",
)


# --- the key


def _caller(head: Head, access: CallerAccess, rules: Rules, keyring: Keyring) -> Caller | Refusal:
    """Where none is needed a wrong one is no offence: many clients always send one."""
    asks = rules.asks_for_key(keyring)
    if not asks and keyring.is_empty:
        return NOBODY
    sent = _sent_keys(head)
    caller = next((found for key in sent if (found := keyring.find(key))), None)
    if not asks:
        return caller or NOBODY
    if access == "public":
        return caller or STRANGER
    if caller is None:
        expired = next(filter(None, map(keyring.expired, sent)), "")
        return _of_expired(expired) if expired else _UNKNOWN_KEY if sent else _NO_KEY
    if access == "admin" and caller.scope != "admin":
        return _SCOPE
    return caller


def _sent_keys(head: Head) -> list[bytes]:
    """Programs with two keys send both; one valid key is enough."""
    scheme, _, bearer = (head.get(b"authorization") or b"").partition(b" ")
    keys = [bearer.strip() if scheme.lower() == b"bearer" else b"", head.get(b"x-api-key") or b""]
    return [key for key in keys if key]


def _unauthorized(message: str, code: str = "invalid_api_key") -> Refusal:
    return Refusal(401, code, message, ((b"www-authenticate", b"Bearer"),))


def _of_expired(name: str) -> Refusal:
    how = f"goss-supervisor key set {name} --expires 30d makes it valid again."
    return _unauthorized(f"The key {name} has expired. {how}", "key_expired")


_HOW = "goss-supervisor key add NAME makes one."
_NO_KEY = _unauthorized(
    f"This address asks for a key, as Authorization: Bearer KEY or as X-Api-Key: KEY. {_HOW}"
)
_UNKNOWN_KEY = _unauthorized(f"The key that was sent is not known here. {_HOW}")
_SCOPE = Refusal(
    403,
    "key_scope",
    "This key has the scope inference, and this asks for the scope admin. "
    "goss-supervisor key add NAME --scope admin makes one that may.",
)


def _shown(value: bytes) -> str:
    """What a stranger wrote: bounded, and of characters that mean nothing in HTML, JSON or a terminal."""
    text = value[: _LONGEST_SHOWN + 1].decode("latin-1")
    cut = "..." if len(text) > _LONGEST_SHOWN else ""
    return (_HIDDEN.sub("?", text[:_LONGEST_SHOWN]) or "(empty)") + cut


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


_ORIGIN = re.compile(rb"[!-~]{1,255}")
_NAMES = re.compile(rb"[A-Za-z0-9_,\t -]{1,2048}")
_KEEP_SECONDS = b"7200"  # Chromium keeps it no longer (kMaxTimeout in its preflight_result.cc)


def cors_headers(head: Head, rules: Rules) -> tuple[HeaderLine, ...]:
    """For every answer, a refusal too, to an allowed page of elsewhere; nothing for anybody else."""
    origin = _allowed_origin(head, rules)
    if origin is None:
        return ()
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    )


def preflight(head: Head, rules: Rules) -> bool:
    """Whether this is a preflight request for an allowed page.  It cannot have a key yet."""
    asks = head.method == "OPTIONS" and head.get(b"access-control-request-method") is not None
    return asks and _allowed_origin(head, rules) is not None


def preflight_headers(head: Head, rules: Rules) -> tuple[HeaderLine, ...]:
    """Those of the answer 204.  Names are repeated: with credentials ``*`` is one as any other."""
    asked = head.get(b"access-control-request-headers") or b""
    names = asked if _NAMES.fullmatch(asked) else b"authorization, content-type, x-api-key"
    return (
        *cors_headers(head, rules),
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        (b"access-control-allow-headers", names),
        (b"access-control-max-age", _KEEP_SECONDS),
    )


def _allowed_origin(head: Head, rules: Rules) -> bytes | None:
    """The origin as it was sent, where it is allowed and not our own."""
    origin, host = head.get(b"origin"), head.get(b"host")
    if origin is None or not _ORIGIN.fullmatch(origin) or normal_origin(origin) not in rules.allow_origins:
        return None
    if is_own_origin(origin, head) or (host is not None and not host_is_allowed(host, rules)):
        return None
    return origin


@dataclass(frozen=True, slots=True)
class RequestContext:
    """
    ``headers`` go with every answer, ``trouble`` is why it may not be; a preflight is answered at once.
    One that belongs to an operation which holds a server has the id of that ``hold``; see `with_hold`.
    """

    route: Route
    caller: Caller = STRANGER
    headers: tuple[HeaderLine, ...] = ()
    trouble: Trouble | None = None
    is_preflight: bool = False
    hold: int = 0
    held_profile: str = ""

    @property
    def dialect(self) -> Dialect:
        return self.route.dialect


def judge(
    head: Head, prefix: str, rules: Rules, keyring: Keyring, sessions: SessionFinder | None = None
) -> RequestContext:
    """``prefix`` is llama-server's ``--api-prefix``."""
    route = route_of(head.method, head.path, prefix)
    if preflight(head, rules):
        return RequestContext(route, headers=preflight_headers(head, rules), is_preflight=True)
    headers = cors_headers(head, rules) if rules.allow_origins else ()
    found = check(head, route.access, rules, keyring, sessions if route.takes_session else None)
    if isinstance(found, Refusal):
        trouble = Trouble(found.status, found.code, found.message)
        return RequestContext(route, headers=(*headers, *found.headers), trouble=trouble)
    return RequestContext(route, found, headers)
