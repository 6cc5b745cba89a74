"""
Intel GPUs by sysfs, driven by i915 or xe: graphics inside a processor, and Arc cards.

Their sensors are described in the kernel's Documentation/ABI/testing (sysfs-driver-intel-i915-hwmon and
-xe-hwmon) and gpu/xe/xe_gt_freq.rst.  How busy a GPU is these drivers tell only those who may profile the
system (perf), and how much of a card's memory is in use root alone (debugfs).
"""

from __future__ import annotations

from dataclasses import replace

from ..hardware import Gpu
from ..machine import Machine
from ..sensors import ASLEEP, OF_GPUS, CounterRates, DeviceReading, explained
from . import hwmon, pci
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


_CLOCKS = (
    "tile0/gt0/freq0/act_freq",  # xe
    "drm/{card}/gt/gt0/rps_act_freq_mhz",  # i915
    "drm/{card}/gt_act_freq_mhz",  # of kernels before 5.18
)


def reading(machine: Machine, gpu: Gpu, rates: CounterRates, now: float) -> DeviceReading:
    """Of one of `gpus`; two readings make a power, from the energy.  ``now`` is monotonic."""
    found = DeviceReading("", gpu.name, gpu.pci, memory_total_bytes=gpu.memory_bytes)
    if pci.is_asleep(machine, gpu.pci):
        return replace(found, why=ASLEEP)
    sensors = hwmon.of_device(machine, pci.folder(gpu.pci), "i915", "xe")
    spent = (whole(machine.read(f"{sensors}/energy{number}_input")) for number in (1, 2))
    joules = next((each / 1e6 for each in spent if each), None)
    power = rates.per_second(f"energy of {gpu.pci}", joules, now)
    found = replace(
        found,
        temperature_c=hwmon.celsius(machine, sensors, "pkg"),
        power_watts=None if power is None else round(power, 1),
        power_limit_watts=hwmon.watts(machine, sensors, "power1_max", "power2_max") or None,  # 0: none is set
        clock_mhz=_clock(machine, gpu.pci),
    )
    return explained(found, gpu.driver or "No driver", OF_GPUS)


def _clock(machine: Machine, address: str) -> int | None:
    """0 while it rests."""
    folder = pci.folder(address)
    cards = [each for each in machine.names(f"{folder}/drm") if each.startswith("card")]
    paths = (each.format(card=cards[0] if cards else "") for each in _CLOCKS)
    found = (whole(machine.read(f"{folder}/{path}")) for path in paths)
    return next((each for each in found if each is not None), None)
