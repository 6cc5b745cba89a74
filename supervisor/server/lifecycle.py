"""
What happens to one server, judged by the table.

*Inputs* say what happened (a person asked, a probe answered, the child exited).  Each is first judged into
one of the *events* of the table; that is the only place where budgets and policies are read.  The table
gives the next state and the *commands* for the shell to carry out.  Nothing here does I/O, reads a clock or
draws a random number.

- Every launch has an id, and every input about a launch carries it.  An input that belongs to an earlier
  launch changes nothing.
- A switch remembers the last plan that served, and goes back to it once if the new one fails.
- A plan whose load failed for memory is replaced once by the one that takes less, if it brought one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from ..plan.types import LaunchPlan
from .diagnosis import Diagnosis
from .table import ARMS, LIVE, OCCUPIED, TABLE, Do, Event, IllegalEvent, State

_OF_MEMORY = {"memory", "gpu-memory"}
GONE_SECONDS = 5.0  # how long the kernel may take to carry out a KILL before we say that it did not


@dataclass(frozen=True, slots=True)
class Start:
    """A person, or the daemon at its start, wants this plan to run."""

    plan: LaunchPlan


@dataclass(frozen=True, slots=True)
class StopAsked:
    now: bool = False  # do not wait for requests under way


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
class Exited:
    """The child is gone, or could not be spawned."""

    launch: int
    diagnosis: Diagnosis


@dataclass(frozen=True, slots=True)
class TimerElapsed:
    launch: int
    serial: int


Input = Start | StopAsked | GroundChecked | Serving | Unresponsive | Exited | TimerElapsed


@dataclass(frozen=True, slots=True)
class Command:
    """What the shell shall do, for which launch; ``seconds`` and ``serial`` belong to ARM commands."""

    do: Do
    launch: int
    seconds: float = 0.0
    serial: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request came to."""

    result: Literal["ready", "degraded", "rolled back", "failed", "stopped"]
    why: str = ""
    hint: str = ""
    profile: str = ""


