"""Warns when memory runs out, when a server exceeds its plan, and when it did not return memory.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from ..plan.launch import LaunchPlan
from .memory_sample import Held, MemorySample, Room

WarningKind = Literal["low", "limit", "stalled", "swapped"]
Warnings = Mapping[WarningKind, str]

GIB = 1024**3
CALM = 1.5
LOW_BYTES = GIB // 2
"""
Or 3 % of the RAM, whichever is more.  A desktop opens a page of a browser in this, and the kernel's own
watermarks are below it.
"""
LOW_SHARE = 0.03
STALLED_PERCENT = 20.0
"""
systemd-oomd kills at 60 % of full pressure that lasts 30 s (oomd.conf(5)).  At a standstill the average over
10 s passes 20 % after 2.2 s and 60 % after 9 s, so a check every 10 s warns 27 s before that.
"""
SWAPPED_SHARE = 0.05


def warnings_of(sample: MemorySample, before: Collection[WarningKind] = ()) -> dict[WarningKind, str]:
    """The warnings that hold now, a sentence each; ``before`` are those that held at the last sample."""
    warnings = {kind: rule(sample, CALM if kind in before else 1.0) for kind, rule in _RULES.items()}
    return {kind: text for kind, text in warnings.items() if text}


def low_bytes(total_bytes: int) -> float:
    """Less than this should never be left on a machine with so much RAM."""
    return max(total_bytes * LOW_SHARE, LOW_BYTES)


def _low(sample: MemorySample, calm: float) -> str:
    total, available = sample.room.total_bytes, sample.room.available_bytes
    if total is None or available is None or available >= low_bytes(total) * calm:
        return ""
    return (
        f"only {in_gib(available)} of this machine's {in_gib(total)} of RAM are left; when they are gone, "
        "the system ends the server.  Close what else uses memory, or lower ctx-size or cache-ram"
    )


def _limit(sample: MemorySample, calm: float) -> str:
    group = sample.group
    if group is None or group.left_bytes >= group.limit_bytes * LOW_SHARE * calm:
        return ""
    return (
        f"only {in_gib(group.left_bytes)} are left of the {in_gib(group.limit_bytes)} that the control group "
        f"{group.path} may use; at its limit the kernel ends the server.  Raise it (MemoryMax of a service), "
        "or lower ctx-size or cache-ram"
    )


def _stalled(sample: MemorySample, calm: float) -> str:
    stalled = sample.room.stalled_percent
    if stalled is None or stalled < STALLED_PERCENT / calm:
        return ""
    return (
        f"this machine spent {stalled:.0f} % of the last 10 s waiting for memory; systemd-oomd ends "
        "something at 60 %.  Close what else uses memory, or run a smaller model"
    )


def _swapped(sample: MemorySample, calm: float) -> str:
    swapped, whole = sample.held.swap_bytes, sample.held.all_bytes
    if not swapped or not whole or swapped <= whole * SWAPPED_SHARE / calm:
        return ""
    return f"{in_gib(swapped)} of the server's {in_gib(whole)} are swapped out: it answers slowly"


_RULES: dict[WarningKind, Callable[[MemorySample, float], str]] = {
    "low": _low,
    "limit": _limit,
    "stalled": _stalled,
    "swapped": _swapped,
}
OVER: Mapping[WarningKind, str] = {
    "low": "enough of this machine's RAM is left again",
    "limit": "the server's control group has room again",
    "stalled": "this machine does not wait for memory any more",
    "swapped": "the server is back from swap",
}


def in_gib(number_bytes: int) -> str:
    return f"{number_bytes / GIB:.1f} GiB"


RAM = "RAM"  # by this name LaunchPlan.memory has it
SETTLED_SECONDS = 60.0  # after it was ready: by then it has touched what it took
_MIB = 1024**2
_SHARE, _LEAST_BYTES = 0.05, 100 * _MIB
_PROMPT_CACHE_MIB = 8192  # llama-server's default (common/common.h)


def difference(plan: LaunchPlan, held: Held) -> str:
    """
    One sentence where it is more than 5 % and 100 MiB, else empty; empty too where either is not known.

    The cache of old prompts grows to its full size while the server works, so it does not count as missing.
    With a GPU nothing does: no figure of the process has the RAM that its driver pins.
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
    warnings = next((value for name, value in pairwise(plan.argv) if name in {"--cache-ram", "-cram"}), "")
    mib = int(warnings) if warnings.removeprefix("-").isdigit() else _PROMPT_CACHE_MIB
    return max(mib, 0) * _MIB


RAM_RELEASE_SECONDS = 5.0  # a driver that has not given back by then will not
_MOST = 0.8  # of what it held: others take and give meanwhile
_HIDDEN_SHARE = 1 / 8
"""
Of the RAM may be in lists of free pages that belong to one CPU each and that MemAvailable leaves out, for
seconds after a large process ended (mm/page_alloc.c since Linux 6.7: MIN_PERCPU_PAGELIST_HIGH_FRACTION).  The
next process gets them all the same.
"""


@dataclass(frozen=True, slots=True)
class Remains:
    """What a server held when it was last seen, and how much was available then; ``gone`` is monotonic."""

    held_bytes: int
    available_bytes: int
    gone: float

    @classmethod
    def of(cls, sample: MemorySample | None, now: float) -> Remains | None:
        """None where there is nothing to wait for, or nothing to tell by."""
        if sample is None or sample.room.available_bytes is None:
            return None
        held = sample.held.anonymous_bytes
        return cls(held, sample.room.available_bytes, now) if held else None

    def are_free(self, room: Room, needed_bytes: int | None, now: float) -> bool:
        """Most of it is available again, or what the next needs is there, or it has been long."""
        available, total = room.available_bytes, room.total_bytes
        if available is None or total is None or now - self.gone >= RAM_RELEASE_SECONDS:
            return True
        if needed_bytes is not None and available >= needed_bytes + low_bytes(total):
            return True
        return available >= self.available_bytes + self.held_bytes * _MOST - total * _HIDDEN_SHARE
