"""Our frozen dataclasses from JSON that another program wrote, checked before anything is done with them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Rules = Mapping[str, tuple[Callable[[Any], bool], str]]
"""By the name of a field, at any depth: what its value has to fulfil, and the words for one that does not."""

_LARGEST = 2**60  # of seconds or bytes: more is a mistake, and loops and clocks overflow
_DEEPEST = 100  # a value is copied and written recursively later, with less stack left


def parse(line: bytes) -> dict[str, Any]:
    """One JSON object.  Raises ValueError for anything else, however deeply it is nested."""
    try:
        document = json.loads(line)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - callers catch one kind
    return document


def decode(kind: type[T], document: object, rules: Rules | None = None) -> T:
    """
    A ``kind`` from parsed JSON; lists become tuples, and fields that are left out have their defaults.

    Besides what the types and ``rules`` say, no text may hold what the system can not take (NUL), and the
    numbers in fields are finite and not negative.  Raises ValueError with the place of the first mistake:
    ``Expected `str`, got `int` - at `$.argv[0]` ``.
    """
    import msgspec  # noqa: PLC0415 - 30 ms, for those who decode something only

    try:
        value = msgspec.convert(document, kind, strict=True)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    for mistake in _mistakes(value, document, ("$",), rules or {}):
        raise ValueError(mistake)
    return value


def _mistakes(value: object, sent: Any, at: tuple[str, ...], rules: Rules) -> Iterator[str]:  # noqa: ANN401
    """``sent`` is the JSON of this value: msgspec lets a dataclass have any more fields."""
    if len(at) > _DEEPEST:
        yield "it is nested too deeply"
    elif is_dataclass(value):
        known = {field.name for field in fields(value)}
        yield from (f"Unknown field `{name}` - at `{''.join(at)}`" for name in sent if name not in known)
        for name in sent:
            inner, here = getattr(value, name), (*at, f".{name}")
            yield from _broken(name, inner, here, rules)
            yield from _mistakes(inner, sent[name], here, rules)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _mistakes(name, name, at, rules)
            yield from _mistakes(inner, sent[name], (*at, f".{name}"), rules)
    elif isinstance(value, tuple | list):
        for index, (inner, each) in enumerate(zip(value, sent, strict=True)):
            yield from _mistakes(inner, each, (*at, f"[{index}]"), rules)
    elif isinstance(value, str) and not _is_text(value):
        yield f"Expected a text that a program can be started with, got {value[:40]!r} - at `{''.join(at)}`"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"Expected a finite number, got {value} - at `{''.join(at)}`"


def _broken(name: str, value: object, at: tuple[str, ...], rules: Rules) -> Iterator[str]:
    fulfils, words = rules.get(name, (bool, ""))
    if words and not fulfils(value):
        yield f"Expected {words} - at `{''.join(at)}`"
    if isinstance(value, int | float) and not 0 <= value <= _LARGEST:
        yield f"Expected a number from 0 to 2^60 - at `{''.join(at)}`"


def _is_text(value: str) -> bool:
    """Paths of other encodings come as lone surrogates, and go back to the system as they were."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False
