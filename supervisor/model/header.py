"""
Reads the header of a GGUF: its key-values without the vocabulary, and where each tensor lies.

What llama.cpp b11434 would not load is refused with the reason, before it is launched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

from .broken import BrokenHeader, what_instead
from .cursor import Cursor
from .gguf import ALIGNMENT, MAGIC, VERSION
from .source import Source
from .tensors import TensorInfo, aligned, read_tensors
from .values import Value, read_values

_OLDEST_VERSION = 2  # version 1 had 32-bit counts; llama.cpp dropped it
_LEAST_VALUE_BYTES = 8 + 4 + 1  # an empty key, a type, a bool
_LEAST_TENSOR_BYTES = 8 + 4 + 4 + 8  # an empty name, no dimension, a type, an offset
# Far above any model: the largest have a hundred keys and, with each expert on its own, 50,000 tensors.
_MOST_VALUES, _MOST_TENSORS = 1 << 14, 1 << 17
_MOST_ARCHITECTURE_LETTERS = 256
_START = Struct("<4sI")
_COUNTS = Struct("<QQ")


@dataclass(frozen=True, slots=True)
class Header:
    """One file's; ``end`` is the place behind the last tensor's last byte, as far as sizes are known."""

    version: int
    values: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    alignment: int
    end: int


def read_header(source: Source) -> Header:
    """
    Read the header, a window at a time; of the tensors' data only that the file is long enough for it.

    Raises BrokenHeader, and what ``source`` raises.
    """
    cursor = Cursor(source)
    version, tensor_count, value_count = _begin(cursor, source.size_bytes)
    values = read_values(cursor, value_count)
    _refuse_architecture(values.get("general.architecture", ""))
    alignment = _alignment(values.get("general.alignment", ALIGNMENT))
    tensors = read_tensors(cursor, tensor_count, alignment)
    data_offset = aligned(cursor.at, alignment)
    ends = (data_offset + tensor.offset + (tensor.size_bytes or 0) for tensor in tensors)
    end = max(ends, default=cursor.at)
    if end > source.size_bytes:
        raise BrokenHeader(f"a truncated GGUF: {end - source.size_bytes} of its {end} bytes are missing")
    return Header(version, values, tensors, data_offset, alignment, end)


def _begin(cursor: Cursor, size_bytes: int) -> tuple[int, int, int]:
    """Version, and counts of tensors and key-values."""
    if not cursor.beginning.startswith(MAGIC):
        raise BrokenHeader(what_instead(cursor.beginning))
    version = cursor.unpack(_START)[1]
    _refuse_version(version)
    tensors, values = cursor.unpack(_COUNTS)
    _refuse_counts(tensors, values, size_bytes)
    return version, tensors, values


def _refuse_version(version: int) -> None:
    if version and not version & 0xFFFF:
        raise BrokenHeader("a GGUF for big-endian machines")
    if version < _OLDEST_VERSION:
        raise BrokenHeader(f"a GGUF of version {version}, which llama.cpp no longer reads")
    if version > VERSION:
        raise BrokenHeader(f"a GGUF of version {version}, newer than {VERSION}, the last one known")


def _refuse_counts(tensors: int, values: int, size_bytes: int) -> None:
    if tensors * _LEAST_TENSOR_BYTES + values * _LEAST_VALUE_BYTES > size_bytes:
        raise BrokenHeader(
            f"a damaged or truncated GGUF: {size_bytes} bytes cannot hold {values} keys and {tensors} tensors"
        )
    if tensors > _MOST_TENSORS or values > _MOST_VALUES:
        raise BrokenHeader(f"a damaged GGUF: no model has {values} keys and {tensors} tensors")


def _refuse_architecture(name: Value) -> None:
    is_text = isinstance(name, str) and name.isprintable() and "\ufffd" not in name
    if not is_text or len(str(name)) > _MOST_ARCHITECTURE_LETTERS:
        raise BrokenHeader("a damaged GGUF: the name of its architecture is no text")


def _alignment(value: Value) -> int:
    if not isinstance(value, int) or value <= 0 or value & (value - 1):
        raise BrokenHeader("a damaged GGUF: its alignment is no power of 2")
    return value
