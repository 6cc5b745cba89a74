"""
Machines that exist only as functions: settings → speeds, load time and memory, made from published figures.

Where a figure was published the function goes through it; between them it is smooth, except where the
sources tell of a jump.  What no source tells (what threads or flash attention do) is a guess of common size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise, product
from random import Random

from supervisor.tune.search_values import Axis, Candidate, TrialResult
from supervisor.tune.space import BATCH, EXPERTS, FLASH, FLAVOUR, LAYERS, REPACK, THREADS, UBATCH, Space

MODE, POLL = "server.load-mode", "server.poll"
Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Tokens per second, seconds to load, and GB of each memory that it takes."""

    prompt: float
    generated: float
    load_seconds: float
    gigabytes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SimulatedMachine:
    """
    ``limits`` are GB: more kills a trial.  ``account_error`` is by how many GB the account of the search is
    too low, so that some of what it lets pass dies.  ``work`` is tokens to read and to generate.
    """

    name: str
    space: Space
    starts: tuple[Candidate, ...]
    behaviour: Callable[[Values], Behaviour]
    work: tuple[int, int]
    limits: Mapping[str, float] = field(default_factory=dict)
    account_error: float = 0.0
    noise: float = 0.1

    def values(self, candidate: Candidate) -> Values:
        return {axis.key: self.space.value(candidate, axis.key) for axis in self.space.axes}

    def cost(self, candidate: Candidate) -> float:
        """Seconds that the work takes, without noise; infinite for what dies."""
        now = self.behaviour(self.values(candidate))
        if self.short_of(now):
            return math.inf
        return self.work[0] / now.prompt + self.work[1] / now.generated

    def short_of(self, now: Behaviour, less: float = 0.0) -> str:
        over = (name for name, limit in self.limits.items() if now.gigabytes.get(name, 0.0) - less > limit)
        return next(over, "")

    def fits(self, candidate: Candidate) -> bool:
        """By an account that is a little too low."""
        return not self.short_of(self.behaviour(self.values(candidate)), self.account_error)

    def grid(self) -> Iterator[Candidate]:
        """All that the search may ask for."""
        keys = [axis.key for axis in self.space.axes]
        for values in product(*(axis.values for axis in self.space.axes)):
            candidate: Candidate = ()
            for key, value in zip(keys, values, strict=True):
                candidate = self.space.changed(candidate, key, value)
            is_it = all(
                self.space.value(candidate, key) == value for key, value in zip(keys, values, strict=True)
            )
            if is_it and self.space.allows(candidate) and self.fits(candidate):
                yield candidate


RUNS = 3  # of each setting in an exhaustive sweep, and of the rivals
_DRIFT, _WARMER = 0.04, 0.05
_DYING_SHARE = 0.5  # of the load time


class Laboratory:
    """One day with a machine: noise, drift, and the time that trials take."""

    def __init__(self, machine: SimulatedMachine, seed: int) -> None:
        self.machine = machine
        self.spent_seconds = 0.0
        self.asked: list[Candidate] = []
        self._random = Random(f"noise {seed}")
        self._phase, self._period = self._random.random(), self._random.uniform(0.5, 2.0)
        self._whole = exhaustive_seconds(machine) / 5

    def run(self, candidate: Candidate, runs: int = RUNS, stop_above: float | None = None) -> TrialResult:
        self.asked.append(candidate)
        now = self.machine.behaviour(self.machine.values(candidate))
        if short := self.machine.short_of(now):
            took = _DYING_SHARE * now.load_seconds
            self.spent_seconds += took
            return TrialResult((), took, "out of memory", "RAM" if short == "RAM" else "GPU")
        began = self.spent_seconds
        self.spent_seconds += now.load_seconds
        costs: list[float] = []
        true = self.machine.cost(candidate)
        for _ in range(runs):
            cost = true * self._slowness() * math.exp(self._random.gauss(0.0, self.machine.noise))
            costs.append(min(cost, stop_above or math.inf))
            self.spent_seconds += costs[-1]
            if stop_above is not None and cost > stop_above:
                break
        return TrialResult(tuple(costs), self.spent_seconds - began)

    def _slowness(self) -> float:
        share = self.spent_seconds / self._whole
        wave = math.sin(2 * math.pi * (self._phase + share / self._period))
        return math.exp(_DRIFT * wave + _WARMER * (1 - math.exp(-8 * share)))


