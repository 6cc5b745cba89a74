"""
Linux: the governor, the firmware's power profile, the battery, and the memory modules that udev knows.

Sources: Documentation/admin-guide/pm/cpufreq.rst and intel_pstate.rst, Documentation/ABI/testing/
sysfs-platform_profile and sysfs-class-power of the kernel; src/udev/dmi_memory_id of systemd, whose database
everybody may read, where the firmware's own tables are for root alone.
"""

from __future__ import annotations

import re

from ..conditions import Conditions, MemoryModule, PowerMode
from ..machine import Machine
from . import pci
from .linux_system import CPUS
from .tool_output import whole

_FREQUENCY = f"{CPUS}/cpu0/cpufreq"
_PROFILE = "/sys/firmware/acpi/platform_profile"
_SUPPLIES = "/sys/class/power_supply"
_UDEV = "/run/udev/data/+dmi:id"
_MODES: dict[str, PowerMode] = {
    **dict.fromkeys(("low-power", "quiet", "cool"), "efficiency"),
    **dict.fromkeys(("balanced", "balanced-performance"), "balanced"),
    **dict.fromkeys(("performance", "max-power"), "performance"),
}
_CHANNEL = re.compile(r"(?i)(.*channel[ _-]?[0-9a-z]+|.*\bch[ _-]?[a-h]\b|dimm[ _-]?[a-h](?=\d\b))")


def conditions(machine: Machine) -> Conditions:
    modules, slots = _modules(machine)
    addresses = (gpu.pci for gpu in pci.gpus(machine).gpus)
    ports = {address: port for address in addresses if (port := pci.port(machine, address))}
    return Conditions(
        on_battery=_on_battery(machine),
        power_mode=_MODES.get(_line(machine, _PROFILE), ""),
        governor=_line(machine, f"{_FREQUENCY}/scaling_governor"),
        scaling_driver=_line(machine, f"{_FREQUENCY}/scaling_driver"),
        preference=_line(machine, f"{_FREQUENCY}/energy_performance_preference"),
        modules=modules,
        slots=slots,
        ports=ports,
    )


def _line(machine: Machine, path: str) -> str:
    return (machine.read(path) or "").strip()


def _on_battery(machine: Machine) -> bool | None:
    """By the computer's own batteries: a mouse has one too, whose scope is Device."""
    found = None
    for name in machine.names(_SUPPLIES):
        folder = f"{_SUPPLIES}/{name}"
        if _line(machine, f"{folder}/type") == "Battery" and _line(machine, f"{folder}/scope") != "Device":
            found = bool(found) or _line(machine, f"{folder}/status") == "Discharging"
    return found


def _modules(machine: Machine) -> tuple[tuple[MemoryModule, ...], int | None]:
    """Those that are there, and how many slots there are."""
    lines = re.findall(r"(?m)^E:MEMORY_DEVICE_(\d+)_(\w+)=(.*)$", machine.read(_UDEV) or "")
    devices: dict[int, dict[str, str]] = {}
    for number, name, value in lines:
        devices.setdefault(int(number), {})[name] = value.strip()
    there = [each for each in devices.values() if each.get("PRESENT") != "0" and "SIZE" in each]
    return tuple(map(_module, there)), len(devices) or None


def _module(device: dict[str, str]) -> MemoryModule:
    slot, bank = device.get("LOCATOR", ""), device.get("BANK_LOCATOR", "")
    return MemoryModule(
        slot,
        whole(device["SIZE"]),
        whole(device.get("CONFIGURED_SPEED_MTS") or device.get("SPEED_MTS")),
        whole(device.get("DATA_WIDTH")),
        channel_of(slot, bank),
    )


def channel_of(slot: str, bank: str) -> str:
    """``P0 CHANNEL A`` of the bank, ``Controller0-ChannelA`` or ``DIMM_A`` of the slot; "" for neither."""
    found = _CHANNEL.match(bank) or _CHANNEL.match(slot)
    return found[1].upper() if found else ""
