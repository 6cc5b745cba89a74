"""A short answer of a web server, wholly in memory: a page of an API, or a piece of a file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from . import network
from .fetch import PATIENT, Patience
from .network import Unreachable, host_of


@dataclass(frozen=True, slots=True)
class Page:
    """``url`` is where the redirects led; header names in lower case.  ``whole``: nothing was left unread."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


def page(
    url: str,
    headers: Mapping[str, str],
    most_bytes: int,
    *,
    proxy: str | None = None,
    patience: Patience = PATIENT,
    token: str = "",
) -> Page:
    """
    The answer to a GET, up to ``most_bytes`` of it; what fails on the way, or there, is tried once more.

    ``proxy`` and ``token`` as for ``fetch``.  Raises Unreachable, and what ``network.get`` does.
    """
    ask = partial(_ask, url, headers, most_bytes, proxy=proxy, patience=patience, token=token)
    try:
        found = ask()
        if found.status < 500:
            return found
    except Unreachable as failure:
        if failure.final:
            raise
    patience.sleep(patience.pauses_seconds[0])
    return ask()


def _ask(
    url: str,
    headers: Mapping[str, str],
    most_bytes: int,
    *,
    proxy: str | None,
    patience: Patience,
    token: str,
) -> Page:
    with network.get(url, headers, patience.timeout, proxy, token) as response:
        told = {name.lower(): value for name, value in response.headers.items()}
        body, deadline = bytearray(), time.monotonic() + patience.page_seconds
        for chunk in network.body(response, patience.timeout, unpacked=True):
            body += chunk
            if len(body) > most_bytes:
                break
            if time.monotonic() > deadline:
                raise Unreachable(f"the answer of {host_of(response.url)} takes too long", contact=True)
        whole = len(body) <= most_bytes
        return Page(response.url, response.status_code, told, bytes(body[:most_bytes]), whole)
