"""
Windows: one PowerShell call for CIM and the registry, and NVIDIA's own tool; another for what slows it down.

The power mode is in the registry as the GUID that PowerGetUserConfiguredACPowerMode gives (Microsoft,
powrprof.h); it counts with the plan Balanced only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..conditions import Conditions, MemoryModule, PowerMode, channel_of
from ..gpu_merge import merge
from ..hardware import Cpu, Gpu, Hardware
from ..machine import Machine
from ..sensors import DeviceReading
from . import nvidia, vulkan
from .gpu_report import ask_all
from .nvml_sensors import NvmlSensors
from .processor import OtherProcessor
from .tool_output import ask, document, items, number, text

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
QUIETLY = ("-NoProfile", "-NonInteractive", "-Command")
OPTIONS = (*QUIETLY, SCRIPT)
ARCHITECTURE = ("cmd", "/d", "/c", "echo", "%PROCESSOR_ARCHITECTURE%")
_ARCHITECTURES = {9: "x86_64", 12: "arm64"}  # Win32_Processor.Architecture
_WORDS = {"AMD64": "x86_64", "ARM64": "arm64"}
_KIB = 1024


def hardware(machine: Machine) -> Hardware:
    """All but the disk.  NVIDIA's tool and Vulkan's are asked meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_all, {"nvidia-smi": nvidia.smi_gpus, "vulkaninfo": vulkan.gpus}, machine)
        record, notes = record_of(machine, SCRIPT)
        smi, drivers = asked.result()
    system = next(iter(items(record.get("Win32_OperatingSystem"))), {})
    processors = items(record.get("Win32_Processor"))
    ram = _bytes(system.get("TotalVisibleMemorySize"))
    cards, card_notes = adapter_gpus(items(record.get("Win32_VideoController")), ram, _kept_back(record, ram))
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
        gpus=merge((*smi.gpus, *cards, *others)),
        notes=(*notes, *card_notes, *smi.notes),
    )


