"""
Control groups of Linux, version 2 and 1: the limit of memory that holds for a process, and what is left.

The files are described in the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

MOUNT = "/sys/fs/cgroup"
_OWN_PATH = re.compile(r"^\d+:([^:\n]*):(/.*)$", re.MULTILINE)
_STAT = re.compile(r"^(\w+) (\d{1,19})$", re.MULTILINE | re.ASCII)

ReadText = Callable[[str], str | None]
"""The text of a file; None or "" where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Group:
    """
    The control group with the least room of those around a process; the kernel kills in it at its limit.

    ``left_bytes`` counts what the kernel can drop (page cache, so a mapped model too) as free: a group whose
    files have filled it is not near its end.
    """

    path: str  # /user.slice/…, as in /proc/PID/cgroup
    limit_bytes: int
    left_bytes: int


class _Version(NamedTuple):
    """``droppable`` are the lines of memory.stat that the kernel frees before it kills."""

    folder: str  # below the mount
    limit: str
    used: str
    droppable: tuple[str, ...]


_V2 = _Version("", "memory.max", "memory.current", ("active_file", "inactive_file", "slab_reclaimable"))
_V1 = _Version(
    "/memory",
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    ("total_active_file", "total_inactive_file"),
)


def tightest(read: ReadText, pid: str = "self", proc: str = "/proc", mount: str = MOUNT) -> Group | None:
    """
    A limit holds for everything below it, so the tightest of all the way up to the mount counts.

    None where no group around the process has a limit, or nothing can be read.
    """
    paths = _paths(read(f"{proc}/{pid}/cgroup") or "")
    found = (
        _group(read, version, f"{mount}{version.folder}", path)
        for version, own in ((_V2, paths.get("", "")), (_V1, paths.get("memory", "")))
        if "/.." not in own  # else it lives outside of what this container may see
        for path in _upwards(own)
    )
    return min((each for each in found if each), key=lambda each: each.left_bytes, default=None)


def _paths(text: str) -> Mapping[str, str]:
    """By controller, "" for version 2: ``0::/app.slice`` and ``5:memory:/docker/1f0c``."""
    return {
        controller: path.rstrip("/")
        for controllers, path in _OWN_PATH.findall(text)
        for controller in controllers.split(",")
    }


def _upwards(path: str) -> Iterator[str]:
    """``/a/b``, ``/a``, and the mount itself, which is a group with a limit inside of a container."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""


def _group(read: ReadText, version: _Version, mount: str, path: str) -> Group | None:
    folder = f"{mount}{path}"
    stat = {name: int(number) for name, number in _STAT.findall(read(f"{folder}/memory.stat") or "")}
    own = _number(read(f"{folder}/{version.limit}"))
    above = stat.get("hierarchical_memory_limit", _UNLIMITED)  # of groups that a container does not see
    limit = min(above, _UNLIMITED if own is None else own)
    if limit >= _UNLIMITED:
        return None
    used = _number(read(f"{folder}/{version.used}")) or 0
    droppable = sum(stat.get(name, 0) for name in version.droppable)
    return Group(path or "/", limit, max(limit - max(used - droppable, 0), 0))


_UNLIMITED = 2**62
"""Version 1 writes the largest multiple of a page below 2**63 where there is no limit."""


def _number(text: str | None) -> int | None:
    digits = (text or "").strip()
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else _UNLIMITED
    return number if number < _UNLIMITED else None
