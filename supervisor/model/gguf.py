"""
The file format of llama.cpp's models, GGUF version 3: its constants, types and values.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.  Element formats of b11434: enum ggml_type
in ggml/include/ggml.h, type_traits in ggml/src/ggml.c, the blocks in ggml/src/ggml-common.h; missing numbers
belong to formats that it dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32  # of tensor data, the format's default when general.alignment is not given


# What a key's value is; the numbers are the format's.
ValueType = IntEnum(
    "ValueType",
    "UINT8 INT8 UINT16 INT16 UINT32 INT32 FLOAT32 BOOL STRING ARRAY UINT64 INT64 FLOAT64",
    start=0,
)
# struct's letter of each value that has a fixed size: all but STRING and ARRAY
SCALARS: Mapping[ValueType, str] = {
    kind: letter for kind, letter in zip(ValueType, "BbHhIif?  Qqd", strict=True) if letter != " "
}


@dataclass(frozen=True, slots=True)
class Typed:
    """A number in another width than the usual: split.count is ``Typed(ValueType.UINT16, 3)``."""

    type: ValueType
    value: int | float


# A plain int is written as uint32 (in an array as int32) and a plain float as float32: what models use.
GGUFValue = (
    bool | int | float | str | Typed | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]
)


@dataclass(frozen=True, slots=True)
class TensorKind:
    """
    One format; ``name`` is ggml's, as ``--cache-type-k`` takes it.

    A row is a whole number of blocks of ``block_elements``, each of ``block_bytes``.
    """

    ggml_id: int
    name: str
    block_elements: int
    block_bytes: int

    def row_bytes(self, elements: int) -> int:
        """Raises ValueError where a row of so many elements cannot be."""
        if elements % self.block_elements:
            block = f"{self.block_elements}, a block of {self.name}"
            raise ValueError(f"{elements} elements are no multiple of {block}")
        return elements // self.block_elements * self.block_bytes


KINDS: Mapping[int, TensorKind] = {
    ggml_id: TensorKind(ggml_id, name, block_elements, block_bytes)
    for ggml_id, name, block_elements, block_bytes in (
        (0, "f32", 1, 4), (1, "f16", 1, 2), (2, "q4_0", 32, 18), (3, "q4_1", 32, 20), (6, "q5_0", 32, 22),
        (7, "q5_1", 32, 24), (8, "q8_0", 32, 34), (9, "q8_1", 32, 36), (10, "q2_K", 256, 84),
        (11, "q3_K", 256, 110), (12, "q4_K", 256, 144), (13, "q5_K", 256, 176), (14, "q6_K", 256, 210),
        (15, "q8_K", 256, 292), (16, "iq2_xxs", 256, 66), (17, "iq2_xs", 256, 74), (18, "iq3_xxs", 256, 98),
        (19, "iq1_s", 256, 50), (20, "iq4_nl", 32, 18), (21, "iq3_s", 256, 110), (22, "iq2_s", 256, 82),
        (23, "iq4_xs", 256, 136), (24, "i8", 1, 1), (25, "i16", 1, 2), (26, "i32", 1, 4), (27, "i64", 1, 8),
        (28, "f64", 1, 8), (29, "iq1_m", 256, 56), (30, "bf16", 1, 2), (34, "tq1_0", 256, 54),
        (35, "tq2_0", 256, 66), (39, "mxfp4", 32, 17), (40, "nvfp4", 64, 36), (41, "q1_0", 128, 18),
        (42, "q2_0", 64, 18),
    )
}  # fmt: skip
NAMED: Mapping[str, TensorKind] = {kind.name: kind for kind in KINDS.values()}


@dataclass(frozen=True, slots=True)
class Tensor:
    """
    One tensor; ``shape`` begins with the row length, as ggml and the file have it.

    ``data`` is its bytes in pieces of any size, or None for a hole, which reads as zeros.
    """

    name: str
    shape: tuple[int, ...]
    kind: TensorKind
    data: Iterable[bytes] | None = None

    @property
    def size_bytes(self) -> int:
        row, *others = self.shape
        return self.kind.row_bytes(row) * math.prod(others)


def aligned(size: int, alignment: int = ALIGNMENT) -> int:
    return -(-size // alignment) * alignment
