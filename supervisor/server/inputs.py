"""
What can happen to a server, as the lifecycle is told of it: requests, and news of one launch.  Every request
has an ``id`` of its own, by which its outcome is known.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..plan.launch import LaunchPlan
from .diagnosis import Diagnosis


@dataclass(frozen=True, slots=True)
class Start:
    """Run this plan, in place of whatever runs: start, restart and switch."""

    plan: LaunchPlan
    id: int = 0


@dataclass(frozen=True, slots=True)
class Reload:
    """The same, but what would launch the very same process only takes over its policies."""

    plan: LaunchPlan
    id: int = 0


@dataclass(frozen=True, slots=True)
class StopAsked:
    now: bool = False  # do not wait for requests under way
    id: int = 0


@dataclass(frozen=True, slots=True)
class RestAsked:
    """Have this plan, and run it once somebody wants it."""

    plan: LaunchPlan
    id: int = 0


@dataclass(frozen=True, slots=True)
class SleepAsked:
    """Nobody wants it for now: give its memory back."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class WakeAsked:
    """Somebody wants it: if it sleeps, run it."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class GroundChecked:
    launch: int
    problem: Diagnosis | None


@dataclass(frozen=True, slots=True)
class Serving:
    """It answers, its model is loaded; ``degraded`` says what is not as the profile asks."""

    launch: int
    degraded: str = ""


@dataclass(frozen=True, slots=True)
class Unresponsive:
    """Loading without progress, or hanging: it has to go."""

    launch: int
    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True)
class Drained:
    """The last request under way has its answer."""

    launch: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The child is gone, or could not be spawned."""

    launch: int
    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True)
class TimerElapsed:
    launch: int
    serial: int


Request = Start | Reload | StopAsked | RestAsked | SleepAsked | WakeAsked
News = GroundChecked | Serving | Unresponsive | Drained | Exited | TimerElapsed
Input = Request | News
