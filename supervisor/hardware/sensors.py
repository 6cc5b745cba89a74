"""
What each device does at this moment: load, temperature, power, memory.  One contract for all sources.

`detection.sensors_of` has the sources of this system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

CPU, RAM = "CPU", "RAM"
LONGEST_SECONDS = 120.0
"""Between two readings of a counter that say what is now."""
OF_GPUS = ("load_percent", "temperature_c", "power_watts", "memory_used_bytes", "clock_mhz")
ASLEEP = "It sleeps, and to read its sensors would wake it."
_WORDS = {
    "load_percent": "load",
    "temperature_c": "temperature",
    "power_watts": "power",
    "power_limit_watts": "power limit",
    "memory_used_bytes": "memory in use",
    "memory_total_bytes": "memory",
    "fan_percent": "fan",
    "clock_mhz": "clock",
}


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """
    One device at one moment.  None is not known, and ``why`` says what and for which reason.

    ``device`` is RAM, CPU, or "" for a GPU, which has a name only in a plan; ``pci`` is a GPU's address, as
    in `Gpu`.  The memory of an integrated GPU includes what it may borrow of the RAM.
    """

    device: str
    name: str = ""
    pci: str = ""
    load_percent: float | None = None
    temperature_c: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    fan_percent: float | None = None
    clock_mhz: int | None = None
    why: str = ""


class Sensors(Protocol):
    """Of one computer.  Used by one thread at a time, and not by the event loop's: a driver may hang."""

    def read(self) -> Sequence[DeviceReading]:
        """The CPU first, then each GPU.  Never raises."""

    def close(self) -> None:
        """Give back what `read` keeps open; the next one opens it again."""


class CounterRates:
    """What counters grow by in a second, from one reading to the next."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def per_second(self, counter: str, value: float | None, now: float) -> float | None:
        """None at the first reading of a counter, after a long time without one, and where it began anew."""
        before = self._last.pop(counter, None)
        if value is None:
            return None
        self._last[counter] = (now, value)
        if before is None or not 0 < now - before[0] <= LONGEST_SECONDS or value < before[1]:
            return None
        return (value - before[1]) / (now - before[0])


def explained(reading: DeviceReading, who: str, expected: Sequence[str], *notes: str) -> DeviceReading:
    """With what is missing of the ``expected`` fields, which ``who`` does not tell, and the notes."""
    missing = [_WORDS[name] for name in expected if getattr(reading, name) is None]
    said = [f"{who} does not report: {', '.join(missing)}."] if missing else []
    return replace(reading, why=" ".join([*said, *filter(None, notes)]))
