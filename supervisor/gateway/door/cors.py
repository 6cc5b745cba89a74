"""What browsers want to hear before a page of an allowed origin may read our answers: CORS, of Fetch."""

from __future__ import annotations

import re

from ..auth.guard import is_own_origin
from ..http_heads import Head, Header
from .rules import Rules, host_is_allowed, normal_origin

_ORIGIN = re.compile(rb"[!-~]{1,255}")
_NAMES = re.compile(rb"[A-Za-z0-9_,\t -]{1,2048}")
_KEEP_SECONDS = b"7200"  # Chromium keeps it no longer (kMaxTimeout in its preflight_result.cc)


def cors_headers(head: Head, rules: Rules) -> tuple[Header, ...]:
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
    """Whether this is a browser that asks beforehand, for an allowed page.  It cannot send a key yet."""
    asks = head.method == "OPTIONS" and head.get(b"access-control-request-method") is not None
    return asks and _allowed_origin(head, rules) is not None


def preflight_headers(head: Head, rules: Rules) -> tuple[Header, ...]:
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
