"""
The heads of requests and responses: parsed strictly, written anew.

No head is passed on as it came.  `upstream_head` writes llama-server's from the parsed fields, with one
verified length, so nothing can be smuggled.

A chunked body is relayed byte by byte as it came.  llhttp reads along without producing output: it finds the
exact end, or a break in the middle of a chunk, at the cost of one C call.  A body whose end is that of the
connection (HTTP/1.0) gets chunks from us, so that the client knows its end, and keeps its connection.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs

import httptools

from ..server.probe_target import ProbeTarget

HEAD_END = b"\r\n\r\n"
_LONGEST_LENGTH = 18  # digits; 2**63 has 19
_LONGEST_TARGET, _LONGEST_HEADER, _MOST_HEADERS = 32_000, 8_000, 90  # bytes, bytes, and we add some
_ONCE = frozenset(b"host content-length transfer-encoding authorization x-api-key x-goss-hold".split())
_OURS_OF_REQUESTS = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te trailer "
    b"transfer-encoding upgrade content-length expect authorization x-api-key x-goss-hold".split()
)
"""Between two neighbours only (RFC 9110, 7.6.1), or said by us in our own words."""

HeaderLine = tuple[bytes, bytes]


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
    headers: tuple[HeaderLine, ...]
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
        self.headers: list[HeaderLine] = []
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
    _refuse_too_long(parsed)
    _refuse_twice(parsed.headers)
    return _head(parser.get_method().decode("ascii"), parsed, version)


def _refuse_too_long(parsed: _Parsed) -> None:
    """What llama-server would hang up on without a word, or call a bad request (cpp-httplib in b11434)."""
    if len(parsed.target) > _LONGEST_TARGET:
        raise BadRequest(414, f"The address is longer than {_LONGEST_TARGET} bytes.")
    if len(parsed.headers) > _MOST_HEADERS:
        raise BadRequest(431, f"There are more than {_MOST_HEADERS} headers.")
    for name, value in parsed.headers:
        if len(name) + len(value) > _LONGEST_HEADER:
            shown = name[:40].decode("ascii", "replace")
            raise BadRequest(431, f"The header {shown} is longer than {_LONGEST_HEADER} bytes.")


def _refuse_twice(headers: list[HeaderLine]) -> None:
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


def query_value(target: bytes, name: str) -> str:
    """The first value of that name in the query, decoded; "" where there is none."""
    query = target.partition(b"?")[2].decode("latin-1")
    return next(iter(parse_qs(query).get(name, [])), "") if len(query) < 4096 else ""


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


def upstream_head(head: Head, *, length: int, target: ProbeTarget) -> bytes:
    """The same request in our words: for llama-server, whose own key replaces the client's."""
    named = {word.strip().lower() for word in (head.get(b"connection") or b"").split(b",")}
    lines = [b"%s %s HTTP/1.1" % (head.method.encode("ascii"), head.target)]
    lines += [
        b"%s: %s" % (name, value)
        for name, value in head.headers
        if name not in _OURS_OF_REQUESTS and name not in named and name != b"host"
    ]
    lines.append(b"host: " + target.host_header.encode("ascii"))
    lines += [f"{name}: {value}".encode("ascii") for name, value in target.headers.items()]
    if length or head.length != 0 or head.method in {"POST", "PUT", "PATCH"}:
        lines.append(b"content-length: %d" % length)
    return b"\r\n".join(lines) + HEAD_END


Framing = Literal["none", "length", "chunked", "close"]
_OURS_OF_ANSWERS = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"proxy-connection", b"trailer", b"upgrade")
)
_CORS = b"access-control-"  # `auth` decides which pages may read an answer


LAST_CHUNK = b"0\r\n\r\n"
_ENDING_BYTES = 16 * 1024
_LAST_WORDS = re.compile(
    rb'\[DONE\]|"finish_reason":\s*"|"error":'
    rb'|"type":\s*"(?:error|message_stop|response\.(?:completed|incomplete|failed))"'
)
"""By which streams of the APIs that we know say that they are complete."""


