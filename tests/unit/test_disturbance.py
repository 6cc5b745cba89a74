"""What disturbed a run, from readings of machines that there are not; and that a calm machine is calm."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import pytest

from supervisor.hardware.sources.gpu_users import GpuUser
from supervisor.measure import disturbance
from supervisor.measure.disturbance import (
    DisturbanceWatcher,
    MachineReading,
    disturbances,
    gpu_seconds_slowed,
    gpu_slowed_now,
    limited_frequencies,
    limits,
    standing,
    times_throttled,
    waited_seconds,
)
from supervisor.measure.measurement import Sample
from supervisor.tool import ToolResult

from ..fakes.wine import ON_WINE

SAMPLE = Sample(1000.0, 50.0, 0.5, 3.0)
BEFORE = MachineReading(
    at=100.0,
    processors=8,
    busy=5000.0,
    stolen=10.0,
    ours={1: 50.0},
    others={7: ("firefox", 900.0)},
    swapped_bytes=1 << 30,
    waited_for_memory=2.0,
    throttled=4,
    slowed={"sw_thermal_slowdown": 1.0, "sw_power_cap": 50.0},
)
AFTER = replace(BEFORE, at=110.0, busy=5070.1, ours={1: 119.0, 2: 1.0})  # ours used all but 0.1 s


@dataclass
class FakeMachine:
    """Files and programs by their words."""

    files: dict[str, str] = field(default_factory=dict)
    programs: dict[str, ToolResult] = field(default_factory=dict)
    os: str = "linux"

    def read(self, path):
        return self.files.get(path)

    def names(self, path):
        inside = (PurePosixPath(file) for file in self.files)
        parts = {file.relative_to(path).parts[0] for file in inside if file.is_relative_to(path)}
        return tuple(sorted(parts))

    def run(self, *command):
        if command[0] != "nvidia-smi" or not self.programs:
            return None
        return self.programs.get(
            shlex.join(command), ToolResult(2, 'Field "x" is not a valid field to query.', "")
        )

    def target(self, path):
        return None


def smi(fields, *lines, code=0):
    command = f"nvidia-smi --query-gpu={fields} --format=csv,noheader,nounits"
    return {command: ToolResult(code, "\n".join(lines), "")}


COUNTERS = ",".join(
    f"clocks_event_reasons_counters.{name}"
    for name in ("sw_power_cap", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")
)


def test_a_calm_run_is_not_disturbed():
    assert disturbances(BEFORE, AFTER) == limits(BEFORE, AFTER) == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"busy": 5085.0}, "other programs used 1.5 of 8 processors"),
        (
            {"busy": 5085.0, "others": {7: ("firefox", 912.0), 9: ("cc1", 1.0)}},
            "other programs used 1.5 of 8 processors, most of it firefox",
        ),
        ({"busy": 5085.0, "others": {9: ("cc1", 9.0)}}, "other programs used 1.5 of 8 processors, most of it cc1"),
        ({"stolen": 26.0}, "the host took 20% of the processors for others"),
        ({"swapped_bytes": (1 << 30) + (12 << 20)}, "12 MiB were swapped"),
        ({"waited_for_memory": 4.5}, "all programs waited for memory for 25% of the time"),
        ({"throttled": 9}, "the processor was slowed down by its temperature"),
        ({"slowed": {"hw_thermal_slowdown": 3.0, "sw_thermal_slowdown": 4.0}}, "the GPU was slowed down by its temperature"),
        ({"slowed_now": frozenset({"hw_power_brake_slowdown"})}, "the GPU was slowed down by its power supply"),
    ],
)  # fmt: skip
def test_each_disturbance_is_said(change, said):
    assert disturbances(BEFORE, replace(AFTER, **change)) == (said,)


@pytest.mark.parametrize(
    "change",
    [
        {"busy": 5073.0},  # 0.3 of 8 processors
        {"swapped_bytes": (1 << 30) + (1 << 20)},
        {"waited_for_memory": 2.1},
        {"stolen": 10.5},
        {"throttled": 1, "busy": 3.0, "stolen": 0.0},  # counters that began anew
    ],
)
def test_little_is_no_disturbance(change):
    assert disturbances(BEFORE, replace(AFTER, **change)) == ()


def test_what_is_not_known_is_not_said():
    assert disturbances(MachineReading(at=1.0), MachineReading(at=2.0)) == ()
    assert (
        disturbances(BEFORE, MachineReading(at=110.0)) == disturbances(MachineReading(at=100.0), AFTER) == ()
    )


def test_the_power_limit_of_a_gpu_limits_and_does_not_disturb():
    after = replace(AFTER, slowed={"sw_thermal_slowdown": 1.0, "sw_power_cap": 55.0})
    assert disturbances(BEFORE, after) == ()
    assert limits(BEFORE, after) == ("the GPU was slowed down by its power limit",)


def test_intels_counts_of_heat_are_added_up_and_others_have_none():
    folder = "/sys/devices/system/cpu"
    counts = {"cpu0": (1, 5), "cpu11": (2, 5)}
    files = {
        f"{folder}/{cpu}/thermal_throttle/{kind}_throttle_count": f"{count}\n"
        for cpu, both in counts.items()
        for kind, count in zip(("core", "package"), both, strict=True)
    }
    assert (
        times_throttled(FakeMachine({**files, f"{folder}/cpufreq/x": "", f"{folder}/cpu1/online": "1"})) == 13
    )
    assert times_throttled(FakeMachine({f"{folder}/cpu0/online": "1"})) is None


def test_a_limit_of_the_frequency_is_said_once():
    folder = "/sys/devices/system/cpu/cpufreq"
    files = {f"{folder}/policy{n}/cpuinfo_max_freq": "4500000\n" for n in range(4)}
    assert list(limited_frequencies(FakeMachine(files))) == []
    full = {f"{folder}/policy{n}/scaling_max_freq": "4500000\n" for n in range(4)}
    assert list(limited_frequencies(FakeMachine(files | full))) == []
    less = {f"{folder}/policy{n}/scaling_max_freq": "1800000\n" for n in range(4)}
    assert list(limited_frequencies(FakeMachine(files | less))) == [
        "a setting keeps processors at 1.8 of 4.5 GHz"
    ]


def test_pressure_is_read_where_the_kernel_keeps_it():
    text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\n"
    assert waited_seconds(text) == 2.5
    assert waited_seconds(None) is waited_seconds("") is None


def test_gpus_that_count_are_added_up():
    machine = FakeMachine(programs=smi(COUNTERS, "91403239, 0, 0, [N/A]", "1000000, 2000000, 0, [N/A]"))
    found = gpu_seconds_slowed(machine)
    assert found == {"sw_power_cap": 92.403239, "sw_thermal_slowdown": 2.0, "hw_thermal_slowdown": 0.0}


@pytest.mark.parametrize("fields", ["clocks_event_reasons.active", "clocks_throttle_reasons.active"])
def test_of_older_drivers_the_mask_counts(fields):
    machine = FakeMachine(programs=smi(fields, "0x0000000000000004", "0x0000000000000060"))
    assert gpu_seconds_slowed(machine) == {}
    assert gpu_slowed_now(machine) == {"sw_power_cap", "sw_thermal_slowdown", "hw_thermal_slowdown"}


def test_no_nvidia_smi_and_one_that_fails_tell_nothing():
    for machine in (
        FakeMachine(),
        FakeMachine(programs=smi(COUNTERS, "Unable to talk to the driver", code=9)),
    ):
        assert gpu_seconds_slowed(machine) == {}
        assert gpu_slowed_now(machine) == frozenset()


def test_others_that_hold_a_gpus_memory_and_the_battery_are_said_once(monkeypatch):
    users = (
        GpuUser(1, "llama-server", 9 << 30),
        GpuUser(2, "firefox", 300 << 20),
        GpuUser(3, "Xorg", 9 << 20),
    )
    monkeypatch.setattr(disturbance, "gpu_users", lambda machine: users)
    battery = type("Battery", (), {"power_plugged": False})()
    monkeypatch.setattr(disturbance.psutil, "sensors_battery", lambda: battery, raising=False)
    assert standing(FakeMachine(), ours={1}) == (
        "the machine runs on battery",
        "firefox (pid 2) holds 300 MiB of a GPU's memory",
    )


class Scripted(DisturbanceWatcher):
    """Whose machine is that of these readings."""

    def __init__(self, *readings):
        super().__init__(machine=FakeMachine())
        self.readings = iter(readings)

    def _reading(self, *, is_end):
        return next(self.readings)


def test_the_sample_is_marked_and_limits_are_kept():
    hot = replace(AFTER, throttled=9, slowed={"sw_power_cap": 59.0})
    watcher = Scripted(BEFORE, hot, BEFORE, AFTER)
    marked = watcher.watched(lambda: replace(SAMPLE, disturbed=("a client asked",)))
    assert marked.disturbed == ("a client asked", "the processor was slowed down by its temperature")
    assert watcher.watched(lambda: SAMPLE) == SAMPLE
    assert watcher.limits == ("the GPU was slowed down by its power limit",)


BUSY = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


@pytest.mark.skipif(ON_WINE, reason="psutil.cpu_times fails there with WinError 1, Invalid function")
def test_what_we_start_ourselves_is_ours():
    """A child that computes is no other program; this machine may be busy with others."""
    watcher = DisturbanceWatcher()
    with subprocess.Popen([sys.executable, "-S", "-c", BUSY + "\ninput()"], stdin=subprocess.PIPE) as child:
        before = watcher._reading(is_end=False)
        child.stdin.write(b"\n")
        child.stdin.flush()
        while watcher._ours().get(child.pid, 0.0) < 0.25:
            assert child.poll() is None
        after = watcher._reading(is_end=True)
        assert after.ours[child.pid] - before.ours.get(child.pid, 0.0) >= 0.1
        assert child.pid not in watcher._programs()
        child.kill()
    assert after.busy > before.busy
