"""
Requests that come at their times, take theirs, and wait for loads and for each other: a simulated machine.

A model answers any number of requests at once; models load at the same time without slowing each other; to
stop one takes a second.  A busy one finishes what it has, and takes nothing new meanwhile.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from random import Random
from typing import Literal

from eviction_rules import KEPT_SECONDS, Ours, Rule, Turns
from traces import Trace

from supervisor.fleet.decisions import Asked, Beside, Evict, Resident, ResidentPhase, UsableMemory, WaitFor
from supervisor.fleet.residency import decide_all

STOP_SECONDS = 1.0


@dataclass(slots=True)
class Server:
    """``phase`` "draining": it is to go, and finishes what it has."""

    phase: Literal["absent", "loading", "ready", "draining", "leaving"] = "absent"
    since: float = 0.0
    under_way: int = 0
    waiting: list[float] = field(default_factory=list)  # when they arrived


@dataclass(slots=True)
class Waits:
    """Of each request the seconds until its answer began; and what was spent on loading."""

    seconds: list[float] = field(default_factory=list)
    loading_seconds: float = 0.0

    def at(self, share: float) -> float:
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


class Box:
    """The machine; ``step`` is called after each event, and starts and stops what it decides."""

    def __init__(self, rule: Rule, seed: int) -> None:
        self.rule, self.machine = rule, rule.machine
        self.servers = [Server() for _ in self.machine.models]
        self.now = 0.0
        self.waits = Waits()
        self._random = Random(seed)
        self._number = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.step = self._ours if isinstance(rule, Ours) else self._theirs

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._number), what))

    def run(self, trace: Trace) -> Waits:
        for when, model in trace:
            self.at(when, lambda model=model: self._arrive(model))  # type: ignore[misc]
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()
            self.step()
        assert len(self.waits.seconds) == len(trace), "somebody was never answered"
        return self.waits

    # --- events

    def _arrive(self, model: int) -> None:
        self.rule.note(model, self.now)
        self.servers[model].waiting.append(self.now)
        self._answer(model)

    def _answer(self, model: int) -> None:
        server = self.servers[model]
        if server.phase == "ready":
            for arrived in server.waiting:
                self.waits.seconds.append(self.now - arrived)
                server.under_way += 1
                self.at(self.now + self._random.lognormvariate(2, 0.8), lambda: self._end(model))
            server.waiting.clear()

    def _end(self, model: int) -> None:
        server = self.servers[model]
        server.under_way -= 1
        if server.phase == "draining" and not server.under_way:
            self._leave(model)
        self.at(self.now + KEPT_SECONDS, lambda: None)  # some rules let idle ones go then

    def _leave(self, model: int) -> None:
        self.servers[model].phase = "leaving"
        self.at(self.now + STOP_SECONDS, lambda: self._is("absent", model))

    def _is(self, phase: Literal["absent", "ready"], model: int) -> None:
        self.servers[model].phase = phase
        self.servers[model].since = self.now
        self._answer(model)

    # --- what a step does

    def load(self, model: int) -> None:
        assert self.servers[model].phase == "absent"
        self.servers[model].phase = "loading"
        self.waits.loading_seconds += self.machine.models[model].load_seconds
        self.at(self.now + self.machine.models[model].load_seconds, lambda: self._is("ready", model))
        there = [each for each, server in enumerate(self.servers) if server.phase != "absent"]
        for pool, number in self.machine.bytes.items():
            assert sum(self.machine.models[each].bytes.get(pool, 0) for each in there) <= number, pool

    def stop(self, model: int) -> None:
        server = self.servers[model]
        if server.phase == "ready" and server.under_way:
            server.phase = "draining"
        elif server.phase in {"ready", "loading"}:
            self._leave(model)

    def _ours(self) -> None:
        assert isinstance(self.rule, Ours)
        models = self.machine.models
        waiting = [
            Asked(models[each].name, models[each].bytes, server.waiting[0])
            for each, server in enumerate(self.servers)
            if server.waiting and server.phase not in {"ready", "loading"}
        ]
        if not waiting:
            return
        decisions = decide_all(
            waiting,
            [self._resident(each) for each, server in enumerate(self.servers) if server.phase != "absent"],
            UsableMemory(self.machine.bytes),
            self.rule.demand,
            Turns(),
            now=self.now,
        )
        by_name = {each.name: number for number, each in enumerate(models)}
        for name, decision in decisions.items():
            match decision:
                case Beside():
                    self.load(by_name[name])
                case Evict(names):
                    self.rule.demand.note_eviction(self.now)
                    for each in names:
                        self.stop(by_name[each])
                case WaitFor(_, until) if until is not None:
                    self.at(until, lambda: None)

    def _resident(self, model: int) -> Resident:
        server, known = self.servers[model], self.machine.models[model]
        phase: ResidentPhase = (
            "ready" if server.phase == "ready" else "loading" if server.phase == "loading" else "leaving"
        )
        return Resident(
            known.name,
            known.bytes,
            phase,
            is_busy=bool(server.under_way or server.waiting),
            since=server.since,
            load_seconds=known.load_seconds,
            waited_since=min(server.waiting, default=None),
        )

    def _theirs(self) -> None:
        """Who waits longest is loaded once those are gone that have to; the next one waits for that."""
        ready = [each for each, server in enumerate(self.servers) if server.phase == "ready"]
        idle = [each for each in ready if not self.servers[each].under_way]
        for each in self.rule.expired(idle, self.now):
            self.stop(each)
        if any(server.phase in {"loading", "draining", "leaving"} for server in self.servers):
            return
        asked = min(range(len(self.servers)), key=lambda each: min(self.servers[each].waiting, default=inf))
        if not self.servers[asked].waiting:
            return
        gone = self._to_go(asked, ready, idle)
        for each in gone:
            self.stop(each)
        if not gone:
            self.load(asked)

    def _to_go(self, asked: int, ready: Sequence[int], idle: Sequence[int]) -> Sequence[int]:
        """By the rule: idle ones if they are enough."""
        chosen = set(self.rule.victims(asked, ready, self.now))
        if not chosen or chosen <= set(idle):
            return sorted(chosen)
        for_idle = self.rule.victims(asked, idle, self.now)
        left = [each for each in ready if each not in for_idle]
        return sorted(for_idle) if for_idle and self.rule.has_room(asked, left) else sorted(chosen)


def replay(rule: Rule, trace: Trace, seed: int) -> Waits:
    return Box(rule, seed).run(trace)
