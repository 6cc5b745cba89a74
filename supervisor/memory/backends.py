"""
What the backends of llama.cpp do that memory depends on, by flavour.  Pure.

Sources, at b11434: get_host_buffer_type, offload_op and mmap_support in ggml/src/ggml-*/.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.flavours import family
from .accounts import Pool

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
    """What ``--load-mode auto`` comes to."""
    if not devices:
        return True
    shares = any(pool.shares_ram for pool in devices)
    return family(flavour) != "opencl" and not (shares and family(flavour) in _UNMAPPED_WHERE_SHARED)


def runtime_bytes(flavour: str) -> int:
    """
    What a driver, its kernels and its own scratch memory take of a GPU beside llama.cpp's buffers.

    A rule of thumb from what people report of gpt-oss on cards of 16 GB: 0.3 to 0.6 GB.
    """
    return _RUNTIME_BYTES.get(family(flavour), _OTHER_RUNTIME_BYTES)
