"""
What the daemon tells whoever manages it: systemd by datagrams, s6 by a file descriptor, others nothing.

READY comes when the first start is decided well, and never before.  While the manager waits for us, it is
asked for more time: our own limits know of progress.  Before each sign of life a message goes through the
server's inbox and has to come back, for it is the *owner of the state* that shall live.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from enum import Enum

from .notify import Notify, forget_manager, notify_in, watchdog_seconds_in

EXTENSION_SECONDS = 30.0  # asked for from now on, ...
EXTEND_EVERY_SECONDS = 5.0  # ... again and again, so that a stuck daemon is not waited for much longer


class _Phase(Enum):
    STARTING = "starting"
    UP = "up"
    RELOADING = "reloading"
    STOPPING = "stopping"


class Manager:
    """Nothing here waits or raises.  ``ready_fd`` gets a newline, and is closed, when all is ready."""

    def __init__(
        self, notify: Notify | None = None, watchdog_seconds: float | None = None, ready_fd: int | None = None
    ) -> None:
        self._notify = notify
        self._watchdog_seconds = watchdog_seconds
        self._ready_fd = ready_fd
        self._phase = _Phase.STARTING
        self._work_began = asyncio.Event()
        self._at_work = False
        self._status = ""
        self._owed: dict[str, str] = {}

    def status(self, line: str) -> None:
        """How the server is, in one line without secrets."""
        if line != self._status:
            self._status = line
            self._say({"STATUS": line})

    def at_work(self, at_work: bool) -> None:
        """Whether something is under way that somebody may wait for, as ExecReload= does."""
        if at_work and not self._at_work:
            self._work_began.set()
        self._at_work = at_work

    def ready(self) -> None:
        """The first start is decided, and well."""
        if self._phase is _Phase.STARTING:
            self._begin(_Phase.UP, {"READY": "1"})
            if self._ready_fd is not None:
                with suppress(OSError):  # whoever waited has gone
                    os.write(self._ready_fd, b"\n")
                with suppress(OSError):
                    os.close(self._ready_fd)
                self._ready_fd = None

    def reloading(self) -> None:
        """A reload begins; `reloaded` has to follow.  Before it is ready, that is part of the start."""
        if self._phase is _Phase.UP:
            now = time.monotonic_ns() // 1000  # from systemd 253 on, it tells a new reload from an old one
            self._begin(_Phase.RELOADING, {"RELOADING": "1", "MONOTONIC_USEC": str(now)})

    def reloaded(self) -> None:
        """It is over, whatever came of it."""
        if self._phase is _Phase.RELOADING:
            self._begin(_Phase.UP, {"READY": "1"})

    def stopping(self) -> None:
        """The end begins."""
        if self._phase is not _Phase.STOPPING:
            self._begin(_Phase.STOPPING, {"STOPPING": "1"})

    async def keep_in_touch(self, owner_lives: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled.  ``owner_lives`` comes back only if the owner of the state lives."""
        if self._notify is None:
            return
        while True:
            await owner_lives()
            self._work_began.clear()
            self._say(self._signs_of_life())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._work_began.wait(), self._pause_seconds())

    def _signs_of_life(self) -> dict[str, str]:
        """A watchdog runs from READY on; the first sign of life would set it going earlier."""
        signs = {}
        if self._watchdog_seconds is not None and self._phase is not _Phase.STARTING:
            signs["WATCHDOG"] = "1"
        if not self._is_idle:  # then nobody waits, and it would calm the watchdog for longer
            signs["EXTEND_TIMEOUT_USEC"] = str(int(EXTENSION_SECONDS * 1e6))
        return signs

    @property
    def _is_idle(self) -> bool:
        return self._phase is _Phase.UP and not self._at_work

    def _pause_seconds(self) -> float | None:
        """None: until something begins.  sd_watchdog_enabled(3) asks for half the time; a third is safer."""
        watched = self._watchdog_seconds / 3 if self._watchdog_seconds is not None else None
        if self._is_idle and not self._owed:
            return watched
        return min(EXTEND_EVERY_SECONDS, watched or EXTEND_EVERY_SECONDS)

    def _begin(self, phase: _Phase, message: dict[str, str]) -> None:
        self._phase = phase
        self._work_began.set()
        self._say(message)

    def _say(self, message: dict[str, str]) -> None:
        """What was not taken is said again with the next message, the last of each key."""
        if self._notify is None or not (message or self._owed):
            return
        whole = {key: value for key, value in self._owed.items() if key not in message} | message
        taken = self._notify.say(whole)
        self._owed = {} if taken else {key: whole[key] for key in whole if key not in _OF_THE_MOMENT}


_OF_THE_MOMENT = frozenset({"WATCHDOG", "EXTEND_TIMEOUT_USEC"})


def manager_in(environ: MutableMapping[str, str], *, ready_fd: int | None) -> Manager:
    """The one that this environment tells of; it tells nobody else of it afterwards."""
    notify, watchdog_seconds = notify_in(environ), watchdog_seconds_in(environ, os.getpid())
    forget_manager(environ)
    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)  # nobody else shall hold it open
    return Manager(notify, watchdog_seconds, ready_fd)
