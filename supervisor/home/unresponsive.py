"""A daemon that holds its lock but does not answer: which process it is, and how to end it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import NotAnswering, NotRunning, SupervisorError
from ..locks import Lock, held_by
from ..paths import Paths
from .control_socket import endpoint
from .places import SERVER, daemon_lock, other_servers

GRACE_SECONDS = 3.0  # after TERM; a loop that hangs does not react to it


def not_answering(paths: Paths, what: str) -> SupervisorError:
    """The error that names the process and since when it runs; NotRunning where it has ended meanwhile."""
    place = daemon_lock(paths)
    holder = held_by(place)
    if holder is None:
        return NotRunning("The daemon ended before it had answered.", hint="goss-supervisor logs")
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(place.stat().st_mtime))
    return NotAnswering(
        f"The daemon ({_name(holder)}, running since {since}) {what}.",
        hint="goss-supervisor stop --now ends it, and its server with it.",
    )


def end_daemon(paths: Paths, say: Callable[[str], None]) -> None:
    """
    End the daemon that holds the lock (TERM, then KILL), and then what is left of its servers.

    A server that outlives it is stopped as the next start would do it.  Raises SupervisorError where it
    cannot be proved who holds a lock, or where that process outlives a KILL.
    """
    from .identity import Identity, identify  # noqa: PLC0415 - `stop` needs them rarely
    from .orphan import end_all_left, end_holder  # noqa: PLC0415

    place = daemon_lock(paths)
    holder = held_by(place)
    if holder is None:
        return
    identity = Identity(holder.get("pid", 0), holder.get("started", 0.0), holder.get("boot_id", ""))
    if identify(identity.pid) != identity:
        raise SupervisorError(
            f"The daemon ({_name(holder)}) holds {place}; that this process is the daemon cannot be proved.",
            hint="Find it with `ps -ef | grep supervisor.daemon`, and end it with kill -9.",
        )
    lock = end_holder([identity], place, GRACE_SECONDS)
    if lock is None:
        raise SupervisorError(
            f"The daemon ({_name(holder)}) outlives even a KILL.",
            hint="It hangs in the kernel, as with a driver or a mount that does not answer.",
        )
    try:
        endpoint(paths.runtime).path.unlink(missing_ok=True)
        end_all_left(paths, say)
        for left in paths.runtime.glob("llama-server-*.sock"):  # which the daemon would have removed
            left.unlink(missing_ok=True)
    finally:
        lock.release()


def end_survivors(paths: Paths, say: Callable[[str], None]) -> str:
    """
    End the servers that a killed daemon left; returns their profiles in words, "" if there is none.
    Raises StartFailed where it cannot be proved who holds a server's lock.
    """
    from .orphan import end_all_left, is_left, left_running  # noqa: PLC0415 - as above

    if not any(is_left(paths, name) for name in (SERVER, *other_servers(paths))):
        return ""
    lock = Lock.acquire(daemon_lock(paths), {"pid": os.getpid()})
    if lock is None:
        return ""  # a daemon has just come, and sees to them
    try:
        named = [f"{record.profile} (pid {identity.pid})" for record, identity in left_running(paths)]
        end_all_left(paths, say)
    finally:
        lock.release()
    return " and ".join(named) or "what was left of its servers"


def _name(holder: Mapping[str, Any]) -> str:
    return f"pid {holder.get('pid', 'unknown')}"
