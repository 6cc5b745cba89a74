"""
The memory that a server uses, and what is left of the RAM: Linux from /proc and cgroups, others by psutil.

The lines are described in proc_pid_status(5), proc_meminfo(5), and the kernel's
Documentation/accounting/psi.rst and Documentation/gpu/drm-usage-stats.rst.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from ..cgroups import MOUNT, Group, tightest
from .gpu_memory import GpuHeld, GpusHeld, drm_held
from .process import family


@dataclass(frozen=True, slots=True)
class Held:
    """
    By a server and its descendants.

    ``anonymous_bytes`` is the resident memory that cannot be dropped: anonymous, shared, locked.
    ``swap_bytes`` is what of it was swapped out, and is not part of it.  None is not known.  ``gpus`` are
    those of which a driver tells: of amdgpu, i915 and xe on Linux; of NVIDIA see `cuda_held`.
    """

    rss_bytes: int
    anonymous_bytes: int | None = None
    swap_bytes: int | None = None
    gpus: GpusHeld = field(default_factory=dict)

    @property
    def gpu_bytes(self) -> int | None:
        """Of the memory that GPUs have of their own, all of them together."""
        return sum(self.gpus.values(), GpuHeld()).own_bytes

    @property
    def all_bytes(self) -> int | None:
        """What it took and will give back, wherever that is now."""
        return None if self.anonymous_bytes is None else self.anonymous_bytes + (self.swap_bytes or 0)


@dataclass(frozen=True, slots=True)
class Room:
    """
    On the machine.  None is not known.

    ``available_bytes`` can be had without swapping.  ``stalled_percent`` is the share of the last ten seconds
    in which every task that was not idle waited for memory (PSI, the ``full`` line).  ``kernel_kills`` counts
    the processes that the kernel has ended for lack of memory since the boot, anywhere on the machine.
    """

    total_bytes: int | None = None
    available_bytes: int | None = None
    stalled_percent: float | None = None
    kernel_kills: int | None = None


@dataclass(frozen=True, slots=True)
class MemorySample:
    held: Held
    room: Room
    group: Group | None = None

    @property
    def left_bytes(self) -> int | None:
        """What the server may still take: of the machine, or of its group where that is tighter."""
        known = (self.room.available_bytes, self.group.left_bytes if self.group else None)
        return min((each for each in known if each is not None), default=None)


class SampleSource(Protocol):
    """Where the figures come from.  No method raises or blocks; all three take some 1 ms of CPU."""

    def held(self, pid: int) -> Held | None:
        """None: it is gone."""

    def room(self) -> Room: ...

    def group(self, pid: int) -> Group | None:
        """None: no group around it has a limit."""


def take(source: SampleSource, pid: int) -> MemorySample | None:
    """Of this process, its descendants and the machine; None: it is gone."""
    held = source.held(pid)
    return None if held is None else MemorySample(held, source.room(), source.group(pid))


_STATUS = re.compile(rb"^(VmLck|RssAnon|RssFile|RssShmem|VmSwap):\s+(\d{1,15}) kB$", re.MULTILINE)
_MEMINFO = re.compile(rb"^(MemTotal|MemAvailable):\s+(\d{1,15}) kB$", re.MULTILINE)
_KILLS = re.compile(rb"^oom_kill (\d{1,15})$", re.MULTILINE)
_FULL = re.compile(rb"^full avg10=(\d{1,3}\.\d{2}) ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LinuxSource:
    """``proc`` and ``cgroups`` are where those are mounted; ``gpus`` has the device files of GPUs."""

    proc: str = "/proc"
    cgroups: str = MOUNT
    gpus: str = "/dev/dri/"

    def held(self, pid: int) -> Held | None:
        members = family(pid)
        texts = [text for member in members if (text := _read(f"{self.proc}/{member}/status"))]
        found = [held for text in texts if (held := held_in(text))]
        if not found:
            return None
        return Held(
            sum(each.rss_bytes for each in found),
            sum(each.anonymous_bytes or 0 for each in found),
            sum(each.swap_bytes or 0 for each in found),
            drm_held(text for member in members for text in self._gpu_clients(member)),
        )

    def _gpu_clients(self, pid: int) -> Iterator[bytes]:
        """What the drivers say of each device file of a GPU that this process has open."""
        try:
            numbers = os.listdir(f"{self.proc}/{pid}/fd")  # noqa: PTH208 - as for _read
        except OSError:  # gone, or somebody else's
            return
        for number in numbers:
            with suppress(OSError):
                if os.readlink(f"{self.proc}/{pid}/fd/{number}").startswith(self.gpus):  # noqa: PTH115
                    yield _read(f"{self.proc}/{pid}/fdinfo/{number}")

    def room(self) -> Room:
        files = ("meminfo", "pressure/memory", "vmstat")
        return room_in(*(_read(f"{self.proc}/{file}") for file in files))

    def group(self, pid: int) -> Group | None:
        return tightest(lambda path: _read(path).decode(errors="replace"), str(pid), self.proc, self.cgroups)


def held_in(status: bytes) -> Held | None:
    """
    From /proc/PID/status.  None for a process without memory of its own, as one that is dead already.

    A model that is mapped and locked counts as held; memory that is anonymous and locked counts once, but for
    the few megabytes of the libraries.
    """
    kib = {name: int(number) for name, number in _STATUS.findall(status)}
    if b"RssAnon" not in kib:
        return None
    files = kib.get(b"RssFile", 0)
    own = kib[b"RssAnon"] + kib.get(b"RssShmem", 0)
    locked = min(kib.get(b"VmLck", 0), files)
    return Held((own + files) * 1024, (own + locked) * 1024, kib.get(b"VmSwap", 0) * 1024)


def room_in(meminfo: bytes, pressure: bytes, vmstat: bytes = b"") -> Room:
    """From /proc/meminfo, pressure/memory and vmstat; what this kernel does not keep is empty."""
    known = {name: int(number) * 1024 for name, number in _MEMINFO.findall(meminfo)}
    stalled = _FULL.search(pressure)
    kills = _KILLS.search(vmstat)
    return Room(
        known.get(b"MemTotal"),
        known.get(b"MemAvailable"),
        float(stalled[1]) if stalled else None,
        int(kills[1]) if kills else None,
    )


def _read(path: str) -> bytes:
    """Empty where it cannot be read: gone meanwhile, or not on this kernel."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - ten times a sample, so no Path for each
            return file.read()
    except (OSError, ValueError):  # the latter for a name that cannot be one
        return b""


