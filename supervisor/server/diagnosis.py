"""What is known of a failure: in a word, in a sentence, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SupervisorError
from .shortage import is_ours, is_ours_to_spawn

WORKER_LOST = "worker-lost"
"""The kind of failure that is a worker's: it ended, cannot be reached, or does not answer."""
OF_WORKERS = frozenset((WORKER_LOST, "worker-protocol"))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """
    ``message`` is one sentence; ``hint`` says what to do; ``retryable``: the same plan may yet succeed.

    ``is_ours``: the daemon was short of something, which says nothing about the plan; it is retryable too.
    """

    kind: str
    message: str
    hint: str = ""
    retryable: bool = False
    is_ours: bool = False


def shortage(error: BaseException) -> Diagnosis | None:
    """What to call an error of ours; None for any other."""
    if not is_ours(error):
        return None
    why = getattr(error, "strerror", None) or str(error) or "out of memory"
    hint = "Look at the limits and the room of this computer (ulimit -n, free, df)."
    return Diagnosis("shortage", f"goss-supervisor is short of something: {why}.", hint, True, is_ours=True)


def not_spawned(error: SupervisorError | OSError | MemoryError, *, runs: bool) -> Diagnosis:
    """Why no process could be started; of a survivor, which ``runs``: why it is ended."""
    if not isinstance(error, SupervisorError):
        return shortage(error) or Diagnosis("spawn", str(error), retryable=runs)
    ours = is_ours_to_spawn(error.__cause__)
    return Diagnosis("spawn", str(error), error.hint, retryable=ours or runs, is_ours=ours)
