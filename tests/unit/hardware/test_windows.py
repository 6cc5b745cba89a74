"""What our one PowerShell command prints, as one record."""

import dataclasses
import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.hardware.sources import nvidia, windows_cim
from supervisor.hardware.sources.windows_cim import adapter_gpus
from supervisor.tool import ToolResult

from .recorded import Recorded, load

GIB = 1024**3
KEYS = ("Win32_OperatingSystem", "Win32_Processor", "Win32_PhysicalMemory", "Win32_VideoController")


def pc(**tools):
    return Recorded("windows", tools=tools)


def printed(name):
    return load(name).tools["powershell"].stdout


def card(**changed):
    entry = {
        "Name": "NVIDIA GeForce RTX 4060 Ti",
        "PNPDeviceID": r"PCI\VEN_10DE&DEV_2805&SUBSYS_88F81043&REV_A1\4&2283F625&0&0008",
        "DriverVersion": "32.0.15.8097",
        "ConfigManagerErrorCode": 0,
        "LocationInformation": "@System32\\drivers\\pci.sys,#65536;PCI bus %1, device %2, function %3;(1,0,0)",
        "qwMemorySize": 16 * GIB,
    }
    return entry | changed


def one(**changed):
    (found,), notes = adapter_gpus([card(**changed)], 64 * GIB, None)
    assert notes == ()
    return found


def test_a_snapdragon_laptop():
    laptop = windows_cim.hardware(load("snapdragon-x-elite-windows"))
    assert (laptop.os, laptop.arch, laptop.os_name) == ("windows", "arm64", "Windows 11 Home")
    assert laptop.cpu.name == "Snapdragon(R) X Elite - X1E78100 - Qualcomm(R) Oryon(TM) CPU"
    assert (laptop.cpu.cores, laptop.cpu.performance_cores, laptop.cpu.threads) == (12, None, 12)
    (gpu,) = laptop.gpus
    assert (gpu.vendor, gpu.device_id, gpu.integrated, gpu.unified) == ("qualcomm", "qcom:0c36", True, True)
    assert gpu.memory_bytes == gpu.shared_bytes == laptop.ram_bytes // 2
    assert laptop.memory_bytes == laptop.ram_bytes
    assert laptop.notes == ()


def test_the_adapters_of_remote_desktops_and_docks_are_no_gpus():
    desktop = windows_cim.hardware(load("rtx4060ti-intel-windows"))
    assert [gpu.name for gpu in desktop.gpus] == ["Intel(R) UHD Graphics 770", "NVIDIA GeForce RTX 4060 Ti"]
    assert desktop.notes == ()


def test_a_card_has_its_memory_beyond_4_gib_and_its_own_driver_number():
    _, gpu = windows_cim.hardware(load("rtx4060ti-intel-windows")).gpus
    assert (gpu.memory_bytes, gpu.shared_bytes, gpu.integrated) == (17171480576, 0, False)
    assert (gpu.pci, gpu.device_id, gpu.driver_version) == ("0000:01:00.0", "10de:2805", "580.97")


def test_intels_invented_128_mb_are_counted_nowhere():
    desktop = windows_cim.hardware(load("rtx4060ti-intel-windows"))
    graphics = desktop.gpus[0]
    assert graphics.memory_bytes == graphics.shared_bytes == desktop.ram_bytes // 2
    assert desktop.memory_bytes == desktop.ram_bytes + 17171480576


def test_what_the_firmware_gave_to_amds_graphics_is_counted_beside_the_ram():
    mini = windows_cim.hardware(load("strix-halo-windows"))
    (gpu,) = mini.gpus
    assert gpu.memory_bytes - gpu.shared_bytes == 96 * GIB
    assert (gpu.pci, gpu.integrated) == ("0000:c5:00.0", True)
    assert 127 * GIB < mini.installed_ram_bytes == mini.memory_bytes < 128 * GIB


def test_what_is_not_missing_from_the_ram_was_not_set_aside():
    (gpu,), _ = adapter_gpus(
        [card(Name="AMD Radeon(TM) 890M Graphics", PNPDeviceID=r"PCI\VEN_1002&DEV_150E\0")], 64 * GIB, None
    )
    assert gpu.memory_bytes == gpu.shared_bytes == 32 * GIB


def test_nvidias_own_tool_completes_the_card():
    box = load("rtx4060ti-intel-windows")
    line = "NVIDIA GeForce RTX 4060 Ti, 00000000:01:00.0, 0x280510DE, 16380, 15105, 580.97, 8.9, 4, 4, 4, 8\n"
    query = shlex.join(nvidia.query("nvidia-smi", nvidia.FIELDS))
    told = {query: ToolResult(0, line, ""), "nvidia-smi": ToolResult(0, "|  CUDA Version: 13.0  |", "")}
    desktop = windows_cim.hardware(dataclasses.replace(box, tools={**box.tools, **told}))
    _, gpu = desktop.gpus
    assert (gpu.architecture, gpu.cuda, gpu.sources) == ("8.9", "13.0", ("nvidia-smi", "cim"))
    assert gpu.memory_bytes == 16380 * 1024**2