def record_of(machine: Machine, script: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """From Windows PowerShell, else from PowerShell 7; a hang of the first is not waited for twice."""
    notes: list[str] = []
    for program in ("powershell", "pwsh"):
        answer = ask(machine, program, *QUIETLY, script)
        record, note = document(answer, program)
        if record:
            return record, ()
        notes.append(note)
        if "did not answer" in answer.note:
            break
    return {}, tuple(notes)


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


_VENDORS = {"10de": "nvidia", "1002": "amd", "1022": "amd", "8086": "intel", "qcom": "qualcomm"}
_HARDWARE = re.compile(r"(?:PCI|ACPI)\\VEN_(\w{4})&DEV_(\w{4})", re.IGNORECASE)
_LOCATION = re.compile(r"\((\d{1,3}),(\d{1,2}),(\d)\)$")  # … PCI bus %1, device %2, function %3;(1,0,0)
_AMD_CARD = re.compile(r"\b(?:RX|Pro|FirePro|Instinct|W\d{4})\b", re.IGNORECASE)
_AMD_SHARED = re.compile(r"(?i)\b[678]\d0M\b|\b80\d0S\b|\bVega \d+ Graphics|Radeon ?(?:\(TM\))? Graphics$")
_INTEL_SHARED = re.compile(
    r"(?i)\bU?HD Graphics|\bIris\b(?!.*\bMAX\b)|\bArc ?(?:\(TM\))? (?:Graphics|1\d0[TV])"
)
_CARVED_SLACK = 0.9  # of the size that the driver tells, the firmware may count a little differently


def adapter_gpus(
    entries: Sequence[Mapping[str, Any]], ram_bytes: int | None, kept_back_bytes: int | None
) -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """
    The GPUs among the display adapters, and notes about cards that cannot be used as they are.

    Remote, virtual and USB adapters hang on ROOT, SWD, VMBUS or USB and are no GPUs; nor is what has a
    vendor that llama.cpp has no backend for (a server's ASPEED, a virtual machine's SVGA).
    """
    found, notes = [], []
    for entry in entries:
        hardware = _HARDWARE.match(text(entry.get("PNPDeviceID")))
        vendor = _VENDORS.get(hardware[1].lower(), "") if hardware else ""
        if hardware is None or not vendor:
            continue
        device_id = f"{hardware[1]}:{hardware[2]}".lower()
        if problem := _problem(entry, device_id):
            notes.append(problem)
        else:
            found.append(_gpu(entry, vendor, device_id, ram_bytes, kept_back_bytes))
    return tuple(found), tuple(notes)


def _problem(entry: Mapping[str, Any], device_id: str) -> str:
    """Windows drives a card without a driver as a plain screen, under another name."""
    name = text(entry.get("Name"))
    if name.startswith("Microsoft "):
        return f"A GPU ({device_id}) has no driver: Windows shows it as {name}."
    code = number(entry.get("ConfigManagerErrorCode"))
    return f"{name} ({device_id}) cannot be used: Windows reports error code {code} for it." if code else ""


def _gpu(
    entry: Mapping[str, Any], vendor: str, device_id: str, ram_bytes: int | None, kept_back_bytes: int | None
) -> Gpu:
    name = text(entry.get("Name"))
    pci = _pci(text(entry.get("LocationInformation")))
    integrated = _integrated(vendor, name, pci)
    own = _size(entry.get("qwMemorySize"))
    memory, shared = own, 0
    if integrated:
        # Windows lets it have half of the RAM, besides what the firmware set aside (Microsoft, "Calculating
        # Graphics Memory": TotalSystemMemory / 2).
        carved = _carved(own, kept_back_bytes) if vendor == "amd" else 0
        shared = (ram_bytes or 0) // 2
        memory = None if ram_bytes is None else carved + shared
    version = _driver_version(vendor, text(entry.get("DriverVersion")))
    return Gpu(
        vendor,
        name,
        pci=pci,
        device_id=device_id,
        memory_bytes=memory,
        shared_bytes=shared,
        integrated=integrated,
        unified=integrated,
        driver=f"{vendor} {version}".strip() if version else "",
        driver_version=version,
        sources=("cim",),
    )


def _integrated(vendor: str, name: str, pci: str) -> bool | None:
    """
    Whether it is part of the processor.

    Intel's own sit on bus 0 and its cards never do.  AMD's sit behind a bridge as cards do, and only the
    name tells them apart.
    """
    if vendor == "qualcomm":
        return True
    if vendor == "nvidia":
        return False if pci else None
    if vendor == "intel" and pci:
        return pci.startswith("0000:00:")
    shared = _AMD_SHARED if vendor == "amd" else _INTEL_SHARED
    if shared.search(name):
        return True
    return False if vendor == "amd" and _AMD_CARD.search(name) else None


def _carved(own: int | None, kept_back_bytes: int | None) -> int:
    """
    What AMD's driver tells, where so much is really missing from the RAM that is installed.

    Of the others nothing: Intel's drivers put an invented 128 MB there (Intel, "Detecting Video Memory
    Budget").
    """
    return own if own and kept_back_bytes and kept_back_bytes >= own * _CARVED_SLACK else 0


def _pci(location: str) -> str:
    """``LocationInformation`` ends in bus, device and function, in decimals; segment 0 is all a PC has."""
    found = _LOCATION.search(location)
    if found is None or int(found[1]) > 255 or int(found[2]) > 31:
        return ""
    return f"0000:{int(found[1]):02x}:{int(found[2]):02x}.{found[3]}"


def _size(value: object) -> int | None:
    """A REG_QWORD, or the bytes of a REG_BINARY in little-endian order; 0 says nothing."""
    if isinstance(value, list) and all(isinstance(byte, int) and 0 <= byte <= 255 for byte in value):
        return int.from_bytes(bytes(value[:8]), "little") or None
    return number(value) or None


def _driver_version(vendor: str, version: str) -> str:
    """NVIDIA's last five digits are its own number: 32.0.15.8097 is 580.97."""
    found = re.fullmatch(r"\d+\.\d+\.\d*?(\d)\.(\d{2})(\d{2})", version)
    return f"{found[1]}{found[2]}.{found[3]}" if vendor == "nvidia" and found else version


_SCHEMES = r"HKLM:\SYSTEM\CurrentControlSet\Control\Power\User\PowerSchemes"
CONDITIONS = (
    "$ErrorActionPreference='SilentlyContinue';"
    "[Console]::OutputEncoding=[Text.UTF8Encoding]::new($false);"
    f"$power=Get-ItemProperty -LiteralPath '{_SCHEMES}';"
    "[pscustomobject]@{"
    "Plan=$power.ActivePowerScheme;Plugged=$power.ActiveOverlayAcPowerScheme;"
    "Unplugged=$power.ActiveOverlayDcPowerScheme;"
    "Win32_Battery=@(Get-CimInstance Win32_Battery -Property BatteryStatus | Select-Object BatteryStatus);"
    "Win32_PhysicalMemoryArray=@(Get-CimInstance Win32_PhysicalMemoryArray -Property MemoryDevices |"
    " Select-Object MemoryDevices);"
    "Win32_PhysicalMemory=@(Get-CimInstance Win32_PhysicalMemory"
    " -Property Capacity,ConfiguredClockSpeed,DataWidth,DeviceLocator,BankLabel |"
    " Select-Object Capacity,ConfiguredClockSpeed,DataWidth,DeviceLocator,BankLabel)"
    "} | ConvertTo-Json -Compress -Depth 4"
)
_BALANCED = "381b4222-f694-41f0-9685-ff5bb260df2e"
_PLANS: dict[str, PowerMode] = {
    "a1841308-3541-4fab-bc81-f71556f20b4a": "efficiency",
    "8c5e7fda-e8bf-4a96-9a85-a6e23a8c635c": "performance",
    "e9a42b02-d5df-448d-aa00-03f14749eb61": "performance",
}
_MODES: dict[str, PowerMode] = {
    "961cc777-2547-4f9d-8174-7d86181b8a7a": "efficiency",
    "00000000-0000-0000-0000-000000000000": "balanced",
    "ded574b5-45a0-4f42-8737-46345c09c238": "performance",
}
_DISCHARGING = 1


def conditions(machine: Machine) -> Conditions:
    record, _ = record_of(machine, CONDITIONS)
    batteries = [number(each.get("BatteryStatus")) for each in items(record.get("Win32_Battery"))]
    on_battery = _DISCHARGING in batteries if batteries else None
    arrays = [
        number(each.get("MemoryDevices")) or 0 for each in items(record.get("Win32_PhysicalMemoryArray"))
    ]
    return Conditions(
        on_battery=on_battery,
        power_mode=_mode(record, "Unplugged" if on_battery else "Plugged"),
        modules=tuple(map(_module, items(record.get("Win32_PhysicalMemory")))),
        slots=sum(arrays) or None,
    )


def _mode(record: Mapping[str, Any], of: str) -> PowerMode:
    plan, mode = (text(record.get(key)).strip("{}").lower() for key in ("Plan", of))
    return _MODES.get(mode, "balanced") if plan == _BALANCED else _PLANS.get(plan, "")


def _module(entry: Mapping[str, Any]) -> MemoryModule:
    slot, bank = text(entry.get("DeviceLocator")), text(entry.get("BankLabel"))
    return MemoryModule(
        slot,
        number(entry.get("Capacity")),
        number(entry.get("ConfiguredClockSpeed")) or None,  # MT/s, whatever its name
        number(entry.get("DataWidth")) or None,
        channel_of(slot, bank),
    )


class WindowsSensors:
    """The load of the processor, and of NVIDIA's GPUs what their driver tells."""

    def __init__(self, machine: Machine, nvml: NvmlSensors | None = None) -> None:
        self._processor = OtherProcessor("Windows")
        self._nvml = (nvml or NvmlSensors()) if nvidia.is_present(machine) else None

    def read(self) -> tuple[DeviceReading, ...]:
        return (self._processor.read(), *(self._nvml.read() if self._nvml else ()))

    def close(self) -> None:
        if self._nvml:
            self._nvml.close()
