"""
Puts back what is removed from under a running daemon: its runtime folder, and the locks and sockets in it.

logind removes a user's runtime folder at the logout, and cleaners of temporary folders remove single files.
Nobody would find the daemon then, and a second one could be started next to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from ..errors import SupervisorError
from ..locks import Lock
from ..server.background import beside_the_loop
from .control_listener import ControlSocket
from .gateway_listener import GatewayListener

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0


KeptSocket = ControlSocket | GatewayListener


class Upkeep:
    """``locks`` gives the daemon's own first; ``sockets`` are only of the daemon that holds that one."""

    def __init__(self, locks: Callable[[], Iterable[Lock]], sockets: Sequence[KeptSocket]) -> None:
        self._locks, self._sockets = locks, sockets
        self._said = ""

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(OSError):  # no room for a thread: it looks again
                await self.look()

    async def look(self) -> None:
        """Once; what cannot be put back is tried again the next time, and logged once."""
        try:
            missing = await beside_the_loop(self._put_locks_back)
            for each in missing:
                await each.put_back()
        except (OSError, SupervisorError) as error:
            self._say(f"the daemon's sockets and locks cannot be put back: {error}")
        else:
            if missing:
                log.warning("files of the daemon were removed, and are back")
            self._said = ""

    def _put_locks_back(self) -> list[KeptSocket]:
        """Blocks.  The sockets that are missing; none where another daemon holds this home."""
        for lock in list(self._locks()):
            if lock.fd >= 0 and not lock.is_in_place() and not lock.put_back():
                raise SupervisorError(f"another process holds {lock.path}")
        return [each for each in self._sockets if not each.is_in_place()]

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.warning("%s", text)
