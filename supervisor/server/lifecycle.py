"""
What happens to one server, judged by the table.

*Inputs* (a person asked, a probe answered, the child exited) are first judged into an *event* of the table,
by budgets and policies.  The table gives the next state and the *commands* for the shell.  Nothing here does
I/O, reads a clock or draws a random number.  An input of an earlier launch changes nothing.

A switch that fails goes back once to the last plan that served; a plan whose load ran out of memory, or whose
requests ran out of a GPU's, is replaced once by its smaller one, and one whose worker is gone by the one that
needs none, until it is back.
While a server leaves, the last request counts, but a sleep does not undo a stop.  Each has one outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field, replace

from ..plan.launch import SHORT_AT_LOAD, SHORT_IN_REQUESTS, LaunchPlan
from .diagnosis import WORKER_LOST, Diagnosis
from .lifecycle_table import (
    ARMS,
    FAILURES,
    LEAVING,
    LIVE,
    LOADING,
    OCCUPIED,
    SERVING,
    TABLE,
    UNDER_WAY,
    Do,
    Drained,
    Event,
    Exited,
    IllegalEvent,
    Input,
    LaunchInput,
    LifecycleRequest,
    PreflightDone,
    Reload,
    RestAsked,
    Serving,
    SleepAsked,
    Start,
    State,
    StopAsked,
    TimerElapsed,
    Unresponsive,
    WakeAsked,
    WorkersBack,
)
from .outcome import Decisions, LifecycleCommand, Outcome, OutcomeResult
from .restart_budget import GONE_SECONDS, RestartBudget, StateTimers

OF_GPU_MEMORY = "gpu-memory"
OF_MEMORY = {"memory", OF_GPU_MEMORY}


@dataclass(slots=True)
class Lifecycle:
    """One server's state and memory.  `handle` is the only way in; the fields are for reading."""

    jitter: InitVar[Callable[[], float]]  # see `StateTimers`
    state: State = State.STOPPED
    launch: int = 0
    plan: LaunchPlan | None = None
    whole: LaunchPlan | None = None  # what is wanted, while ``plan`` goes on without its workers
    proven: LaunchPlan | None = None  # the last plan that served
    why: str = ""
    failure: Diagnosis | None = None  # the last one, kept for people
    restarts: int = 0
    outcome: Outcome | None = None
    _missing: str = ""  # what ``plan`` goes on without
    _next: LaunchPlan | None = None
    _sleeps: bool = False  # it is on its way to sleep, with the next plan where there is one
    _fallback: LaunchPlan | None = None
    _fallback_sleeps: bool = False  # it had no memory, which may be in use by now
    _rolled_back: Diagnosis | None = None
    _served: bool = False
    _condemned: Diagnosis | None = None
    _killed: bool = False
    _budget: RestartBudget = field(default_factory=RestartBudget)
    _timers: StateTimers = field(init=False)
    _serial: int = 0
    _requests: Decisions = field(default_factory=Decisions)

    def __post_init__(self, jitter: Callable[[], float]) -> None:
        self._timers = StateTimers(jitter, self._budget)

    def handle(self, happened: Input, now: float) -> list[LifecycleCommand]:
        """
        Judge one input and say what to do; ``now`` is monotonic seconds.  Raises IllegalEvent.  A request for
        which there is nothing to do shares the outcome that is under way, or there is one (see `decided`).
        """
        event = self._judge(happened, now)
        if event is None:
            if isinstance(happened, LifecycleRequest):
                self._join(happened)
            return []
        row = TABLE[self.state].get(event)
        if row is None:
            raise IllegalEvent(f"{event.value!r} while {self.state.value}")
        if isinstance(happened, LifecycleRequest):
            self._requests.take_over(happened)
        self._remember(event, happened)
        before, (self.state, todo) = self.state, row
        if self.state is not before or not ARMS.isdisjoint(todo):
            self._serial += 1
        return [self._command(do, now) for do in todo]

    def decided(self) -> list[Outcome]:
        """The outcomes of requests that were decided since the last call."""
        return self._requests.taken()

    @property
    def wanted(self) -> LaunchPlan | None:
        """What runs, or would if all workers were there."""
        return self.whole or self.plan

    @property
    def fallback(self) -> LaunchPlan | None:
        """What served until this launch was asked for, and runs again if it comes to nothing."""
        return None if self._fallback_sleeps else self._fallback

    @property
    def has_another(self) -> bool:
        """Whether something else runs if this launch comes to nothing."""
        return bool(self._fallback or (self.plan and self.plan.without_workers))

    def _join(self, asked: LifecycleRequest) -> None:
        decide = self._requests.decide
        if isinstance(asked, Reload):  # the same process with other policies
            self.proven = asked.plan if self.proven is self.wanted else self.proven
            self.plan, self.whole = (asked.plan, None) if self.whole is None else (self.plan, asked.plan)
        if isinstance(asked, Reload) and self.state not in LOADING:
            decide(asked, Outcome("unchanged", profile=asked.plan.profile, digest=asked.plan.digest))
        elif self.state in UNDER_WAY:
            self._requests.wait(asked)
        elif self.state in SERVING:
            decide(asked, self._outcome("degraded" if self.state is State.DEGRADED else "ready"))
        else:
            decide(asked, self.outcome or Outcome("stopped"))  # the first request of all

    # --- from what happened to an event of the table

    def _judge(self, happened: Input, now: float) -> Event | None:
        if isinstance(happened, LifecycleRequest):
            return self._judge_request(happened)
        return self._judge_launch(happened, now) if happened.launch == self.launch else None

    def _judge_request(self, asked: LifecycleRequest) -> Event | None:
        match asked:
            case Start(runs=runs):
                return Event.TAKE_OVER if runs else Event.START
            case Reload(plan=plan, loads=loads):
                return self._judge_reload(plan, sleeps=self.state is State.SLEEPING and not loads)
            case StopAsked(now=impatient):
                return Event.KILL if impatient and not self._killed else Event.STOP
            case RestAsked():
                return Event.REST if self.state in {State.STOPPED, State.FAILED, State.SLEEPING} else None
            case SleepAsked():
                return self._judge_sleep()
            case WakeAsked():
                return Event.WAKE if self._sleeps or self.state is State.SLEEPING else None

    def _judge_reload(self, plan: LaunchPlan, *, sleeps: bool) -> Event | None:
        has_it = self.wanted is not None and self.wanted.digest == plan.digest
        loads_it = self.state in LOADING and self._rolled_back is None
        if has_it and (sleeps or loads_it or self.state in SERVING):
            return None
        return Event.REST if sleeps else Event.START

    def _judge_launch(self, happened: LaunchInput, now: float) -> Event | None:
        match happened:
            case TimerElapsed(serial=serial) if serial == self._serial:
                is_last = self.state is State.KILLING and self._killed
                return Event.LAST_TIMER if is_last else Event.TIMER
            case PreflightDone(problem=problem) if self.state is State.PREPARING:
                return self._judge_failure(problem, now) if problem else Event.CLEAR
            case Serving(degraded=degraded) if self.state is State.STARTING:
                return Event.DEGRADED if degraded or self.whole is not None else Event.READY
            case Serving(degraded=degraded) if degraded and self.state is State.READY:
                return Event.DEGRADED
            case Unresponsive(diagnosis=diagnosis) if self.state in LIVE | {State.DRAINING}:
                return Event.KILL if diagnosis.kind == WORKER_LOST else Event.GIVEN_UP_ON
            case WorkersBack() if self.whole is not None and self.state is State.DEGRADED:
                return Event.REGROW
            case Drained() if self.state is State.DRAINING:
                return Event.DRAINED
            case Exited(diagnosis=diagnosis):
                return self._judge_exit(diagnosis, now)
            case _:
                return None

    def _judge_sleep(self) -> Event | None:
        if self.state in LEAVING:
            return Event.SLEEP if self._next is not None or self._condemned is not None else None
        return None if self.state in {State.STOPPED, State.FAILED, State.SLEEPING} else Event.SLEEP

    def _judge_exit(self, diagnosis: Diagnosis, now: float) -> Event:
        if self.state in LIVE:
            return self._judge_failure(diagnosis, now)
        if self._sleeps:
            return Event.ASLEEP
        if self._next is not None:
            return Event.NEXT
        if self._condemned is not None:
            hung = diagnosis.kind == WORKER_LOST != self._condemned.kind  # for a worker's sake
            return self._judge_failure(diagnosis if hung else self._condemned, now)
        return Event.DONE

    def _judge_failure(self, diagnosis: Diagnosis, now: float) -> Event:
        self.failure = diagnosis
        assert self.plan is not None
        lost = diagnosis.kind == WORKER_LOST and not self.plan.is_trial
        if lost and self.plan.without_workers is not None and self.state is State.PREPARING:
            return Event.SHRINK
        in_request = self._served and diagnosis.kind == OF_GPU_MEMORY
        again = in_request and self._budget.is_short_again(self.plan.digest, now)
        if self.plan.adjusted is not None and diagnosis.kind in OF_MEMORY and not self._served:
            return Event.ADJUST
        if self._fallback is not None and not self._served:
            return Event.FALL_ASLEEP if self._fallback_sleeps else Event.FALL_BACK
        helpless = not diagnosis.retryable or (bool(self.plan.adjusts) and diagnosis.kind in OF_MEMORY)
        excused = lost or (diagnosis.is_ours and self.proven is not None)  # it serves again after that
        if self.plan.restart.policy == "never" or (helpless and not self._served):
            return Event.GIVE_UP
        if not self._budget.spend(self.plan.restart, now, excused=excused):
            return Event.GIVE_UP
        return Event.ADJUST if again and self.plan.adjusted is not None else Event.RETRY

    # --- what a transition leaves behind

    def _remember(self, event: Event, happened: Input) -> None:
        match happened:
            case Start(plan=plan) if event is Event.TAKE_OVER:
                self._begin(plan)
            case Start(plan=plan) | Reload(plan=plan) if event is Event.START:
                self._remember_start(plan)
            case StopAsked():
                self._remember_stop(event)
            case Serving(degraded=degraded):
                self._remember_serving(degraded)
            case RestAsked(plan=plan) | Reload(plan=plan):
                self._remember_rest(plan)
            case SleepAsked():
                self._remember_sleep()
            case WakeAsked():
                self._remember_wake()
            case Unresponsive(diagnosis=diagnosis):
                self._remember_silence(diagnosis)
            case _:
                self._remember_event(event)

    def _remember_event(self, event: Event) -> None:
        match event:
            case Event.DONE:
                self._settle("stopped")
            case Event.NEXT:
                self._begin(self._next)
            case Event.REGROW:
                self._next, self.why = self.whole, "its workers are back"
            case Event.ASLEEP:
                self._fall_asleep(self._next or self.wanted)
            case _ if event in FAILURES:
                self._remember_failure(event)
            case Event.LAST_TIMER:
                self.why = f"the server is still alive {GONE_SECONDS:g} s after KILL"
                self._settle("failed")
            case Event.TIMER if self.state is State.BACKOFF:
                self._begin(self.plan, self.whole)
            case Event.TIMER:
                self._killed = self.state is State.KILLING

    def _remember_start(self, plan: LaunchPlan) -> None:
        before = self.wanted if self.state is State.SLEEPING or self.wanted is self.proven else self._fallback
        stays = before is None or before.digest == plan.digest or plan.is_trial
        self._fallback = None if stays or self.state in (State.STOPPED, State.FAILED) else before
        self._fallback_sleeps |= self.state is State.SLEEPING
        self._rolled_back = self._condemned = None
        self._sleeps = False
        self._budget.clear()
        if self.state in OCCUPIED:
            self._next = plan
            is_same = self.plan is not None and self.plan.profile == plan.profile
            self.why = "restarting" if is_same else f"making way for {plan.profile}"
        else:
            self._begin(plan)

    def _remember_stop(self, event: Event) -> None:
        self._next = self._fallback = self._rolled_back = self._condemned = None
        self._sleeps = False
        self._killed = self._killed or event is Event.KILL
        self.why = "asked to stop"
        if self.state not in OCCUPIED:
            self._settle("stopped")

    def _remember_rest(self, plan: LaunchPlan) -> None:
        if self.state is not State.SLEEPING:
            self.proven = None  # what a person has stopped is nothing to go back to
        self._fall_asleep(plan)

    def _remember_sleep(self) -> None:
        """On its way to another plan, it sleeps with that one."""
        coming = self._next
        self._next = self._fallback = self._rolled_back = self._condemned = None
        if self.state in OCCUPIED:
            self._next, self._sleeps = coming, True
            self.why = "going to sleep"
        else:
            self._fall_asleep(self.wanted)

    def _remember_wake(self) -> None:
        plan = self._next or self.wanted
        if self.state in LEAVING:
            self._next, self._sleeps = plan, False
            self.why = "asked for again"
        else:
            self._begin(plan)

    def _remember_silence(self, diagnosis: Diagnosis) -> None:
        self.failure = diagnosis
        if self.state is not State.DRAINING:  # else it goes as it was asked to, only earlier
            self._condemned = diagnosis
            self.why = diagnosis.message

    def _remember_serving(self, degraded: str) -> None:
        self._served = True
        self.proven = self.proven if self.plan and self.plan.is_trial else self.wanted
        degraded = "; ".join(filter(None, (self._missing, degraded)))
        self.why = degraded or (f"with {self.plan.adjustment}" if self.plan and self.plan.adjustment else "")
        self._fallback, self._fallback_sleeps = None, False
        if self._rolled_back is not None:
            self._settle("rolled back", self._rolled_back.message, self._rolled_back.hint)
        else:
            self._settle("degraded" if degraded else "ready", self.why)

    def _remember_failure(self, event: Event) -> None:
        assert self.failure
        assert self.plan
        self.why = self.failure.message
        self._condemned = None
        if event is Event.FALL_BACK:
            self._begin(self._fallback)
            self._rolled_back, self._fallback = self.failure, None
        elif event is Event.FALL_ASLEEP:
            self._fall_asleep(self._fallback)
            self._fallback = None
            self._settle("rolled back", self.failure.message, self.failure.hint)
        elif event is Event.ADJUST:
            assert self.plan.adjusted
            self.restarts += self._served
            reason = SHORT_IN_REQUESTS if self._served else SHORT_AT_LOAD
            words = f"{self.plan.adjusted.adjustment}, {reason}"
            self._begin(replace(self.plan.adjusted, adjustment=words), self.whole)
        elif event is Event.SHRINK:
            self._begin(self.plan.without_workers, self.plan)
            self._missing = f"without its workers: {self.failure.message}"
        elif event is Event.RETRY:
            self.restarts += self.failure.kind != WORKER_LOST
            self._budget.back_off()
        else:
            first = f"{self._rolled_back.message} Then: " if self._rolled_back and not self._served else ""
            self._settle("failed", f"{first}{self.failure.message}", self.failure.hint)

    def _fall_asleep(self, plan: LaunchPlan | None) -> None:
        self._begin(plan)
        by_request = plan is not None and plan.behind_gateway
        self.why = "the next request loads it" if by_request else "no request loads it"
        self._settle("asleep", hint="" if by_request else "goss-supervisor load")

    def _begin(self, plan: LaunchPlan | None, whole: LaunchPlan | None = None) -> None:
        """A new launch: what belongs to the one before is over."""
        self.launch += 1
        self.plan, self.whole = plan, whole
        self._next = self._condemned = None
        self._sleeps = self._served = self._killed = False
        self._timers.begin()
        self.why, self._missing = "", self._missing if whole else ""

    def _settle(self, result: OutcomeResult, why: str = "", hint: str = "") -> None:
        self.outcome = self._outcome(result, why, hint)

    def _outcome(self, result: OutcomeResult, why: str = "", hint: str = "") -> Outcome:
        profile, digest = (self.plan.profile, self.plan.digest) if self.plan else ("", "")
        return Outcome(result, why or self.why, hint, profile, digest)

    # --- commands

    def _command(self, do: Do, now: float) -> LifecycleCommand:
        if do is Do.CALM:
            self._budget.calm()
        elif do is Do.SETTLE and self.outcome is not None:
            self._requests.settle(self.outcome)
        if do not in ARMS:
            return LifecycleCommand(do, self.launch, 0.0, self._serial)
        assert self.plan is not None
        stops = self._next is None and not self._sleeps
        seconds = self._timers.seconds(do, self.plan, now, stops=stops)
        return LifecycleCommand(do, self.launch, seconds, self._serial)
