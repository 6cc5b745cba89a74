"""
Declares a key of the YAML where its value is stored.

``fields`` makes validation, ``profile show``, the JSON Schema and the docs from that; the daemon does not
load it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, Unpack

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]*"  # of a profile; a file is called so


class Limits(TypedDict, total=False):
    """What the type of a key does not say of its values."""

    least: float
    most: float
    words: tuple[str, ...]
    pattern: str
    what: str  # a text that matches ``pattern``, in words
    absolute: bool  # a path from the root or from ~
    origins: bool  # of web pages
    or_off: bool  # off is 0


def key(default: object, about: str, name: str = "", **limits: Unpack[Limits]) -> Any:  # noqa: ANN401 - a field
    """A key of profiles: its default, what it is for, and its name if the attribute has another."""
    return field(default=default, metadata={"about": about, "name": name, **limits})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written; line and column count from 1.  ``file`` is a path, or ``--set``."""

    profile: str
    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    @property
    def short(self) -> str:
        """For tables: ``rtx4060ti-oculink.yaml:12``."""
        name = Path(self.file).name
        return f"{name}:{self.line}" if self.line else name
