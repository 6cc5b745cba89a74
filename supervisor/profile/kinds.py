"""
What kinds of value a profile has.

A kind reads a node into a typed value, writes such a value back as a person would, and describes
itself as JSON Schema, so that each rule stands once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from .yaml_nodes import Items, Node, Scalar, kind_name, write_value

JSON = dict[str, object]
NAME_PATTERN = r"[a-z0-9][a-z0-9._-]*"  # of a profile; a file is called so


class Invalid(Exception):
    """The value is not one of its kind."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.message, self.suggestion = message, suggestion


class Kind(Protocol):
    """Reads, writes and describes one kind of value."""

    def read(self, node: Node) -> object:
        """The typed value.  Raises ``Invalid``."""

    def write(self, value: object) -> str:
        """YAML on one line that ``read`` reads back as the same."""

    def json_schema(self) -> JSON:
        """What ``read`` takes, without description and default."""


def nearest(word: str, names: tuple[str, ...]) -> str:
    """The name most like ``word``, or nothing where none is near."""
    found = get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return found[0] if found else ""


def text_of(node: Node, what: str = "a text") -> str:
    """A scalar as it was written: ``1.10`` stays ``1.10`` where a text is meant."""
    if not isinstance(node, Scalar) or node.value is None:
        raise Invalid(f"must be {what}, not {kind_name(node)}")
    return node.text


@dataclass(frozen=True, slots=True)
class Text:
    """Any text, or one of a pattern that ``what`` puts into words."""

    what: str = "a text"
    pattern: str = ""

    def read(self, node: Node) -> str:
        text = text_of(node, self.what)
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise Invalid(f"must be {self.what}, not {kind_name(node)}")
        return text

    def write(self, value: object) -> str:
        return write_value(value)

    def json_schema(self) -> JSON:
        pattern = {"pattern": f"^(?:{self.pattern})$"} if self.pattern else {}
        return {"type": "string", **pattern}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    names: tuple[str, ...]

    def read(self, node: Node) -> str:
        return _chosen(node, self.names)

    def write(self, value: object) -> str:
        return write_value(value)

    def json_schema(self) -> JSON:
        return {"enum": list(self.names)}


@dataclass(frozen=True, slots=True)
class Several:
    """One text or a list of them; ``names`` limits them where it is not empty."""

    what: str = "a text or a list of them"
    names: tuple[str, ...] = ()
    pattern: str = ""

    def read(self, node: Node) -> tuple[str, ...]:
        items = node.items if isinstance(node, Items) else (node,)
        return tuple(self._one(item) for item in items)

    def _one(self, node: Node) -> str:
        if self.names:
            return _chosen(node, self.names)
        return Text(self.what, self.pattern).read(node)

    def write(self, value: object) -> str:
        one = isinstance(value, tuple) and len(value) == 1
        return write_value(value[0] if one and isinstance(value, tuple) else value)

    def json_schema(self) -> JSON:
        one: JSON = {"enum": list(self.names)} if self.names else Text(pattern=self.pattern).json_schema()
        return {"anyOf": [one, {"type": "array", "items": one}]}


