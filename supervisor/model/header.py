"""
Reads the header of a GGUF: its key-values without the vocabulary, and the place of each tensor.

A file that llama.cpp b11434 would not load is refused with the reason, as gguf_init_from_reader in
ggml/src/gguf.cpp would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Protocol

from .gguf import ALIGNMENT, KINDS, MAGIC, SCALARS, VERSION, TensorKind, ValueType, aligned

_OLDEST_VERSION = 2  # version 1 had 32-bit counts; llama.cpp dropped it
_LEAST_VALUE_BYTES = 8 + 4 + 1  # an empty key, a type, a bool
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8  # an empty name, no dimension, a type, an offset
# Far above any model: the largest have a hundred keys and, with each expert on its own, 50,000 tensors.
_MOST_VALUES, _MOST_TENSORS = 1 << 14, 1 << 17
_MOST_ARCHITECTURE_LETTERS = 256
_START = Struct("<4sI")
_COUNTS = Struct("<QQ")
_MOST_KEY_BYTES = 65535  # the format's limit
_MOST_KEPT_ELEMENTS = 4096  # of an array: more than layers, less than tokens
_MOST_KEPT_TEXT_BYTES = 1 << 20  # of a string: chat templates have some ten KiB
_MOST_KEPT_BYTES = 4 << 20  # of all values together
_KIND = Struct("<I")
_ARRAY = Struct("<IQ")
_NUMBERS: Mapping[int, Struct] = {kind.value: Struct(f"<{letter}") for kind, letter in SCALARS.items()}
_MOST_NAME_BYTES = 63  # GGML_MAX_NAME, less the zero at its end
_MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
_MOST_ELEMENTS = (1 << 63) - 1
_DIMENSIONS = Struct("<I")
_PLACES = tuple(Struct(f"<{dimensions}QIQ") for dimensions in range(_MOST_DIMENSIONS + 1))
# Models have headers of 5 to 30 MiB, most of it the vocabulary.  Together with the limits on what is kept
# of a header, this one bounds time and memory for a file that is made to take both.
MOST_HEADER_BYTES = 64 << 20
_WINDOW_BYTES = 1 << 18
_LENGTH = Struct("<Q")
# What people put in place of a model, by its first bytes in lower case.
_OTHERS = (
    (b"lmgg", "a file of llama.cpp's old format ggml, of before August 2023"),
    (b"fmgg", "a file of llama.cpp's old format ggmf, of before August 2023"),
    (b"tjgg", "a file of llama.cpp's old format ggjt, of before August 2023"),
    (b"algg", "an adapter in llama.cpp's old format ggla"),
    (b"version https://git-lfs", "a git-lfs pointer to a file that was not downloaded"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b'{"error"', "the error message of a web server"),
    (b"entry not found", "the error message of a web server"),
    (b"invalid username or password", "the error message of a web server"),
    (b"pk\x03\x04", "a zip archive or a PyTorch checkpoint"),
)
_HTML_LEADS = b"\xef\xbb\xbf \t\r\n"


class BrokenHeader(Exception):
    """What the file is instead of a model, as the end of the sentence "It is …"."""


class ByteSource(Protocol):
    """One file that can be read at any place: on a disk here, or at a web server."""

    @property
    def size_bytes(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset`` on: ``length`` of them, or fewer where the file ends."""
        ...


HeaderScalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Array:
    """Stands for what is not kept: strings, arrays of more than 4096 numbers, a text of more than 1 MiB."""

    kind: ValueType
    count: int


HeaderValue = HeaderScalar | tuple[HeaderScalar, ...] | Array


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """
    One tensor; ``shape`` begins with the row length, ``offset`` counts from the header's ``data_offset``.

    ``kind`` and ``size_bytes`` are None for a format that llama.cpp b11434 does not know: a newer one may.
    """

    name: str
    shape: tuple[int, ...]
    kind: TensorKind | None
    offset: int
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Header:
    """One file's; ``end`` is the place behind the last tensor's last byte, as far as sizes are known."""

    version: int
    values: Mapping[str, HeaderValue]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    alignment: int
    end: int


