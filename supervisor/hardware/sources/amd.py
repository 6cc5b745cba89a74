"""
AMD GPUs by sysfs: amdgpu's own files, and the topology of KFD, the compute driver.

Its sensors are described in the kernel's Documentation/gpu/amdgpu/thermal.rst.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace

from ..hardware import Gpu
from ..machine import Machine
from ..sensors import ASLEEP, OF_GPUS, DeviceReading, explained
from . import hwmon, pci
from .gpu_report import GpuReport
from .tool_output import pci_address, whole

NODES = "/sys/class/kfd/kfd/topology/nodes"

APUS = ("902", "909", "90c", "1013", "1033", "1035", "1036", "1103", "1150", "1151", "1152", "1153")
"""Graphics inside a processor (LLVM's AMDGPU user guide, "Processors", type APU).  The kernel itself does not
say: KFD shows newer ones as if they were cards."""


def gpus(machine: Machine) -> GpuReport:
    kfd = _architectures(machine)
    return GpuReport(tuple(_gpu(machine, address, kfd) for address in pci.of_vendor(machine, "amd")))


def architecture(version: int) -> str:
    """
    ``gfx_target_version`` of KFD, 110501 for gfx1151 and 90010 for gfx90a: two decimal digits each for
    minor and stepping, which the name writes as one hexadecimal digit.  "" for the 0 of a CPU.
    """
    major, minor, stepping = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}" if major else ""


def _architectures(machine: Machine) -> Mapping[str, str]:
    """The gfx names, by PCI address."""
    found: dict[str, str] = {}
    for node in machine.names(NODES):
        properties = _properties(machine.read(f"{NODES}/{node}/properties") or "")
        name = architecture(properties.get("gfx_target_version", 0))
        if name:
            found[_address(machine, properties)] = name
    return found


def _properties(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: value for pair in pairs if len(pair) == 2 and (value := whole(pair[1])) is not None}


def _address(machine: Machine, properties: Mapping[str, int]) -> str:
    """By ``location_id``: the bus, then a byte of device and function.  Else by the render node."""
    location = properties.get("location_id", 0)
    if location:
        domain = properties.get("domain", 0)
        return f"{domain:04x}:{location >> 8 & 0xFF:02x}:{location >> 3 & 0x1F:02x}.{location & 7}"
    minor = properties.get("drm_render_minor", 0)
    return pci_address(posixpath.basename(machine.target(f"/sys/class/drm/renderD{minor}/device") or ""))


def _gpu(machine: Machine, address: str, kfd: Mapping[str, str]) -> Gpu:
    vendor, device = pci.ids(machine, address)
    device_id, revision = f"{vendor}:{device}", _revision(machine, address)
    gfx = kfd.get(address) or _discovered(machine, address)
    model = pci.known(device_id, revision)
    integrated = gfx[3:] in APUS if gfx else (model.integrated if model else None)
    total, free, shared = _memory(machine, address, integrated=integrated)
    return Gpu(
        vendor="amd",
        name=_product(machine, address) or pci.name_of(machine, device_id, revision),
        pci=address,
        device_id=device_id,
        memory_bytes=total,
        free_bytes=free,
        shared_bytes=shared,
        integrated=integrated,
        unified=integrated,
        driver=pci.driver(machine, address),
        architecture=gfx,
        link=None if integrated else pci.link(machine, address),
        sources=("sysfs", "kfd") if address in kfd else ("sysfs",),
    )


def _revision(machine: Machine, address: str) -> str:
    revision = whole(machine.read(f"{pci.folder(address)}/revision"))
    return "" if revision is None else f"{revision:02x}"


def _product(machine: Machine, address: str) -> str:
    """Filled for cards of servers only."""
    return (machine.read(f"{pci.folder(address)}/product_name") or "").strip()


def _discovered(machine: Machine, address: str) -> str:
    """From the table in the GPU itself, where there is no KFD: graphics core 11.5.1 is gfx1151."""
    core = f"{pci.folder(address)}/ip_discovery/die/0/11/0"  # 11: GC
    numbers = [whole(machine.read(f"{core}/{name}")) for name in ("major", "minor", "revision")]
    major, minor, revision = (number if number is not None and number < 100 else 0 for number in numbers)
    return architecture(major * 10000 + minor * 100 + revision)


def _memory(machine: Machine, address: str, *, integrated: bool | None) -> tuple[int | None, int | None, int]:
    """
    Total, free and shared, bytes.

    VRAM of an APU is what the firmware carved out of the memory, GTT what it may borrow of the RAM that the
    system has.  A card may borrow too, but through PCIe: that is none of its memory.
    """

    def read(name: str) -> int | None:
        return whole(machine.read(f"{pci.folder(address)}/mem_info_{name}"))

    vram, used = read("vram_total"), read("vram_used")
    if vram is None:
        return None, None, 0
    free = None if used is None else max(vram - used, 0)
    gtt, borrowed = read("gtt_total"), read("gtt_used")
    if not integrated or gtt is None:
        return vram, free, 0
    if free is not None and borrowed is not None:
        return vram + gtt, free + max(gtt - borrowed, 0), gtt
    return vram + gtt, None, gtt


def reading(machine: Machine, gpu: Gpu) -> DeviceReading:
    """Of one of `gpus`.  The power of an APU is that of the whole chip, with its processor."""
    total, free, _ = _memory(machine, gpu.pci, integrated=gpu.integrated)
    used = None if total is None or free is None else total - free
    found = DeviceReading("", gpu.name, gpu.pci, memory_used_bytes=used, memory_total_bytes=total)
    if pci.is_asleep(machine, gpu.pci):
        return replace(found, why=ASLEEP)
    folder = pci.folder(gpu.pci)
    sensors = hwmon.of_device(machine, folder, "amdgpu")
    hertz = whole(machine.read(f"{sensors}/freq1_input"))
    found = replace(
        found,
        load_percent=whole(machine.read(f"{folder}/gpu_busy_percent")),
        temperature_c=hwmon.celsius(machine, sensors, "edge", "junction"),
        power_watts=hwmon.watts(machine, sensors, "power1_average", "power1_input"),
        power_limit_watts=hwmon.watts(machine, sensors, "power1_cap") or None,
        fan_percent=None if gpu.integrated else hwmon.fan_percent(machine, sensors),
        clock_mhz=None if hertz is None else hertz // 1_000_000,
    )
    note = "The power is that of the whole chip." if gpu.integrated and found.power_watts is not None else ""
    return explained(found, gpu.driver or "No driver", OF_GPUS, note)
