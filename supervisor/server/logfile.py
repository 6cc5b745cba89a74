"""A file that never fails its writer: rotated by size, and silent about a full or vanished disk."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

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
        self._retry_at = float("-inf")
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
        """Begin a new run: what there is becomes the previous run, and what that was is gone."""
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
        if self._size and self._size + more > self._limit:
            self._rotate()
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
        self.close()
        for older, newer in zip(reversed(self._suffixes[1:]), reversed(self._suffixes[:-1]), strict=True):
            with contextlib.suppress(FileNotFoundError):
                _with(self.path, newer).replace(_with(self.path, older))
        if len(self._suffixes) == 1:
            self.path.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        self.close()
        self.error = _words(error)
        self._retry_at = self._clock() + _RETRY_SECONDS


def _with(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _replace_or_remove(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except FileNotFoundError:
        target.unlink(missing_ok=True)


def _words(error: OSError) -> str:
    return f"the log is not being written: {error.strerror or error}"
