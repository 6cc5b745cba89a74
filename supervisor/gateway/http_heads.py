"""
The head of a request: parsed by llhttp, then checked for what proxies and servers read differently.

Nothing of a head is passed on as it came.  What goes to llama-server is written anew from the parsed fields
(`upstream_head`), with one length that is known to be right, so there is nothing left to smuggle with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httptools

from ..server.probe import Target

HEAD_END = b"\r\n\r\n"
_LONGEST_LENGTH = 18  # digits; 2**63 has 19
_ONCE = frozenset((b"host", b"content-length", b"transfer-encoding", b"authorization", b"x-api-key"))
_OURS = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer "
    b"transfer-encoding upgrade content-length expect authorization x-api-key".split()
)
"""Between two neighbours only (RFC 9110, 7.6.1), or said by us in our own words."""

Header = tuple[bytes, bytes]


class BadRequest(Exception):
    """The client is answered with ``status`` and closed: where its request ends is not known."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True, slots=True)
class Head:
    """
    One request, up to its body.  Names of headers are in small letters; values are as they came.

    ``path`` is the target without the query, not decoded.  ``length`` is the body's in bytes, or None where
    it comes in chunks; 0 where there is none.
    """

    method: str
    target: bytes
    path: str
    version: str  # 1.1 or 1.0
    headers: tuple[Header, ...]
    length: int | None
    keep_alive: bool
    expects_continue: bool

    @property
    def persists(self) -> bool:
        """Whether another request may follow on the same connection."""
        return self.keep_alive and self.version == "1.1"

    def get(self, name: bytes) -> bytes | None:
        """The first header of that name."""
        return next((value for key, value in self.headers if key == name), None)


class _Parsed:
    """What llhttp calls back with."""

    __slots__ = ("complete", "headers", "keep_alive", "parser", "target")

    def __init__(self) -> None:
        self.parser: Any = httptools.HttpRequestParser(self)
        self.keep_alive = False
        self.target = b""
        self.headers: list[Header] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True
        self.keep_alive = self.parser.should_keep_alive()  # forgotten when a request without a body is over


def parse_head(data: bytes) -> Head:
    """The head in ``data``, which ends with its empty line.  Raises BadRequest."""
    parsed = _Parsed()
    try:
        return _parsed(parsed, data)
    finally:
        del parsed.parser  # it knows this object too: such a ring would lie about until it is collected


def _parsed(parsed: _Parsed, data: bytes) -> Head:
    parser = parsed.parser
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # an offer that need not be taken (RFC 9110, 7.8); Java's client makes one with every request
    except httptools.HttpParserError as error:
        raise BadRequest(400, f"This is not HTTP/1.1: {error}.") from None
    if not parsed.complete or parser.get_method() == b"CONNECT":
        raise BadRequest(400, "This is not the head of an HTTP/1.1 request.")
    version = parser.get_http_version()
    if version not in {"1.1", "1.0"}:
        raise BadRequest(505, f"HTTP/{version} is not spoken here.")
    _refuse_twice(parsed.headers)
    return _head(parser.get_method().decode("ascii"), parsed, version)


def _refuse_twice(headers: list[Header]) -> None:
    names = [name for name, _ in headers]
    if len(names) > len(set(names)):
        for name in _ONCE:
            if names.count(name) > 1:
                raise BadRequest(400, f"The header {name.decode('ascii')} is given twice.")


def _head(method: str, parsed: _Parsed, version: str) -> Head:
    headers = dict(parsed.headers)
    if version == "1.1" and b"host" not in headers:
        raise BadRequest(400, "The header host is missing.")
    target = parsed.target
    if not target.startswith(b"/") and not (method == "OPTIONS" and target == b"*"):
        raise BadRequest(400, "The target of a request begins with a slash.")
    return Head(
        method=method,
        target=target,
        path=target.partition(b"?")[0].decode("latin-1"),
        version=version,
        headers=tuple(parsed.headers),
        length=_length(headers, version),
        keep_alive=parsed.keep_alive,
        expects_continue=version == "1.1" and headers.get(b"expect", b"").lower() == b"100-continue",
    )


def _length(headers: dict[bytes, bytes], version: str) -> int | None:
    coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
    if coding is not None:
        if length is not None or version == "1.0":
            raise BadRequest(400, "A body has a content-length or comes in chunks, not both.")
        if coding.lower() != b"chunked":
            raise BadRequest(501, "The only transfer-encoding that is taken is chunked.")
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > _LONGEST_LENGTH:
        raise BadRequest(400, "The content-length is not a number of bytes.")
    return int(length)


def upstream_head(head: Head, *, length: int, target: Target) -> bytes:
    """The same request in our words: for llama-server, whose own key replaces the client's."""
    named = {word.strip().lower() for word in (head.get(b"connection") or b"").split(b",")}
    lines = [b"%s %s HTTP/1.1" % (head.method.encode("ascii"), head.target)]
    lines += [
        b"%s: %s" % (name, value)
        for name, value in head.headers
        if name not in _OURS and name not in named and name != b"host"
    ]
    lines.append(b"host: " + target.host_header.encode("ascii"))
    lines += [f"{name}: {value}".encode("ascii") for name, value in target.headers.items()]
    if length or head.length != 0 or head.method in {"POST", "PUT", "PATCH"}:
        lines.append(b"content-length: %d" % length)
    return b"\r\n".join(lines) + HEAD_END
