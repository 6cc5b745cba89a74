"""The server's output: cut into lines, for the rotated log, a short memory, and listeners."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

LOG_BYTES = 10_000_000
LOG_FILES = 5
RING_BYTES = 256 * 1024
_LINE_COST_BYTES = 64  # of Python for each line kept, so that a flood of empty ones is bounded too
_REDACTED = b"[redacted]"

LineListener = Callable[[str], None]


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
        self._listeners: list[LineListener] = []
        self._probes: tuple[bytes, ...] = ()
        self.bytes_seen = 0  # without what is only about our own probes: no sign that it does something
        self.dropped_bytes = 0

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def error(self) -> str | None:
        """Why the file is not being written, if it is not."""
        return self._file.error

    def begin_run(
        self, secrets: Iterable[str] = (), probed: Iterable[str] = (), *, goes_on: bool = False
    ) -> None:
        """
        A new launch: the previous log is kept next to it, and its lines leave the short memory; of one that
        ``goes_on`` the log does, too.  `secrets` reach neither the file nor anybody who listens.  `probed`
        are the paths that we ask.
        """
        self.end_run()
        if not goes_on:
            self._file.set_aside()
        self._ring.clear()
        self._ring_cost = 0
        self._probes = tuple(f"GET {path} ".encode() for path in probed)
        encoded = {secret.encode() for secret in secrets if secret}
        self._secrets = tuple(sorted(encoded, key=len, reverse=True))  # one may be part of another

    def feed(self, chunk: bytes) -> None:
        lines = self._splitter.feed(chunk)
        is_ours = bool(lines) and not self._splitter.has_rest and all(map(self._is_of_a_probe, lines))
        self.bytes_seen += 0 if is_ours else len(chunk)
        self._take(lines)

    def end_run(self) -> None:
        """The server is gone: its last line counts even without an end."""
        self._take(self._splitter.flush())
        self._file.close()

    def note(self, text: str) -> None:
        """A line of our own between the server's, such as ``--- killed by SIGKILL ---``."""
        self._take([*self._splitter.flush(), text.encode()])

    def tail(self, count: int) -> list[str]:
        """The last lines of this run, oldest first, without time stamps and what is about our probes."""
        lines = list(self._ring)[-count:] if count > 0 else []
        return [line.decode(errors="replace") for line in lines]

    def listen(self, listener: LineListener) -> Callable[[], None]:
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
            if not self._is_of_a_probe(line):  # else they would be all that is left of a server that stalls
                self._remember(line)
            for listener in tuple(self._listeners):
                listener(line.decode(errors="replace"))

    def _is_of_a_probe(self, line: bytes) -> bool:
        return any(probe in line for probe in self._probes)

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


_RETRY_SECONDS = 5.0
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class LogFile:
    """
    ``NAME.log``, then ``NAME.log.1`` … as it grows; the run before it is ``NAME.previous.log`` and so on.

    What cannot be written is dropped, so that the server never waits for a disk; `error` says why, and it is
    tried again after five seconds.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        limit_bytes: int,
        files: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = folder / f"{name}.log"
        self.previous = folder / f"{name}.previous.log"
        self.error: str | None = None
        self._limit = limit_bytes
        self._suffixes = ["", *(f".{n}" for n in range(1, files))]
        self._clock = clock
        self._retry_at = self._rotate_at = float("-inf")
        self._fd: int | None = None
        self._size = 0
        self._torn = False  # the last write stopped within a line

    def write(self, data: bytes) -> int:
        """Append whole lines; returns how many bytes of them were dropped."""
        if self._clock() < self._retry_at:
            return len(data)
        left = memoryview(data)
        try:
            fd = self._ready_for(len(left))
            while left:
                written = os.write(fd, left)
                self._size += written
                left = left[written:]
        except OSError as error:
            self._torn = self._torn or 0 < len(left) < len(data)
            self._give_up(error)
        else:
            self.error = None
        return len(left)

    def set_aside(self) -> None:
        """Begin a new run: the current log becomes the previous one, which is deleted."""
        self.close()
        try:
            for suffix in self._suffixes:
                _replace_or_remove(_with(self.path, suffix), _with(self.previous, suffix))
        except OSError as error:
            self.error = _words(error)
        self._retry_at = float("-inf")

    def close(self) -> None:
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = None

    def _ready_for(self, more: int) -> int:
        if self._fd is not None and not os.fstat(self._fd).st_nlink:
            self.close()  # deleted under our feet: nobody would read what is written there
        fd = self._open() if self._fd is None else self._fd
        if self._size and self._size + more > self._limit and self._clock() >= self._rotate_at:
            self.close()
            if may_be_moved(self.path):
                self._rotate()
            else:  # it grows until then
                self._rotate_at = self._clock() + _RETRY_SECONDS
            fd = self._open()
        return fd

    def _open(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = fd = os.open(self.path, _FLAGS, 0o600)
        self._size = os.fstat(fd).st_size
        if self._torn:
            os.write(fd, b"\n")
            self._torn = False
        return fd

    def _rotate(self) -> None:
        for older, newer in zip(reversed(self._suffixes[1:]), reversed(self._suffixes[:-1]), strict=True):
            with contextlib.suppress(FileNotFoundError):
                _with(self.path, newer).replace(_with(self.path, older))
        if len(self._suffixes) == 1:
            self.path.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        self.close()
        self.error = _words(error)
        self._retry_at = self._clock() + _RETRY_SECONDS


def may_be_moved(file: Path) -> bool:
    """Not on Windows while somebody reads it: ``logs -f``, for example."""
    if sys.platform == "win32":
        try:
            file.replace(file)
        except PermissionError:
            return False
    return True


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _replace_or_remove(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)


def _words(error: OSError) -> str:
    return f"the log is not being written: {error.strerror or error}"


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

    @property
    def has_rest(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._rest)

    def flush(self) -> list[bytes]:
        """The line that has not ended, if any: nothing more will come."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def _pieces(self, line: bytes) -> list[bytes]:
        """At least one piece; only the last may be shorter than the limit."""
        starts = range(0, max(len(line), 1), self._limit)
        return [line[start : start + self._limit] for start in starts]
