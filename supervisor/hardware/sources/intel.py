"""Intel GPUs by sysfs, driven by i915 or xe: graphics inside a processor, and Arc cards."""

from __future__ import annotations

from ..hardware import Gpu
from ..machine import Machine
from . import pci
from .gpu_report import GpuReport
from .tool_output import whole

_WINDOW_BYTES = 256 * 1024 * 1024  # of a card without resizable BAR, and the aperture of integrated graphics
_BAR = 2  # the region that the memory of a card is seen through


def gpus(machine: Machine) -> GpuReport:
    return GpuReport(tuple(_gpu(machine, address) for address in pci.of_vendor(machine, "intel")))


def _gpu(machine: Machine, address: str) -> Gpu:
    vendor, device = pci.ids(machine, address)
    device_id = f"{vendor}:{device}"
    local = _local(machine, address)
    # integrated graphics have been 00:02.0 in every processor; a card is behind a port
    integrated = pci.on_root_bus(address) and not local
    own = None if integrated else local or _window(machine, address)
    return Gpu(
        vendor="intel",
        name=pci.name_of(machine, device_id),
        pci=address,
        device_id=device_id,
        memory_bytes=own,
        integrated=integrated,
        unified=integrated,
        driver=pci.driver(machine, address),
        link=None if integrated else pci.link(machine, address),
        sources=("sysfs",),
    )


def _window(machine: Machine, address: str) -> int | None:
    """A card's memory is as large as the window to it, where that is no small one."""
    regions = (machine.read(f"{pci.folder(address)}/resource") or "").splitlines()
    if len(regions) <= _BAR:
        return None
    ends = [whole(word) for word in regions[_BAR].split()[:2]]
    if len(ends) < 2 or ends[0] is None or not ends[1]:
        return None
    size = ends[1] - ends[0] + 1
    return size if size > _WINDOW_BYTES else None


def _local(machine: Machine, address: str) -> int | None:
    """``lmem_total_bytes`` of cards, where the driver has it: in the out-of-tree i915, not in Linux."""
    cards = machine.names(f"{pci.folder(address)}/drm")
    found = (whole(machine.read(f"{pci.folder(address)}/drm/{card}/lmem_total_bytes")) for card in cards)
    return next((size for size in found if size), None)
