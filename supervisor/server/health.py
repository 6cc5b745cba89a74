"""
Probes one launch until it is ready, then judges whether a silent server is late, busy or dead.

Busy is not dead and healthy is not alive.  A server that does not answer but makes progress (it logs, its CPU
time advances) is loading or busy; one that does neither for long enough is killed.  A hung GPU driver may
spin on a CPU, so progress buys time, but only up to a limit.

What we did not see proves nothing.  A probe that we could not send, and a time in which this process did not
run (a virtual machine or container was paused), count as not having looked: the judgement starts over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

from ..plan.launch import LaunchPlan
from ..plan.listen import is_socket_path
from ..profile.definition import Health
from .child import Child
from .output_log import OutputLog
from .preflight import listens_on
from .probe import ProbeResult, probe
from .probe_target import ProbeTarget
from .process import process_stats
from .worker_watch import suspects

SLACK_SECONDS = 1.0  # a look that comes later than this after its time was held up with us
REFUSALS = 3  # in a row, in half a second: a server that has just closed its socket is still exiting
REFUSED_PAUSE_SECONDS = 0.25
CPU_SHARE = 0.02  # of one core: less is a process that only wakes up to sleep again
WAITING_SHARE, WAITING_SECONDS = 0.002, 0.02  # of one core, and besides: less is spent on our probes alone


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counters that only grow while a child does something."""

    log_bytes: int
    cpu_seconds: float


class HealthVerdict(StrEnum):
    FINE = "fine"
    WAITING = "waiting"  # no answer, within its time
    BUSY = "busy"  # no answer, but it makes progress
    DEAD = "dead"


class Watch:
    """Judges a series of probes of one launch; times are monotonic seconds."""

    def __init__(self, policy: Health, evidence: Evidence, now: float) -> None:
        self._policy, self._evidence = policy, evidence
        self._began = self._answered = self._progressed = self._observed = now
        self._worked, self._worked_at = evidence, now

    def start_over(self, evidence: Evidence, now: float) -> None:
        """Nobody looked since the last time: that time counts for nothing."""
        self._began += now - self._observed
        self._answered = self._progressed = self._observed = self._worked_at = now
        self._evidence = self._worked = evidence

    def was_held_up(self, now: float, expected_seconds: float) -> bool:
        """Whether this look comes much later than ``expected_seconds`` after the last one."""
        return now - self._observed > expected_seconds + SLACK_SECONDS

    def loading(self, evidence: Evidence, now: float) -> HealthVerdict:
        """Not ready yet: the deadline counts from the last progress, the limit from the spawn."""
        self._note(evidence, now)
        late = now - self._progressed > self._policy.start_timeout_seconds
        over = now - self._began > self._policy.start_limit_seconds
        return HealthVerdict.DEAD if late or over else HealthVerdict.WAITING

    def serving(self, evidence: Evidence, now: float, *, answered: bool) -> HealthVerdict:
        """It was ready: an answer is all that counts; without one, progress buys time."""
        self._note(evidence, now)
        if answered:
            self._answered = self._progressed = now
            return HealthVerdict.FINE
        silent, idle = now - self._answered, now - self._progressed
        if idle > self._policy.hang_timeout_seconds or silent > self._policy.busy_timeout_seconds:
            return HealthVerdict.DEAD
        return HealthVerdict.BUSY if idle < silent else HealthVerdict.WAITING

    def is_stuck(self, evidence: Evidence, now: float, *, at_work: bool) -> bool:
        """
        Whether it has done nothing for the requests that it has, though it answers probes: llama-server
        (b11434) does while a worker hangs.  One that works elsewhere takes little time of this machine.
        """
        idle = now - self._worked_at
        worked = evidence.cpu_seconds - self._worked.cpu_seconds > WAITING_SECONDS + WAITING_SHARE * idle
        if worked or evidence.log_bytes > self._worked.log_bytes or not at_work:
            self._worked, self._worked_at = evidence, now
        return now - self._worked_at > self._policy.hang_timeout_seconds

    def _note(self, evidence: Evidence, now: float) -> None:
        worked = evidence.cpu_seconds - self._evidence.cpu_seconds
        busy = worked > CPU_SHARE * max(now - self._observed, 0.001)
        if busy or evidence.log_bytes > self._evidence.log_bytes:
            self._progressed = now
        self._evidence, self._observed = evidence, now


log = logging.getLogger(__name__)

