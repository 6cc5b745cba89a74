"""
Servers that an operation keeps for itself for a while, and what is put back when that is over.

A hold lasts until its owner releases it, or the owner's connection closes, as it does when that process is
killed.  One that *measures* may run any plan in its server, also next to or in place of other models; each is
a trial.  When it is over, the server has its plan again, and what was unloaded for it is loaded again.  All
that is done here, so the owner need not live for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from ..errors import DoesNotFit, Superseded, SupervisorError
from ..fleet.fleet import Fleet
from ..gateway.api.routes import Trouble
from ..gateway.exchange import Exchange
from ..gateway.gateway import Gateway
from ..plan.launch import LaunchPlan
from ..progress import iso
from ..server.instance import Instance, LastFailure
from ..server.lifecycle_table import ABSENT, State
from ..server.outcome import Hold, Launching, Outcome
from .control_request import ControlRequest

log = logging.getLogger(__name__)

T = TypeVar("T")
_draw = random.SystemRandom()
_ID_BITS = 59  # what a whole number in our JSON may have; enough that nobody guesses it over a network


@dataclass(eq=False, slots=True)
class _HoldUnderWay:
    """
    ``profile`` is the one that is measured; ``plan``, ``state`` and ``failure`` are what the server had
    before, and ``loaded`` all servers that held memory then.  ``over`` is set when it is to end, early for
    the reason ``why``, and ``free`` when others may have the server.
    """

    hold: Hold
    reader: asyncio.StreamReader
    instance: Instance
    profile: str
    plan: LaunchPlan | None
    state: State
    failure: LastFailure
    loaded: frozenset[str]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    free: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""
    has_run: bool = False
    work: asyncio.Task[asyncio.Future[Outcome]] | None = None
    life: asyncio.Task[tuple[str, ...]] | None = None

    @property
    def is_over(self) -> bool:
        """Also where its owner is gone, but the task that waits for that has not had its turn yet."""
        return self.over.is_set() or self.reader.at_eof() or self.reader.exception() is not None


class Loader(Protocol):
    """What `Loads` is here."""

    def run_beside(self, plan: LaunchPlan) -> Launching: ...

    def wake(self, instance: Instance, *, evicts: bool) -> Launching: ...

    def evicted_for(self, profile: str) -> frozenset[str]: ...


class LaunchGateway(Protocol):
    """What `GatewayListener` is here."""

    @property
    def gateway(self) -> Gateway | None: ...

    def changed(self, instance: Instance) -> None: ...

    def launch(self, plan: LaunchPlan, listen: None, *, reload: bool) -> Launching: ...


class Holds:
    """Of the servers of ``fleet``; ``changed`` tells everybody who watches."""

    def __init__(
        self, fleet: Fleet, gateway: LaunchGateway, loads: Loader, changed: Callable[[], None]
    ) -> None:
        self._fleet, self._gateway, self._loads, self._changed = fleet, gateway, loads, changed
        self._under_way: dict[int, _HoldUnderWay] = {}
        self._ended: tuple[int, str] = (0, "")  # the last one, and why it ended early
        self._ending, self._came = asyncio.Event(), asyncio.Event()

    # --- from its begin to its end

    def begin(self, request: ControlRequest, reader: asyncio.StreamReader) -> _HoldUnderWay:
        """
        Hold the server for the owner of this connection.  Raises SupervisorError where somebody else holds
        it, or, for one that measures, any server; and StartFailed where none can be made for it.
        """
        for each in self._under_way.values() if request.measures else ():
            _refuse_if_held(each.instance, 0)
        instance = self._server_of(request)
        self.refuse(instance, request)
        server, last = instance.server, instance.last_failure
        hold = Hold(
            1 + _draw.getrandbits(_ID_BITS), request.owner, request.why, time.time(),
            measures=request.measures, polite=request.polite,
        )  # fmt: skip
        loaded = frozenset(each.name for each in self._fleet if each.server.state not in ABSENT)
        found = _HoldUnderWay(
            hold, reader, instance, request.server or "", server.plan, server.state, last, loaded
        )
        self._under_way[hold.id], server.hold = found, hold
        self._tell(instance)
        found.life = asyncio.create_task(self._live(found))
        self._came.set()
        return found

    def _server_of(self, request: ControlRequest) -> Instance:
        """For one that measures it is made, if no server has this profile."""
        if not request.measures or request.server is None:
            return self._fleet.get(request.server)
        main = self._fleet.main
        return main if main.server.plan is None else self._fleet.ensure(request.server)

    async def _live(self, found: _HoldUnderWay) -> tuple[str, ...]:
        """What could not be put back, in words."""
        gone, over = asyncio.ensure_future(_end_of(found.reader)), asyncio.ensure_future(found.over.wait())
        await asyncio.wait([gone, over], return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        over.cancel()
        found.over.set()
        self._ended = (found.hold.id, found.why)
        problems: list[str] = []
        try:
            if found.hold.measures:
                await self._put_back(found, problems)
        except Exception as error:
            log.exception("what %s changed could not be put back", found.hold.owner)
            problems.append(str(error))
        finally:
            self._free(found)
            del self._under_way[found.hold.id]
            self._changed()
        for each in problems:
            log.warning("after %s: %s", found.hold.owner, each)
        return tuple(problems)

    def _free(self, found: _HoldUnderWay) -> None:
        if found.instance.server.hold is found.hold:
            found.instance.server.hold = None
            found.free.set()
            self._tell(found.instance)

    def _tell(self, instance: Instance) -> None:
        if instance in list(self._fleet):
            self._gateway.changed(instance)
        self._changed()

    def finish(self) -> None:
        """The daemon ends, and all servers with it: nothing is put back."""
        self._ending.set()
        for each in self._under_way.values():
            each.why = each.why or "goss-supervisor is being stopped"
            each.over.set()

    @property
    def unsettled(self) -> str:
        """What is being put back, in words; "" for nothing."""
        over = [each.hold.owner for each in self._under_way.values() if each.is_over]
        return f"what {' and '.join(over)} changed is being put back" if over else ""

    async def all_over(self, seconds: float) -> None:
        """Comes back when the first one has come, and none is left; or when none has come for so long."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._came.wait(), seconds)
        while lives := [each.life for each in self._under_way.values() if each.life]:
            await asyncio.wait(lives)

    def release(self, request: ControlRequest) -> asyncio.Future[tuple[str, ...]]:
        """Its owner needs it no more; done with what could not be put back.  Raises Superseded."""
        found = self._under_way.get(request.hold)
        if found is None or found.life is None:
            raise self._gone(request.hold)
        found.over.set()
        return found.life

    # --- what its owner may do

    def expect(self, request: ControlRequest) -> None:
        """Raises Superseded for a request by a hold that is over, or never was."""
        found = self._under_way.get(request.hold)
        if request.hold and (found is None or found.over.is_set()):
            raise self._gone(request.hold)

    def trial(self, request: ControlRequest, plan: LaunchPlan) -> LaunchPlan:
        """The plan that an owner has run: as it is, or as a trial where it measures."""
        found = self._under_way.get(request.hold)
        if found is None or not found.hold.measures:
            return plan
        return replace(
            plan,
            is_trial=True,
            restart=replace(plan.restart, policy="never"),
            auto_update="off",
            adjusted=None,
            adjusts="",
            measures=False,
            figures="",
        )

    def changes(self, request: ControlRequest) -> None:
        """The owner of a hold changes what its server runs, which is put back afterwards."""
        if (found := self._under_way.get(request.hold)) is not None:
            found.has_run = True

    async def launch(self, request: ControlRequest, launching: Launching) -> asyncio.Future[Outcome]:
        """
        Await this launch.  One for a hold that measures is given up, if it still waits for memory, when that
        is over: then it raises Superseded.
        """
        found = self._under_way.get(request.hold)
        if found is None or not found.hold.measures:
            return await launching
        self.changes(request)
        found.work = asyncio.ensure_future(launching)
        try:
            return await asyncio.shield(found.work)
        except asyncio.CancelledError:
            if not found.work.cancelled():
                raise
            raise self._gone(request.hold) from None

    def others(self, request: ControlRequest) -> int:
        """
        How many requests of others are being answered: where it is polite by any server, else by its own.
        Raises Superseded.
        """
        self.expect(request)
        found = self._under_way[request.hold]
        name = "" if found.hold.polite else found.instance.name
        theirs = (each for each in self._exchanges() if each.ticket.hold != found.hold.id)
        return sum(
            each.is_under_way and each.ticket.generates and name in {"", each.ticket.server}
            for each in theirs
        )

    def _exchanges(self) -> Sequence[Exchange]:
        gateway = self._gateway.gateway
        return gateway.exchanges if gateway is not None else ()

    def _gone(self, hold: int) -> Superseded:
        found, (ended, last) = self._under_way.get(hold), self._ended
        why = found.why if found else last if ended == hold else ""
        over = f"The hold of the server is over{': ' if why else ''}{why}."
        return Superseded(over, hint="goss-supervisor status")

    # --- what others may do

    def refuse(self, instance: Instance, request: ControlRequest) -> None:
        """Raises SupervisorError where somebody else holds this server or measures another."""
        _refuse_if_held(instance, request.hold)
        for found in self._under_way.values():
            if found.hold.measures:
                _refuse_if_held(found.instance, request.hold)

    async def admit(self, instance: Instance, request: ControlRequest) -> None:
        """Have a polite hold give way to a person's request; else as `refuse`."""
        what = request.plan.get("profile") or instance.profile
        await self._have_way(f"a {request.op} of {what} was asked for", request.hold)
        self.refuse(instance, request)

    async def place(
        self, profile: str, make: Callable[[], Coroutine[Any, Any, T]], *, by_request: bool, hold: int = 0
    ) -> T:
        """
        Load a model beside what runs, which would disturb a measurement, as ``make`` does it.  For a request
        it waits until nobody holds a server; only a polite hold gives way, where there is no memory for both.
        A person does not wait: a polite hold gives way, and another one has it refused (SupervisorError).
        """
        while by_request and (others := self._in_the_way()):
            await others[0].free.wait()
        if not by_request:
            await self._have_way(f"a load of {profile} was asked for", hold)
            for each in self._under_way.values():
                _refuse_if_held(each.instance, hold)
        try:
            return await make()
        except DoesNotFit:
            if not await self._have_way(f"{profile} was asked for, and there is no memory for both", hold):
                raise
            return await make()

    def _in_the_way(self) -> list[_HoldUnderWay]:
        """The holds for which requests wait."""
        return [each for each in self._under_way.values() if not (each.hold.polite or each.free.is_set())]

    async def _have_way(self, why: str, hold: int) -> bool:
        """Whether there was a polite hold of somebody else, which is over now."""
        polite = [each for each in self._under_way.values() if each.hold.polite and each.hold.id != hold]
        for found in polite:
            if not found.over.is_set():
                log.info("%s gives way: %s", found.hold.owner, why)
                found.why = why
                found.over.set()
            await found.free.wait()
        return bool(polite)

    def stopped(self, instance: Instance, request: ControlRequest) -> None:
        """A person stops it, which is never refused: it is not to come back.  An owner ends a trial so."""
        self.changes(request)
        for found in self._under_way.values():
            if found.instance is instance and found.hold.measures and found.hold.id != request.hold:
                found.state = State.STOPPED
                found.why = f"{instance.name} was stopped"
                found.over.set()

    # --- the way back

    async def _put_back(self, found: _HoldUnderWay, problems: list[str]) -> None:
        if found.work is not None and not found.work.done():
            found.work.cancel()
            await asyncio.wait([found.work])
        for each in self._exchanges():
            if each.ticket.hold == found.hold.id:
                each.fail(Trouble(409, "not_held", "The hold that this request belongs to is over."))
        if self._ending.is_set():
            return
        evicted = self._loads.evicted_for(found.profile) & found.loaded
        await self._put_back_the_server(found, problems)
        self._free(found)
        for instance in [each for each in self._fleet if each.name in evicted]:
            if self._ending.is_set():
                return
            await _told(problems, instance.profile, self._loads.wake(instance, evicts=False))

    async def _put_back_the_server(self, found: _HoldUnderWay, problems: list[str]) -> None:
        instance, plan = found.instance, found.plan
        server = instance.server
        if plan is None:
            await self._remove(instance)
            return
        if not found.has_run:
            return  # it was used as it was
        instance.last_failure = found.failure
        if found.state not in ABSENT:
            log.info("%s has its own plan again", instance.name)
            await _told(problems, plan.profile, self._run(instance, plan))
        else:
            await server.sleep()
            await server.rest(plan)
            if found.state is State.STOPPED:
                await server.stop()

    def _run(self, instance: Instance, plan: LaunchPlan) -> Launching:
        """Where the very same process runs, as a trial, only its policies change."""
        if instance is self._fleet.main:
            return self._gateway.launch(plan, None, reload=True)
        return self._loads.run_beside(plan)

    async def _remove(self, instance: Instance) -> None:
        if instance is self._fleet.main:
            await instance.server.stop()
            return
        if await self._fleet.drop(instance) and (gateway := self._gateway.gateway) is not None:
            gateway.gone(instance.name)


def _refuse_if_held(instance: Instance, own: int) -> None:
    hold = instance.server.hold
    if hold is not None and hold.id != own:
        raise SupervisorError(
            f"{hold.owner} has held the server since {iso(hold.since)}: {hold.why}.",
            hint="Try again when it has ended (goss-supervisor status tells), or goss-supervisor stop.",
        )


async def _end_of(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        await reader.read()


async def _told(problems: list[str], profile: str, launching: Launching) -> None:
    """Await it, and note what went wrong."""
    try:
        outcome = await (await launching)
    except SupervisorError as error:
        problems.append(f"{profile} is not loaded again: {error}")
    else:
        if outcome.result in {"failed", "rolled back"}:
            problems.append(f"{profile} is not loaded again: {outcome.why}")
