"""
The life of one server, as a table from (state, event) to (state, commands), and its inputs.

- A state has at most one timer.  It ends with its state, or when a row arms it anew; so a repeated request
  does not prolong a stop.
- An exit after our own signal is "gone as asked", not a crash.
- A server that serves *drains* first: its clients get their answers, or their time runs out.  Only KILL does
  not wait.
- Nothing is spawned next to a process that has outlived its KILL: it is killed again, and that is reported.
- A pair that is not in the table is an error of this program: `IllegalEvent`, and nothing changes.

What an event means, and which one an input leads to, is in `lifecycle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from ..plan.launch import LaunchPlan
from .diagnosis import Diagnosis


class State(StrEnum):
    STOPPED = "stopped"
    PREPARING = "preparing"  # preflight: binary, model, port
    STARTING = "starting"  # spawned, not ready
    READY = "ready"
    DEGRADED = "degraded"  # serves, but not as the profile asks
    DRAINING = "draining"  # takes no new requests; those under way finish
    STOPPING = "stopping"  # asked to leave
    KILLING = "killing"  # asked again; killed next
    BACKOFF = "backoff"  # waiting to try again
    SLEEPING = "sleeping"  # has a plan, but no process and no memory, until somebody wants it
    FAILED = "failed"  # stays down until a person acts


class Event(StrEnum):
    START = "start"
    TAKE_OVER = "take over"  # a survivor, which needs no preflight
    STOP = "stop"
    KILL = "kill"
    SLEEP = "sleep"
    WAKE = "wake"
    REST = "rest"  # a plan that is to wait for the first who wants it
    CLEAR = "preflight passed"
    READY = "ready"
    DEGRADED = "degraded"
    GIVEN_UP_ON = "given up on"  # it stalled while loading, hangs, or fails in every request
    RETRY = "failed, retry"
    GIVE_UP = "failed, give up"
    FALL_BACK = "failed, fall back"
    FALL_ASLEEP = "failed, fall back asleep"  # as what was there before did
    ADJUST = "failed, adjust"  # for memory, and there is a plan that takes less
    SHRINK = "failed, smaller"  # a worker is gone, and there is a plan that needs none
    REGROW = "workers back"
    DRAINED = "drained"
    DONE = "gone as asked"
    NEXT = "gone, next plan"
    ASLEEP = "gone, asleep"
    TIMER = "timer"
    LAST_TIMER = "last timer"  # of KILLING: even KILL was not enough


class Do(StrEnum):
    """Commands to the shell.  ARM_x arms the state's one timer; the seconds come with it."""

    CHECK_LAUNCH = "preflight"
    SPAWN = "spawn"
    WATCH_START = "watch start"
    WATCH_LIFE = "watch life"
    DRAIN = "drain"
    TERM = "term"
    KILL = "kill"
    ARM_DRAIN = "arm drain"
    ARM_GRACE = "arm grace"
    ARM_INSIST = "arm insist"
    ARM_GONE = "arm gone"
    ARM_BACKOFF = "arm backoff"
    ARM_STABLE = "arm stable"
    CALM = "calm"  # it has been ready for long enough: the backoff starts anew
    SETTLE = "settle"  # give waiting callers the outcome of their request


_AGAIN = (State.PREPARING, (Do.CHECK_LAUNCH,))
_BEGUN = (State.STARTING, (Do.SPAWN, Do.WATCH_START))
_DRAIN = (State.DRAINING, (Do.DRAIN, Do.ARM_DRAIN))
_LET_GO = (State.STOPPING, (Do.TERM, Do.ARM_GRACE))
_SHOOT = (State.KILLING, (Do.KILL, Do.ARM_GONE))
_STOPPED = (State.STOPPED, (Do.SETTLE,))
_SLEEP = (State.SLEEPING, (Do.SETTLE,))
_CRASHES: dict[Event, tuple[State, tuple[Do, ...]]] = {
    Event.RETRY: (State.BACKOFF, (Do.ARM_BACKOFF,)),
    Event.GIVE_UP: (State.FAILED, (Do.SETTLE,)),
}
_ADJUSTED = {Event.ADJUST: _AGAIN}
_FALLEN = {Event.FALL_BACK: _AGAIN, Event.FALL_ASLEEP: _SLEEP}
_FAILURES = {**_CRASHES, **_ADJUSTED, **_FALLEN}  # before it has ever served
FAILURES = frozenset([*_FAILURES, Event.SHRINK])
_WENT = {Event.DONE: _STOPPED, Event.NEXT: _AGAIN, Event.ASLEEP: _SLEEP}
_GONE = {**_WENT, **_FAILURES}  # it may have been given up on
_LOADING = {
    Event.START: _LET_GO,
    Event.STOP: _LET_GO,
    Event.SLEEP: _LET_GO,
    Event.KILL: _SHOOT,
    Event.GIVEN_UP_ON: _LET_GO,
}
_SERVING = {**_LOADING, Event.START: _DRAIN, Event.STOP: _DRAIN, Event.SLEEP: _DRAIN, **_CRASHES, **_ADJUSTED}
_NO_PROCESS = {Event.START: _AGAIN, Event.STOP: _STOPPED, Event.KILL: _STOPPED}
_DOWN = {**_NO_PROCESS, Event.REST: _SLEEP}
_ON_ITS_WAY = {**_NO_PROCESS, Event.SLEEP: _SLEEP}


