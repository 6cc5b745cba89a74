"""Samples of the hardware: only while somebody looks, beside the event loop, with a bound on everything."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager

import pytest

from supervisor.cgroups import Group
from supervisor.hardware.sensors import DeviceReading
from supervisor.plan.launch import LaunchPlan
from supervisor.server import hardware_watch
from supervisor.server.hardware_watch import MOST_SAMPLES, HardwareSample, HardwareWatch, ram_reading
from supervisor.server.memory_sample import Room

from ..fakes.launching import BOUND_SECONDS

GIB = 1024**3
GPU = DeviceReading("", "NVIDIA GeForce RTX 4060 Ti", "0000:01:00.0", memory_total_bytes=16 * GIB)


class Machine:
    """Sensors and RAM; while ``hangs`` is not set, a reading does not come back."""

    def __init__(self, *gpus):
        self.gpus = gpus
        self.readings = 0
        self.closed = 0
        self.threads = set()
        self.goes_on = threading.Event()
        self.goes_on.set()
        self.limit = None

    def read(self):
        self.readings += 1
        self.threads.add(threading.current_thread())
        assert self.goes_on.wait(BOUND_SECONDS)
        return (DeviceReading("CPU", load_percent=float(self.readings)), *self.gpus)

    def close(self):
        self.closed += 1

    def room(self):
        return Room(64 * GIB, 40 * GIB)

    def group(self, pid):
        return self.limit


@contextmanager
def watching(machine, plans=(), every_seconds=0.0):
    watch = HardwareWatch(lambda: plans, sensors=lambda: machine, ram=machine, every_seconds=every_seconds)
    yield watch
    watch.close()


def story(test):
    """Run it to its end, within the bound."""

    def run():
        async def bounded():
            async with asyncio.timeout(BOUND_SECONDS):
                await test()

        asyncio.run(bounded())

    run.__name__ = test.__name__
    return run


async def samples(watch, count):
    """So many, from a subscription that then ends."""
    seen, enough = [], asyncio.Event()

    def take(sample):
        seen.append(sample)
        if len(seen) == count:
            enough.set()

    end = watch.subscribe(take)
    await enough.wait()
    end()
    return seen[:count]


@story
async def test_a_sample_has_ram_cpu_and_gpus_as_json():
    with watching(Machine(GPU)) as watch:
        (sample,) = await samples(watch, 1)
    assert json.loads(json.dumps(sample)) == sample
    assert [each["device"] for each in sample["devices"]] == ["RAM", "CPU", "0000:01:00.0"]
    ram, cpu, gpu = sample["devices"]
    assert (ram["memory_used_bytes"], ram["memory_total_bytes"]) == (24 * GIB, 64 * GIB)
    assert (cpu["load_percent"], cpu["temperature_c"], cpu["why"]) == (1.0, None, "")
    assert (gpu["name"], gpu["pci"]) == (GPU.name, GPU.pci)


@story
async def test_nobody_looks_so_nothing_is_read():
    machine = Machine()
    with watching(machine, every_seconds=BOUND_SECONDS) as watch:
        assert (machine.readings, watch.history, watch.devices()) == (0, [], {})
        end = watch.subscribe(lambda sample: None)
        end()
        end()
        await asyncio.sleep(0)
        assert machine.readings == 0
        assert watch._sampling is None


@story
async def test_all_who_look_share_one_sampling_and_the_last_one_ends_it():
    machine = Machine()
    with watching(machine) as watch:
        ends = watch.subscribe(lambda sample: None)
        seen = await samples(watch, 3)
        assert [each["devices"][1]["load_percent"] for each in seen] == [1.0, 2.0, 3.0]
        assert watch._sampling is not None
        sampling = watch._sampling
        ends()
        await asyncio.wait([sampling])
        assert sampling.cancelled()


@story
async def test_samples_are_taken_beside_the_loop():
    machine = Machine()
    with watching(machine) as watch:
        await samples(watch, 2)
        assert threading.main_thread() not in machine.threads


@story
async def test_the_history_is_of_the_last_hour_and_has_a_bound():
    machine = Machine()
    with watching(machine) as watch:
        await samples(watch, MOST_SAMPLES + 5)
        assert len(watch._samples) == MOST_SAMPLES
        watch._every_seconds = 5.0
        assert [each["at"] for each in watch.history] == [each.at for each in watch._samples]
        old = watch._samples[0]
        watch._samples[0] = HardwareSample(old.at - 3601, old.devices)
        assert len(watch.history) == MOST_SAMPLES - 1


@story
async def test_one_look_is_enough_for_ten_seconds():
    machine = Machine()
    with watching(machine) as watch:
        first = await watch.recent()
        assert await watch.recent() is first
        watch.last = HardwareSample(first.at - 11, first.devices)
        await asyncio.gather(watch.recent(), watch.recent())
        assert machine.readings == 2


@story
async def test_a_driver_that_hangs_holds_up_nobody_and_is_asked_once():
    machine = Machine(GPU)
    with watching(machine) as watch:
        await watch.recent()
        machine.goes_on.clear()
        watch.last = stale = HardwareSample(watch.last.at - 60, watch.last.devices)
        watch._look()
        await asyncio.sleep(0)
        watch._began -= hardware_watch.ANSWER_SECONDS  # so long it has been under way
        loop = asyncio.get_running_loop()
        asked = loop.time()
        assert await watch.recent() is stale
        assert await watch.recent() is stale
        assert loop.time() - asked < hardware_watch.ANSWER_SECONDS
        assert machine.readings == 2
        machine.goes_on.set()
        assert await watch._reading is watch.last is not stale


@story
async def test_of_an_old_sample_only_what_stays_the_same_is_told():
    machine = Machine(GPU)
    with watching(machine) as watch:
        await watch.recent()
        assert watch.devices()["CPU"].load_percent == 1.0
        watch.last = HardwareSample(watch.last.at - hardware_watch.OLD_SECONDS - 1, watch.last.devices)
        known = watch.devices()
        assert known["CPU"] == DeviceReading("CPU")
        assert known[GPU.pci] == GPU
        assert (known["RAM"].memory_total_bytes, known["RAM"].memory_used_bytes) == (64 * GIB, None)


@story
async def test_what_is_kept_open_is_closed_when_nobody_has_looked_for_a_while():
    machine = Machine()
    with watching(machine) as watch:
        await watch.recent()
        assert machine.closed == 0
        assert watch._idle.when() > asyncio.get_running_loop().time() + 50
        watch._idle._callback()
        assert machine.closed == 1


def test_sensors_that_break_are_logged_once_and_end_nothing(caplog):
    machine = Machine()
    machine.read = lambda: 1 / 0

    @story
    async def test():
        with watching(machine) as watch:
            assert await watch.recent() is None
            assert await watch.recent() is None
            del machine.read
            assert await watch.recent() is not None

    test()
    assert [each.exc_info[0] for each in caplog.records] == [ZeroDivisionError]


def test_a_subscriber_that_breaks_costs_the_others_nothing(caplog):
    @story
    async def test():
        with watching(Machine()) as watch:
            watch.subscribe(lambda sample: 1 / 0)
            assert len(await samples(watch, 2)) == 2

    test()
    assert {each.message for each in caplog.records} == {"a sample of the hardware cannot be passed on"}


# --- names


def plan_with(**fields):
    return LaunchPlan("p", ("x",), {}, "", 0, "b1", "cuda", "", "m", "d", **fields)


def named(gpus, *plans):
    watch = HardwareWatch(lambda: plans)
    watch.last = HardwareSample(hardware_watch.time.time(), gpus)
    return list(watch.devices())


SECOND = DeviceReading("", "NVIDIA RTX A2000", "0000:41:00.0")


def test_gpus_have_the_names_of_the_plans_where_those_are_certain():
    cuda = plan_with(adapters={"CUDA1": "0000:01:00.0"})
    vulkan = plan_with(adapters={"Vulkan0": "0000:01:00.0", "Vulkan1": "0000:41:00.0"})
    assert named((GPU, SECOND), cuda, vulkan) == ["CUDA1", "Vulkan1"]
    assert named((GPU, SECOND)) == ["0000:01:00.0", "0000:41:00.0"]


def test_the_only_gpu_has_the_only_name():
    uncertain = plan_with(memory={"RAM": 1, "CUDA0": 2})
    assert named((GPU,), uncertain) == ["CUDA0"]
    assert named((DeviceReading("", "Apple M4 Max"),), plan_with(memory={"RAM": 1, "MTL0": 2})) == ["MTL0"]
    assert named((DeviceReading("", "Apple M4 Max"),)) == ["GPU"]
    assert named((GPU, SECOND), uncertain) == ["0000:01:00.0", "0000:41:00.0"]
    assert named((GPU,), plan_with(memory={"CUDA0": 1, "CUDA1": 1})) == ["0000:01:00.0"]


# --- the RAM


@pytest.mark.parametrize(
    ("limit", "used", "total"),
    [
        (None, 24 * GIB, 64 * GIB),
        (Group("/docker", 16 * GIB, 4 * GIB), 12 * GIB, 16 * GIB),
        (Group("/docker", 16 * GIB, 16 * GIB), 0, 16 * GIB),
        (Group("/wide", 128 * GIB, 100 * GIB), 24 * GIB, 64 * GIB),
    ],
)
def test_the_ram_is_that_of_the_container_where_it_has_less(limit, used, total):
    machine = Machine()
    machine.limit = limit
    found = ram_reading(machine)
    assert (found.memory_used_bytes, found.memory_total_bytes, found.why) == (used, total, "")


def test_a_system_that_tells_nothing_of_its_ram_says_so():
    machine = Machine()
    machine.room = Room
    assert ram_reading(machine).why == "The system does not tell how much of the RAM is in use."
