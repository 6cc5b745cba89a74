"""
Gives servers their memory: the shell around `residency`, which decides.

Whoever wants a server to run a plan comes here first.  A load that has to wait for another model to become
free waits here; the requests for it wait in the gateway's queue meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

from ..errors import DoesNotFit, StartFailed
from ..home.event_log import about
from ..plan.launch import LaunchPlan
from ..plan.listen import Offer
from ..profile.definition import GatewaySettings
from ..server.instance import Instance
from ..server.lifecycle import OF_MEMORY
from ..server.lifecycle_table import ABSENT, SERVING, State
from ..server.outcome import Outcome
from .decisions import BYTES_OF_ONE_USER as ONE_USER
from .decisions import Asked, Awaited, Beside, Decision, Evict, NoRoom, Resident, UsableMemory, WaitFor
from .demand import Demand
from .residency import decide_all, one_more

log = logging.getLogger(__name__)

MEASURE_SECONDS = 10.0  # between two looks at how much memory is free, while a load waits
PAUSE_SECONDS = 0.05  # and at least: what is due may have to wait for something else all the same
LOOK_SECONDS = 1.0  # at most, between two looks at a situation that must change before a load
_LEAVING = {State.DRAINING, State.STOPPING, State.KILLING}


_MODELS = "models"
"""Counted as if it were one more memory, of which each model takes 1: `GatewaySettings.max_loaded`."""
_MANY = 1000


class ClientDemand(Protocol):
    """What clients want, as the gateway knows it; times are the loop's."""

    def is_busy(self, name: str) -> bool:
        """Whether this server answers requests, or has some that wait for a place there."""

    def waiting_since(self, profile: str) -> float | None:
        """When the first request arrived that waits for this profile."""

    def offer_of(self, profile: str) -> Offer | None:
        """On what terms this profile is served."""

    @property
    def settings(self) -> GatewaySettings: ...


@dataclass(frozen=True, slots=True, eq=False)
class _PendingLoad:
    """One load that waits for its memory."""

    instance: Instance
    plan: LaunchPlan
    by_request: bool
    alone: bool
    evicts: bool

    @property
    def name(self) -> str:
        return self.plan.profile