def _leaving(state: State) -> dict[Event, tuple[State, tuple[Do, ...]]]:
    """It will be gone, one way or another; the last thing that was asked for is what comes after."""
    asked = (Event.START, Event.STOP, Event.SLEEP, Event.WAKE)
    return {**dict.fromkeys(asked, (state, ())), Event.KILL: _SHOOT}


TABLE: Mapping[State, Mapping[Event, tuple[State, tuple[Do, ...]]]] = {
    State.STOPPED: {**_DOWN, Event.TAKE_OVER: _BEGUN},
    State.FAILED: _DOWN,
    State.SLEEPING: {**_DOWN, Event.WAKE: _AGAIN},
    State.BACKOFF: {**_ON_ITS_WAY, Event.TIMER: _AGAIN},
    State.PREPARING: {
        **_ON_ITS_WAY,
        **_FAILURES,
        Event.SHRINK: _AGAIN,
        Event.CLEAR: _BEGUN,
    },
    State.STARTING: {
        **_LOADING,
        **_FAILURES,
        Event.READY: (State.READY, (Do.ARM_STABLE, Do.WATCH_LIFE, Do.SETTLE)),
        Event.DEGRADED: (State.DEGRADED, (Do.ARM_STABLE, Do.WATCH_LIFE, Do.SETTLE)),
    },
    State.READY: {
        **_SERVING,
        Event.DEGRADED: (State.DEGRADED, (Do.ARM_STABLE,)),
        Event.TIMER: (State.READY, (Do.CALM,)),
    },
    State.DEGRADED: {**_SERVING, Event.REGROW: _DRAIN, Event.TIMER: (State.DEGRADED, (Do.CALM,))},
    State.DRAINING: {
        **_WENT,
        **_leaving(State.DRAINING),
        Event.STOP: (State.DRAINING, (Do.ARM_DRAIN,)),  # shorter than for a switch
        Event.DRAINED: _LET_GO,
        Event.TIMER: _LET_GO,
        Event.GIVEN_UP_ON: _LET_GO,
    },
    State.STOPPING: {
        **_GONE,
        **_leaving(State.STOPPING),
        Event.TIMER: (State.KILLING, (Do.TERM, Do.ARM_INSIST)),
    },
    State.KILLING: {
        **_GONE,
        **_leaving(State.KILLING),
        Event.TIMER: _SHOOT,
        Event.LAST_TIMER: (State.KILLING, (Do.SETTLE, Do.KILL, Do.ARM_GONE)),  # nothing runs next to it
    },
}


LIVE = frozenset({State.STARTING, State.READY, State.DEGRADED})
LEAVING = frozenset({State.DRAINING, State.STOPPING, State.KILLING})
OCCUPIED = LIVE | LEAVING
LOADING = frozenset({State.PREPARING, State.STARTING})
SERVING = frozenset({State.READY, State.DEGRADED})
ABSENT = frozenset({State.STOPPED, State.SLEEPING, State.FAILED})  # holds no memory
UNDER_WAY = LEAVING | LOADING | {State.BACKOFF}  # to what was asked for last
ARMS = frozenset(do for do in Do if do.name.startswith("ARM_"))


class IllegalEvent(AssertionError):
    """The table has no row for this event in this state."""


@dataclass(frozen=True, slots=True)
class Start:
    """
    Run this plan instead of the current one: start, restart and switch.  ``runs`` is for the first launch
    only: there is a survivor that does.
    """

    plan: LaunchPlan
    id: int = 0
    runs: bool = False


@dataclass(frozen=True, slots=True)
class Reload:
    """
    The same, but where that very process runs or loads, only its policies change.  What sleeps goes on
    sleeping, unless this ``loads`` it.
    """

    plan: LaunchPlan
    id: int = 0
    loads: bool = False


@dataclass(frozen=True, slots=True)
class StopAsked:
    now: bool = False  # do not wait for requests under way
    id: int = 0


@dataclass(frozen=True, slots=True)
class RestAsked:
    """Keep this plan, and run it at the first request for it."""

    plan: LaunchPlan
    id: int = 0


@dataclass(frozen=True, slots=True)
class SleepAsked:
    """Not needed for now: give its memory back."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class WakeAsked:
    """A request needs it: if it sleeps, run it."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class PreflightDone:
    launch: int
    problem: Diagnosis | None


@dataclass(frozen=True, slots=True)
class Serving:
    """It answers, its model is loaded; ``degraded`` says what is not as the profile asks."""

    launch: int
    degraded: str = ""


@dataclass(frozen=True, slots=True)
class Unresponsive:
    """It loads without progress, hangs, or fails in every request: it must be killed."""

    launch: int
    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True)
class WorkersBack:
    """All workers of the whole plan are there again, and no request is under way."""

    launch: int


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


LifecycleRequest = Start | Reload | StopAsked | RestAsked | SleepAsked | WakeAsked
LaunchInput = PreflightDone | Serving | Unresponsive | WorkersBack | Drained | Exited | TimerElapsed
Input = LifecycleRequest | LaunchInput
