"""A part of a file over several connections at once, handed over in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from .sessions import new_session

if TYPE_CHECKING:
    import requests

PIECE_BYTES = 4 << 20
_NEWS_SECONDS = 0.2  # at most so long after bytes arrived, their number is told

ReadPiece = Callable[["requests.Session", int, int, Callable[[int], None]], bytearray]
"""
The bytes from the first offset up to the second one, by a session that is used again for the next piece.

It calls its last argument with each number of bytes that arrived, and raises what that raises.
"""


def pieces_at_once(
    read: ReadPiece, start: int, end: int, connections: int
) -> Iterator[tuple[bytearray, int]]:
    """
    All bytes from ``start`` to ``end`` in order, each time with how far all connections together came.

    An empty piece tells only that more arrived.  At most ``connections + 1`` pieces are in memory.  Raises
    the first error that ``read`` raised, when all pieces before it were handed over or not.
    The threads are daemons: a connection that stalls does not hold up the end of the program.
    """
    lanes = _Lanes(read, start, end, connections)
    for _ in range(connections):
        threading.Thread(target=lanes.work, daemon=True).start()
    try:
        yield from lanes.handed_over()
    finally:
        lanes.stop()


class _Stopped(Exception):
    """Nobody wants the piece any more."""


class _Lanes:
    """All fields change under the lock of ``_changed``."""

    def __init__(self, read: ReadPiece, start: int, end: int, connections: int) -> None:
        self._read, self._end = read, end
        self._ahead_bytes = (connections + 1) * PIECE_BYTES
        self._changed = threading.Condition()
        self._ready: dict[int, bytearray] = {}
        self._unclaimed = self._wanted = self._arrived = start
        self._failure: BaseException | None = None
        self._stopped = False

    def work(self) -> None:
        """In each thread: one piece after the other, until there is none, or an error."""
        try:
            with new_session() as session:
                while (start := self._claim()) is not None:
                    piece = self._read(session, start, self._end_of(start), self._arrive)
                    with self._changed:
                        self._ready[start] = piece
                        self._changed.notify_all()
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - whoever waits for the pieces gets it
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()

    def handed_over(self) -> Iterator[tuple[bytearray, int]]:
        told = self._wanted
        while self._wanted < self._end:
            with self._changed:
                self._changed.wait_for(self._is_news, _NEWS_SECONDS)
                piece = self._ready.pop(self._wanted, bytearray())
                self._wanted += len(piece)
                arrived = self._arrived
                if not piece and self._failure:
                    raise self._failure
                self._changed.notify_all()
            if piece or arrived != told:
                told = arrived
                yield piece, arrived

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _is_news(self) -> bool:
        return self._wanted in self._ready or self._failure is not None

    def _end_of(self, start: int) -> int:
        return min(start + PIECE_BYTES, self._end)

    def _claim(self) -> int | None:
        """Where the next piece begins that no thread fetches; None when there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_over() or self._unclaimed - self._wanted < self._ahead_bytes
            )
            if self._is_over():
                return None
            start, self._unclaimed = self._unclaimed, self._end_of(self._unclaimed)
            return start

    def _is_over(self) -> bool:
        return self._stopped or self._failure is not None or self._unclaimed >= self._end

    def _arrive(self, count: int) -> None:
        with self._changed:
            if self._stopped:
                raise _Stopped
            self._arrived += count
