"""Power, memory modules and slots, as each system tells them; and as one that tells nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.hardware.conditions import Conditions, MemoryModule
from supervisor.hardware.detection import conditions_of
from supervisor.hardware.hardware import PcieLink
from supervisor.tool import ToolResult

from .recorded import Recorded, load

GIB = 1024**3
CPU0 = "/sys/devices/system/cpu/cpu0/cpufreq"
LAPTOP = {
    f"{CPU0}/scaling_governor": "powersave\n",
    f"{CPU0}/scaling_driver": "amd-pstate-epp\n",
    f"{CPU0}/energy_performance_preference": "balance_power\n",
    "/sys/firmware/acpi/platform_profile": "low-power\n",
    "/sys/class/power_supply/BAT0/type": "Battery\n",
    "/sys/class/power_supply/BAT0/status": "Discharging\n",
    "/sys/class/power_supply/hidpp_battery_0/type": "Battery\n",
    "/sys/class/power_supply/hidpp_battery_0/scope": "Device\n",
    "/sys/class/power_supply/hidpp_battery_0/status": "Discharging\n",
    "/run/udev/data/+dmi:id": (
        "I:8147362\n"
        "E:MEMORY_ARRAY_LOCATION=System Board Or Motherboard\n"
        "E:MEMORY_DEVICE_0_PRESENT=0\n"
        "E:MEMORY_DEVICE_0_LOCATOR=DIMM 0\n"
        "E:MEMORY_DEVICE_0_BANK_LOCATOR=P0 CHANNEL A\n"
        "E:MEMORY_DEVICE_1_DATA_WIDTH=64\n"
        "E:MEMORY_DEVICE_1_SIZE=34359738368\n"
        "E:MEMORY_DEVICE_1_LOCATOR=DIMM 0\n"
        "E:MEMORY_DEVICE_1_BANK_LOCATOR=P0 CHANNEL B\n"
        "E:MEMORY_DEVICE_1_SPEED_MTS=5600\n"
        "E:MEMORY_DEVICE_1_CONFIGURED_SPEED_MTS=4800\n"
    ),
}


def test_a_linux_laptop_on_its_battery_tells_all_of_it():
    assert conditions_of(Recorded("linux", LAPTOP)) == Conditions(
        on_battery=True,
        power_mode="efficiency",
        governor="powersave",
        scaling_driver="amd-pstate-epp",
        preference="balance_power",
        modules=(MemoryModule("DIMM 0", 32 * GIB, 4800, 64, "P0 CHANNEL B"),),
        slots=2,
    )


def test_the_battery_of_a_mouse_is_not_the_computer_s():
    desktop = {path: text for path, text in LAPTOP.items() if "BAT0" not in path}
    assert conditions_of(Recorded("linux", desktop)).on_battery is None
    charging = {**LAPTOP, "/sys/class/power_supply/BAT0/status": "Charging\n"}
    assert conditions_of(Recorded("linux", charging)).on_battery is False


@pytest.mark.parametrize("os", ["linux", "macos", "windows"])
def test_a_machine_that_tells_nothing_gives_nothing(os):
    assert conditions_of(Recorded(os)) == Conditions()


@pytest.mark.parametrize(
    ("slots", "channels"),
    [
        (("P0 CHANNEL A", "P0 CHANNEL B"), 2),
        (("P0 CHANNEL A", "P0 CHANNEL A"), 1),
        (("BANK 0", "BANK 1"), None),  # Intel's boards: the bank says nothing
    ],
)
def test_channels_are_counted_where_the_board_names_them(slots, channels):
    devices = "".join(
        f"E:MEMORY_DEVICE_{n}_SIZE=1\nE:MEMORY_DEVICE_{n}_BANK_LOCATOR={bank}\n"
        for n, bank in enumerate(slots)
    )
    assert conditions_of(Recorded("linux", {"/run/udev/data/+dmi:id": devices})).channels == channels


@pytest.mark.parametrize(
    "slot", ["Controller0-ChannelA-DIMM0", "ChannelA-DIMM1", "Channel A", "DIMM_A1", "DIMMA2"]
)
def test_a_slot_may_name_the_channel_too(slot):
    devices = f"E:MEMORY_DEVICE_0_SIZE=1\nE:MEMORY_DEVICE_0_LOCATOR={slot}\n"
    (module,) = conditions_of(Recorded("linux", {"/run/udev/data/+dmi:id": devices})).modules
    assert module.channel.endswith("A")


def test_what_a_slot_can_do_is_read_from_its_port():
    card, above = "0000:01:00.0", "/sys/devices/pci0000:00/0000:00:01.1"
    box = load("hx370-96gb-4060ti")
    port = {f"{above}/max_link_width": "4\n", f"{above}/max_link_speed": "16.0 GT/s PCIe\n"}
    found = conditions_of(replace(box, files={**box.files, **port}))
    assert found.ports == {card: PcieLink(max_width=4, max_speed_gts=16.0)}
    assert conditions_of(box).ports == {}


def windows(**record):
    printed = ToolResult(0, json.dumps(record), "")
    return conditions_of(Recorded("windows", tools={"powershell": printed}))


EFFICIENCY, NONE, BALANCED = (
    "961cc777-2547-4f9d-8174-7d86181b8a7a",
    "00000000-0000-0000-0000-000000000000",
    "381b4222-f694-41f0-9685-ff5bb260df2e",
)


@pytest.mark.parametrize(
    ("record", "mode", "on_battery"),
    [
        ({"Plan": BALANCED, "Plugged": EFFICIENCY}, "efficiency", None),
        ({"Plan": f"{{{BALANCED}}}", "Plugged": NONE}, "balanced", None),
        ({"Plan": BALANCED, "Plugged": None}, "balanced", None),  # a desktop that was never asked
        ({"Plan": "8c5e7fda-e8bf-4a96-9a85-a6e23a8c635c", "Plugged": EFFICIENCY}, "performance", None),
        ({"Plan": "12345678-1234-1234-1234-123456789012"}, "", None),  # one of a maker's own
        (
            {
                "Plan": BALANCED,
                "Plugged": NONE,
                "Unplugged": EFFICIENCY,
                "Win32_Battery": {"BatteryStatus": 1},
            },
            "efficiency",
            True,
        ),
        ({"Plan": BALANCED, "Plugged": NONE, "Win32_Battery": [{"BatteryStatus": 2}]}, "balanced", False),
    ],
)
def test_windows_has_a_plan_and_with_the_balanced_one_a_mode(record, mode, on_battery):
    found = windows(**record)
    assert (found.power_mode, found.on_battery) == (mode, on_battery)


def test_windows_lists_its_memory_modules():
    module = {
        "Capacity": 17179869184, "ConfiguredClockSpeed": 5600, "DataWidth": 64,
        "DeviceLocator": "DIMM 0", "BankLabel": "P0 CHANNEL A",
    }  # fmt: skip
    found = windows(Win32_PhysicalMemory=module, Win32_PhysicalMemoryArray={"MemoryDevices": 4})
    assert found.modules == (MemoryModule("DIMM 0", 16 * GIB, 5600, 64, "P0 CHANNEL A"),)
    assert found.slots == 4


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    st.lists,
    max_leaves=3,
)
_KEYS = st.sampled_from(
    ["Plan", "Plugged", "Unplugged", "Win32_Battery", "Win32_PhysicalMemory", "Win32_PhysicalMemoryArray"]
)
_MODULE = st.dictionaries(st.sampled_from(["Capacity", "DataWidth", "DeviceLocator", "MemoryDevices"]), _JSON)


@given(st.dictionaries(_KEYS, _JSON | _MODULE | st.lists(_MODULE)))
def test_no_answer_of_windows_is_fatal(record):
    assert isinstance(windows(**record), Conditions)


@given(st.dictionaries(st.sampled_from(sorted(LAPTOP)), st.text()), st.sampled_from(["1", "9" * 5000, "²"]))
def test_no_file_of_linux_is_fatal(files, digits):
    garbled = {"/run/udev/data/+dmi:id": f"E:MEMORY_DEVICE_{digits}_SIZE={digits}\n"}
    assert isinstance(conditions_of(Recorded("linux", {**LAPTOP, **files, **garbled})), Conditions)


def test_macos_tells_its_battery_and_its_low_power_mode():
    tools = {
        "pmset -g": ToolResult(
            0, "System-wide power settings:\nCurrently in use:\n lowpowermode         1\n", ""
        ),
        "pmset -g batt": ToolResult(0, "Now drawing from 'Battery Power'\n -InternalBattery-0\t81%\n", ""),
    }
    assert conditions_of(Recorded("macos", tools=tools)) == Conditions(
        on_battery=True, power_mode="efficiency"
    )
