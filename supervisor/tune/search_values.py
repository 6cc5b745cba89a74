"""
The values between the search, which is pure, and what carries out its trials.

A candidate is a set of changes to a profile, written as ``start --set`` takes them; what it does not name is
as the profile has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Candidate = tuple[tuple[str, str], ...]  # (key, value), sorted by key: (("server.ubatch-size", "2048"), …)
Fits = Callable[[Candidate], bool]  # by the memory account; what does not fit is never tried


@dataclass(frozen=True, slots=True)
class Axis:
    """
    One setting that may change.  ``values`` are as ``--set`` takes them, in their order where ``is_ordered``
    (numbers), else without one (flavours).  ``now`` is the one that the profile has, empty where it leaves
    the setting to the engine.  ``why`` says what it may do for the speed.

    ``usual`` is what the engine takes by itself, empty where that depends on more than the machine.

    ``memory`` says which memory a later value takes more of, for an ordered axis: ``GPU`` (layers on the
    GPU), ``RAM`` (experts on the CPU) or ``both`` (a batch).  Empty: none that counts.
    """

    key: str
    values: tuple[str, ...]
    is_ordered: bool
    why: str = ""
    now: str = ""
    memory: Literal["", "GPU", "RAM", "both"] = ""
    usual: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """
    Measure this candidate ``runs`` times.  ``reloads`` asks for a fresh load even if it runs already.
    ``stop_above`` is the cost (seconds) above which it can no longer win: the measurement may stop there.
    """

    number: int
    candidate: Candidate
    runs: int
    why: str
    reloads: bool = False
    stop_above: float | None = None


@dataclass(frozen=True, slots=True)
class TrialResult:
    """
    ``costs`` in seconds that the goal's work takes, one for each run; lower is better.  ``took_seconds`` is
    what the trial took in all, its load included.  ``died`` is the diagnosis of one that failed, and
    ``short_of`` the memory that it had too little of, if that was why.

    ``rates`` of each run are tokens per second, of the prompt and of the answer, 0 where the server did not
    say: the search needs only the costs, the effects, charts and explanations these.
    """

    costs: tuple[float, ...]
    took_seconds: float
    died: str = ""
    short_of: Literal["", "GPU", "RAM"] = ""
    rates: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """
    The end of a search.  ``ratio`` is the start's cost divided by the best one's (above 1: faster), with its
    95 % interval.  Where that includes 1 the best is the start.
    """

    best: Candidate
    start: Candidate
    ratio: float
    ratio_low: float
    ratio_high: float
    why: str
