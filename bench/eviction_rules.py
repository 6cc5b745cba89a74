"""
Which models ours evicts, which others do, as far as their sources tell, and the best choice in hindsight.

Ollama: server/sched.go at fb3076099 (21 August 2026).  Lemonade: router.cpp and eviction_engine.cpp at
e385039ed (22 August 2026).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from traces import BenchModel, Machine, Trace

from supervisor.fleet.decisions import Asked, Evict, Resident, UsableMemory
from supervisor.fleet.demand import Demand
from supervisor.fleet.residency import decide_all

KEPT_SECONDS = 300.0  # Ollama's keep_alive, and Lemonade's evict_idle_timeout


class Rule:
    """A rule knows when each model was asked for last; models are numbers, as in the trace."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.asked_at: dict[int, float] = {}

    def note(self, model: int, now: float) -> None:
        self.asked_at[model] = now

    def expired(self, loaded: Sequence[int], now: float) -> list[int]:
        """Those that go though nobody needs their memory."""
        return []

    def victims(self, asked: int, loaded: Sequence[int], now: float) -> list[int]:
        """Those that go before this one is loaded; they may not be enough."""
        raise NotImplementedError

    def pressed(self, loaded: Sequence[int], now: float) -> list[int]:
        """Those that go after something was loaded."""
        return []

    def one_by_one(self, asked: int, order: Sequence[int]) -> list[int]:
        """The first of them, until there is room for this one."""
        gone: list[int] = []
        while len(gone) < len(order) and not self.has_room(asked, order[len(gone) :]):
            gone.append(order[len(gone)])
        return gone

    def has_room(self, asked: int, others: Iterable[int]) -> bool:
        return fits(self.machine, [*others, asked])


class AlwaysSwap(Rule):
    """One model at a time: llama-swap without groups, and this program until now."""

    def victims(self, asked: int, loaded: Sequence[int], now: float) -> list[int]:
        return list(loaded)


class LeastRecent(Rule):
    """The one that nobody has asked for the longest, until there is room: llama.cpp's router, LocalAI."""

    def victims(self, asked: int, loaded: Sequence[int], now: float) -> list[int]:
        return self.one_by_one(asked, sorted(loaded, key=lambda each: self.asked_at.get(each, 0.0)))


class OllamaKept(Rule):
    """
    Ollama with OLLAMA_KEEP_ALIVE=-1: all have the same duration, so the first by the path of its file goes,
    until what is asked for needs no more than 80 % of what is free, or is alone; at most three for each GPU.
    """

    def victims(self, asked: int, loaded: Sequence[int], now: float) -> list[int]:
        return self.one_by_one(asked, sorted(loaded, key=lambda each: self.machine.models[each].name))

    def has_room(self, asked: int, others: Iterable[int]) -> bool:
        others = list(others)
        gpus = [pool for pool in self.machine.gib if pool != "RAM"] or ["RAM"]
        if not others:
            return True
        needed = self.machine.models[asked].gib
        enough = all(needed.get(pool, 0) <= 0.8 * free(self.machine, others, pool) for pool in gpus)
        return enough and len(others) < 3 * len(gpus) and super().has_room(asked, others)


class Ollama(OllamaKept):
    """The same with its default of five minutes, after which an idle model goes anyway."""

    def expired(self, loaded: Sequence[int], now: float) -> list[int]:
        return [each for each in loaded if now - self.asked_at.get(each, now) >= KEPT_SECONDS]


class Lemonade(Rule):
    """
    One model of each kind (max_loaded_models=1), the least recent of the kind goes; nothing is counted.  A
    load that fails takes away all others: here at once, so the failed load costs it no time.
    """

    def victims(self, asked: int, loaded: Sequence[int], now: float) -> list[int]:
        role = self.machine.models[asked].role
        return self.or_all(asked, loaded, [each for each in loaded if self.machine.models[each].role == role])

    def or_all(self, asked: int, loaded: Sequence[int], gone: list[int]) -> list[int]:
        left = [each for each in loaded if each not in gone]
        return gone if self.has_room(asked, left) else list(loaded)