def test_a_memory_size_may_be_written_as_bytes():
    assert one(qwMemorySize=[0, 0, 0, 0, 4, 0, 0, 0]).memory_bytes == 16 * GIB
    assert one(qwMemorySize=None).memory_bytes is None


@pytest.mark.parametrize(
    ("vendor", "name", "bus", "integrated"),
    [
        ("8086", "Intel(R) Arc(TM) 140T GPU (32GB)", 0, True),
        ("8086", "Intel(R) Arc(TM) B580 Graphics", 3, False),
        ("8086", "Intel(R) Arc(TM) B390 GPU", 0, True),
        ("8086", "Intel(R) Arc(TM) 140T GPU (32GB)", None, True),
        ("8086", "Intel(R) Iris(R) Xe MAX Graphics", None, None),
        ("1002", "AMD Radeon RX 9070", 3, False),
        ("1002", "AMD Radeon(TM) 890M Graphics", 198, True),
        ("1002", "AMD Radeon(TM) 8060S Graphics", 197, True),
        ("1002", "AMD Radeon(TM) Graphics", 16, True),
        ("1002", "AMD Radeon(TM) RX Vega 10 Graphics", 5, True),
        ("1002", "Radeon (TM) RX 480 Graphics", 1, False),
        ("1002", "AMD Radeon(TM) Something New", 5, None),
        ("10de", "NVIDIA GeForce RTX 5090", 1, False),
    ],
)
def test_graphics_in_the_processor_are_told_from_cards(vendor, name, bus, integrated):
    location = None if bus is None else f"PCI bus %1, device %2, function %3;({bus},2,0)"
    found = one(Name=name, PNPDeviceID=rf"PCI\VEN_{vendor}&DEV_1234\0", LocationInformation=location)
    assert found.integrated is integrated


@pytest.mark.parametrize(
    ("changed", "note"),
    [
        (
            {"Name": "Microsoft Basic Display Adapter"},
            "A GPU (10de:2805) has no driver: Windows shows it as Microsoft Basic Display Adapter.",
        ),
        (
            {"ConfigManagerErrorCode": 43},
            "NVIDIA GeForce RTX 4060 Ti (10de:2805) cannot be used: Windows reports error code 43 for it.",
        ),
    ],
)
def test_a_card_that_cannot_be_used_is_a_note(changed, note):
    assert adapter_gpus([card(**changed)], None, None) == ((), (note,))


@pytest.mark.parametrize(
    "device",
    [
        r"VMBUS\{DA0A7802-E377-4AAC-8E77-0558EB1073F8}\{5620E0C7}",  # Hyper-V
        r"ROOT\DISPLAY\0000",
        r"ROOT\MTTVDD\0000",
        r"USB\VID_17E9&PID_6006\7",
        r"PCI\VEN_15AD&DEV_0405&SUBSYS_040515AD&REV_00\3&18D45AA6&0&78",  # VMware
        r"PCI\VEN_1A03&DEV_2000\0",  # the management controller of a server
        None,
    ],
)
def test_virtual_and_foreign_adapters_are_no_gpus(device):
    assert adapter_gpus([card(PNPDeviceID=device)], 64 * GIB, None) == ((), ())


def test_powershell_7_serves_where_there_is_no_other():
    told = load("rtx4060ti-intel-windows").tools["powershell"]
    assert windows_cim.hardware(pc(pwsh=told)) == windows_cim.hardware(load("rtx4060ti-intel-windows"))


def test_a_hanging_powershell_is_not_tried_twice():
    box = pc(powershell=ToolResult(None, "", ""), pwsh=ToolResult(0, printed("rtx4060ti-intel-windows"), ""))
    box = dataclasses.replace(box, tools={**box.tools, "cmd": ToolResult(0, "AMD64\r\n", "")})
    desktop = windows_cim.hardware(box)
    assert (desktop.arch, desktop.ram_bytes) == ("x86_64", None)
    assert desktop.notes == ("powershell did not answer within 5 s.",)


def test_a_forbidden_powershell_is_named_in_its_own_words():
    refused = ToolResult(1, "", "This program is blocked by group policy.\r\n")
    desktop = windows_cim.hardware(pc(powershell=refused))
    assert desktop.notes == (
        "powershell failed: This program is blocked by group policy.",
        "pwsh is not there or cannot be started.",
    )


def test_a_byte_order_mark_is_passed_over():
    told = ToolResult(0, "\ufeff" + printed("snapdragon-x-elite-windows"), "")
    assert windows_cim.hardware(pc(powershell=told)).arch == "arm64"


def test_the_command_has_no_quotes_that_windows_would_take_away():
    assert '"' not in windows_cim.SCRIPT
    assert windows_cim.SCRIPT.count("{") == windows_cim.SCRIPT.count("}")
    assert windows_cim.SCRIPT.count("(") == windows_cim.SCRIPT.count(")")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from((*KEYS, *card())), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES | st.lists(VALUES.map(lambda value: card(Name=value)))))
def test_no_record_whatever_is_fatal(record):
    told = ToolResult(0, json.dumps(record), "")
    assert windows_cim.hardware(pc(powershell=told)).os == "windows"


@given(st.text())
def test_no_output_whatever_is_fatal(text):
    assert windows_cim.hardware(pc(powershell=ToolResult(0, text, ""))).os == "windows"
