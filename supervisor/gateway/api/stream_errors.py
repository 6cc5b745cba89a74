r"""
Errors within streams of events: found in all, and put into the shape of Anthropic's API in its own.  Pure.

llama-server (b11434) ends a stream with an event of its own, as one chunk of the body:
``data: {"error":{"code":500,"message":"Context size has been exceeded.","type":"server_error"}}``, and for
Anthropic's API ``event: error\ndata: {"code":500,"message":…,"type":"server_error"}``, which no client of
that API understands.  Text of the model cannot look like one: a JSON string has no line breaks.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ..http_heads import chunk
from .routes import Trouble, body_of

OUT_OF_CONTEXT: Final = b"Context size has been exceeded"
"""llama-server's words (b11434, tools/server/server-context.cpp)."""
_EVENT: Final = b"event: error\ndata: "
_OPENAI: Final = b'data: {"error":'
_LONGEST_HELD: Final = 64 * 1024
_LONGEST_SIZE: Final = 8
_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
_CHUNK_BEGINS: Final = re.compile(rb"(?:\A|(?<=\n))[0-9a-fA-F]{1,8}\r\n\Z")


def error_in(tail: bytes) -> str:
    """The message of the error with which this end of a stream, chunk framing within, ends; "" for none."""
    tail = b"\n" + tail
    at = max(tail.rfind(b"\n" + _EVENT), tail.rfind(b"\n" + _OPENAI))
    if at < 0:
        return ""
    _, _, rest = tail[at:].partition(b"data: ")
    found = _parsed(rest.partition(b"\n")[0])
    return _error(found)[0] if found is not None else ""


class AnthropicErrors:
    """
    The body of one stream, piece by piece.  Of a piece that may break off within such an event, or in the
    size of its chunk, that part is held back: the event is longer once it is put right.
    """

    __slots__ = ("_end", "_held", "_is_chunked")

    def __init__(self, *, is_chunked: bool) -> None:
        """``is_chunked``: with its chunk framing, as clients of HTTP/1.1 get it."""
        self._is_chunked = is_chunked
        self._end = b"\n\n\r\n" if is_chunked else b"\n\n"  # of an event
        self._held = b""

    def take(self, piece: bytes, *, is_last: bool = False) -> bytes:
        """The bytes for the client."""
        if not self._held and _EVENT not in piece and (piece.endswith(self._end) or is_last):
            return piece
        whole, self._held = self._held + piece, b""
        start = self._start(whole)
        if start < 0:
            return whole
        end = whole.find(self._end, start)
        if end >= 0:
            end += len(self._end)
            return whole[:start] + self._put_right(whole[start:end]) + whole[end:]
        if is_last or len(whole) - start > _LONGEST_HELD:
            return whole
        self._held = whole[start:]
        return whole[:start]

    def _start(self, data: bytes) -> int:
        """Where such an event begins, or may begin: in its chunk's size; -1 for nowhere."""
        found = data.find(_EVENT)
        if found >= 0:
            return self._start_of(data, found)
        places = range(max(0, len(data) - _LONGEST_SIZE - len(_EVENT) - 2), len(data))
        return next((at for at in places if self._may_begin(data, at)), -1)

    def _start_of(self, data: bytes, event: int) -> int:
        if not self._is_chunked:
            return event if event == 0 or data[event - 1 : event] == b"\n" else -1
        size = _CHUNK_BEGINS.search(data, max(0, event - _LONGEST_SIZE - 2), event)
        return size.start() if size else -1

    def _may_begin(self, data: bytes, at: int) -> bool:
        """Whether what is there to the end, from the beginning of a line, may go on to be such an event."""
        if at and data[at - 1 : at] != b"\n":
            return False
        if not self._is_chunked:
            return _EVENT.startswith(data[at:])
        size = _SIZE.match(data, at)
        return size is not None and (b"\r\n" + _EVENT).startswith(data[size.end() :])

    def _put_right(self, event: bytes) -> bytes:
        """Another engine's chunk, or one of ours, may hold more than the event."""
        said, _, more = event.partition(_EVENT)[2].partition(b"\n\n")
        found = _parsed(said.partition(b"\n")[0])
        if found is None or found.get("type") == "error":
            return event
        message, status = _error(found)
        body = body_of(Trouble(status, "", message), "anthropic")
        mended = b"%s%s\n\n%s" % (_EVENT, body, more.removesuffix(b"\r\n"))
        return chunk(mended) if self._is_chunked else mended


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _error(found: dict[str, Any]) -> tuple[str, int]:
    """Message and status, in whichever of the shapes it came."""
    inner = found.get("error", found)
    if not isinstance(inner, dict):
        return (inner, 500) if isinstance(inner, str) else ("", 500)
    message, code = inner.get("message"), inner.get("code")
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    return message if isinstance(message, str) and message else "an error without a message", status
