"""
Whether a GPU has again what a server held of it.

Only its driver knows, so the engine that comes next is asked, by its own ``--list-devices``.  Drivers give
the memory back half a second to one and a half after the process is gone (so Ollama, which polls too).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence

from ...plan.launch import LaunchPlan
from ...tool import run_tool
from .planned import gpus

RELEASE_SECONDS = 10.0  # what is not free by then, somebody else has
AGAIN_SECONDS = 0.25
_TOOL_SECONDS = 5.0
_MIB = 1024**2
_LISTED = re.compile(r" *(\w+): .*\(\d+ MiB, (\d+) MiB free\)")
_MODEL = ("-m", "--model")  # the first option that we give: what stands before it is the engine


async def are_free(plan: LaunchPlan, environ: Mapping[str, str]) -> bool:
    """Whether each GPU has what ``plan`` will hold, waited for with a bound.  True where nobody can tell."""
    command, needed = _command(plan), gpus(plan)
    deadline = time.monotonic() + RELEASE_SECONDS
    while command and needed:
        free = await asyncio.to_thread(_free, command, environ)
        if all(free.get(name, number) >= number for name, number in needed.items()):
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(AGAIN_SECONDS)
    return True


def _command(plan: LaunchPlan) -> tuple[str, ...]:
    at = next((place for place, word in enumerate(plan.argv) if word in _MODEL), 0)
    return plan.argv[:at]


def _free(command: Sequence[str], environ: Mapping[str, str]) -> dict[str, int]:
    """Bytes by name of the device; empty where the engine does not say."""
    try:
        outcome = run_tool([*command, "--list-devices"], environ, _TOOL_SECONDS)
    except OSError:
        return {}
    found = (_LISTED.fullmatch(line) for line in outcome.stdout.splitlines())
    return {match[1]: int(match[2]) * _MIB for match in found if match}
