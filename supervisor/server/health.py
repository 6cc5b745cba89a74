"""
When a silent server is late, busy or dead.  Pure: evidence and time come in, a verdict goes out.

Busy is not dead and healthy is not alive.  A server that does not answer but makes progress (it logs,
its CPU time advances) is loading or busy; one that does neither for long enough has to go.  A hung GPU
driver may spin on a CPU, so progress buys time, not for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..profile.definition import Health

CPU_SHARE = 0.02  # of one core: less is a process that only wakes up to sleep again


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counters that only grow while a child does something."""

    log_bytes: int
    cpu_seconds: float


class Verdict(StrEnum):
    FINE = "fine"
    WAITING = "waiting"  # no answer, within its time
    BUSY = "busy"  # no answer, but it makes progress
    DEAD = "dead"


class Watch:
    """Judges a series of probes of one launch; times are monotonic seconds."""

    def __init__(self, policy: Health, evidence: Evidence, now: float) -> None:
        self._policy, self._evidence = policy, evidence
        self._began = self._answered = self._progressed = self._observed = now

    def loading(self, evidence: Evidence, now: float) -> Verdict:
        """Not ready yet: the deadline counts from the last progress, the limit from the spawn."""
        self._note(evidence, now)
        late = now - self._progressed > self._policy.start_timeout_seconds
        over = now - self._began > self._policy.start_limit_seconds
        return Verdict.DEAD if late or over else Verdict.WAITING

    def serving(self, evidence: Evidence, now: float, *, answered: bool) -> Verdict:
        """It was ready: an answer is all that counts; without one, progress buys time."""
        self._note(evidence, now)
        if answered:
            self._answered = self._progressed = now
            return Verdict.FINE
        silent, idle = now - self._answered, now - self._progressed
        if idle > self._policy.hang_timeout_seconds or silent > self._policy.busy_timeout_seconds:
            return Verdict.DEAD
        return Verdict.BUSY if idle < silent else Verdict.WAITING

    def _note(self, evidence: Evidence, now: float) -> None:
        worked = evidence.cpu_seconds - self._evidence.cpu_seconds
        busy = worked > CPU_SHARE * max(now - self._observed, 0.001)
        if busy or evidence.log_bytes > self._evidence.log_bytes:
            self._progressed = now
        self._evidence, self._observed = evidence, now
