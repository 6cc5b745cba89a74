"""Loads: profiles that are to be served, by a client's request or by a person, and where they get memory."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, Protocol

from ..errors import StartFailed, SupervisorError
from ..fleet.admission import Admission
from ..fleet.fleet import Fleet
from ..gateway.gateway import Gateway
from ..home.event_log import about
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, serves_clients
from ..progress import iso
from ..server.instance import Instance
from ..server.lifecycle_table import LEAVING, State
from ..server.outcome import Launching, Outcome
from ..server.server import Server
from ..server.survivors import Survivors
from .helpers import LOAD, Answer, why_not

log = logging.getLogger(__name__)

_WELL = {"ready", "degraded", "asleep", "unchanged"}


class Place(Protocol):
    """Carries out a load when nobody holds a server; see `Holds.place`."""

    def __call__(
        self,
        profile: str,
        make: Callable[[], Launching],
        *,
        by_request: bool,
    ) -> Launching: ...


async def _at_once(
    profile: str, make: Callable[[], Launching], *, by_request: bool
) -> asyncio.Future[Outcome]:
    """Where nothing can be held."""
    del profile, by_request
    return await make()


class Loads:
    """
    The owner of the gateway (see `GatewayOwner`), which ``gateway`` gives; None until there is one.

    ``begin`` runs a task in the background; a load takes over one of ``survivors`` if it can.  ``prepare``
    runs ``goss-supervisor load`` with the words that it gets, which prepares a profile and sends it back as
    a load.
    """

    def __init__(
        self,
        fleet: Callable[[], Fleet],
        gateway: Callable[[], Gateway | None],
        begin: Callable[[Coroutine[Any, Any, None]], object],
        prepare: Callable[..., Coroutine[Any, Any, Answer]] = LOAD.run,
        *,
        survivors: Survivors,
    ) -> None:
        self.troubles: dict[str, str] = {}  # by profile: why the last load of it came to nothing
        self.loading: list[str] = []  # profiles that are to be loaded, whether begun or not
        self.took_over = ""  # the last survivor, in words
        self.place: Place = _at_once
        self.survivors = survivors
        self._put_off: list[str] | None = None  # profiles that requests ask for during `held_back`
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by profile
        self._fleet = fleet
        self._gateway = gateway
        self._begin = begin
        self._prepare = prepare

    @cached_property
    def admission(self) -> Admission:
        return Admission(self._fleet(), self._gateway)

    async def run_main(self, plan: LaunchPlan, *, reload: bool = False) -> asyncio.Future[Outcome]:
        """
        Have the main server run this plan, in place of whatever it runs.  Raises DoesNotFit where there is
        no memory for it beside what is pinned.
        """
        main = self._fleet().main
        server = main.server
        begin = partial(server.reload if reload else server.start, plan)
        if _runs(server, plan) or (reload and server.state is State.SLEEPING):  # it takes no more memory
            return begin()
        why = f"superseded by a start of {plan.profile}"
        self.admission.give_up(why, main, plan.profile)
        while others := [
            each for each in self._fleet() if each is not main and self._has(each, plan.profile)
        ]:
            is_gone = await self._fleet().drop(others[0])  # the main server takes it over
            if is_gone and (gateway := self._gateway()) is not None:
                gateway.gone(others[0].name)
        self.admission.give_up(why, main, plan.profile)  # what came meanwhile
        return self._taken_over(main, plan) or await self.admission.launch(main, plan, begin)

    def _has(self, instance: Instance, profile: str) -> bool:
        """Whether it has this profile, or a load of it was let in there."""
        held = self.admission.held_plan(instance)
        return profile in {instance.profile, held.profile if held else ""}

    async def run_beside(
        self,
        plan: LaunchPlan,
        *,
        by_request: bool = False,
        alone: bool = False,
        again: bool = False,
        evicts: bool = True,
    ) -> asyncio.Future[Outcome]:
        """
        Run this plan beside what runs, if there is memory for it, and otherwise, if it ``evicts``, in place
        of what is cheapest to lose; ``alone``: in place of all that is not pinned; ``again``: restart it if
        it is loaded.

        Raises StartFailed without a gateway and for a plan without one, and DoesNotFit where there is no
        memory for it beside what is pinned.
        """
        if not serves_clients(plan):
            raise StartFailed(
                f"{plan.profile} is a worker, which is not loaded next to a model.",
                hint=f"GOSS_SUPERVISOR_HOME=FOLDER goss-supervisor worker --listen {plan.host}:{plan.port}",
            )
        if not plan.behind_gateway or self._gateway() is None:
            raise StartFailed(
                f"{plan.profile} cannot be loaded next to another: one of them has gateway: off.",
                hint=f"Remove it there, or run it instead: goss-supervisor switch {plan.profile}",
            )
        instance = self._fleet().ensure(plan.profile)
        instance.make_ready_for(plan)
        server = instance.server
        if taken_over := self._taken_over(instance, plan):
            return taken_over
        if _runs(server, plan) and not (again or alone):
            return server.reload(plan)

        def begin() -> asyncio.Future[Outcome]:
            main = self._fleet().main
            if instance is not main and self._has(main, plan.profile):  # it has got it meanwhile
                return main.server.wake()
            return server.start(plan) if again else server.reload(plan, loads=True)

        return await self.admission.launch(
            instance, plan, begin, by_request=by_request, alone=alone, evicts=evicts
        )

    def _taken_over(self, instance: Instance, plan: LaunchPlan) -> asyncio.Future[Outcome] | None:
        """It has its memory already, so nothing has to make way; None where no survivor runs this."""
        is_first = instance.server.plan is None
        survivor = self.survivors.take(instance.name, plan) if is_first else None
        if survivor is None:
            return None
        pid, since = survivor.identity.pid, survivor.ready_since
        then = datetime.fromtimestamp(since, UTC).astimezone() if since else None
        ready = f", loaded since {then:%Y-%m-%d %H:%M}" if then else ""
        self.took_over = f"took over {plan.profile} (pid {pid}){ready}"
        fields = {"server": instance.name, "profile": plan.profile, "pid": pid, "since": since and iso(since)}
        log.info("%s", self.took_over, extra=about("adopted", **fields))
        return instance.server.take_over(survivor.plan, survivor)

    async def wake(
        self, instance: Instance, *, by_request: bool = False, alone: bool = False, evicts: bool = True
    ) -> asyncio.Future[Outcome]:
        """Load what this server has, as `run_beside` does; where it serves, its idle time begins anew."""
        if instance.server.state is State.SLEEPING:
            instance = self._fleet().having(instance.profile) or instance  # another may have it by now
        server, plan = instance.server, instance.server.plan
        if (gateway := self._gateway()) is not None:
            gateway.uses.touch(instance.name)
        if plan is None or not (alone or server.state in LEAVING | {State.SLEEPING}):
            return server.wake()

        def begin() -> asyncio.Future[Outcome]:
            is_there = server.plan is not None and server.plan.profile == plan.profile
            return server.wake() if is_there else server.reload(plan, loads=True)

        return await self.admission.launch(
            instance, plan, begin, by_request=by_request, alone=alone, evicts=evicts
        )

    # --- at a start

    def load_offers(self, listen: Listen, decided: asyncio.Future[Outcome]) -> None:
        """
        Once the main server's start is decided, load what is to be loaded and no server has, one after the
        other.  Nothing is unloaded for it, and one that cannot be loaded does not stop the others.
        """
        left = self.survivors.profiles
        wanted = [
            each.profile
            for each in sorted(listen.offers, key=lambda each: each.profile not in left.values())
            if (each.load or each.profile in left.values()) and not self._fleet().having(each.profile)
        ]
        wanted = [profile for profile in wanted if profile not in self.loading]
        self.loading += wanted
        self._begin(self._load_each(wanted, decided))

    async def _load_each(self, profiles: list[str], decided: asyncio.Future[Outcome]) -> None:
        outcome = await decided
        for profile in profiles:
            try:
                if outcome.result in _WELL and self._fleet().having(profile) is None:
                    await self._load(profile, "--no-evict")
            finally:
                self.loading.remove(profile)
        await self.survivors.end(self.survivors.profiles)  # those that no load took over

    def evicted_for(self, profile: str) -> frozenset[str]:
        """The servers that were unloaded for this profile and have not been loaded since, by name."""
        return self.admission.evicted_for(profile)

    def awaits(self, profile: str) -> str:
        if self._put_off and profile in self._put_off:
            return "the upgrade of goss-supervisor"
        awaited = [each.text for each in self.admission.awaited if each.profile == profile]
        found = self._fleet().having(profile)
        if found is None or found.server.state is State.SLEEPING:  # nothing is loaded while one is held
            held = [(each.profile, each.server.hold) for each in self._fleet()]
            awaited += [f"{other}: {hold.text}" for other, hold in held if hold]
        return next(iter(awaited), "")

    def state_of(self, profile: str) -> dict[str, str]:
        """For ``status``; ``trouble`` is why the last load came to nothing, until the profile serves."""
        found, trouble = self._fleet().having(profile), self.troubles.get(profile, "")
        if found is not None:
            return {"state": found.server.state.value, "trouble": "" if found.server.is_serving else trouble}
        return {"state": "loading" if profile in self.loading else "unloaded", "trouble": trouble}

    # --- for the gateway

    def load(self, profile: str, *, by_request: bool = True) -> None:
        if by_request and self._put_off is not None:
            self._put_off.append(profile)
            return
        self._begin(self._load_for_gateway(profile, *["--by-request"] * by_request))

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """
        Loads for requests that come meanwhile begin afterwards: where clients ask without pause for more
        models than fit, one is always under way.
        """
        self._put_off = []
        try:
            yield
        finally:
            put_off, self._put_off = self._put_off, None
            for profile in put_off:
                self.load(profile)

    def wanted(self, profile: str) -> None:
        self.admission.wanted(profile)

    def rested(self) -> None:
        self.admission.changed()

    async def _load_for_gateway(self, profile: str, *options: str) -> None:
        try:
            why = await self._load(profile, *options)
        except Exception:  # else its requests would wait in vain
            log.exception("the load of %s broke", profile)
            why = "goss-supervisor failed to load it; its log tells why"
        if (gateway := self._gateway()) is not None:
            gateway.loaded(profile, why)

    async def _load(self, profile: str, *options: str) -> str:
        """
        Why it cannot be loaded; empty where it is.  One load of a profile waits for the other, which it would
        supersede: at a start for the list's, for example, when a client already asks for it.
        """
        self.loading.append(profile)
        try:
            async with _after(self._turns[profile]) as is_second:
                found = self._fleet().having(profile)
                is_done = is_second and found is not None and found.server.is_serving
                why = "" if is_done else await self._why_not_loaded(profile, options)
        finally:
            self.loading.remove(profile)
        if why:
            log.warning("%s cannot be loaded: %s", profile, why)
            self.troubles[profile] = why
        else:
            self.troubles.pop(profile, None)
        return why

    async def _why_not_loaded(self, profile: str, options: tuple[str, ...]) -> str:
        """Empty where it is.  The options are those of ``goss-supervisor load``."""
        instance = self._fleet().having(profile)
        if instance is None or instance.server.state is not State.SLEEPING:
            return _why_not(await self._prepare(*options, "--", profile))
        try:
            by_request, evicts = "--by-request" in options, "--no-evict" not in options
            wake = partial(self.wake, instance, by_request=by_request, evicts=evicts)
            outcome = await (await self.place(profile, wake, by_request=by_request))
        except SupervisorError as error:
            return f"{error} {error.hint}".rstrip()
        return _why_not({"outcome": asdict(outcome)})


def _runs(server: Server, plan: LaunchPlan) -> bool:
    """Whether it serves with the very process that this plan asks for."""
    return server.is_serving and server.plan is not None and server.plan.digest == plan.digest


def _why_not(answer: Answer) -> str:
    """Who waits for a superseded load gets the outcome of the request that replaced it."""
    return "" if (answer.get("outcome") or {}).get("result") == "superseded" else why_not(answer)


@asynccontextmanager
async def _after(turn: asyncio.Lock) -> AsyncIterator[bool]:
    """Whether somebody else had the turn before."""
    is_second = turn.locked()
    async with turn:
        yield is_second
