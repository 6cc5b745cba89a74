"""What the server says: into the rotated log, into a short memory, and to whoever listens."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

from .lines import LineSplitter
from .logfile import LogFile

LOG_BYTES = 10_000_000
LOG_FILES = 5
RING_BYTES = 256 * 1024
_LINE_COST_BYTES = 64  # of Python for each line kept, so that a flood of empty ones is bounded too
_REDACTED = b"[redacted]"

Listener = Callable[[str], None]


class OutputLog:
    """
    Takes chunks as they come from the pipe; never raises, never blocks on a full disk.  A line in the file is
    ``2026-11-20T20:33:01.123Z `` and the bytes that the server wrote.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        limit_bytes: int = LOG_BYTES,
        files: int = LOG_FILES,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file = LogFile(folder, name, limit_bytes=limit_bytes, files=files, clock=clock)
        self._wall_clock = wall_clock
        self._splitter = LineSplitter()
        self._ring: deque[bytes] = deque()
        self._ring_cost = 0
        self._secrets: tuple[bytes, ...] = ()
        self._listeners: list[Listener] = []
        self.bytes_seen = 0
        self.dropped_bytes = 0

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def error(self) -> str | None:
        """Why the file is not being written, if it is not."""
        return self._file.error

    def begin_run(self, secrets: Iterable[str] = ()) -> None:
        """
        A new launch: the log of the one before is kept beside it, and its lines leave the short memory.
        `secrets` reach neither the file nor anybody who listens.
        """
        self.end_run()
        self._file.set_aside()
        self._ring.clear()
        self._ring_cost = 0
        encoded = {secret.encode() for secret in secrets if secret}
        self._secrets = tuple(sorted(encoded, key=len, reverse=True))  # one may be part of another

    def feed(self, chunk: bytes) -> None:
        self.bytes_seen += len(chunk)
        self._take(self._splitter.feed(chunk))

    def end_run(self) -> None:
        """The server is gone: its last line counts even without an end."""
        self._take(self._splitter.flush())
        self._file.close()

    def note(self, text: str) -> None:
        """A line of our own between the server's, such as ``--- killed by SIGKILL ---``."""
        self._take([*self._splitter.flush(), text.encode()])

    def tail(self, count: int) -> list[str]:
        """The last lines of this run, oldest first, without time stamps."""
        lines = list(self._ring)[-count:] if count > 0 else []
        return [line.decode(errors="replace") for line in lines]

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener`, which must not raise, with every line from now on, until the result is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _take(self, lines: list[bytes]) -> None:
        if not lines:
            return
        lines = [self._redact(line) for line in lines]
        stamp = _stamp(self._wall_clock())
        self.dropped_bytes += self._file.write(b"".join(b"%b%b\n" % (stamp, line) for line in lines))
        for line in lines:
            self._remember(line)
            for listener in tuple(self._listeners):
                listener(line.decode(errors="replace"))

    def _redact(self, line: bytes) -> bytes:
        for secret in self._secrets:
            line = line.replace(secret, _REDACTED)
        return line

    def _remember(self, line: bytes) -> None:
        self._ring.append(line)
        self._ring_cost += len(line) + _LINE_COST_BYTES
        while self._ring_cost > RING_BYTES:
            self._ring_cost -= len(self._ring.popleft()) + _LINE_COST_BYTES


def _stamp(seconds: float) -> bytes:
    """UTC, to the millisecond, with a blank behind it."""
    milliseconds = int(seconds * 1000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{moment}.{milliseconds % 1000:03d}Z ".encode("ascii")
