"""What a process uses.  On Linux straight from /proc; elsewhere by psutil, imported when first needed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ..home.identity import fields_of_stat


@dataclass(frozen=True, slots=True)
class Vitals:
    """Processor time since its start, and resident memory (a mapped model counts as far as it is in RAM)."""

    cpu_seconds: float
    rss_bytes: int


def vitals(pid: int) -> Vitals | None:
    """Of this process and its descendants (an engine may be a script around the server); ``None``: gone."""
    found = [used for member in family(pid) if (used := vitals_of(member)) is not None]
    if not found:
        return None
    return Vitals(sum(used.cpu_seconds for used in found), sum(used.rss_bytes for used in found))


def family(pid: int) -> tuple[int, ...]:
    """`pid`, its children, theirs, and so on; just `pid` where that cannot be told."""
    members = [pid]
    for member in members:  # grows while it is walked
        members.extend(child for child in _children(member) if child not in members)
    return tuple(members)


if sys.platform == "linux":
    _TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
    _PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

    def vitals_of(pid: int) -> Vitals | None:
        """Of this process alone."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        fields = fields_of_stat(stat)
        ticks = int(fields[11]) + int(fields[12])  # utime, stime
        return Vitals(ticks / _TICKS_PER_SECOND, int(fields[21]) * _PAGE_BYTES)

    def _children(pid: int) -> list[int]:
        children = []
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - quick: it may have 100 threads
                with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as listed:  # noqa: PTH123
                    children += [int(child) for child in listed.read().split()]
        except OSError:  # gone meanwhile, or a kernel without CONFIG_PROC_CHILDREN
            pass
        return children

else:

    def vitals_of(pid: int) -> Vitals | None:
        import psutil  # noqa: PLC0415 - see above

        try:
            process = psutil.Process(pid)
            times = process.cpu_times()
            return Vitals(times.user + times.system, process.memory_info().rss)
        except psutil.Error:
            return None

    def _children(pid: int) -> list[int]:
        import psutil  # noqa: PLC0415 - see above

        try:
            return [child.pid for child in psutil.Process(pid).children()]
        except psutil.Error:
            return []
