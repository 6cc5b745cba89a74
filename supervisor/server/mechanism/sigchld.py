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
kernel has one for the whole process, and asyncio one handler for it, which all watches have to share."""


class Sigchld:
    """Calls `on_exit` at every SIGCHLD: the signal does not say who died, so each has to look for itself."""

    def __init__(self, pid: int, on_exit: Callable[[], None]) -> None:
        self._pid = pid
        self._loop = asyncio.get_running_loop()
        watches = _WATCHES.setdefault(self._loop, {})
        if not watches:
            self._loop.add_signal_handler(signal.SIGCHLD, _tell_all, watches)
        watches[pid] = on_exit

    def signal(self, number: int) -> None:
        """Safe as long as the process has not been reaped: until then nobody else gets its pid."""
        os.kill(self._pid, number)

    def close(self) -> None:
        watches = _WATCHES[self._loop]
        del watches[self._pid]
        if not watches:
            del _WATCHES[self._loop]
            self._loop.remove_signal_handler(signal.SIGCHLD)


def _tell_all(watches: dict[int, Callable[[], None]]) -> None:
    for look in list(watches.values()):
        look()
