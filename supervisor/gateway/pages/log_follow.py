"""The log of a server while somebody looks at it: read beside the loop, once for all who look."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from ...server.background import beside_the_loop

KEPT_LINES: Final = 500
MOST_BYTES: Final = 256 * 1024  # of a look; who writes more in a second is followed by its last lines only
_LONGEST_LINE: Final = 2000  # characters


@dataclass(frozen=True, slots=True)
class LogPlace:
    """How far a file has been read; ``file`` is which file it is."""

    file: tuple[int, int]
    offset: int


@dataclass(frozen=True, slots=True)
class LogPiece:
    """What a look finds; ``reset``: these are the last lines of a file that began anew."""

    place: LogPlace | None
    lines: list[str]
    reset: bool


class FollowedLog:
    """
    Of one ``server``.  ``lines`` are the last of ``count`` since it was last reset, the ``resets`` th time.
    ``run`` runs a task in the background, and ``soon`` is called when there is more.
    """

    def __init__(
        self,
        server: str,
        path: Path,
        *,
        run: Callable[[Coroutine[None, None, None]], None],
        soon: Callable[[], None],
    ) -> None:
        self.server = server
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.count = self.resets = 0
        self.path, self._run, self._soon = path, run, soon
        self._place: LogPlace | None = None
        self._is_reading = False

    def look(self) -> None:
        """Read on, unless the disk has not answered the look before."""
        if not self._is_reading:
            self._is_reading = True
            self._run(self._read())

    async def _read(self) -> None:
        try:
            piece = await beside_the_loop(partial(read_on, self.path, self._place))
        except OSError:  # no thread, or no right to read it: there may be later
            return
        finally:
            self._is_reading = False
        self._place = piece.place
        if piece.reset or not self.resets:
            self.lines.clear()
            self.count, self.resets = 0, self.resets + 1
        self.lines.extend(piece.lines)
        self.count += len(piece.lines)
        if piece.lines or piece.reset:
            self._soon()


def read_on(path: Path, place: LogPlace | None) -> LogPiece:
    """What was written since; the end of the file if it is another one, or too much was.  Raises OSError."""
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            here, size = (stat.st_dev, stat.st_ino), stat.st_size
            goes_on = place is not None and place.file == here and 0 <= size - place.offset <= MOST_BYTES
            start = place.offset if place and goes_on else max(0, size - MOST_BYTES)
            file.seek(start)
            data = file.read(MOST_BYTES)
    except FileNotFoundError:
        return LogPiece(None, [], reset=place is not None)
    end = data.rfind(b"\n") + 1 or (len(data) if len(data) == MOST_BYTES else 0)
    begin = data.find(b"\n") + 1 if start and not goes_on else 0  # in the middle of a line
    lines = data[begin:end].decode("utf-8", "replace").split("\n")[:-1] if end > begin else []
    cut = [each.rstrip("\r")[:_LONGEST_LINE] for each in lines]
    return LogPiece(LogPlace(here, start + end), cut, reset=not goes_on)
