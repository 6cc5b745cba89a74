"""The kinds of value that only the section ``gateway`` has."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from .kinds import JSON, Integer, Invalid, Quantity, text_of
from .yaml_nodes import Items, Node, Scalar, kind_name, write_value

_WORDS = {"on": True, "true": True, "off": False, "false": False}


@dataclass(frozen=True, slots=True)
class Switch:
    """``on`` or ``off``, or that as a truth value; read as a truth value, or as the word itself."""

    as_word: bool = False

    def read(self, node: Node) -> bool | str:
        word = text_of(node, "on or off").lower()
        if word not in _WORDS:
            raise Invalid(f"must be on or off, not {kind_name(node)}")
        return ("off", "on")[_WORDS[word]] if self.as_word else _WORDS[word]

    def write(self, value: object) -> str:
        # Bare, though YAML 1.1 knows these words as truth values: those are read as the same.
        return str(value) if self.as_word else write_value(value)

    def json_schema(self) -> JSON:
        return {"enum": ["on", "off", True, False]}


@dataclass(frozen=True, slots=True)
class OrOff:
    """A number or a time, or ``off``, which is 0."""

    kind: Integer | Quantity

    def read(self, node: Node) -> int | float:
        if isinstance(node, Scalar) and node.text.lower() in {"off", "false"}:
            return 0
        try:
            return self.kind.read(node)
        except Invalid as invalid:
            raise Invalid(invalid.message.replace("must be", "must be off, or", 1)) from None

    def write(self, value: object) -> str:
        return self.kind.write(value) if value else "off"

    def json_schema(self) -> JSON:
        schema = self.kind.json_schema()
        alternatives = schema["anyOf"] if set(schema) == {"anyOf"} else [schema]
        assert isinstance(alternatives, list)
        return {"anyOf": [*alternatives, {"enum": ["off", False]}]}


_ORIGIN = r"[A-Za-z][A-Za-z0-9+.-]*://(?:\[[0-9A-Fa-f:.]+\]|[^\s/:?#@*,\[\]]+)(?::[0-9]{1,5})?"


@dataclass(frozen=True, slots=True)
class Origins:
    """One origin or a list of them as browsers send them (RFC 6454, 6.2): a scheme, a host, a port."""

    def read(self, node: Node) -> tuple[str, ...]:
        items = node.items if isinstance(node, Items) else (node,)
        return tuple(self._one(item) for item in items)

    def _one(self, node: Node) -> str:
        text = text_of(node, "an origin such as https://chat.lan or a list of them")
        if "*" in text:
            raise Invalid(f"{text!r} would let web pages in that nobody named; name each origin")
        if text != "null" and not re.fullmatch(_ORIGIN, text):
            found = re.match(rf"{_ORIGIN}(?=[/?#])", text)
            what = "an origin such as https://chat.lan or http://10.0.0.2:3000, without a path"
            raise Invalid(f"must be {what}, not {kind_name(node)}", found[0] if found else "")
        return text

    def write(self, value: object) -> str:
        return write_value(value)

    def json_schema(self) -> JSON:
        one: JSON = {"type": "string", "pattern": f"^(?:null|{_ORIGIN})$"}
        return {"anyOf": [one, {"type": "array", "items": one}]}


_MOST_VALUES = 1000  # in one parameter; aliases of YAML are expanded here, and could be endless


@dataclass(frozen=True, slots=True)
class JsonValue:
    """What a request's body may hold: text, number, truth, null, list or mapping."""

    def read(self, node: Node) -> object:
        return _json(node, iter(range(_MOST_VALUES)))

    def write(self, value: object) -> str:
        return write_value(value)

    def json_schema(self) -> JSON:
        return {}


def _json(node: Node, room: Iterator[int]) -> object:
    if next(room, None) is None:
        raise Invalid(f"holds more than {_MOST_VALUES} values")
    if isinstance(node, Scalar):
        if isinstance(node.value, float) and not math.isfinite(node.value):
            raise Invalid(f"must be a value that JSON can say, not {kind_name(node)}")
        return node.value
    if isinstance(node, Items):
        return [_json(item, room) for item in node.items]
    return {entry.key: _json(entry.value, room) for entry in node.entries}