class Admission:
    """Of the servers that ``fleet`` goes through; ``clients`` gives what they want, None where none can."""

    def __init__(self, fleet: Iterable[Instance], clients: Callable[[], ClientDemand | None]) -> None:
        self._fleet = fleet
        self._clients = clients
        self._demand = Demand()
        self._usable = UsableMemory({})
        self._waiting: list[_PendingLoad] = []
        self._awaited: dict[str, WaitFor] = {}  # by profile, as decided last
        self._changed = asyncio.Event()
        self._admitted: dict[str, LaunchPlan] = {}  # by server: what was let in and is not under way yet
        self._loads: dict[str, float] = {}  # by server: when the load under way began
        self._ready: dict[str, float] = {}  # by server: since when it serves
        self._present: set[str] = set()  # servers that hold memory, by name
        self._load_seconds: dict[str, float] = {}  # by profile: what the last load took
        self._evictions: dict[str, str] = {}  # by server: for which profile it was unloaded last

    def changed(self, instance: Instance | None = None) -> None:
        """This server is in another state, or has become idle."""
        if instance is not None:
            self._keep_times(instance)
        self._changed.set()
        self._changed = asyncio.Event()

    def wanted(self, profile: str) -> None:
        """A request has arrived that is work for this profile's model, loaded or not."""
        self._demand.note(profile, self._now)

    def _keep_times(self, instance: Instance) -> None:
        name, state, now = instance.name, instance.server.state, asyncio.get_running_loop().time()
        if state is State.STARTING:
            self._evictions.pop(name, None)
            self._loads.setdefault(name, now)
        elif state in SERVING:
            self._ready.setdefault(name, now)
            if (began := self._loads.pop(name, None)) is not None:
                self._load_seconds[instance.profile] = now - began
        else:
            self._loads.pop(name, None)
            self._ready.pop(name, None)
        if state not in ABSENT:
            self._present.add(name)
        elif name in self._present:
            self._present.discard(name)
            instance.placement = ""

    async def launch(
        self,
        instance: Instance,
        plan: LaunchPlan,
        begin: Callable[[], asyncio.Future[Outcome]],
        *,
        by_request: bool = False,
        alone: bool = False,
        evicts: bool = True,
    ) -> asyncio.Future[Outcome]:
        """
        ``begin`` once there is memory for this plan, with what has to be unloaded for it unloaded, if it
        ``evicts``.

        A load that a person asks for does not wait for models in use to become free.  One that dies of memory
        all the same takes one more idle model away, once.  Raises DoesNotFit where there is no room beside
        what is pinned, and StartFailed where no request waits for it any more.
        """
        asking = _PendingLoad(instance, plan, by_request=by_request, alone=alone, evicts=evicts)
        unloaded = await self._make_room(asking)
        decided = await self._begin(asking, begin, unloaded)
        return asyncio.ensure_future(self._insist(asking, begin, decided))

    async def _begin(
        self, asking: _PendingLoad, begin: Callable[[], asyncio.Future[Outcome]], unloaded: Sequence[Instance]
    ) -> asyncio.Future[Outcome]:
        """It has been admitted."""
        instance = asking.instance
        try:
            for each in unloaded:
                await each.server.released(asking.plan)
            instance.placement = _in_words(self._residents(asking), unloaded)
            decided = begin()
        except BaseException:
            del self._admitted[instance.name]
            raise
        decided.add_done_callback(lambda _: self._admitted.pop(instance.name, None))
        return decided

    async def _insist(
        self,
        asking: _PendingLoad,
        begin: Callable[[], asyncio.Future[Outcome]],
        decided: asyncio.Future[Outcome],
    ) -> Outcome:
        outcome, server = await decided, asking.instance.server
        died_of_memory = server.failure is not None and server.failure.kind in OF_MEMORY
        insists = died_of_memory and asking.evicts and not asking.plan.is_trial
        if outcome.result not in {"failed", "rolled back"} or not insists:
            return outcome
        victim = one_more(
            self._asked(asking), self._residents(asking), self._usable, self._demand, now=self._now
        )
        if victim is None:
            return outcome
        log.warning(
            "%s ran out of memory while it loaded: once more without %s", asking.name, victim.names[0]
        )
        self._admitted[asking.instance.name] = asking.plan
        unloaded = await self._evict(victim.names, asking.name)
        return await (await self._begin(asking, begin, unloaded))

    async def _make_room(self, asking: _PendingLoad) -> list[Instance]:
        """What was unloaded; the plan counts as admitted from the moment of the decision on."""
        unloaded: list[Instance] = []
        measured_at = -inf
        self._waiting.append(asking)
        try:
            while self._residents(asking):
                if self._now - measured_at >= MEASURE_SECONDS:
                    await self._measure(asking)
                    measured_at = self._now
                    continue  # time has passed
                match self._decision(asking):
                    case Beside():
                        break
                    case Evict(names):
                        self._awaited[asking.name] = WaitFor(names, self._now + self._drain_seconds(names))
                        unloaded += await self._evict(names, asking.name)
                    case WaitFor(_, until) as awaited:
                        self._awaited[asking.name] = awaited
                        await self._until(until)
                    case NoRoom(why, hint):
                        if not asking.evicts:
                            hint = f"goss-supervisor load {asking.name} unloads others for it."
                        raise DoesNotFit(f"{asking.name} cannot be loaded: {why}", hint=hint)
        finally:
            self._waiting.remove(asking)
            self._awaited.pop(asking.name, None)
        self._admitted[asking.instance.name] = asking.plan
        return unloaded

    def _decision(self, asking: _PendingLoad) -> Decision:
        if asking.by_request and self._waiting_since(asking.name) is None:
            raise StartFailed(f"Nobody waits for {asking.name} any more.")
        residents = self._residents(asking)
        if not asking.evicts:
            residents = [replace(each, pinned=True) for each in residents]
        waiting = [each for each in self._waiting if not each.by_request or self._waiting_since(each.name)]
        decisions = decide_all(
            [self._asked(each) for each in waiting],
            residents,
            self._usable,
            self._demand,
            self._settings,
            now=self._now,
        )
        return decisions[asking.name]

    @property
    def awaited(self) -> list[Awaited]:
        """What each load that waits for memory waits for."""
        return [
            Awaited(
                profile,
                each.names,
                f"waits for {' and '.join(map(self._in_use, each.names))}",
                None if each.until is None else round(max(each.until - self._now, 0.0), 1),
            )
            for profile, each in self._awaited.items()
        ]

    def _in_use(self, profile: str) -> str:
        """Why a model does not make way at once."""
        found = next((each for each in self._fleet if each.profile == profile), None)
        if found is None:
            return profile
        answers, state = found.under_way(), found.server.state
        if answers:
            return f"{profile}, which answers {answers} request{'' if answers == 1 else 's'}"
        if state in _LEAVING:
            return f"{profile}, which is being unloaded"
        return f"{profile}, which {'must not be unloaded yet' if state in SERVING else 'is being loaded'}"

    def held_plan(self, instance: Instance) -> LaunchPlan | None:
        """The plan that has memory in this server, or was let in; None for one that is not loaded."""
        is_there = instance.server.state not in ABSENT
        return self._admitted.get(instance.name) or (instance.server.plan if is_there else None)

    def _drain_seconds(self, profiles: Collection[str]) -> float:
        """How long their requests under way may go on."""
        held = (self.held_plan(each) for each in self._fleet)
        return max((plan.drain_seconds for plan in held if plan and plan.profile in profiles), default=0.0)

    async def _evict(self, names: tuple[str, ...], profile: str) -> list[Instance]:
        """Unload them, after their requests under way."""
        victims = [each for each in self._fleet if (held := self.held_plan(each)) and held.profile in names]
        log.info(
            "unloading %s for %s",
            ", ".join(names),
            profile,
            extra=about("eviction", profiles=list(names), profile=profile),
        )
        self._demand.note_eviction(self._now)
        self._evictions |= dict.fromkeys((each.name for each in victims), profile)
        await asyncio.gather(*(each.server.sleep() for each in victims))
        for each in victims:
            each.placement = f"unloaded for {profile}"
        return victims

    async def _until(self, due: float | None) -> None:
        seconds = LOOK_SECONDS if due is None else max(min(due - self._now, LOOK_SECONDS), PAUSE_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    def evicted_for(self, profile: str) -> frozenset[str]:
        """The servers that were unloaded for this profile and have not been loaded since, by name."""
        return frozenset(name for name, cause in self._evictions.items() if cause == profile)

    async def foresee(self, instance: Instance, plan: LaunchPlan) -> Decision:
        """What would be decided now about a person's load of this plan in this server."""
        asking = _PendingLoad(instance, plan, by_request=False, alone=False, evicts=True)
        if not self._residents(asking):
            return Beside()
        await self._measure(asking)
        self._waiting.append(asking)
        try:
            return self._decision(asking)
        finally:
            self._waiting.remove(asking)

    # --- what there is

    @property
    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def _settings(self) -> GatewaySettings:
        clients = self._clients()
        return clients.settings if clients else GatewaySettings()

    def _waiting_since(self, profile: str) -> float | None:
        clients = self._clients()
        return clients.waiting_since(profile) if clients else None

    def _asked(self, asking: _PendingLoad) -> Asked:
        since = self._waiting_since(asking.name) if asking.by_request else None
        needs = self._limited(asking.plan.needs)
        return Asked(asking.name, needs, since, self._priority(asking.name), asking.alone)

    def _residents(self, asking: _PendingLoad) -> list[Resident]:
        """All others that hold memory, or were let in."""
        return [
            self._resident(each, plan)
            for each in self._fleet
            if each is not asking.instance and (plan := self.held_plan(each)) is not None
        ]

    def _resident(self, instance: Instance, plan: LaunchPlan) -> Resident:
        name, server, clients = instance.name, instance.server, self._clients()
        return Resident(
            plan.profile,
            self._limited(server.memory.needed_bytes(plan)),
            "leaving" if server.state in _LEAVING else "ready" if server.state in SERVING else "loading",
            is_busy=clients is not None and clients.is_busy(name),
            pinned=self.is_pinned(instance),
            priority=self._priority(plan.profile),
            since=self._ready.get(name, self._now),
            load_seconds=self._load_seconds.get(plan.profile),
            waited_since=self._waiting_since(plan.profile),
        )

    def _limited(self, needs: Mapping[str, int]) -> dict[str, int] | None:
        """
        None is not known.  What takes more than there is, and was allowed to (a mapped model is read again
        and again), needs all that there is.
        """
        if not needs:
            return None
        most = self._usable.bytes
        return {pool: min(number, max(most.get(pool, number), 1)) for pool, number in needs.items()} | {
            _MODELS: 1
        }

    def is_pinned(self, instance: Instance) -> bool:
        """Whether nothing unloads it for another: its profile says so, or somebody measures it."""
        offer = self._offer_of(instance.profile)
        return instance.server.is_held or (offer is not None and offer.pinned)

    def _priority(self, profile: str) -> int:
        offer = self._offer_of(profile)
        return offer.priority if offer else 0

    def _offer_of(self, profile: str) -> Offer | None:
        clients = self._clients()
        return clients.offer_of(profile) if clients else None

    async def _measure(self, asking: _PendingLoad) -> None:
        """
        What of each memory all our servers together may take: what is free now, and what they hold.  A memory
        of which nobody can tell is left out; that of a worker has room for one model, however large.
        """
        plan, server = asking.plan, asking.instance.server
        free = await server.memory.free_for(plan, server.launcher.environment_of(plan))
        for each in self._fleet:
            for pool, number in each.server.memory.held_bytes(each.server.plan).items():
                if pool in free:
                    free[pool] += number
        usable = {
            pool: min(number - plan.keeps.get(pool, 0), plan.ours.get(pool, number))
            for pool, number in free.items()
        }
        usable |= dict.fromkeys(plan.workers, ONE_USER)
        self._usable = UsableMemory(
            {**self._usable.bytes, **usable, _MODELS: self._settings.max_loaded or _MANY}
        )


def _in_words(residents: Sequence[Resident], unloaded: Sequence[Instance]) -> str:
    if unloaded:
        return f"loaded in place of {', '.join(each.profile for each in unloaded)}"
    return f"loaded next to {', '.join(each.name for each in residents)}" if residents else ""