FIRST_PROBE_SECONDS = 0.01  # a small model is ready at once and should not wait for our clock
SLOWEST_START_PROBE_SECONDS = 0.5
SLOWEST_QUESTION_SECONDS = 5.0
_EXCERPT = 200
_NOBODY = "nobody listens at its address any more"


class Watcher:
    """
    One launch's.  ``serves()`` is called once, when it is ready; ``doubts(text)`` after each look at one that
    is; ``is_dead(kind, message)`` when it has to go, and then no more.  ``under_way`` counts its requests;
    ``was_ready``: it was taken over, and was ready before.
    """

    def __init__(
        self,
        plan: LaunchPlan,
        child: Child,
        target: ProbeTarget,
        output: OutputLog,
        *,
        serves: Callable[[], None],
        doubts: Callable[[str], None],
        is_dead: Callable[[str, str], None],
        under_way: Callable[[], int] = lambda: 0,
        was_ready: bool = False,
    ) -> None:
        self._plan = plan
        self._was_ready = was_ready
        self._child = child
        self.target = target
        self._output = output
        self._serves = serves
        self._doubts = doubts
        self._is_dead = is_dead
        self._under_way = under_way
        self._cpu_seconds = 0.0
        self._asked_to_look = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Somebody could not reach it: probe it now, and not at the next time that is due."""
        self._asked_to_look.set()

    def watch_start(self) -> None:
        """From now on, until it is ready or given up."""
        self._begin(self._until_ready)

    def watch_life(self) -> None:
        """From now on, until it is given up."""
        self._begin(self._while_alive)

    def stop(self) -> None:
        """Look no more."""
        if self._task:
            self._task.cancel()

    def _begin(self, watching: Callable[[], Awaitable[None]]) -> None:
        self.stop()
        self._task = asyncio.get_running_loop().create_task(self._guarded(watching))

    async def _guarded(self, watching: Callable[[], Awaitable[None]]) -> None:
        """A server that nobody watches any more must not look ready: a bug of ours ends it."""
        try:
            while True:
                try:
                    return await watching()
                except (OSError, MemoryError) as error:  # a shortage of ours: start over
                    log.warning("the watcher cannot look: %s", error)
                    self._doubts(f"it cannot be watched at the moment: {error}")
                    await asyncio.sleep(SLOWEST_START_PROBE_SECONDS)
        except Exception:
            log.exception("a watcher broke")
            self._is_dead("bug", "the watcher of goss-supervisor broke, see daemon.log")

    async def _until_ready(self) -> None:
        """Probe until it is ready, ever more slowly; give up on it without progress."""
        health, path, pause = self._plan.health, self._plan.ready_path, FIRST_PROBE_SECONDS
        watch, paused = Watch(health, self._evidence(), time.monotonic()), 0.0
        was_up, refusals = False, 0
        while True:
            answer = await self._probe(path, watch, paused)
            if answer.outcome == "ok" and self._is_ours():
                self.target = replace(self.target, greeting=answer.body)
                await self._until_it_answers()
                return
            was_up |= answer.status is not None
            refusals = refusals + 1 if was_up and answer.outcome == "refused" else 0
            if refusals == REFUSALS:
                self._is_dead("unreachable", _NOBODY)
                return
            refused = f" ({path} {_refusal(answer)})" if answer.outcome == "error" and answer.status else ""
            if watch.loading(self._evidence(), time.monotonic()) is HealthVerdict.DEAD:
                if self._was_ready:
                    said = f"it did not become ready again after it was taken over{refused}"
                    self._is_dead("hung", f"{said}, and made no progress{suspects(self._plan)}")
                else:
                    self._is_dead("stalled", f"it made no progress while loading{refused}")
                return
            self._doubts(_unknown(answer) or (f"it is not up yet{refused}" if refused else ""))
            await asyncio.sleep(paused := pause)
            pause = min(pause * 1.5, SLOWEST_START_PROBE_SECONDS)

    async def _probe(self, path: str, watch: Watch, paused_seconds: float) -> ProbeResult:
        """Ask, after such a pause; where we could not, or were held up ourselves, the watch starts over."""
        limit = self._plan.health.timeout_seconds
        answer = await probe(self.target, path, timeout_seconds=limit)
        now = time.monotonic()
        expected_seconds = paused_seconds + min(answer.seconds, limit)
        if answer.outcome == "unknown" or watch.was_held_up(now, expected_seconds):
            watch.start_over(self._evidence(), now)
        return answer

    async def _until_it_answers(self) -> None:
        """
        It is up: whether it answers too is asked where there is a question.  A first answer may take as long
        as a load.  What is asked makes it log and compute, so that is no progress here: only time counts.
        """
        asked, limit, pause = (
            self._plan.question,
            self._plan.health.start_timeout_seconds,
            FIRST_PROBE_SECONDS,
        )
        ends = time.monotonic() + limit
        while asked is not None:
            began = time.monotonic()
            left = max(ends - began, 0.001)
            answer = await probe(self.target, asked.path, timeout_seconds=left, body=asked.body)
            if answer.outcome == "ok":
                break
            now = time.monotonic()
            if answer.outcome == "unknown" or now - began > left + SLACK_SECONDS:
                ends = now + limit  # nobody looked
            doubt = _unknown(answer) or f"it is up, but does not answer: {asked.path} {_refusal(answer)}"
            if now + pause >= ends:
                self._is_dead("unusable", doubt)
                return
            self._doubts(doubt)
            await asyncio.sleep(pause)
            pause = min(pause * 2, SLOWEST_QUESTION_SECONDS)
        self._doubts("")
        self._serves()

    async def _while_alive(self) -> None:
        """Probe through the inference queue; a server that answers slowly because it works is left alone."""
        health, path = self._plan.health, self._plan.liveness_path or self._plan.ready_path
        watch, refusals = Watch(health, self._evidence(), time.monotonic()), 0
        while True:
            pause = REFUSED_PAUSE_SECONDS if refusals else health.interval_seconds
            await self._pause(pause)
            answer = await self._probe(path, watch, pause)
            # A refusal (a key that we do not know, say) proves little, but nobody is killed for it.  An error
            # at the path that has said that it is ready is as bad as no answer.
            is_ill = (
                path == self._plan.ready_path and answer.outcome == "error" and (answer.status or 0) >= 500
            )
            answered = answer.status is not None and not is_ill
            verdict = watch.serving(self._evidence(), time.monotonic(), answered=answered)
            self._doubts(_unknown(answer) or _doubt(verdict, answer))
            refusals = refusals + 1 if answer.outcome == "refused" else 0
            if refusals == REFUSALS:
                self._is_dead("unreachable", _NOBODY)
                return
            at_work = bool(self._plan.workers) and self._under_way() > 0
            if watch.is_stuck(self._evidence(), time.monotonic(), at_work=at_work):
                self._is_dead("hung", f"it answers no request and makes no progress{suspects(self._plan)}")
                return
            if verdict is HealthVerdict.DEAD:
                said = f"is not well ({path} {_refusal(answer)})" if is_ill else "answers no probe"
                self._is_dead("hung", f"it {said} and makes no progress{suspects(self._plan)}")
                return

    async def _pause(self, seconds: float) -> None:
        """At most so long: `look` ends it."""
        self._asked_to_look.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # `wait_for` may swallow a `stop` that comes with a `look`
                await self._asked_to_look.wait()

    def _evidence(self) -> Evidence:
        """What cannot be read at the moment is as it was."""
        used = process_stats(self._child.identity.pid)
        if used is not None:
            self._cpu_seconds = used.cpu_seconds
        return Evidence(self._output.bytes_seen, self._cpu_seconds)

    def _is_ours(self) -> bool:
        """Any process can answer 200 on a port; ready means that ours does."""
        if is_socket_path(self._plan.host) or self._plan.port == 0:
            return True  # the preflight passed, and there is no port to own
        return listens_on(self._child.identity.pid, self._plan.port) is not False


def _refusal(answer: ProbeResult) -> str:
    if answer.status is None:
        return f"got no answer ({answer.outcome})"
    body = " ".join(answer.body[:_EXCERPT].decode("utf-8", "replace").split())
    return f"got HTTP {answer.status} {body}".rstrip()


def _unknown(answer: ProbeResult) -> str:
    """What keeps us from asking it; empty where nothing does."""
    return f"it cannot be asked at the moment: {answer.why}" if answer.outcome == "unknown" else ""


def _doubt(verdict: HealthVerdict, answer: ProbeResult) -> str:
    """What keeps us from calling it alive; empty when it is."""
    if verdict is not HealthVerdict.FINE:
        return f"{verdict}, last probe: {answer.outcome}"
    return "" if answer.outcome == "ok" else f"liveness is not known, the probe got HTTP {answer.status}"
