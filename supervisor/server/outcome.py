"""The outcome of a request for a change, and the commands for the shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .lifecycle_table import (
    Do,
)

OutcomeResult = Literal[
    "ready", "degraded", "rolled back", "failed", "stopped", "asleep", "unchanged", "superseded"
]


@dataclass(frozen=True, slots=True)
class LifecycleCommand:
    """What the shell must do, for which launch; ``seconds`` and ``serial`` belong to ARM commands."""

    do: Do
    launch: int
    seconds: float = 0.0
    serial: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What the request with this ``id`` came to, or ``by`` which other one it was superseded.  ``profile`` and
    ``digest`` are of the plan that runs now or that failed, or that was asked for and superseded.
    """

    result: OutcomeResult
    why: str = ""
    hint: str = ""
    profile: str = ""
    digest: str = ""
    id: int = 0
    by: int = 0
