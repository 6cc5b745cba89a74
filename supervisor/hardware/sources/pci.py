"""What sysfs tells of any display device on the PCI bus, whoever made it and whatever drives it."""

from __future__ import annotations

import posixpath
import re

from ..machine import Machine
from ..types import Gpu, PcieLink
from .names import known, name_of
from .numbers import decimal, pci_address, whole
from .told import Told

DEVICES = "/sys/bus/pci/devices"
VENDORS = {"10de": "nvidia", "1002": "amd", "8086": "intel", "5143": "qualcomm", "17cb": "qualcomm"}
_NO_GPU = ("1a03", "102b", "1234", "1af4", "15ad", "1013", "80ee", "1b36", "1414", "1ab8")
"""Display devices that no engine can use: ASPEED and Matrox of servers' consoles; the screens of QEMU,
virtio, VMware, Cirrus, VirtualBox, Hyper-V and Parallels."""


def gpus(machine: Machine) -> Told:
    """Display devices (class 0x03xxxx) that may be GPUs."""
    addresses = (address for address in machine.names(DEVICES) if pci_address(address))
    found = tuple(_gpu(machine, address) for address in addresses if _is_gpu(machine, address))
    return Told(found, tuple(note for gpu in found if (note := _undriven(gpu))))


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


def link(machine: Machine, address: str) -> PcieLink | None:
    """
    The link that leaves the card; a device inside the processor has none, or says 255 lanes.

    ``max_link_width`` is the card's own; what the slot could do only its port knows.
    """
    outermost = _outermost(machine, address)

    def read(name: str) -> str:
        return machine.read(f"{folder(outermost)}/{name}") or ""

    widths = [whole(read(name)) for name in ("current_link_width", "max_link_width")]
    width, most = (each if each and each <= 32 else None for each in widths)
    if width is None:
        return None
    return PcieLink(width, most, decimal(read("current_link_speed")), decimal(read("max_link_speed")))


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
    """Bus 00 is inside the processor or its chipset; a card lies behind a port, on a bus of its own."""
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
