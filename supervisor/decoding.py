"""Decodes JSON from elsewhere into our frozen dataclasses; every error names its key."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from .errors import similar_names

T = TypeVar("T")
FieldRules = Mapping[str, tuple[Callable[[Any], object], str]]
"""By the name of a field, in any record: what its value has to fulfil, and the words for such a value."""

LARGEST = 2**60  # of bytes or seconds; more is a mistake, and no JSON writer agrees on it
_DEEPEST = 100  # what is read here is written again later, recursively
_WORDS = {bool: "true or false", int: "a whole number from 0 to 2^60", float: "a number from 0 to 2^60"}


class Malformed(ValueError):
    """JSON that is no such value; ``problems`` are sentences that begin with the key in question."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems[:5]))
        self.problems = problems


def parse(line: bytes) -> dict[str, Any]:
    """One JSON object.  Raises ValueError for anything else, however deeply it is nested."""
    try:
        document = json.loads(line)
    except RecursionError:
        raise Malformed(["it is nested too deeply"]) from None
    if not isinstance(document, dict):
        raise Malformed([f"must be an object, not {kind_of(document)}"])
    return document


def decode(
    kind: type[T],
    document: object,
    rules: FieldRules | None = None,
    *,
    by_hand: bool = False,
    signed: Collection[str] = (),
    any_text: bool = False,
) -> T:
    """
    A ``kind`` from parsed JSON; lists become tuples, and fields that are left out have their defaults.

    Numbers are finite and from 0 on, but for whole ones in fields called as in ``signed``.  Texts are what a
    system call takes: no NUL, but with ``any_text``.  ``by_hand``: a person wrote it, so mistakes show the
    text in question, which else may be a secret.  Raises Malformed.
    """
    reading = _Reading(rules or {}, by_hand=by_hand, signed=signed, any_text=any_text)
    made = None if _is_too_deep(document) else reading.record(kind, document, "")
    if reading.problems or made is None:
        raise Malformed(reading.problems or ["it is nested too deeply"])
    return typing.cast("T", made)


def kind_of(value: object) -> str:
    """What it is, as people call it."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: object) -> str:
    """As JSON, in short."""
    if isinstance(value, dict | list):
        return kind_of(value)
    try:
        written = json.dumps(value, ensure_ascii=not str(value).isprintable())
    except ValueError:  # a number of more digits than Python writes
        return "a number"
    return written if len(written) <= 60 else f"{written[:57]}…"


class _Reading:
    """One document; what is wrong with it gathers in ``problems``."""

    def __init__(self, rules: FieldRules, *, by_hand: bool, signed: Collection[str], any_text: bool) -> None:
        self._rules = rules
        self._any_text = any_text
        self._signed = signed
        self._by_hand = by_hand
        self.problems: list[str] = []

    def record(self, kind: type[Any], value: object, key: str) -> object:
        """None where something is wrong."""
        if not isinstance(value, Mapping):
            return self._wrong(key, "an object", kind_of(value))
        before = len(self.problems)
        known = typing.get_type_hints(kind)
        self.problems += [_unknown(_join(key, str(name)), name, known) for name in value if name not in known]
        needed = [field.name for field in dataclasses.fields(kind) if _is_needed(field)]
        self.problems += [f"{_join(key, name)}: is missing" for name in needed if name not in value]
        sent = [name for name in known if name in value]
        read = {name: self._field(name, known[name], value[name], _join(key, name)) for name in sent}
        return None if len(self.problems) > before else kind(**read)

    def _field(self, name: str, kind: Any, value: object, key: str) -> object:  # noqa: ANN401 - as declared
        if name in self._signed and type(value) is int and -LARGEST <= value < 0:
            return value
        before, read = len(self.problems), self._read(kind, value, key)
        if name in self._rules and len(self.problems) == before:
            fulfils, words = self._rules[name]
            if not fulfils(read):
                self.problems.append(f"{key}: must be {words}")
        return read

    def _read(self, kind: Any, value: object, key: str) -> object:  # noqa: ANN401 - a type, as declared
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin in {types.UnionType, typing.Union}:  # with None: our records have no other
            return None if value is None else self._read(inner[0], value, key)
        if kind is Any:
            return self._anything(value, key)
        if origin is tuple:
            return self._items(inner, value, key)
        if origin is Mapping:
            if not isinstance(value, Mapping):
                return self._wrong(key, "an object", kind_of(value))
            for name in value:
                self._plain(str, name, key)
            return {name: self._read(inner[1], each, _join(key, str(name))) for name, each in value.items()}
        if origin is typing.Literal:
            is_one = isinstance(value, str) and value in inner
            return value if is_one else self._wrong(key, f"one of {', '.join(inner)}", self._shown(value))
        if dataclasses.is_dataclass(kind):
            return self.record(typing.cast("type[Any]", kind), value, key)
        return self._plain(kind, value, key)

    def _items(self, kinds: tuple[Any, ...], value: object, key: str) -> object:
        """A tuple of any length of one kind, or one of as many kinds as it has items."""
        if not isinstance(value, list | tuple):
            return self._wrong(key, "a list", kind_of(value))
        kinds = kinds[:1] * len(value) if kinds[-1] is ... else kinds
        if len(kinds) != len(value):
            return self._wrong(key, f"a list of {len(kinds)}", f"of {len(value)}")
        pairs = enumerate(zip(kinds, value, strict=True))
        return tuple(self._read(kind, each, f"{key}[{index}]") for index, (kind, each) in pairs)

    def _anything(self, value: object, key: str) -> object:
        """Whatever JSON can say, but for numbers that it cannot."""
        if isinstance(value, Mapping | list):
            self._read(Mapping[str, Any] if isinstance(value, Mapping) else tuple[Any, ...], value, key)
        elif isinstance(value, float) and not math.isfinite(value):
            self._wrong(key, "a finite number", shown(value))
        elif isinstance(value, str):
            self._plain(str, value, key)
        return value

    def _plain(self, kind: type, value: object, key: str) -> object:
        if kind is str and isinstance(value, str) and self._takes(value):
            return value
        if kind is bool and isinstance(value, bool):
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST
        if kind is float and is_number:
            return float(typing.cast("float", value))
        if kind is int and is_number and isinstance(value, int):
            return value
        text = "a text" if self._by_hand else "a text without NUL"
        return self._wrong(key, _WORDS.get(kind, text), self._shown(value))

    def _takes(self, text: str) -> bool:
        return self._any_text or (_is_writable if self._by_hand else _is_text)(text)

    def _shown(self, value: object) -> str:
        return "this text" if isinstance(value, str) and not self._by_hand else shown(value)

    def _wrong(self, key: str, words: str, got: str) -> Any:  # noqa: ANN401 - None, in place of any value
        self.problems.append(f"{key}: must be {words}, not {got}")


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_too_deep(document: object) -> bool:
    level = [document]
    for _ in range(_DEEPEST):
        lists = [list(each.values()) if isinstance(each, Mapping) else each for each in level]
        level = [inner for each in lists if isinstance(each, list | tuple) for inner in each]
    return bool(level)


def _unknown(key: str, name: object, known: Mapping[str, object]) -> str:
    near = similar_names(str(name), known)
    question = f" (did you mean {near[0]}?)" if near else ""
    return f"{key if key.isprintable() else ascii(key)}: is no key here{question}"


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _is_text(value: str) -> bool:
    """Paths of other encodings come as lone surrogates, and go back to the system as they were."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def _is_writable(text: str) -> bool:
    """JSON can spell half of a surrogate pair, which no terminal and no file takes."""
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)
