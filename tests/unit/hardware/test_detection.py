"""A start soon after a boot waits for the drivers of the GPUs that it can see on the bus."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.hardware import detection
from supervisor.hardware.detection import LOOK_SECONDS, SOON_SECONDS, after_drivers, awaited
from supervisor.hardware.hardware import Gpu, Hardware, Node
from supervisor.progress import Silent

NODES = (Node("/dev/dri/renderD128", may_open=True),)
COMING = Gpu("amd", "AMD Radeon RX 9070", pci="0000:03:00.0")
THERE = replace(COMING, nodes=NODES)


def machine(*gpus: Gpu, environment: str = "") -> Hardware:
    return Hardware("linux", "x86_64", environment=environment, gpus=gpus)


class Boot:
    """A machine whose driver comes some seconds after its boot; pauses are what time passes by."""

    def __init__(self, up: float, comes: float) -> None:
        self.up, self.comes, self.looks = up, comes, 0

    def look(self) -> Hardware:
        self.looks += 1
        return machine(THERE if self.up >= self.comes else COMING)

    def pause(self, seconds: float) -> None:
        self.up += seconds

    def after_drivers(self) -> Hardware:
        return after_drivers(self.look, Silent(), lambda: self.up, self.pause)


def test_a_driver_that_comes_is_waited_for():
    boot = Boot(up=9.5, comes=20)
    assert boot.after_drivers() == machine(THERE)
    assert boot.up == 20.5


def test_one_that_does_not_come_is_given_up_some_time_after_the_boot():
    boot = Boot(up=100, comes=1e9)
    assert boot.after_drivers() == machine(COMING)
    assert SOON_SECONDS <= boot.up < SOON_SECONDS + LOOK_SECONDS


@pytest.mark.parametrize("up", [SOON_SECONDS, 1e6])
def test_long_after_the_boot_nothing_is_waited_for(up):
    boot = Boot(up, comes=1e9)
    assert boot.after_drivers() == machine(COMING)
    assert boot.looks == 1


def test_where_nobody_tells_of_the_boot_nothing_is_waited_for():
    assert after_drivers(lambda: machine(COMING), Silent(), lambda: None, pytest.fail) == machine(COMING)


@pytest.mark.parametrize(
    ("hardware", "is_awaited"),
    [
        (machine(COMING), True),
        (machine(THERE, COMING), True),
        (machine(THERE), False),
        (machine(), False),
        (machine(replace(COMING, vendor="unknown", name="ASPEED")), False),
        (machine(replace(COMING, pci="")), False),
        (machine(replace(COMING, driver="vfio-pci")), False),
        (machine(COMING, environment="container"), False),
        (replace(machine(COMING), os="windows"), False),
    ],
)
def test_awaited_is_a_gpu_on_the_bus_that_no_program_can_open(hardware, is_awaited):
    assert (awaited(hardware) is not None) == is_awaited


def test_where_the_system_does_not_tell_its_memory_psutil_is_asked(tmp_path, monkeypatch):
    """As on Windows where PowerShell is forbidden, or too slow; a recorded machine is never completed."""
    monkeypatch.setattr(detection, "_asked", lambda _: Hardware(os="windows", arch="x86_64"))
    found = detection.detect(tmp_path)
    assert 0 < found.available_bytes < found.ram_bytes
    assert detection.detect(tmp_path, object()).ram_bytes is None
