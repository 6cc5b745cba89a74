"""
What disturbed a run: other programs, swapping, heat.  And what limits the machine all the time.

Counters are read before and after a run and compared by `disturbances`, which is pure.  What a system does
not tell is None, and nothing is said about it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import psutil

from ..hardware.machine import Machine, ThisMachine
from ..hardware.sources.gpu_users import gpu_users
from ..hardware.sources.nvidia import query
from ..hardware.sources.tool_output import MIB, NVIDIA_SMI, whole
from .measurement import Sample

_CPUS = "/sys/devices/system/cpu"
_IDLE = ("idle", "iowait", "steal", "guest", "guest_nice")  # the last two are part of user and nice
_SWAPPED_BYTES = 4 * MIB
_WAITED_SHARE = 0.02
_STOLEN_SHARE = 0.02
_OTHERS_SHARE, _OTHERS_AT_MOST = 0.05, 0.5  # of all processors, and in processors: whichever is less
_LEAST_SECONDS = 0.05  # the clocks of processes tick in hundredths
_SLOWED_SHARE = 0.01
_GPU_USER_BYTES = 64 * MIB
_LIMITED_BELOW = 0.95
_WAITED = re.compile(r"^full .*\btotal=(\d+)", re.MULTILINE)

# By NVIDIA's name for them: the bit of the mask, in words, and whether it is heat or a fault.  The bits are
# those of nvmlClocksEventReasons; a power limit is a setting, and no disturbance.
_REASONS = {
    "sw_power_cap": (0x4, "its power limit", False),
    "sw_thermal_slowdown": (0x20, "its temperature", True),
    "hw_thermal_slowdown": (0x40, "its temperature", True),
    "hw_power_brake_slowdown": (0x80, "its power supply", True),
}
_COUNTERS = tuple(f"clocks_event_reasons_counters.{name}" for name in _REASONS)  # of newer drivers
_MASKS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # the second: before driver 535


@dataclass(frozen=True, slots=True)
class MachineReading:
    """
    Counters at one moment, most since the machine started.  Processor times are in seconds, of all
    processors together; ``ours`` and ``others`` are by process.
    """

    at: float
    processors: int = 1
    busy: float | None = None
    stolen: float | None = None  # by the host of a virtual machine, for other machines
    ours: Mapping[int, float] = field(default_factory=dict)
    others: Mapping[int, tuple[str, float]] = field(default_factory=dict)
    swapped_bytes: int | None = None
    waited_for_memory: float | None = None  # by all programs at once
    throttled: int | None = None  # times
    slowed: Mapping[str, float] = field(default_factory=dict)  # GPUs, seconds by NVIDIA's name of the reason
    slowed_now: frozenset[str] = frozenset()  # the same names, of drivers that do not count


def disturbances(before: MachineReading, after: MachineReading) -> tuple[str, ...]:
    """What may have made this run another one than it would have been.  Pure."""
    seconds = max(after.at - before.at, 1e-6)
    return tuple(
        said
        for said in (
            _of_others(before, after, seconds),
            _of_host(before, after, seconds),
            _of_swapping(before, after),
            _of_memory(before, after, seconds),
            _of_heat(before, after),
            *_of_gpus(before, after, seconds, is_disturbance=True),
        )
        if said
    )


def limits(before: MachineReading, after: MachineReading) -> tuple[str, ...]:
    """What held the machine back as it always does: the power limit of a GPU.  Pure."""
    return tuple(_of_gpus(before, after, after.at - before.at, is_disturbance=False))


def _of_others(before: MachineReading, after: MachineReading, seconds: float) -> str:
    busy = _grown(before.busy, after.busy)
    ours = sum(spent - before.ours.get(pid, 0.0) for pid, spent in after.ours.items())
    used = (busy - ours) / seconds if busy is not None else 0.0
    if used * seconds < _LEAST_SECONDS or used < min(_OTHERS_SHARE * after.processors, _OTHERS_AT_MOST):
        return ""
    known = {
        pid: (name, spent - before.others.get(pid, ("", 0.0))[1])
        for pid, (name, spent) in after.others.items()
    }
    name, most = max(known.values(), key=lambda each: each[1], default=("", 0.0))
    named = f", most of it {name}" if most > used * seconds / 2 else ""
    return f"other programs used {used:.1f} of {after.processors} processors{named}"


def _of_host(before: MachineReading, after: MachineReading, seconds: float) -> str:
    share = (_grown(before.stolen, after.stolen) or 0.0) / seconds / after.processors
    return f"the host took {share:.0%} of the processors for others" if share > _STOLEN_SHARE else ""


def _of_swapping(before: MachineReading, after: MachineReading) -> str:
    moved = _grown(before.swapped_bytes, after.swapped_bytes) or 0
    return f"{moved / MIB:,.0f} MiB were swapped" if moved >= _SWAPPED_BYTES else ""


def _of_memory(before: MachineReading, after: MachineReading, seconds: float) -> str:
    share = (_grown(before.waited_for_memory, after.waited_for_memory) or 0.0) / seconds
    return f"all programs waited for memory for {share:.0%} of the time" if share > _WAITED_SHARE else ""


def _of_heat(before: MachineReading, after: MachineReading) -> str:
    times = _grown(before.throttled, after.throttled) or 0
    return "the processor was slowed down by its temperature" if times else ""


def _of_gpus(
    before: MachineReading, after: MachineReading, seconds: float, *, is_disturbance: bool
) -> Iterator[str]:
    slowed = {
        name
        for name, spent in after.slowed.items()
        if spent - before.slowed.get(name, spent) > _SLOWED_SHARE * seconds
    }
    names = slowed | after.slowed_now
    kinds = (_REASONS[name][1:] for name in _REASONS if name in names)
    for why in dict.fromkeys(why for why, disturbs in kinds if disturbs is is_disturbance):
        yield f"the GPU was slowed down by {why}"


def _grown(before: float | None, after: float | None) -> float | None:
    """A counter that went back has started anew, and says nothing."""
    return None if before is None or after is None or after < before else after - before


# The machine


class DisturbanceWatcher:
    """
    Around each run of a measurement.

    ``roots`` are the processes that are ours with all that they started: the daemon's, for one.  The process
    that measures is in any case.  ``limits`` has what held the machine back in any of the runs so far.
    """

    def __init__(self, roots: Iterable[int] = (), machine: Machine | None = None) -> None:
        self._machine = machine or ThisMachine()
        self._roots = (os.getpid(), *roots)
        self.limits: tuple[str, ...] = ()

    def watched(self, run: Callable[[], Sample]) -> Sample:
        """The sample, marked with what disturbed it."""
        programs = self._programs()
        before = replace(self._reading(is_end=False), others=programs)
        sample = run()
        after = self._reading(is_end=True)
        after = replace(after, others=self._programs())
        self.limits = tuple(dict.fromkeys((*self.limits, *limits(before, after))))
        return replace(sample, disturbed=(*sample.disturbed, *disturbances(before, after)))

    def _reading(self, *, is_end: bool) -> MachineReading:
        """What takes a while is read before the first moment, and after the last one."""
        slowed = ({}, frozenset[str]()) if is_end else self._slowed(is_end=False)
        at, busy, stolen = time.monotonic(), *_processor_times()
        ours = self._ours()
        if is_end:
            slowed = self._slowed(is_end=True)
        return MachineReading(
            at=at,
            processors=psutil.cpu_count() or 1,
            busy=busy,
            stolen=stolen,
            ours=ours,
            swapped_bytes=_swapped_bytes(),
            waited_for_memory=waited_seconds(self._machine.read("/proc/pressure/memory")),
            throttled=times_throttled(self._machine),
            slowed=slowed[0],
            slowed_now=slowed[1],
        )

    def _ours(self) -> dict[int, float]:
        found = {}
        for root in self._roots:
            with suppress(psutil.Error):
                process = psutil.Process(root)
                for each in (process, *process.children(recursive=True)):
                    with suppress(psutil.Error):
                        times = each.cpu_times()
                        found[each.pid] = times.user + times.system
        return found

    def _programs(self) -> dict[int, tuple[str, float]]:
        """The others, for their names."""
        ours = self._ours()
        return {
            each.pid: (each.info["name"] or "?", each.info["cpu_times"].user + each.info["cpu_times"].system)
            for each in psutil.process_iter(["name", "cpu_times"])
            if each.pid not in ours and each.info["cpu_times"]
        }

    def _slowed(self, *, is_end: bool) -> tuple[dict[str, float], frozenset[str]]:
        """By counters; else, at the end, by what holds GPUs back at this moment."""
        if counted := gpu_seconds_slowed(self._machine):
            return counted, frozenset()
        return {}, gpu_slowed_now(self._machine) if is_end else frozenset()


def standing(machine: Machine, ours: Collection[int] = ()) -> tuple[str, ...]:
    """
    What limits all runs alike, and is to be said once.  ``ours`` are the pids of our servers and daemon,
    which may hold memory of GPUs.
    """
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return (
        *(["the machine runs on battery"] if battery and battery.power_plugged is False else []),
        *limited_frequencies(machine),
        *(
            f"{user.name} (pid {user.pid}) holds {user.memory_bytes / MIB:,.0f} MiB of a GPU's memory"
            for user in gpu_users(machine)
            if user.pid not in ours and user.memory_bytes >= _GPU_USER_BYTES
        ),
    )


def _processor_times() -> tuple[float, float | None]:
    """Busy with anything, and stolen; a virtual machine on Linux knows the latter."""
    times = psutil.cpu_times()._asdict()
    return sum(spent for kind, spent in times.items() if kind not in _IDLE), times.get("steal")


def _swapped_bytes() -> int | None:
    """In and out, on Linux and macOS; on Windows psutil counts none."""
    with suppress(psutil.Error, OSError, RuntimeError):
        swap = psutil.swap_memory()
        return int(swap.sin + swap.sout)
    return None


def waited_seconds(pressure: str | None) -> float | None:
    """From /proc/pressure/memory: the time in which all tasks that were not idle waited for memory."""
    found = _WAITED.search(pressure or "")
    return int(found[1]) / 1e6 if found else None


def times_throttled(machine: Machine) -> int | None:
    """
    By heat, of all processors of Intel; others do not count it.  See thermal_throttle in the kernel's
    Documentation/ABI/testing/sysfs-devices-system-cpu.
    """
    found = [
        times
        for cpu in machine.names(_CPUS)
        if re.fullmatch(r"cpu\d+", cpu)
        for kind in ("core", "package")
        if (times := whole(machine.read(f"{_CPUS}/{cpu}/thermal_throttle/{kind}_throttle_count"))) is not None
    ]
    return sum(found) if found else None


def limited_frequencies(machine: Machine) -> Iterator[str]:
    """Where a setting keeps processors below what they can do (Documentation/admin-guide/pm/cpufreq.rst)."""
    for policy in machine.names(f"{_CPUS}/cpufreq"):
        folder = f"{_CPUS}/cpufreq/{policy}"
        allowed, most = (
            whole(machine.read(f"{folder}/{name}")) for name in ("scaling_max_freq", "cpuinfo_max_freq")
        )
        if allowed and most and allowed < _LIMITED_BELOW * most:
            yield f"a setting keeps processors at {allowed / 1e6:.1f} of {most / 1e6:.1f} GHz"
            return


def gpu_seconds_slowed(machine: Machine) -> dict[str, float]:
    """Of all NVIDIA GPUs together; empty where the driver does not count."""
    rows = [[whole(cell) for cell in row] for row in _smi_rows(machine, _COUNTERS)]
    known = [row for row in rows if len(row) == len(_COUNTERS)]
    columns = zip(_REASONS, zip(*known, strict=True), strict=True) if known else ()
    return {
        name: sum(cell for cell in cells if cell is not None) / 1e6
        for name, cells in columns
        if any(cell is not None for cell in cells)
    }


def gpu_slowed_now(machine: Machine) -> frozenset[str]:
    for name in _MASKS:
        masks = [whole(row[0]) for row in _smi_rows(machine, (name,))]
        if any(mask is not None for mask in masks):
            return frozenset(
                reason for reason, (bit, *_) in _REASONS.items() if any((mask or 0) & bit for mask in masks)
            )
    return frozenset()


def _smi_rows(machine: Machine, fields: Sequence[str]) -> list[list[str]]:
    """Empty where there is no such program, or it does not know a field."""
    outcomes = (machine.run(*query(program, fields)) for program in NVIDIA_SMI)
    outcome = next((each for each in outcomes if each is not None), None)
    if outcome is None or outcome.returncode != 0:
        return []
    return [[cell.strip() for cell in line.split(",")] for line in outcome.stdout.splitlines()]
