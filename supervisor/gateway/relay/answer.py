"""
The head of llama-server's answer, and how long its body is.

A chunked body is relayed as the bytes that came.  llhttp reads along without handing anything over, so that
its end, and whether it broke off in the middle of a chunk, are known exactly at the cost of one C call.
"""

from __future__ import annotations

from typing import Any, Literal

import httptools

from ..http_heads import HEAD_END, Header

Framing = Literal["none", "length", "chunked", "close"]
_OURS = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"proxy-connection", b"trailer", b"upgrade")
)
_CORS = b"access-control-"  # which pages may read an answer is the door's to say (see `cors`)


class BadAnswer(Exception):
    """What came is no answer to the request that was sent."""


class Answer:
    """
    ``left`` counts down the bytes of a body of known length; ``in_chunk``: the last byte was within a chunk,
    so that nothing more can be said to the client within the framing.
    """

    __slots__ = (
        "_begun",
        "_parser",
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
        self.headers: list[Header] = []
        self.reason = b""
        self.ended = self.in_chunk = self.keep_alive = False
        self.left = self._begun = 0
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
        said = dict(self.headers)
        if to_head_request or self.status in {204, 304} or not self.is_final:
            return "none"
        if b"transfer-encoding" in said:
            return "chunked"
        if b"content-length" not in said:
            return "close"
        self.left = int(said[b"content-length"])  # llhttp has refused what is no number
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
                    raise BadAnswer("more came than the answer's content-length says")
                self.ended = self.left == 0
            case "none":
                raise BadAnswer("something came after the end of the answer")
        return data

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadAnswer(f"not HTTP: {error}") from None
        if self._begun > 1:
            raise BadAnswer("something came after the end of the answer")

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
        return self.framing == "chunked"

    def get(self, name: bytes) -> bytes:
        """The first header of that name, or nothing."""
        return next((value for key, value in self.headers if key == name), b"")

    def head_for_client(self, extra: tuple[Header, ...] = ()) -> bytes:
        """The status line and headers in our words."""
        lines = [b"HTTP/1.1 %d %s" % (self.status, self.reason)]
        lines += [
            b"%s: %s" % (name, value)
            for name, value in self.headers
            if name not in _OURS and not name.startswith(_CORS)
        ]
        if self.is_chunked_for_client:
            lines.append(b"transfer-encoding: chunked")
        lines += [b"%s: %s" % header for header in extra]
        return b"\r\n".join(lines) + HEAD_END


class UnwrappedAnswer(Answer):
    """For clients of HTTP/1.0, who know no chunks: taken off, and the connection's end is the body's."""

    __slots__ = ("_pieces",)

    def __init__(self, head: bytes, *, to_head_request: bool) -> None:
        self._pieces: list[bytes] = []
        super().__init__(head, to_head_request=to_head_request)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def take(self, data: bytes) -> bytes:
        whole = super().take(data)
        if self.framing != "chunked":
            return whole
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    @property
    def is_chunked_for_client(self) -> bool:
        return False
