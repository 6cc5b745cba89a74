"""
Writes GGUF version 3, the file format of llama.cpp's models, with the standard library alone.

Tensor data is streamed, or left out as a hole, so that a file of a real model's true size costs a few
megabytes of disk.  Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path
from typing import IO

from ..files import SHARED, replacing

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
Value = bool | int | float | str | Typed | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]


class TensorType(Enum):
    """A tensor's element format: ggml's number for it, elements in a block, bytes of a block."""

    F32 = (0, 1, 4)
    Q8_0 = (8, 32, 34)  # a float16 scale and 32 int8
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


def write_gguf(path: Path, values: Mapping[str, Value], tensors: Sequence[Tensor]) -> None:
    """
    Write the file at once or not at all; an existing one is replaced.

    Raises PermissionDenied, or SupervisorError when the disk is full or otherwise unwilling.
    ValueError is the caller's mistake: a value that has no type, or data of another size than the shape's.
    """
    with replacing(path, mode=SHARED) as file:
        _write(file, values, tensors)


def _write(file: IO[bytes], values: Mapping[str, Value], tensors: Sequence[Tensor]) -> None:
    file.write(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(values)))
    for key, value in values.items():
        file.write(_string(key))
        file.writelines(_value(value))
    offset = 0
    for tensor in tensors:
        file.write(_info(tensor, offset))
        offset += aligned(tensor.size_bytes)
    end = aligned(file.tell())
    for tensor in tensors:
        file.seek(end)
        if tensor.data is not None:
            _write_data(file, tensor)
        end += aligned(tensor.size_bytes)
    file.truncate(end)


def _write_data(file: IO[bytes], tensor: Tensor) -> None:
    written = sum(file.write(chunk) for chunk in tensor.data or ())
    if written != tensor.size_bytes:
        raise ValueError(f"{tensor.name}: {written} bytes of data, its shape has {tensor.size_bytes}")


def aligned(size: int, alignment: int = ALIGNMENT) -> int:
    return -(-size // alignment) * alignment


def _info(tensor: Tensor, offset: int) -> bytes:
    dimensions = len(tensor.shape)
    numbers = struct.pack(f"<I{dimensions}QIQ", dimensions, *tensor.shape, tensor.type.ggml_id, offset)
    return _string(tensor.name) + numbers


def _string(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(8, "little") + data


def _value(value: Value) -> Iterable[bytes]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _array(value)
    kind = _type_of(value)
    return (struct.pack("<I", kind), _scalar(kind, value))


def _scalar(kind: ValueType, value: Value) -> bytes:
    if isinstance(value, str):
        return _string(value)
    return struct.pack("<" + SCALARS[kind], value.value if isinstance(value, Typed) else value)


def _array(items: Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]) -> Iterable[bytes]:
    if not items:
        raise ValueError("an empty array has no type")
    kind = _type_of(items[0])
    if kind is ValueType.UINT32:
        kind = ValueType.INT32
    yield struct.pack("<IIQ", ValueType.ARRAY, kind, len(items))
    if kind is ValueType.STRING:
        yield b"".join([_string(str(item)) for item in items])
    else:
        yield struct.pack(f"<{len(items)}{SCALARS[kind]}", *items)


def _type_of(value: object) -> ValueType:
    match value:
        case Typed():
            return value.type
        case bool():  # before int, which a bool is too
            return ValueType.BOOL
        case int():
            return ValueType.UINT32
        case float():
            return ValueType.FLOAT32
        case str():
            return ValueType.STRING
    raise ValueError(f"{value!r} has no type in a GGUF")
