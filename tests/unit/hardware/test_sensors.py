"""Load, temperature, power and memory of each device, from recorded files, a library made up, and ioreg's words."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import closing, suppress
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.hardware.detection import sensors_of
from supervisor.hardware.sensors import ASLEEP, LONGEST_SECONDS, CounterRates, DeviceReading
from supervisor.hardware.sources import linux_system, nvml, pci, windows_cim
from supervisor.hardware.sources.apple import IOREG, AppleSensors
from supervisor.hardware.sources.linux_system import LinuxSensors
from supervisor.hardware.sources.nvml_sensors import NvmlSensors, reading_in
from supervisor.hardware.sources.processor import LinuxProcessor, ticks_in
from supervisor.tool import ToolResult

from ...fakes.launching import BOUND_SECONDS
from .recorded import Recorded, boxes, load

GIB = 1024**3
MIB = 1024**2


def with_files(box, folder, files):
    """This box with these files below ``folder`` too."""
    more = {f"{folder}/{name}": f"{text}\n" for name, text in files.items()}
    return Recorded(box.os, {**box.files, **more}, box.links, box.tools, box.openable, box.closed)


def of(readings, pci):
    return next(each for each in readings if each.pci == pci)


# --- the processor

# Of this project's own machine (8 figures, then two that are part of the others), and one second later.
STAT = "cpu  3998701 2924404 984190 2711663 39389 0 26813 61586 0 0\ncpu0 1 2 3\n"
LATER = "cpu  3998751 2924404 984200 2711763 39399 0 26813 61616 0 0\n"
HWMON = {
    "hwmon0/name": "nvme",
    "hwmon0/temp1_input": "80000",
    "hwmon3/name": "k10temp",
    "hwmon3/temp1_label": "Tctl",
    "hwmon3/temp1_input": "65125",
    "hwmon3/temp3_label": "Tccd1",
    "hwmon3/temp3_input": "90000",
}
CLOCKS = {"policy0/scaling_cur_freq": "3305785", "policy4/scaling_cur_freq": "5157895"}


def processor(**folders):
    files = {"/proc/stat": STAT, "/proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD  Ryzen 7\n"}
    box = Recorded("linux", files)
    for folder, of_folder in folders.items():
        box = with_files(box, "/sys/" + folder.replace("__", "/"), of_folder)
    return box


def test_the_load_is_what_the_processors_did_between_two_readings():
    box = processor()
    chip = LinuxProcessor(box)
    first = chip.read(10.0)
    assert (first.device, first.name, first.load_percent) == ("CPU", "AMD Ryzen 7", None)
    box.files["/proc/stat"] = LATER  # 60 of 200 ticks busy: neither idle, nor for a disk, nor stolen
    assert chip.read(11.0).load_percent == 30.0


def test_temperature_is_of_the_processor_and_clock_of_its_fastest_core():
    found = LinuxProcessor(processor(class__hwmon=HWMON, devices__system__cpu__cpufreq=CLOCKS)).read()
    assert (found.temperature_c, found.clock_mhz) == (65.1, 5157)
    assert found.why == "Linux does not report: load, power."


def test_a_board_without_hwmon_tells_its_temperature_by_a_thermal_zone():
    zones = {
        "thermal_zone0/type": "acpitz",
        "thermal_zone0/temp": "27800",
        "thermal_zone1/type": "cpu-thermal",
    }
    found = LinuxProcessor(processor(class__thermal={**zones, "thermal_zone1/temp": "51540"})).read()
    assert found.temperature_c == 51.5


RAPL = {
    "intel-rapl:0/name": "package-0",
    "intel-rapl:0/energy_uj": "1000000",
    "intel-rapl:0/constraint_0_power_limit_uw": "125000000",
    "intel-rapl:0:0/name": "core",
    "intel-rapl:0:0/energy_uj": "5",
    "intel-rapl:1/name": "psys",
}


def test_power_is_energy_in_time_where_it_may_be_read():
    box = processor(class__powercap=RAPL)
    chip = LinuxProcessor(box)
    first = chip.read(10.0)
    assert (first.power_watts, first.power_limit_watts) == (None, 125.0)
    box.files["/sys/class/powercap/intel-rapl:0/energy_uj"] = "91000000\n"
    assert chip.read(12.0).power_watts == 45.0


def test_energy_that_only_root_may_read_is_named_and_not_missed():
    closed = {name: text for name, text in RAPL.items() if not name.endswith("energy_uj")}
    found = LinuxProcessor(processor(class__powercap=closed)).read()
    assert found.power_watts is None
    assert (
        found.why == "Linux does not report: load, temperature, clock. Only root may read the power (RAPL)."
    )


def test_a_rate_needs_two_readings_that_are_not_far_apart():
    rates = CounterRates()
    assert rates.per_second("energy", 10.0, 0.0) is None
    assert rates.per_second("energy", 30.0, 2.0) == 10.0
    assert rates.per_second("energy", 5.0, 3.0) is None, "it began anew"
    assert rates.per_second("energy", 6.0, 4.0) == 1.0
    assert rates.per_second("energy", None, 5.0) is None
    assert rates.per_second("energy", 7.0, 6.0) is None
    assert rates.per_second("energy", 8.0, 6.0 + LONGEST_SECONDS + 1) is None


# --- AMD and Intel

CARD = "/sys/devices/pci0000:00/0000:00:01.1/0000:01:00.0/0000:02:00.0/0000:03:00.0"
RX_9070 = {
    "gpu_busy_percent": "97",
    "hwmon/hwmon4/name": "amdgpu",
    "hwmon/hwmon4/temp1_label": "edge",
    "hwmon/hwmon4/temp1_input": "58000",
    "hwmon/hwmon4/temp2_label": "junction",
    "hwmon/hwmon4/temp2_input": "79000",
    "hwmon/hwmon4/power1_average": "211000000",
    "hwmon/hwmon4/power1_cap": "245000000",
    "hwmon/hwmon4/pwm1": "102",
    "hwmon/hwmon4/freq1_input": "2890000000",
}


def test_a_radeon_tells_everything():
    box = with_files(load("ryzen-9700x-rx9070"), CARD, RX_9070)
    assert of(LinuxSensors(box).read(), "0000:03:00.0") == DeviceReading(
        "",
        "AMD Radeon RX 9070",
        "0000:03:00.0",
        load_percent=97,
        temperature_c=58.0,
        power_watts=211.0,
        power_limit_watts=245.0,
        memory_used_bytes=1208754176,
        memory_total_bytes=17095983104,
        fan_percent=40.0,
        clock_mhz=2890,
    )


def test_graphics_in_the_processor_count_what_they_borrow_and_name_whose_power_it_is():
    apu = {"hwmon/hwmon4/name": "amdgpu", "hwmon/hwmon4/power1_input": "54000000", "gpu_busy_percent": "3"}
    box = with_files(load("hx370-96gb"), "/sys/devices/pci0000:00/0000:00:08.1/0000:c5:00.0", apu)
    found = of(LinuxSensors(box).read(), "0000:c5:00.0")
    assert (found.memory_total_bytes, found.memory_used_bytes) == (
        8589934592 + 46759704576,
        402653184 + 92274688,
    )
    assert (found.power_watts, found.power_limit_watts, found.fan_percent) == (54.0, None, None)
    assert found.why == "amdgpu does not report: temperature, clock. The power is that of the whole chip."


def test_a_card_that_sleeps_is_not_woken():
    asleep = with_files(load("ryzen-9700x-rx9070"), CARD, {**RX_9070, "power/runtime_status": "suspended"})
    found = of(LinuxSensors(asleep).read(), "0000:03:00.0")
    assert (found.why, found.load_percent, found.power_watts) == (ASLEEP, None, None)
    assert found.memory_total_bytes == 17095983104


ARC = "/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:03:00.0"
B580 = {
    "hwmon/hwmon2/name": "xe",
    "hwmon/hwmon2/energy1_input": "500000000",
    "hwmon/hwmon2/power1_max": "190000000",
    "hwmon/hwmon2/temp2_label": "pkg",
    "hwmon/hwmon2/temp2_input": "52000",
    "hwmon/hwmon2/temp3_label": "vram",
    "hwmon/hwmon2/temp3_input": "60000",
    "tile0/gt0/freq0/act_freq": "2850",
}


def test_an_arc_tells_power_temperature_and_clock_and_says_what_it_does_not():
    box = with_files(load("arc-b580-uhd770"), ARC, B580)
    box = with_files(box, "/sys/devices/pci0000:00/0000:00:02.0", {"drm/card0/gt/gt0/rps_act_freq_mhz": "0"})
    sensors = LinuxSensors(box)
    assert of(sensors.read(10.0), "0000:03:00.0").power_watts is None
    box.files[f"{ARC}/hwmon/hwmon2/energy1_input"] = "1250000000\n"
    card, graphics = (of(sensors.read(15.0), pci) for pci in ("0000:03:00.0", "0000:00:02.0"))
    assert (card.power_watts, card.power_limit_watts, card.temperature_c) == (150.0, 190.0, 52.0)
    assert (card.clock_mhz, card.memory_total_bytes) == (2850, 12 * GIB)
    assert card.why == "xe does not report: load, memory in use."
    assert graphics.clock_mhz == 0, "it rests"
    assert graphics.why == "i915 does not report: load, temperature, power, memory in use."


# --- NVIDIA

RTX = (
    "00000000:01:00.0, 45, 61, 148321, 165000, 9663676416, 17175674880, 38, 2535, NVIDIA GeForce RTX 4060 Ti"
)
RTX_READING = DeviceReading(
    "",
    "NVIDIA GeForce RTX 4060 Ti",
    "0000:01:00.0",
    load_percent=45,
    temperature_c=61,
    power_watts=148.3,
    power_limit_watts=165.0,
    memory_used_bytes=9 * GIB,
    memory_total_bytes=17175674880,
    fan_percent=38,
    clock_mhz=2535,
)
GB10 = "00000000:0F:00.0, 0, 40, 11000, [N/A], [N/A], [N/A], [N/A], 208, NVIDIA GB10"


def test_a_line_of_nvml_is_a_reading_and_what_is_missing_is_said():
    assert reading_in(RTX) == RTX_READING
    found = reading_in(GB10)
    assert (found.pci, found.load_percent, found.memory_total_bytes) == ("0000:0f:00.0", 0, None)
    assert found.why == "NVIDIA's driver does not report: memory in use."


class Library:
    """NVML with one card: a function for each call, as ctypes gives them."""

    def __init__(self, **refused):
        self.refused = refused

    def __getattr__(self, call):
        if self.refused.get(call) == "missing":
            raise AttributeError(call)
        answers = {
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPowerUsage": 148321,
            "nvmlDeviceGetEnforcedPowerLimit": 165000,
            "nvmlDeviceGetFanSpeed": 38,
            "nvmlDeviceGetClockInfo": 2535,
            "nvmlDeviceGetCount_v2": 1,
            "nvmlDeviceGetHandleByIndex_v2": 7,
        }

        def function(*arguments):
            if call in self.refused:
                return self.refused[call]
            if call == "nvmlDeviceGetName":
                arguments[1].value = b"NVIDIA GeForce RTX 4060 Ti"
                return 0
            to = arguments[-1]._obj
            if call == "nvmlDeviceGetPciInfo_v3":
                to.busId = b"00000000:01:00.0"
            elif call == "nvmlDeviceGetMemoryInfo":
                to.total, to.free = 17175674880, 17175674880 - 9 * GIB
            elif call == "nvmlDeviceGetUtilizationRates":
                to.gpu, to.memory = 45, 12
            else:
                to.value = answers[call]
            return 0

        return function


NOT_SUPPORTED = 3


def test_the_program_asks_nvml_what_its_line_has():
    assert list(nvml.sensors(Library())) == [RTX]


def test_what_a_card_or_an_old_library_does_not_have_is_not_known():
    refused = dict.fromkeys(
        ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetFanSpeed", "nvmlDeviceGetUtilizationRates"), NOT_SUPPORTED
    )
    (line,) = nvml.sensors(Library(**refused, nvmlDeviceGetEnforcedPowerLimit="missing"))
    assert line == (
        "00000000:01:00.0, [N/A], 61, 148321, [N/A], [N/A], [N/A], [N/A], 2535, NVIDIA GeForce RTX 4060 Ti"
    )


patient = partial(NvmlSensors, answer_seconds=BOUND_SECONDS, begin_seconds=BOUND_SECONDS)


def program(text):
    return (sys.executable, "-I", "-S", "-c", text)


ANSWERS = f"import sys\nfor line in sys.stdin: print({RTX!r} + chr(10), flush=True)"


def test_the_program_of_nvidia_answers_as_often_as_it_is_asked_and_ends_with_its_input():
    sensors = patient(program(ANSWERS))
    try:
        assert [sensors.read(), sensors.read()] == [(RTX_READING,)] * 2
        child = sensors._child
    finally:
        sensors.close()
    assert child.wait(BOUND_SECONDS) == 0
    assert (sensors.why, sensors.read()) == ("", (RTX_READING,)), "it is begun again"
    sensors.close()


def test_the_first_answer_may_take_longer():
    begins = f"import sys\nsys.stdin.readline(); print({RTX!r} + chr(10), flush=True)\nsys.stdin.read()"
    sensors = NvmlSensors(program(begins), answer_seconds=0.0, begin_seconds=BOUND_SECONDS)
    assert sensors.read() == (RTX_READING,)
    assert (sensors.read(), sensors.why) == ((), "NVIDIA's driver does not answer.")


def test_a_driver_that_does_not_answer_is_given_up_and_its_program_killed():
    sensors = NvmlSensors(program("import time; time.sleep(3600)"), answer_seconds=0.01)
    child = sensors._child = sensors._begin()
    assert sensors.read() == ()
    assert child.wait(BOUND_SECONDS) != 0
    assert sensors.why == "NVIDIA's driver does not answer."
    assert (sensors.read(), sensors._child) == ((), None), "nor is it asked again at once"


def test_no_second_program_is_begun_while_the_first_cannot_be_killed():
    class Stuck:
        ended = None

        def poll(self):
            return self.ended

    sensors = patient(program(ANSWERS))
    stuck = sensors._stuck = Stuck()
    assert (sensors.read(), sensors._child) == ((), None)
    stuck.ended = -9
    with closing(sensors):
        assert sensors.read() == (RTX_READING,)


def test_the_words_of_a_program_that_ended_before_it_was_asked_count():
    sensors = patient(program("print('Insufficient Permissions')"))
    child = sensors._child = sensors._begin()
    assert child.wait(BOUND_SECONDS) == 0
    assert (sensors.read(), sensors.why) == ((), "NVML: Insufficient Permissions.")


def test_nvidias_own_words_say_why_it_cannot_be_read():
    ends = program("print('Driver/library version mismatch')")
    sensors = patient(ends)
    assert sensors.read() == ()
    assert sensors.why == "NVML: Driver/library version mismatch."


LIBRARY = """\
#include <string.h>
typedef struct {char legacy[16]; unsigned d, b, s, id, sub; char bus[32];} pci_t;
typedef struct {unsigned long long total, free, used;} memory_t;
const char *nvmlErrorString(int code) {return "Driver/library version mismatch";}
int nvmlInit_v2(void) {return getenv("NVML_IS_BROKEN") ? 18 : 0;}
int nvmlDeviceGetCount_v2(unsigned *n) {*n = 1; return 0;}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) {*h = (void *)0x123456789a; return 0;}
static int is(void *h) {return h == (void *)0x123456789a ? 0 : 2;}
int nvmlDeviceGetName(void *h, char *s, unsigned n) {strncpy(s, "NVIDIA GeForce RTX 4060 Ti", n); return is(h);}
int nvmlDeviceGetPciInfo_v3(void *h, pci_t *p) {strcpy(p->bus, "00000000:01:00.0"); return is(h);}
int nvmlDeviceGetMemoryInfo(void *h, memory_t *m)
    {m->total = 17175674880ull; m->free = m->total - 9663676416ull; return is(h);}
