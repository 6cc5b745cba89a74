"""
The list of tensors in a GGUF's header: shape, format and place of each.

Source of what is refused: gguf_init_from_reader in ggml/src/gguf.cpp of llama.cpp b11434.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from .broken import BrokenHeader
from .cursor import Cursor
from .kinds import KINDS, TensorKind

_MOST_NAME_BYTES = 63  # GGML_MAX_NAME, less the zero at its end
_MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
_MOST_ELEMENTS = (1 << 63) - 1
_DIMENSIONS = Struct("<I")
_PLACES = tuple(Struct(f"<{dimensions}QIQ") for dimensions in range(_MOST_DIMENSIONS + 1))


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


def read_tensors(cursor: Cursor, count: int, alignment: int) -> tuple[TensorInfo, ...]:
    """
    All of them, in the order of their data, each of which begins where the one before it ends.

    Behind one of unknown size the next may lie anywhere.  Raises BrokenHeader.
    """
    tensors: dict[str, TensorInfo] = {}
    due: int | None = 0
    for _ in range(count):
        tensor = _tensor(cursor)
        if tensor.name in tensors:
            raise BrokenHeader(f"a damaged GGUF: the tensor {tensor.name!r} stands in it twice")
        if due not in {None, tensor.offset}:
            raise BrokenHeader(
                f"a damaged GGUF: the tensor {tensor.name!r} lies at {tensor.offset}, where {due} is due"
            )
        size = tensor.size_bytes
        due = None if size is None else tensor.offset + aligned(size, alignment)
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


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
