"""The daemon's gateway, where its plan has a door."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from ..errors import StartFailed, SupervisorError
from ..gateway.door.keyring import Keyring
from ..gateway.gateway import Gateway
from ..gateway.seen.activity import Activity
from ..paths import Paths
from ..plan.types import Door, LaunchPlan
from ..server.address import is_socket_path
from ..server.key import api_key
from ..server.server import Server
from ..server.table import State
from .guests import Guests
from .places import keys_file, private_folder
from .switching import Switching

log = logging.getLogger(__name__)

_COMES = frozenset((State.PREPARING, State.STARTING, State.READY, State.DEGRADED))


class Front:
    """What the daemon and its control socket know of clients; nothing, while there is no door."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._guests = Guests()
        self._gateway: Gateway | None = None
        self._switching: Switching | None = None
        self._moving: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()  # one door after the other
        self._makes_way = -1  # the launch that ran when the last plan was let in: its door may be gone
        self._ends = False

    async def admit(self, server: Server, plan: LaunchPlan, *, by_request: bool) -> LaunchPlan:
        """
        Get the door of this plan ready, before anything is done for the plan itself.

        Gives the plan behind the door that is due to it.  Raises StartFailed for an address that cannot be
        had, for a guest without a door, and while the daemon ends; then all is as it was.
        """
        if self._ends:
            raise StartFailed(
                "goss-supervisor is being stopped.",
                hint=f"When it has ended: goss-supervisor start -p {plan.profile}",
            )
        async with self._turn:
            plan = self._guests.admit(server.plan, plan, by_request=by_request)
            await self._make_ready(server, plan)
            self._makes_way = server.launch
        return plan

    async def _make_ready(self, server: Server, plan: LaunchPlan) -> None:
        if plan.door is not None:
            if is_socket_path(plan.host):
                private_folder(Path(plan.host).parent)
            gateway = self._opened(server)
            if not _has_its_place(server, plan.door):
                await gateway.open(plan)
        elif self._gateway is not None:
            self._gateway.close()  # llama-server gets the address itself

    def _opened(self, server: Server) -> Gateway:
        if self._gateway is None:
            self._switching = Switching(self._switched)
            self._gateway = Gateway(server, Keyring(keys_file(self._paths)), self._switching.begin)
        return self._gateway

    def _switched(self, profile: str, why: str) -> None:
        if self._gateway is not None:
            self._gateway.switched(profile, why)

    def changed(self, server: Server) -> None:
        """The server is in another state, or has another plan."""
        if self._gateway is None:
            return
        if server.state in _COMES and server.launch != self._makes_way and not self._ends:
            self._follow(server, self._gateway)
        self._gateway.changed()

    def _follow(self, server: Server, gateway: Gateway) -> None:
        """A plan that came back by itself, since the new one failed; or one whose place is free only now."""
        plan = server.plan
        if plan is None or gateway.has_door_of(plan):
            return
        if plan.door is None:
            gateway.close()
        elif self._moving is None:
            self._moving = asyncio.get_running_loop().create_task(self._move(gateway, plan))

    async def _move(self, gateway: Gateway, plan: LaunchPlan) -> None:
        try:
            async with self._turn:
                await gateway.open(plan)
        except SupervisorError as error:
            log.error("the door of %s cannot be opened: %s", plan.profile, error)  # noqa: TRY400 - no bug
        finally:
            self._moving = None

    def begin_to_end(self) -> None:
        """Nobody is let in any more."""
        self._ends = True
        if self._gateway is not None:
            self._gateway.begin_to_end()

    async def finish(self) -> None:
        """The server is gone."""
        if self._switching is not None:
            self._switching.close()
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
        if plan.door is None or self._gateway is None:
            return api_key(plan)
        return self._gateway.keyring.local

    @property
    def activity(self) -> Activity | None:
        """The last requests; None without a gateway."""
        return self._gateway.activity if self._gateway is not None else None

    def about(self) -> dict[str, Any] | None:
        """For ``status``; None without a gateway."""
        if self._gateway is None:
            return None
        under_way, waiting, connections = self._gateway.counts()
        return {"requests_under_way": under_way, "requests_waiting": waiting, "connections": connections}


def _has_its_place(server: Server, door: Door) -> bool:
    """Whether it is llama-server itself, without a gateway until now, that listens where the door will be."""
    plan = server.plan
    if plan is None or plan.door is not None or server.child is None:
        return False
    return plan.host == door.host if is_socket_path(door.host) else plan.port == door.port
