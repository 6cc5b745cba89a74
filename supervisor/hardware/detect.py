"""What this computer is."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from .machine import Machine, ThisMachine
from .types import Hardware


def detect(folder: Path, machine: Machine | None = None) -> Hardware:
    """Never raises; ``folder`` is where engines and models go, whose disk is measured."""
    return replace(_asked(machine or ThisMachine()), disk_free_bytes=disk_free(folder))


def _asked(machine: Machine) -> Hardware:
    """The other systems' sources are not loaded."""
    if machine.os == "windows":
        from .sources import windows  # noqa: PLC0415

        return windows.hardware(machine)
    if machine.os == "macos":
        from .sources import apple  # noqa: PLC0415

        return apple.hardware(machine)
    from .sources import linux  # noqa: PLC0415

    return linux.hardware(machine)


def disk_free(folder: Path) -> int | None:
    """Bytes that this user may fill; of the nearest folder that exists, where this one does not yet."""
    for existing in (folder, *folder.absolute().parents):
        try:
            return shutil.disk_usage(existing).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
