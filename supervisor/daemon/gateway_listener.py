"""
The daemon's gateway, and where it listens.

The address and its terms come with a start and survive a switch.  A start that is rolled back restores the
former ones.  While a plan without a gateway runs, its llama-server has the address itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import StartFailed, SupervisorError
from ..fleet.fleet import Fleet
from ..gateway.auth.keys import Keyring
from ..gateway.gateway import Gateway
from ..gateway.telemetry.activity import Activity
from ..home.places import keys_file
from ..paths import Paths
from ..plan.launch import LaunchPlan
from ..plan.listen import Listen, is_socket_path
from ..server.instance import Instance
from ..server.lifecycle_table import SERVING, State
from ..server.outcome import Outcome
from ..server.probe import api_key
from .helpers import SWITCH, Answer, why_not

log = logging.getLogger(__name__)

Begin = Callable[[Coroutine[Any, Any, None]], object]
_COMES = SERVING | {State.PREPARING, State.STARTING}


class GatewayListener:
    """
    ``begin`` runs a task in the background; ``switch`` runs another profile for a request.  ``listen`` is
    where clients come in, or would if a plan behind the gateway ran; None before the first.
    """

    def __init__(
        self,
        paths: Paths,
        fleet: Callable[[], Fleet],
        begin: Begin,
        switch: Callable[[str], Coroutine[Any, Any, Answer]] = SWITCH.run,
    ) -> None:
        self.listen: Listen | None = None
        self._paths = paths
        self._fleet = fleet
        self._begin = begin
        self._run_switch = switch
        self._gateway: Gateway | None = None
        self._turn = asyncio.Lock()  # one change of the address after the other
        self._opening = False
        self._ends = False

    async def launch(
        self,
        instance: Instance,
        plan: LaunchPlan,
        listen: Listen | None,
        *,
        reload: bool = False,
        by_request: bool = False,
    ) -> asyncio.Future[Outcome]:
        """
        Run this plan in place of whatever runs, with clients coming in at ``listen``; None: as they do now.

        Raises StartFailed for an address that is taken, while the daemon ends, and for a plan without a
        gateway that a client of the gateway asks for; all is then as before.
        """
        if by_request and not plan.behind_gateway:
            raise StartFailed(
                f"{plan.profile} has gateway: off, so no client of another profile's gateway can ask for it.",
                hint=f"Take it out of gateway.models, or remove gateway: off from {plan.profile}.",
            )
        async with self._turn:
            before = self.listen
            await self._admit(instance, plan, listen)
            server = instance.server
            decided = server.reload(plan) if reload else server.start(plan)
        if before is not None and before != self.listen:
            decided.add_done_callback(lambda future: self._give_back(before, future))
        return decided

    async def rest(self, instance: Instance, plan: LaunchPlan, listen: Listen) -> asyncio.Future[Outcome]:
        """Have this plan, and let the first request load it.  Raises as `launch` does."""
        async with self._turn:
            await self._admit(instance, plan, listen)
            return instance.server.rest(plan)

    async def _admit(self, instance: Instance, plan: LaunchPlan, listen: Listen | None) -> None:
        if self._ends:
            raise StartFailed(
                "goss-supervisor is being stopped.",
                hint=f"When it has ended: goss-supervisor start -p {plan.profile}",
            )
        if not plan.behind_gateway:
            return  # its llama-server gets the address once it comes
        instance.make_ready_for(plan)
        wanted = listen or self.listen
        if wanted is None:
            raise StartFailed(
                f"{plan.profile} wants its clients to come in by the gateway, and nothing says where.",
                hint=f"goss-supervisor stop, then goss-supervisor start -p {plan.profile}",
            )
        if not _is_llama_servers_own(instance, wanted) and (listen is not None or not self._is_open):
            await self._open(wanted)
        self.listen = wanted

    async def _open(self, listen: Listen) -> None:
        if self._gateway is None:
            keyring = Keyring(keys_file(self._paths))
            self._gateway = Gateway(self._fleet().get().server, keyring, self._switch)
            self._gateway.changed()
        await self._gateway.open(listen)

    @property
    def _is_open(self) -> bool:
        return self._gateway is not None and self._gateway.is_open

    def _give_back(self, before: Listen, decided: asyncio.Future[Outcome]) -> None:
        """The start that brought another address was rolled back."""
        if not decided.cancelled() and decided.result().result == "rolled back" and not self._ends:
            self.listen = before
            self._begin(self._open_again())

    async def _open_again(self) -> None:
        try:
            async with self._turn:
                if self.listen is not None:
                    await self._open(self.listen)
        except SupervisorError as error:
            log.error("the gateway cannot listen again: %s", error)  # noqa: TRY400 - no bug
        finally:
            self._opening = False

    def changed(self, instance: Instance) -> None:
        """Its server is in another state, or has another plan."""
        server, plan = instance.server, instance.server.plan
        if plan is not None and server.state in _COMES and not self._ends:
            if plan.behind_gateway:
                if not (self._is_open or self._opening or self.listen is None):
                    # The place was llama-server's until now, or its plan was rolled back.
                    self._opening = True
                    self._begin(self._open_again())
            elif server.state is State.PREPARING and self._gateway is not None:
                self._gateway.close()
        if self._gateway is not None:
            self._gateway.changed()

    # --- switches that clients ask for

    def _switch(self, profile: str) -> None:
        self._begin(self._switched(profile))

    async def _switched(self, profile: str) -> None:
        why = why_not(await self._run_switch(profile))
        if why:
            log.warning("the switch to %s failed: %s", profile, why)
        if self._gateway is not None:
            self._gateway.switched(profile, why)

    # --- the end

    def begin_to_end(self) -> None:
        """Nobody is let in any more."""
        self._ends = True
        if self._gateway is not None:
            self._gateway.begin_to_end()

    async def finish(self) -> None:
        """The servers are gone."""
        if self._gateway is not None:
            await self._gateway.finish()

    # --- what others ask

    def under_way(self) -> int:
        """Requests that are being answered."""
        return self._gateway.under_way() if self._gateway is not None else 0

    def keep_warm(self) -> None:
        if self._gateway is not None:
            self._gateway.touch()

    def key(self, plan: LaunchPlan) -> str:
        """One that opens the address of this plan; for its own user only."""
        if not plan.behind_gateway or self._gateway is None:
            return api_key(plan)
        return self._gateway.keyring.local

    @property
    def activity(self) -> Activity | None:
        """The last requests; None without a gateway."""
        return self._gateway.activity if self._gateway is not None else None

    def about(self) -> dict[str, Any] | None:
        """For ``status``; None while nobody comes in here."""
        plan = self._fleet().get().server.plan
        if self._gateway is None or (plan is not None and not plan.behind_gateway):
            return None
        under_way, waiting, connections = self._gateway.counts()
        return {"requests_under_way": under_way, "requests_waiting": waiting, "connections": connections}


def _is_llama_servers_own(instance: Instance, listen: Listen) -> bool:
    """Whether a llama-server without a gateway holds the very place where the gateway will listen."""
    plan = instance.server.plan
    if plan is None or plan.behind_gateway or instance.server.child is None:
        return False
    return plan.host == listen.host if is_socket_path(listen.host) else plan.port == listen.port