def read_header(source: ByteSource) -> Header:
    """
    Read the header, a window at a time; of the tensors' data only that the file is long enough for it.

    Raises BrokenHeader, and what ``source`` raises.
    """
    cursor = Cursor(source)
    version, tensor_count, value_count = _begin(cursor, source.size_bytes)
    values = _read_values(cursor, value_count)
    name = values.get("general.architecture", "")
    is_text = isinstance(name, str) and name.isprintable() and "\ufffd" not in name
    if not is_text or len(str(name)) > _MOST_ARCHITECTURE_LETTERS:
        raise BrokenHeader("a damaged GGUF: the name of its architecture is no text")
    alignment = _alignment(values.get("general.alignment", ALIGNMENT))
    tensors = _read_tensors(cursor, tensor_count, alignment)
    data_offset = aligned(cursor.at, alignment)
    ends = (data_offset + tensor.offset + (tensor.size_bytes or 0) for tensor in tensors)
    end = max(ends, default=cursor.at)
    if end > source.size_bytes:
        raise BrokenHeader(f"a truncated GGUF: {end - source.size_bytes} of its {end} bytes are missing")
    return Header(version, values, tensors, data_offset, alignment, end)


def _begin(cursor: Cursor, size_bytes: int) -> tuple[int, int, int]:
    """Version, and counts of tensors and key-values."""
    if not cursor.beginning.startswith(MAGIC):
        raise BrokenHeader(_what_instead(cursor.beginning))
    version = cursor.unpack(_START)[1]
    if version and not version & 0xFFFF:
        raise BrokenHeader("a GGUF for big-endian machines")
    if version < _OLDEST_VERSION:
        raise BrokenHeader(f"a GGUF of version {version}, which llama.cpp no longer reads")
    if version > VERSION:
        raise BrokenHeader(f"a GGUF of version {version}, newer than {VERSION}, the last one known")
    tensors, values = cursor.unpack(_COUNTS)
    if tensors * _LEAST_TENSOR_BYTES + values * _LEAST_VALUE_BYTES > size_bytes:
        raise BrokenHeader(
            f"a damaged or truncated GGUF: {size_bytes} bytes cannot hold {values} keys and {tensors} tensors"
        )
    if tensors > _MOST_TENSORS or values > _MOST_VALUES:
        raise BrokenHeader(f"a damaged GGUF: no model has {values} keys and {tensors} tensors")
    return version, tensors, values


def _alignment(value: HeaderValue) -> int:
    if not isinstance(value, int) or value <= 0 or value & (value - 1):
        raise BrokenHeader("a damaged GGUF: its alignment is no power of 2")
    return value


def _read_values(cursor: Cursor, count: int) -> dict[str, HeaderValue]:
    """By key."""
    values: dict[str, HeaderValue] = {}
    kept_bytes = 0
    for _ in range(count):
        key = cursor.name(_MOST_KEY_BYTES)
        if not key or key in values:
            raise BrokenHeader(f"a damaged GGUF: the key {key[:64]!r} is empty or a duplicate")
        (kind,) = cursor.unpack(_KIND)
        start = cursor.at
        value = _value(cursor, kind, keep=kept_bytes < _MOST_KEPT_BYTES)
        kept_bytes += 0 if isinstance(value, Array) else cursor.at - start
        values[key] = value
    return values


def _value(cursor: Cursor, kind: int, *, keep: bool) -> HeaderValue:
    if kind == ValueType.STRING:
        return _text(cursor, keep=keep)
    if kind == ValueType.ARRAY:
        return _array(cursor, keep=keep)
    number: HeaderScalar = cursor.unpack(_number(kind))[0]
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


def _array(cursor: Cursor, *, keep: bool) -> tuple[HeaderScalar, ...] | Array:
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


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> tuple[TensorInfo, ...]:
    """Each begins where the one before it ends; after one of unknown size it may be anywhere."""
    tensors: dict[str, TensorInfo] = {}
    due: int | None = 0
    for _ in range(count):
        tensor = _tensor(cursor)
        if tensor.name in tensors:
            raise BrokenHeader(f"a damaged GGUF: the tensor {tensor.name!r} is a duplicate")
        if due not in {None, tensor.offset}:
            raise BrokenHeader(
                f"a damaged GGUF: the tensor {tensor.name!r} is at {tensor.offset} instead of {due}"
            )
        size = tensor.size_bytes
        due = None if size is None else tensor.offset + aligned(size, alignment)
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _tensor(cursor: Cursor) -> TensorInfo:
    name = cursor.name(_MOST_NAME_BYTES)
    (dimensions,) = cursor.unpack(_DIMENSIONS)
    if dimensions > _MOST_DIMENSIONS:
        raise BrokenHeader(f"a damaged GGUF: the tensor {name!r} has {dimensions} dimensions")
    *shape, kind_id, offset = cursor.unpack(_PLACES[dimensions])
    kind = KINDS.get(kind_id)
    return TensorInfo(name, tuple(shape), kind, offset, _size(name, shape, kind))


