"""What the kernel says of GPUs and memory: drivers that were reset, cards that fell off, processes killed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ..hardware.machine import Machine
from .finding import Finding

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
