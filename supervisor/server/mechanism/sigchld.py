"""SIGCHLD: how a death is told where there is no pidfd (macOS, Linux before 5.3, strict sandboxes)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

assert sys.platform != "win32"

_WATCHES: dict[asyncio.AbstractEventLoop, dict[int, Callable[[], None]]] = {}
"""Who wants to look, by loop and pid; empty again after the last death.  Global because SIGCHLD is: the
kernel has one for the whole process, and all watches have to share its handler."""


class Sigchld:
    """
    Calls `on_exit` at every SIGCHLD: the signal does not say who died, so each has to look for itself.

    Python's own handler, since uvloop keeps ``add_signal_handler`` for this signal to itself.  It runs in the
    main thread, as the loop does, and wakes the loop, whichever it is.
    """

    def __init__(self, pid: int, on_exit: Callable[[], None]) -> None:
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        if not _WATCHES:
            signal.signal(signal.SIGCHLD, _wake_all)
            signal.siginterrupt(signal.SIGCHLD, False)  # as asyncio does: no system call is to fail for it
        _WATCHES.setdefault(self._loop, {})[pid] = on_exit

    def signal(self, number: int) -> None:
        """Safe as long as the process has not been reaped: until then nobody else gets its pid."""
        os.kill(self._pid, number)

    def close(self) -> None:
        watches = _WATCHES[self._loop]
        del watches[self._pid]
        if not watches:
            del _WATCHES[self._loop]
        if not _WATCHES:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _wake_all(*_: object) -> None:
    for loop, watches in list(_WATCHES.items()):
        if not loop.is_closed():
            loop.call_soon_threadsafe(_tell_all, watches)


def _tell_all(watches: dict[int, Callable[[], None]]) -> None:
    for look in list(watches.values()):
        look()