def _size(name: str, shape: Sequence[int], kind: TensorKind | None) -> int | None:
    row, *others = shape or (1,)
    if any(length > _MOST_ELEMENTS for length in shape) or math.prod(shape) > _MOST_ELEMENTS:
        raise BrokenHeader(f"a damaged GGUF: the tensor {name!r} cannot have the shape {tuple(shape)}")
    if kind is None:
        return None
    try:
        return kind.row_bytes(row) * math.prod(others)
    except ValueError as error:
        raise BrokenHeader(f"a damaged GGUF: the tensor {name!r} has broken rows: {error}") from None


class Cursor:
    """Every step is checked against the file's size; raises BrokenHeader and what ``source`` raises."""

    __slots__ = ("_at", "_source", "_start", "_window")

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._start = 0  # of the window in the file
        self._at = 0  # in the window, or behind it
        self._window = source.read(0, _WINDOW_BYTES)

    @property
    def at(self) -> int:
        """The place in the file."""
        return self._start + self._at

    @property
    def beginning(self) -> bytes:
        """The first bytes of the file, as long as nothing was read."""
        return self._window

    def unpack(self, pattern: Struct) -> tuple[Any, ...]:
        self._demand(pattern.size)
        found = pattern.unpack_from(self._window, self._at)
        self._at += pattern.size
        return found

    def skip(self, length: int) -> None:
        self._at += length
        self._refuse_beyond(self.at)

    def length(self) -> int:
        """Of a string, behind which ``take`` or ``skip`` goes on."""
        return int(self.unpack(_LENGTH)[0])

    def name(self, limit: int) -> str:
        """A string of at most ``limit`` bytes."""
        length = self.length()
        if length > limit:
            raise BrokenHeader(f"a damaged GGUF: a name of {length} bytes")
        return self.take(length).decode(errors="replace")

    def take(self, length: int) -> bytes:
        self._demand(length)
        start, self._at = self._at, self._at + length
        return self._window[start : self._at]

    def skip_strings(self, count: int) -> None:
        """The loop for the hundreds of thousands of a vocabulary: a tenth of a microsecond for each."""
        length_at = _LENGTH.unpack_from
        while count:
            self._demand(_LENGTH.size)
            window, at, last = self._window, self._at, len(self._window) - _LENGTH.size
            while count and at <= last:
                (length,) = length_at(window, at)
                at += 8 + length
                count -= 1
            self._at = at
        self._refuse_beyond(self.at)

    def _demand(self, length: int) -> None:
        """Have the next ``length`` bytes in the window."""
        if self._at + length <= len(self._window):
            return
        self._refuse_beyond(self.at + length)
        self._start, self._at = self.at, 0
        self._window = self._source.read(self._start, max(length, _WINDOW_BYTES))
        if len(self._window) < length:  # the file became shorter meanwhile
            raise _ends(self._start + len(self._window))

    def _refuse_beyond(self, end: int) -> None:
        if end > self._source.size_bytes:
            raise _ends(self._source.size_bytes)
        if end > MOST_HEADER_BYTES:
            raise BrokenHeader(f"a damaged GGUF: its header has more than {MOST_HEADER_BYTES >> 20} MiB")


def _ends(size_bytes: int) -> BrokenHeader:
    return BrokenHeader(f"a truncated GGUF: it ends inside its header, after {size_bytes} bytes")


def _what_instead(beginning: bytes) -> str:
    """The same for a file that does not begin as a GGUF does."""
    if not beginning:
        return "empty"
    start = beginning[:64].lstrip(_HTML_LEADS).lower()
    for magic, name in _OTHERS:
        if start.startswith(magic):
            return name
    if beginning[8:9] == b"{" and b'"' in beginning[9:64]:  # a JSON header behind its length in eight bytes
        return "a safetensors file"
    if not beginning.strip(b"\0"):
        return "nothing but zeros, as a broken download leaves it"
    return f"no GGUF: it begins with {beginning[:4]!r}"
