"""
One launch: what it waits for, what would make it fail, and how it begins.

It waits for the memory of the server before, for files and for workers.  Then its process is spawned, or the
survivor that runs it already is taken over.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from .. import __version__
from ..errors import SupervisorError
from ..home.orphan import GenerationLock
from ..plan.child_environment import child_environment
from ..plan.launch import LaunchPlan
from .background import WorkResult, beside_the_loop
from .child import Child, spawn, take_over
from .diagnosis import Diagnosis, shortage
from .inner_address import with_inner_address
from .output_log import OutputLog
from .preflight import check_launch
from .probe import target_of
from .probe_target import ProbeTarget
from .survivor import Survivor
from .worker_watch import looks, lost

log = logging.getLogger(__name__)

SLOW_CHECK_SECONDS = 1.0
PATIENCE_SECONDS = 5.0  # with a worker, where something else runs without it: it may only be starting anew
WORKER_PAUSE_SECONDS = 1.0  # between two looks for a worker


class LaunchCheck:
    """
    Before one launch of ``plan``.  ``lock`` is to be held by then.  ``is_released`` says whether its memory
    is free, ``released`` awaits that; ``say`` gets what it waits for.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        lock: GenerationLock,
        is_released: Callable[[LaunchPlan], bool],
        released: Callable[[LaunchPlan], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        self._plan, self._lock = plan, lock
        self._is_released, self._released, self._say = is_released, released, say

    async def problem(self, *, has_another: bool) -> Diagnosis | None:
        """
        The first thing that is wrong, including a bug of ours, since the lifecycle waits for an answer.  It
        waits for a worker that is gone as long as it takes, but only for a moment where the server
        ``has_another`` plan to run.
        """
        patience = PATIENCE_SECONDS if has_another or self._plan.is_trial else math.inf
        try:
            if held_up := await self._wait_for_lock():
                return held_up
            await self._wait_for_memory()
            return await self._looked_at() or await self._wait_for_workers(patience)
        except Exception as error:
            log.exception("a check before a launch broke")
            bug = Diagnosis("bug", "a check of goss-supervisor broke, see daemon.log", "")
            return shortage(error) or bug

    async def _wait_for_lock(self) -> Diagnosis | None:
        """A server that an earlier daemon left may hold it, which is ended."""
        if self._lock.held is None:
            try:
                await self._beside(self._lock.take, "ending what an earlier daemon left")
            except SupervisorError as error:
                return Diagnosis("left-behind", str(error), error.hint)
        return None

    async def _wait_for_memory(self) -> None:
        if not self._is_released(self._plan):
            log.info("waiting for the memory of the previous server")
            self._say("waiting for the memory of the previous server")
            await self._released(self._plan)

    async def _looked_at(self) -> Diagnosis | None:
        """The model may be on a network mount that hangs."""
        check = partial(check_launch, self._plan)
        return await self._beside(check, "waiting for the disk of the engine or the model")

    async def _beside(self, work: Callable[[], WorkResult], slow: str) -> WorkResult:
        """Outside the loop; the status shows what takes long."""
        working = asyncio.ensure_future(beside_the_loop(work))
        _, pending = await asyncio.wait({working}, timeout=SLOW_CHECK_SECONDS)
        if pending:
            self._say(slow)
        return await working

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


class Begun(NamedTuple):
    """``plan`` is with the inner port and key of this very launch."""

    child: Child
    target: ProbeTarget
    plan: LaunchPlan


@dataclass(frozen=True, slots=True)
class Launcher:
    """
    Of one server.  ``lock`` is inherited by its processes, so that a later daemon knows of them; those
    that ``outlives`` names go on when this one is killed.
    """

    output: OutputLog
    lock: GenerationLock
    private_config: Path
    environ: Mapping[str, str]
    outlives: Callable[[LaunchPlan], bool] = lambda _: False

    def environment_of(self, plan: LaunchPlan) -> dict[str, str]:
        """Of a process that runs this plan."""
        return child_environment(self.environ, plan, self.private_config)

    async def begin(self, asked: LaunchPlan, survivor: Survivor | None) -> Begun:
        """Raises as `spawn` and `take_over` do, and for what the machine is short of."""
        plan = survivor.plan if survivor else with_inner_address(asked)
        target = target_of(plan)
        probed = filter(None, (plan.ready_path, plan.liveness_path))
        self.output.begin_run(
            plan.secrets.values(), probed, goes_on=survivor is not None and survivor.has_log
        )
        if survivor is not None:
            self.output.note(f"--- taken over by goss-supervisor {__version__}, pid {os.getpid()} ---")
            return Begun(take_over(survivor, on_output=self.output.feed), target, plan)
        env, inherit = self.environment_of(plan), (self.lock.fd,)
        feed = self.output.feed
        outlives = self.outlives(asked)
        child = await spawn(
            plan.argv, env, on_output=feed, inherit=inherit, no_sigpipe=target.rpc, outlives=outlives
        )
        return Begun(child, target, plan)
