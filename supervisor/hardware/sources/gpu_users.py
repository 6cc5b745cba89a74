"""
Which programs hold memory of GPUs: by nvidia-smi, and on Linux by what drivers of DRM say of each open file.

The lines of ``fdinfo`` are described in the kernel's Documentation/gpu/drm-usage-stats.rst.  Of other users'
programs the kernel tells only root.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath

from ..machine import Machine
from .tool_output import MIB, NVIDIA_SMI, pci_address

_QUERY = ("--query-compute-apps=pid,gpu_bus_id,used_gpu_memory,process_name", "--format=csv,noheader,nounits")
_USE = re.compile(r"(\d{1,10}), *([0-9A-Fa-f:.]+), *(\d{1,9}), *(.*)", re.ASCII)
_MEMORY = re.compile(r"^drm-(?:resident|memory)-(?:vram|local)\d*:\s+(\d{1,15}) (KiB|MiB)?", re.MULTILINE)
_CLIENT = re.compile(r"^drm-client-id:\s+(\d+)", re.MULTILINE)
_UNITS = {"": 1, "KiB": 1024, "MiB": MIB}


@dataclass(frozen=True, slots=True)
class GpuUser:
    """A program, and what it holds of all GPUs together."""

    pid: int
    name: str
    memory_bytes: int


def gpu_users(machine: Machine) -> tuple[GpuUser, ...]:
    """Those that hold most first; empty where nobody tells."""
    found = {user.pid: user for user in (*_drm_users(machine), *_nvidia_users(machine))}
    return tuple(sorted(found.values(), key=lambda user: (-user.memory_bytes, user.pid)))


@dataclass(frozen=True, slots=True)
class CudaUse:
    """What a program holds of one card, whose address on the PCI bus is ``adapter``."""

    pid: int
    adapter: str
    memory_bytes: int
    program: str


def cuda_uses(machine: Machine) -> Iterator[CudaUse]:
    """
    Of each program that uses CUDA.  [N/A] is left out: Windows keeps the memory of most cards itself (WDDM),
    and a slice of a card (MIG) has no figure of its own.
    """
    listed = (machine.run(program, *_QUERY) for program in NVIDIA_SMI)
    outcome = next((each for each in listed if each is not None), None)
    for line in outcome.stdout.splitlines() if outcome else ():
        if use := _USE.fullmatch(line.strip()):
            yield CudaUse(int(use[1]), pci_address(use[2]), int(use[3]) * MIB, use[4])


def _nvidia_users(machine: Machine) -> Iterator[GpuUser]:
    held, names = Counter[int](), dict[int, str]()
    for use in cuda_uses(machine):
        held[use.pid] += use.memory_bytes
        names[use.pid] = _short(use.program)
    return (GpuUser(pid, names[pid], size) for pid, size in held.items())


def _short(program: str) -> str:
    path = PureWindowsPath(program) if "\\" in program else PurePath(program)
    return path.name or program


def _drm_users(machine: Machine) -> Iterator[GpuUser]:
    if machine.os != "linux":
        return
    for pid in filter(str.isdigit, machine.names("/proc")):
        folder = f"/proc/{pid}/fdinfo"
        held: dict[str, int] = {}  # each file that is opened again is the same client
        for name in machine.names(f"/proc/{pid}/fd"):
            if "/dev/dri/" not in (machine.target(f"/proc/{pid}/fd/{name}") or ""):
                continue
            text = machine.read(f"{folder}/{name}") or ""
            if client := _CLIENT.search(text):
                held[client[1]] = sum(
                    int(size) * _UNITS[unit or ""] for size, unit in _MEMORY.findall(text)[:1]
                )
        if size := sum(held.values()):
            yield GpuUser(int(pid), (machine.read(f"/proc/{pid}/comm") or "?").strip(), size)
