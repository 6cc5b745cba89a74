"""
The machine: GPUs and who may use them, memory, swap, clock, disk, and what makes it slow.

And what the kernel says of GPUs and memory: drivers that were reset, cards that fell off, processes killed.
"""

from __future__ import annotations

import mmap
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..hardware.conditions import Conditions
from ..hardware.hardware import Gpu, Hardware
from ..hardware.machine import Machine
from ..memory.verdict import size
from ..tune.tips import machine_tips
from .finding import Finding

LITTLE_DISK_BYTES = 10 * 1024**3
BUILT = datetime(2026, 11, 1, tzinfo=UTC)
"""A clock before this is wrong: certificates then are not valid yet."""
_SPEED_BYTES, _SPEED_SECONDS, _BLOCK_BYTES = 512 * 1024**2, 1.0, 8 * 1024**2
LARGE_BYTES = 1024**3
"""A smaller model is loaded at once from any disk."""


def machine_findings(
    hardware: Hardware, conditions: Conditions, machine: Machine, now: datetime
) -> Iterator[Finding]:
    """All but the disk's speed, which takes a second."""
    if not hardware.gpus:
        yield Finding("gpu", "ok", "There is no GPU; models run on the CPU.")
    for gpu in hardware.gpus:
        yield from _gpu(gpu)
    yield from (Finding("hardware", "unknown", note) for note in hardware.notes)
    yield from _memory(hardware, _meminfo(machine))
    yield from _disk(hardware)
    yield _clock(now)
    tips = machine_tips(hardware, conditions)
    yield from (Finding("speed", "warning", f"{tip.what} {tip.why}", tip.action) for tip in tips)
    if not tips:
        yield Finding("speed", "ok", "Nothing that the system tells makes it slower than it could be.")


def _gpu(gpu: Gpu) -> Iterator[Finding]:
    name = gpu.name or gpu.device_id or gpu.vendor
    closed = [node.path for node in gpu.nodes if not node.may_open]
    if closed:
        yield Finding(
            "gpu-access",
            "problem",
            f"{name}: you may not open {', '.join(closed)}.",
            "sudo usermod -aG render,video $USER, then log in again.",
        )
    elif not gpu.driver:
        yield Finding("gpu-driver", "warning", f"{name}: no driver was found.", "Install its driver.")
    else:
        with_version = (
            f"{gpu.driver} {gpu.driver_version}".strip()
            if gpu.driver_version not in gpu.driver
            else gpu.driver
        )
        memory = f", {size(gpu.memory_bytes)}" if gpu.memory_bytes else ""
        yield Finding("gpu", "ok", f"{name}{memory}, driver {with_version}.")


def _meminfo(machine: Machine) -> dict[str, int]:
    """Bytes by name, of Linux; HugePages_Total is a number of pages."""
    found: dict[str, int] = {}
    for line in (machine.read("/proc/meminfo") or "").splitlines() if machine.os == "linux" else ():
        name, _, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        if number.isdigit():
            found[name] = int(number) * (1024 if unit == "kB" else 1)
    return found


def _memory(hardware: Hardware, info: dict[str, int]) -> Iterator[Finding]:
    if hardware.ram_bytes is None:
        yield Finding("memory", "unknown", "How much memory there is cannot be told.")
    else:
        free = hardware.available_bytes
        available = f", {size(free)} of it available" if free is not None else ""
        yield Finding("memory", "ok", f"{size(hardware.ram_bytes)} of RAM{available}.")
    swapped = info.get("SwapTotal", 0) - info.get("SwapFree", 0)
    if hardware.ram_bytes and swapped > hardware.ram_bytes / 16:
        yield Finding(
            "swap",
            "warning",
            f"{size(swapped)} are swapped out: whatever owns them waits for the disk.",
            "Close what you do not need, or give the model less; goss-supervisor plan shows its account.",
        )
    reserved = info.get("HugePages_Total", 0) * info.get("Hugepagesize", 0)
    if reserved:
        yield Finding(
            "huge-pages",
            "warning",
            f"{size(reserved)} are reserved for huge pages, which llama-server does not use.",
            "sudo sysctl vm.nr_hugepages=0, unless another program needs them.",
        )


def _disk(hardware: Hardware) -> Iterator[Finding]:
    free = hardware.disk_free_bytes
    if free is None:
        yield Finding("disk", "unknown", "How much room the disk has cannot be told.")
    elif free < LITTLE_DISK_BYTES:
        text = f"Only {size(free)} are free where engines and models go."
        yield Finding("disk", "warning", text, "goss-supervisor ls shows the models; rm removes one.")
    else:
        yield Finding("disk", "ok", f"{size(free)} are free where engines and models go.")


def _clock(now: datetime) -> Finding:
    if now < BUILT:
        text = f"The clock says {now:%Y-%m-%d}, which is past: no certificate is valid, so downloads fail."
        return Finding("clock", "problem", text, "Set it: sudo timedatectl set-ntp true")
    return Finding("clock", "ok", f"The clock says {now:%Y-%m-%d %H:%M} UTC.")


