"""What a server holds against what its plan said it would.  Pure."""

from __future__ import annotations

from itertools import pairwise

from ...plan.launch import LaunchPlan
from ..memory_sample import Held
from ..memory_warnings import in_gib

RAM = "RAM"  # by this name LaunchPlan.memory has it
SETTLED_SECONDS = 60.0  # after it was ready: by then it has touched what it took
_MIB = 1024**2
_SHARE, _LEAST_BYTES = 0.05, 100 * _MIB
_PROMPT_CACHE_MIB = 8192  # llama-server's default (common/common.h)


def difference(plan: LaunchPlan, held: Held) -> str:
    """
    One sentence where it is more than 5 % and 100 MiB, else empty; empty too where either is not known.

    The cache of old prompts grows to its full size while the server works, so it does not count as missing.
    Beside a GPU nothing does: what its driver has pinned of the RAM is in no figure of the process.
    """
    planned, real = plan.memory.get(RAM), held.all_bytes
    if planned is None or real is None:
        return ""
    tolerated = max(planned * _SHARE, _LEAST_BYTES)
    if real > planned + tolerated:
        return f"it holds {in_gib(real)} of RAM, {in_gib(real - planned)} more than was planned"
    if real < planned - tolerated - _prompt_cache_bytes(plan) and not gpus(plan):
        return f"it holds {in_gib(real)} of RAM so far, {in_gib(planned - real)} less than was planned"
    return ""


def gpus(plan: LaunchPlan) -> dict[str, int]:
    """Bytes that were planned on each GPU that is used.  What is really held there, only its driver knows."""
    return {name: number for name, number in plan.memory.items() if name != RAM and number}


def _prompt_cache_bytes(plan: LaunchPlan) -> int:
    """Without a limit (-1) it is not in the plan."""
    said = next((value for name, value in pairwise(plan.argv) if name in {"--cache-ram", "-cram"}), "")
    mib = int(said) if said.removeprefix("-").isdigit() else _PROMPT_CACHE_MIB
    return max(mib, 0) * _MIB
