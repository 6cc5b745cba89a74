"""Whether the memory of a server that is gone can be had again.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ..memory_sample import Room, Sample
from ..memory_warnings import low_bytes

RELEASE_SECONDS = 5.0  # a driver that has not given back by then will not
_MOST = 0.8  # of what it held: others take and give meanwhile
_HIDDEN_SHARE = 1 / 8
"""
Of the RAM may lie in lists of free pages that belong to one CPU each and that MemAvailable leaves out, for
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
    def of(cls, sample: Sample | None, now: float) -> Remains | None:
        """None where there is nothing to wait for, or nothing to tell by."""
        if sample is None or sample.room.available_bytes is None:
            return None
        held = sample.held.anonymous_bytes
        return cls(held, sample.room.available_bytes, now) if held else None

    def are_free(self, room: Room, needed_bytes: int | None, now: float) -> bool:
        """Most of it is available again, or what the next needs is there, or it has been long."""
        available, total = room.available_bytes, room.total_bytes
        if available is None or total is None or now - self.gone >= RELEASE_SECONDS:
            return True
        if needed_bytes is not None and available >= needed_bytes + low_bytes(total):
            return True
        return available >= self.available_bytes + self.held_bytes * _MOST - total * _HIDDEN_SHARE
