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
from dataclasses import replace
from math import inf
from typing import Any

from ..errors import DoesNotFit
from ..home.event_log import about
from ..plan.launch import LaunchPlan
from ..plan.listen import Offer
from ..profile.definition import GatewaySettings
from ..server.gpu_memory import larger
from ..server.instance import Instance
from ..server.lifecycle import OF_MEMORY
from ..server.lifecycle_table import ABSENT, LEAVING, SERVING, State
from ..server.outcome import Outcome
from .decisions import BYTES_OF_ONE_USER as ONE_USER
from .decisions import Asked, Awaited, Beside, Decision, Evict, NoRoom, Resident, UsableMemory, WaitFor
from .demand import ClientDemand, Demand, LoadTimes
from .pending_load import PendingLoad, one_of_each
from .residency import decide_all, one_more

log = logging.getLogger(__name__)

MEASURE_SECONDS = 10.0  # between two looks at how much memory is free, while a load waits
PAUSE_SECONDS = 0.05  # and at least: what is due may have to wait for something else all the same
LOOK_SECONDS = 1.0  # at most, between two looks at a situation that must change before a load
_MODELS = "models"
"""Counted as if it were one more memory, of which each model takes 1: `GatewaySettings.max_loaded`."""
_MANY = 1000

_Load = PendingLoad[Instance]


