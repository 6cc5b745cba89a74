"""
What the devices of this computer do, over the last hour: sampled only while somebody looks.

A sample is taken beside the event loop, and never two at a time: a driver that hangs holds up nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from ..hardware.sensors import DeviceReading, Sensors
from ..plan.launch import LaunchPlan
from .background import beside_the_loop
from .gpu_memory import names_of
from .memory_sample import SampleSource, source_here
from .memory_warnings import RAM

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
MOST_SAMPLES = 720  # an hour
FRESH_SECONDS = 10.0
ANSWER_SECONDS = 2.0  # nobody waits longer for a driver
IDLE_SECONDS = 60.0  # without a look: then nothing is kept open
OLD_SECONDS = 30.0  # what is older says nothing of now

OnSample = Callable[[dict[str, Any]], object]
DevicesByName = Mapping[str, DeviceReading]
_FIELDS = tuple(field.name for field in fields(DeviceReading))


@dataclass(frozen=True, slots=True)
class HardwareSample:
    """``at`` is in seconds since 1970; the RAM comes first, then the CPU, then the GPUs."""

    at: float
    devices: tuple[DeviceReading, ...]


class HardwareWatch:
    """
    ``plans`` are those whose names of GPUs count, the first one most.  The event loop's thread calls all
    methods.
    """

    def __init__(
        self,
        plans: Callable[[], Iterable[LaunchPlan]] = tuple,
        *,
        sensors: Callable[[], Sensors] | None = None,
        ram: SampleSource | None = None,
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self.last: HardwareSample | None = None
        self._plans = plans
        self._make = sensors or _sensors_here
        self._ram = ram or source_here()
        self._every_seconds = every_seconds
        self._sensors: Sensors | None = None
        self._samples: deque[HardwareSample] = deque(maxlen=MOST_SAMPLES)
        self._subscribers: list[OnSample] = []
        self._sampling: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[HardwareSample | None] | None = None
        self._began = 0.0  # the reading, in the loop's time
        self._trouble = ""
        self._idle: asyncio.TimerHandle | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """The samples of the last hour, oldest first, as JSON has them."""
        begin = time.time() - MOST_SAMPLES * self._every_seconds
        return [self._document(each) for each in self._samples if each.at >= begin]

    def subscribe(self, on_sample: OnSample) -> Callable[[], None]:
        """Call this with each sample from now on; what is returned ends it."""
        self._subscribers.append(on_sample)
        if self._sampling is None:
            self._sampling = asyncio.get_running_loop().create_task(self._sample())

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._subscribers.remove(on_sample)
            if not self._subscribers and self._sampling is not None:
                self._sampling.cancel()
                self._sampling = None

        return unsubscribe

    async def recent(self, at_most_seconds: float = FRESH_SECONDS) -> HardwareSample | None:
        """
        One that is no older, taken now if need be.  If that takes more than two seconds, and while a driver
        hangs: the last one, which may be old; None before the first.
        """
        if self.last is None or time.time() - self.last.at > at_most_seconds:
            look = self._look()
            waits = self._began + ANSWER_SECONDS - asyncio.get_running_loop().time()
            await asyncio.wait([look], timeout=max(waits, 0.0))
        return self.last

    def close(self) -> None:
        """The daemon ends."""
        self.let_go()
        self._close_sensors()

    def let_go(self) -> None:
        """Sample no more.  In a copy of the daemon the drivers' libraries must not be called at all."""
        for each in (self._sampling, self._reading, self._idle):
            if each is not None:
                each.cancel()

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            sample = await asyncio.shield(self._look())
            if sample is not None:
                self._samples.append(sample)
                document = self._document(sample)
                for each in [*self._subscribers]:
                    try:
                        each(document)
                    except Exception:
                        log.exception("a sample of the hardware cannot be passed on")
            due = max(due + self._every_seconds, loop.time())
            await asyncio.sleep(due - loop.time())

    def _look(self) -> asyncio.Task[HardwareSample | None]:
        """The one under way, or a new one."""
        if self._reading is None or self._reading.done():
            loop = asyncio.get_running_loop()
            self._reading, self._began = loop.create_task(self._read()), loop.time()
        return self._reading

    async def _read(self) -> HardwareSample | None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            devices = await beside_the_loop(self._read_all)
        except Exception as error:  # no room for a thread; a bug of ours is no reason to end anything either
            if (trouble := repr(error)) != self._trouble:
                self._trouble = trouble  # said once, and not every 5 s
                log.exception("the hardware cannot be looked at")
            return None
        self._trouble = ""
        self.last = HardwareSample(round(time.time(), 3), devices)
        self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._close_sensors)
        return self.last

    def _read_all(self) -> tuple[DeviceReading, ...]:
        """In a thread."""
        if self._sensors is None:
            self._sensors = self._make()
        return (ram_reading(self._ram), *self._sensors.read())

    def _close_sensors(self) -> None:
        """They are not in use: each reading postpones this."""
        if self._sensors is not None:
            self._sensors.close()

    def devices(self) -> DevicesByName:
        """As sampled last, by their names; of a sample that is old only what stays the same."""
        if self.last is None:
            return {}
        is_old = time.time() - self.last.at > OLD_SECONDS
        return {name: _lasting(each) if is_old else each for name, each in self._named(self.last).items()}

    def _named(self, sample: HardwareSample) -> DevicesByName:
        """By the name in the plans; a GPU that none has goes by its address."""
        gpus = [each.pci for each in sample.devices if not each.device]
        names = names_of(self._plans(), gpus)
        return {each.device or names.get(each.pci) or each.pci or "GPU": each for each in sample.devices}

    def _document(self, sample: HardwareSample) -> dict[str, Any]:
        """Not by `asdict`, which takes five times as long: there may be 720."""
        named = self._named(sample)
        devices = [
            {field: getattr(each, field) for field in _FIELDS} | {"device": name}
            for name, each in named.items()
        ]
        return {"at": sample.at, "devices": devices}


def _lasting(reading: DeviceReading) -> DeviceReading:
    total = reading.memory_total_bytes
    return DeviceReading(reading.device, reading.name, reading.pci, memory_total_bytes=total)


def ram_reading(source: SampleSource) -> DeviceReading:
    """Of the machine, or of the control group around this program where that has less."""
    room, group = source.room(), source.group(os.getpid())
    total, left = room.total_bytes, room.available_bytes
    if group is not None and (total is None or group.limit_bytes < total):
        total, left = group.limit_bytes, min(each for each in (group.left_bytes, left) if each is not None)
    used = None if total is None or left is None else max(total - left, 0)
    why = "" if used is not None else "The system does not tell how much of the RAM is in use."
    return DeviceReading(RAM, memory_used_bytes=used, memory_total_bytes=total, why=why)


def _sensors_here() -> Sensors:
    """Loaded when somebody looks for the first time."""
    from ..hardware.detection import sensors_of  # noqa: PLC0415

    return sensors_of()
