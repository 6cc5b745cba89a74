"""Looks at a server's memory every few seconds while it runs, and says when it is about to run out."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable

from .release import Remains
from .sample import Sample, Source, take
from .warnings import OVER, Warnings, warnings_of

if sys.platform == "linux":
    from .linux import LinuxSource as _Here
else:
    from .elsewhere import PsutilSource as _Here

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
AGAIN_SECONDS = 0.1


class MemoryWatch:
    """
    Of one server, launch after launch.  ``on_change`` is called when a warning begins or ends.

    ``warnings`` are those that hold now.
    """

    def __init__(
        self,
        on_change: Callable[[], None],
        *,
        source: Source | None = None,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self.warnings: Warnings = {}
        self._on_change = on_change
        self._source = source or _Here()
        self._every_seconds = every_seconds
        self._pid: int | None = None
        self._last: Sample | None = None
        self._remains: Remains | None = None
        self._watching: asyncio.Task[None] | None = None

    def begin(self, pid: int) -> None:
        """This process is the server now."""
        self.end()
        self._pid, self._remains = pid, None
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    def end(self) -> None:
        """It is gone."""
        self.close()
        self._remains = Remains.of(self._last, time.monotonic())
        self._pid = self._last = None
        self._say({})

    def close(self) -> None:
        """Look no more."""
        if self._watching:
            self._watching.cancel()

    def now(self) -> Sample | None:
        """None where no server runs."""
        return None if self._pid is None else take(self._source, self._pid)

    def look(self) -> None:
        """Take a sample and judge it."""
        sample = self.now()
        if sample is not None:
            self._last = sample
            self._say(warnings_of(sample, self.warnings))

    def is_released(self, needed_bytes: int | None) -> bool:
        """Whether one that needs so much may start as for the memory of the one before it."""
        if self._remains is None:
            return True
        return self._remains.are_free(self._source.room(), needed_bytes, time.monotonic())

    async def released(self, needed_bytes: int | None) -> None:
        """Until then, which has a bound."""
        while not self.is_released(needed_bytes):  # noqa: ASYNC110 - the kernel tells it only who asks
            await asyncio.sleep(AGAIN_SECONDS)

    async def _watch(self) -> None:
        try:
            while True:
                self.look()
                await asyncio.sleep(self._every_seconds)
        except Exception:  # a bug of ours is no reason to touch the server
            log.exception("the server's memory is not watched any more")

    def _say(self, warnings: Warnings) -> None:
        before, self.warnings = self.warnings, warnings
        for kind in warnings.keys() - before.keys():
            log.warning("memory: %s", warnings[kind])
        for kind in before.keys() - warnings.keys():
            log.info("memory: %s", OVER[kind] if self._pid else "the server that was warned of is gone")
        if warnings.keys() != before.keys():
            self._on_change()