class LemonadePressed(Lemonade):
    """
    Lemonade with max_loaded_models=-1 and auto_evict=true: idle ones go after five minutes, and above 90 % of
    a memory the one with the largest idle time ÷ load time goes.
    """

    def victims(self, asked: int, loaded: Sequence[int], now: float) -> list[int]:
        return self.or_all(asked, loaded, [])

    def expired(self, loaded: Sequence[int], now: float) -> list[int]:
        return [each for each in loaded if now - self.asked_at.get(each, now) >= KEPT_SECONDS]

    def pressed(self, loaded: Sequence[int], now: float) -> list[int]:
        order = sorted(loaded, key=lambda each: self._score(each, now), reverse=True)
        gone: list[int] = []
        while len(gone) < len(order) - 1 and self._is_pressed(order[len(gone) :]):
            gone.append(order[len(gone)])
        return gone

    def _score(self, model: int, now: float) -> float:
        return (now - self.asked_at.get(model, now)) / self.machine.models[model].load_seconds

    def _is_pressed(self, loaded: Sequence[int]) -> bool:
        return any(
            free(self.machine, loaded, pool) < 0.1 * number for pool, number in self.machine.gib.items()
        )


@dataclass(frozen=True, slots=True)
class Turns:
    min_warm_seconds: float = 30.0
    max_wait_seconds: float = 120.0


class Ours(Rule):
    """The program's own function, without turns: each request is answered before the next one comes."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.demand = Demand()

    def note(self, model: int, now: float) -> None:
        super().note(model, now)
        self.demand.note(self.machine.models[model].name, now)

    def victims(self, asked: int, loaded: Sequence[int], now: float) -> list[int]:
        models = self.machine.models
        residents = [
            Resident(models[each].name, models[each].bytes, load_seconds=models[each].load_seconds)
            for each in loaded
        ]
        wanted = Asked(models[asked].name, models[asked].bytes, now)
        memory = UsableMemory(self.machine.bytes)
        decisions = decide_all([wanted], residents, memory, self.demand, Turns(0, 0), now=now)
        decision = decisions[wanted.name]
        if not isinstance(decision, Evict):
            return []
        self.demand.note_eviction(now)
        return [each for each in loaded if models[each].name in decision.names]


RULES: Mapping[str, type[Rule]] = {
    "ours": Ours,
    "LRU": LeastRecent,
    "always swap": AlwaysSwap,
    "Ollama": Ollama,
    "Ollama, kept": OllamaKept,
    "Lemonade": Lemonade,
    "Lemonade, auto": LemonadePressed,
}


def free(machine: Machine, loaded: Iterable[int], pool: str) -> float:
    return machine.gib[pool] - sum(machine.models[each].gib.get(pool, 0) for each in loaded)


def fits(machine: Machine, loaded: Sequence[int]) -> bool:
    return all(free(machine, loaded, pool) >= -1e-9 for pool in machine.gib)


class Hindsight:
    """The least seconds of loading for a trace that is served in its order: exact, over all sets."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._known: dict[tuple[frozenset[int], int], list[frozenset[int]]] = {}

    def seconds(self, trace: Trace) -> float:
        least = {frozenset[int](): 0.0}
        for _, model in trace:
            after: dict[frozenset[int], float] = {}
            for loaded, seconds in least.items():
                if model in loaded:
                    choices, cost = [loaded], seconds
                else:
                    choices, cost = self._after(loaded, model), seconds + _load(self.machine, model)
                for choice in choices:
                    after[choice] = min(cost, after.get(choice, cost))
            least = after
        return min(least.values())

    def _after(self, loaded: frozenset[int], model: int) -> list[frozenset[int]]:
        """All that can be loaded with this one, less what could stay as well: that never helps."""
        key = (loaded, model)
        if key not in self._known:
            found: list[frozenset[int]] = []
            for size in range(len(loaded), -1, -1):
                for kept in map(frozenset, combinations(sorted(loaded), size)):
                    with_it = kept | {model}
                    if not any(with_it <= larger for larger in found) and fits(self.machine, [*with_it]):
                        found.append(with_it)
            self._known[key] = found
        return self._known[key]


def _load(machine: Machine, model: int) -> float:
    chosen: BenchModel = machine.models[model]
    return chosen.load_seconds
