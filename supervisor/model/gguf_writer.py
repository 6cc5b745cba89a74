"""
Writes GGUF version 3 with the standard library alone.

Tensor data is streamed, or left out as a hole, so that a file of a real model's true size costs a few
megabytes of disk.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from ..files import SHARED, replacing
from .gguf import MAGIC, SCALARS, VERSION, GGUFValue, Tensor, Typed, ValueType, aligned


def write_gguf(path: Path, values: Mapping[str, GGUFValue], tensors: Sequence[Tensor]) -> None:
    """
    Write the file at once or not at all; an existing one is replaced.

    Raises PermissionDenied, or SupervisorError when the disk is full or otherwise unwilling.
    ValueError is the caller's mistake: a value that has no type, or data of another size than the shape's.
    """
    with replacing(path, mode=SHARED) as file:
        file.truncate(_write(file, values, tensors))


def gguf_bytes(values: Mapping[str, GGUFValue], tensors: Sequence[Tensor]) -> bytes:
    """The content of that file, for a small one.  Raises ValueError as above."""
    memory = io.BytesIO()
    size_bytes = _write(memory, values, tensors)
    return memory.getvalue().ljust(size_bytes, b"\0")


def _write(file: IO[bytes], values: Mapping[str, GGUFValue], tensors: Sequence[Tensor]) -> int:
    """All but a hole at its end; how many bytes the file has with that."""
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
    return end


def _write_data(file: IO[bytes], tensor: Tensor) -> None:
    written = sum(file.write(chunk) for chunk in tensor.data or ())
    if written != tensor.size_bytes:
        raise ValueError(f"{tensor.name}: {written} bytes of data, its shape has {tensor.size_bytes}")


def _info(tensor: Tensor, offset: int) -> bytes:
    dimensions = len(tensor.shape)
    numbers = struct.pack(f"<I{dimensions}QIQ", dimensions, *tensor.shape, tensor.kind.ggml_id, offset)
    return _string(tensor.name) + numbers


def _string(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(8, "little") + data


def _value(value: GGUFValue) -> Iterable[bytes]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return _array(value)
    kind = _type_of(value)
    return (struct.pack("<I", kind), _scalar(kind, value))


def _scalar(kind: ValueType, value: GGUFValue) -> bytes:
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
