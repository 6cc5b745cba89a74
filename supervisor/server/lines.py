"""Bytes into lines, whatever comes."""

from __future__ import annotations

LINE_BYTES = 64 * 1024


class LineSplitter:
    """Splits at newlines, Windows' too, and, in a flood without any, after `limit_bytes`."""

    def __init__(self, limit_bytes: int = LINE_BYTES) -> None:
        self._limit = limit_bytes
        self._rest = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes, without their ends."""
        *complete, last = (self._rest + chunk).split(b"\n")
        lines: list[bytes] = []
        for line in complete:
            *full, end = self._pieces(line)
            lines += [*full, end.removesuffix(b"\r")]
        *full, self._rest = self._pieces(last)
        return lines + full

    def flush(self) -> list[bytes]:
        """The line that has not ended, if any: nothing more will come."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def _pieces(self, line: bytes) -> list[bytes]:
        """At least one piece; only the last may be shorter than the limit."""
        starts = range(0, max(len(line), 1), self._limit)
        return [line[start : start + self._limit] for start in starts]