def exhaustive_seconds(machine: SimulatedMachine) -> float:
    """Of the whole grid, each setting measured RUNS times, whatever dies included."""
    total = 0.0
    for candidate in machine.grid():
        now, cost = machine.behaviour(machine.values(candidate)), machine.cost(candidate)
        total += now.load_seconds * (_DYING_SHARE if math.isinf(cost) else 1.0)
        total += 0.0 if math.isinf(cost) else RUNS * cost
    return total


def exhaustive_best(machine: SimulatedMachine) -> float:
    return min(map(machine.cost, machine.grid()))


def _counts(key: str, counts: Iterator[int] | range | tuple[int, ...], now: object, memory: str = "") -> Axis:
    return Axis(key, tuple(map(str, counts)), True, "", str(now), memory)  # type: ignore[arg-type]


def _ubatches(now: int, most: int = 4096) -> Axis:
    return _counts(UBATCH, tuple(256 << step for step in range(6) if 256 << step <= most), now, "both")


def _choice(key: str, *values: str) -> Axis:
    return Axis(key, values, False, "", values[0])


def _at(points: Mapping[float, float], x: float) -> float:
    """Straight between points, in logarithms of the value."""
    known = sorted(points)
    x = min(max(x, known[0]), known[-1])
    for left, right in pairwise(known):
        if x <= right:
            share = (x - left) / (right - left)
            return math.exp((1 - share) * math.log(points[left]) + share * math.log(points[right]))
    return points[known[-1]]


def _threads(count: int, best: int, *, flat: float) -> float:
    """What threads do to generation: rising to ``best``, and falling beyond."""
    return (count / best) ** flat if count <= best else (best / count) ** (flat / 3)


def _rx9070_20b() -> SimulatedMachine:
    """45 t/s with 23 of 24 layers, 122 with all (the article); 2754/174 of a 9070 XT; CPU alone some 16."""
    points = {0: 16.0, 12: 24.0, 23: 45.0, 24: 122.0}

    def behaviour(values: Values) -> Behaviour:
        layers, ubatch, threads = int(values[LAYERS]), int(values[UBATCH]), int(values[THREADS])
        on_cpu = 1 - layers / 24
        generated = _at(points, layers) * _threads(threads, 8, flat=0.35 * on_cpu)
        generated *= 1.0 if values[FLASH] == "auto" else 0.96
        prompt = _at({0: 120, 12: 320, 23: 900, 24: 2200}, layers) * (ubatch / 512) ** (0.12 + 0.3 * on_cpu)
        prompt *= 1.0 if values[FLASH] == "auto" else 0.8
        memory = 0.4 + 1.3 * (layers == 24) + 0.424 * layers + 0.8 + 0.5 * ubatch / 1024
        memory += 0.0 if values[FLASH] == "auto" else 1.5
        return Behaviour(prompt, generated, 9.0, {"GPU": memory})

    axes = (
        _counts(LAYERS, range(25), 20, "GPU"), _ubatches(512, 2048), _counts(THREADS, (4, 8, 16), 8),
        _choice(FLASH, "auto", "off"),
    )  # fmt: skip
    starts: tuple[Candidate, ...] = ((), ((LAYERS, "23"),), ((LAYERS, "22"),))
    return SimulatedMachine("RX 9070, 20b", Space(axes), starts, behaviour, (512, 256), {"GPU": 15.0}, 0.3)


