"""GPUs as Vulkan drivers see them, by ``vulkaninfo``: memory and names that the kernel does not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from ..hardware import Gpu
from ..machine import Machine
from .gpu_report import GpuReport
from .pci import VENDORS
from .tool_output import ask, whole

PROGRAM = "vulkaninfo"
_KINDS = {"PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU": True, "PHYSICAL_DEVICE_TYPE_DISCRETE_GPU": False}
"""All others (CPU: llvmpipe; VIRTUAL_GPU; OTHER) are nothing that an engine gains by."""
_TOO_SMALL = {  # by vendorID: a maker's number on the PCI bus, or one that Khronos gave it
    0x14E4: "Broadcom",
    0x13B5: "Arm",
    0x1010: "Imagination",
    0x7A05: "VeriSilicon",
    0x10001: "Vivante",
    0x10002: "VeriSilicon",
}
"""
Graphics of small boards and phones: slower than the processor next to them, or not able at all.  V3D has 16
KiB of shared memory, with which llama.cpp's Vulkan cannot multiply matrices (llama.cpp issues 9801, 26213).
"""


def gpus(machine: Machine) -> GpuReport:
    """Not having the program is no loss worth a note; the long answer has all that the short one has."""
    with ThreadPoolExecutor(2) as pool:
        long, short = pool.map(lambda command: ask(machine, *command), ((PROGRAM,), (PROGRAM, "--summary")))
    text = long.text if parse(long.text) or too_small(long.text) else short.text
    found, small = parse(text), too_small(text)
    silent = long.note and short.note and "is not there" not in short.note
    return GpuReport(found, small or ((short.note,) if silent and not found else ()))


def parse(text: str) -> tuple[Gpu, ...]:
    """
    From ``vulkaninfo`` or ``vulkaninfo --summary``.

    Several drivers may show one card (RADV and AMDVLK, NVIDIA's and NVK): the first of them counts.
    """
    drivers: dict[str, str] = {}
    found: list[Gpu] = []
    for block in _blocks(text):
        gpu = _gpu(block)
        driver = _value(block, "driverName")
        if gpu and drivers.setdefault(gpu.device_id, driver) == driver:
            found.append(gpu)
    return tuple(found)


def too_small(text: str) -> tuple[str, ...]:
    """A sentence for each GPU that is left out, since no language model runs well on it."""
    said = (
        f"The {maker} GPU {_value(block, 'deviceName')} is left out: llama.cpp is faster on the CPU here."
        for block in _blocks(text)
        if (maker := _TOO_SMALL.get(whole(_value(block, "vendorID")) or 0))
    )
    return tuple(dict.fromkeys(said))


def _blocks(text: str) -> Iterator[str]:
    """What follows each line ``GPU0:``; some versions print a short list before the long one."""
    _, _, long = text.partition("Device Properties and Extensions:")
    parts = re.split(r"^GPU\d+:[ \t]*$", long or text, flags=re.MULTILINE)
    return (part for part in parts[1:] if "deviceType" in part)


def _value(block: str, key: str) -> str:
    found = re.search(rf"^[ \t]*{key}[ \t]*= ?(.*)$", block, re.MULTILINE)
    return found[1].strip() if found else ""


def _gpu(block: str) -> Gpu | None:
    integrated = _KINDS.get(_value(block, "deviceType"))
    vendor, device = (whole(_value(block, key)) for key in ("vendorID", "deviceID"))
    if integrated is None or vendor is None or device is None or vendor in _TOO_SMALL:
        return None
    size, free = _heaps(block)
    return Gpu(
        vendor=VENDORS.get(f"{vendor:04x}", "unknown"),
        name=plain(_value(block, "deviceName")),
        pci=_address(block),
        device_id=f"{vendor:04x}:{device:04x}",
        memory_bytes=size,
        free_bytes=free,
        shared_bytes=size or 0 if integrated else 0,
        integrated=integrated,
        unified=integrated,
        driver_version=_mesa(_value(block, "driverInfo")),
        sources=("vulkaninfo",),
    )


def plain(name: str) -> str:
    """``AMD Radeon 890M Graphics (RADV GFX1150)`` without the driver's part; WSL2's translator taken off."""
    name = re.sub(r"^Microsoft Direct3D12 \((.*)\)$", r"\1", name)
    return re.sub(r" \((RADV|AMDVLK|NVK|LLVM|[A-Z]{3}\b)[^()]*\)$", "", name).strip()


def _mesa(info: str) -> str:
    """``Mesa 25.2.3-1ubuntu1`` as Mesa 25.2.3: for the others the kernel's driver tells its version."""
    found = re.match(r"Mesa \d{1,3}(\.\d{1,3}){1,2}", info, re.ASCII)
    return found[0] if found else ""


def _address(block: str) -> str:
    numbers = [whole(_value(block, key)) for key in ("pciDomain", "pciBus", "pciDevice", "pciFunction")]
    if any(number is None or number > 0xFFFF for number in numbers):
        return ""
    domain, bus, device, function = numbers
    return f"{domain:04x}:{bus:02x}:{device:02x}.{function}"


def _heaps(block: str) -> tuple[int | None, int | None]:
    """Size and budget, in bytes, of the heaps that are the device's own: as ggml counts, by their flag."""
    local = [
        heap
        for heap in re.split(r"^\s*memoryHeaps\[\d+\]:", block, flags=re.MULTILINE)[1:]
        if "HEAP_DEVICE_LOCAL_BIT" in heap.partition("memoryTypes")[0]
    ]
    sizes = [_first_number(heap, "size") for heap in local]
    budgets = [_first_number(heap, "budget") for heap in local]
    return _total(sizes), _total(budgets)


def _first_number(heap: str, key: str) -> int | None:
    """``size   = 49928663040 (0xba0000000) (46.50 GiB)``"""
    return whole(_value(heap, key).partition(" ")[0])


def _total(numbers: list[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known and len(known) == len(numbers) else None