def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked body.  Nothing for nothing: an empty chunk would end the body."""
    return b"%x\r\n%s\r\n" % (len(payload), payload) if payload else b""


def _what_is_missing(kind: bytes, ending: bytes, taken: int) -> str:
    """
    What shows that a body, of which this is the end, is not whole; empty where nothing does.  ``taken`` is
    how many bytes came.
    """
    if kind.startswith(b"text/event-stream"):
        if not ending.endswith((b"\n\n", b"\r\n\r\n")) or not _LAST_WORDS.search(ending):
            return "the stream ended without its last event"
    elif kind.startswith(b"application/json") and not _is_whole_json(ending, taken):
        return "the connection closed in the middle of the answer"
    return ""


def _is_whole_json(ending: bytes, taken: int) -> bool:
    """As far as it can be told: of a long one only the end is here, and some call a plain text JSON."""
    if taken > len(ending):
        return ending.rstrip().endswith((b"}", b"]"))
    if not ending.lstrip().startswith((b"{", b"[")):
        return bool(ending)
    try:
        json.loads(ending)
    except ValueError:
        return False
    return True


class BadResponse(Exception):
    """What came is no answer to the request that was sent."""


class ResponseHead:
    """
    ``left`` counts down the bytes of a body of known length; ``in_chunk``: the last byte was within a chunk,
    so that nothing more can be said to the client within the framing.
    """

    __slots__ = (
        "_begun",
        "_chunks",
        "_last",
        "_parser",
        "_taken",
        "ended",
        "framing",
        "headers",
        "in_chunk",
        "keep_alive",
        "left",
        "reason",
        "status",
    )

    def __init__(self, head: bytes, *, to_head_request: bool) -> None:
        """Raises BadAnswer."""
        self.headers: list[HeaderLine] = []
        self.reason = self._last = b""
        self.ended = self.in_chunk = self.keep_alive = False
        self.left = self._begun = self._chunks = self._taken = 0
        self._parser: Any = httptools.HttpResponseParser(self)
        self._feed(head)
        self.status = int(self._parser.get_status_code())
        self.framing = self._framing(to_head_request=to_head_request)
        if self.framing != "chunked":
            self._parser = None  # it knows us too: such a ring would lie about until it is collected

    @property
    def is_final(self) -> bool:
        """An interim answer (1xx) is followed by another."""
        return self.status >= 200

    def _framing(self, *, to_head_request: bool) -> Framing:
        fields = dict(self.headers)
        if to_head_request or self.status in {204, 304} or not self.is_final:
            return "none"
        if b"transfer-encoding" in fields:
            return "chunked"
        if b"content-length" not in fields:
            return "close"
        self.left = int(fields[b"content-length"])  # llhttp has refused what is no number
        return "length" if self.left else "none"

    def take(self, data: bytes) -> bytes:
        """A piece of the body: what is to be handed on; sets ``ended``.  Raises BadAnswer."""
        match self.framing:
            case "chunked":
                self._feed(data)
                if self.ended:
                    self._parser = None
            case "length":
                self.left -= len(data)
                if self.left < 0:
                    raise BadResponse("more came than the answer's content-length says")
                self.ended = self.left == 0
            case "close":
                self._last = (self._last + data)[-_ENDING_BYTES:]
                self._taken += len(data)
                self._chunks += 1
                return self._framed(data)
            case "none":
                raise BadResponse("something came after the end of the answer")
        return data

    def take_chunks(self) -> int:
        """How many have begun since the last call; without any, how many pieces have come."""
        chunks, self._chunks = self._chunks, 0
        return chunks

    def _framed(self, data: bytes) -> bytes:
        """A piece of a body that has no framing of its own."""
        return chunk(data)

    def close(self) -> bytes:
        """
        The connection has ended, which ends such a body: the last bytes for the client.  Raises BadResponse
        where it can be seen that something is missing.
        """
        if why := _what_is_missing(self.get(b"content-type"), self._last, self._taken):
            raise BadResponse(why)
        return LAST_CHUNK

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadResponse(f"not HTTP: {error}") from None
        if self._begun > 1:
            raise BadResponse("something came after the end of the answer")

    # --- what llhttp calls back with

    def on_message_begin(self) -> None:
        self._begun += 1

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        self.keep_alive = self._parser.should_keep_alive()  # forgotten when an answer without a body is over

    def on_chunk_header(self) -> None:
        self.in_chunk = True
        self._chunks += 1

    def on_chunk_complete(self) -> None:
        self.in_chunk = False

    def on_message_complete(self) -> None:
        self.ended = True

    # --- for the client

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream of events."""
        return self.status == 200 and self.get(b"content-type").startswith(b"text/event-stream")

    @property
    def is_chunked_for_client(self) -> bool:
        return self.framing in {"chunked", "close"}

    def get(self, name: bytes) -> bytes:
        """The first header of that name, or nothing."""
        return next((value for key, value in self.headers if key == name), b"")

    def head_for_client(self, extra: tuple[HeaderLine, ...] = ()) -> bytes:
        """The status line and headers in our words."""
        lines = [b"HTTP/1.1 %d %s" % (self.status, self.reason)]
        lines += [
            b"%s: %s" % (name, value)
            for name, value in self.headers
            if name not in _OURS_OF_ANSWERS and not name.startswith(_CORS)
        ]
        if self.is_chunked_for_client:
            lines.append(b"transfer-encoding: chunked")
        lines += [b"%s: %s" % header for header in extra]
        return b"\r\n".join(lines) + HEAD_END
