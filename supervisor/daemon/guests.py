"""Profiles that run because a client asked for them, behind the door that a person opened for another one."""

from __future__ import annotations

from ..plan.door import keep_door
from ..plan.types import LaunchPlan


class Guests:
    """
    One daemon's: at most one guest at a time.

    A guest that is restarted, reloaded or updated stays behind the same door: its clients came in there.
    """

    def __init__(self) -> None:
        self._guest = ""
        self._host = ""  # the profile whose door it is

    def admit(self, running: LaunchPlan | None, plan: LaunchPlan, *, by_request: bool) -> LaunchPlan:
        """
        The plan that is to run in place of the running one, behind the door that is due to it.

        Raises StartFailed for a guest that wants no door.
        """
        stays = running is not None and running.profile == plan.profile == self._guest
        if running is None or not (by_request or stays):
            self._guest = ""
            return plan
        kept = keep_door(running, plan)
        if running.profile != self._guest:
            self._host = running.profile
        self._guest = plan.profile if plan.profile != self._host else ""
        return kept
