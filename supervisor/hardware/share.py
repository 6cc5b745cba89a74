"""What a GPU without memory of its own has of the RAM.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .types import Gpu

_SMALL_BYTES = 4 * 1024**3


def shared(
    gpus: Iterable[Gpu], ram: int | None, available: int | None
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """
    The GPUs with their share, and a note where it is a rule of a driver and not a figure of this machine.

    None of them can have more of the RAM than is free of it.
    """
    notes: list[str] = []
    found: list[Gpu] = []
    for each in gpus:
        gpu, note = _share(each, ram)
        found.append(_bounded(gpu, available))
        notes += [note] if note else []
    return tuple(found), tuple(notes)


def _share(gpu: Gpu, ram: int | None) -> tuple[Gpu, str]:
    """
    Intel: three quarters of the RAM, half where there are no more than 4 GiB (Mesa, src/intel/vulkan,
    ``anv_compute_sys_heap_size``).  NVIDIA's GB10, Orin and Thor: all of it (CUDA for Tegra, "Memory
    Management": total memory of an integrated GPU is that of the system).
    """
    if gpu.memory_bytes is not None or not gpu.integrated or ram is None:
        return gpu, ""
    if gpu.vendor == "nvidia":
        return replace(gpu, memory_bytes=ram, shared_bytes=ram), ""
    if gpu.vendor != "intel":
        return gpu, ""
    part = ram // 2 if ram <= _SMALL_BYTES else ram * 3 // 4
    note = f"What {gpu.name or gpu.device_id} may use of the RAM is taken from the rule of Mesa's driver."
    return replace(gpu, memory_bytes=part, shared_bytes=part), note


def _bounded(gpu: Gpu, available: int | None) -> Gpu:
    if not gpu.shared_bytes or available is None or gpu.memory_bytes is None:
        return gpu
    own = gpu.memory_bytes - gpu.shared_bytes
    if gpu.free_bytes is None:
        return gpu if own else replace(gpu, free_bytes=min(available, gpu.memory_bytes))
    return replace(gpu, free_bytes=min(gpu.free_bytes, own + available))