class PsutilSource:
    """
    Windows counts as anonymous all that it has committed to a process, touched or not.  macOS would need a
    walk over all pages, so there it is unknown.
    """

    def held(self, pid: int) -> Held | None:
        found = [held for member in family(pid) if (held := _held(member))]
        if not found:
            return None
        anonymous = [each.anonymous_bytes for each in found if each.anonymous_bytes is not None]
        return Held(sum(each.rss_bytes for each in found), sum(anonymous) if anonymous else None)

    def room(self) -> Room:
        import psutil  # noqa: PLC0415 - see above

        try:
            memory = psutil.virtual_memory()
        except (psutil.Error, OSError):
            return Room()
        return Room(memory.total, memory.available)

    def group(self, pid: int) -> Group | None:  # noqa: ARG002 - there are none
        return None


def _held(pid: int) -> Held | None:
    import psutil  # noqa: PLC0415 - see above

    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return None
    # PagefileUsage, which Windows defines as equal to PrivateUsage; for that one Wine tells 128 TiB.
    return Held(memory.rss, memory.vms if sys.platform == "win32" else None)


def source_here() -> SampleSource:
    """Of this system."""
    return LinuxSource() if sys.platform == "linux" else PsutilSource()


def cuda_held(pid: int) -> GpusHeld:
    """By this process and its descendants, as nvidia-smi says; empty where it does not."""
    from ..hardware.machine import ThisMachine  # noqa: PLC0415 - only where there is such a card
    from ..hardware.sources.gpu_users import cuda_uses  # noqa: PLC0415

    held: dict[str, GpuHeld] = {}
    members = family(pid)
    for use in cuda_uses(ThisMachine()):
        if use.pid in members:
            held[use.adapter] = held.get(use.adapter, GpuHeld()) + GpuHeld(use.memory_bytes)
    return held
