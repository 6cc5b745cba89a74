"""
The daemon's gateway, where its plan has a door.

Its modules are imported with the first door: a daemon without one stays as small as it was.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SupervisorError
from ..paths import Paths
from ..plan.types import LaunchPlan
from ..server.address import is_socket_path
from ..server.key import api_key
from ..server.server import Server
from .guests import Guests
from .places import keys_file, private_folder
from .switching import Switching

if TYPE_CHECKING:
    from ..gateway.activity import Activity
    from ..gateway.gateway import Gateway

log = logging.getLogger(__name__)


class Front:
    """What the daemon and its control socket know of clients; nothing, while there is no door."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._guests = Guests()
        self._gateway: Gateway | None = None
        self._switching: Switching | None = None
        self._moving: asyncio.Task[None] | None = None

    async def admit(self, server: Server, plan: LaunchPlan, *, by_request: bool) -> LaunchPlan:
        """
        Get the door of this plan ready, before anything is done for the plan itself.

        Gives the plan behind the door that is due to it.  Raises StartFailed for an address that cannot be
        had, and for a guest without a door; then all is as it was.
        """
        plan = self._guests.admit(server.plan, plan, by_request=by_request)
        if plan.door is None:
            if self._gateway is not None:
                self._gateway.close()  # llama-server gets the address itself
            return plan
        if is_socket_path(plan.host):
            private_folder(Path(plan.host).parent)
        await self._opened(server).open(plan)
        return plan

    def _opened(self, server: Server) -> Gateway:
        if self._gateway is None:
            from ..gateway.gateway import Gateway  # noqa: PLC0415 - see above
            from ..gateway.keyring import Keyring  # noqa: PLC0415

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
        plan = server.plan
        if server.is_serving and plan is not None and not self._gateway.has_door_of(plan):
            self._move(plan)  # a plan that came back by itself, since the new one failed
        self._gateway.changed()

    def _move(self, plan: LaunchPlan) -> None:
        gateway = self._gateway

        async def move() -> None:
            assert gateway is not None
            try:
                await gateway.open(plan)
            except SupervisorError as error:
                log.error("the door of %s cannot be opened again: %s", plan.profile, error)  # noqa: TRY400 - no bug

        if gateway is not None and plan.door is not None:
            self._moving = asyncio.get_running_loop().create_task(move())

    def begin_to_end(self) -> None:
        """Nobody is let in any more."""
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
