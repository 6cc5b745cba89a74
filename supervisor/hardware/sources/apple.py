"""macOS: Apple silicon, and Intel Macs with Intel and AMD graphics."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..conditions import Conditions, PowerMode
from ..hardware import Cpu, Gpu, Hardware, PcieLink
from ..machine import Machine
from ..sensors import OF_GPUS, DeviceReading, explained
from .processor import OtherProcessor
from .tool_output import ToolAnswer, ask, document, items, number, text

PROFILER = ("system_profiler", "-json", "SPHardwareDataType", "SPDisplaysDataType")
SYSCTL = ("sysctl", "hw", "machdep.cpu", "kern.osrelease", "iogpu.wired_limit_mb")
VERSION = ("sw_vers",)
MEMORY = ("vm_stat",)

_MIB = 1024**2
_UNITS = {"KB": 1024, "MB": _MIB, "GB": 1024 * _MIB, "TB": 1024**2 * _MIB}  # Apple means powers of 1024
_VENDORS = {"amd": "amd", "ati": "amd", "intel": "intel", "nvidia": "nvidia", "apple": "apple"}
_PCI_VENDORS = {"amd": "1002", "intel": "8086", "nvidia": "10de"}
_ARM = ("FP16", "DotProd", "I8MM", "BF16", "SME", "SME2")
_ARM_FEATURES = {
    "hw.optional.neon": "neon",
    "hw.optional.AdvSIMD": "neon",
    **{f"hw.optional.arm.FEAT_{name}": name.lower() for name in _ARM},
}
_X86_FEATURES = {
    "SSE4.2": "sse4_2",
    "AVX1.0": "avx",
    **{name: name.lower() for name in ["F16C", "FMA", "AVX2", "BMI2", "AVX512F", "AVX512BW", "AVX512VL"]},
    "AVX512VNNI": "avx512_vnni",
}


def hardware(machine: Machine) -> Hardware:
    """All but the disk.  The tools are asked side by side: one that hangs costs 5 s and no more."""
    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(lambda command: ask(machine, *command), (PROFILER, SYSCTL, VERSION, MEMORY)))
    profiler, sysctl, version, memory = outputs
    record, note = document(profiler, PROFILER[0])
    keys = _pairs(sysctl)
    system = _pairs(version)
    os_version = system.get("ProductVersion", "")
    arch = _arch(keys, record)
    return Hardware(
        os="macos",
        arch=arch,
        os_name=f"{system.get('ProductName', 'macOS')} {os_version}".strip(),
        os_version=os_version,
        kernel=keys.get("kern.osrelease", ""),
        cpu=_cpu(keys, arch),
        ram_bytes=number(keys.get("hw.memsize")),
        available_bytes=_available(memory.text),
        gpus=_gpus(record, keys, os_version),
        notes=tuple(each for each in (note, sysctl.note, version.note, memory.note) if each),
    )


def _pairs(answer: ToolAnswer) -> dict[str, str]:
    """``key: value`` lines, as sysctl and sw_vers print them."""
    lines = (line.partition(":") for line in answer.text.splitlines())
    return {key.strip(): value.strip() for key, colon, value in lines if colon}


def _arch(keys: Mapping[str, str], record: Mapping[str, Any]) -> str:
    """Of the machine: under Rosetta, ``uname -m`` says x86_64 on Apple silicon too."""
    if keys.get("hw.optional.arm64") == "1":
        return "arm64"
    overview = next(iter(items(record.get("SPHardwareDataType"))), {})
    if text(overview.get("chip_type")).startswith("Apple"):
        return "arm64"
    return "x86_64" if keys or overview.get("cpu_type") else ""


def _cpu(keys: Mapping[str, str], arch: str) -> Cpu:
    cores = number(keys.get("hw.physicalcpu"))
    fast = number(keys.get("hw.perflevel0.physicalcpu"))
    return Cpu(
        name=keys.get("machdep.cpu.brand_string", ""),
        cores=cores,
        performance_cores=fast or (cores if arch == "x86_64" else None),
        threads=number(keys.get("hw.logicalcpu")),
        features=_features(keys),
    )


def _features(keys: Mapping[str, str]) -> tuple[str, ...]:
    arm = [name for key, name in _ARM_FEATURES.items() if keys.get(key) == "1"]
    words = f"{keys.get('machdep.cpu.features', '')} {keys.get('machdep.cpu.leaf7_features', '')}".split()
    x86 = [name for word, name in _X86_FEATURES.items() if word in words]
    return tuple(dict.fromkeys(arm + x86))


def _available(printed: str) -> int | None:
    """Free, speculative and inactive pages, as psutil counts; "free" leaves the second out."""
    page = re.search(r"page size of (\d{1,9}) bytes", printed)
    pages = re.findall(r"^Pages (?:free|inactive|speculative):\s+(\d{1,18})\.", printed, re.MULTILINE)
    return int(page[1]) * sum(map(int, pages)) if page and len(pages) == 3 else None


def _gpus(record: Mapping[str, Any], keys: Mapping[str, str], os_version: str) -> tuple[Gpu, ...]:
    """An entry without a model is a display, not a GPU."""
    entries = [each for each in items(record.get("SPDisplaysDataType")) if text(each.get("sppci_model"))]
    return tuple(_gpu(each, keys, os_version) for each in entries)


def _gpu(entry: Mapping[str, Any], keys: Mapping[str, str], os_version: str) -> Gpu:
    """The driver comes with the system, and so has its version."""
    vendor = _vendor(entry)
    limit = _wired_limit(keys) if vendor == "apple" else None
    shared = limit or _size(entry, "spdisplays_vram_shared")
    own = _size(entry, "spdisplays_vram")
    integrated = True if vendor == "apple" or shared else False if own else None
    return Gpu(
        vendor,
        text(entry["sppci_model"]),
        device_id=_device_id(entry, vendor),
        memory_bytes=shared or own,
        shared_bytes=shared or 0,
        integrated=integrated,
        unified=integrated,
        driver=f"metal {os_version}".strip(),
        driver_version=os_version,
        architecture=_metal(entry),
        link=_link(entry),
        sources=("system_profiler",),
    )


def _wired_limit(keys: Mapping[str, str]) -> int | None:
    """
    How much of the memory a person lets the GPU have; 0 leaves it to macOS.

    What macOS then allows (MTLDevice.recommendedMaxWorkingSetSize) no tool prints, and the rule is not
    published: unknown, until the engine's own --list-devices tells.
    """
    limit = number(keys.get("iogpu.wired_limit_mb"))
    return limit * _MIB if limit else None


def _vendor(entry: Mapping[str, Any]) -> str:
    """From ``sppci_vendor_Apple``, ``AMD (0x1002)`` or ``Intel``."""
    words = re.findall(r"[a-z]+", text(entry.get("spdisplays_vendor")).lower())
    return next((_VENDORS[word] for word in words if word in _VENDORS), "unknown")


def _metal(entry: Mapping[str, Any]) -> str:
    """``metal3``, ``metal4`` from ``spdisplays_metal4``; older systems say only that there is some."""
    found = re.fullmatch(r"spdisplays_(metal\d+)", text(entry.get("spdisplays_mtlgpufamilysupport")))
    return found[1] if found else ""


def _size(entry: Mapping[str, Any], key: str) -> int | None:
    found = re.fullmatch(r"(\d{1,9}) ([KMGT]B)", text(entry.get(key)))
    return int(found[1]) * _UNITS[found[2]] if found else None


def _device_id(entry: Mapping[str, Any], vendor: str) -> str:
    found = re.fullmatch(r"0x([0-9a-fA-F]{4})", text(entry.get("spdisplays_device-id")))
    return f"{_PCI_VENDORS[vendor]}:{found[1].lower()}" if found and vendor in _PCI_VENDORS else ""


def _link(entry: Mapping[str, Any]) -> PcieLink | None:
    found = re.fullmatch(r"x(\d{1,2})", text(entry.get("spdisplays_pcie_width")))
    return PcieLink(width=int(found[1])) if found else None


def conditions(machine: Machine) -> Conditions:
    """By pmset; a Mac without a battery draws from 'AC Power' as well."""
    settings = ask(machine, "pmset", "-g").text
    source = re.search(r"drawing from '(\w+)", ask(machine, "pmset", "-g", "batt").text)
    low = re.search(r"^\s*(?:lowpowermode|powermode)\s+(\d)", settings, re.MULTILINE)
    return Conditions(
        on_battery=source[1] == "Battery" if source else None,
        power_mode=_POWER_MODES.get(low[1], "") if low else "",
    )


_POWER_MODES: Mapping[str, PowerMode] = {"0": "balanced", "1": "efficiency", "2": "performance"}


IOREG = ("ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")
_IOREG_SECONDS = 30.0  # between two calls: each is a program
_STATISTICS = re.compile(r'^\s*"PerformanceStatistics" = \{(.*)\}$', re.MULTILINE)
_MODEL = re.compile(r'^\s*"model" = <?"([^"]+)"', re.MULTILINE)


class AppleSensors:
    """
    The load of the processor, and load and memory of the GPU.

    Temperatures and power macOS tells root alone (powermetrics).
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._processor = OtherProcessor("macOS")
        self._gpus: tuple[DeviceReading, ...] = ()
        self._asked_at: float | None = None

    def read(self, now: float | None = None) -> tuple[DeviceReading, ...]:
        now = time.monotonic() if now is None else now
        if self._asked_at is None or now - self._asked_at >= _IOREG_SECONDS:
            self._asked_at, answer = now, ask(self._machine, *IOREG)
            self._gpus = tuple(map(gpu_reading, re.split(r"(?m)^\+-o ", answer.text)[1:]))
        return (self._processor.read(), *self._gpus)

    def close(self) -> None:
        """Nothing is open."""


def gpu_reading(entry: str) -> DeviceReading:
    """Of one accelerator, as ioreg prints it."""
    model, statistics = _MODEL.search(entry), _STATISTICS.search(entry)
    figures = dict(re.findall(r'"([^"]+)"=(\d{1,19})(?=,|$)', statistics[1] if statistics else ""))
    found = DeviceReading(
        "",
        model[1] if model else "",
        load_percent=number(figures.get("Device Utilization %")),
        memory_used_bytes=number(figures.get("In use system memory")),
    )
    return explained(found, "macOS", OF_GPUS)