def _chosen(node: Node, names: tuple[str, ...]) -> str:
    word = text_of(node, "one of " + ", ".join(names))
    if word not in names:
        raise Invalid(f"must be one of {', '.join(names)}, not {kind_name(node)}", nearest(word, names))
    return word


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within bounds, both included."""

    minimum: int
    maximum: int

    def read(self, node: Node) -> int:
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise Invalid(
                f"must be a whole number from {self.minimum} to {self.maximum}, not {kind_name(node)}"
            )
        return value

    def write(self, value: object) -> str:
        return write_value(value)

    def json_schema(self) -> JSON:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Truth:
    """``true`` or ``false``, nothing else: ``on`` and ``no`` are texts."""

    def read(self, node: Node) -> bool:
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        word = node.text.lower() if isinstance(node, Scalar) else ""
        suggestion = {"on": "true", "yes": "true", "off": "false", "no": "false"}.get(word, "")
        raise Invalid(f"must be true or false, not {kind_name(node)}", suggestion)

    def write(self, value: object) -> str:
        return write_value(value)

    def json_schema(self) -> JSON:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit or, bare, of the unit whose factor is 1; from ``minimum`` up to ``maximum``."""

    what: str
    units: Mapping[str, float]
    minimum: float
    maximum: float
    gap: str = ""  # between number and unit, as people write it

    def read(self, node: Node) -> float:
        value = self._value(node)
        if not self.minimum <= value <= self.maximum:  # nan is refused, too
            bounds = f"from {self.write(self.minimum)} to {self.write(self.maximum)}"
            raise Invalid(f"must be {bounds}, not {kind_name(node)}")
        return value

    def _value(self, node: Node) -> float:
        if (
            isinstance(node, Scalar)
            and isinstance(node.value, int | float)
            and not isinstance(node.value, bool)
        ):
            return float(node.value)
        found = re.fullmatch(self._pattern(), text_of(node, self.what))
        if not found:
            raise Invalid(f"must be {self.what}, not {kind_name(node)}")
        return float(found[1]) * self.units[found[2]]

    def _pattern(self) -> str:
        return rf"([0-9]{{1,15}}(?:\.[0-9]{{1,15}})?) ?({'|'.join(self.units)})"

    def write(self, value: object) -> str:
        assert isinstance(value, int | float)
        for unit, factor in sorted(self.units.items(), key=lambda pair: -pair[1]):
            number = f"{value / factor:g}"
            if "e" not in number and value >= factor and float(number) * factor == value:
                return f"{number}{self.gap}{unit}"
        return f"{value:.15g}"

    def json_schema(self) -> JSON:
        text = {"type": "string", "pattern": f"^{self._pattern()}$"}
        return {"anyOf": [text, {"type": "number", "minimum": self.minimum, "maximum": self.maximum}]}


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {
    "B": 1.0,
    **{prefix + "B": 1000.0**n for n, prefix in enumerate("KMGT", 1)},
    **{prefix + "iB": 1024.0**n for n, prefix in enumerate("KMGT", 1)},
}


def duration(minimum: float = 0.0) -> Quantity:
    """Seconds, as ``30s``, ``10m``, ``1.5h``, ``500ms`` or a bare number of seconds; 30 days at most."""
    return Quantity("a time such as 30s, 10m or 1h, or a number of seconds", _SECONDS, minimum, 30 * 86400.0)


@dataclass(frozen=True, slots=True)
class Size(Quantity):
    """Bytes, as ``16 GB`` (powers of 1000), ``15.5 GiB`` (of 1024) or a bare number of bytes."""

    what: str = "a size such as 16 GB or 15.5 GiB, or a number of bytes"
    units: Mapping[str, float] = field(default_factory=lambda: dict(_BYTES))
    minimum: float = 0.0
    maximum: float = 1e15
    gap: str = " "

    def read(self, node: Node) -> int:
        return round(Quantity.read(self, node))


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path; ``~`` is the home folder.  ``absolute`` where nothing says what it would be relative to."""

    absolute: bool = False

    def read(self, node: Node) -> Path:
        text = text_of(node, "a path")
        if not text.strip():
            raise Invalid("must be a path, not nothing")
        try:
            path = Path(text).expanduser()
        except RuntimeError:
            raise Invalid(
                f"the home folder of {text.split('/')[0]} is not known; write the whole path"
            ) from None
        if self.absolute and not (PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()):
            raise Invalid(f"must be a whole path from the root or from ~, not {kind_name(node)}")
        return path

    def write(self, value: object) -> str:
        return write_value(str(value))

    def json_schema(self) -> JSON:
        return {"type": "string", "minLength": 1}
