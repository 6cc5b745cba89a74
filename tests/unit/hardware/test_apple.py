"""What system_profiler, sysctl, sw_vers and vm_stat print, as one record."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.hardware.hardware import Cpu, Gpu, PcieLink
from supervisor.hardware.sources import apple
from supervisor.tool import ToolResult

from .recorded import load

GIB = 1024**3
PROFILER = " ".join(apple.PROFILER)


def with_tools(name, **tools):
    """A recorded Mac, some of whose tools answer otherwise; None: there is no such tool."""
    box = load(name)
    kept = {command: told for command, told in box.tools.items() if command.split()[0] not in tools}
    return dataclasses.replace(box, tools=kept | {name: told for name, told in tools.items() if told})


def test_an_m4_mini_has_its_memory_once():
    mini = apple.hardware(load("m4-mini-16gb"))
    assert (mini.os, mini.arch, mini.os_name, mini.kernel) == ("macos", "arm64", "macOS 15.3.1", "24.3.0")
    assert (mini.ram_bytes, mini.memory_bytes, mini.installed_ram_bytes) == (16 * GIB,) * 3
    assert mini.available_bytes == (254753 + 245335 + 7127) * 16384
    assert mini.cpu == Cpu("Apple M4", 10, 4, 10, ("neon", "fp16", "dotprod", "i8mm", "bf16", "sme", "sme2"))
    assert mini.notes == ()


def test_what_macos_lets_the_gpu_have_is_unknown_until_somebody_sets_it():
    (gpu,) = apple.hardware(load("m4-mini-16gb")).gpus
    assert (gpu.memory_bytes, gpu.shared_bytes) == (None, 0)
    assert (gpu.vendor, gpu.name, gpu.architecture) == ("apple", "Apple M4", "metal4")
    assert (gpu.integrated, gpu.unified) == (True, True)


def test_a_limit_that_somebody_set_is_the_gpus_memory_and_part_of_the_ram():
    mac = apple.hardware(load("m4-max-128gb"))
    (gpu,) = mac.gpus
    assert gpu.memory_bytes == gpu.shared_bytes == 112 * GIB
    assert mac.memory_bytes == 128 * GIB
    assert (mac.cpu.cores, mac.cpu.performance_cores) == (16, 12)


def test_an_intel_mac_has_a_card_beside_its_graphics_and_a_display_is_neither():
    mac = apple.hardware(load("imac-intel-rx580"))
    assert mac.arch == "x86_64"
    assert mac.cpu.features == ("sse4_2", "avx", "f16c", "fma", "avx2", "bmi2")
    assert mac.cpu.performance_cores == 8
    graphics, card = mac.gpus
    assert (graphics.name, graphics.device_id, graphics.integrated) == (
        "Intel UHD Graphics 630",
        "8086:3e98",
        True,
    )
    assert graphics.memory_bytes == graphics.shared_bytes == 3 * GIB // 2
    assert card == Gpu(
        "amd",
        "Radeon RX 580",
        device_id="1002:67df",
        memory_bytes=8 * GIB,
        integrated=False,
        unified=False,
        driver="metal 14.7",
        driver_version="14.7",
        link=PcieLink(width=16),
        sources=("system_profiler",),
    )
    assert mac.memory_bytes == 40 * GIB
    assert mac.notes == ()  # one key that this Mac does not know is no failure


def test_a_hanging_profiler_leaves_the_rest_known():
    mac = apple.hardware(with_tools("m4-mini-16gb", system_profiler=ToolResult(None, "", "")))
    assert (mac.arch, mac.ram_bytes, mac.gpus) == ("arm64", 16 * GIB, ())
    assert mac.notes == ("system_profiler did not answer within 5 s.",)


def test_without_sysctl_the_chip_tells_the_architecture():
    mac = apple.hardware(with_tools("m4-mini-16gb", sysctl=None))
    assert (mac.arch, mac.ram_bytes, mac.cpu) == ("arm64", None, Cpu())
    assert mac.notes == ("sysctl is not there or cannot be started.",)


@pytest.mark.parametrize(
    ("outcome", "note"),
    [
        (
            ToolResult(0, '{"SPDisplaysDataType" : [', ""),
            "system_profiler printed something that is no record.",
        ),
        (ToolResult(0, "[]", ""), "system_profiler printed something that is no record."),
        (ToolResult(1, "", "cannot talk\nto it\n"), "system_profiler failed: cannot talk."),
        (ToolResult(134, "", ""), "system_profiler failed: exit code 134."),
    ],
)
def test_a_profiler_that_prints_nothing_sensible_is_named(outcome, note):
    mac = apple.hardware(with_tools("m4-mini-16gb", system_profiler=outcome))
    assert (mac.gpus, mac.notes) == ((), (note,))
    assert mac.arch == "arm64"


def test_nothing_at_all_is_told_by_four_notes():
    mac = apple.hardware(
        with_tools("m4-mini-16gb", system_profiler=None, sysctl=None, sw_vers=None, vm_stat=None)
    )
    assert (mac.os, mac.arch, mac.memory_bytes, len(mac.notes)) == ("macos", "", None, 4)


@given(st.lists(st.text(), min_size=4, max_size=4))
def test_no_output_whatever_is_fatal(printed):
    tools = dict(zip((PROFILER, "sysctl", "sw_vers", "vm_stat"), printed, strict=True))
    box = dataclasses.replace(
        load("m4-mini-16gb"), tools={name: ToolResult(0, text, "") for name, text in tools.items()}
    )
    assert apple.hardware(box).os == "macos"