def disk_speed(file: Path, model_bytes: int) -> Finding:
    """How fast the model's file is read without the cache, measured for a second at most."""
    rate = _read_rate(file)
    if rate is None:
        return Finding("disk-speed", "unknown", f"How fast {file} is read cannot be measured here.")
    seconds = model_bytes / rate
    text = f"The disk reads {file.name} at {rate / 1e6:,.0f} MB/s: all of it takes {seconds:.0f} s."
    if seconds > 120:
        return Finding(
            "disk-speed", "warning", text, "Keep models on an internal NVMe disk (models-dir in config.yaml)."
        )
    return Finding("disk-speed", "ok", text)


if sys.platform == "linux":

    def _read_rate(file: Path) -> float | None:
        """Bytes a second; None where the cache cannot be left out."""
        with suppress(OSError):
            total = file.stat().st_size
            descriptor = os.open(file, os.O_RDONLY | os.O_DIRECT)
            try:
                with mmap.mmap(-1, _BLOCK_BYTES) as block:  # O_DIRECT wants the beginning of a page
                    return _rate_of(descriptor, block, total)
            finally:
                os.close(descriptor)
        return None

    def _rate_of(descriptor: int, block: mmap.mmap, total: int) -> float | None:
        place = total // 2 // _BLOCK_BYTES * _BLOCK_BYTES
        done, begun = 0, time.monotonic()
        while done < _SPEED_BYTES and time.monotonic() - begun < _SPEED_SECONDS:
            count = os.preadv(descriptor, [block], place + done)
            if count == 0:
                break
            done += count
        seconds = time.monotonic() - begun
        return done / seconds if done and seconds > 0 else None

else:

    def _read_rate(_: Path) -> float | None:
        return None


_JOURNAL = ("journalctl", "--dmesg", "--boot", "--no-pager", "--quiet", "--output=short-iso")
_DMESG = ("dmesg", "--time-format", "iso")


@dataclass(frozen=True, slots=True)
class KernelSign:
    """A line that matches ``pattern`` means ``text``; {0} is its first group."""

    id: str
    pattern: re.Pattern[str]
    text: str
    fix: str


SIGNS = (
    # mm/oom_kill.c: "Out of memory: Killed process 123 (name)", "Memory cgroup out of memory: Killed process"
    KernelSign(
        "out-of-memory",
        re.compile(r"[Oo]ut of memory: Killed process \d+ \(([^)]*)\)"),
        "The kernel killed {0}, because memory ran out",
        "goss-supervisor plan shows what a model takes; a smaller ctx-size, or another model, takes less.",
    ),
    # NVIDIA's Xid list: 79 is "GPU has fallen off the bus"; docs.nvidia.com/deploy/xid-errors
    KernelSign(
        "gpu-lost",
        re.compile(r"NVRM: (?:Xid \(.*\): 79\b|.*fallen off the bus)()"),
        "A GPU fell off the bus",
        "Check its power and its cable (OCuLink, riser); then restart the computer.",
    ),
    KernelSign(
        "gpu-error",
        re.compile(r"NVRM: Xid \([^)]*\): (\d+)"),
        "The NVIDIA driver reported an error of the GPU (Xid {0})",
        "NVIDIA's list of Xid errors explains the number; heat, power and overclocking are the usual causes.",
    ),
    # drivers/gpu/drm/amd/amdgpu/amdgpu_device.c and i915/xe
    KernelSign(
        "gpu-reset",
        re.compile(
            r"((?:amdgpu|i915|xe) [0-9a-f:.]+).*(?:GPU reset (?:begin|succeeded)|GPU HANG|reset)",
            re.IGNORECASE,
        ),
        "The driver reset a GPU ({0})",
        "A newer kernel or driver often helps; so does less load (a smaller ubatch-size) or no overclocking.",
    ),
)


def kernel_findings(machine: Machine) -> Iterator[Finding]:
    """Of this boot."""
    lines = _lines(machine)
    if lines is None:
        yield Finding(
            "kernel-messages",
            "unknown",
            "This user may not read the kernel's messages.",
            "sudo journalctl --dmesg --boot shows them; members of systemd-journal or adm may read them.",
        )
        return
    found = list(signs_in(lines))
    yield from found
    if not found:
        yield Finding(
            "kernel-messages", "ok", "The kernel reports no GPU reset and no process killed for memory."
        )


def signs_in(lines: list[str]) -> Iterator[Finding]:
    """One finding for each sign, with how often it was seen; the last line is the evidence."""
    seen: Counter[tuple[str, str]] = Counter()
    last: dict[tuple[str, str], tuple[KernelSign, str, str]] = {}
    for line in lines:
        for sign in SIGNS:
            if match := sign.pattern.search(line):
                what = sign.text.format(match[1])
                seen[sign.id, what] += 1
                last[sign.id, what] = sign, what, line
                break
    for key, (sign, what, line) in last.items():
        times = "" if seen[key] == 1 else f" {seen[key]} times"
        yield Finding(sign.id, "warning", f"{what}{times} since the start: {line.strip()}", sign.fix)


def _lines(machine: Machine) -> list[str] | None:
    """None where nobody tells."""
    if machine.os != "linux":
        return None
    for command in (_JOURNAL, _DMESG):
        done = machine.run(*command)
        if done is not None and done.returncode == 0 and done.stdout.strip():
            return done.stdout.splitlines()
    return None
