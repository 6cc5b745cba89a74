"""
The file format of llama.cpp's models, GGUF version 3: its constants, types and values.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

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


class TensorType(Enum):
    """A tensor's element format: ggml's number for it, elements in a block, bytes of a block."""

    F32 = (0, 1, 4)
    F16 = (1, 1, 2)
    Q4_0 = (2, 32, 18)  # a float16 scale and 32 int4
    Q8_0 = (8, 32, 34)  # a float16 scale and 32 int8
    Q4_K = (12, 256, 144)
    Q6_K = (14, 256, 210)
    MXFP4 = (39, 32, 17)  # an exponent and 32 four-bit floats; all bytes zero means all values zero

    def __init__(self, ggml_id: int, block_elements: int, block_bytes: int) -> None:
        self.ggml_id = ggml_id
        self.block_elements = block_elements
        self.block_bytes = block_bytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """
    One tensor; ``shape`` begins with the row length, as ggml and the file have it.

    ``data`` is its bytes in pieces of any size, or None for a hole, which reads as zeros.
    """

    name: str
    shape: tuple[int, ...]
    type: TensorType
    data: Iterable[bytes] | None = None

    @property
    def size_bytes(self) -> int:
        if self.shape[0] % self.type.block_elements:
            raise ValueError(f"{self.name}: a row of {self.shape[0]} is no multiple of the block")
        return math.prod(self.shape) // self.type.block_elements * self.type.block_bytes


def aligned(size: int, alignment: int = ALIGNMENT) -> int:
    return -(-size // alignment) * alignment
