"""
Sensors by hwmon, the kernel's interface for temperature, power and fans.

Names and units are those of the kernel's Documentation/hwmon/sysfs-interface.rst: millidegrees, microwatts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..machine import Machine
from .tool_output import whole

CLASS = "/sys/class/hwmon"
_FULL_SPEED = 255  # of pwm1
_HOTTEST = 150.0  # what says more has no sensor


def of_device(machine: Machine, device: str, *names: str) -> str:
    """The folder of this device's sensors, if it is called by one of the names; "" where there is none."""
    folders = (f"{device}/hwmon/{each}" for each in machine.names(f"{device}/hwmon"))
    return next((each for each in folders if name_of(machine, each) in names), "")


def named(machine: Machine, *names: str) -> Iterator[str]:
    """The folders of all sensors that are called so."""
    folders = (f"{CLASS}/{each}" for each in machine.names(CLASS))
    return (each for each in folders if name_of(machine, each) in names)


def name_of(machine: Machine, folder: str) -> str:
    return (machine.read(f"{folder}/name") or "").strip()


def celsius(machine: Machine, folder: str, *labels: str) -> float | None:
    """Of the first label that there is, else of the first sensor."""
    inputs = (
        [name for name in machine.names(folder) if re.fullmatch(r"temp\d+_input", name)] if folder else []
    )
    labelled = {
        (machine.read(f"{folder}/{name.removesuffix('input')}label") or "").strip(): name for name in inputs
    }
    chosen = next((labelled[label] for label in labels if label in labelled), inputs[0] if inputs else "")
    return thousandths(machine.read(f"{folder}/{chosen}")) if chosen else None


def thousandths(text: str | None) -> float | None:
    """Degrees, of a text in millidegrees; None for what cannot be."""
    value = whole(text)
    return round(value / 1000, 1) if value is not None and 0 < value / 1000 < _HOTTEST else None


def watts(machine: Machine, folder: str, *names: str) -> float | None:
    """Of the first of these files that has a figure; 0 counts, of a limit it means that there is none."""
    found = (whole(machine.read(f"{folder}/{name}")) for name in names if folder)
    value = next((each for each in found if each is not None), None)
    return None if value is None else round(value / 1e6, 1)


def fan_percent(machine: Machine, folder: str) -> float | None:
    """Of the speed that it can have."""
    if not folder:
        return None
    level, most = whole(machine.read(f"{folder}/pwm1")), _FULL_SPEED
    if level is None:
        level, most = (whole(machine.read(f"{folder}/fan1_{name}")) or 0 for name in ("input", "max"))
    return round(min(level / most, 1.0) * 100, 1) if most else None
