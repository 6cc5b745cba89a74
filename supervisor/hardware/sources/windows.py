"""Windows: one PowerShell call that prints what CIM and the registry know; NVIDIA's own tool beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..machine import Machine
from ..merge import merge
from ..types import Cpu, Hardware
from . import nvidia_smi, vulkan, windows_gpu
from .asking import (
    Answer,
    ask,
    document,
    items,
    number,
    text,
)
from .told import ask_all

_ENUM = r"HKLM:\SYSTEM\CurrentControlSet\Enum\ ".strip()
_CLASS = r"HKLM:\SYSTEM\CurrentControlSet\Control\Class\ ".strip()
# Single quotes only: PowerShell and Windows disagree about the others.  Properties are named one by one
# because LoadPercentage of Win32_Processor alone takes a second.  The registry entry of a card's device
# names its driver's key, and only there is the size of its memory as 64 bits: AdapterRAM ends at 4 GB.
SCRIPT = (
    "$ErrorActionPreference='SilentlyContinue';"
    "[Console]::OutputEncoding=[Text.UTF8Encoding]::new($false);"
    "$cards=@(Get-CimInstance Win32_VideoController"
    " -Property Name,PNPDeviceID,DriverVersion,ConfigManagerErrorCode | ForEach-Object {"
    f"$device=Get-ItemProperty -LiteralPath ('{_ENUM}'+$_.PNPDeviceID);"
    f"$driver=Get-ItemProperty -LiteralPath ('{_CLASS}'+$device.Driver);"
    "[pscustomobject]@{Name=$_.Name;PNPDeviceID=$_.PNPDeviceID;DriverVersion=$_.DriverVersion;"
    "ConfigManagerErrorCode=$_.ConfigManagerErrorCode;LocationInformation=$device.LocationInformation;"
    "qwMemorySize=$driver.'HardwareInformation.qwMemorySize'}});"
    "[pscustomobject]@{"
    "Win32_OperatingSystem=Get-CimInstance Win32_OperatingSystem"
    " -Property Caption,Version,TotalVisibleMemorySize,FreePhysicalMemory |"
    " Select-Object Caption,Version,TotalVisibleMemorySize,FreePhysicalMemory;"
    "Win32_Processor=@(Get-CimInstance Win32_Processor"
    " -Property Name,Architecture,NumberOfCores,NumberOfLogicalProcessors |"
    " Select-Object Name,Architecture,NumberOfCores,NumberOfLogicalProcessors);"
    "Win32_PhysicalMemory=@(Get-CimInstance Win32_PhysicalMemory -Property Capacity |"
    " Select-Object Capacity);"
    "Win32_VideoController=$cards"
    "} | ConvertTo-Json -Compress -Depth 4"
)
OPTIONS = ("-NoProfile", "-NonInteractive", "-Command", SCRIPT)
ARCHITECTURE = ("cmd", "/d", "/c", "echo", "%PROCESSOR_ARCHITECTURE%")
_ARCHITECTURES = {9: "x86_64", 12: "arm64"}  # Win32_Processor.Architecture
_WORDS = {"AMD64": "x86_64", "ARM64": "arm64"}
_KIB = 1024


def hardware(machine: Machine) -> Hardware:
    """All but the disk.  NVIDIA's tool and Vulkan's are asked meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_all, {"nvidia-smi": nvidia_smi.gpus, "vulkaninfo": vulkan.gpus}, machine)
        record, notes = _record(machine)
        nvidia, drivers = asked.result()
    system = next(iter(items(record.get("Win32_OperatingSystem"))), {})
    processors = items(record.get("Win32_Processor"))
    ram = _bytes(system.get("TotalVisibleMemorySize"))
    cards, card_notes = windows_gpu.gpus(
        items(record.get("Win32_VideoController")), ram, _kept_back(record, ram)
    )
    # Windows knows every card; what Vulkan sees only counts where Windows could not be asked, since some
    # drivers give other numbers to their devices there, and one GPU would look like two.
    others = () if record else drivers.gpus
    version = text(system.get("Version"))
    return Hardware(
        os="windows",
        arch=_arch(processors, machine),
        os_name=text(system.get("Caption")).removeprefix("Microsoft "),
        os_version=version,
        kernel=version,
        cpu=_cpu(processors),
        ram_bytes=ram,
        available_bytes=_bytes(system.get("FreePhysicalMemory")),
        gpus=merge((*nvidia.gpus, *cards, *others)),
        notes=(*notes, *card_notes, *nvidia.notes),
    )


def _record(machine: Machine) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """From Windows PowerShell, else from PowerShell 7; a hang of the first is not waited for twice."""
    notes: list[str] = []
    for program in ("powershell", "pwsh"):
        answer = ask(machine, program, *OPTIONS)
        record, note = document(answer, program)
        if record:
            return record, ()
        notes.append(note)
        if _hung(answer):
            break
    return {}, tuple(notes)


def _hung(answer: Answer) -> bool:
    return "did not answer" in answer.note


def _bytes(kib: object) -> int | None:
    count = number(kib)
    return None if count is None else count * _KIB


def _kept_back(record: Mapping[str, Any], ram: int | None) -> int | None:
    """What is installed and Windows does not see: held back by the firmware, for graphics most of all."""
    sizes = [number(each.get("Capacity")) for each in items(record.get("Win32_PhysicalMemory"))]
    installed = sum(size or 0 for size in sizes)
    return installed - ram if ram and installed > ram and None not in sizes else None


def _arch(processors: list[Mapping[str, Any]], machine: Machine) -> str:
    """Of the machine: an emulated Python on Arm believes that it runs on x86."""
    if processors:
        return _ARCHITECTURES.get(number(processors[0].get("Architecture")) or 0, "")
    word = ask(machine, *ARCHITECTURE).text.strip()
    return _WORDS.get(word.upper(), "")


def _cpu(processors: list[Mapping[str, Any]]) -> Cpu:
    """Neither the fast cores of a hybrid nor the instruction sets are known to CIM."""
    if not processors:
        return Cpu()
    return Cpu(
        name=re.sub(r"\s+", " ", text(processors[0].get("Name"))),
        cores=_total(processors, "NumberOfCores"),
        threads=_total(processors, "NumberOfLogicalProcessors"),
    )


def _total(processors: list[Mapping[str, Any]], key: str) -> int | None:
    counts = [number(each.get(key)) for each in processors]
    return None if None in counts else sum(count or 0 for count in counts)