@dataclass(slots=True)
class Lifecycle:
    """
    One server's state and memory.  `handle` is the only way in; the fields are for reading.

    ``jitter`` gives a fraction 0..1 per call; at most a tenth is added to a backoff, so that two
    servers that fail together do not come back together.
    """

    jitter: Callable[[], float]
    state: State = State.STOPPED
    launch: int = 0
    plan: LaunchPlan | None = None
    proven: LaunchPlan | None = None  # the last plan that served
    why: str = ""
    failure: Diagnosis | None = None  # the last one, kept for people
    restarts: int = 0
    outcome: Outcome | None = None
    _next: LaunchPlan | None = None
    _fallback: LaunchPlan | None = None
    _rolled_back: Diagnosis | None = None
    _served: bool = False
    _condemned: Diagnosis | None = None
    _killed: bool = False
    _backoffs: int = 0
    _recent: deque[float] = field(default_factory=deque)
    _serial: int = 0

    def handle(self, happened: Input, now: float) -> list[Command]:
        """
        Judge one input, change state, and say what to do; ``now`` is monotonic seconds.

        Raises IllegalEvent for a pair that the table does not have.
        """
        event = self._judge(happened, now)
        if event is None:
            return []
        row = TABLE[self.state].get(event)
        if row is None:
            msg = f"{event.value!r} while {self.state.value}"
            raise IllegalEvent(msg)
        self._remember(event, happened)
        before, (self.state, todo) = self.state, row
        if self.state is not before or not ARMS.isdisjoint(todo):
            self._serial += 1
        return [self._command(do) for do in todo]

    def renew(self, plan: LaunchPlan) -> None:
        """Policies apply to what runs: the plan is replaced by one with the same digest."""
        assert self.plan is not None
        assert plan.digest == self.plan.digest
        if self.proven is self.plan:
            self.proven = plan
        self.plan = plan

    # --- from what happened to an event of the table

    def _judge(self, happened: Input, now: float) -> Event | None:
        match happened:
            case Start():
                return Event.START
            case StopAsked(now=impatient):
                return Event.KILL if impatient and not self._killed else Event.STOP
        if happened.launch != self.launch:
            return None
        match happened:
            case TimerElapsed(serial=serial):
                return self._judge_timer(serial)
            case GroundChecked(problem=problem):
                if self.state is not State.PREPARING:
                    return None
                return self._judge_failure(problem, now) if problem else Event.CLEAR
            case Serving(degraded=degraded):
                return self._judge_serving(degraded)
            case Unresponsive():
                return Event.GIVEN_UP_ON if self.state in LIVE else None
            case Exited(diagnosis=diagnosis):
                return self._judge_exit(diagnosis, now)

    def _judge_timer(self, serial: int) -> Event | None:
        if serial != self._serial:
            return None
        return Event.LAST_TIMER if self.state is State.KILLING and self._killed else Event.TIMER

    def _judge_serving(self, degraded: str) -> Event | None:
        if self.state is State.STARTING:
            return Event.DEGRADED if degraded else Event.READY
        return Event.DEGRADED if degraded and self.state is State.READY else None

    def _judge_exit(self, diagnosis: Diagnosis, now: float) -> Event:
        if self.state in LIVE:
            return self._judge_failure(diagnosis, now)
        if self._next is not None:
            return Event.NEXT
        if self._condemned is not None:
            return self._judge_failure(self._condemned, now)
        return Event.DONE

    def _judge_failure(self, diagnosis: Diagnosis, now: float) -> Event:
        self.failure = diagnosis
        assert self.plan is not None
        if self.plan.adjusted is not None and diagnosis.kind in _OF_MEMORY and not self._served:
            return Event.ADJUST
        if self._fallback is not None and not self._served:
            return Event.FALL_BACK
        policy = self.plan.restart
        while self._recent and now - self._recent[0] > policy.window_seconds:
            self._recent.popleft()
        beyond_help = bool(self.plan.adjusts) and diagnosis.kind in _OF_MEMORY
        hopeless = (beyond_help or not diagnosis.retryable) and not self._served
        if policy.policy == "never" or hopeless or len(self._recent) >= policy.max_restarts:
            return Event.GIVE_UP
        self._recent.append(now)
        return Event.RETRY

    # --- what a transition leaves behind

    def _remember(self, event: Event, happened: Input) -> None:
        match happened:
            case Start(plan=plan):
                self._remember_start(plan)
            case StopAsked():
                self._remember_stop(event)
            case Serving(degraded=degraded):
                self._remember_serving(degraded)
            case Unresponsive(diagnosis=diagnosis):
                self._condemned = self.failure = diagnosis
                self.why = diagnosis.message
            case _:
                self._remember_event(event)

    def _remember_event(self, event: Event) -> None:
        match event:
            case Event.DONE:
                self._settle("stopped")
            case Event.NEXT:
                self._begin(self._next)
            case Event.RETRY | Event.GIVE_UP | Event.FALL_BACK | Event.ADJUST:
                self._remember_failure(event)
            case Event.LAST_TIMER:
                self.why = f"the server is still alive {GONE_SECONDS:g} s after KILL"
                self._settle("failed")
            case Event.TIMER if self.state is State.BACKOFF:
                self._begin(self.plan)
            case Event.TIMER:
                self._killed = self.state is State.KILLING

    def _remember_start(self, plan: LaunchPlan) -> None:
        works = self.state not in (State.STOPPED, State.FAILED)
        changed = self.proven is not None and self.proven.digest != plan.digest
        self._fallback = self.proven if works and changed else None
        self._rolled_back = self._condemned = None
        self._recent.clear()
        self._backoffs = 0
        if self.state in OCCUPIED:
            self._next = plan
            self.why = f"making way for {plan.profile}"
        else:
            self._begin(plan)

    def _remember_stop(self, event: Event) -> None:
        self._next = self._fallback = self._rolled_back = self._condemned = None
        self._killed = self._killed or event is Event.KILL
        self.why = "asked to stop"
        if self.state not in OCCUPIED:
            self._settle("stopped")

    def _remember_serving(self, degraded: str) -> None:
        self._served = True
        self.proven = self.plan
        self.why = degraded or self._what_is_adjusted()
        self._fallback = None
        if self._rolled_back is not None:
            self._settle("rolled back", self._rolled_back.message, self._rolled_back.hint)
        else:
            self._settle("degraded" if degraded else "ready", self.why)

    def _what_is_adjusted(self) -> str:
        return f"with {self.plan.adjustment}" if self.plan and self.plan.adjustment else ""

    def _remember_failure(self, event: Event) -> None:
        assert self.failure is not None
        self.why = self.failure.message
        self._condemned = None
        if event is Event.FALL_BACK:
            self._rolled_back = self.failure
            previous, self._fallback = self._fallback, None
            self._begin(previous)
        elif event is Event.ADJUST:
            assert self.plan is not None
            self._begin(self.plan.adjusted)
        elif event is Event.RETRY:
            self.restarts += 1
            self._backoffs += 1
        else:
            self._settle("failed", self.failure.message, self.failure.hint)

    def _begin(self, plan: LaunchPlan | None) -> None:
        """A new launch: what belongs to the one before is over."""
        self.launch += 1
        self.plan = plan
        self._next = self._condemned = None
        self._served = self._killed = False
        self.why = ""

    def _settle(
        self,
        result: Literal["ready", "degraded", "rolled back", "failed", "stopped"],
        why: str = "",
        hint: str = "",
    ) -> None:
        self.outcome = Outcome(result, why or self.why, hint, self.plan.profile if self.plan else "")

    # --- commands

    def _command(self, do: Do) -> Command:
        if do is Do.CALM:
            self._backoffs = 0
        return Command(do, self.launch, self._seconds(do), self._serial)

    def _seconds(self, do: Do) -> float:
        assert self.plan is not None or do not in ARMS
        if self.plan is None:
            return 0.0
        policy = self.plan.restart
        match do:
            case Do.ARM_GRACE:
                return self.plan.stop.grace_seconds
            case Do.ARM_INSIST:
                return self.plan.stop.insist_seconds
            case Do.ARM_GONE:
                return GONE_SECONDS
            case Do.ARM_STABLE:
                return policy.stable_seconds
            case Do.ARM_BACKOFF:
                doubled = policy.backoff_seconds * 2.0 ** min(self._backoffs - 1, 30)
                return min(doubled, policy.backoff_limit_seconds) * (1 + self.jitter() / 10)
            case _:
                return 0.0
