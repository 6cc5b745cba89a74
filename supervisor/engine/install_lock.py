"""One installation of one engine at a time, over all processes of this user."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import PermissionDenied
from ..progress import Progress

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

PAUSE_SECONDS = 0.2


@contextlib.contextmanager
def install_lock(path: Path, what: str, progress: Progress) -> Iterator[None]:
    """
    Hold the lock; wait for whoever holds it, and say so.

    The lock ends with its holder, however that ends; the file stays, since who deletes a lock file lets
    two hold "the" lock.  Raises PermissionDenied where nothing may be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise PermissionDenied(f"{path} cannot be written: {error.strerror}.") from error
    try:
        if not _try(descriptor):
            progress.step(f"waiting: another goss-supervisor is installing {what}")
            while not _try(descriptor):
                progress.update(None)
                time.sleep(PAUSE_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