int nvmlDeviceGetUtilizationRates(void *h, unsigned *u) {u[0] = 45; u[1] = 12; return is(h);}
int nvmlDeviceGetTemperature(void *h, int of, unsigned *v) {*v = 61; return is(h);}
int nvmlDeviceGetPowerUsage(void *h, unsigned *v) {*v = 148321; return is(h);}
int nvmlDeviceGetEnforcedPowerLimit(void *h, unsigned *v) {*v = 165000; return is(h);}
int nvmlDeviceGetFanSpeed(void *h, unsigned *v) {*v = 38; return is(h);}
int nvmlDeviceGetClockInfo(void *h, int of, unsigned *v) {*v = 2535; return is(h);}
"""


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs a C compiler")
def test_the_real_program_reads_a_real_library(tmp_path, monkeypatch):
    """With the prototypes of nvml.h; where a handle is cut to 32 bits, nothing is right."""
    (tmp_path / "nvml.c").write_text("char *getenv(const char *);\n" + LIBRARY)
    words = ["cc", "-shared", "-fPIC", "-w", "-o", "libnvidia-ml.so.1", "nvml.c"]
    subprocess.run(words, cwd=tmp_path, check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with closing(patient()) as sensors:
        assert sensors.read() == (RTX_READING,), sensors.why
    monkeypatch.setenv("NVML_IS_BROKEN", "1")
    broken = patient()
    assert (broken.read(), broken.why) == ((), "NVML: Driver/library version mismatch.")


class Card:
    """In place of the program."""

    def __init__(self, *readings, why=""):
        self.readings, self.why = readings, why
        self.is_closed = False

    def read(self):
        return self.readings

    def close(self):
        self.is_closed = True


def test_a_card_of_nvidia_is_in_its_place_on_the_bus():
    box = load("hx370-96gb-4060ti")
    box = Recorded(box.os, {**box.files, "/dev/nvidiactl": ""}, box.links, box.tools)
    address = "0000:01:00.0"
    reading = DeviceReading("", "RTX", address, load_percent=1)
    sensors = LinuxSensors(box, Card(reading))
    assert [each.pci for each in sensors.read()] == ["", address, "0000:c5:00.0"]
    assert of(sensors.read(), address) is reading
    broken = LinuxSensors(box, Card(why="NVML: broken."))
    assert of(broken.read(), address).why == "NVML: broken."
    sensors.close()
    assert sensors._nvml.is_closed


def test_a_card_with_another_driver_says_that_nobody_reads_it():
    box = load("hx370-96gb-4060ti")
    links = {path: to.replace("drivers/nvidia", "drivers/nouveau") for path, to in box.links.items()}
    found = of(LinuxSensors(Recorded(box.os, box.files, links)).read(), "0000:01:00.0")
    assert found.why == "With the driver nouveau it cannot be read."


# --- Apple

BUSY = """\
+-o AGXAcceleratorG16S  <class AGXAcceleratorG16S, id 0x1000004a3, registered, matched, active, busy 0 (0 ms)>
    {
      "IOClass" = "AGXAcceleratorG16S"
      "model" = "Apple M4 Max"
      "PerformanceStatistics" = {"In use system memory (driver)"=0,"Alloc system memory"=33285996544,\
"Tiler Utilization %"=12,"recoveryCount"=1,"Renderer Utilization %"=85,"Device Utilization %"=87,\
"In use system memory"=19327352832}
      "gpu-core-count" = 40
    }

