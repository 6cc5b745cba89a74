"""One thing that was checked, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FindingState = Literal["ok", "warning", "problem", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """
    ``id`` names the check, for scripts.  A ``problem`` keeps something from running or from being safe, a
    ``warning`` makes it slower or may become one; ``unknown`` could not be checked, and ``text`` says why.
    """

    id: str
    state: FindingState
    text: str
    fix: str = ""  # what to do, in one line
