"""Who comes, what for, and whether that may be: judged by a request's head alone.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .api.dialects import Dialect, Trouble
from .api.routes import Route, route_of
from .auth.guard import STRANGER, Refusal, check
from .auth.keys import Caller
from .door.cors import cors_headers, preflight, preflight_headers
from .door.keyring import Keyring
from .door.rules import Rules
from .http_heads import Head, Header


@dataclass(frozen=True, slots=True)
class Visit:
    """``headers`` go with every answer, ``trouble`` is why it may not be; a preflight is answered at once."""

    route: Route
    caller: Caller = STRANGER
    headers: tuple[Header, ...] = ()
    trouble: Trouble | None = None
    is_preflight: bool = False

    @property
    def dialect(self) -> Dialect:
        return self.route.dialect


def judge(head: Head, prefix: str, rules: Rules, keyring: Keyring) -> Visit:
    """``prefix`` is llama-server's ``--api-prefix``."""
    route = route_of(head.method, head.path, prefix)
    if preflight(head, rules):
        return Visit(route, headers=preflight_headers(head, rules), is_preflight=True)
    headers = cors_headers(head, rules) if rules.allow_origins else ()
    found = check(head, route.access, rules, keyring)
    if isinstance(found, Refusal):
        trouble = Trouble(found.status, found.code, found.message)
        return Visit(route, headers=(*headers, *found.headers), trouble=trouble)
    return Visit(route, found, headers)
