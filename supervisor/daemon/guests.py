"""Profiles that run because a client asked for them, behind the door that a person opened for another one."""

from __future__ import annotations

from ..plan.door import keep_door
from ..plan.types import Door, LaunchPlan


class Guests:
    """
    One daemon's: at most one guest at a time.

    A guest that is restarted, reloaded or updated stays behind the same door: its clients came in there.
    """

    def __init__(self) -> None:
        self._door: Door | None = None  # the last guest's: whoever runs behind it is that guest
        self._host = ""  # the profile whose door it was at first

    def admit(self, running: LaunchPlan | None, plan: LaunchPlan, *, by_request: bool) -> LaunchPlan:
        """
        The plan that is to run in place of the running one, behind the door that is due to it.

        Whatever becomes of it, the running one is what it was: it may stay, or come back.  Raises StartFailed
        for a guest that wants no door.
        """
        if running is None:
            return plan
        has_guest = running.door is not None and running.door == self._door
        if not (by_request or (has_guest and running.profile == plan.profile)):
            return plan
        kept = keep_door(running, plan)
        if not has_guest:
            self._host = running.profile
        if plan.profile != self._host:
            self._door = kept.door
        return kept
