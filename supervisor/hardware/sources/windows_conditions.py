"""
Windows: the power mode and plan, the battery and the memory modules, by one PowerShell call.

The mode is in the registry as the GUID that PowerGetUserConfiguredACPowerMode gives (Microsoft, powrprof.h);
it counts with the plan Balanced only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..conditions import Conditions, MemoryModule, PowerMode
from ..machine import Machine
from .linux_conditions import channel_of
from .tool_output import items, number, text
from .windows_cim import record_of

_SCHEMES = r"HKLM:\SYSTEM\CurrentControlSet\Control\Power\User\PowerSchemes"
SCRIPT = (
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
    record, _ = record_of(machine, SCRIPT)
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
