"""
The shell around the lifecycle: it spawns, signals, probes and waits, and decides nothing.

One coroutine, `run`, owns the state.  Timers, probes, the child's exit and people's requests only put
inputs in its queue.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..engine.adapters.known import adapter_of
from ..errors import SupervisorError
from ..home.orphan import GenerationLock
from ..plan.launch import LaunchPlan
from .cause_of_death import DeathPhase, Device, diagnose, program_of
from .child import Child
from .diagnosis import OF_WORKERS, Diagnosis, not_spawned
from .health import Watcher
from .inbox import Inbox
from .inner_address import SocketPin, leave_nothing, with_another_try
from .launching import LaunchCheck, Launcher
from .lifecycle import Lifecycle
from .lifecycle_table import (
    LIVE,
    SERVING,
    UNDER_WAY,
    Do,
    Drained,
    Exited,
    IllegalEvent,
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
from .memory_watch import MemoryWatch
from .outcome import Hold, LifecycleCommand, Outcome
from .output_log import OutputLog
from .probe_target import ProbeTarget
from .process import ExitStatus
from .survivor import Survivor
from .worker_watch import WorkerWatch, blamed

log = logging.getLogger(__name__)

TAIL_LINES = 20  # for people
DIAGNOSED_LINES = 200  # after a fatal error llama-server may print a page of usage
_UP = SERVING | {State.DRAINING}
_WATCHED = {State.STARTING: Do.WATCH_START} | dict.fromkeys(_UP, Do.WATCH_LIFE)


class Server:
    """
    One supervised engine; ``target`` is the way to it while one runs.

    ``on_change`` is called after every transition.  ``under_way`` counts the requests that are answered.
    """

    def __init__(
        self,
        name: str,
        *,
        output: OutputLog,
        lock: GenerationLock,
        private_config: Path,
        jitter: Callable[[], float],
        on_change: Callable[[], None],
        under_way: Callable[[], int] = lambda: 0,
        next_id: Callable[[], int] | None = None,
        environ: Mapping[str, str] = os.environ,
        outlives: Callable[[LaunchPlan], bool] = lambda _: False,
    ) -> None:
        self.name = name
        self.output = output
        self.lifecycle = Lifecycle(jitter)
        self.child: Child | None = None
        self.target: ProbeTarget | None = None
        self.launched: LaunchPlan | None = None  # the plan with the port and key of the last launch
        self.since = time.time()
        self.ready_since: float | None = None
        self.failure_tail: tuple[str, ...] = ()
        self.failed_at: float | None = None
        self.busy = ""
        self.hold: Hold | None = None
        self.memory = MemoryWatch(on_change)
        self.workers = WorkerWatch(lambda lost: self._condemn(self.launch, lost), self._are_back)
        self.launcher = Launcher(output, lock, private_config, environ, outlives)
        self._on_change = on_change
        self.under_way = under_way
        self._next_id = next_id or itertools.count(1).__next__
        self._inbox = Inbox()
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: Watcher | None = None
        self.survivor: Survivor | None = None  # whose process it is, if it was taken over
        self._preflight: asyncio.Task[None] | None = None
        self._device = Device()
        self.pin = SocketPin()
        self._blaming: asyncio.Task[None] | None = None
        self._asked_to_end = 0  # the launch that got its first signal
        output.listen(self._read_line)

    @property
    def state(self) -> State:
        return self.lifecycle.state

    @property
    def plan(self) -> LaunchPlan | None:
        return self.lifecycle.plan

    @property
    def launch(self) -> int:
        """Counts the launches of this daemon."""
        return self.lifecycle.launch

    @property
    def is_serving(self) -> bool:
        return self.state in SERVING

    @property
    def why(self) -> str:
        return self.lifecycle.why or (self.busy if self.state is State.PREPARING else "")

    @property
    def failure(self) -> Diagnosis | None:
        return self.lifecycle.failure

    @property
    def restarts(self) -> int:
        return self.lifecycle.restarts

    @property
    def is_held(self) -> bool:
        return self.hold is not None

    def resident_bytes(self) -> int | None:
        sample = self.memory.now()
        return sample.held.rss_bytes if sample else None

    async def released(self, plan: LaunchPlan) -> None:
        """Comes back when the memory of what ran here is there for this plan, which has a bound."""
        await self.memory.released(plan, self.launcher.environment_of(plan))

    # --- requests, from any coroutine of the same loop

    def start(self, plan: LaunchPlan) -> asyncio.Future[Outcome]:
        """Run this plan, in place of whatever runs; done when that is decided."""
        return self._inbox.ask(Start(plan, self._next_id()))

    def take_over(self, plan: LaunchPlan, survivor: Survivor) -> asyncio.Future[Outcome]:
        """
        The same with a process that runs it already; only as the first of all requests.  It counts as ready
        when it has answered, as after any launch.
        """
        self.survivor = survivor
        return self._inbox.ask(Start(plan, self._next_id(), runs=True))

    def reload(self, plan: LaunchPlan, *, loads: bool = False) -> asyncio.Future[Outcome]:
        """See `Reload`."""
        return self._inbox.ask(Reload(plan, self._next_id(), loads))

    def stop(self, *, now: bool = False) -> asyncio.Future[Outcome]:
        """Stop what runs; done when it is gone, or has outlived its KILL."""
        return self._inbox.ask(StopAsked(now, self._next_id()))

    def rest(self, plan: LaunchPlan) -> asyncio.Future[Outcome]:
        """Have this plan, but run it only when it is woken; where something runs, nothing is done."""
        return self._inbox.ask(RestAsked(plan, self._next_id()))

    def sleep(self) -> asyncio.Future[Outcome]:
        """End what runs, and give its memory back, until it is woken."""
        return self._inbox.ask(SleepAsked(self._next_id()))

    def wake(self) -> asyncio.Future[Outcome]:
        """Run what sleeps; where nothing does, the outcome is the one there is."""
        return self._inbox.ask(WakeAsked(self._next_id()))

    def look(self) -> None:
        """A request could not reach it: probe it now."""
        if self._watcher:
            self._watcher.look()

    def drained(self) -> None:
        """No request is being answered any more."""
        self._inbox.put(Drained(self.launch))

    def settled(self) -> asyncio.Future[Outcome]:
        """The outcome of the request under way, or of the last one."""
        watcher = self._inbox.watch()
        if self.state not in UNDER_WAY and self.lifecycle.outcome is not None:
            self._inbox.announce(self.lifecycle.outcome)
        return watcher

    async def passed(self) -> None:
        """Comes back when `run` has handled all that was put in before; never, if it is stuck or over."""
        await self._inbox.passed()

    # --- the one loop

    async def run(self) -> None:
        """Handle inputs until cancelled; nothing else changes the state."""
        while True:
            happened = await self._inbox.take()
            before, plan = self.state, self.plan
            try:
                commands = self.lifecycle.handle(happened, time.monotonic())
            except IllegalEvent:
                log.exception("ignored: %s", happened)
                continue
            if commands or self.state is not before or self.plan is not plan:
                self._note(before)
            for command in commands:
                await self._carry_out(command)
            self._inbox.settle(self.lifecycle.decided())

    def _note(self, before: State) -> None:
        if self.state is not before:
            self.since = time.time()
            self.busy = ""
            if self._watcher and _WATCHED.get(self.state) is not _WATCHED.get(before):
                self._watcher.stop()
        if self.state not in _UP:
            self.ready_since = None
        elif self.ready_since is None:
            self.ready_since = (self.survivor and self.survivor.ready_since) or time.time()
        self._on_change()

    async def _carry_out(self, command: LifecycleCommand) -> None:
        match command.do:
            case Do.CHECK_LAUNCH:
                self._begin_preflight(command.launch)
            case Do.SPAWN:
                await self._spawn(command.launch)
            case Do.WATCH_START if self._watcher:
                self._watcher.watch_start()
            case Do.WATCH_LIFE if self._watcher:
                self._watcher.watch_life()
            case Do.DRAIN if self.under_way() == 0:
                self._inbox.put(Drained(command.launch))
            case Do.TERM | Do.KILL:
                self._signal(command.do)
            case Do.SETTLE if self.lifecycle.outcome is not None:
                self._inbox.announce(self.lifecycle.outcome)
            case Do.CALM | Do.DRAIN | Do.WATCH_START | Do.WATCH_LIFE | Do.SETTLE:
                pass  # the lifecycle has noted it; `drained` will be called; nothing was spawned
            case _:
                self._arm(command)

    # --- commands

    def _begin_preflight(self, launch: int) -> None:
        assert self.plan is not None
        if self._preflight:
            self._preflight.cancel()
        self._preflight = asyncio.get_running_loop().create_task(self._check_launch(launch, self.plan))

    async def _check_launch(self, launch: int, plan: LaunchPlan) -> None:
        """A request that comes meanwhile ends PREPARING, or this launch: then nothing comes of this."""
        check = LaunchCheck(plan, self.launcher.lock, self.memory.is_released, self.released, self._set_busy)
        problem = await check.problem(has_another=self.lifecycle.has_another)
        if problem is not None and self.state is State.PREPARING and self.launch == launch:
            self._remember_failure(())  # nothing was launched, so there is no output
        self._inbox.put(PreflightDone(launch, problem))

    async def _spawn(self, launch: int) -> None:
        asked, survivor = self.plan, self.survivor
        assert asked is not None
        self._device.begin(asked, survivor.degraded if survivor else "")
        self._watcher = None
        try:
            began = await self.launcher.begin(asked, survivor)
        except (SupervisorError, OSError, MemoryError) as error:
            self.survivor = None
            self._inbox.put(Exited(launch, not_spawned(error, runs=survivor is not None)))
            return
        child, target, plan = began
        if survivor and survivor.socket_fd is not None:
            target = self.pin.inherit(target, survivor.socket_fd)
        self.child, self.target, self.launched = child, target, plan
        self._watcher = Watcher(
            survivor.watched if survivor else plan,
            child,
            target,
            self.output,
            serves=partial(self._serves, launch, plan, child),
            doubts=self._set_busy,
            is_dead=partial(self._give_up, launch),
            under_way=self.under_way,
            was_ready=survivor is not None and survivor.ready_since is not None,
        )
        self.memory.begin(child.identity.pid, asked)
        self._on_change()  # the pid is known now, so readers of the record can find the child
        child.exited.add_done_callback(lambda future: self._exited(launch, asked, future.result()))

    def _exited(self, launch: int, plan: LaunchPlan, status: ExitStatus) -> None:
        self.child = self.target = self.survivor = None
        self.workers.stop()
        self.pin.let_go()
        leave_nothing(plan)
        self.output.end_run()
        phase: DeathPhase = "serving" if self.ready_since is not None else "starting"
        tail = self.output.tail(DIAGNOSED_LINES)
        if self.state in LIVE:  # else we asked it to
            self._remember_failure(tail)
        status = replace(status, kernel_killed=self.memory.kernel_killed())
        diagnosis = diagnose(status, phase, tail, adapter_of(plan.adapter), program_of(plan))
        diagnosis = with_another_try(plan, diagnosis)
        self.memory.end()
        hung = self.failure is not None and (self.failure.kind, self.failure.message) == ("hung", self.why)
        if plan.workers and (hung or diagnosis.kind in OF_WORKERS):
            self._blaming = asyncio.ensure_future(self._blame(launch, plan.workers, diagnosis))
        else:
            self._inbox.put(Exited(launch, diagnosis))

    async def _blame(self, launch: int, workers: Sequence[str], diagnosis: Diagnosis) -> None:
        self._inbox.put(Exited(launch, await blamed(workers, diagnosis)))

    def _signal(self, do: Do) -> None:
        if self.child is None or self.plan is None:
            return
        stop = "TERM" if self._asked_to_end == self.launch else self.plan.stop.signal  # who insists says TERM
        self._asked_to_end = self.launch
        named = stop if do is Do.TERM else do.name
        log.info("%s to %s (pid %d)", named, program_of(self.plan), self.child.identity.pid)
        self.memory.let_go(self.plan)
        if do is Do.TERM:
            self.child.terminate(stop)
        else:
            self.child.kill()

    def _arm(self, command: LifecycleCommand) -> None:
        if self._timer:
            self._timer.cancel()
        elapsed = TimerElapsed(command.launch, command.serial)
        self._timer = asyncio.get_running_loop().call_later(command.seconds, self._inbox.put, elapsed)
        if command.do is Do.ARM_BACKOFF:
            log.info("%s; next try in %.1f s", self.lifecycle.why.rstrip("."), command.seconds)

    def _remember_failure(self, tail: Sequence[str]) -> None:
        self.failure_tail, self.failed_at = tuple(tail[-TAIL_LINES:]), time.time()

    # --- watching

    def _serves(self, launch: int, plan: LaunchPlan, child: Child) -> None:
        child.catch_up()  # it logged its devices before it answered
        if self._watcher and self.child is child and self.target:
            self.target = self._watcher.target = self.pin.hold(self._watcher.target)
        self._inbox.put(Serving(launch, self._device.degraded(plan)))
        self.workers.begin(plan, self.lifecycle.whole)

    def _set_busy(self, text: str) -> None:
        if text != self.busy:
            self.busy = text
            self._on_change()

    def _give_up(self, launch: int, kind: str, message: str) -> None:
        said = f"{program_of(self.plan)} was stopped: {message}"
        self._condemn(launch, Diagnosis(kind, said, "", retryable=True))

    def _condemn(self, launch: int, diagnosis: Diagnosis) -> None:
        self._remember_failure(self.output.tail(TAIL_LINES))
        self._inbox.put(Unresponsive(launch, diagnosis))

    def _are_back(self) -> None:
        if self.under_way() == 0:
            self._inbox.put(WorkersBack(self.launch))

    def _read_line(self, line: str) -> None:
        if self.state in SERVING and (useless := self._device.broken(line)):
            self._condemn(self.launch, useless)
        is_news = self._device.read(line) and self.state is State.READY
        if is_news and self.plan is not None and (why := self._device.degraded(self.plan)):
            self._inbox.put(Serving(self.launch, why))

    def close(self) -> None:
        """Stop watching; the child, if any, is left to its fate."""
        for under_way in (self._timer, self._preflight, self._blaming):
            if under_way:
                under_way.cancel()
        self.workers.stop()
        if self._watcher:
            self._watcher.stop()
        self.memory.close()
        self._inbox.close()
