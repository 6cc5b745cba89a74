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


@dataclass(slots=True)
class Watch:
    """Judges a series of probes of one launch; times are monotonic seconds."""

    policy: Health
    evidence: Evidence
    began: float
    answered: float
    progressed: float
    observed: float

    @classmethod
    def begin(cls, policy: Health, evidence: Evidence, now: float) -> Watch:
        return cls(policy, evidence, now, now, now, now)

    def loading(self, evidence: Evidence, now: float) -> Verdict:
        """Not ready yet: the deadline counts from the last progress, the limit from the spawn."""
        self._note(evidence, now)
        late = now - self.progressed > self.policy.start_timeout_seconds
        over = now - self.began > self.policy.start_limit_seconds
        return Verdict.DEAD if late or over else Verdict.WAITING

    def serving(self, evidence: Evidence, now: float, *, answered: bool) -> Verdict:
        """It was ready: an answer is all that counts; without one, progress buys time."""
        self._note(evidence, now)
        if answered:
            self.answered = self.progressed = now
            return Verdict.FINE
        silent, idle = now - self.answered, now - self.progressed
        if idle > self.policy.hang_timeout_seconds or silent > self.policy.busy_timeout_seconds:
            return Verdict.DEAD
        return Verdict.BUSY if idle < silent else Verdict.WAITING

    def _note(self, evidence: Evidence, now: float) -> None:
        worked = evidence.cpu_seconds - self.evidence.cpu_seconds
        busy = worked > CPU_SHARE * max(now - self.observed, 0.001)
        if busy or evidence.log_bytes > self.evidence.log_bytes:
            self.progressed = now
        self.evidence, self.observed = evidence, now