def _rx9070_120b() -> SimulatedMachine:
    """9.7 t/s with 6 layers, 8.2 with 36, which are far more than the card holds and go through the bus."""
    points = {0: 8.9, 6: 9.7, 8: 9.9, 12: 9.0, 36: 8.2}

    def behaviour(values: Values) -> Behaviour:
        layers, ubatch, threads = int(values[LAYERS]), int(values[UBATCH]), int(values[THREADS])
        generated = _at(points, layers) * _threads(threads, 8, flat=0.5)
        generated *= 0.93 if values[MODE] == "mmap" else 1.0
        prompt = 60 * (ubatch / 512) ** 0.45 * (1.4 if layers in range(4, 9) else 1.0)
        prompt *= 0.9 if values[REPACK] == "off" else 1.0
        return Behaviour(prompt, generated, 45.0, {"RAM": 66 + 30 * (values[REPACK] == "on")})

    axes = (
        _counts(LAYERS, range(0, 37, 2), 36, "GPU"), _ubatches(512), _counts(THREADS, (4, 8, 16), 16),
        _choice(MODE, "mmap", "none"), _choice(REPACK, "on", "off"),
    )  # fmt: skip
    starts: tuple[Candidate, ...] = ((), ((LAYERS, "8"),), ((LAYERS, "6"),))
    return SimulatedMachine("RX 9070, 120b", Space(axes), starts, behaviour, (512, 256), {"RAM": 120.0})


def _m4_mini() -> SimulatedMachine:
    """19.5 t/s with 15 layers, 17.5 with 20; beyond what macOS lets the GPU have (11 GB), it dies."""
    points = {0: 11.0, 10: 17.0, 15: 19.5, 20: 17.5, 24: 12.0}

    def behaviour(values: Values) -> Behaviour:
        layers, ubatch, threads = int(values[LAYERS]), int(values[UBATCH]), int(values[THREADS])
        on_cpu = 1 - layers / 24
        generated = _at(points, layers) * _threads(threads, 4, flat=0.4 * on_cpu)
        generated *= (
            1.05 if values[MODE] == "none" and layers < 18 else 0.92 if values[MODE] == "none" else 1.0
        )
        prompt = _at({0: 40, 15: 140, 24: 220}, layers) * (ubatch / 512) ** 0.1
        memory = 0.5 + 0.424 * layers + 0.9 * ubatch / 2048
        return Behaviour(prompt, generated, 14.0, {"GPU": memory})

    axes = (
        _counts(LAYERS, range(25), 20, "GPU"), _ubatches(512, 2048), _counts(THREADS, (2, 4, 6, 10), 10),
        _choice(MODE, "auto", "none"),
    )  # fmt: skip
    starts: tuple[Candidate, ...] = ((), ((LAYERS, "23"),), ((LAYERS, "22"),))
    return SimulatedMachine(
        "M4 mini 16 GB, 20b", Space(axes), starts, behaviour, (256, 256), {"GPU": 10.7}, 0.4
    )


def _experts_120b(
    name: str,
    speeds: Mapping[float, float],
    generated_at: Mapping[float, float],
    gigabytes: float,
    work: tuple[int, int],
) -> SimulatedMachine:
    """The prompt's speed by ubatch at the least n-cpu-moe that was reported, generation by n-cpu-moe."""
    reported = min(generated_at)

    def behaviour(values: Values) -> Behaviour:
        experts, ubatch, threads = int(values[EXPERTS]), int(values[UBATCH]), int(values[THREADS])
        generated = _at(generated_at, experts) * _threads(threads, 8, flat=0.45)
        prompt = _at(speeds, math.log2(ubatch)) * (reported / experts) ** 0.6 if experts else speeds[12]
        generated *= 0.97 if ubatch >= 8192 else 1.0
        if values[BATCH] != "4096" and ubatch >= 4096:
            prompt *= 1.02
        memory = 1.69 + 1.697 * (36 - experts) + 1.25 + 0.26 * ubatch / 1024 + 0.6
        return Behaviour(prompt, generated, 40.0, {"GPU": memory})

    axes = (
        _counts(EXPERTS, range(20, 37), 36, "RAM"), _ubatches(512, 8192),
        _counts(BATCH, (2048, 4096, 8192), 2048, "both"), _counts(THREADS, (4, 8, 16), 16),
    )  # fmt: skip
    starts: tuple[Candidate, ...] = ((), ((EXPERTS, "33"),), ((EXPERTS, "34"),))
    return SimulatedMachine(name, Space(axes), starts, behaviour, work, {"GPU": gigabytes}, 0.3)


