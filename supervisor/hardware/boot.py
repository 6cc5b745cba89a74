"""
Soon after a boot the drivers of GPUs are still loading.

Who looks too early finds no GPU, takes an engine for the CPU, and stays with it: that is how a service of the
system can be slow until somebody restarts it (llama.cpp issue 27923).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ..progress import Progress
from .types import Gpu, Hardware

SOON_SECONDS = 120.0  # since the boot; what has not come by then does not come
LOOK_SECONDS = 1.0
_DRIVEN = frozenset({"nvidia", "amd", "intel"})  # a server's small display adapter is of no use


def seconds_since_boot() -> float | None:
    """None where the system does not tell."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    else:  # noqa: RET505 - what is above does not exist there
        return None


def settled(
    look: Callable[[], Hardware],
    progress: Progress,
    up_seconds: Callable[[], float | None] = seconds_since_boot,
    pause: Callable[[float], None] = time.sleep,
) -> Hardware:
    """What ``look`` sees, as soon as each GPU on the bus has its device files, or the boot is long over."""
    hardware, told = look(), False
    while (gpu := awaited(hardware)) and (up := up_seconds()) is not None and up < SOON_SECONDS:
        if not told:
            progress.step(f"waiting for the driver of {gpu.name or f'a GPU of {gpu.vendor}'}")
            told = True
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
