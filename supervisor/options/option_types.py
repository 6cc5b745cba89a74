"""The types of an option's value, and of an option rendered for a build."""

from __future__ import annotations

import re
from dataclasses import dataclass

OptionValue = bool | int | float | str | tuple[str, ...]
"""``True`` and ``False`` switch a flag on and off; a tuple is an option that is given several times."""


@dataclass(frozen=True, slots=True)
class OptionProblem:
    """Something that a profile asks for and that cannot be; ``option`` is the key as the user wrote it."""

    option: str
    message: str
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class Translation:
    """A meaning that was rendered otherwise than it was written, and why."""

    option: str
    rendered: tuple[str, ...]
    reason: str
    source: str = ""


def plain_number(text: str) -> str:
    """``16384`` for ``16,384``, ``16_384`` and ``16k``; "" for anything else."""
    if re.fullmatch(r"[0-9]{1,3}(?:[,_' .][0-9]{3})+", text):
        return re.sub(r"[^0-9]", "", text)
    thousands = re.fullmatch(r"([0-9]{1,6}) ?[kK]", text)
    return str(int(thousands[1]) * 1024) if thousands else ""
