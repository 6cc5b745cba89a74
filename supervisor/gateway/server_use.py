"""The connections to each server, and since when nobody has used it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..home.event_log import about
from ..plan.launch import LaunchPlan
from .backends import Backend, phase_of
from .relay.upstream import ConnectionPool
from .scheduler import ServerPhase

log = logging.getLogger(__name__)


@dataclass(slots=True)
class ServerUse:
    """``last``: when somebody used it, or when it began to serve; in the loop's time."""

    pool: ConnectionPool = field(default_factory=ConnectionPool)
    phase: ServerPhase = "coming"
    last: float = 0.0


class ServerUses(dict[str, ServerUse]):
    """The use of each server, by its name."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def follow(self, server: Backend) -> None:
        """Called for a new server, and for one whose state changed."""
        use = self.setdefault(server.name, ServerUse(last=self._loop.time()))
        use.pool.aim(server.target)
        phase = phase_of(server)
        if phase == "serving" != use.phase:
            use.last = self._loop.time()
        use.phase = phase

    def touch(self, name: str) -> None:
        self[name].last = self._loop.time()

    def idle_seconds(self, server: Backend, is_busy: Callable[[str], bool]) -> float:
        """Since when it serves and nobody uses it; 0 for one that does not serve."""
        use, now = self[server.name], self._loop.time()
        if server.is_held or is_busy(server.name):
            use.last = now
        return now - use.last if use.phase == "serving" else 0.0

    def unload_idle(
        self,
        servers: Iterable[Backend],
        is_busy: Callable[[str], bool],
        limit: Callable[[LaunchPlan | None], float],
    ) -> None:
        """Those that nobody has used for as long as the ``limit`` of their plan; 0 is never."""
        for server in servers:
            idle = self.idle_seconds(server, is_busy)
            if 0 < limit(server.plan) <= idle:
                log.info(
                    "%s: idle for %.0f s: unloading the model",
                    server.name,
                    idle,
                    extra=about("eviction", server=server.name),
                )
                server.sleep()

    def close(self) -> None:
        for use in self.values():
            use.pool.aim(None)
