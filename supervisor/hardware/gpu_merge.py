"""Merges several sources' reports of one GPU; a GPU without its own memory gets a share of RAM.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import TypeVar

from .hardware import Gpu, PcieLink

_Record = TypeVar("_Record", Gpu, PcieLink)
_UNKNOWN = (None, "", (), "unknown")


def merge(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """
    One for each GPU, ordered by PCI address; ``gpus`` come with the most direct source first.

    The same PCI address is the same GPU.  One without an address is the one with its device id, or failing
    that its name; where several could be meant it adds nothing, since nobody can say to which.
    """
    found: list[Gpu] = []
    for gpu in gpus:
        same = _same(found, gpu)
        if not same:
            found.append(gpu)
        elif len(same) == 1:
            found[same[0]] = _both(found[same[0]], gpu)
    return tuple(sorted(found, key=lambda gpu: (not gpu.pci, gpu.pci)))


def _same(found: list[Gpu], gpu: Gpu) -> list[int]:
    """Indices of those that ``gpu`` may be."""
    others = list(enumerate(found))
    if gpu.pci:
        known = [index for index, other in others if other.pci == gpu.pci]
        return known or [index for index, other in others if not other.pci and _alike(other, gpu)][:1]
    return [index for index, other in others if _alike(other, gpu) and not _reported_already(other, gpu)]


def _reported_already(other: Gpu, gpu: Gpu) -> bool:
    """Two cards without an address, from one source, are two."""
    return not other.pci and set(gpu.sources) <= set(other.sources)


def _alike(one: Gpu, other: Gpu) -> bool:
    if one.unified and other.unified and one.vendor == other.vendor == "nvidia":
        return True  # a machine has one of them, and each source has another name for it
    if one.device_id and other.device_id:
        return one.device_id == other.device_id
    return bool(one.name) and one.vendor == other.vendor and _plain(one.name) == _plain(other.name)


def _plain(name: str) -> str:
    """``Intel(R) Arc(TM) 140T GPU`` and ``Intel Arc 140T`` are the same name."""
    return " ".join(re.sub(r"\((?:r|tm|c)\)|\bgpu\b|\bgraphics\b", " ", name.lower()).split())


def _both(first: Gpu, second: Gpu) -> Gpu:
    """Each field from ``first`` if it knows it; the figures of the memory belong together."""
    memory = first if first.memory_bytes is not None else second
    figures = {name: getattr(memory, name) for name in ("memory_bytes", "free_bytes", "shared_bytes")}
    link = _filled(first.link, second.link) if first.link and second.link else first.link or second.link
    sources = tuple(dict.fromkeys((*first.sources, *second.sources)))
    return replace(_filled(first, second), **figures, link=link, sources=sources)


def _filled(first: _Record, second: _Record) -> _Record:
    """``first`` with what it does not know from ``second``."""
    unknown = [each.name for each in fields(first) if getattr(first, each.name) in _UNKNOWN]
    return replace(first, **{name: getattr(second, name) for name in unknown})


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
