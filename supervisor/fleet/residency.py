"""Temporary: always swap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Resident:
    name: str
    bytes: Mapping[str, int] | None
    phase: Literal["loading", "ready", "leaving"]
    is_busy: bool
    pinned: bool
    priority: int
    since: float
    load_seconds: float


@dataclass(frozen=True, slots=True)
class Asked:
    name: str
    bytes: Mapping[str, int] | None
    since: float | None
    priority: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Beside: ...


@dataclass(frozen=True, slots=True)
class Evict:
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    for_names: tuple[str, ...]
    until: float | None


@dataclass(frozen=True, slots=True)
class RefuseLoad:
    why: str
    hint: str


Decision = Beside | Evict | Wait | RefuseLoad


def decide(
    asked: Asked,
    residents: Sequence[Resident],
    usable: Mapping[str, int],
    *,
    min_warm_seconds: float,
    max_wait_seconds: float,
    now: float,
) -> Decision:
    others = [each for each in residents if each.name != asked.name]
    needed = dict(asked.bytes or {})
    unknown = asked.bytes is None or any(each.bytes is None for each in others)
    for each in others:
        for pool, number in (each.bytes or {}).items():
            if pool in needed:
                needed[pool] += number
    fits = not unknown and all(number <= usable.get(pool, 0) for pool, number in needed.items())
    if not others or (fits and not asked.alone):
        return Beside()
    victims = [each for each in others if not each.pinned]
    if not victims:
        return RefuseLoad("it does not fit beside what is pinned", "goss-supervisor ps")
    leaving = [each for each in victims if each.phase != "ready"]
    if leaving:
        return Wait(tuple(each.name for each in leaving), None)
    if asked.since is not None:
        due = []
        for each in victims:
            overdue = max(asked.since, each.since) + max_wait_seconds
            due.append(overdue if each.is_busy else min(overdue, each.since + min_warm_seconds))
        if max(due) > now:
            return Wait(tuple(each.name for each in victims), max(due))
    return Evict(tuple(each.name for each in victims))
