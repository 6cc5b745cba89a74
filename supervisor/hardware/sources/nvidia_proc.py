"""What NVIDIA's kernel module says of itself in /proc: still there when its tools and it do not agree."""

from __future__ import annotations

import re

from ..machine import Machine
from ..types import Gpu
from .numbers import pci_address, whole
from .told import Told

HOME = "/proc/driver/nvidia"


def gpus(machine: Machine) -> Told:
    version = driver_version(machine)
    folders = (folder for folder in machine.names(f"{HOME}/gpus") if pci_address(folder))
    return Told(tuple(_gpu(machine, folder, version) for folder in folders))


def _gpu(machine: Machine, folder: str, version: str) -> Gpu:
    return Gpu(
        vendor="nvidia",
        name=_record(machine, folder).get("Model", ""),
        pci=pci_address(folder),
        driver=f"nvidia {version}".strip(),
        driver_version=version,
        sources=("proc",),
    )


def driver_version(machine: Machine) -> str:
    """
    From ``NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 …``, or
    ``NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build …``.
    """
    found = re.search(
        r"Kernel Module\D.*?\s(\d{3}\.[\d.]{2,12})\s", machine.read(f"{HOME}/version") or "", re.ASCII
    )
    return found[1] if found else ""


def minor(machine: Machine, pci: str) -> int | None:
    """The N of /dev/nvidiaN of a card."""
    for folder in machine.names(f"{HOME}/gpus"):
        if pci_address(folder) == pci:
            return whole(_record(machine, folder).get("Device Minor"))
    return None


def _record(machine: Machine, folder: str) -> dict[str, str]:
    r"""``Model: \t\t NVIDIA GeForce RTX 4090``, a line for each property."""
    lines = (machine.read(f"{HOME}/gpus/{folder}/information") or "").splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}
