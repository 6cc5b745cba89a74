"""What stands installed: how much room it takes, what of it may go, and its removal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from stat import S_ISDIR

from ..disk import cannot_write
from ..errors import AlreadyRunning
from ..locks import Lock
from .inventory import RECORD, Install

KEEP = 2  # tags of each repository that work


def root_of(install: Install) -> Path | None:
    """Its folder, which holds its record; None when that is gone."""
    parents = Path(install.command[0]).parents
    return next((folder for folder in parents if (folder / RECORD).is_file()), None)


def size_bytes(install: Install) -> int:
    """What it takes on disk, each file once; files that it shares with other engines count."""
    root = root_of(install)
    files = [file.lstat() for file in root.rglob("*")] if root else []
    return sum({stat.st_ino: stat.st_size for stat in files if not S_ISDIR(stat.st_mode)}.values())


def remove(install: Install) -> None:
    """
    The record goes first, so what an interruption leaves is no engine.

    Raises AlreadyRunning while it is being installed, PermissionDenied or SupervisorError where files
    cannot be deleted: on Windows those that a server has open.
    """
    root = root_of(install)
    if root is None:
        return
    lock = Lock.acquire(root.with_name(f"{root.name}.lock"), {"pid": os.getpid()})
    if lock is None:
        raise AlreadyRunning(
            f"{install.key} is being installed at this moment.", hint="Try again in a while."
        )
    try:
        (root / RECORD).unlink(missing_ok=True)
        shutil.rmtree(root)
    except OSError as error:
        raise cannot_write(root, error) from error
    finally:
        lock.release()


def spare(installs: Iterable[Install], keep: int = KEEP, in_use: Collection[str] = ()) -> tuple[Install, ...]:
    """
    What may go: all but, in each repository, the ``keep`` newest tags that work, and what is in use.

    ``installs`` are newest first, as ``installed`` gives them; ``in_use`` are tags (pinned, or chosen for
    a channel) or keys (what a server runs on).  What does not work goes with its tag: as long as that
    stands, its record says what need not be tried again.
    """
    installs = tuple(installs)
    kept = {(each.repository, tag) for each in installs for tag in _working(installs, each.repository)[:keep]}
    return tuple(
        each
        for each in installs
        if (each.repository, each.tag) not in kept and each.tag not in in_use and each.key not in in_use
    )


def _working(installs: Iterable[Install], repository: str) -> list[str]:
    """The tags, in the order given, none twice."""
    working = (each.tag for each in installs if each.repository == repository and not each.problem)
    return list(dict.fromkeys(working))
