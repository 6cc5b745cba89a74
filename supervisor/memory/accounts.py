"""
The bytes of each memory that a launch takes, as values, and the reserve of each memory.  Pure.

Sources, at b11434: get_host_buffer_type, offload_op and mmap_support in ggml/src/ggml-*/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..engine.build import family

if TYPE_CHECKING:
    from .memory_settings import Settings


FigureSource = Literal["formula", "engine", "measured", "declared"]
RAM = "RAM"
"""The name of that pool."""


@dataclass(frozen=True, slots=True)
class Pool:
    """
    A memory that things are put into: the RAM of the machine, or a GPU.

    ``name`` is ``RAM`` or the engine's name of a device: CUDA0, Vulkan0, MTL0.  The bytes of a GPU that
    shares the RAM come out of it, but for ``own_bytes``: what the firmware carved out for it, which the
    system does not count as RAM.  None is not known.  ``left_bytes`` are free, and not for us: they are not
    among the ``free_bytes``.  ``adapter`` is the PCI address of a GPU, "" where that is not certain.
    ``worker`` is the address of the machine whose memory it is, "" for this computer's own.
    """

    name: str
    total_bytes: int | None
    free_bytes: int | None
    shares_ram: bool = False
    own_bytes: int = 0
    left_bytes: int = 0
    adapter: str = ""
    worker: str = ""

    @property
    def label(self) -> str:
        """For people: ``RPC0 (mini2.local:50052)``."""
        return f"{self.name} ({self.worker})" if self.worker else self.name


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of bytes, and who says so."""

    bytes: int
    source: FigureSource = "formula"


@dataclass(frozen=True, slots=True)
class Account:
    """
    The share of one pool.

    ``other`` is what belongs to no tensor: the runtime of a GPU, the tables of the process, the cache of old
    prompts.  ``anonymous_bytes`` is the part of all of it that the system cannot drop, the rest being mapped
    from the model's files.  ``lazy_bytes`` of the weights stay in the file, and need no memory.
    """

    pool: Pool
    weights: Figure
    context: Figure
    compute: Figure
    other: Figure
    anonymous_bytes: int
    lazy_bytes: int = 0

    @property
    def needed_bytes(self) -> int:
        kept = self.weights.bytes - self.lazy_bytes
        return kept + self.context.bytes + self.compute.bytes + self.other.bytes


@dataclass(frozen=True, slots=True)
class Ledger:
    """
    ``accounts`` has the GPUs first, the RAM last; ``notes`` are sentences on what is not counted.
    ``settings`` is what it was counted from; None where nothing was counted.  ``is_known`` False: the rules
    are not those of this architecture, and no measurement says more, so that nothing is refused for it.
    """

    accounts: tuple[Account, ...]
    notes: tuple[str, ...]
    settings: Settings | None
    is_known: bool = True


_MIB = 1024**2
_PINNED = {"cuda", "rocm", "vulkan", "sycl", "openvino"}
_OFFLOADING = {"cuda", "rocm", "vulkan", "sycl", "metal"}
_F16_ATTENTION = {"cuda", "rocm"}
_UNMAPPED_WHERE_SHARED = {"cuda", "rocm", "vulkan"}
_RUNTIME_BYTES = {"cuda": 450 * _MIB, "rocm": 450 * _MIB, "vulkan": 300 * _MIB, "sycl": 300 * _MIB}
_OTHER_RUNTIME_BYTES = 150 * _MIB


def has_host_buffers(flavour: str) -> bool:
    """Whether weights of the CPU go to memory that the GPU reads, and are not rearranged then."""
    return family(flavour) in _PINNED


def offloads(flavour: str) -> bool:
    """Whether the GPU computes large batches with weights that the CPU has, from a copy."""
    return family(flavour) in _OFFLOADING


def widens_cache(flavour: str) -> bool:
    """Whether attention over a quantized cache keeps a copy in F16 of one layer's (fattn.cu)."""
    return family(flavour) in _F16_ATTENTION


def maps_files(flavour: str, devices: Sequence[Pool]) -> bool:
    """What ``--load-mode auto`` resolves to."""
    if not devices:
        return True
    shares = any(pool.shares_ram for pool in devices)
    return family(flavour) != "opencl" and not (shares and family(flavour) in _UNMAPPED_WHERE_SHARED)


def runtime_bytes(flavour: str) -> int:
    """
    What a driver, its kernels and its own scratch memory take of a GPU in addition to llama.cpp's buffers.

    A rule of thumb from what people report of gpt-oss on cards of 16 GB: 0.3 to 0.6 GB.
    """
    return _RUNTIME_BYTES.get(family(flavour), _OTHER_RUNTIME_BYTES)
