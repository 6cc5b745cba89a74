"""
Which models are loaded at the same time: next to the others, in place of some, later, or not at all.  Pure.

The fleet asks `decide_all` about everything that waits to be loaded, again whenever something changes, and
loads a model only on `Beside`.  After `Evict` it asks again when those are gone.

**The account.**  A model is loaded next to the others if it fits into each memory that it uses, counting all
that is there, also what is loading or leaving.  Where a figure is missing, nothing is promised: two models do
not live together if the bytes of one are not known, or if both use a memory of which nobody knows how much
there is.  Then one takes the other's place.  Pinned ones stay in any case.

**The turns** are between the model that is asked for and each one that would have to go; others are not
concerned.  An idle one may go when it has been ready for ``min_warm_seconds``.  A busy one may go when the
request has waited for ``max_wait_seconds``, counted from when that one became ready if this was later, and
one that is loading when the request has waited for as long.  A busy one does not go where idle ones are
enough.  One that somebody waits for who came earlier does not go, and a pinned one never.  A person's `load`
counts as having waited long enough.

**Who goes** is the set whose loss is expected to cost least, of all that are enough: the chance that each is
wanted again soon (see `demand`), times the seconds of its load.  A set that may only go later is chosen if
the time until then is less than what it saves; after ``max_wait_seconds`` nobody waits any longer for that.

**Priority.**  One second lost by a higher priority counts more than any number lost by lower ones, so models
of lower priority go first.  A request waits for no warm time of a lower priority.  It does not take away a
model of higher priority that is in use: busy, or asked for within the last ``min_warm_seconds``.  It waits,
if need be until the gateway refuses it (``hold_timeout_seconds``).  A person's `load` does not.

**Nobody starves** among equals.  `decide_all` goes by priority and arrival, a person's `load` first.  Who
comes later gets only what those before it do not need: it has to fit now, and also when they have been
loaded.  Only who waits for a higher priority to end its use keeps nothing free meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf

from .decisions import (
    Asked,
    Beside,
    Decision,
    Evict,
    NoRoom,
    Resident,
    Shortage,
    Turns,
    UsableMemory,
    WaitFor,
    used,
)
from .demand import Demand
from .victims import Evictable, Lack, VictimChoice

SECONDS_PER_GIB = 1.0
"""For a load that was never timed: from a disk that reads about 1 GB a second."""


def decide_all(
    waiting: Iterable[Asked],
    residents: Sequence[Resident],
    memory: UsableMemory,
    demand: Demand,
    turns: Turns,
    *,
    now: float,
) -> dict[str, Decision]:
    """What to do for each that waits, by name and in the order of their turns."""
    table = _Table(residents, memory, demand, now)
    return {asked.name: table.decide(asked, turns) for asked in sorted(waiting, key=_turn)}


def one_more(
    asked: Asked, residents: Sequence[Resident], memory: UsableMemory, demand: Demand, *, now: float
) -> Evict | None:
    """
    After a load that died of memory although it should have fitted: the idle one to evict before it is tried
    again, the cheapest that uses the same memory.  None if there is none.
    """
    table = _Table(residents, memory, demand, now)
    candidates = [
        each
        for each in residents
        if each.phase == "ready" and not each.is_busy and not each.pinned and each.name != asked.name
        if asked.bytes is None or each.bytes is None or table.shared_pools(asked, each)
    ]
    cheapest = min(
        candidates, key=lambda each: (each.priority, table.loss_seconds(each), each.name), default=None
    )
    return Evict((cheapest.name,)) if cheapest else None


def _turn(asked: Asked) -> tuple[float, float]:
    return (-inf, -inf) if asked.since is None else (-asked.priority, asked.since)


_Scene = Mapping[str, Resident]


class _Table:
    """
    What is there, and what becomes of it by the decisions for those whose turn is earlier.

    ``there`` takes memory now.  The first scene is what stays of it, and each later one is when one more of
    those that wait has been loaded; who comes later has to fit into all scenes.
    """

    def __init__(
        self, residents: Sequence[Resident], memory: UsableMemory, demand: Demand, now: float
    ) -> None:
        self.memory, self.demand, self.now = memory, demand, now
        self.there: _Scene = {each.name: each for each in residents}
        self.scenes: list[_Scene] = [{each.name: each for each in residents if each.phase != "leaving"}]
        self.ahead: set[str] = set()

    def decide(self, asked: Asked, turns: Turns) -> Decision:
        itself = self.there.get(asked.name)
        if itself and itself.phase == "loading":
            if asked.alone:
                self._load(asked)
            return WaitFor((asked.name,), None)
        if refused := self._no_room(asked):
            return refused
        must, lacks = self._obstacles(asked, self.scenes)
        leaving = tuple(sorted(name for name in self.there if not any(name in each for each in self.scenes)))
        if must or lacks:
            return self._make_room(asked, turns, must, lacks)
        if asked.name in leaving or any(self._obstacles(asked, [self.there])):
            self._expect(asked, ())
            return WaitFor(leaving, None)
        self._load(asked)
        return Beside()

    # --- whether there is room

    def _no_room(self, asked: Asked) -> NoRoom | None:
        pinned = [each for name, each in self.scenes[0].items() if each.pinned and name != asked.name]
        short: list[Shortage] = []
        for pool, needed in used(asked.bytes).items():
            users = {each.name: taken for each in pinned if (taken := self._taken(each, pool))}
            missing = self._missing(pool, needed + sum(users.values()))
            if missing > 0:
                usable = self.memory.bytes[pool]
                short.append(Shortage(pool, needed, usable, sum(users.values()), tuple(sorted(users))))
        if not short:
            return None
        in_the_way = {name for each in short for name in each.pinned}
        fits_alone = all(each.needed_bytes <= each.usable_bytes for each in short)
        unload = "; ".join(f"goss-supervisor unload {name}" for name in sorted(in_the_way))
        smaller = f"goss-supervisor plan {asked.name} shows what would make it smaller"
        why = f"{asked.name} needs {', and '.join(map(str, short))}."
        return NoRoom(why, unload if fits_alone else smaller)

    def _obstacles(self, asked: Asked, scenes: Iterable[_Scene]) -> tuple[frozenset[str], list[Lack]]:
        """Who has to go in any case, and what is missing."""
        must: set[str] = set()
        lacks: list[Lack] = []
        for scene in scenes:
            others = [each for name, each in scene.items() if name != asked.name]
            must |= {each.name for each in others if not each.pinned and self._excludes(asked, each)}
            for pool, needed in used(asked.bytes).items():
                taken = {each.name: self._taken(each, pool) for each in others}
                missing = self._missing(pool, needed + sum(taken.values()))
                if missing > 0:
                    may_go = [each.name for each in others if not each.pinned and taken[each.name]]
                    lacks.append(Lack(missing, {name: taken[name] for name in may_go}))
        return frozenset(must), lacks

    def _excludes(self, asked: Asked, other: Resident) -> bool:
        """Whether the two cannot live together, whatever room there is."""
        if asked.alone or asked.bytes is None or other.bytes is None:
            return True
        return any(pool not in self.memory.bytes for pool in self.shared_pools(asked, other))

    def shared_pools(self, asked: Asked, other: Resident) -> Collection[str]:
        return used(asked.bytes).keys() & used(other.bytes).keys()

    def _taken(self, resident: Resident, pool: str) -> int:
        return used(resident.bytes).get(pool, 0)

    def _missing(self, pool: str, wanted_bytes: int) -> int:
        usable = self.memory.bytes.get(pool)
        return 0 if usable is None else wanted_bytes - usable

    # --- who goes, and when

    def _make_room(self, asked: Asked, turns: Turns, must: frozenset[str], lacks: Sequence[Lack]) -> Decision:
        residents = {name: each for scene in self.scenes for name, each in scene.items()}
        names = must.union(*(lack.given_bytes for lack in lacks))
        choice = VictimChoice(
            {name: self._candidate(asked, turns, residents[name]) for name in names},
            self.now,
            asked.priority,
            -inf if asked.since is None else asked.since + turns.max_wait_seconds,
        )
        chosen = choice.cheapest(must, lacks)
        awaited = sorted(name for name in chosen if choice.candidates[name].at > self.now)
        if not awaited:
            self.scenes = [_without(chosen, each) for each in self.scenes]
        for_equals = all(residents[name].priority <= asked.priority for name in chosen)
        if not awaited or for_equals:
            self._expect(asked, chosen)
        if not awaited:
            return Evict(tuple(sorted(chosen)))
        until = choice.may_go_at(chosen)
        if until == inf:
            return WaitFor(tuple(awaited), None)
        is_overdue = self.now >= choice.overdue_at
        return WaitFor(tuple(awaited), until if is_overdue else min(until, choice.overdue_at))

    def _candidate(self, asked: Asked, turns: Turns, other: Resident) -> Evictable:
        return Evictable(
            other.name,
            self._may_go_at(asked, turns, other),
            other.is_busy or other.phase == "loading",
            other.priority,
            self.loss_seconds(other),
        )

    def _may_go_at(self, asked: Asked, turns: Turns, other: Resident) -> float:
        """When it is the turn of ``asked`` between these two; infinity is not before something changes."""
        if other.name in self.ahead:
            return inf
        if asked.since is None:
            return -inf
        if other.waited_since is not None and other.waited_since <= asked.since:
            return inf
        is_loading = other.phase == "loading"
        is_in_use = other.is_busy or is_loading
        if other.priority > asked.priority:
            used_at = max(other.since, self.demand.asked_at(other.name) or 0.0)
            return inf if is_in_use else used_at + turns.min_warm_seconds
        overdue = (asked.since if is_loading else max(asked.since, other.since)) + turns.max_wait_seconds
        if is_in_use:
            return overdue
        return -inf if other.priority < asked.priority else min(overdue, other.since + turns.min_warm_seconds)

    def loss_seconds(self, resident: Resident) -> float:
        seconds = resident.load_seconds
        if seconds is None:
            seconds = SECONDS_PER_GIB * sum((resident.bytes or {}).values()) / 1024**3
        return self.demand.loss_seconds(resident.name, seconds, self.now, since=resident.since)

    # --- what follows for those whose turn is later

    def _load(self, asked: Asked) -> None:
        self.ahead.add(asked.name)
        loading = {asked.name: _loading(asked)}
        self.there = {**self.there, **loading}
        self.scenes = [{**each, **loading} for each in self.scenes]

    def _expect(self, asked: Asked, gone: Collection[str]) -> None:
        """It will be loaded when these are gone; until then they are in the way of others."""
        self.ahead.add(asked.name)
        self.scenes.append({**_without(gone, self.scenes[-1]), asked.name: _loading(asked)})


def _loading(asked: Asked) -> Resident:
    """One that is to be alone lives with nobody until it is loaded, as if its bytes were not known."""
    needs = None if asked.alone else asked.bytes
    return Resident(asked.name, needs, "loading", priority=asked.priority)


def _without(names: Collection[str], scene: _Scene) -> _Scene:
    return {name: each for name, each in scene.items() if name not in names}
