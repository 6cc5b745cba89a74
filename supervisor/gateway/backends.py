"""A server as the gateway sees it, without how it is launched, watched and restarted."""

from __future__ import annotations

from typing import Protocol

from ..plan.launch import LaunchPlan
from ..server.diagnosis import Diagnosis
from ..server.lifecycle_table import State
from ..server.probe_target import ProbeTarget


class Backend(Protocol):
    """Read at any time; its owner calls `Gateway.changed` after each change."""

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> State: ...

    @property
    def is_serving(self) -> bool: ...

    @property
    def why(self) -> str:
        """Why it is in this state; empty where that needs no words."""

    @property
    def failure(self) -> Diagnosis | None:
        """The last one, kept while it serves again."""

    @property
    def plan(self) -> LaunchPlan | None: ...

    @property
    def launch(self) -> int:
        """Another number for each process."""

    @property
    def target(self) -> ProbeTarget | None:
        """The way to its process, while there is one."""

    @property
    def restarts(self) -> int: ...

    @property
    def is_held(self) -> bool:
        """Whether somebody measures it: then nothing of ours may unload it."""

    def resident_bytes(self) -> int | None:
        """What its process holds of the RAM; costs a look into the process table."""

    def wake(self) -> object:
        """Load what sleeps."""

    def sleep(self) -> object:
        """Unload, until it is woken."""

    def drained(self) -> None:
        """No request is being answered any more."""
