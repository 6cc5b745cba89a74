"""The processor of a Linux machine, by /proc/cpuinfo and sysfs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..machine import Machine
from ..types import Cpu
from .numbers import whole

HOME = "/sys/devices/system/cpu"
FAST = 0.8
"""A core that reaches this part of the fastest one's clock (or capacity) is a fast one.  Zen 5c has 0.64 of
Zen 5 (HX 370), Zen 4c 0.74 of Zen 4 (8500G); the favoured cores of one kind differ by less than a tenth."""

X86 = "sse4_2 avx f16c fma bmi2 avx2 avx_vnni avx512f avx512cd avx512bw avx512dq avx512vl avx512vbmi"
X86_LATER = "avx512_vnni avx512_bf16 amx_tile amx_int8 amx_bf16"
ARM = "asimd asimddp asimdhp i8mm bf16 sve sve2 sme"
FEATURES = tuple(f"{X86} {X86_LATER} {ARM}".split())
"""Those that ggml has variants for (GGML_CPU_ALL_VARIANTS), as the kernel writes them."""
_ARM_NAMES = {"asimd": "neon", "asimddp": "dotprod", "asimdhp": "fp16"}  # as Apple and ggml call them


def cpu(machine: Machine) -> Cpu:
    blocks = _blocks(machine.read("/proc/cpuinfo") or "")
    first = blocks[0] if blocks else {}
    cores = _cores(machine)
    count = len(set(cores.values())) or _counted(blocks)
    return Cpu(
        name=first.get("model name") or first.get("Model") or _device_tree(machine),
        cores=count,
        performance_cores=_fast(machine, cores) or count,
        threads=len(blocks) or len(cores) or None,
        features=_features(first.get("flags") or first.get("Features") or ""),
    )


def _blocks(text: str) -> list[dict[str, str]]:
    """One for each thread; what stands apart from them (``Model`` of a Raspberry Pi) goes with the first."""
    parts = [
        {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in part.splitlines())}
        for part in re.split(r"\n\s*\n", text)
    ]
    return [part for part in parts if "processor" in part]


def _features(flags: str) -> tuple[str, ...]:
    has = set(flags.split())
    return tuple(_ARM_NAMES.get(name, name) for name in FEATURES if name in has)


def _cores(machine: Machine) -> Mapping[int, str]:
    """Thread number to the threads of its core, as in ``0,12``, which names the core."""
    numbers = (whole(name[3:]) for name in machine.names(HOME) if name.startswith("cpu"))
    found: dict[int, str] = {}
    for number in numbers:
        topology = f"{HOME}/cpu{number}/topology"
        text = machine.read(f"{topology}/core_cpus_list") or machine.read(f"{topology}/thread_siblings_list")
        if number is not None and text:
            found[number] = text.strip()
    return found


def _counted(blocks: list[dict[str, str]]) -> int | None:
    """Without sysfs: by the numbers of package and core, which only x86 tells."""
    if not blocks or any("core id" not in block for block in blocks):
        return None
    return len({(block.get("physical id"), block["core id"]) for block in blocks})


def _fast(machine: Machine, cores: Mapping[int, str]) -> int | None:
    """Intel's hybrids list their fast ones; others tell by what the scheduler counts, or by the clock."""
    listed = numbers_in(machine.read("/sys/devices/cpu_core/cpus") or "")
    if listed:
        return len({cores[number] for number in listed if number in cores}) or None
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        speeds = {number: whole(machine.read(f"{HOME}/cpu{number}/{name}")) for number in cores}
        most = max((speed for speed in speeds.values() if speed), default=0)
        if most:
            return len({cores[number] for number, speed in speeds.items() if speed and speed >= FAST * most})
    return None


def numbers_in(text: str) -> tuple[int, ...]:
    """``0-5,8`` as 0, 1, 2, 3, 4, 5, 8; empty for what is no such list."""
    found: list[int] = []
    for part in text.strip().split(","):
        ends = [whole(end) for end in part.split("-")]
        if len(ends) > 2 or None in ends or max(map(int, filter(None, ends)), default=0) > 65535:
            return ()
        first, last = int(ends[0] or 0), int(ends[-1] or 0)
        found += range(first, last + 1)
    return tuple(found)


def _device_tree(machine: Machine) -> str:
    """The board's model, where /proc/cpuinfo names no processor, as on most ARM machines."""
    return (machine.read("/proc/device-tree/model") or "").strip("\0 \n")
