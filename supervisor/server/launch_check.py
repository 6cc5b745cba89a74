"""What a launch waits for, and what would make it fail: the memory of the previous server, files, workers."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial

from ..plan.launch import LaunchPlan
from .background import beside_the_loop
from .diagnosis import Diagnosis, shortage
from .preflight import check_launch
from .worker_watch import looks, lost

log = logging.getLogger(__name__)

SLOW_CHECK_SECONDS = 1.0
PATIENCE_SECONDS = 5.0  # with a worker, where something else runs without it: it may only be starting anew
WORKER_PAUSE_SECONDS = 1.0  # between two looks for a worker


class LaunchCheck:
    """
    Before one launch of ``plan``.  ``is_released`` tells whether its memory is there, ``released`` awaits it;
    ``say`` is told what it waits for.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        is_released: Callable[[LaunchPlan], bool],
        released: Callable[[LaunchPlan], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._is_released, self._released, self._say = plan, is_released, released, say

    async def problem(self, *, has_another: bool) -> Diagnosis | None:
        """
        The first thing that is wrong; a bug of ours is one, too, since the lifecycle waits for an answer.  A
        worker that is gone is waited for as long as it takes, but only for a moment where the server
        ``has_another`` plan to run.
        """
        patience = PATIENCE_SECONDS if has_another or self._plan.is_trial else math.inf
        try:
            await self._wait_for_memory()
            return await self._looked_at() or await self._wait_for_workers(patience)
        except Exception as error:
            log.exception("a check before a launch broke")
            bug = Diagnosis("bug", "a check of goss-supervisor broke, see daemon.log", "")
            return shortage(error) or bug

    async def _wait_for_memory(self) -> None:
        if not self._is_released(self._plan):
            log.info("waiting for the memory of the previous server")
            self._say("waiting for the memory of the previous server")
            await self._released(self._plan)

    async def _looked_at(self) -> Diagnosis | None:
        """Outside the loop: the model may be on a network mount that hangs, which the status then shows."""
        looking = asyncio.ensure_future(beside_the_loop(partial(check_launch, self._plan)))
        _, slow = await asyncio.wait({looking}, timeout=SLOW_CHECK_SECONDS)
        if slow:
            self._say("waiting for the disk of the engine or the model")
        return await looking

    async def _wait_for_workers(self, patience_seconds: float) -> Diagnosis | None:
        """The server would abort without them."""
        began = time.monotonic()
        while gone := [each for each in await looks(self._plan.workers) if each.trouble]:
            why = "; ".join(dict.fromkeys(each.trouble for each in gone))
            if time.monotonic() - began >= patience_seconds:
                return lost([each.worker for each in gone], why)
            noun = "the worker" if len(gone) == 1 else "the workers"
            self._say(f"waits for {noun} {' and '.join(each.worker for each in gone)}: {why}")
            await asyncio.sleep(WORKER_PAUSE_SECONDS)
        return None
