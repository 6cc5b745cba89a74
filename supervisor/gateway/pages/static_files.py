"""The page's files, which come with the program and hold nothing secret."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Final

from ...server.background import beside_the_loop
from ..api.routes import Trouble
from ..http_heads import HeaderLine
from ..relay.client_connection import PlainAnswer

STATIC: Final = Path(__file__).parent / "static"
_NAME: Final = re.compile(r"(?:[a-z0-9_-]+/)*[a-z0-9_-][a-z0-9._-]*\.([a-z]+)", re.ASCII)
_LONGEST_NAME: Final = 100
_KINDS: Final = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "ico": b"image/x-icon",
    "js": b"text/javascript; charset=utf-8",
    "json": b"application/json",
    "png": b"image/png",
    "svg": b"image/svg+xml",
    "webmanifest": b"application/manifest+json",
}
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Final[tuple[HeaderLine, ...]] = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Nothing of elsewhere, nothing inline, and in no frame."""
_NO_FILE: Final = Trouble(404, "not_found", "The page has no such file.")


PageAnswer = tuple[PlainAnswer, tuple[HeaderLine, ...]] | Trouble


async def static_file(name: str, known: bytes | None) -> PageAnswer:
    """The file of this name with its headers; 304 for a browser that has the one with the tag ``known``."""
    found = _NAME.fullmatch(name) if len(name) <= _LONGEST_NAME else None
    kind = _KINDS.get(found[1]) if found else None
    if kind is None:
        return _NO_FILE
    try:
        return await beside_the_loop(partial(_read, name, kind, known))
    except OSError as error:
        return Trouble(503, "unreadable", f"{name} cannot be read: {error.strerror}. Reload the page.")


def _read(name: str, kind: bytes, known: bytes | None) -> PageAnswer:
    try:
        with (STATIC / name).open("rb") as file:
            stat = os.fstat(file.fileno())
            tag = b'"%x-%x"' % (stat.st_mtime_ns, stat.st_size)
            headers = (*HEADERS, (b"cache-control", b"no-cache"), (b"etag", tag))
            if known == tag:
                return (304, b"", b""), headers
            return (200, kind, file.read()), headers
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return _NO_FILE
