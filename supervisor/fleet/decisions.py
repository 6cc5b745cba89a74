"""What residency is asked, and what it answers, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from ..server.memory_warnings import in_gib

ResidentPhase = Literal["loading", "ready", "leaving"]


class Turns(Protocol):
    """Two settings of the gateway; `GatewaySettings` has them."""

    @property
    def min_warm_seconds(self) -> float: ...

    @property
    def max_wait_seconds(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Resident:
    """
    A model that has memory, or is getting it or giving it back.

    ``bytes`` are by device, the larger of planned and measured; None is not known.  ``is_busy``: requests are
    under way, or wait for it.  ``since`` is when it became ready.  ``load_seconds`` is None if no load of it
    was ever timed.  ``waited_since`` is the arrival of the first request that waits for it, None for nobody.
    """

    name: str
    bytes: Mapping[str, int] | None
    phase: ResidentPhase = "ready"
    is_busy: bool = False
    pinned: bool = False
    priority: int = 0
    since: float = 0.0
    load_seconds: float | None = None
    waited_since: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """
    A model to be loaded.

    ``since`` is the arrival of the first request that waits for it; None for a person's `load`, and for what
    a start loads.  ``alone``: only pinned ones may stay.
    """

    name: str
    bytes: Mapping[str, int] | None
    since: float | None
    priority: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class UsableMemory:
    """
    What all our models together may take of each pool: its total, less ``memory.leave``, less what other
    programs use.  How much there is of one that ``bytes`` lacks is not known.

    The bytes of a GPU that shares the RAM count twice: for the GPU, which has a limit of its own, and for the
    RAM.
    """

    bytes: Mapping[str, int]


def used(taken: Mapping[str, int] | None) -> dict[str, int]:
    """The memories of which something is taken; where the bytes are not known, none."""
    return {name: number for name, number in (taken or {}).items() if number > 0}


@dataclass(frozen=True, slots=True)
class Beside:
    """Load it: there is room."""


@dataclass(frozen=True, slots=True)
class Evict:
    """Stop these, let busy ones finish first, and ask again; fewer would not be enough."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Ask again at ``until``, and whenever something changes; None is only then."""

    names: tuple[str, ...]
    until: float | None


@dataclass(frozen=True, slots=True)
class Awaited:
    """
    What the load of ``profile`` waits for: ``models`` that are to make way, in words ``text`` (``waits for
    chat, which answers 2 requests``), and for at most ``seconds_left`` more; None: until something changes.
    """

    profile: str
    models: tuple[str, ...]
    text: str
    seconds_left: float | None


BYTES_OF_ONE_USER = 1
"""Bytes of a memory that serves one model at a time, whatever it takes: every model then counts as one."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A pool that is too small; ``pinned`` has ``pinned_bytes`` of it."""

    pool: str
    needed_bytes: int
    usable_bytes: int
    pinned_bytes: int
    pinned: tuple[str, ...]

    def __str__(self) -> str:
        if self.usable_bytes == BYTES_OF_ONE_USER and self.pinned:
            return f"{self.pool} for itself, which {', '.join(self.pinned)} uses and is pinned"
        needed, usable = in_gib(self.needed_bytes), in_gib(max(self.usable_bytes, 0))
        text = f"{needed} of {self.pool}, where {usable} may be used"
        return text + (
            f" and {in_gib(self.pinned_bytes)} of that is pinned ({', '.join(self.pinned)})"
            if self.pinned
            else ""
        )


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Refuse it: it does not fit even when everything goes that may go."""

    why: str
    hint: str


Decision = Beside | Evict | WaitFor | NoRoom
