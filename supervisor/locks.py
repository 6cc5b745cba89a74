"""
File locks held by open descriptors: they end with their holder.

On POSIX a child that inherits the descriptor (flock(2)) holds the lock as well.  So a daemon that finds the
generation lock held knows that a former daemon's server still runs, without trusting a pid.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .disk import cannot_write
from .progress import Progress

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)  # Windows: descriptors are not inherited anyway
_TRIES = 5
_WAIT_SECONDS = 0.2
_PAUSE_SECONDS = 0.01  # somebody who only asks `held_by` holds it for microseconds; outlast that
_LOCKED_BYTE = 1 << 30  # Windows: locks are mandatory there, so lock where nothing is written
_TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}


class Lock:
    """A lock that is held: from `acquire` to `release`, or to the end of the last that inherited it."""

    def __init__(self, path: Path, fd: int, holder: Mapping[str, Any]) -> None:
        self.path = path
        self.fd = fd  # for `spawn(inherit=...)`; all other programs that are started go without it
        self._holder = holder
        self._former: int | None = None  # of a file that was removed

    @classmethod
    def acquire(cls, path: Path, holder: Mapping[str, Any]) -> Lock | None:
        """
        Take it without waiting, and write `holder` into the file for others to read.  ``None``: somebody
        holds it, see `held_by`.  Raises PermissionDenied or SupervisorError (a full disk).
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | _CLOEXEC, 0o600), holder)
            with contextlib.ExitStack() as unless_taken:
                unless_taken.callback(lock.release)
                if not _patiently(lock.fd):
                    return None
                _write(lock.fd, holder)
                unless_taken.pop_all()
        except OSError as error:
            raise cannot_write(path, error) from error
        return lock

    def is_in_place(self) -> bool:
        """Whether its file is still the one at its path, so that others find the lock held."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self.fd))  # noqa: PTH116 - next to fstat
        except OSError:
            return False

    def put_back(self) -> bool:
        """
        Take it once more, in a new file.  False where somebody else has done so meanwhile.  Raises as
        `acquire` does.  The descriptor of before stays open until the next time: a launch that is under way
        may have been given it.
        """
        anew = Lock.acquire(self.path, self._holder)
        if anew is not None:
            self._close_former()
            self._former, self.fd = self.fd, anew.fd
        return anew is not None

    def release(self) -> None:
        """
        A child that inherited it goes on holding it: never LOCK_UN, which would unlock for that child too;
        and the file stays, since who deletes a lock file lets two hold "the" lock.
        """
        self._close_former()
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def _close_former(self) -> None:
        if self._former is not None:
            os.close(self._former)
            self._former = None


@contextlib.contextmanager
def waiting_lock(path: Path, text: str, progress: Progress) -> Iterator[None]:
    """Hold the lock; say ``text`` where that has to be waited for.  Raises PermissionDenied."""
    lock = Lock.acquire(path, {"pid": os.getpid()})
    if lock is None:
        progress.step(text)
    while lock is None:
        progress.update(None)
        time.sleep(_WAIT_SECONDS)
        lock = Lock.acquire(path, {"pid": os.getpid()})
    try:
        yield
    finally:
        lock.release()


def held_by(path: Path) -> dict[str, Any] | None:
    """What the holder of this lock wrote about itself ({} if that cannot be read); ``None`` if it is free."""
    try:
        fd = os.open(path, os.O_RDWR | _CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return None if _try(fd) else _read(fd)
    finally:
        os.close(fd)


def _patiently(fd: int) -> bool:
    for _ in range(_TRIES):
        if _try(fd):
            return True
        time.sleep(_PAUSE_SECONDS)
    return False


def _try(fd: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN or (sys.platform == "win32" and error.errno != errno.EINVAL):
            return False  # Wine leaves errno as any earlier call left it
        raise
    return True


def _write(fd: int, holder: Mapping[str, Any]) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    os.ftruncate(fd, 0)
    os.write(fd, json.dumps(dict(holder)).encode())


def _read(fd: int) -> dict[str, Any]:
    os.lseek(fd, 0, os.SEEK_SET)
    try:
        holder = json.loads(os.read(fd, 64 * 1024))
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}
