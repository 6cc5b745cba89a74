"""What a server holds of the RAM and what is left of it, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Group:
    """
    The control group with the least room of those around a server; the kernel kills in it at its limit.

    ``left_bytes`` counts what the kernel can drop (page cache, so a mapped model too) as free: a group whose
    files have filled it is not near its end.
    """

    path: str  # /user.slice/…, as in /proc/PID/cgroup
    limit_bytes: int
    left_bytes: int


@dataclass(frozen=True, slots=True)
class Held:
    """
    By a server and its descendants.

    ``anonymous_bytes`` is the resident memory that cannot be dropped: anonymous, shared, locked.
    ``swap_bytes`` is what of it was swapped out, and is not part of it.  None is not known.
    """

    rss_bytes: int
    anonymous_bytes: int | None = None
    swap_bytes: int | None = None

    @property
    def all_bytes(self) -> int | None:
        """What it took and will give back, wherever that is now."""
        return None if self.anonymous_bytes is None else self.anonymous_bytes + (self.swap_bytes or 0)


@dataclass(frozen=True, slots=True)
class Room:
    """
    On the machine.  None is not known.

    ``available_bytes`` can be had without swapping.  ``stalled_percent`` is the share of the last ten seconds
    in which every task that was not idle waited for memory (PSI, the ``full`` line).
    """

    total_bytes: int | None = None
    available_bytes: int | None = None
    stalled_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    held: Held
    room: Room
    group: Group | None = None

    @property
    def left_bytes(self) -> int | None:
        """What the server may still take: of the machine, or of its group where that is tighter."""
        known = (self.room.available_bytes, self.group.left_bytes if self.group else None)
        return min((each for each in known if each is not None), default=None)


class Source(Protocol):
    """Where the figures come from.  No method raises or blocks; all three take less than 1 ms of CPU."""

    def held(self, pid: int) -> Held | None:
        """None: it is gone."""

    def room(self) -> Room: ...

    def group(self, pid: int) -> Group | None:
        """None: no group around it has a limit."""


def take(source: Source, pid: int) -> Sample | None:
    """Of this process, its descendants and the machine; None: it is gone."""
    held = source.held(pid)
    return None if held is None else Sample(held, source.room(), source.group(pid))
