"""A request's chunked body (RFC 9112, 7.1): decoded strictly, not passed on as it came."""

from __future__ import annotations

from contextlib import suppress

from ..http_heads import BadRequest

_LONGEST_LINE = 256  # a size with its extensions, which nobody uses
_LONGEST_TRAILERS = 8 * 1024
_HEX = frozenset(b"0123456789abcdefABCDEF")
_LONGEST_SIZE = 15  # digits; more cannot be meant
_FREE_CHUNKS, _SMALLEST_CHUNK = 1000, 16  # a body of many tiny chunks costs us far more than its sender


class ChunkedBody:
    """
    Fed with whatever arrives.  When ``done``, ``body`` is whole and ``rest`` belongs to the next request.
    Extensions and trailers are dropped.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.body = bytearray()
        self.rest = b""
        self.done = False
        self._limit = limit_bytes
        self._pending = bytearray()
        self._missing = 0  # bytes of the chunk that is under way
        self._chunks = 0
        self._in_trailers = False
        self._trailer_bytes = 0

    def feed(self, data: bytes) -> None:
        """Raises BadRequest for what is no chunked body, and for one that is longer than the limit."""
        self._pending += data
        while not self.done and self._step():
            pass

    def _step(self) -> bool:
        """Whether something was taken from what is pending."""
        if self._missing:
            return self._take_data()
        end = self._pending.find(b"\r\n", 0, _LONGEST_LINE)
        if end < 0:
            if len(self._pending) >= _LONGEST_LINE:
                raise BadRequest(400, "A line of the chunked body does not end.")
            return False
        line = bytes(self._pending[:end])
        del self._pending[: end + 2]
        if b"\r" in line or b"\n" in line:
            raise BadRequest(400, "A line of the chunked body ends in half.")
        if self._in_trailers:
            self._trailer(line)
        else:
            self._size(line)
        return True

    def _size(self, line: bytes) -> None:
        digits = line.partition(b";")[0].rstrip(b" \t") if b";" in line else line
        if not 0 < len(digits) <= _LONGEST_SIZE or not _HEX.issuperset(digits):
            raise BadRequest(400, "The size of a chunk is not a hexadecimal number.")
        size = int(digits, 16)
        if len(self.body) + size > self._limit:
            raise BadRequest(413, f"The body is longer than {self._limit} bytes.")
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + len(self.body) // _SMALLEST_CHUNK:
            raise BadRequest(400, "The body comes in too many tiny chunks.")
        self._in_trailers = size == 0
        self._missing = size + 2 if size else 0  # with the line end after it

    def _take_data(self) -> bool:
        """All but the line end as it comes; the line end at once."""
        if self._missing > 2:
            taken = self._pending[: self._missing - 2]
            self.body += taken
            del self._pending[: len(taken)]
            self._missing -= len(taken)
        if self._missing > 2 or len(self._pending) < 2:
            return False
        if self._pending[:2] != b"\r\n":
            raise BadRequest(400, "A chunk is longer than its size says.")
        del self._pending[:2]
        self._missing = 0
        return True

    def _trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if self._trailer_bytes > _LONGEST_TRAILERS:
            raise BadRequest(431, "The trailers of the body are too long.")
        if not line:
            self.done, self.rest = True, bytes(self._pending)


def unchunked(data: bytes) -> bytes:
    """A chunked body without its chunks, as far as they are right."""
    body = ChunkedBody(len(data))
    with suppress(BadRequest):
        body.feed(data)
    return bytes(body.body)
