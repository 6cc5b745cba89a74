"""Names for PCI ids: those that this project has profiles for, then the lists that a system brings."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..machine import Machine

AMDGPU_IDS = ("/usr/share/libdrm/amdgpu.ids", "/opt/amdgpu/share/libdrm/amdgpu.ids")
PCI_IDS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    integrated: bool


_MODELS = {
    # Intel: as in Mesa's include/pci_ids and on ark.intel.com; of Arrow Lake only H has an Arc
    "8086:7d51": Model("Intel Arc 130T/140T", integrated=True),
    "8086:7d41": Model("Intel Graphics (Arrow Lake-U)", integrated=True),
    "8086:7d67": Model("Intel Graphics (Arrow Lake-S)", integrated=True),
    "8086:7d55": Model("Intel Arc Graphics (Meteor Lake)", integrated=True),
    "8086:7d45": Model("Intel Graphics (Meteor Lake-U)", integrated=True),
    "8086:64a0": Model("Intel Arc 130V/140V", integrated=True),
    "8086:56a0": Model("Intel Arc A770", integrated=False),
    "8086:56a1": Model("Intel Arc A750", integrated=False),
    "8086:e20b": Model("Intel Arc B580", integrated=False),
    "8086:e20c": Model("Intel Arc B570", integrated=False),
    "8086:e211": Model("Intel Arc Pro B60", integrated=False),
    "8086:e212": Model("Intel Arc Pro B50", integrated=False),
    # AMD: as in libdrm's amdgpu.ids, where one device has a name for each revision
    "1002:150e": Model("AMD Radeon 880M/890M Graphics", integrated=True),
    "1002:150e:d1": Model("AMD Radeon 890M Graphics", integrated=True),
    "1002:150e:c1": Model("AMD Radeon 890M Graphics", integrated=True),
    "1002:1586": Model("AMD Radeon 8050S/8060S Graphics", integrated=True),
    "1002:1586:c1": Model("AMD Radeon 8060S Graphics", integrated=True),
    "1002:1586:d1": Model("AMD Radeon 8060S Graphics", integrated=True),
    "1002:1114": Model("AMD Radeon 840M/860M Graphics", integrated=True),
    "1002:15bf": Model("AMD Radeon 760M/780M Graphics", integrated=True),
    "1002:1900": Model("AMD Radeon 760M/780M Graphics", integrated=True),
    "1002:1681": Model("AMD Radeon 660M/680M", integrated=True),
    "1002:164e": Model("AMD Radeon Graphics (Raphael)", integrated=True),
    "1002:13c0": Model("AMD Radeon Graphics (Granite Ridge)", integrated=True),
    "1002:7550": Model("AMD Radeon RX 9070/9070 XT", integrated=False),
    "1002:7550:c0": Model("AMD Radeon RX 9070 XT", integrated=False),
    "1002:7550:c2": Model("AMD Radeon RX 9070 GRE", integrated=False),
    "1002:7550:c3": Model("AMD Radeon RX 9070", integrated=False),
    # NVIDIA: for a card whose driver does not answer
    "10de:2e12": Model("NVIDIA GB10", integrated=True),
    "10de:2803": Model("NVIDIA GeForce RTX 4060 Ti", integrated=False),
    "10de:2805": Model("NVIDIA GeForce RTX 4060 Ti", integrated=False),
}


def known(device_id: str, revision: str = "") -> Model | None:
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
