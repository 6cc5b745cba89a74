"""Win32_VideoController entries, each with what the registry adds, as GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..types import Gpu
from .asking import number, text

_VENDORS = {"10de": "nvidia", "1002": "amd", "1022": "amd", "8086": "intel", "qcom": "qualcomm"}
_HARDWARE = re.compile(r"(?:PCI|ACPI)\\VEN_(\w{4})&DEV_(\w{4})", re.IGNORECASE)
_LOCATION = re.compile(r"\((\d{1,3}),(\d{1,2}),(\d)\)$")  # … PCI bus %1, device %2, function %3;(1,0,0)
_AMD_CARD = re.compile(r"\b(?:RX|Pro|FirePro|Instinct|W\d{4})\b", re.IGNORECASE)
_AMD_SHARED = re.compile(
    r"\b[678]\d0M\b|\b80\d0S\b|\bVega \d+ Graphics|Radeon ?(?:\(TM\))? Graphics$", re.IGNORECASE
)
_INTEL_SHARED = re.compile(
    r"\bU?HD Graphics|\bIris\b(?!.*\bMAX\b)|\bArc ?(?:\(TM\))? (?:Graphics|1\d0[TV])", re.IGNORECASE
)
_CARVED_SLACK = 0.9  # of the size that the driver tells, the firmware may count a little differently


def gpus(
    entries: Sequence[Mapping[str, Any]], ram_bytes: int | None, kept_back_bytes: int | None
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """
    The GPUs among the display adapters, and notes about cards that cannot be used as they are.

    Remote, virtual and USB adapters hang on ROOT, SWD, VMBUS or USB and are no GPUs; nor is what has a
    vendor that llama.cpp has no backend for (a server's ASPEED, a virtual machine's SVGA).
    """
    found, notes = [], []
    for entry in entries:
        hardware = _HARDWARE.match(text(entry.get("PNPDeviceID")))
        vendor = _VENDORS.get(hardware[1].lower(), "") if hardware else ""
        if hardware is None or not vendor:
            continue
        device_id = f"{hardware[1]}:{hardware[2]}".lower()
        if problem := _problem(entry, device_id):
            notes.append(problem)
        else:
            found.append(_gpu(entry, vendor, device_id, ram_bytes, kept_back_bytes))
    return tuple(found), tuple(notes)


def _problem(entry: Mapping[str, Any], device_id: str) -> str:
    """Windows drives a card without a driver as a plain screen, under another name."""
    name = text(entry.get("Name"))
    if name.startswith("Microsoft "):
        return f"A GPU ({device_id}) has no driver: Windows shows it as {name}."
    code = number(entry.get("ConfigManagerErrorCode"))
    return f"{name} ({device_id}) cannot be used: Windows reports error code {code} for it." if code else ""


def _gpu(
    entry: Mapping[str, Any], vendor: str, device_id: str, ram_bytes: int | None, kept_back_bytes: int | None
) -> Gpu:
    name = text(entry.get("Name"))
    pci = _pci(text(entry.get("LocationInformation")))
    integrated = _integrated(vendor, name, pci)
    own = _size(entry.get("qwMemorySize"))
    memory, shared = own, 0
    if integrated:
        carved = _carved(own, kept_back_bytes) if vendor == "amd" else 0
        memory, shared = _shared_memory(carved, ram_bytes)
    version = _driver_version(vendor, text(entry.get("DriverVersion")))
    return Gpu(
        vendor,
        name,
        pci=pci,
        device_id=device_id,
        memory_bytes=memory,
        shared_bytes=shared,
        integrated=integrated,
        unified=integrated,
        driver=f"{vendor} {version}".strip() if version else "",
        driver_version=version,
        sources=("cim",),
    )


def _integrated(vendor: str, name: str, pci: str) -> bool | None:
    """
    Whether it is part of the processor.

    Intel's own sit on bus 0 and its cards never do.  AMD's sit behind a bridge as cards do, and only the
    name tells them apart.
    """
    if vendor == "qualcomm":
        return True
    if vendor == "nvidia":
        return False if pci else None
    if vendor == "intel" and pci:
        return pci.startswith("0000:00:")
    shared = _AMD_SHARED if vendor == "amd" else _INTEL_SHARED
    if shared.search(name):
        return True
    return False if vendor == "amd" and _AMD_CARD.search(name) else None


def _shared_memory(carved_bytes: int, ram_bytes: int | None) -> tuple[int | None, int]:
    """
    All that a GPU without memory of its own can use, and how much of it is RAM that Windows counts.

    Windows lets it have half of the RAM (Microsoft, "Calculating Graphics Memory": TotalSystemMemory / 2),
    beside what the firmware set aside.
    """
    if ram_bytes is None:
        return None, 0
    return carved_bytes + ram_bytes // 2, ram_bytes // 2


def _carved(own: int | None, kept_back_bytes: int | None) -> int:
    """
    What AMD's driver tells, where so much is really missing from the RAM that is installed.

    Of the others nothing: Intel's drivers put an invented 128 MB there (Intel, "Detecting Video Memory
    Budget").
    """
    return own if own and kept_back_bytes and kept_back_bytes >= own * _CARVED_SLACK else 0


def _pci(location: str) -> str:
    """``LocationInformation`` ends in bus, device and function, in decimals; segment 0 is all a PC has."""
    found = _LOCATION.search(location)
    if found is None or int(found[1]) > 255 or int(found[2]) > 31:
        return ""
    return f"0000:{int(found[1]):02x}:{int(found[2]):02x}.{found[3]}"


def _size(value: object) -> int | None:
    """A REG_QWORD, or the bytes of a REG_BINARY in little-endian order; 0 says nothing."""
    if isinstance(value, list) and all(isinstance(byte, int) and 0 <= byte <= 255 for byte in value):
        return int.from_bytes(bytes(value[:8]), "little") or None
    return number(value) or None


def _driver_version(vendor: str, version: str) -> str:
    """NVIDIA's last five digits are its own number: 32.0.15.8097 is 580.97."""
    found = re.fullmatch(r"\d+\.\d+\.\d*?(\d)\.(\d{2})(\d{2})", version)
    return f"{found[1]}{found[2]}.{found[3]}" if vendor == "nvidia" and found else version
