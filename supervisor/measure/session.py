"""A server for an operation that measures: made room for, held, and put back as it was, whatever happens."""

from __future__ import annotations

from typing import Protocol

from ..plan.launch import LaunchPlan
from .measurement import Target


class MeasuringSession(Protocol):
    """What bench and tune see of it; `opened` gives one and puts everything back at the end."""

    def run(self, plan: LaunchPlan, *, fresh: bool = False) -> Target:
        """
        Have this plan serve, in place of what the session ran before; ``fresh`` loads it anew in any case.

        Raises StartFailed with the diagnosis where it does not become ready, DoesNotFit where it may not have
        the memory, and Superseded where somebody stopped or replaced it.
        """

    def disturbed(self) -> tuple[str, ...]:
        """What others asked of our servers since the last call, in words."""

    def stop(self) -> None:
        """End what runs, from any thread: a `run` under way raises StartFailed, and requests to it fail."""
