"""
Machines that nobody designed, for a search that may not know its machines: drawn from a seed.

Each setting does something on its own (a curve with a best place, a cliff, a plateau, a rough walk, or
nothing), and some pairs do something together; one or two settings take memory.  On a flat machine nothing
helps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from tuned_machines import Behaviour, SimulatedMachine, Values

from supervisor.tune.search_values import Axis
from supervisor.tune.space import Space

_LEAST, _MOST = 60, 1500  # settings in the grid


def drawn(seed: int, *, flat: bool = False) -> SimulatedMachine:
    """A machine; ``flat``: where every setting is as fast as every other."""
    random = Random(f"machine {seed}")
    axes = _axes(random)
    alone = {axis.key: _curve(axis, random) for axis in axes}
    together = _pairs(axes, random)
    weight = {axis.key: random.uniform(2, 8) / (len(axis.values) - 1) for axis in axes if axis.memory}
    limit = sum(weight[axis.key] * (len(axis.values) - 1) for axis in axes if axis.memory) * random.uniform(
        0.5, 1.1
    )
    seconds, load = math.exp(random.uniform(math.log(3), math.log(40))), random.uniform(3, 60)
    place = {axis.key: {value: level for level, value in enumerate(axis.values)} for axis in axes}

    def behaviour(values: Values) -> Behaviour:
        levels = {key: place[key][values[key]] for key in place}
        cost = 0.0 if flat else sum(alone[key][levels[key]] for key in levels)
        if not flat:
            cost += sum(table[levels[one]][levels[other]] for (one, other), table in together.items())
        memory = sum(each * levels[key] for key, each in weight.items())
        return Behaviour(1.0, 1.0 / (seconds * math.exp(cost)), load, {"GPU": memory})

    machine = SimulatedMachine(
        f"drawn {seed}", Space(tuple(axes)), (), behaviour, (0, 1), {"GPU": limit}, random.choice((0.0, 0.3)),
        random.choice((0.02, 0.05, 0.1)),
    )  # fmt: skip
    return _started(machine, random)


def _axes(random: Random) -> list[Axis]:
    while True:
        sizes = [random.choice((2, 2, 3, 3, 4, 5, 6)) for _ in range(random.randint(2, 5))]
        sizes += [random.choice((8, 12, 17, 25, 37)) for _ in range(random.choice((0, 1, 1, 1)))]
        if _LEAST <= math.prod(sizes) <= _MOST:
            break
    axes = []
    for number, size in enumerate(sizes):
        is_ordered = size > 3 or random.random() < 0.5
        takes = "GPU" if is_ordered and (size > 6 or random.random() < 0.2) else ""
        values = tuple(str(level) for level in range(size)) if is_ordered else tuple("abc"[:size])
        axes.append(Axis(f"s{number}", values, is_ordered, "", values[0], takes))  # type: ignore[arg-type]
    return axes


def _curve(axis: Axis, random: Random) -> list[float]:
    count = len(axis.values)
    size = math.exp(random.uniform(math.log(0.02), math.log(0.7)))
    if not axis.is_ordered:
        return [random.uniform(0, size) for _ in range(count)]
    kinds: list[Callable[[], list[float]]] = [
        lambda: [0.0] * count,
        lambda: _valley(count, size, random),
        lambda: _valley(count, size, random),
        lambda: _cliff(count, size, random),
        lambda: _walk(count, size, random),
        lambda: [size * math.exp(-3 * level / count) for level in range(count)],
    ]
    return random.choice(kinds)()


def _valley(count: int, size: float, random: Random) -> list[float]:
    best = random.uniform(0, count - 1)
    return [size * (2 * (level - best) / count) ** 2 for level in range(count)]


def _cliff(count: int, size: float, random: Random) -> list[float]:
    """Flat, or slightly sloping, and steep between two neighbours."""
    edge, slope = random.randint(1, count - 1), random.uniform(-0.2, 0.2)
    sides = [0.0, size] if random.random() < 0.5 else [size, 0.0]
    return [sides[level >= edge] + slope * size * level / count for level in range(count)]


def _walk(count: int, size: float, random: Random) -> list[float]:
    at, found = 0.0, []
    for _ in range(count):
        found.append(at)
        at += random.gauss(0, size / math.sqrt(count))
    return found


def _pairs(axes: list[Axis], random: Random) -> dict[tuple[str, str], list[list[float]]]:
    found = {}
    for one in axes:
        for other in axes:
            if one.key < other.key and random.random() < 0.3:
                found[one.key, other.key] = _pair(one, other, random)
    return found


def _pair(one: Axis, other: Axis, random: Random) -> list[list[float]]:
    size = math.exp(random.uniform(math.log(0.02), math.log(0.4)))
    rows, columns = len(one.values), len(other.values)
    if one.is_ordered and other.is_ordered:  # the more of one, the less of the other
        sign = random.choice((-1, 1))
        return [
            [sign * size * (2 * r / rows - 1) * (2 * c / columns - 1) for c in range(columns)]
            for r in range(rows)
        ]
    return [[random.uniform(0, size) for _ in range(columns)] for _ in range(rows)]


def _started(machine: SimulatedMachine, random: Random) -> SimulatedMachine:
    """The profile is a random setting that runs, and there is another start sometimes."""
    runs = [candidate for candidate in machine.grid() if math.isfinite(machine.cost(candidate))]
    start = machine.values(random.choice(runs))
    axes = tuple(
        Axis(axis.key, axis.values, axis.is_ordered, "", start[axis.key], axis.memory)
        for axis in machine.space.axes
    )
    others = tuple(random.choice(runs) for _ in range(random.choice((0, 1))))
    space = Space(axes)
    moved = tuple(space.candidate(machine.values(each)) for each in others)
    return SimulatedMachine(
        machine.name, space, ((), *moved), machine.behaviour, machine.work, machine.limits,
        machine.account_error, machine.noise,
    )  # fmt: skip