def _cpu_only() -> SimulatedMachine:
    """13.6 t/s (the article); four fast of twelve cores; 142/21.3 of a 7950X for the shape."""

    def behaviour(values: Values) -> Behaviour:
        threads, batch = int(values[THREADS]), int(values["server.threads-batch"])
        ubatch = int(values[UBATCH])
        generated = 13.6 * _threads(threads, 8, flat=0.45) * (0.94 if threads > 12 else 1.0)
        generated *= 1.02 if values[POLL] == "100" and threads <= 12 else 0.98 if values[POLL] == "0" else 1.0
        generated *= 0.93 if values[REPACK] == "off" else 1.0
        prompt = 55 * (batch / 12) ** 0.7 * (0.9 if batch > 12 else 1.0) * (ubatch / 512) ** 0.05
        prompt *= 0.7 if values[REPACK] == "off" else 1.0
        prompt *= 1.0 if values[FLASH] == "auto" else 0.92
        return Behaviour(prompt, generated, 30.0, {"RAM": 66.0})

    axes = (
        _counts(THREADS, (4, 6, 8, 12, 24), 12), _counts("server.threads-batch", (4, 8, 12, 24), 12),
        _ubatches(512, 2048), _choice(REPACK, "on", "off"), _choice(FLASH, "auto", "off"),
        _counts(POLL, (0, 50, 100), 50),
    )  # fmt: skip
    return SimulatedMachine("CPU only 96 GB, 120b", Space(axes), ((),), behaviour, (512, 128))


def _strix_halo() -> SimulatedMachine:
    """120b: ROCm 1018/51.8 at large and 781 at 512 ubatches, Vulkan some 52; 20b tells 54.5 against 70."""

    def behaviour(values: Values) -> Behaviour:
        flavour, ubatch = values[FLAVOUR], int(values[UBATCH])
        if flavour == "rocm":
            prompt = _at({8: 520, 9: 781, 10: 900, 11: 1018, 12: 1000}, math.log2(ubatch))
            generated = 47.0 * (1.10 if values[FLASH] == "auto" else 1.0)
        elif flavour == "vulkan":
            prompt = _at({8: 400, 9: 560, 10: 600, 11: 590, 12: 540}, math.log2(ubatch))
            generated = 52.0 * (1.0 if values[FLASH] == "auto" else 0.95)
        else:
            prompt, generated = 113.0, 22.0
        prompt *= 1.0 if values[FLASH] == "auto" else 0.75
        generated *= 0.9 if values[MODE] == "mmap" else 1.0
        threads = int(values[THREADS])
        generated *= _threads(threads, 16, flat=0.4 if flavour == "cpu" else 0.01)
        return Behaviour(prompt, generated, 25.0 + 10 * (values[MODE] == "none"))

    axes = (
        _choice(FLAVOUR, "vulkan", "rocm", "cpu"), _ubatches(512), _choice(FLASH, "auto", "off"),
        _choice(MODE, "auto", "none", "mmap"), _counts(THREADS, (8, 16, 32), 16),
    )  # fmt: skip
    return SimulatedMachine("Strix Halo, 120b", Space(axes), ((),), behaviour, (2048, 256))


def machines() -> tuple[SimulatedMachine, ...]:
    prompt_3090 = {
        8: 210.0,
        9: 380.0,
        10: 680.0,
        11: 1113.0,
        12: 1682.0,
        13: 2091.0,
    }  # the report, and one guess
    prompt_4060 = {step: speed / 2.6 for step, speed in prompt_3090.items()}  # a quarter of the bus: OCuLink
    return (
        _rx9070_20b(),
        _rx9070_120b(),
        _m4_mini(),
        _experts_120b("RTX 3090, 120b", prompt_3090, {20: 36, 25: 33, 28: 32, 36: 25}, 24.0, (8192, 256)),
        _experts_120b(
            "RTX 4060 Ti, 120b", prompt_4060, {20: 26, 30: 21, 32: 20, 36: 17.5}, 16.0, (4096, 256)
        ),
        _cpu_only(),
        _strix_halo(),
    )
