"""
Detects this computer's hardware, or reads it from a file.

Soon after boot, GPU drivers still load.  A program that looks too early finds no GPU, chooses an engine
for the CPU, and keeps it: so a system service can be slow until a restart (llama.cpp issue 27923).
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..paths import Paths
from ..progress import Progress
from . import wire
from .conditions import Conditions
from .hardware import Gpu, Hardware
from .machine import Machine, ThisMachine
from .sensors import Sensors

VARIABLE = "GOSS_SUPERVISOR_HARDWARE"


def hardware_of(paths: Paths, file: Path | None = None, progress: Progress | None = None) -> Hardware:
    """
    From ``file``, else from the file that GOSS_SUPERVISOR_HARDWARE names, else what this computer is.

    With a ``progress`` to say so, a look soon after a boot waits for the drivers of GPUs.
    Raises NotFound, ConfigError and OSError of a file that cannot be used.
    """
    named = os.environ.get(VARIABLE)
    if file is None and named:
        file = Path(named)
    if file is not None:
        return wire.load(file.expanduser())
    look = partial(detect, paths.data)
    return after_drivers(look, progress) if progress else look()


def detect(folder: Path, machine: Machine | None = None) -> Hardware:
    """Never raises; ``folder`` is where engines and models go, whose disk is measured."""
    found = replace(_asked(machine or ThisMachine()), disk_free_bytes=disk_free(folder))
    return found if machine or found.ram_bytes else _with_memory(found)


def _with_memory(found: Hardware) -> Hardware:
    """By psutil: a PowerShell that is forbidden or slow is no reason to plan without knowing the memory."""
    import psutil  # noqa: PLC0415 - rarely needed

    try:
        memory = psutil.virtual_memory()
    except (psutil.Error, OSError, RuntimeError):
        return found
    return replace(found, ram_bytes=memory.total, available_bytes=memory.available)


def _asked(machine: Machine) -> Hardware:
    """The other systems' sources are not loaded."""
    if machine.os == "windows":
        from .sources import windows_cim  # noqa: PLC0415

        return windows_cim.hardware(machine)
    if machine.os == "macos":
        from .sources import apple  # noqa: PLC0415

        return apple.hardware(machine)
    from .sources.linux_system import hardware  # noqa: PLC0415

    return hardware(machine)


def conditions_of(machine: Machine | None = None) -> Conditions:
    """Never raises.  The other systems' sources are not loaded."""
    machine = machine or ThisMachine()
    if machine.os == "windows":
        from .sources.windows_cim import conditions  # noqa: PLC0415
    elif machine.os == "macos":
        from .sources.apple import conditions  # noqa: PLC0415
    else:
        from .sources.linux_system import conditions  # noqa: PLC0415
    return conditions(machine)


def sensors_of(machine: Machine | None = None) -> Sensors:
    """Never raises.  The other systems' sources are not loaded."""
    machine = machine or ThisMachine()
    if machine.os == "windows":
        from .sources.windows_cim import WindowsSensors  # noqa: PLC0415

        return WindowsSensors(machine)
    if machine.os == "macos":
        from .sources.apple import AppleSensors  # noqa: PLC0415

        return AppleSensors(machine)
    from .sources.linux_system import LinuxSensors  # noqa: PLC0415

    return LinuxSensors(machine)


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


SOON_SECONDS = 120.0  # since the boot; what has not come by then does not come
LOOK_SECONDS = 1.0
_DRIVEN = frozenset({"nvidia", "amd", "intel"})  # a server's small display adapter is of no use


def seconds_since_boot() -> float | None:
    """None where the system does not tell."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    else:  # noqa: RET505 - what is above does not exist there
        return None


def after_drivers(
    look: Callable[[], Hardware],
    progress: Progress,
    up_seconds: Callable[[], float | None] = seconds_since_boot,
    pause: Callable[[float], None] = time.sleep,
) -> Hardware:
    """What ``look`` sees, as soon as each GPU on the bus has its device files, or the boot is long over."""
    hardware, announced = look(), False
    while (gpu := awaited(hardware)) and (up := up_seconds()) is not None and up < SOON_SECONDS:
        if not announced:
            progress.step(f"waiting for the driver of {gpu.name or f'a GPU of {gpu.vendor}'}")
            announced = True
        progress.update(None, f"{up:.0f} s after the boot")
        pause(LOOK_SECONDS)
        hardware = look()
    return hardware


def awaited(hardware: Hardware) -> Gpu | None:
    """
    The first GPU that is on the bus and that no program can open.

    A container may never see the files, and what is given to a virtual machine (vfio) is not ours.
    """
    if hardware.os != "linux" or hardware.environment:
        return None
    ours = (gpu for gpu in hardware.gpus if gpu.vendor in _DRIVEN and not gpu.driver.startswith("vfio"))
    return next((gpu for gpu in ours if gpu.pci and not gpu.nodes), None)
