"""The device files of a GPU, and whether this user may open them."""

from __future__ import annotations

import posixpath
import re

from ..machine import Machine
from ..types import Gpu, Node
from . import nvidia_proc

_RENDER = re.compile(r"renderD\d+")
_CARD = re.compile(r"nvidia\d+")


def of(machine: Machine, gpu: Gpu) -> tuple[Node, ...]:
    """Those that an engine needs: the render node, and the vendor's own for compute."""
    paths = [*_render(machine, gpu.pci), *_compute(machine, gpu)]
    return tuple(Node(path, machine.may_open(path)) for path in paths)


def _render(machine: Machine, pci: str) -> list[str]:
    """/dev/dri/renderD128, if it is there: a container may have sysfs and not the file."""
    if not pci:
        return []
    there = machine.names("/dev/dri")
    named = (name for name in machine.names("/sys/class/drm") if _RENDER.fullmatch(name))
    owned = (
        name
        for name in named
        if posixpath.basename(machine.target(f"/sys/class/drm/{name}/device") or "") == pci
    )
    return [f"/dev/dri/{name}" for name in owned if name in there]


def _compute(machine: Machine, gpu: Gpu) -> list[str]:
    there = machine.names("/dev")
    if gpu.vendor == "nvidia":
        shared = [name for name in ("nvidiactl", "nvidia-uvm") if name in there]
        return [f"/dev/{name}" for name in (*_cards(machine, gpu.pci, there), *shared, *_windows(there))]
    if gpu.vendor == "amd" and "kfd" in there:
        return ["/dev/kfd"]
    return [] if gpu.pci else [f"/dev/{name}" for name in _windows(there)]


def _cards(machine: Machine, pci: str, there: tuple[str, ...]) -> list[str]:
    """/dev/nvidiaN by the kernel module's word; where it gives none, all that are there."""
    cards = [name for name in there if _CARD.fullmatch(name)]
    minor = nvidia_proc.minor(machine, pci)
    return cards if minor is None else [name for name in cards if name == f"nvidia{minor}"]


def _windows(there: tuple[str, ...]) -> list[str]:
    """WSL2 has one file for all GPUs, behind which Windows drives them."""
    return ["dxg"] if "dxg" in there else []
