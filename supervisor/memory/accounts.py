"""What a launch takes, memory by memory, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .memory_settings import Settings

Source = Literal["formula", "engine", "measured"]
RAM = "RAM"
"""The name of that pool."""


@dataclass(frozen=True, slots=True)
class Pool:
    """
    A memory that things are put into: the RAM of the machine, or a GPU.

    ``name`` is ``RAM`` or the engine's name of a device: CUDA0, Vulkan0, MTL0.  The bytes of a GPU that
    shares the RAM come out of it, but for ``own_bytes``: what the firmware carved out for it, which the
    system does not count as RAM.  None is not known.
    """

    name: str
    total_bytes: int | None
    free_bytes: int | None
    shares_ram: bool = False
    own_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of bytes, and who says so."""

    bytes: int
    source: Source = "formula"


@dataclass(frozen=True, slots=True)
class Account:
    """
    The share of one pool.

    ``other`` is what belongs to no tensor: the runtime of a GPU, the tables of the process, the cache of old
    prompts.  ``anonymous_bytes`` is the part of all of it that the system cannot drop, the rest being mapped
    from the model's files.
    """

    pool: Pool
    weights: Figure
    context: Figure
    compute: Figure
    other: Figure
    anonymous_bytes: int

    @property
    def needed_bytes(self) -> int:
        return self.weights.bytes + self.context.bytes + self.compute.bytes + self.other.bytes


@dataclass(frozen=True, slots=True)
class Ledger:
    """``accounts`` has the GPUs first, the RAM last; ``notes`` are sentences on what is not counted."""

    accounts: tuple[Account, ...]
    notes: tuple[str, ...]
    settings: Settings
