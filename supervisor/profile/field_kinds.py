"""
The kinds of values that a profile has.

A kind parses a node into a typed value, writes such a value back as a person would, and describes itself as
JSON Schema, so each rule is in one place.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Protocol

from ..errors import similar_names
from ..options.option_types import plain_number
from .worker_address import ADDRESS_PATTERN, PORT, WHAT, Worker, WorkerAddress, parse_worker
from .yaml_nodes import Items, Scalar, Table, YamlNode, kind_name, plain_value, write_value

JSON = dict[str, object]
ENV_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*"


class Invalid(Exception):
    """The value is not one of its kind."""

    def __init__(self, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.message, self.suggestion = message, suggestion


class Kind(Protocol):
    """Reads, writes and describes one kind of value."""

    def read(self, node: YamlNode) -> object:
        """The typed value.  Raises ``Invalid``."""

    def write(self, value: object) -> str:
        """YAML on one line that ``read`` reads back as the same."""
        return write_value(value)

    def json_schema(self) -> JSON:
        """What ``read`` takes, without description and default."""


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """Any text, or one of a pattern that ``what`` puts into words; ``words`` are what may have been meant."""

    what: str = "a text"
    pattern: str = ""
    words: tuple[str, ...] = ()

    def read(self, node: YamlNode) -> str:
        text = _text_of(node, self.what)
        if self.pattern and not re.fullmatch(self.pattern, text):
            # Who writes a key where the name of its variable belongs must not find it in a log or a report.
            it = "this text" if self.pattern == ENV_PATTERN else kind_name(node)
            raise Invalid(f"must be {self.what}, not {it}", nearest(text, self.words))
        return text

    def json_schema(self) -> JSON:
        pattern = {"pattern": f"^(?:{self.pattern})$"} if self.pattern else {}
        return {"type": "string", **pattern}


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, node: YamlNode) -> str:
        words = ", ".join(self.words)
        word = _text_of(node, f"one of {words}")
        if word not in self.words:
            raise Invalid(f"must be one of {words}, not {kind_name(node)}", nearest(word, self.words))
        return word

    def json_schema(self) -> JSON:
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class WebOrigin(Kind):
    """An origin as browsers send it (RFC 6454, 6.2): a scheme, a host, a port."""

    pattern = r"[A-Za-z][A-Za-z0-9+.-]*://(?:\[[0-9A-Fa-f:.]+\]|[^\s/:?#@*,\[\]]+)(?::[0-9]{1,5})?"

    def read(self, node: YamlNode) -> str:
        text = _text_of(node, "an origin such as https://chat.lan or a list of them")
        if "*" in text:
            raise Invalid(f"{text!r} would let web pages in that nobody named; name each origin")
        if text != "null" and not re.fullmatch(self.pattern, text):
            found = re.match(rf"{self.pattern}(?=[/?#])", text)
            what = "an origin such as https://chat.lan or http://10.0.0.2:3000, without a path"
            raise Invalid(f"must be {what}, not {kind_name(node)}", found[0] if found else "")
        return text

    def json_schema(self) -> JSON:
        return {"type": "string", "pattern": f"^(?:null|{self.pattern})$"}


@dataclass(frozen=True, slots=True)
class Several(Kind):
    """One value or a list of them."""

    one: Kind

    def read(self, node: YamlNode) -> tuple[object, ...]:
        """A text with commas is a list, where no single value has one."""
        if isinstance(node, Scalar) and "," in node.text:
            parts = [part.strip() for part in node.text.split(",")]
            node = Items(tuple(Scalar(part, part, node.mark) for part in parts if part), node.mark)
        return tuple(map(self.one.read, node.items if isinstance(node, Items) else (node,)))

    def write(self, value: object) -> str:
        return write_value(value[0] if isinstance(value, tuple) and len(value) == 1 else value)

    def json_schema(self) -> JSON:
        one = self.one.json_schema()
        return {"anyOf": [one, {"type": "array", "items": one}]}


@dataclass(frozen=True, slots=True)
class Workers(Kind):
    """A list of addresses, each also as a mapping with ``address``; one address alone is a list of one."""

    def read(self, node: YamlNode) -> tuple[Worker, ...]:
        if isinstance(node, Scalar) and "," in node.text:
            node = Items(tuple(Scalar(each, each, node.mark) for each in node.text.split(",")), node.mark)
        found = tuple(map(self._worker, node.items if isinstance(node, Items) else (node,)))
        named = [str(each.address) for each in found]
        if twice := next((name for name in named if named.count(name) > 1), ""):
            raise Invalid(f"names {twice} twice")
        return found

    def _worker(self, node: YamlNode) -> Worker:
        if not isinstance(node, Table):
            return Worker(self._address(node))
        texts: dict[str, str] = {}
        for entry in node.entries:
            name = entry.key.replace("_", "-")
            if name == "address":
                continue
            if name not in _OF_A_WORKER:
                near = nearest(name, ("address", *_OF_A_WORKER))
                raise Invalid(f"has no key {entry.key}", near)
            texts[name] = _OF_A_WORKER[name].read(entry.value)
        address = next((entry.value for entry in node.entries if entry.key == "address"), None)
        if address is None:
            raise Invalid("is missing an address: which worker?")
        return Worker(self._address(address), texts.get("supervisor", ""), texts.get("api-key-env", ""))

    def _address(self, node: YamlNode) -> WorkerAddress:
        try:
            return parse_worker(_text_of(node, WHAT))
        except ValueError as error:
            raise Invalid(str(error)) from None

    def write(self, value: object) -> str:
        assert isinstance(value, tuple)
        return write_value([_written(each) for each in value])

    def json_schema(self) -> JSON:
        address: JSON = {"type": "string", "pattern": f"^(?:{ADDRESS_PATTERN})$"}
        own = {name: kind.json_schema() for name, kind in _OF_A_WORKER.items()}
        mapping: JSON = {
            "type": "object",
            "additionalProperties": False,
            "properties": {"address": address, **own},
            "required": ["address"],
        }
        return {"anyOf": [address, {"type": "array", "items": {"anyOf": [address, mapping]}}]}


_OF_A_WORKER = {
    "supervisor": Text("an address such as http://mini2.local:21434", r"https?://\S+"),
    "api-key-env": Text("the name of an environment variable", ENV_PATTERN),
}


def _written(worker: Worker) -> object:
    """As a person would write it: the address alone, without the usual port."""
    address = worker.address.host if worker.address.port == PORT else str(worker.address)
    texts = {"address": address, "supervisor": worker.supervisor, "api-key-env": worker.api_key_env}
    given = {name: text for name, text in texts.items() if text}
    return address if len(given) == 1 else given


@dataclass(frozen=True, slots=True)
class OnOff(Kind):
    """``on`` or ``off``, or that as a truth value; read as a truth value, or as the word itself."""

    as_word: bool = False

    def read(self, node: YamlNode) -> bool | str:
        word = _text_of(node, "on or off").lower()
        if word not in {"on", "true", "off", "false"}:
            meant = {"yes": "on", "no": "off"}.get(word, "")
            raise Invalid(f"must be on or off, not {kind_name(node)}", meant)
        on = word in {"on", "true"}
        return ("off", "on")[on] if self.as_word else on

    def write(self, value: object) -> str:
        # Bare, though YAML 1.1 knows these words as truth values: those are read as the same.
        return str(value) if self.as_word else write_value(value)

    def json_schema(self) -> JSON:
        return {"enum": ["on", "off", True, False]}


@dataclass(frozen=True, slots=True)
class Integer(Kind):
    """A whole number within bounds, both included."""

    least: int
    most: int

    def read(self, node: YamlNode) -> int:
        value = _number_of(node)
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            plain = plain_number(node.text) if isinstance(node, Scalar) else ""
            raise Invalid(
                f"must be a whole number from {self.least} to {self.most}, not {kind_name(node)}"
                f"{plain and f'; write {plain}'}"
            )
        return value

    def json_schema(self) -> JSON:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True, slots=True)
class Quantity(Kind):
    """A number with a unit or, bare, of the unit whose factor is 1; from ``least`` up to ``most``."""

    what: str
    units: Mapping[str, float]
    least: float
    most: float
    gap: str = ""  # between number and unit, as people write it
    whole: bool = False  # rounded

    def read(self, node: YamlNode) -> float:
        value = self._value(node)
        if not self.least <= value <= self.most:  # nan is refused, too
            bounds = f"from {self.write(self.least)} to {self.write(self.most)}"
            raise Invalid(f"must be {bounds}, not {kind_name(node)}")
        return round(value) if self.whole else value

    def _value(self, node: YamlNode) -> float:
        value = _number_of(node)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        found = re.fullmatch(self._pattern(), _text_of(node, self.what))
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
        return {"anyOf": [text, {"type": "number", "minimum": self.least, "maximum": self.most}]}


_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {
    "B": 1.0,
    **{prefix + "B": 1000.0**n for n, prefix in enumerate("KMGT", 1)},
    **{prefix + "iB": 1024.0**n for n, prefix in enumerate("KMGT", 1)},
}


def duration(least: float = 0.0) -> Quantity:
    """Seconds, as ``30s``, ``10m``, ``1.5h``, ``500ms`` or a bare number of seconds; 30 days at most."""
    return Quantity("a time such as 30s, 10m or 1h, or a number of seconds", _SECONDS, least, 30 * 86400.0)


def size(least: float = 0.0, most: float = 1e15) -> Quantity:
    """Bytes, as ``16 GB`` (powers of 1000), ``15.5 GiB`` (of 1024) or a bare number of bytes."""
    what = "a size such as 16 GB or 15.5 GiB, or a number of bytes"
    return Quantity(what, _BYTES, least, most, gap=" ", whole=True)


@dataclass(frozen=True, slots=True)
class OrOff(Kind):
    """A number or a time, or ``off``, which is 0."""

    kind: Integer | Quantity

    def read(self, node: YamlNode) -> int | float:
        if isinstance(node, Scalar) and node.text.lower() in {"off", "false"}:
            return 0
        try:
            return self.kind.read(node)
        except Invalid as invalid:
            raise Invalid(invalid.message.replace("must be", "must be off, or", 1)) from None

    def write(self, value: object) -> str:
        return self.kind.write(value) if value else "off"

    def json_schema(self) -> JSON:
        return either(self.kind.json_schema(), {"enum": ["off", False]})


_IN_SINGLE_QUOTES = "write a Windows path without quotes or in single quotes"


@dataclass(frozen=True, slots=True)
class FilePath(Kind):
    """A path; ``~`` is the home folder.  ``absolute`` where nothing says what it would be relative to."""

    absolute: bool = False

    def read(self, node: YamlNode) -> Path:
        text = _text_of(node, "a path")
        if not text.strip():
            raise Invalid("must be a path, not nothing")
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
            raise Invalid(
                f"must be a path, not the address {text}; model.repo and model.file name a model at the hub"
            )
        if control := re.search(r"[\x00-\x1f\x7f]", text):
            raise Invalid(f"holds the control character U+{ord(control[0]):04X}; {_IN_SINGLE_QUOTES}")
        try:
            path = Path(text).expanduser()
        except RuntimeError:
            home = text.split("/")[0]
            raise Invalid(f"the home folder of {home} is not known; write the whole path") from None
        if self.absolute and not (PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()):
            raise Invalid(f"must be a whole path from the root or from ~, not {kind_name(node)}")
        return path

    def json_schema(self) -> JSON:
        return {"type": "string", "minLength": 1}


def nearest(word: str, names: tuple[str, ...]) -> str:
    """The name most like ``word``, or nothing where none is near."""
    return next(iter(similar_names(word, names)), "")


def _number_of(node: YamlNode) -> object:
    """The value; a number in quotes is one, too."""
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return plain_value(node.text.strip())
    return node.value if isinstance(node, Scalar) else None


def _text_of(node: YamlNode, what: str) -> str:
    """A scalar as it was written: ``1.10`` stays ``1.10`` where a text is meant."""
    if not isinstance(node, Scalar) or node.value is None:
        raise Invalid(f"must be {what}, not {kind_name(node)}")
    if found := _CONTROL.search(node.text):
        raise Invalid(f"holds the control character {found[0]!r}, which is no part of {what}")
    return node.text


_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")
"""All but tab and newline: they would reach terminals, headers of HTTP and the command line."""
_MOST_VALUES = 1000  # in one parameter; aliases of YAML are expanded here, and could be endless


def read_json(node: YamlNode, room: Iterator[int] | None = None) -> object:
    """What a request's body may hold: text, number, truth, null, list or mapping.  Raises ``Invalid``."""
    room = room or iter(range(_MOST_VALUES))
    if next(room, None) is None:
        raise Invalid(f"holds more than {_MOST_VALUES} values")
    if isinstance(node, Scalar):
        if isinstance(node.value, float) and not math.isfinite(node.value):
            raise Invalid(f"must be a value that JSON can say, not {kind_name(node)}")
        return node.value
    if isinstance(node, Items):
        return [read_json(item, room) for item in node.items]
    return {entry.key: read_json(entry.value, room) for entry in node.entries}


def either(schema: JSON, other: JSON) -> JSON:
    """The JSON Schema of what one of both takes."""
    alternatives = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
    assert isinstance(alternatives, list)
    return {"anyOf": [*alternatives, other]}
