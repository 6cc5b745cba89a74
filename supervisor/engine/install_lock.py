"""One installation of one engine at a time, over all processes of this user."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..locks import Lock
from ..progress import Progress

PAUSE_SECONDS = 0.2


@contextlib.contextmanager
def install_lock(path: Path, what: str, progress: Progress) -> Iterator[None]:
    """
    Hold the lock; wait for whoever holds it, and say so.

    Raises PermissionDenied where nothing may be written.
    """
    lock = Lock.acquire(path, {"pid": os.getpid()})
    if lock is None:
        progress.step(f"waiting: another goss-supervisor is installing {what}")
    while lock is None:
        progress.update(None)
        time.sleep(PAUSE_SECONDS)
        lock = Lock.acquire(path, {"pid": os.getpid()})
    try:
        yield
    finally:
        lock.release()
