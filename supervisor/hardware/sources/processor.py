"""
Load, temperature, power and clock of the processor: on Linux from the kernel, elsewhere by psutil.

See proc_stat(5), and power/powercap/powercap.rst, admin-guide/pm/cpufreq.rst and
driver-api/thermal/sysfs-api.rst in the kernel's Documentation.  Since Linux 5.10 only root may read the
energy (CVE-2020-8694).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from ..machine import Machine
from ..sensors import CPU, CounterRates, DeviceReading, explained
from . import hwmon
from .tool_output import whole

_EXPECTED = ("load_percent", "temperature_c", "power_watts", "clock_mhz")
_LABELS = {"coretemp": ("Package id 0",), "k10temp": ("Tdie", "Tctl"), "zenpower": ("Tdie", "Tctl")}
_CHIPS = (*_LABELS, "cpu_thermal", "cpu-thermal")
_ZONES = ("x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc-thermal", "soc_thermal")
_ZONE_FOLDER = "/sys/class/thermal"
_POLICIES = "/sys/devices/system/cpu/cpufreq"
_RAPL = "/sys/class/powercap"
_TICKS = re.compile(r"^cpu +((?:\d+ *){8,})", re.ASCII)
_NOT_BUSY = (3, 4, 7)  # idle, iowait, steal
_COUNTED = 8  # what follows is part of user and nice


class LinuxProcessor:
    """Where its sensors are is found out once."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._rates = CounterRates()
        self._name = name_in(machine.read("/proc/cpuinfo") or "")
        self._chips = tuple(hwmon.named(machine, *_CHIPS))
        self._zones = () if self._chips else tuple(_zones(machine))
        self._policies = tuple(f"{_POLICIES}/{each}" for each in machine.names(_POLICIES))
        self._packages = tuple(_packages(machine))

    def read(self, now: float | None = None) -> DeviceReading:
        """Two readings make a load and a power; ``now`` is monotonic."""
        now = time.monotonic() if now is None else now
        watts = self._watts(now)
        limits = [whole(self._machine.read(f"{each}/constraint_0_power_limit_uw")) for each in self._packages]
        found = DeviceReading(
            CPU,
            self._name,
            load_percent=self._load(now),
            temperature_c=max((each for each in self._temperatures() if each is not None), default=None),
            power_watts=watts,
            power_limit_watts=round(sum(filter(None, limits)) / 1e6, 1) if any(limits) else None,
            clock_mhz=max(self._clocks(), default=None),
        )
        closed = self._packages and not any(map(self._energy, self._packages))
        note = "Only root may read the power (RAPL)." if closed else ""
        expected = [name for name in _EXPECTED if not (name == "power_watts" and closed)]
        return explained(found, "Linux", expected, note)

    def _load(self, now: float) -> float | None:
        """In percent of all processors."""
        busy, of = ticks_in(self._machine.read("/proc/stat") or "") or (None, None)
        return _percent(self._rates, busy, of, now)

    def _temperatures(self) -> Iterator[float | None]:
        for chip in self._chips:
            yield hwmon.celsius(self._machine, chip, *_LABELS.get(hwmon.name_of(self._machine, chip), ()))
        for zone in self._zones:
            yield hwmon.thousandths(self._machine.read(f"{zone}/temp"))

    def _clocks(self) -> Iterator[int]:
        """Of the fastest core."""
        for policy in self._policies:
            khz = whole(self._machine.read(f"{policy}/scaling_cur_freq"))
            if khz:
                yield khz // 1000

    def _energy(self, package: str) -> int | None:
        return whole(self._machine.read(f"{package}/energy_uj"))

    def _watts(self, now: float) -> float | None:
        """Of all sockets together; None where one of them does not tell, or its counter began anew."""
        each = [self._rates.per_second(name, self._energy(name), now) for name in self._packages]
        known = [rate for rate in each if rate is not None]
        return round(sum(known) / 1e6, 1) if known and len(known) == len(each) else None


def name_in(cpuinfo: str) -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def ticks_in(stat: str) -> tuple[int, int] | None:
    """Of /proc/stat: what all processors spent with work, and altogether, since the boot."""
    found = _TICKS.match(stat)
    if found is None:
        return None
    ticks = [int(each) for each in found[1].split()[:_COUNTED]]
    return sum(ticks) - sum(ticks[index] for index in _NOT_BUSY), sum(ticks)


def _zones(machine: Machine) -> Iterator[str]:
    for name in machine.names(_ZONE_FOLDER):
        if (machine.read(f"{_ZONE_FOLDER}/{name}/type") or "").strip() in _ZONES:
            yield f"{_ZONE_FOLDER}/{name}"


def _packages(machine: Machine) -> Iterator[str]:
    """RAPL's domains of whole sockets: intel-rapl:0, also of AMD's."""
    for name in machine.names(_RAPL):
        domain = (machine.read(f"{_RAPL}/{name}/name") or "").strip()
        if re.fullmatch(r"intel-rapl:\d+", name) and domain.startswith("package"):
            yield f"{_RAPL}/{name}"


class OtherProcessor:
    """Of macOS and Windows, by psutil: the load.  The rest they tell an administrator, or nobody."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._rates = CounterRates()

    def read(self, now: float | None = None) -> DeviceReading:
        import psutil  # noqa: PLC0415 - not needed on Linux

        now = time.monotonic() if now is None else now
        try:
            times = psutil.cpu_times()
        except (psutil.Error, OSError):
            load = None
        else:
            busy = times.user + times.system + getattr(times, "nice", 0.0)  # Windows has interrupts in system
            load = _percent(self._rates, busy, busy + times.idle, now)
        return explained(DeviceReading(CPU, load_percent=load), self._system, _EXPECTED)


def _percent(rates: CounterRates, busy: float | None, of: float | None, now: float) -> float | None:
    """Of two counters of times, how large the first is in relation to the second since the last reading."""
    spent, there = rates.per_second("busy", busy, now), rates.per_second("all", of, now)
    return None if spent is None or not there else round(min(spent / there, 1.0) * 100, 1)
