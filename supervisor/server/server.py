"""
The shell around the lifecycle: it spawns, signals, probes and waits, and decides nothing.

One coroutine, `run`, owns the state.  Timers, probes, the child's exit and people's requests only put
inputs in its queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from ..errors import SupervisorError
from ..locks import Lock
from ..plan.types import LaunchPlan
from .address import is_socket_path
from .child import Child, ExitStatus, spawn
from .diagnosis import Diagnosis, Phase, cpu_fallback, diagnose
from .environment import child_environment
from .ground import check_ground
from .health import Evidence, Verdict, Watch
from .lifecycle import (
    Command,
    Exited,
    GroundChecked,
    Input,
    Lifecycle,
    Outcome,
    Serving,
    Start,
    StopAsked,
    TimerElapsed,
    Unresponsive,
)
from .memory.watch import MemoryWatch
from .output import OutputLog
from .ports import listens_on
from .probe import ProbeResult, probe, target_of
from .table import LIVE, Do, IllegalEvent, State
from .vitals import vitals

log = logging.getLogger(__name__)

FIRST_PROBE_SECONDS = 0.01  # a small model is ready at once, and nobody shall wait for our clock
SLOWEST_START_PROBE_SECONDS = 0.5
TAIL_LINES = 20  # for people
DIAGNOSED_LINES = 200  # after a fatal error llama-server may print a page of usage
_WATCHED = {
    State.STARTING: Do.WATCH_START,
    State.READY: Do.WATCH_LIFE,
    State.DEGRADED: Do.WATCH_LIFE,
}


class Server:
    """
    One supervised llama-server.

    ``lock`` is inherited by the child, so that a later daemon knows whether this one's child still
    lives.  ``on_change`` is called after every transition.
    """

    def __init__(
        self,
        name: str,
        *,
        output: OutputLog,
        lock: Lock,
        private_config: Path,
        jitter: Callable[[], float],
        on_change: Callable[[], None],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.name = name
        self.output = output
        self.lifecycle = Lifecycle(jitter)
        self.child: Child | None = None
        self.since = time.time()
        self.ready_since: float | None = None
        self.failure_tail: tuple[str, ...] = ()
        self.failed_at: float | None = None
        self.busy = ""
        self.memory = MemoryWatch(on_change)
        self._lock = lock
        self._private_config = private_config
        self._on_change = on_change
        self._environ = environ
        self._queue: asyncio.Queue[Input] = asyncio.Queue()
        self._waiters: list[asyncio.Future[Outcome]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ground: asyncio.Task[None] | None = None
        self._on_cpu = ""
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
        return self.state in {State.READY, State.DEGRADED}

    # --- requests, from any coroutine of the same loop

    def start(self, plan: LaunchPlan) -> asyncio.Future[Outcome]:
        """Run this plan, in place of whatever runs; done when that is decided."""
        return self._ask(Start(plan))

    def stop(self, *, now: bool = False) -> asyncio.Future[Outcome]:
        """Stop what runs; done when it is gone, or has outlived its KILL."""
        return self._ask(StopAsked(now))

    def renew(self, plan: LaunchPlan) -> None:
        """Take over the policies of a plan that would launch the very same process."""
        self.lifecycle.renew(plan)

    def settled(self) -> asyncio.Future[Outcome]:
        """The outcome of the request under way, or of the last one."""
        waiter, outcome = self._waiter(), self.lifecycle.outcome
        if outcome is not None and self.state not in _UNDER_WAY:
            waiter.set_result(outcome)
        return waiter

    def _ask(self, request: Input) -> asyncio.Future[Outcome]:
        waiter = self._waiter()
        self._queue.put_nowait(request)
        return waiter

    def _waiter(self) -> asyncio.Future[Outcome]:
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    # --- the one loop

    async def run(self) -> None:
        """Handle inputs until cancelled; nothing else changes the state."""
        while True:
            happened = await self._queue.get()
            before = self.state
            try:
                commands = self.lifecycle.handle(happened, time.monotonic())
            except IllegalEvent:
                log.exception("ignored: %s", happened)
                continue
            if commands or self.state is not before:
                self._note(before)
            for command in commands:
                await self._carry_out(command)

    def _note(self, before: State) -> None:
        if self.state is not before:
            self.since = time.time()
            self.busy = ""
            if self._watcher and _WATCHED.get(self.state) is not _WATCHED.get(before):
                self._watcher.cancel()
        if self.state not in {State.READY, State.DEGRADED}:
            self.ready_since = None
        elif self.ready_since is None:
            self.ready_since = time.time()
        self._on_change()

    async def _carry_out(self, command: Command) -> None:
        match command.do:
            case Do.CHECK_GROUND:
                self._begin_ground(command.launch)
            case Do.SPAWN:
                await self._spawn(command.launch)
            case Do.WATCH_START:
                self._watch(command.launch, self._watch_start)
            case Do.WATCH_LIFE:
                self._watch(command.launch, self._watch_life)
            case Do.TERM | Do.KILL:
                self._signal(command.do)
            case Do.SETTLE:
                self._settle()
            case Do.CALM:
                pass  # the lifecycle has noted it
            case _:
                self._arm(command)

    # --- commands

    def _begin_ground(self, launch: int) -> None:
        assert self.plan is not None
        if self._ground:
            self._ground.cancel()
        if self.memory.is_released(self.plan):
            self._queue.put_nowait(GroundChecked(launch, self._check_ground()))
        else:
            self._ground = asyncio.get_running_loop().create_task(self._wait_for_memory(launch, self.plan))

    async def _wait_for_memory(self, launch: int, plan: LaunchPlan) -> None:
        """A request that comes meanwhile ends PREPARING, or this launch: then nothing is looked at."""
        log.info("waiting for the memory of the server before")
        self._say_busy("waiting for the memory of the server before")
        await self.memory.released(plan, child_environment(self._environ, plan, self._private_config))
        if self.state is State.PREPARING and self.lifecycle.launch == launch:
            self._queue.put_nowait(GroundChecked(launch, self._check_ground()))

    def _check_ground(self) -> Diagnosis | None:
        assert self.plan is not None
        problem = check_ground(self.plan)
        if problem is not None:
            self._remember_failure(())  # nothing was launched that could have said anything
        return problem

    async def _spawn(self, launch: int) -> None:
        plan = self.plan
        assert plan is not None
        self._on_cpu = ""
        self.output.begin_run(plan.secrets.values())
        env = child_environment(self._environ, plan, self._private_config)
        try:
            child = await spawn(plan.argv, env, on_output=self.output.feed, inherit=(self._lock.fd,))
        except SupervisorError as error:
            failure = Diagnosis("spawn", str(error), error.hint, retryable=False)
            self._queue.put_nowait(Exited(launch, failure))
            return
        self.child = child
        self.memory.begin(child.identity.pid)
        self._on_change()  # the pid is known now: whoever reads the record can find the child
        child.exited.add_done_callback(lambda future: self._exited(launch, future.result()))

    def _exited(self, launch: int, status: ExitStatus) -> None:
        self.child = None
        self.memory.end()
        self.output.end_run()
        phase: Phase = "serving" if self.ready_since is not None else "starting"
        tail = self.output.tail(DIAGNOSED_LINES)
        if self.state in LIVE:  # else it went because we said so
            self._remember_failure(tail)
        diagnosis = diagnose(status, phase, tail)
        self._queue.put_nowait(Exited(launch, diagnosis))

    def _signal(self, do: Do) -> None:
        if self.child is None:
            return
        log.info("%s to llama-server (pid %d)", do.name, self.child.identity.pid)
        self.memory.let_go(self.plan)
        if do is Do.TERM:
            self.child.terminate()
        else:
            self.child.kill()

    def _arm(self, command: Command) -> None:
        if self._timer:
            self._timer.cancel()
        elapsed = TimerElapsed(command.launch, command.serial)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(command.seconds, self._queue.put_nowait, elapsed)
        if command.do is Do.ARM_BACKOFF:
            log.info("%s; next try in %.1f s", self.lifecycle.why, command.seconds)

    def _settle(self) -> None:
        assert self.lifecycle.outcome is not None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(self.lifecycle.outcome)

    def _remember_failure(self, tail: Sequence[str]) -> None:
        self.failure_tail = tuple(tail[-TAIL_LINES:])
        self.failed_at = time.time()

    # --- watching

    def _watch(self, launch: int, watching: Callable[[int], Awaitable[None]]) -> None:
        if self._watcher:
            self._watcher.cancel()
        self._watcher = asyncio.get_running_loop().create_task(self._guarded(launch, watching))

    async def _guarded(self, launch: int, watching: Callable[[int], Awaitable[None]]) -> None:
        """A server that nobody watches any more must not look ready: a bug of ours ends it."""
        try:
            await watching(launch)
        except Exception:
            log.exception("a watcher broke")
            self._give_up(launch, "bug", "the watcher of goss-supervisor broke, see daemon.log")

    async def _watch_start(self, launch: int) -> None:
        """Probe /health until it is ready, ever more slowly; give up on it without progress."""
        plan, child = self.plan, self.child
        if plan is None or child is None:
            return
        watch = Watch.begin(plan.health, self._evidence(child), time.monotonic())
        target, pause = target_of(plan), FIRST_PROBE_SECONDS
        while True:
            answer = await probe(target, "/health", timeout_seconds=plan.health.timeout_seconds)
            if answer.outcome == "ok" and self._is_ours(child, plan):
                self._queue.put_nowait(Serving(launch, self._degraded(plan)))
                return
            if watch.loading(self._evidence(child), time.monotonic()) is Verdict.DEAD:
                self._give_up(launch, "stalled", "it made no progress while loading")
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, SLOWEST_START_PROBE_SECONDS)

    async def _watch_life(self, launch: int) -> None:
        """Probe through the inference queue; a server that answers slowly because it works is left alone."""
        plan, child = self.plan, self.child
        if plan is None or child is None:
            return
        watch = Watch.begin(plan.health, self._evidence(child), time.monotonic())
        target, path = target_of(plan), plan.liveness_path or "/health"
        while True:
            await asyncio.sleep(plan.health.interval_seconds)
            answer = await probe(target, path, timeout_seconds=plan.health.timeout_seconds)
            # A refusal (a key that we do not know, say) proves little, but nobody is killed for it.
            answered = answer.status is not None
            verdict = watch.serving(self._evidence(child), time.monotonic(), answered=answered)
            self._say_busy(_doubt(verdict, answer))
            if verdict is Verdict.DEAD:
                self._give_up(launch, "hung", "it answers no probe and makes no progress")
                return

    def _say_busy(self, text: str) -> None:
        if text != self.busy:
            self.busy = text
            self._on_change()

    def _give_up(self, launch: int, kind: str, message: str) -> None:
        self._remember_failure(self.output.tail(TAIL_LINES))
        diagnosis = Diagnosis(kind, f"llama-server was stopped: {message}", "", retryable=True)
        self._queue.put_nowait(Unresponsive(launch, diagnosis))

    def _evidence(self, child: Child) -> Evidence:
        used = vitals(child.identity.pid)
        return Evidence(self.output.bytes_seen, used.cpu_seconds if used else 0.0)

    def _is_ours(self, child: Child, plan: LaunchPlan) -> bool:
        """Any process can answer 200 on a port; ready means that ours does."""
        if is_socket_path(plan.host) or plan.port == 0:
            return True  # the ground was clear, and there is no port to own
        return listens_on(child.identity.pid, plan.port) is not False

    def _degraded(self, plan: LaunchPlan) -> str:
        if not plan.wants_gpu:
            return ""
        if self._on_cpu:
            return f"running on the CPU: {self._on_cpu}"
        return "" if plan.devices else "running on the CPU: this build sees no GPU"

    def _read_line(self, line: str) -> None:
        found = cpu_fallback(line)
        if found and not self._on_cpu:
            self._on_cpu = found
            if self.plan is not None and self.plan.wants_gpu and self.state is State.READY:
                self._queue.put_nowait(Serving(self.lifecycle.launch, self._degraded(self.plan)))

    def close(self) -> None:
        """Stop watching; the child, if any, is left to its fate."""
        if self._timer:
            self._timer.cancel()
        if self._watcher:
            self._watcher.cancel()
        if self._ground:
            self._ground.cancel()
        self.memory.close()


def _doubt(verdict: Verdict, answer: ProbeResult) -> str:
    """What keeps us from calling it alive; empty when it is."""
    if verdict is not Verdict.FINE:
        return f"{verdict}, last probe: {answer.outcome}"
    return "" if answer.outcome == "ok" else f"liveness is not known, the probe got HTTP {answer.status}"


_UNDER_WAY = frozenset({State.PREPARING, State.STARTING, State.STOPPING, State.KILLING, State.BACKOFF})