class Admission:
    """Of the servers that ``fleet`` goes through; ``clients`` gives what they want, None where none can."""

    def __init__(self, fleet: Iterable[Instance], clients: Callable[[], ClientDemand | None]) -> None:
        self._fleet = fleet
        self._clients = clients
        self._demand = Demand()
        self._usable = UsableMemory({})
        self._waiting: list[_Load] = []
        self._awaited: dict[str, WaitFor] = {}  # by profile, as decided last
        self._changed = asyncio.Event()
        self._admitted: dict[_Load, None] = {}  # in this order: what was let in and is not decided yet
        self._end = ""  # why nothing begins any more
        self._times = LoadTimes()
        self._present: set[str] = set()  # servers that hold memory, by name
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
        name, state = instance.name, instance.server.state
        if state is State.STARTING:
            self._evictions.pop(name, None)
            if instance.server.survivor is None:  # else it is loaded already
                self._times.begin(name, self._now)
        elif state in SERVING:
            self._times.serve(name, instance.profile, self._now)
        else:
            self._times.forget(name)
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
        all the same takes one more idle model away, once.  It is superseded where no request waits for it any
        more, and where somebody calls `give_up`.  Raises DoesNotFit where there is no room beside what is
        pinned.
        """
        asking = _Load(instance, plan, by_request, alone, evicts)
        if self._end:
            asking.give_up(self._end)
        unloaded = await self._make_room(asking)
        decided = await self._begin(asking, begin, unloaded)
        return asyncio.ensure_future(self._insist(asking, begin, decided))

    async def _begin(
        self, asking: _Load, begin: Callable[[], asyncio.Future[Outcome]], unloaded: Sequence[Instance]
    ) -> asyncio.Future[Outcome]:
        """It has been admitted, or is over."""
        try:
            for each in unloaded:
                await each.server.released(asking.plan)
            if asking.over.done():
                self._admitted.pop(asking, None)
                return asking.over
            asking.instance.placement = _in_words(self._residents(asking), unloaded)
            decided = begin()
        except BaseException:
            self._admitted.pop(asking, None)
            raise
        decided.add_done_callback(lambda _: self._admitted.pop(asking, None))
        return decided

    def give_up(
        self,
        why: str,
        instance: Instance | None = None,
        profile: str | None = None,
        *,
        by_person: bool = True,
        by_request: bool = True,
    ) -> None:
        """
        Loads in this server or of this profile, or all, that have not begun are superseded: something else
        was asked for meanwhile.  ``by_person`` and ``by_request`` are which of them.
        """
        for each in self._undecided:
            is_meant = instance in {None, each.instance} or each.name == profile
            if is_meant and (by_request if each.by_request else by_person):
                each.give_up(why)
        self.changed()

    @property
    def _undecided(self) -> list[_Load]:
        return [*self._admitted, *self._waiting]

    def end(self, why: str) -> None:
        """The same, and for all that come from now on."""
        self._end = why
        self.give_up(why)

    async def _insist(
        self,
        asking: _Load,
        begin: Callable[[], asyncio.Future[Outcome]],
        decided: asyncio.Future[Outcome],
    ) -> Outcome:
        outcome, server = await decided, asking.instance.server
        died_of_memory = server.failure is not None and server.failure.kind in OF_MEMORY
        insists = died_of_memory and asking.evicts and not asking.plan.is_trial
        if outcome.result not in {"failed", "rolled back"} or not insists:
            return outcome
        asked, there = self._asked(asking), self._residents(asking)
        victim = one_more(asked, there, self._usable, self._demand, now=self._now)
        if victim is None:
            return outcome
        words = "%s ran out of memory while it loaded: once more without %s"
        log.warning(words, asking.name, victim.names[0])
        asking.plan = replace(asking.plan, needs={})  # not known: who is evicted waits until it is loaded
        self._admitted[asking] = None
        unloaded = await self._evict(victim.names, asking)
        return await (await self._begin(asking, begin, unloaded))

    async def _make_room(self, asking: _Load) -> list[Instance]:
        """What was unloaded; it counts as admitted from the moment of the decision on, unless it is over."""
        unloaded: list[Instance] = []
        measured_at = -inf
        self._waiting.append(asking)
        try:
            while (self._residents(asking) or self._undecided != [asking]) and not asking.over.done():
                if self._now - measured_at >= MEASURE_SECONDS:
                    await self._measure(asking)
                    measured_at = self._now
                    continue  # time has passed
                match self._decision(asking):
                    case Beside():
                        break
                    case Evict(names):
                        self._awaited[asking.name] = WaitFor(names, self._now + self._drain_seconds(names))
                        unloaded += await self._evict(names, asking)
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
        if asking.by_request and (there := asking.instance.profile) not in {"", asking.name}:
            asking.give_up(f"superseded by a start of {there}")
        if not asking.over.done():
            self._admitted[asking] = None
        return unloaded

    def _decision(self, asking: _Load) -> Decision:
        if asking.by_request and self._waiting_since(asking.name) is None:
            asking.give_up("no request waits for it any more")
            return Beside()
        others = (each.server.lifecycle.fallback for each in self._fleet if each is not asking.instance)
        comes_back = any(each.profile == asking.name for each in others if each)  # perhaps
        if comes_back or asking.waits_for_another(self._undecided):
            return WaitFor((asking.name,), None)
        residents = self._residents(asking)
        if not asking.evicts:
            residents = [replace(each, pinned=True) for each in residents]
        each = one_of_each(self._waiting, lambda name: self._waiting_since(name) is not None)
        waiting = map(self._asked, (each | {asking.name: asking}).values())
        settings, now = self._settings, self._now
        return decide_all(waiting, residents, self._usable, self._demand, settings, now=now)[asking.name]

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
        found = next((each for each in self._fleet if each.profile == profile), None)
        return profile if found is None else f"{profile}, which {found.why_there}"

    def held_plan(self, instance: Instance) -> LaunchPlan | None:
        """The plan that has memory in this server, or was let in; None for one that is not loaded."""
        return next(reversed(self._held(instance)), None)

    def _held(self, instance: Instance) -> list[LaunchPlan]:
        """All for which memory is kept there, also what comes back if a switch fails; the newest is last."""
        server = instance.server
        there = [] if server.state in ABSENT else [server.lifecycle.fallback, server.plan]
        return [each for each in [*there, *(each.plan for each in self._let_in(instance))] if each]

    def _let_in(self, instance: Instance) -> list[_Load]:
        return [each for each in self._admitted if each.instance.name == instance.name]

    def _drain_seconds(self, profiles: Collection[str]) -> float:
        """How long their requests under way may go on."""
        held = (self.held_plan(each) for each in self._fleet)
        return max((plan.drain_seconds for plan in held if plan and plan.profile in profiles), default=0.0)

    async def _evict(self, names: tuple[str, ...], asking: _Load) -> list[Instance]:
        """Unload them, after their requests under way; comes back before if nothing comes of this load."""
        profile = asking.name
        victims = [each for each in self._fleet if (held := self.held_plan(each)) and held.profile in names]
        fields = about("eviction", profiles=list(names), profile=profile)
        log.info("unloading %s for %s", ", ".join(names), profile, extra=fields)
        self._demand.note_eviction(self._now)
        self._evictions |= dict.fromkeys((each.name for each in victims), profile)
        for each in victims:
            for let_in in self._let_in(each):
                del self._admitted[let_in]
                let_in.give_up(f"superseded by a load of {profile}")
        gone: asyncio.Future[Any] = asyncio.gather(*(each.server.sleep() for each in victims))
        await asyncio.wait([gone, asking.over], return_when=asyncio.FIRST_COMPLETED)
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
        asking = _Load(instance, plan, by_request=False, alone=False, evicts=True)
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

    def _asked(self, asking: _Load) -> Asked:
        since = self._waiting_since(asking.name) if asking.by_request else None
        needs = self._limited(asking.plan.needs)
        return Asked(asking.name, needs, since, self._priority(asking.name), asking.alone)

    def _residents(self, asking: _Load) -> list[Resident]:
        """All others that hold memory, or were let in."""
        return [
            self._resident(each, plan)
            for each in self._fleet
            if each is not asking.instance and (plan := self.held_plan(each)) is not None
        ]

    def _resident(self, instance: Instance, plan: LaunchPlan) -> Resident:
        name, server, clients = instance.name, instance.server, self._clients()
        is_there = server.state in SERVING and not self._let_in(instance)
        needs = server.memory.needed_bytes(plan)
        for other in self._held(instance) if needs else ():
            needs = larger(needs, other.needs)
        return Resident(
            plan.profile,
            self._limited(needs),
            "leaving" if server.state in LEAVING else "ready" if is_there else "loading",
            is_busy=clients is not None and clients.is_busy(name),
            pinned=self.is_pinned(instance),
            priority=self._priority(plan.profile),
            since=self._times.ready.get(name, self._now),
            load_seconds=self._times.seconds.get(plan.profile),
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
        return {_MODELS: 1} | {pool: min(each, max(most.get(pool, each), 1)) for pool, each in needs.items()}

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

    async def _measure(self, asking: _Load) -> None:
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
