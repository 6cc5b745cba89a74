"""
Display devices on the PCI bus by sysfs, for any vendor and driver.

Names for PCI ids are those that this project has profiles for, then the lists that a system brings.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from ..hardware import Gpu, PcieLink
from ..machine import Machine
from .gpu_report import GpuReport
from .tool_output import decimal, pci_address, whole

DEVICES = "/sys/bus/pci/devices"
_MOST_LANES = 32
VENDORS = {"10de": "nvidia", "1002": "amd", "8086": "intel", "5143": "qualcomm", "17cb": "qualcomm"}
_NO_GPU = ("1a03", "102b", "1234", "1af4", "15ad", "1013", "80ee", "1b36", "1414", "1ab8")
"""Display devices that no engine can use: ASPEED and Matrox of servers' consoles; the screens of QEMU,
virtio, VMware, Cirrus, VirtualBox, Hyper-V and Parallels."""


def gpus(machine: Machine) -> GpuReport:
    """Display devices (class 0x03xxxx) that may be GPUs."""
    addresses = (address for address in machine.names(DEVICES) if pci_address(address))
    found = tuple(_gpu(machine, address) for address in addresses if _is_gpu(machine, address))
    return GpuReport(found, tuple(note for gpu in found if (note := _undriven(gpu))))


def _undriven(gpu: Gpu) -> str:
    """Why no engine can use it, or only some."""
    name = f"{gpu.name} ({gpu.pci})" if gpu.name else f"The device {gpu.device_id} at {gpu.pci}"
    if gpu.driver == "":
        return f"{name} has no driver loaded."
    if gpu.driver == "vfio-pci":
        return f"{name} is kept for virtual machines (vfio-pci)."
    return f"{name} is driven by nouveau: CUDA needs NVIDIA's own driver." if gpu.driver == "nouveau" else ""


def of_vendor(machine: Machine, vendor: str) -> tuple[str, ...]:
    """The addresses of a vendor's display devices."""
    return tuple(gpu.pci for gpu in gpus(machine).gpus if gpu.vendor == vendor)


def folder(address: str) -> str:
    return f"{DEVICES}/{address}"


def ids(machine: Machine, address: str) -> tuple[str, str]:
    """Vendor and device, four hexadecimal digits each, or ""."""
    vendor, device = (whole(machine.read(f"{folder(address)}/{name}")) for name in ("vendor", "device"))
    return f"{vendor:04x}" if vendor is not None else "", f"{device:04x}" if device is not None else ""


def driver(machine: Machine, address: str) -> str:
    """The kernel module that drives it; "" where none does."""
    return posixpath.basename(machine.target(f"{folder(address)}/driver") or "")


def is_asleep(machine: Machine, address: str) -> bool:
    """Suspended while nobody uses it, as cards of laptops are; to read its sensors would wake it."""
    return (machine.read(f"{folder(address)}/power/runtime_status") or "").strip() == "suspended"


def link(machine: Machine, address: str) -> PcieLink | None:
    """
    The link that leaves the card; a device inside the processor has none, or says 255 lanes.

    ``max_link_width`` is the card's own; what the slot could do only its port knows.
    """
    outermost = _outermost(machine, address)

    def read(name: str) -> str:
        return machine.read(f"{folder(outermost)}/{name}") or ""

    widths = [whole(read(name)) for name in ("current_link_width", "max_link_width")]
    width, most = (each if each and each <= _MOST_LANES else None for each in widths)
    if width is None:
        return None
    return PcieLink(width, most, decimal(read("current_link_speed")), decimal(read("max_link_speed")))


def port(machine: Machine, address: str) -> PcieLink | None:
    """What the slot of a card can do at most, by the port that the card's link leads to."""
    bridge = posixpath.dirname(machine.target(folder(_outermost(machine, address))) or "")
    width = whole(machine.read(f"{bridge}/max_link_width"))
    speed = decimal(machine.read(f"{bridge}/max_link_speed"))
    return PcieLink(max_width=width, max_speed_gts=speed) if width and width <= _MOST_LANES else None


def _outermost(machine: Machine, address: str) -> str:
    """
    Cards of AMD and Intel have a switch on them, inside of which the link is always at its full width:
    what counts is the switch's upper end, the last bridge of the same vendor on the way to the root bus.
    """
    vendor, _ = ids(machine, address)
    way = [part for part in (machine.target(folder(address)) or "").split("/") if pci_address(part)]
    found = address
    for bridge in reversed(way[:-1]):
        if on_root_bus(bridge) or ids(machine, bridge)[0] != vendor:
            break
        found = bridge
    return found


def on_root_bus(address: str) -> bool:
    """Bus 00 is inside the processor or its chipset; a card is behind a port, on its own bus."""
    return re.match(r"[0-9a-f]{4}:00:", address) is not None


def _is_gpu(machine: Machine, address: str) -> bool:
    kind = whole(machine.read(f"{folder(address)}/class"))
    if kind is None or kind >> 16 != 0x03:
        return False
    return ids(machine, address)[0] not in (*_NO_GPU, "")


def _gpu(machine: Machine, address: str) -> Gpu:
    vendor, device = ids(machine, address)
    device_id = f"{vendor}:{device}" if device else ""
    integrated = _integrated(device_id, address)
    return Gpu(
        vendor=VENDORS.get(vendor, "unknown"),
        name=name_of(machine, device_id),
        pci=pci_address(address),
        device_id=device_id,
        integrated=integrated,
        unified=integrated,
        driver=driver(machine, address),
        link=None if integrated else link(machine, address),
        sources=("sysfs",),
    )


def _integrated(device_id: str, address: str) -> bool | None:
    """By our list.  Others of NVIDIA's have all been cards since its last chipset, of 2010."""
    model = known(device_id)
    if model:
        return model.integrated
    return False if device_id.startswith("10de:") and not on_root_bus(address) else None


