"""
Samples a server's memory every few seconds while it runs, and warns before it runs out.

After its end, `are_free` checks whether a GPU has its memory back.  Only the driver knows, so the next engine
is run with ``--list-devices``.  Drivers return the memory half a second to one and a half after the process
has gone (so Ollama, which polls too).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..engine.adapters.known import adapter_of
from ..plan.launch import LaunchPlan
from ..tool import run_tool
from .gpu_memory import GpusHeld, by_device, larger, of_the_ram
from .memory_sample import MemorySample, SampleSource, cuda_held, source_here, take
from .memory_warnings import OVER, RAM, Remains, Warnings, gpus, warnings_of

log = logging.getLogger(__name__)

EVERY_SECONDS = 10.0
_LOOKS_PER_QUESTION = 6
"""nvidia-smi takes some 50 ms of CPU, so it is asked once a minute, and first when the model is loaded."""
LOOK_AGAIN_SECONDS = 0.1
_HIGHER = 1.02  # less than this is no new peak


class MemoryWatch:
    """Of one server, launch after launch.  ``on_change`` is called when a warning begins or ends."""

    def __init__(
        self,
        on_change: Callable[[], None],
        *,
        source: SampleSource | None = None,
        ask_cuda: Callable[[int], GpusHeld] = cuda_held,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self.warnings: Warnings = {}
        self._on_change = on_change
        self._source = source or source_here()
        self._ask_cuda = ask_cuda
        self._every_seconds = every_seconds
        self._pid: int | None = None
        self._cuda: GpusHeld = {}  # as the driver said last
        self._last: MemorySample | None = None
        self.peak_bytes = 0  # of the RAM, of this launch
        self._remains: Remains | None = None
        self._awaits_gpus = False  # a server that we ended held memory of some
        self._watching: asyncio.Task[None] | None = None

    def begin(self, pid: int, plan: LaunchPlan | None = None) -> None:
        """This process is the server now, and runs this plan."""
        self.end()
        self._pid, self._remains, self.peak_bytes, self._cuda = pid, None, 0, {}
        uses_cuda = plan is not None and any(name.startswith("CUDA") for name in plan.adapters)
        self._watching = asyncio.get_running_loop().create_task(self._watch(pid, uses_cuda=uses_cuda))

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

    def now(self) -> MemorySample | None:
        """None where no server runs."""
        sample = None if self._pid is None else take(self._source, self._pid)
        if sample is None or not self._cuda:
            return sample
        return replace(sample, held=replace(sample.held, gpus={**sample.held.gpus, **self._cuda}))

    def look(self) -> None:
        """Take a sample and judge it."""
        sample = self.now()
        if sample is not None:
            self._last = sample
            self._say(warnings_of(sample, self.warnings))
            held = sample.held.all_bytes or sample.held.rss_bytes
            if held > self.peak_bytes * _HIGHER:
                self.peak_bytes = held
                self._on_change()

    def kernel_killed(self) -> bool | None:
        """
        Whether the kernel has ended a process for lack of memory since the last look; None where it keeps no
        count.  For a server that was killed by nobody knows whom, before `end`.
        """
        before = self._last.room.kernel_kills if self._last else None
        now = self._source.room().kernel_kills
        return None if before is None or now is None else now > before

    def let_go(self, plan: LaunchPlan | None) -> None:
        """It will be ended now: what it holds is what has to come back."""
        self.look()
        self._awaits_gpus = plan is not None and bool(gpus(plan))

    def is_released(self, plan: LaunchPlan) -> bool:
        """Whether this plan may be launched as for the memory of the server before it."""
        return self._is_ram_released(plan) and not (self._awaits_gpus and gpus(plan))

    async def released(self, plan: LaunchPlan, environ: Mapping[str, str]) -> None:
        """Until then, which has a bound; ``environ`` is for the engine, which is asked about GPUs."""
        while not self._is_ram_released(plan):  # noqa: ASYNC110 - the kernel tells it only who asks
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        if self._awaits_gpus and not await are_free(plan, environ):
            log.warning("the GPU has not free what %s will need: it is tried all the same", plan.profile)
        self._awaits_gpus = False

    async def free_for(self, plan: LaunchPlan, environ: Mapping[str, str]) -> dict[str, int]:
        """Bytes that are free of each memory that this plan needs; what nobody can tell is left out."""
        found: dict[str, int] = {}
        group = self._source.group(os.getpid())  # a new server will be in ours
        left = (self._source.room().available_bytes, group.left_bytes if group else None)
        if known := [each for each in left if each is not None]:
            found[RAM] = min(known)
        if gpus(plan) and (command := adapter_of(plan.adapter).lists_devices(plan.argv)):
            found |= await asyncio.to_thread(_free, command, environ)
        return found

    def held_bytes(self, plan: LaunchPlan | None) -> dict[str, int]:
        """
        What the server would give back of each memory: measured of the RAM; of GPUs, and of the RAM that they
        share, as planned or, if that is more, as measured.
        """
        sample = self.now()
        if sample is None or plan is None:
            return {}
        held = sample.held
        devices = larger(gpus(plan), by_device(plan, held.gpus))
        shared = of_the_ram(plan, devices)
        if held.anonymous_bytes is not None:
            ram = held.anonymous_bytes + shared
        else:  # psutil's figure may have what a GPU shares, as on a Mac
            ram = max(held.rss_bytes, plan.memory.get(RAM, 0) + shared)
        return {**devices, RAM: ram}

    def needed_bytes(self, plan: LaunchPlan) -> dict[str, int]:
        """What it uses of each memory: as planned, or as measured if that is more.  Empty is not known."""
        sample = self.now()
        if sample is None or not plan.needs:
            return dict(plan.needs)
        held, devices = sample.held, by_device(plan, sample.held.gpus)
        ram = max(held.rss_bytes, (held.anonymous_bytes or 0) + of_the_ram(plan, devices))
        return larger(plan.needs, {**devices, RAM: ram})

    def _is_ram_released(self, plan: LaunchPlan) -> bool:
        if self._remains is None:
            return True
        return self._remains.are_free(self._source.room(), plan.memory.get(RAM), time.monotonic())

    async def _watch(self, pid: int, *, uses_cuda: bool) -> None:
        try:
            for look in itertools.count():
                if uses_cuda and look % _LOOKS_PER_QUESTION == 1:
                    self._cuda = await asyncio.to_thread(self._ask_cuda, pid)
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


RELEASE_SECONDS = 10.0  # what is not free by then, somebody else has
ASK_AGAIN_SECONDS = 0.25
_TOOL_SECONDS = 5.0
_MIB = 1024**2
_LISTED = re.compile(r" *(\w+): .*\(\d+ MiB, (\d+) MiB free\)")


async def are_free(plan: LaunchPlan, environ: Mapping[str, str]) -> bool:
    """Whether each GPU has what ``plan`` will hold, waited for with a bound.  True where nobody can tell."""
    command, needed = adapter_of(plan.adapter).lists_devices(plan.argv), gpus(plan)
    deadline = time.monotonic() + RELEASE_SECONDS
    while command and needed:
        free = await asyncio.to_thread(_free, command, environ)
        if all(free.get(name, number) >= number for name, number in needed.items()):
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(ASK_AGAIN_SECONDS)
    return True


def _free(command: Sequence[str], environ: Mapping[str, str]) -> dict[str, int]:
    """Bytes by name of the device; empty where the engine does not say."""
    try:
        outcome = run_tool(command, environ, _TOOL_SECONDS)
    except OSError:
        return {}
    found = (_LISTED.fullmatch(line) for line in outcome.stdout.splitlines())
    return {match[1]: int(match[2]) * _MIB for match in found if match}
