"""
Who may come in: by which host, from which page, with which key.  Pure.

A web page can make its visitor's browser ask any address, that of this machine too.  The Host header is the
name by which the browser found us: one that is not ours was pointed here (DNS rebinding).  Origin and
Sec-Fetch-Site, which no page can forge, say which page asks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..api.routes import Access
from ..door.keyring import Keyring
from ..door.rules import Rules, host_is_allowed, normal_origin
from ..http_heads import Head, Header
from .keys import Caller

NOBODY = Caller("", "admin")
"""Without a key where none is needed: the user of this machine, or whoever they let in."""
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
    headers: tuple[Header, ...] = ()


def check(head: Head, access: Access, rules: Rules, keyring: Keyring) -> Caller | Refusal:
    """``access`` is what the route needs.  Costs a few microseconds, and one stat a second."""
    refusal = _refused_host(head, rules) or _refused_origin(head, rules)
    return refusal or _caller(head, access, rules, keyring)


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
        "If that one shall, add it to gateway.allow-origins in the profile.",
    )


_CROSS_SITE = Refusal(
    403,
    "origin_not_allowed",
    "Pages of another site may not use this address. "
    "If that one shall, add its origin to gateway.allow-origins in the profile, and let it ask by CORS.",
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


# --- the key


def _caller(head: Head, access: Access, rules: Rules, keyring: Keyring) -> Caller | Refusal:
    """Where none is needed a wrong one is no offence: many clients cannot be told to send nothing."""
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
        return _UNKNOWN_KEY if sent else _NO_KEY
    if access == "admin" and caller.scope != "admin":
        return _SCOPE
    return caller


def _sent_keys(head: Head) -> list[bytes]:
    """Programs that were told of two keys send both; one that is right is enough."""
    scheme, _, bearer = (head.get(b"authorization") or b"").partition(b" ")
    keys = [bearer.strip() if scheme.lower() == b"bearer" else b"", head.get(b"x-api-key") or b""]
    return [key for key in keys if key]


def _unauthorized(message: str) -> Refusal:
    return Refusal(401, "invalid_api_key", message, ((b"www-authenticate", b"Bearer"),))


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
