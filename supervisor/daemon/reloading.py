"""
A reload, as a SIGHUP asks for it: carried out by ``goss-supervisor reload``, as a person would.

Profiles are read by the program that can read them, which then asks us as any client.  What it says goes
where we say things.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1  # how soon we see that it has ended
_COMMAND = (sys.executable, "-P", "-m", "supervisor", "reload")


class Reloading:
    """One at a time; ``begins`` and ``over`` are called around it, or around several in a row."""

    def __init__(
        self, begins: Callable[[], None], over: Callable[[], None], command: Sequence[str] = _COMMAND
    ) -> None:
        self._begins = begins
        self._over = over
        self._command = command
        self._wanted = False
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """While one is under way, one more follows it: a profile may have been read before it was changed."""
        self._wanted = True
        if self._task is None:
            self._begins()
            self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """What has begun ends too: it may be downloading."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while self._wanted:
            self._wanted = False
            await self._reload()
        self._task = None
        self._over()

    async def _reload(self) -> None:
        try:
            child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: ASYNC220 - forks at once
        except OSError as error:
            log.warning("no reload: goss-supervisor cannot be run: %s", error.strerror)
            return
        try:
            while child.poll() is None:  # noqa: ASYNC110 - a Popen tells of its end to who asks
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if child.returncode is None:  # only we can reap it, so it is still the one that we started
                child.kill()
                child.wait()
        if child.returncode != 0:
            log.warning("the reload ended with %d", child.returncode)
