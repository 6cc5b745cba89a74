"""Identifies a process: pids are reused, so a pid counts only with its start time and boot."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Identity:
    """
    ``started`` is in clock ticks since boot on Linux, where ``boot_id`` tells the boot; elsewhere it is
    in seconds since the epoch, which differs between boots by itself, and ``boot_id`` is empty.
    """

    pid: int
    started: float
    boot_id: str


def identify(pid: int) -> Identity | None:
    """Who has this pid now; ``None`` if there is none or it is unknown: then touch nothing."""
    return _from_proc(pid) if sys.platform == "linux" else _from_psutil(pid)


def ourselves() -> Identity:
    """This process; if unknown, one that `identify` never gives, so that it is never signalled."""
    return identify(os.getpid()) or Identity(os.getpid(), 0.0, "")


def _from_proc(pid: int) -> Identity | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    state, *fields = fields_of_stat(stat)
    return None if state in "ZX" else Identity(pid, float(fields[18]), boot_id)


def fields_of_stat(stat: str) -> list[str]:
    """From the third (state) on: the second, a name, may hold blanks and brackets (proc_pid_stat(5))."""
    return stat.rpartition(")")[2].split()


def _from_psutil(pid: int) -> Identity | None:
    import psutil  # noqa: PLC0415 - 1.3 MB that a daemon on Linux does without

    try:
        return Identity(pid, psutil.Process(pid).create_time(), "")
    except psutil.Error:
        return None
