"""
How many seconds a machine spends on loading models, by the rule that says which of them go.

    bench/residency.py [--seeds 8] [--first-seed 0] [--requests 300] [--by-trace] [--trace FILE.json]

First each trace is served in its order, as if an answer took no time: that compares the rules alone, and with
the least that was possible, known in hindsight.  Then ("timed") the same requests come at their times, take
theirs, and wait for loads and for each other: ours with its turns, the others first come, first served.

--trace reads machines and traces of your own: {"machines": [{"name", "gib": {pool: number}, "models":
[{"name", "gib", "load_seconds", "role"}]}], "traces": [{"machine", "name", "requests": [[seconds, model's
place], …]}]}.

Exits with 1 if ours loads longer than LRU on a machine, longer than 0.87 of LRU over all, or longer than 1.35
times the best in hindsight on a machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eviction_rules import RULES, Hindsight, Rule
from residency_timed import Waits, replay
from traces import GENERATORS, MACHINES, BenchModel, Machine, Trace, make

BEST = "best in hindsight"
OURS, LRU = "ours", "LRU"
MOST_OF_LRU, MOST_OF_BEST = 0.87, 1.35


def seconds_in_order(rule: Rule, machine: Machine, trace: Trace) -> float:
    """Of loading, if each request is answered before the next one comes."""
    loaded: list[int] = []
    spent = 0.0
    for now, model in trace:
        expired = rule.expired(loaded, now)
        loaded = [each for each in loaded if each not in expired]
        rule.note(model, now)
        if model in loaded:
            continue
        gone = rule.victims(model, loaded, now)
        loaded = [*(each for each in loaded if each not in gone), model]
        spent += machine.models[model].load_seconds
        pressed = rule.pressed(loaded, now)
        loaded = [each for each in loaded if each not in pressed or each == model]
    return spent


@dataclass(frozen=True, slots=True)
class Case:
    machine: Machine
    name: str
    trace: Trace


def invented(seeds: Iterable[int], count: int) -> Iterator[Case]:
    for machine in MACHINES:
        for generator in GENERATORS:
            for seed in seeds:
                yield Case(machine, generator, make(machine, generator, seed, count))


def given(file: Path) -> Iterator[Case]:
    document = json.loads(file.read_text(encoding="utf-8"))
    machines = {
        each["name"]: Machine(
            each["name"],
            each["gib"],
            tuple(
                BenchModel(model["name"], model["gib"], model["load_seconds"], role=model.get("role", "chat"))
                for model in each["models"]
            ),
        )
        for each in document["machines"]
    }
    for each in document["traces"]:
        yield Case(machines[each["machine"]], each["name"], [(now, model) for now, model in each["requests"]])


@dataclass(frozen=True, slots=True)
class Found:
    """By rule, of one trace."""

    seconds: Mapping[str, float]
    waits: Mapping[str, Waits]


def try_all(case: Case) -> Found:
    hindsight = Hindsight(case.machine)
    seconds = {
        name: seconds_in_order(rule(case.machine), case.machine, case.trace) for name, rule in RULES.items()
    }
    return Found(
        {**seconds, BEST: hindsight.seconds(case.trace)},
        {name: replay(rule(case.machine), case.trace, seed=1) for name, rule in RULES.items()},
    )


def table(found: Sequence[Found]) -> Iterator[str]:
    sums = {name: sum(each.seconds[name] for each in found) for name in (*RULES, BEST)}
    yield "                        in order  ÷ LRU ÷ best      timed    waits: p50    p95   mean"
    for name, seconds in sums.items():
        line = f"  {name:20} {seconds:7.0f} s {seconds / sums[LRU]:6.2f} {seconds / sums[BEST]:6.2f}"
        if name != BEST:
            waits = Waits(
                [one for each in found for one in each.waits[name].seconds],
                sum(each.waits[name].loading_seconds for each in found),
            )
            mean = sum(waits.seconds) / len(waits.seconds)
            line += f"  {waits.loading_seconds:7.0f} s"
            line += f"        {waits.at(0.5):6.1f} {waits.at(0.95):6.1f} {mean:6.1f}"
        yield line


def misses(by_machine: Mapping[str, Sequence[Found]]) -> Iterator[str]:
    """What was aimed at and is not reached."""
    every = [each for found in by_machine.values() for each in found]
    for name, found in by_machine.items():
        ours, lru, best = (sum(each.seconds[rule] for each in found) for rule in (OURS, LRU, BEST))
        if ours > lru:
            yield f"{name}: {ours / lru:.2f} of LRU"
        if ours > MOST_OF_BEST * best:
            yield f"{name}: {ours / best:.2f} of the best"
    ours, lru = (sum(each.seconds[rule] for each in every) for rule in (OURS, LRU))
    if ours > MOST_OF_LRU * lru:
        yield f"all: {ours / lru:.3f} of LRU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--by-trace", action="store_true", help="one table for each kind of trace too")
    parser.add_argument("--trace", type=Path)
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    by_machine: dict[str, list[Found]] = defaultdict(list)
    by_trace: dict[str, list[Found]] = defaultdict(list)
    for case in given(arguments.trace) if arguments.trace else invented(seeds, arguments.requests):
        found = try_all(case)
        by_machine[case.machine.name].append(found)
        by_trace[case.name].append(found)
    every = [each for found in by_machine.values() for each in found]
    for name, found in {**by_machine, **(by_trace if arguments.by_trace else {}), "all": every}.items():
        print(f"{name} ({len(found)} traces)", *table(found), "", sep="\n")
    missed = list(misses(by_machine))
    print(*(f"MISSED: {each}" for each in missed), sep="\n")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
