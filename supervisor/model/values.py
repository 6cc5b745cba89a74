"""
The key-values of a GGUF's header: scalars and short arrays are kept, the vocabulary is stepped over.

Source of what is refused: gguf_init_from_reader in ggml/src/gguf.cpp of llama.cpp b11434.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

from .broken import BrokenHeader
from .cursor import Cursor
from .gguf import SCALARS, ValueType

_MOST_KEY_BYTES = 65535  # the format's limit
_MOST_KEPT_ELEMENTS = 4096  # of an array: more than layers, less than tokens
_MOST_KEPT_TEXT_BYTES = 1 << 20  # of a string: chat templates have some ten KiB
_MOST_KEPT_BYTES = 4 << 20  # of all values together
_KIND = Struct("<I")
_ARRAY = Struct("<IQ")
_NUMBERS: Mapping[int, Struct] = {kind.value: Struct(f"<{letter}") for kind, letter in SCALARS.items()}

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Array:
    """Stands for what is not kept: strings, arrays of more than 4096 numbers, a text of more than 1 MiB."""

    kind: ValueType
    count: int


Value = Scalar | tuple[Scalar, ...] | Array


def read_values(cursor: Cursor, count: int) -> dict[str, Value]:
    """All of them, by key.  Raises BrokenHeader."""
    values: dict[str, Value] = {}
    kept_bytes = 0
    for _ in range(count):
        key = cursor.name(_MOST_KEY_BYTES)
        if not key or key in values:
            raise BrokenHeader(f"a damaged GGUF: the key {key[:64]!r} is empty or stands in it twice")
        (kind,) = cursor.unpack(_KIND)
        start = cursor.at
        value = _value(cursor, kind, keep=kept_bytes < _MOST_KEPT_BYTES)
        kept_bytes += 0 if isinstance(value, Array) else cursor.at - start
        values[key] = value
    return values


def _value(cursor: Cursor, kind: int, *, keep: bool) -> Value:
    if kind == ValueType.STRING:
        return _text(cursor, keep=keep)
    if kind == ValueType.ARRAY:
        return _array(cursor, keep=keep)
    number: Scalar = cursor.unpack(_number(kind))[0]
    return number


def _number(kind: int) -> Struct:
    if kind not in _NUMBERS:
        raise BrokenHeader(f"a damaged GGUF: no value has type {kind}")
    return _NUMBERS[kind]


def _text(cursor: Cursor, *, keep: bool) -> str | Array:
    length = cursor.length()
    if keep and length <= _MOST_KEPT_TEXT_BYTES:
        return cursor.take(length).decode(errors="replace")
    cursor.skip(length)
    return Array(ValueType.STRING, 1)


def _array(cursor: Cursor, *, keep: bool) -> tuple[Scalar, ...] | Array:
    kind, count = cursor.unpack(_ARRAY)
    if kind == ValueType.STRING:
        cursor.skip_strings(count)
        return Array(ValueType.STRING, count)
    if kind == ValueType.ARRAY:  # the format allows them, llama.cpp does not
        raise BrokenHeader("a GGUF with arrays in arrays, which llama.cpp does not read")
    pattern = _number(kind)
    if keep and count <= _MOST_KEPT_ELEMENTS:
        return cursor.unpack(Struct(f"<{count}{pattern.format[1:]}"))
    cursor.skip(count * pattern.size)
    return Array(ValueType(kind), count)
