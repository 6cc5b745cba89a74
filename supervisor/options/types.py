"""The values that pass between the modules of this room, and out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OptionValue = bool | int | float | str | tuple[str, ...]
"""``True`` and ``False`` switch a flag on and off; a tuple is an option that is given several times."""


@dataclass(frozen=True, slots=True)
class Problem:
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


@dataclass(frozen=True, slots=True)
class Rendered:
    """The argument list for one build; usable only when ``problems`` is empty."""

    argv: tuple[str, ...]
    translations: tuple[Translation, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Folded:
    """A raw option list as meanings, keyed by canonical name."""

    options: Mapping[str, OptionValue] = field(default_factory=dict)
    translations: tuple[Translation, ...] = ()
    problems: tuple[Problem, ...] = ()
