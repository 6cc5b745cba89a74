"""Walks along the header of a file, of which it holds a small window at a time."""

from __future__ import annotations

from struct import Struct
from typing import Any

from .broken import BrokenHeader
from .source import Source

# Models have headers of 5 to 30 MiB, most of it the vocabulary.  Together with the limits on what is kept
# of a header, this one bounds time and memory for a file that is made to take both.
MOST_HEADER_BYTES = 64 << 20
_WINDOW_BYTES = 1 << 18
_LENGTH = Struct("<Q")


class Cursor:
    """Every step is checked against the file's size; raises BrokenHeader and what ``source`` raises."""

    __slots__ = ("_at", "_source", "_start", "_window")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = 0  # of the window in the file
        self._at = 0  # in the window, or behind it
        self._window = source.read(0, _WINDOW_BYTES)

    @property
    def at(self) -> int:
        """The place in the file."""
        return self._start + self._at

    @property
    def beginning(self) -> bytes:
        """The first bytes of the file, as long as nothing was read."""
        return self._window

    def unpack(self, pattern: Struct) -> tuple[Any, ...]:
        self._demand(pattern.size)
        found = pattern.unpack_from(self._window, self._at)
        self._at += pattern.size
        return found

    def skip(self, length: int) -> None:
        self._at += length
        self._refuse_beyond(self.at)

    def length(self) -> int:
        """Of a string, behind which ``take`` or ``skip`` goes on."""
        return int(self.unpack(_LENGTH)[0])

    def name(self, limit: int) -> str:
        """A string of at most ``limit`` bytes."""
        length = self.length()
        if length > limit:
            raise BrokenHeader(f"a damaged GGUF: a name of {length} bytes")
        return self.take(length).decode(errors="replace")

    def take(self, length: int) -> bytes:
        self._demand(length)
        start, self._at = self._at, self._at + length
        return self._window[start : self._at]

    def skip_strings(self, count: int) -> None:
        """The loop for the hundreds of thousands of a vocabulary: a tenth of a microsecond for each."""
        length_at = _LENGTH.unpack_from
        while count:
            self._demand(_LENGTH.size)
            window, at, last = self._window, self._at, len(self._window) - _LENGTH.size
            while count and at <= last:
                (length,) = length_at(window, at)
                at += 8 + length
                count -= 1
            self._at = at
        self._refuse_beyond(self.at)

    def _demand(self, length: int) -> None:
        """Have the next ``length`` bytes in the window."""
        if self._at + length <= len(self._window):
            return
        self._refuse_beyond(self.at + length)
        self._start, self._at = self.at, 0
        self._window = self._source.read(self._start, max(length, _WINDOW_BYTES))
        if len(self._window) < length:  # the file became shorter meanwhile
            raise _ends(self._start + len(self._window))

    def _refuse_beyond(self, end: int) -> None:
        if end > self._source.size_bytes:
            raise _ends(self._source.size_bytes)
        if end > MOST_HEADER_BYTES:
            raise BrokenHeader(f"a damaged GGUF: its header has more than {MOST_HEADER_BYTES >> 20} MiB")


def _ends(size_bytes: int) -> BrokenHeader:
    return BrokenHeader(f"a truncated GGUF: it ends inside its header, after {size_bytes} bytes")
