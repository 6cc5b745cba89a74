"""
The life of one server, as a table: from (state, event) to (state, commands).

- A state has at most one timer.  It ends with its state, or when a row arms it anew; so a request
  that is repeated while a server is stopping does not make the stop any longer.
- Whatever exit follows our own signal is "gone as asked", not a crash.
- Nothing is spawned beside a process that has outlived its KILL: it is killed again, and that is said.
- A pair that is not in the table is an error of this program: `IllegalEvent`, and nothing changes.

What an event means, and which one an input comes to, is in `lifecycle`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    STOPPED = "stopped"
    PREPARING = "preparing"  # checking the ground: binary, model, port
    STARTING = "starting"  # spawned, not ready
    READY = "ready"
    DEGRADED = "degraded"  # serves, but not as the profile asks
    STOPPING = "stopping"  # asked to leave
    KILLING = "killing"  # asked again; killed next
    BACKOFF = "backoff"  # waiting to try again
    FAILED = "failed"  # stays down until a person acts


class Event(StrEnum):
    START = "start"
    STOP = "stop"
    KILL = "kill"
    CLEAR = "ground clear"
    READY = "ready"
    DEGRADED = "degraded"
    GIVEN_UP_ON = "given up on"  # it stalled while loading, or hangs
    RETRY = "failed, retry"
    GIVE_UP = "failed, give up"
    FALL_BACK = "failed, fall back"
    ADJUST = "failed, adjust"  # its load failed for memory, and there is a plan that takes less
    DONE = "gone as asked"
    NEXT = "gone, next plan"
    TIMER = "timer"
    LAST_TIMER = "last timer"  # of KILLING: even KILL was not enough


class Do(StrEnum):
    """Commands to the shell.  ARM_x arms the state's one timer; the seconds come with it."""

    CHECK_GROUND = "check ground"
    SPAWN = "spawn"
    WATCH_START = "watch start"
    WATCH_LIFE = "watch life"
    TERM = "term"
    KILL = "kill"
    ARM_GRACE = "arm grace"
    ARM_INSIST = "arm insist"
    ARM_GONE = "arm gone"
    ARM_BACKOFF = "arm backoff"
    ARM_STABLE = "arm stable"
    CALM = "calm"  # it has been ready for long enough: the backoff starts anew
    SETTLE = "settle"  # tell those who wait for the outcome of their request


_AGAIN = (State.PREPARING, (Do.CHECK_GROUND,))
_LET_GO = (State.STOPPING, (Do.TERM, Do.ARM_GRACE))
_SHOOT = (State.KILLING, (Do.KILL, Do.ARM_GONE))
_CRASHES: dict[Event, tuple[State, tuple[Do, ...]]] = {
    Event.RETRY: (State.BACKOFF, (Do.ARM_BACKOFF,)),
    Event.GIVE_UP: (State.FAILED, (Do.SETTLE,)),
}
_FAILURES = {**_CRASHES, Event.FALL_BACK: _AGAIN, Event.ADJUST: _AGAIN}  # before it has ever served
_GONE = {Event.DONE: (State.STOPPED, (Do.SETTLE,)), Event.NEXT: _AGAIN, **_FAILURES}
_ALIVE = {Event.START: _LET_GO, Event.STOP: _LET_GO, Event.KILL: _SHOOT, Event.GIVEN_UP_ON: _LET_GO}
_AT_REST = {
    Event.START: _AGAIN,
    Event.STOP: (State.STOPPED, (Do.SETTLE,)),
    Event.KILL: (State.STOPPED, (Do.SETTLE,)),
}

TABLE: Mapping[State, Mapping[Event, tuple[State, tuple[Do, ...]]]] = {
    State.STOPPED: _AT_REST,
    State.FAILED: _AT_REST,
    State.BACKOFF: {**_AT_REST, Event.TIMER: _AGAIN},
    State.PREPARING: {
        **_AT_REST,
        **_FAILURES,
        Event.CLEAR: (State.STARTING, (Do.SPAWN, Do.WATCH_START)),
    },
    State.STARTING: {
        **_ALIVE,
        **_FAILURES,
        Event.READY: (State.READY, (Do.ARM_STABLE, Do.WATCH_LIFE, Do.SETTLE)),
        Event.DEGRADED: (State.DEGRADED, (Do.ARM_STABLE, Do.WATCH_LIFE, Do.SETTLE)),
    },
    State.READY: {
        **_ALIVE,
        **_CRASHES,
        Event.DEGRADED: (State.DEGRADED, (Do.ARM_STABLE,)),
        Event.TIMER: (State.READY, (Do.CALM,)),
    },
    State.DEGRADED: {
        **_ALIVE,
        **_CRASHES,
        Event.TIMER: (State.DEGRADED, (Do.CALM,)),
    },
    State.STOPPING: {
        **_GONE,
        Event.START: (State.STOPPING, ()),
        Event.STOP: (State.STOPPING, ()),
        Event.KILL: _SHOOT,
        Event.TIMER: (State.KILLING, (Do.TERM, Do.ARM_INSIST)),
    },
    State.KILLING: {
        **_GONE,
        Event.START: (State.KILLING, ()),
        Event.STOP: (State.KILLING, ()),
        Event.KILL: _SHOOT,
        Event.TIMER: _SHOOT,
        Event.LAST_TIMER: (State.KILLING, (Do.SETTLE, Do.KILL, Do.ARM_GONE)),  # nothing runs beside it
    },
}


LIVE = frozenset({State.STARTING, State.READY, State.DEGRADED})
OCCUPIED = LIVE | {State.STOPPING, State.KILLING}
ARMS = frozenset(do for do in Do if do.name.startswith("ARM_"))


class IllegalEvent(AssertionError):
    """The table has no row for this event in this state."""
