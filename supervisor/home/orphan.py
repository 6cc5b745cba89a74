"""
A server that outlived its daemon, and so holds the generation lock that it has inherited.

It is stopped only if the record proves who it is; otherwise nothing is touched.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import StartFailed
from ..locks import Lock
from ..paths import Paths
from .identity import Identity, identify
from .places import generation_lock, other_servers, record_file
from .records import read_record

if sys.platform == "win32":
    _FORCEFUL = signal.SIGTERM  # which is TerminateProcess there
else:
    _FORCEFUL = signal.SIGKILL

GRACE_SECONDS = 10.0
KILL_SECONDS = 5.0


def take_generation_lock(path: Path, record: Path, say: Callable[[str], None]) -> Lock:
    """
    The lock that our child will inherit; an orphan that holds it is stopped first.  Raises StartFailed if it
    is held by a process that cannot be proved to be ours.
    """
    lock = _take(path)
    if lock is not None:
        return lock
    known = read_record(record)
    identity = known.identity if known else None
    if identity is None or identify(identity.pid) != identity:
        if (lock := _take(path)) is not None:  # it died only now
            return lock
        raise StartFailed(
            f"A llama-server of an earlier daemon holds {path}; which process it is cannot be proved.",
            hint="Find it with `ps -ef | grep llama`, stop it, and start again.",
        )
    say(f"stopping the llama-server of an earlier daemon (pid {identity.pid})")
    lock = end_holder(identity, path, GRACE_SECONDS)
    if lock is None:
        raise StartFailed(f"The llama-server of an earlier daemon (pid {identity.pid}) cannot be stopped.")
    return lock


def end_orphans(paths: Paths, say: Callable[[str], None]) -> None:
    """End the servers beside the main one that an earlier daemon left.  Raises as `take_generation_lock`."""
    for name in other_servers(paths):
        take_generation_lock(generation_lock(paths, name), record_file(paths, name), say).release()


def _take(path: Path) -> Lock | None:
    return Lock.acquire(path, {"pid": os.getpid()})


def end_holder(identity: Identity, path: Path, grace_seconds: float) -> Lock | None:
    """
    TERM, wait, KILL, wait: its lock tells whether it is gone, not its pid.  The lock, ours now; None
    where it is still held.  Only a process of this identity is signalled.
    """
    for number, seconds in ((signal.SIGTERM, grace_seconds), (_FORCEFUL, KILL_SECONDS)):
        _signal(identity, number)
        lock = _within(seconds, path)
        if lock is not None:
            return lock
    return None


def _signal(identity: Identity, number: int) -> None:
    """Through a pidfd where there is one: it cannot hit a stranger that got the pid in between."""
    try:
        if sys.platform == "linux":
            descriptor = os.pidfd_open(identity.pid)
            try:
                if identify(identity.pid) == identity:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)
        elif identify(identity.pid) == identity:
            os.kill(identity.pid, number)
    except ProcessLookupError:
        pass


def _within(seconds: float, path: Path) -> Lock | None:
    """Another process's lock cannot be waited for with a deadline but by asking again."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lock = _take(path)
        if lock is not None:
            return lock
    return None
