"""
One set-up at a time, by the kernel's lock on a file.

pip inherits the descriptor, so the lock outlives a set-up that was killed until its last helper is
gone, and never longer: a lock cannot go stale.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import IO, TYPE_CHECKING

from steps import NEWS_SECONDS, say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOOKS_PER_SECOND = 4


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[int]:
    """Holds the lock file and yields its descriptor.  Says so when it must wait."""
    with path.open("a+b") as file:
        looks = 0
        while not _try_lock(file):
            if looks % (NEWS_SECONDS * LOOKS_PER_SECOND) == 0:
                waited = f" ({looks // LOOKS_PER_SECOND} s)" if looks else ""
                say(f"another start is setting up the environment; waiting for it{waited}")
            time.sleep(1 / LOOKS_PER_SECOND)
            looks += 1
        yield file.fileno()


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - exists on Windows only

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - exists elsewhere only

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
