"""Machines with their models, and requests as people and programs make them.  All invented; seeded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from random import Random

GIB = 1024**3
MINUTE, HOUR = 60.0, 3600.0


@dataclass(frozen=True, slots=True)
class BenchModel:
    """``gib`` is by pool.  ``weight``: how often somebody turns to it; ``burst``: for how many requests."""

    name: str
    gib: Mapping[str, float]
    load_seconds: float
    weight: float = 1.0
    burst: float = 5.0
    helps: float = 0.0  # is asked for in between, by those who use another one
    role: str = "chat"

    @property
    def bytes(self) -> dict[str, int]:
        return {pool: round(number * GIB) for pool, number in self.gib.items()}


@dataclass(frozen=True, slots=True)
class Machine:
    """``gib``: what models may use of each pool."""

    name: str
    gib: Mapping[str, float]
    models: tuple[BenchModel, ...]

    @property
    def bytes(self) -> dict[str, int]:
        return {pool: round(number * GIB) for pool, number in self.gib.items()}


Trace = list[tuple[float, int]]
"""When each request arrives, and for which of the machine's models."""

MACHINES = (
    Machine(
        "24 GB card, 64 GB RAM",
        {"CUDA0": 23, "RAM": 60},
        (
            BenchModel("gpt-oss-120b", {"CUDA0": 8, "RAM": 54}, 70, 3, 8),
            BenchModel("moe-26b", {"CUDA0": 14.5, "RAM": 0.5}, 12, 4, 10),
            BenchModel("gpt-oss-20b", {"CUDA0": 12.5, "RAM": 0.5}, 10, 3, 6),
            BenchModel("14b", {"CUDA0": 9.5, "RAM": 0.5}, 7, 2, 5),
            BenchModel("8b", {"CUDA0": 6, "RAM": 0.5}, 4, 2, 3, helps=3),
            BenchModel("embedding", {"RAM": 1.5}, 1.5, 1, 2, helps=5, role="embedding"),
        ),
    ),
    Machine(
        "96 GB unified",
        {"RAM": 90},
        (
            BenchModel("gpt-oss-120b", {"RAM": 66}, 60, 5, 8),
            BenchModel("moe-26b", {"RAM": 17}, 15, 4, 6, helps=1),
            BenchModel("coder-30b", {"RAM": 30}, 25, 2, 6),
            BenchModel("4b", {"RAM": 6}, 5, 3, 3, helps=3),
            BenchModel("embedding", {"RAM": 1.5}, 1, 1, 2, helps=5, role="embedding"),
        ),
    ),
    Machine(
        "24 GB card",
        {"CUDA0": 23},
        (
            BenchModel("27b", {"CUDA0": 18}, 11, 2, 6),
            BenchModel("gpt-oss-20b", {"CUDA0": 13}, 8, 3, 6),
            BenchModel("14b", {"CUDA0": 10}, 6, 4, 10),
            BenchModel("8b", {"CUDA0": 6.5}, 4, 3, 6),
            BenchModel("4b", {"CUDA0": 4}, 2.5, 2, 3, helps=3),
            BenchModel("embedding", {"CUDA0": 1.2}, 1, 1, 2, helps=5, role="embedding"),
        ),
    ),
    Machine(
        "24 GB and 12 GB cards",
        {"CUDA0": 23, "CUDA1": 11.5},
        (
            BenchModel("32b", {"CUDA0": 20, "CUDA1": 9}, 16, 3, 8),
            BenchModel("gpt-oss-20b", {"CUDA0": 13}, 8, 4, 8),
            BenchModel("14b", {"CUDA0": 10}, 6, 3, 6),
            BenchModel("8b", {"CUDA1": 6.5}, 4, 3, 5, helps=1),
            BenchModel("4b", {"CUDA1": 4}, 2.5, 2, 3, helps=3),
            BenchModel("embedding", {"CUDA1": 1.2}, 1, 1, 2, helps=5, role="embedding"),
            BenchModel("pictures", {"CUDA0": 8, "CUDA1": 2}, 7, 1, 3, role="image"),
        ),
    ),
)


def bursts(random: Random, models: tuple[BenchModel, ...], count: int) -> Trace:
    """One person works with a model for a while, helpers are asked in between, then comes a pause."""
    trace, now = Trace(), 0.0
    helps = [each.helps for each in models]
    while len(trace) < count:
        chosen = random.choices(range(len(models)), [each.weight for each in models])[0]
        for _ in range(max(1, int(random.expovariate(1 / models[chosen].burst)))):
            now += random.expovariate(1 / MINUTE)
            trace.append((now, chosen))
            if random.random() < 0.25 and any(helps):
                now += random.expovariate(1 / 5)
                trace.append((now, random.choices(range(len(models)), helps)[0]))
        now += random.expovariate(1 / (30 * MINUTE))
    return trace[:count]


