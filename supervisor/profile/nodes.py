"""A YAML document as values with positions; lines and columns count from 1."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value, typed by the YAML 1.2 core schema; ``text`` is what was written."""

    value: bool | int | float | str | None
    text: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class Items:
    items: tuple[Node, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class Entry:
    key: str
    mark: Mark
    value: Node


@dataclass(frozen=True, slots=True)
class Table:
    entries: tuple[Entry, ...]
    mark: Mark


Node = Scalar | Items | Table


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in one file; ``key`` is the dotted path (``listen.port``), empty for the file itself."""

    file: str
    mark: Mark
    message: str
    key: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.mark.line}:{self.mark.column}" if self.mark.line else self.file
        what = f"{self.key}: {self.message}" if self.key else self.message
        return f"{where}: {what}" + (f" (did you mean {self.suggestion}?)" if self.suggestion else "")


def kind_name(node: Node) -> str:
    """What a person calls it: ``the text 'abc'``, ``the number 5``, ``a list``, ``a mapping``."""
    match node:
        case Items():
            return "a list"
        case Table():
            return "a mapping"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool()):
            return f"the truth value {node.text}"
        case Scalar(value=int() | float()):
            return f"the number {node.text[:60]}"
        case Scalar():
            return f"the text {node.text[:60]!r}"
