"""Servers as the gateway sees them, without how they are launched, watched and restarted."""

from __future__ import annotations

from collections.abc import Iterator
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

    def sleep(self) -> object:
        """Unload, until it is woken."""

    def drained(self) -> None:
        """No request is being answered any more."""


class Backends:
    """All of them by name, in the order in which they came; the first is the main one."""

    def __init__(self) -> None:
        self._by_name: dict[str, Backend] = {}

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> Backend:
        return self._by_name[name]

    def add(self, backend: Backend) -> None:
        self._by_name[backend.name] = backend

    def remove(self, name: str) -> None:
        del self._by_name[name]

    @property
    def main(self) -> Backend:
        """There is always one: the gateway opens for its sake."""
        return next(iter(self))

    @property
    def answering(self) -> Backend:
        """The first that serves; else the main one."""
        return next((each for each in self if each.is_serving), self.main)

    def having(self, profile: str) -> Backend | None:
        """The one that has this profile's plan, loaded or not."""
        return next((each for each in self if each.plan and each.plan.profile == profile), None)