def days(random: Random, models: tuple[BenchModel, ...], count: int) -> Trace:
    """Each model has its hours; at night there is a job until two, and then nothing."""
    trace, now = Trace(), 8 * HOUR
    peaks = [random.uniform(8, 23) for _ in models]
    job = random.randrange(len(models))
    while len(trace) < count:
        hour = now / HOUR % 24
        if hour < 2:
            now += random.expovariate(1 / (25 * MINUTE))
            trace.append((now, job))
        elif hour < 7:
            now += (7 - hour) * HOUR + random.uniform(0, 10 * MINUTE)
        else:
            liked = [
                each.weight * math.exp(-(((hour - peak) / 4) ** 2)) + 0.03
                for each, peak in zip(models, peaks, strict=True)
            ]
            chosen = random.choices(range(len(models)), liked)[0]
            for _ in range(1 + int(random.expovariate(1 / models[chosen].burst))):
                now += random.lognormvariate(3.5, 1)
                trace.append((now, chosen))
            now += random.lognormvariate(6.5, 1)
    return trace[:count]


def agents(random: Random, models: tuple[BenchModel, ...], count: int) -> Trace:
    """Teams of one to three models that are asked in turn, for many steps; then another team."""
    trace, now = Trace(), 0.0
    teams = [random.sample(range(len(models)), random.choice([1, 2, 2, 3])) for _ in range(4)]
    while len(trace) < count:
        team = random.choices(teams, [4, 3, 2, 1])[0]
        for step in range(1 + int(random.expovariate(1 / 15))):
            chosen = team[step % len(team)] if random.random() < 0.85 else random.choice(team)
            for _ in range(random.choice([1, 1, 2])):
                now += random.lognormvariate(3, 0.8)
                trace.append((now, chosen))
        now += random.lognormvariate(7, 1)
    return trace[:count]


def chance(random: Random, models: tuple[BenchModel, ...], count: int) -> Trace:
    """Each request is for any model, some more often than others."""
    order = random.sample(range(len(models)), len(models))
    liked = [1 / (1 + place) for place in range(len(models))]
    trace, now = Trace(), 0.0
    for _ in range(count):
        now += random.expovariate(1 / (2 * MINUTE))
        trace.append((now, random.choices(order, liked)[0]))
    return trace


def visits(random: Random, models: tuple[BenchModel, ...], count: int) -> Trace:
    """Two models are used steadily; now and then there is one request for another one."""
    first, second, *rare = random.sample(range(len(models)), len(models))
    trace, now = Trace(), 0.0
    for _ in range(count):
        now += random.lognormvariate(4.2, 1.2)
        is_visit = random.random() < 0.06
        trace.append((now, random.choice(rare) if is_visit else random.choices([first, second], [3, 1])[0]))
    return trace


def people(random: Random, models: tuple[BenchModel, ...], count: int) -> Trace:
    """Two to four people at the same time, each with three favourites."""
    trace = Trace()
    for _ in range(random.choice([2, 3, 4])):
        favourites = random.sample(range(len(models)), 3)
        now = random.expovariate(1 / (50 * MINUTE))
        for _ in range(count):
            chosen = random.choices(favourites, [6, 2, 1])[0]
            for _ in range(1 + int(random.expovariate(1 / 7))):
                now += random.lognormvariate(4, 1)
                trace.append((now, chosen))
            now += random.lognormvariate(8.2, 1)
    return sorted(trace)[:count]


def clockwork(random: Random, models: tuple[BenchModel, ...], count: int) -> Trace:
    """Two jobs ask by the clock, and one person in bursts."""
    trace, end = Trace(), 3 * MINUTE * count
    every = random.choice([10, 15, 30, 60]) * MINUTE
    for period in (every, 4 * every):
        job = random.randrange(len(models))
        trace += [(step * period + random.uniform(0, 5), job) for step in range(int(end / period))]
    now = 0.0
    while now < end:
        chosen = random.choices(range(len(models)), [each.weight for each in models])[0]
        for _ in range(1 + int(random.expovariate(1 / models[chosen].burst))):
            now += random.expovariate(1 / 50)
            trace.append((now, chosen))
        now += random.expovariate(1 / (25 * MINUTE))
    return sorted(trace)[:count]


def fashions(random: Random, models: tuple[BenchModel, ...], count: int) -> Trace:
    """Bursts, but which models are liked changes from time to time."""
    trace, now = Trace(), 0.0
    liked = [random.random() ** 3 for _ in models]
    while len(trace) < count:
        if random.random() < 0.04:
            liked = [random.random() ** 3 for _ in models]
        chosen = random.choices(range(len(models)), liked)[0]
        for _ in range(1 + int(random.expovariate(1 / 5))):
            now += random.expovariate(1 / 70)
            trace.append((now, chosen))
        now += random.expovariate(1 / (20 * MINUTE))
    return trace[:count]


GENERATORS: Mapping[str, Callable[[Random, tuple[BenchModel, ...], int], Trace]] = {
    each.__name__: each for each in (bursts, days, agents, chance, visits, people, clockwork, fashions)
}


def make(machine: Machine, generator: str, seed: int, count: int) -> Trace:
    trace = GENERATORS[generator](Random(f"{machine.name} {generator} {seed}"), machine.models, count)
    assert all(earlier <= later for (earlier, _), (later, _) in pairwise(trace))
    return trace
