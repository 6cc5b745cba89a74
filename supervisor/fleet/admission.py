"""
Gives servers their memory: the shell around `residency`, which decides.

Whoever wants a server to run a plan comes here first.  A load that has to wait for another model to become
free waits here; the requests for it wait in the gateway's queue meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol

from ..errors import DoesNotFit, StartFailed
from ..plan.launch import LaunchPlan
from ..plan.listen import Offer
from ..profile.definition import GatewaySettings
from ..server.instance import Instance
from ..server.lifecycle_table import SERVING, State
from ..server.memory_warnings import RAM
from ..server.outcome import Outcome
from .residency import Asked, Beside, Decision, Evict, RefuseLoad, Resident, Wait, decide

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # at most, between two looks at a situation that must change before a load
_COMING = {State.PREPARING, State.STARTING, State.BACKOFF}
_ABSENT = {State.STOPPED, State.SLEEPING, State.FAILED}
_LEAVING = {State.DRAINING, State.STOPPING, State.KILLING}


_MODELS = "models"
"""Counted as if it were one more memory, of which each model takes 1: `GatewaySettings.max_loaded`."""


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


class Admission:
    """Of the servers that ``fleet`` goes through; ``demand`` gives what clients want, None where none can."""

    def __init__(self, fleet: Iterable[Instance], demand: Callable[[], ClientDemand | None]) -> None:
        self._fleet = fleet
        self._demand = demand
        self._changed = asyncio.Event()
        self._admitted: dict[str, LaunchPlan] = {}  # by server: what was let in and is not under way yet
        self._loads: dict[str, float] = {}  # by server: when the load under way began
        self._ready: dict[str, float] = {}  # by server: since when it serves
        self._present: set[str] = set()  # servers that hold memory, by name
        self._load_seconds: dict[str, float] = {}  # by profile: what the last load took

    def changed(self, instance: Instance | None = None) -> None:
        """This server is in another state, or has become idle."""
        if instance is not None:
            self._keep_times(instance)
        self._changed.set()
        self._changed = asyncio.Event()

    def used(self, profile: str) -> None:
        """A request that is work for a model goes to the server of this profile."""

    def _keep_times(self, instance: Instance) -> None:
        name, state, now = instance.name, instance.server.state, asyncio.get_running_loop().time()
        if state is State.STARTING:
            self._loads.setdefault(name, now)
        elif state in SERVING:
            self._ready.setdefault(name, now)
            if (began := self._loads.pop(name, None)) is not None:
                self._load_seconds[instance.profile] = now - began
        else:
            self._loads.pop(name, None)
            self._ready.pop(name, None)
        if state not in _ABSENT:
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
    ) -> asyncio.Future[Outcome]:
        """
        ``begin`` once there is memory for this plan, with what has to be unloaded for it unloaded.

        A load that a person asks for does not wait for models in use to become free.  Raises DoesNotFit where
        it cannot be had, and StartFailed where no request waits for it any more.
        """
        unloaded = await self._make_room(instance, plan, by_request=by_request, alone=alone)
        try:
            for each in unloaded:
                await each.server.released(plan)
            instance.placement = _in_words(self._residents(instance), unloaded)
            decided = begin()
        except BaseException:
            del self._admitted[instance.name]
            raise
        decided.add_done_callback(lambda _: self._admitted.pop(instance.name, None))
        return decided

    async def _make_room(
        self, instance: Instance, plan: LaunchPlan, *, by_request: bool, alone: bool
    ) -> list[Instance]:
        """What was unloaded; the plan counts as admitted from the moment of the decision on."""
        usable: Mapping[str, int] | None = None
        unloaded: list[Instance] = []
        while residents := self._residents(instance):
            if usable is None:
                usable = await self._usable(instance, plan)
                continue  # time has passed
            match self._decision(plan, residents, usable, by_request=by_request, alone=alone):
                case Beside():
                    break
                case Evict(names):
                    unloaded += await self._evict(names, plan.profile)
                case Wait(_, until):
                    await self._until(until)
                    usable = None
                case RefuseLoad(why, hint):
                    raise DoesNotFit(f"{plan.profile} cannot be loaded: {why}.", hint=hint)
        self._admitted[instance.name] = plan
        return unloaded

    def _decision(
        self,
        plan: LaunchPlan,
        residents: list[Resident],
        usable: Mapping[str, int],
        *,
        by_request: bool,
        alone: bool,
    ) -> Decision:
        demand = self._demand()
        since = demand.waiting_since(plan.profile) if by_request and demand else None
        if by_request and since is None:
            raise StartFailed(f"Nobody waits for {plan.profile} any more.")
        settings = demand.settings if demand else GatewaySettings()
        if settings.max_loaded:
            usable = {**usable, _MODELS: settings.max_loaded}
        return decide(
            Asked(plan.profile, _needs_of(plan), since, self._priority(plan.profile), alone),
            residents,
            usable,
            min_warm_seconds=settings.min_warm_seconds,
            max_wait_seconds=settings.max_wait_seconds,
            now=asyncio.get_running_loop().time(),
        )

    async def _evict(self, names: tuple[str, ...], profile: str) -> list[Instance]:
        """Unload them, after their requests under way."""
        victims = [each for each in self._fleet if each.profile in names]
        log.info("unloading %s for %s", ", ".join(names), profile)
        await asyncio.gather(*(each.server.sleep() for each in victims))
        for each in victims:
            each.placement = f"unloaded for {profile}"
        return victims

    async def _until(self, due: float | None) -> None:
        now = asyncio.get_running_loop().time()
        seconds = LOOK_SECONDS if due is None else min(max(due - now, 0.0), LOOK_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    # --- what there is

    def _residents(self, asking: Instance) -> list[Resident]:
        """All others that hold memory, or were let in."""
        return [
            self._resident(each, plan)
            for each in self._fleet
            if each is not asking and (plan := self._held_plan(each)) is not None
        ]

    def _held_plan(self, instance: Instance) -> LaunchPlan | None:
        is_there = instance.server.state in SERVING | _COMING | _LEAVING
        return self._admitted.get(instance.name) or (instance.server.plan if is_there else None)

    def _resident(self, instance: Instance, plan: LaunchPlan) -> Resident:
        name, server = instance.name, instance.server
        demand = self._demand()
        needs = _needs_of(plan)
        if needs is not None and RAM in needs:
            needs[RAM] = max(needs[RAM], server.resident_bytes() or 0)
        return Resident(
            plan.profile,
            needs,
            "leaving" if server.state in _LEAVING else "ready" if server.state in SERVING else "loading",
            is_busy=demand is not None and demand.is_busy(name),
            pinned=self.is_pinned(instance),
            priority=self._priority(plan.profile),
            since=self._ready.get(name, asyncio.get_running_loop().time()),
            load_seconds=self._load_seconds.get(plan.profile, 0.0),
        )

    def is_pinned(self, instance: Instance) -> bool:
        """Whether nothing unloads it for another: its profile says so, or somebody measures it."""
        offer = self._offer_of(instance.profile)
        return instance.server.is_held or (offer is not None and offer.pinned)

    def _priority(self, profile: str) -> int:
        offer = self._offer_of(profile)
        return offer.priority if offer else 0

    def _offer_of(self, profile: str) -> Offer | None:
        demand = self._demand()
        return demand.offer_of(profile) if demand else None

    async def _usable(self, asking: Instance, plan: LaunchPlan) -> dict[str, int]:
        """
        Bytes of each memory that the plan needs, for all our servers together: what is free now, and what
        they hold.  A memory of which nobody can tell is left out.
        """
        free = await asking.server.memory.free_for(plan, asking.server.environment_of(plan))
        for each in self._fleet:
            for pool, number in each.server.memory.held_bytes(each.server.plan).items():
                if pool in free:
                    free[pool] += number
        usable = {pool: number - plan.keeps.get(pool, 0) for pool, number in free.items()}
        return {**usable, _MODELS: len([*self._fleet]) + 1}


def _needs_of(plan: LaunchPlan) -> dict[str, int] | None:
    """None is not known."""
    return {**plan.needs, _MODELS: 1} if plan.needs else None


def _in_words(residents: list[Resident], unloaded: list[Instance]) -> str:
    if unloaded:
        return f"loaded in place of {', '.join(each.profile for each in unloaded)}"
    return f"loaded beside {', '.join(each.name for each in residents)}" if residents else ""
