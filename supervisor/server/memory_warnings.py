"""
When memory is about to run out, in words.  Pure.  A warning that has begun ends only at a distance from where
it began (`CALM`), so that it does not flap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Literal

from .memory_sample import Sample

Kind = Literal["low", "limit", "stalled", "swapped"]
Warnings = Mapping[Kind, str]

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
10 s passes 20 % after 2.2 s and 60 % after 9 s, so somebody who looks every 10 s is told 27 s before that.
"""
SWAPPED_SHARE = 0.05


def warnings_of(sample: Sample, before: Collection[Kind] = ()) -> dict[Kind, str]:
    """The warnings that hold now, a sentence each; ``before`` are those that held at the last sample."""
    said = {kind: rule(sample, CALM if kind in before else 1.0) for kind, rule in _RULES.items()}
    return {kind: text for kind, text in said.items() if text}


def low_bytes(total_bytes: int) -> float:
    """Less than this should never be left on a machine with so much RAM."""
    return max(total_bytes * LOW_SHARE, LOW_BYTES)


def _low(sample: Sample, calm: float) -> str:
    total, available = sample.room.total_bytes, sample.room.available_bytes
    if total is None or available is None or available >= low_bytes(total) * calm:
        return ""
    return (
        f"only {in_gib(available)} of this machine's {in_gib(total)} of RAM are left; when they are gone, "
        "the system ends the server.  Close what else uses memory, or lower ctx-size or cache-ram"
    )


def _limit(sample: Sample, calm: float) -> str:
    group = sample.group
    if group is None or group.left_bytes >= group.limit_bytes * LOW_SHARE * calm:
        return ""
    return (
        f"only {in_gib(group.left_bytes)} are left of the {in_gib(group.limit_bytes)} that the control group "
        f"{group.path} may use; at its limit the kernel ends the server.  Raise it (MemoryMax of a service), "
        "or lower ctx-size or cache-ram"
    )


def _stalled(sample: Sample, calm: float) -> str:
    stalled = sample.room.stalled_percent
    if stalled is None or stalled < STALLED_PERCENT / calm:
        return ""
    return (
        f"this machine spent {stalled:.0f} % of the last 10 s waiting for memory; systemd-oomd ends "
        "something at 60 %.  Close what else uses memory, or run a smaller model"
    )


def _swapped(sample: Sample, calm: float) -> str:
    swapped, whole = sample.held.swap_bytes, sample.held.all_bytes
    if not swapped or not whole or swapped <= whole * SWAPPED_SHARE / calm:
        return ""
    return f"{in_gib(swapped)} of the server's {in_gib(whole)} are swapped out: it answers slowly"


_RULES: dict[Kind, Callable[[Sample, float], str]] = {
    "low": _low,
    "limit": _limit,
    "stalled": _stalled,
    "swapped": _swapped,
}
OVER: Mapping[Kind, str] = {
    "low": "enough of this machine's RAM is left again",
    "limit": "the server's control group has room again",
    "stalled": "this machine does not wait for memory any more",
    "swapped": "the server is back from swap",
}


def in_gib(number_bytes: int) -> str:
    return f"{number_bytes / GIB:.1f} GiB"