"""


def test_the_gpu_of_a_mac_tells_its_load_and_memory():
    box = Recorded("macos", tools={" ".join(IOREG): ToolResult(0, BUSY, "")})
    sensors = AppleSensors(box)
    processor, gpu = sensors.read(0.0)
    assert processor.device == "CPU"
    assert (gpu.name, gpu.load_percent, gpu.memory_used_bytes) == ("Apple M4 Max", 87, 19327352832)
    assert gpu.why == "macOS does not report: temperature, power, clock."


def test_ioreg_is_a_program_and_runs_rarely():
    asked = []

    class Counted(Recorded):
        def run(self, *command):
            asked.append(command)
            return super().run(*command)

    sensors = AppleSensors(Counted("macos", tools={" ".join(IOREG): ToolResult(0, BUSY, "")}))
    for now in (0.0, 5.0, 29.0, 30.0):
        assert sensors.read(now)[1].load_percent == 87
    assert asked == [IOREG] * 2


# --- all of them


@pytest.mark.parametrize("name", boxes())
def test_every_recorded_computer_can_be_read_and_says_why_not(name, monkeypatch):
    for source in (linux_system, windows_cim):
        monkeypatch.setattr(source, "NvmlSensors", partial(Card, why="NVML: not here."))
    box = load(name)
    first, *gpus = sensors_of(box).read()
    assert first.device == "CPU"
    for each in gpus:
        assert not each.device
        assert each.load_percent is not None or each.why
    if box.os == "linux":
        on_the_bus = {gpu.pci for gpu in pci.gpus(box).gpus}
        assert {each.pci for each in gpus if each.pci} >= on_the_bus


@given(st.text(max_size=60))
def test_garbled_files_are_no_readings_and_raise_nothing(text):
    ticks_in(text)
    files = {f"/sys/class/hwmon/hwmon0/{name}": text for name in ("name", "temp1_input")}
    box = Recorded("linux", {"/proc/stat": text, "/proc/cpuinfo": text, **files})
    found = LinuxProcessor(with_files(box, "/sys/class/powercap/intel-rapl:0", {**RAPL, "energy_uj": text}))
    assert found.read().device == "CPU"
    with suppress(ValueError):
        assert reading_in(text).device == ""


def test_this_computer_can_be_read():
    with closing(sensors_of()) as sensors:
        assert sensors.read()[0].device == "CPU"
