"""
A server of ours that already runs when a daemon takes it over.

Either an earlier daemon left it when it was killed: then it is not a child of this process, which cannot
learn how it ends.  Or an upgrade in place kept it: then it is our child.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..home.identity import Identity
from ..plan.launch import LaunchPlan


@dataclass(frozen=True, slots=True)
class Survivor:
    """
    ``plan`` is as it was launched: with its inner port and key.  ``output_fd`` is where its output is read,
    None for Linux to find it; ``socket_fd`` is that of its `SocketPin`.  The take-over closes both if it
    fails.  ``degraded`` is what was not as the profile asks when it was last seen: its log said so long ago.
    ``has_log``: what it said so far is in the log of the server that takes it over.
    """

    identity: Identity
    plan: LaunchPlan
    is_child: bool
    output_fd: int | None = None
    ready_since: float | None = None  # seconds since the epoch; None is not known, or not ready yet
    degraded: str = ""
    socket_fd: int | None = None
    has_log: bool = True

    @property
    def watched(self) -> LaunchPlan:
        """
        The plan for its watcher: what was ready before does not load, so silence means that it hangs; and a
        question would have to wait for the answers under way.
        """
        if self.ready_since is None:
            return self.plan
        health = self.plan.health
        patience = replace(
            health,
            start_timeout_seconds=min(health.start_timeout_seconds, health.hang_timeout_seconds),
            start_limit_seconds=min(health.start_limit_seconds, health.busy_timeout_seconds),
        )
        return replace(self.plan, health=patience, question=None)