AMDGPU_IDS = ("/usr/share/libdrm/amdgpu.ids", "/opt/amdgpu/share/libdrm/amdgpu.ids")
PCI_IDS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")


class KnownGpu(NamedTuple):
    name: str
    integrated: bool


_MODELS = {
    # Intel: as in Mesa's include/pci_ids and on ark.intel.com; of Arrow Lake only H has an Arc
    "8086:7d51": KnownGpu("Intel Arc 130T/140T", integrated=True),
    "8086:7d41": KnownGpu("Intel Graphics (Arrow Lake-U)", integrated=True),
    "8086:7d67": KnownGpu("Intel Graphics (Arrow Lake-S)", integrated=True),
    "8086:7d55": KnownGpu("Intel Arc Graphics (Meteor Lake)", integrated=True),
    "8086:7d45": KnownGpu("Intel Graphics (Meteor Lake-U)", integrated=True),
    "8086:64a0": KnownGpu("Intel Arc 130V/140V", integrated=True),
    "8086:56a0": KnownGpu("Intel Arc A770", integrated=False),
    "8086:56a1": KnownGpu("Intel Arc A750", integrated=False),
    "8086:e20b": KnownGpu("Intel Arc B580", integrated=False),
    "8086:e20c": KnownGpu("Intel Arc B570", integrated=False),
    "8086:e211": KnownGpu("Intel Arc Pro B60", integrated=False),
    "8086:e212": KnownGpu("Intel Arc Pro B50", integrated=False),
    # AMD: as in libdrm's amdgpu.ids, where one device has a name for each revision
    "1002:150e": KnownGpu("AMD Radeon 880M/890M Graphics", integrated=True),
    **dict.fromkeys(("1002:150e:d1", "1002:150e:c1"), KnownGpu("AMD Radeon 890M Graphics", integrated=True)),
    "1002:1586": KnownGpu("AMD Radeon 8050S/8060S Graphics", integrated=True),
    **dict.fromkeys(("1002:1586:c1", "1002:1586:d1"), KnownGpu("AMD Radeon 8060S Graphics", integrated=True)),
    "1002:1114": KnownGpu("AMD Radeon 840M/860M Graphics", integrated=True),
    **dict.fromkeys(("1002:15bf", "1002:1900"), KnownGpu("AMD Radeon 760M/780M Graphics", integrated=True)),
    "1002:1681": KnownGpu("AMD Radeon 660M/680M", integrated=True),
    "1002:164e": KnownGpu("AMD Radeon Graphics (Raphael)", integrated=True),
    "1002:13c0": KnownGpu("AMD Radeon Graphics (Granite Ridge)", integrated=True),
    "1002:7550": KnownGpu("AMD Radeon RX 9070/9070 XT", integrated=False),
    "1002:7550:c0": KnownGpu("AMD Radeon RX 9070 XT", integrated=False),
    "1002:7550:c2": KnownGpu("AMD Radeon RX 9070 GRE", integrated=False),
    "1002:7550:c3": KnownGpu("AMD Radeon RX 9070", integrated=False),
    "1002:744c": KnownGpu("AMD Radeon RX 7900 XT/XTX/GRE", integrated=False),
    "1002:744c:c8": KnownGpu("AMD Radeon RX 7900 XTX", integrated=False),
    "1002:744c:cc": KnownGpu("AMD Radeon RX 7900 XT", integrated=False),
    "1002:744c:ce": KnownGpu("AMD Radeon RX 7900 GRE", integrated=False),
    # NVIDIA: for a card whose driver does not answer
    "10de:2e12": KnownGpu("NVIDIA GB10", integrated=True),
    **dict.fromkeys(("10de:2803", "10de:2805"), KnownGpu("NVIDIA GeForce RTX 4060 Ti", integrated=False)),
}


def known(device_id: str, revision: str = "") -> KnownGpu | None:
    """``device_id`` as in 1002:7550, ``revision`` as in c3."""
    return _MODELS.get(f"{device_id}:{revision}") or _MODELS.get(device_id)


def name_of(machine: Machine, device_id: str, revision: str = "") -> str:
    """By amdgpu.ids, which is exact; by our list; by pci.ids, where the system has it; else ""."""
    vendor, _, device = device_id.partition(":")
    model = known(device_id, revision)
    exact = _amdgpu(_first(machine, AMDGPU_IDS), device, revision) if vendor == "1002" else ""
    return exact or (model.name if model else _pci_ids(_first(machine, PCI_IDS), vendor, device))


def _first(machine: Machine, paths: tuple[str, ...]) -> str:
    return next((text for path in paths if (text := machine.read(path))), "")


def _amdgpu(text: str, device: str, revision: str) -> str:
    r"""``150E,\tD1,\tAMD Radeon 890M Graphics``"""
    if not revision or not device:
        return ""
    found = re.search(rf"^{device},\s*{revision},\s*(.+)$", text, re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else ""


def _pci_ids(text: str, vendor: str, device: str) -> str:
    r"""
    ``10de  NVIDIA Corporation``, then ``\t2803  AD106 [GeForce RTX 4060 Ti]``: in brackets how it is sold.

    The file is longer than what is read of it; what stands behind, Intel's among it, stays unknown.
    """
    if not device:
        return ""
    block = re.search(rf"^{vendor}  .*\n((?:[\t#].*\n)*)", text, re.MULTILINE | re.IGNORECASE)
    line = re.search(rf"^\t{device}  (.+)$", block[1], re.MULTILINE | re.IGNORECASE) if block else None
    if line is None:
        return ""
    sold = re.search(r"\[(.+)\]", line[1])
    return (sold[1] if sold else line[1]).strip()
